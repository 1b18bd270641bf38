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
    atomic { elead[e] = e; word[e] = state; claim[e] = 0; look[e] = 0; clear_wide(e); gone[e] = 0 }
}

inline open(e) {
    atomic {
        assert(eowner[e] == p);                     /* nobody gives away what the living own */
        if
        :: word[e] == HELD
        :: else -> word[e] = OPEN
        fi;
        over = is_wide(e);
        look[e] = 0; clear_wide(e); gone[e] = 0
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
    atomic { word[e] = IDLE; claim[e] = 0; look[e] = 0; clear_wide(e); gone[e] = 0 }
}

#define is_closed(h, e) (closed[h] || !on(e, h))

/* Every main thread: what it does, until it is killed. */
#ifdef SETS
#define SET_LOCALS , stage, first, h, top, hops, pending; bit all
#define FORGET_SET ; stage = 0; first = 0; h = 0; all = 0; top = 0; hops = 0; pending = 0
#else
#define SET_LOCALS
#define FORGET_SET
#endif
#define LOCALS byte r, me, e0, e1, fired, over, cur, got, visited, towake SET_LOCALS
#define FORGET me = 0; e0 = 0; e1 = 0; fired = 0; over = 0; cur = 0; got = 0; visited = 0; towake = 0 FORGET_SET
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
            :: over && (is_closed(a, e0) || (b != NONE && is_closed(b, e1))) || timed -> over = 1
            :: !(over && (is_closed(a, e0) || (b != NONE && is_closed(b, e1)))) -> over = 0
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

#ifdef SETS
/* A set: its lead is entry 0, on no queue; its member of queue h is entry h + 1. Compare `src/pending.rs`. */
#define NM (NE - 1)
#define EVERY (bit_of(NM) - 1)
#define TIME 1
#define DROP 2
#if NE == 2
#define is_any_closed is_closed(0, 1)
#elif NE == 3
#define is_any_closed (is_closed(0, 1) || is_closed(1, 2))
#else
#define is_any_closed (is_closed(0, 1) || is_closed(1, 2) || is_closed(2, 3))
#endif

#ifdef T_MARK_CLEARED_LATE
#define clear_mark(e) skip
#define AND_CLEARED(h) \
    }; \
    atomic { \
        if \
        :: !fired -> next_noted[h + 1] = 0 \
        :: else \
        fi
#else
#define clear_mark(e) next_noted[e] = 0
#define AND_CLEARED(h)
#endif
/* In any order; who answers true is asked again. */
#define ASK(h) \
    :: atomic { !fired && pending & bit_of(h) -> evaluate(h); \
        if \
        :: !fired -> pending = pending & ~bit_of(h) \
        :: else \
        fi \
        AND_CLEARED(h) }
/* Which members wakes have met, from the stack, and no others are unmarked. If that cannot be read, `all` are asked, and are
 * in doubt. */
inline take_stack() {
    top = noted[e0]; noted[e0] = 0; hops = 0
}

inline take_next() {
    cur = top - 1; hops++; pending = pending | bit_of(cur - 1);
    top = next_noted[cur]; clear_mark(cur); cur = 0;
    if
    :: top == 0 || top != LAST && hops == NM ->
        top = 0; all = 1;
        for (nth : 1 .. NM) { doubt[nth] = 1 }
    :: top == LAST -> top = 0
    :: else
    fi
}

inline take_ready() {
    atomic { take_stack() };
    do
    :: atomic { top == 0 -> hops = 0; break }
    :: atomic { top != 0 -> d_step { take_next() };
           if
           :: top == 0 -> hops = 0; break
           :: else
           fi }
    od
}

#ifdef T_NOT_TAKEN_AGAIN
#define take_again() skip
#else
#define take_again() take_stack()
#endif
#ifdef T_HALF_NOTE_STAYS
#define unmark(e) skip
#else
#define unmark(e) next_noted[e] = 0
#endif

/* Members in doubt, where all are asked anyway: under the lock nobody is noting them, and what was noted is taken. A lock
 * is tried once. */
inline settle_doubts() {
    in_doubt = 0; all = 0;
#ifdef T_FORGET_ALL
    /* What was done without the doubt: everything marked, or about to be, is forgotten. */
    noted[e0] = 0;
    do
    :: atomic { h < NM -> h++; next_noted[h] = 0 }
    :: atomic { h == NM -> h = 0; break }
    od;
#elif defined(T_SETTLED_UNLOCKED)
    do
    :: atomic { h < NM && doubt[h + 1] }; take_ready();
       atomic { h++; doubt[h] = 0; next_noted[h] = 0 }
    :: atomic { h < NM && !doubt[h + 1] -> h++ }
    :: atomic { h == NM -> h = 0; break }
    od;
#else
    do
    :: atomic { h < NM && doubt[h + 1] };
       do
       :: section { to_be_had(h) -> take(h); or_dies; take_again() }
       :: atomic { mine(h) && top != 0 -> d_step { take_next() } }
       :: section { mine(h) && top == 0 ->
              hops = 0;
              if
              :: all -> in_doubt = 1
              :: else -> doubt[h + 1] = 0; or_dies; unmark(h + 1)
              fi;
              all = 0;
              or_dies;
              let_go(h) }
       :: atomic { towake == 0 && living_owner(h) && !mine(h) -> in_doubt = 1; break }
       :: WAKES(h)
       od;
       h++
    :: atomic { h < NM && !doubt[h + 1] -> h++ }
    :: atomic { h == NM -> h = 0; break }
    od;
#endif
    pending = EVERY
}

/* Members stay enrolled over `rounds` waits that end because one was true, and `timeouts` that end otherwise. */
proctype collector(byte p; byte rounds; byte timeouts) {
    LOCALS;
    {
        atomic { live[p] -> begin_main(p); take_entry(p, e0, 0) };
        start(e0, OPEN);
        do
        :: section { h < NM && to_be_had(h) ->
               take_entry(p, e1, h + 1); elead[h + 1] = e0; estays[h + 1] = 1; eshared[h + 1] = SHARED; e1 = 0; or_dies;
               take(h);
               if
               :: closed[h] -> over = DROP
               :: else -> enrol(h, h + 1)
               fi;
               release(h); pending = pending | bit_of(h); h++;
               if
               :: h == NM -> h = 0; break
               :: else
               fi }
        od;
        if
        :: over -> goto leaving
        :: else
        fi;
#ifdef DOUBTED
        /* As if the locks of these had been taken over. */
        d_step {
            for (nth : 1 .. NM) { doubt[nth] = (DOUBTED) >> (nth - 1) & 1 }
            look[e0] = 1; set_wide(e0)
        };
#endif
again:
#ifdef T_TAKEN_BEFORE_OPEN
        take_ready();
#endif
        atomic {
            open(e0);
            all = over;
#ifdef MAY_CLOSE
        };
        atomic {
#endif
            if
            :: over && is_any_closed -> over = DROP; look[e0] = 1; set_wide(e0)
            :: !(over && is_any_closed) -> over = 0
            :: !(over && is_any_closed) && timeouts > 0 -> over = TIME; timeouts--
            fi;
            if
            :: over -> all = 1
            :: else
            fi
        };
#ifndef T_TAKEN_BEFORE_OPEN
        take_ready();
#endif
        if
        :: all || in_doubt -> settle_doubts()
        :: else
        fi;
        /* Fence A. */
#ifdef DRAINS
        /* At once, which is the soonest, and with the answer that goes on. */
        d_step {
            for (nth : 0 .. NM - 1) {
                if
                :: pending & bit_of(nth) -> item[nth] = 0
                :: else
                fi
            };
            pending = 0
        };
#endif
        do
        ASK(0)
#if NE > 2
        ASK(1)
#endif
#if NE > 3
        ASK(2)
#endif
        :: atomic { fired -> rounds--; over = (rounds == 0 -> DROP : 0);
               if
               :: word[e0] == HELD && claim[e0] == fired -> word[e0] = OPEN; claim[e0] = 0     /* it is answered */
               :: else
               fi;
               fired = 0; goto leaving }
        :: atomic { !fired && pending == 0 && over -> goto leaving }
        :: atomic { !fired && pending == 0 && !over && (look[e0] || gone[e0]) -> goto again }
        :: atomic { !fired && pending == 0 && !over && !look[e0] && !gone[e0] ->
               commit(e0); wants[p] = EVERY; break }
        od;
        sleep(e0, timeouts > 0);
leaving:
        /* A claim that nothing has answered is passed on; in the end all queues are left. */
        if
        :: atomic { over == DROP -> pending = EVERY }
        :: else
        fi;
        do
        :: atomic { word[e0] == HELD -> h = claim[e0] - 1 };
           settle(h, h + 1, true, false)
        :: atomic { word[e0] != HELD && over == DROP && pending != 0 ->
               h = lowest(pending); pending = pending & ~bit_of(h) };
           settle(h, h + 1, true, true)
        :: atomic { word[e0] != HELD && over == DROP && pending == 0 -> break }
        :: atomic { word[e0] != HELD && over != DROP -> over = 0; h = 0; goto again }
        od;
        atomic { finish(e0); RETURNED }
    } UNTIL_KILLED
}
#endif
