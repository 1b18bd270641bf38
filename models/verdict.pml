/* Who is killed, and what must hold when nothing moves any more. */

#ifdef THREADS_APART
/* The threads of a process die one after the other, in any order, as far apart as can be. */
#define kill(p) \
    :: atomic { kills < KILLS && mortal(p) && !dying[p] -> dying[p] = MAIN; kills++ } \
    :: atomic { kills < KILLS && mortal(p) && !dying[p] -> dying[p] = BELL; kills++ } \
    :: dying[p] == MAIN || dying[p] == BELL && p != FALSE_BELL -> dying[p] = MAIN | BELL \
    :: p == FALSE_BELL && !dying[p] -> dying[p] = BELL
#elif defined(THREAD_DIES)
/* A main thread dies, and its process lives on. */
#define kill(p) \
    :: atomic { kills < KILLS && mortal(p) && !dying[p] -> dying[p] = MAIN; kills++ }
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
#ifdef THREAD_DIES
/* Its process keeps what it had, and who wants its lock takes that over. */
#define keeps(p) live[p]
#define is_left(h) (OWNED(lockw[h]) == 0 || gone_owner(h))
#else
#define keeps(p) lives(p)
#define is_left(h) (OWNED(lockw[h]) == 0)
#endif
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
#ifdef SETS
                /* All notes are taken when the owner sleeps: who still says that he is noted would not be noted again. */
                for (b : 1 .. NE - 1) {
                    if
                    :: eowner[b] == a && estays[b] ->
                        assert(next_noted[b] == 0 || in_doubt || gone_owner(b - 1))     /* a mute member */
                    :: else
                    fi
                }
#endif
#ifdef PLAIN
                assert(owed <= answered)            /* a wake that nobody got */
#endif
            :: else
            fi;
            assert(!(sweeping[a] && !(dying[a] & BELL)))            /* a cleaner hangs */
        }
        /* Somebody has cleaned up: nothing of the dead is left. */
        assert(somebody_cleans);
        for (a : 0 .. NQ - 1) { assert(is_left(a)) }
        for (a : 0 .. NE - 1) { assert(eowner[a] == 0 || keeps(eowner[a])); assert(equeue[a] == 0 || eowner[a] != 0) }
        for (a : 0 .. NR - 1) { assert(rowner[a] == 0 || keeps(rowner[a])) }
        for (a : 0 .. NS - 1) { assert(slot_st[a] == FREE || keeps(slot_id[a])) }
        for (a : 0 .. NQ - 1) { assert(gone_owner(a) || linked[a] == members(a) && waiting[a] >= count(a)) };
#if KILLS == 0 && defined(PLAIN)
        assert(answered <= owed)
#endif
    }
}
