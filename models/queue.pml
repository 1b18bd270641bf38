/* A head under its lock: enrol, leave, wake, note, pass on, close. Compare `src/head.rs`, `src/list.rs`, `src/entry.rs`.
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

/* The same, at everything. */
inline tell_everywhere(l) {
    set_wide(l);
    tell(l)
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

/* Into a section, with the lock. */
inline enrol(h, e) {
    waiting[h]++;
    or_dies;
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
    or_dies;
    linked[h] = linked[h] | bit_of(e);
    or_dies
}

inline leave(h, e) {
    if
    :: on(e, h) ->
        assert(eowner[e] == p || ended[eowner[e]]);
        d_step {
#ifdef PLAIN
            if
            :: holds_claim(e) && rowner[r] == eowner[e] -> answered++   /* by its owner, who did not pass it on */
            :: else
            fi;
#endif
            close_up(h, e); eorder[e] = 0; equeue[e] = 0
        };
        or_dies;
        if
        :: linked[h] & bit_of(e) -> linked[h] = linked[h] & ~bit_of(e); or_dies; waiting[h]--
        :: else -> linked[h] = members(h); or_dies; waiting[h] = count(h)
        fi;
        or_dies
    :: else
    fi
}

#ifdef SETS
/* A member is noted before its owner is told, unless it is noted already. `stage`: how far that is, each in a section of
 * its own, as the owner of the set takes them without the lock. */
#define LOADED 1
#define MARKED 2
#define NOTED 3
#ifdef T_LOOK_BEFORE_PUSH
#define TO_TELL 0
#define TO_LOAD 4
#define told(e) estays[e]
#else
#define TO_TELL 9
#define TO_LOAD 0
#define told(e) false
#endif
#define noting(e) (estays[e] && stage != NOTED)
#define no_stage() stage = 0; first = 0
inline note(e) {
    tmp = elead[e];
    if
    :: stage == TO_TELL -> tell(tmp); stage = TO_LOAD
    :: stage == TO_LOAD && next_noted[e] != 0 -> stage = NOTED
    :: stage == TO_LOAD && next_noted[e] == 0 -> first = noted[tmp]; stage = LOADED
    :: stage == LOADED -> next_noted[e] = (first == 0 -> LAST : first); stage = MARKED
    :: stage == MARKED && noted[tmp] != first -> first = noted[tmp]; stage = LOADED
    :: stage == MARKED && noted[tmp] == first -> noted[tmp] = e + 1; first = 0; stage = NOTED
    fi
}
#else
#define noting(e) false
#define note(e) skip
#define no_stage() skip
#define told(e) false
#endif

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
    :: !leads(cur) -> cur = 0
    :: leads(cur) && noting(cur) -> note(cur); visited = visited & ~bit_of(cur); cur = 0
    :: else ->
        tmp = elead[cur];
        no_stage();
        if
        :: told(cur) -> cur = 0
        :: !told(cur) && !eshared[cur] && word[tmp] == ASLEEP && !gone[tmp] ->
            word[tmp] = HELD; claim[tmp] = cur; got++; towake = towake | bit_of(tmp);
            if
            :: !estays[cur] -> cur = 0
            :: else
            fi
        :: else ->
#ifdef T_NO_LOOK
            if
            :: eshared[cur] -> tell(tmp)
            :: else
            fi;
#else
            tell(tmp);
#endif
            cur = 0
        fi
    fi
}

#define more(h) (got == 0 && (linked[h] & ~visited) != 0)
#ifdef SETS
/* (Entry 0 is never persistent.) */
#define rotate(h) \
    if \
    :: cur != 0 -> \
        linked[h] = linked[h] & ~bit_of(cur); or_dies; \
        d_step { close_up(h, cur); eorder[cur] = count(h) }; or_dies; \
        linked[h] = linked[h] | bit_of(cur); cur = 0 \
    :: else \
    fi
#else
#define rotate(h) skip
#endif

/* The word of one member is changed, and no other word that is seen without the lock, in the same section. */
inline turn(h) {
    if
    :: more(h) -> d_step { offer(h) }; or_dies; rotate(h)
    :: else
    fi;
    if
    :: !more(h) -> got = 0; visited = 0; or_dies; let_go(h)
    :: else
    fi
}

/* Takes the lock, walks, claims one exclusive waiter at most, releases, wakes. */
inline wake_one(h) {
    do
    :: section { to_be_had(h) -> take(h); turn(h) }
    :: section { mine(h) -> turn(h) }
    :: WAKES(h)
    od
}

#ifdef T_UNLINK_FIRST
#define leaves_first(h, e, leaves) ((leaves) && on(e, h))
#else
#define leaves_first(h, e, leaves) false
#endif
#ifdef T_NO_PASS_ON
#define passing false
#else
#define passing true
#endif

/* Wakes the next, and only then lets go; and only then leaves. */
inline settle_step(h, e, passes, leaves) {
    if
    :: leaves_first(h, e, leaves) -> leave(h, e)
    :: !leaves_first(h, e, leaves) && (passes) && holds_claim(e) && more(h) && passing -> d_step { offer(h) }; or_dies; rotate(h)
    :: atomic { !leaves_first(h, e, leaves) && (passes) && holds_claim(e) && !(more(h) && passing) ->
       word[elead[e]] = OPEN; claim[elead[e]] = 0; got = 0; visited = 0 }
    :: !leaves_first(h, e, leaves) && !((passes) && holds_claim(e)) ->
       got = 0; visited = 0;
       if
       :: leaves -> leave(h, e)
       :: else
       fi;
       let_go(h)
    fi
}

inline settle(h, e, passes, leaves) {
    do
    :: section { to_be_had(h) -> take(h); settle_step(h, e, passes, leaves) }
    :: section { mine(h) -> settle_step(h, e, passes, leaves) }
    :: WAKES(h)
    od
}

/* A member of a closed queue is put out, and told. */
inline put_out(h) {
    d_step { tmp = members(h); cur = lowest(tmp); eorder[cur] = 0; equeue[cur] = 0 };
    or_dies;
    d_step {
        if
#ifdef T_CLOSE_NOT_WIDE
        :: leads(cur) -> tmp = elead[cur]; tell(tmp)
#else
        :: leads(cur) -> tmp = elead[cur]; tell_everywhere(tmp)
#endif
        :: else
        fi;
        cur = 0
    }
}

inline expel(h) {
    do
    :: members(h) != 0 -> put_out(h); or_dies
    :: else -> break
    od;
    linked[h] = 0;
    waiting[h] = 0
}

#ifdef SETS
/* What a dead owner of the lock may have noted by half keeps others from noting it: that is in doubt, and the owners of
 * sets look everywhere. */
#ifdef T_NO_DOUBT
#define put_in_doubt(e) skip
#else
#define put_in_doubt(e) doubt[e] = 1
#endif
inline alert_sets(h) {
#ifndef T_NO_ALERT
    d_step {
        for (nth : 0 .. NE - 1) {
            if
            :: on(nth, h) && estays[nth] && leads(nth) -> put_in_doubt(nth)
            :: else
            fi
        }
    };
    or_dies;
    d_step {
        for (nth : 0 .. NE - 1) {
            if
            :: on(nth, h) && estays[nth] && leads(nth) -> tmp = elead[nth]; tell_everywhere(tmp)
            :: else
            fi
        }
    }
#else
    skip
#endif
}
#endif
