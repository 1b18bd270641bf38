/* Those who wait. Compare `src/wait.rs`, `src/enrolled.rs`, `src/thread.rs`. */

#if NE == 2
#define free_entries ((eowner[0] == 0) | (eowner[1] == 0) << 1)
#elif NE == 3
#define free_entries ((eowner[0] == 0) | (eowner[1] == 0) << 1 | (eowner[2] == 0) << 2)
#else
#define free_entries ((eowner[0] == 0) | (eowner[1] == 0) << 1 | (eowner[2] == 0) << 2 | (eowner[3] == 0) << 3)
#endif

/* A free entry of the table, by compare-and-swap; which one is no matter, unless entries are used again. */
inline take_entry(p, e, nominal) {
    atomic {
#ifdef JOINS
        free_entries != 0 -> tmp = free_entries; e = lowest(tmp);
#else
        e = nominal;
#endif
        assert(eowner[e] == 0);
        eowner[e] = p
    }
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
        :: fired == 0 && item[h] > 0 -> item[h]--; fired = h + 1
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
    if
    :: atomic { !(asleep & bit_of(e)) -> wants[p] = 0; goto again }
    :: atomic { asleep & bit_of(e) && timed -> asleep = asleep & ~bit_of(e); wants[p] = 0; goto again }
    fi
}

/* Leaves one queue; a claim made through e is passed on unless the condition of this queue was what fired. */
inline leave_one(h, e) {
    settle(h, e, fired != h + 1, true)
}

inline finish(e) {
    atomic { word[e] = IDLE; claim[e] = 0; look[e] = 0; gone[e] = 0 }
}

#define is_closed(h, e) (closed[h] || !on(e, h))

/* Every main thread: what it does, until it is killed. */
#define LOCALS byte r, me, e0, e1, fired, over, cur, got, visited, towake
#define FORGET me = 0; e0 = 0; e1 = 0; fired = 0; over = 0; cur = 0; got = 0; visited = 0; towake = 0
#define UNTIL_KILLED unless { dying[p] & MAIN }; end_main(p)
#define RETURNED FORGET; done[p] = 1; false

/* The thread's record: a newcomer takes a free one. */
#ifdef JOINS
#define free_record(i) ((rowner[i] == 0) << (i))
inline begin_main(p) {
    live[p];
    if
    :: p != JOINS -> r = NS + p - 1
    :: else ->
        atomic {
            records_that(free_record) >> NS ->
            tmp = records_that(free_record) & ~(bit_of(NS) - 1); r = lowest8(tmp); rowner[r] = p
        };
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
        :: in_call[p] -> item[0]++
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
        do
        :: section { live[p] && to_be_had(a) ->
               begin_main(p); take_entry(p, e0, p - 1); or_dies;
               start(e0, OPEN); eshared[e0] = shared;
               take(a);
               if
               :: closed[a] -> over = 1
               :: else -> enrol(a, e0)
               fi;
               let_go(a) }
        :: WAKES(a)
        od;
        if
        :: over -> goto out
        :: section { !over && b != NONE && to_be_had(b) ->
               take_entry(p, e1, NE - 1); or_dies; elead[e1] = e0; eshared[e1] = shared;
               take(b); enrol(b, e1); release(b) }
        :: !over && b == NONE
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
            fi;
#ifdef MAY_CLOSE
        };
        atomic {
#endif
#ifndef T_NO_FENCE_A
            evaluate(a);
#endif
            if
            :: b == NONE && (fired || over) -> goto leaving
            :: else
            fi
        };
        if
        :: atomic { b != NONE -> evaluate(b);
               if
               :: fired || over -> goto leaving
               :: else
               fi }
        :: atomic { b == NONE && (look[e0] || gone[e0]) -> goto again }
        :: atomic { b == NONE && !look[e0] && !gone[e0] -> commit(e0); wants[p] = bit_of(a); goto committed }
        fi;
        if
        :: atomic { look[e0] || gone[e0] -> goto again }
        :: atomic { !look[e0] && !gone[e0] -> commit(e0); wants[p] = bit_of(a) | bit_of(b) }
        fi;
committed:
        sleep(e0, timed);
leaving:
        leave_one(a, e0);
        if
        :: b != NONE -> leave_one(b, e1)
        :: else
        fi;
out:    atomic { finish(e0); RETURNED }
    } UNTIL_KILLED
}

/* Waits to be woken, without a condition. */
proctype plain(byte p; byte a; bit timed) {
    LOCALS;
    {
        do
        :: section { live[p] && to_be_had(a) ->
               begin_main(p); take_entry(p, e0, p - 1); or_dies;
               start(e0, ASLEEP);
               take(a); enrol(a, e0); release(a); ready[p] = 1; break }
        od;
again:
        if
        :: atomic { holds_claim(e0) -> fired = a + 1 }
        :: atomic { !holds_claim(e0) && (gone[e0] || word[e0] == OPEN || timed) ->
               if
               :: gone[e0] || word[e0] != ASLEEP -> fired = a + 1
               :: else
               fi;
               open(e0) }
        :: atomic { !holds_claim(e0) && !gone[e0] && word[e0] == ASLEEP && look[e0] -> look[e0] = 0; goto again }
        :: atomic { !holds_claim(e0) && !gone[e0] && word[e0] == ASLEEP && !look[e0] -> wants[p] = bit_of(a) };
           sleep(e0, timed)
        fi;
        leave_one(a, e0);
        atomic { finish(e0); RETURNED }
    } UNTIL_KILLED
}

/* A set: its lead is on no queue, its member stays enrolled over `rounds` waits. */
proctype collector(byte p; byte a; byte rounds) {
    LOCALS;
    {
        do
        :: section { live[p] && to_be_had(a) ->
               begin_main(p); take_entry(p, e0, p - 1); or_dies; start(e0, OPEN);
               take_entry(p, e1, NE - 1); elead[e1] = e0; estays[e1] = 1; or_dies;
               take(a); enrol(a, e1); release(a); break }
        od;
again:  open(e0);
        evaluate(a);
        if
        :: atomic { fired -> rounds--;
               if
               :: rounds > 0 ->
                   fired = 0;
                   if
                   :: holds_claim(e1) -> word[e0] = OPEN; claim[e0] = 0
                   :: else
                   fi;
                   goto again
               :: else
               fi }
        :: atomic { !fired && (look[e0] || gone[e0]) -> goto again }
        :: atomic { !fired && !look[e0] && !gone[e0] -> commit(e0); wants[p] = bit_of(a) };
           sleep(e0, false)
        fi;
        leave_one(a, e1);
        atomic { finish(e0); RETURNED }
    } UNTIL_KILLED
}
