/* Those who wait. Compare `src/wait.rs`, `src/enrolled.rs`, `src/thread.rs`. */

#if NE == 2
#define free_entries ((eowner[0] == 0) | (eowner[1] == 0) << 1)
#elif NE == 3
#define free_entries ((eowner[0] == 0) | (eowner[1] == 0) << 1 | (eowner[2] == 0) << 2)
#else
#define free_entries ((eowner[0] == 0) | (eowner[1] == 0) << 1 | (eowner[2] == 0) << 2 | (eowner[3] == 0) << 3)
#endif

/* A free entry of the table, by compare-and-swap. */
inline take_entry(p, e) {
    free_entries != 0 -> tmp = free_entries; e = lowest(tmp); eowner[e] = p
}

inline start(e, state) {
    atomic { elead[e] = e; word[e] = state; claim[e] = 0; look[e] = 0; gone[e] = 0 }
}

inline open(e) {
    atomic {
        assert(eowner[e] == p);                     /* nobody gives away what the living own */
        if
        :: word[e] == HELD
        :: else -> word[e] = OPEN
        fi;
        look[e] = 0; gone[e] = 0
    }
}

inline evaluate(h) {
    atomic {
        if
        :: fired == 0 && item[h] > 0 -> item[h]--; used++; fired = h + 1
        :: else
        fi
    }
}

inline commit(e) {
    word[e] = ASLEEP; claim[e] = 0
}

/* futex_wait: compares and sleeps in one step. */
inline sleep(e, timed) {
    d_step {
        if
        :: word[e] == ASLEEP && !look[e] && !gone[e] -> asleep = asleep | bit_of(e)
        :: else
        fi
    };
    atomic {
        if
        :: !(asleep & bit_of(e))
        :: timed -> asleep = asleep & ~bit_of(e)
        fi;
        wants[p] = 0
    }
}

/* Leaves one queue; a claim made through e is passed on unless the condition of this queue was what fired. */
inline leave_one(h, e) {
    take(h);
    if
    :: fired != h + 1 -> pass_on(h, e)
    :: else
    fi;
    leave(h, e);
    unlock(h)
}

inline finish(e) {
    atomic { word[e] = IDLE; claim[e] = 0; look[e] = 0; gone[e] = 0 }
}

#define is_closed(h, e) (closed[h] || !on(e, h))

/* Every main thread: what it does, until it is killed. */
#define LOCALS byte r, me, e0, e1, fired, over, cur, got, visited, towake
#define FORGET me = 0; e0 = 0; e1 = 0; fired = 0; over = 0; cur = 0; got = 0; visited = 0; towake = 0
#define UNTIL_KILLED unless { dying[p] & MAIN }; end_main(p)
#define RETURNED atomic { FORGET; done[p] = 1 }; false

/* The thread's record: a newcomer takes a free one. */
#ifdef JOINS
#define free_record(i) ((rowner[i] == 0) << (i))
inline begin_main(p) {
    live[p];
    if
    :: p != JOINS -> r = NS + p - 1
    :: else ->
        records_that(free_record) >> NS ->
        tmp = records_that(free_record) & ~(bit_of(NS) - 1); r = lowest8(tmp); rowner[r] = p;
        rgen[r]++; rhold[r] = 0; rmark[r] = 0; runs[r] = 1
    fi;
    me = ME(r)
}
#else
inline begin_main(p) {
    live[p] -> r = NS + p - 1; me = ME(r)
}
#endif

inline end_main(p) {
#ifdef LATE_WRITES
    atomic {
        if
        :: in_call[p] -> item[0]++; made++
        :: skip
        fi;
        in_call[p] = 0
    };
#endif
    d_step {
        if
        :: me != 0 -> exit_thread(r)
        :: else
        fi;
        for (nth : 0 .. NE - 1) {
            if
            :: eowner[nth] == p -> asleep = asleep & ~bit_of(nth)
            :: else
            fi
        }
        FORGET; wants[p] = 0; ready[p] = 1; ended[p] = 1
    }
}

