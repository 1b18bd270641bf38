/* A head under its lock: enrol, leave, wake, pass on, close. Compare `src/head.rs`, `src/list.rs`, `src/entry.rs`.
 *
 * `order` is kept as a rank, 1 … members. `linked` is what a walk meets; it is only ever wrong under a lock whose
 * owner died, or in a twin. What others see of a lead's word changes in one step each.
 */

#define leads(e) (eowner[elead[e]] == eowner[e])
#define holds_claim(e) (leads(e) && word[elead[e]] == HELD && claim[elead[e]] == e)
#define may_sleep(l) (word[l] >= ASLEEP)

/* LOOK, and a wake if the owner may be in the kernel. */
inline tell(l) {
    look[l] = 1;
    if
    :: may_sleep(l) -> towake = towake | bit_of(l)
    :: else
    fi
}

inline last_on(h, e) {
    num = count(h);
    eorder[e] = num + 1
}

/* Those behind e close up. */
inline close_up(h, e) {
    for (nth : 0 .. NE - 1) {
        if
        :: on(nth, h) && eorder[nth] > eorder[e] -> eorder[nth]--
        :: else
        fi
    }
}

inline enrol(h, e) {
    waiting[h]++;
    d_step {
        if
        :: eshared[e] ->
            for (nth : 0 .. NE - 1) {
                if
                :: on(nth, h) -> eorder[nth]++
                :: else
                fi
            }
            eorder[e] = 1
        :: else -> last_on(h, e)
        fi;
        equeue[e] = h + 1
    };
    linked[h] = linked[h] | bit_of(e)
}

inline leave(h, e) {
    if
    :: on(e, h) ->
        d_step {
            if
            :: holds_claim(e) && rowner[r] == eowner[e] -> answered++   /* by its owner, who did not pass it on */
            :: else
            fi;
            close_up(h, e); eorder[e] = 0; equeue[e] = 0
        };
        if
        :: linked[h] & bit_of(e) -> linked[h] = linked[h] & ~bit_of(e); waiting[h]--
        :: else -> linked[h] = members(h); waiting[h] = count(h)
        fi
    :: else
    fi
}

/* The next member in the order of the list, and its turn. */
inline offer(h) {
    cur = NONE;
    for (nth : 0 .. NE - 1) {
        if
        :: (linked[h] & ~visited & bit_of(nth)) && (cur == NONE || eorder[nth] < eorder[cur]) -> cur = nth
        :: else
        fi
    }
    visited = visited | bit_of(cur);
    if
    :: !leads(cur)
    :: else ->
        tmp = elead[cur];
        if
        :: !eshared[cur] && word[tmp] == ASLEEP && !gone[tmp] ->
            word[tmp] = HELD; claim[tmp] = cur; got++; towake = towake | bit_of(tmp)
        :: else ->
#ifdef T_NO_LOOK
            if
            :: eshared[cur] -> tell(tmp)
            :: else
            fi
#else
            tell(tmp)
#endif
        fi
    fi;
#ifdef SETS
    if
    :: estays[cur] && holds_claim(cur)
    :: else -> cur = 0
    fi
#else
    cur = 0
#endif
}

#define more(h, limit) (got < limit && (linked[h] & ~visited) != 0)

/* One walk; at most `limit` exclusive waiters are claimed. */
inline walk(h, limit) {
    do
    :: atomic { more(h, limit) -> d_step { offer(h) };
#ifdef SETS
           if
           :: cur != 0 -> linked[h] = linked[h] & ~bit_of(cur)      /* (entry 0 is never persistent) */
           :: cur == 0 && !more(h, limit) -> got = 0; visited = 0; break
           :: else
           fi }
    :: atomic { cur != 0 -> close_up(h, cur); eorder[cur] = count(h); linked[h] = linked[h] | bit_of(cur); cur = 0 }
    :: atomic { cur == 0 && !more(h, limit) -> got = 0; visited = 0; break }
#else
           if
           :: more(h, limit)
           :: else -> got = 0; visited = 0; break
           fi }
    :: atomic { !more(h, limit) -> got = 0; visited = 0; break }
#endif
    od
}

/* Wakes the next, and only then lets go. */
inline pass_on(h, e) {
    if
    :: holds_claim(e) ->
#ifndef T_NO_PASS_ON
        walk(h, 1);
#endif
        atomic {
            if
            :: holds_claim(e) -> word[elead[e]] = OPEN; claim[elead[e]] = 0
            :: else
            fi
        }
    :: else
    fi
}

/* Every member of a closed queue is put out, and told. */
inline expel(h) {
    do
    :: atomic { members(h) != 0 -> tmp = members(h); cur = lowest(tmp); eorder[cur] = 0; equeue[cur] = 0 };
       d_step {
           if
           :: leads(cur) -> tmp = elead[cur]; tell(tmp)
           :: else
           fi;
           cur = 0
       }
    :: else -> break
    od;
    linked[h] = 0;
    waiting[h] = 0
}
