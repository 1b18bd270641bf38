/* Who is killed, and what must hold when nothing moves any more. */

#ifdef THREADS_APART
/* The threads of a process die one after the other, in any order, as far apart as can be. */
#define kill(p) \
    :: atomic { kills < KILLS && mortal(p) && !dying[p] -> dying[p] = MAIN; kills++ } \
    :: atomic { kills < KILLS && mortal(p) && !dying[p] -> dying[p] = BELL; kills++ } \
    :: dying[p] == MAIN || dying[p] == BELL && p != FALSE_BELL -> dying[p] = MAIN | BELL \
    :: p == FALSE_BELL && !dying[p] -> dying[p] = BELL
#else
#define kill(p) \
    :: atomic { kills < KILLS && mortal(p) && !dying[p] -> dying[p] = MAIN | BELL; kills++ } \
    :: dying[p] == MAIN || dying[p] == BELL -> dying[p] = MAIN | BELL
#endif

/* Kills at any moment, at the latest when nothing else moves. */
proctype killer() {
    do
    kill(1)
    kill(2)
#if NP > 2
    kill(3)
#endif
#if NP > 3
    kill(4)
#endif
    od
}

#define cleans(p) (sweeps(p) && live[p] && !(dying[p] & BELL))
#if NP == 2
#define somebody_cleans (cleans(1) || cleans(2))
#else
#define somebody_cleans (cleans(1) || cleans(2) || cleans(3))
#endif
#define lives(p) (live[p] && !(dying[p] & MAIN))
#define sleeps_for_good(e) (asleep & bit_of(e) && word[e] == ASLEEP && !look[e] && !gone[e])

proctype verdict_at_the_end() {
    byte a, b;
    timeout -> d_step {
        for (a : 1 .. NP) {
            if
            :: lives(a) && !done[a] ->
                assert(wants[a] != 0);              /* it hangs elsewhere than in its sleep */
                for (b : 0 .. NE - 1) {
                    if
                    :: eowner[b] == a && elead[b] == b -> assert(sleeps_for_good(b))
                    :: else
                    fi
                }
                for (b : 0 .. NQ - 1) {
                    if
                    :: wants[a] >> b & 1 -> assert(item[b] == 0); assert(!closed[b])    /* a lost wake */
                    :: else
                    fi
                }
#ifdef PLAIN
                assert(owed <= answered)            /* a wake that nobody got */
#endif
            :: else
            fi;
            assert(!(sweeping[a] && !(dying[a] & BELL)))            /* a cleaner hangs */
        }
        /* Somebody has cleaned up: nothing of the dead is left. */
        assert(somebody_cleans);
        for (a : 0 .. NQ - 1) { assert(OWNED(lockw[a]) == 0) }
        for (a : 0 .. NE - 1) { assert(eowner[a] == 0 || lives(eowner[a])); assert(equeue[a] == 0 || eowner[a] != 0) }
        for (a : 0 .. NR - 1) { assert(rowner[a] == 0 || lives(rowner[a])) }
        for (a : 0 .. NS - 1) { assert(slot_st[a] == FREE || lives(slot_id[a])) }
        for (a : 0 .. NQ - 1) { assert(linked[a] == members(a) && waiting[a] >= count(a)) };
#if KILLS == 0 && defined(PLAIN)
        assert(answered <= owed)
#endif
    }
}