/* Waits for an item of queue a, or also of queue b, exclusively or not. */
proctype taker(byte p; byte a; byte b; bit shared; bit timed) {
    LOCALS;
    {
        atomic { begin_main(p); take_entry(p, e0); start(e0, OPEN); eshared[e0] = shared };
        take(a);
        if
        :: closed[a] -> unlock(a); goto out
        :: else -> enrol(a, e0); unlock(a)
        fi;
        if
        :: b != NONE ->
            atomic { take_entry(p, e1); elead[e1] = e0; eshared[e1] = shared };
            take(b);
            enrol(b, e1);
            unlock(b)
        :: else
        fi;
again:
#ifdef T_NO_FENCE_A
        evaluate(a);
#endif
        open(e0);
        atomic {
            if
            :: is_closed(a, e0) || (b != NONE && is_closed(b, e1)) || timed -> over = 1
            :: !is_closed(a, e0) && (b == NONE || !is_closed(b, e1))
            fi
        };
#ifndef T_NO_FENCE_A
        evaluate(a);
#endif
        if
        :: b != NONE -> evaluate(b)
        :: else
        fi;
        if
        :: fired || over
        :: atomic { !fired && !over && (look[e0] || gone[e0]) -> goto again }
        :: atomic { !fired && !over && !look[e0] && !gone[e0] -> commit(e0); wants[p] = bit_of(a) | (b != NONE -> bit_of(b) : 0) };
           sleep(e0, timed);
           goto again
        fi;
        leave_one(a, e0);
        if
        :: b != NONE -> leave_one(b, e1)
        :: else
        fi;
        finish(e0);
out:    skip; RETURNED
    } UNTIL_KILLED
}

/* Waits to be woken, without a condition. */
proctype plain(byte p; byte a; bit timed) {
    LOCALS;
    {
        atomic { begin_main(p); take_entry(p, e0); start(e0, ASLEEP) };
        take(a);
        enrol(a, e0);
        unlock(a);
        ready[p] = 1;
again:
        if
        :: holds_claim(e0) -> fired = a + 1
        :: !holds_claim(e0) && (gone[e0] || word[e0] == OPEN || timed) ->
            d_step {
                if
                :: gone[e0] || word[e0] != ASLEEP -> fired = a + 1
                :: else
                fi;
                open(e0)
            }
        :: atomic { !holds_claim(e0) && !gone[e0] && word[e0] == ASLEEP && look[e0] -> look[e0] = 0; goto again }
        :: atomic { !holds_claim(e0) && !gone[e0] && word[e0] == ASLEEP && !look[e0] -> wants[p] = bit_of(a) };
           sleep(e0, timed);
           goto again
        fi;
        leave_one(a, e0);
        finish(e0);
        RETURNED
    } UNTIL_KILLED
}

/* A set: its lead is on no queue, its member stays enrolled over `rounds` waits. */
proctype collector(byte p; byte a; byte rounds) {
    LOCALS;
    {
        atomic { begin_main(p); take_entry(p, e0); start(e0, OPEN) };
        atomic { take_entry(p, e1); elead[e1] = e0; estays[e1] = 1 };
        take(a);
        enrol(a, e1);
        unlock(a);
again:  open(e0);
        evaluate(a);
        if
        :: fired ->
            rounds--;
            if
            :: rounds > 0 ->
                atomic {
                    fired = 0;
                    if
                    :: holds_claim(e1) -> word[e0] = OPEN; claim[e0] = 0
                    :: else
                    fi
                };
                goto again
            :: else
            fi
        :: atomic { !fired && (look[e0] || gone[e0]) -> goto again }
        :: atomic { !fired && !look[e0] && !gone[e0] -> commit(e0); wants[p] = bit_of(a) };
           sleep(e0, false);
           goto again
        fi;
        leave_one(a, e1);
        finish(e0);
        RETURNED
    } UNTIL_KILLED
}
