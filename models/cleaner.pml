/* The bell thread: attach, watch, and the death rule. Compare `src/recover.rs`, `src/participant.rs`.
 *
 * `verdicts` and `known` have two bits for each id. A look that leads to nothing is no step of its own: what a sweep
 * passes over is fixed by its verdicts, which are made before.
 */

#define ALIVE 0
#define RUNG 1
#define DEAD 2
#define LEFT 3
#define verdict(v, p) (((v) >> (2 * (p) - 2)) & 3)
#define says(w, p) ((w) << (2 * (p) - 2))

/* Something that this bell would see on a life word, or come back for. */
#ifdef T_NO_SECOND_ROUND
#define more_sure(s) false
#else
#define more_sure(s) (certificate(s) && verdict(known, slot_id[s]) != DEAD)
#endif
#define news_at(s) (slot_st[s] != FREE && slot_id[s] != p && \
    (rang[s] && verdict(known, slot_id[s]) == ALIVE || more_sure(s)))
#define moved_on(i) (slot_of[i] != NONE && verdict(known, i) == RUNG && \
    (slot_id[slot_of[i]] != i || slot_st[slot_of[i]] == FREE))
#if NS == 2
#define any_news (news_at(0) || news_at(1))
#elif NS == 3
#define any_news (news_at(0) || news_at(1) || news_at(2))
#else
#define any_news (news_at(0) || news_at(1) || news_at(2) || news_at(3))
#endif
#if NP == 2
#define any_moved (moved_on(1) || moved_on(2))
#elif NP == 3
#define any_moved (moved_on(1) || moved_on(2) || moved_on(3))
#else
#define any_moved (moved_on(1) || moved_on(2) || moved_on(3) || moved_on(4))
#endif

/* One question for each slot in doubt. `rings`: somebody is dead, or more surely dead, than this bell knew. */
inline judge(ask_all) {
    d_step {
        verdicts = 0; tmp = 0;
        for (nth : 1 .. NP) {
            num = slot_of[nth];
            if
            :: num == NONE || nth == p
            :: num != NONE && nth != p && slot_id[num] != nth -> verdicts = verdicts | says(DEAD, nth)
            :: num != NONE && nth != p && slot_id[num] == nth && slot_st[num] == FREE -> verdicts = verdicts | says(LEFT, nth)
            :: else ->
                if
                :: (rang[num] || ask_all || slot_st[num] != LIVE) && certificate(num) ->
                    verdicts = verdicts | says(DEAD, nth); tmp = tmp | says(DEAD, nth)
                :: rang[num] && !certificate(num) -> verdicts = verdicts | says(RUNG, nth); tmp = tmp | says(RUNG, nth)
                :: else
                fi
            fi;
            if
            :: verdict(tmp, nth) != ALIVE && verdict(tmp, nth) != verdict(known, nth) -> rings = 1
#ifndef T_NOT_MOVED_ON
            :: verdict(known, nth) == RUNG && verdict(verdicts, nth) >= DEAD -> rings = 1
#endif
            :: else
            fi
        }
        dead = tmp
    }
}

#define lock_held(i) (rhold[i] - 1)
#define abandoned(i) (rhold[i] != 0 && OWNED(lockw[lock_held(i)]) == (i) + 1 && owner_gone(lockw[lock_held(i)]))
#define is_gone(i) (rowner[i] != 0 && verdict(verdicts, rowner[i]) != ALIVE && \
    (verdict(verdicts, rowner[i]) != RUNG || rmark[i]))

#define due_lock(i) ((is_gone(i) && abandoned(i)) << (i))
#define due_entry(i) ((eowner[i] != 0 && verdict(verdicts, eowner[i]) != ALIVE) << (i))
#define is_lead(i) ((eowner[i] != 0 && elead[i] == i) << (i))
#define nobodys(p) (p != 0 && verdict(verdicts, p) >= DEAD)
#define unowned_entry(i) ((nobodys(eowner[i]) && equeue[i] == 0) << (i))
#define unowned_record(i) (nobodys(rowner[i]) << (i))
#define unowned_slot(i) ((slot_st[i] != FREE && slot_id[i] != 0 && verdict(dead, slot_id[i]) == DEAD) << (i))

/* Once for each record: what its thread held is taken over, and freed. */
inline release_locks() {
    do
    :: atomic { records_that(due_lock) & ~over ->
           tmp = records_that(due_lock) & ~over; x = lowest8(tmp); over = over | bit_of(x); q = lock_held(x) };
       do
       :: section { to_be_had(q) -> take(q); or_dies; let_go(q) }
       :: WAKES(q)
       od
    :: atomic { !(records_that(due_lock) & ~over) -> over = 0; x = 0; q = 0; break }
    od
}

#ifdef T_SKIPPED_ENTRY
#define SKIPPED 1
#else
#define SKIPPED 0
#endif
#define bears(x, q) (on(x, q) && eowner[x] == whose)
/* Only a certificate allows it: a bell may be false, or early. */
#ifdef T_UNLINK_AT_THE_BELL
#define surely_dead(whose) true
#else
#define surely_dead(whose) (verdict(verdicts, whose) != RUNG)
#endif

/* Once for each entry of the dead: GONE, and a wake; then under the lock of its head. */
inline settle_entries() {
    over = SKIPPED;
    do
    :: atomic {
           whose == 0 && (entries_that(due_entry) & ~over) ->
           tmp = entries_that(due_entry) & ~over; x = lowest(tmp); over = over | bit_of(x); whose = eowner[x];
           q = elead[x];
#ifndef T_NO_GONE
           if
           :: eowner[q] == whose -> gone[q] = 1; look[q] = 1; rouse = may_sleep(q)
           :: else
           fi
#endif
       }
    :: atomic { rouse -> asleep = asleep & ~bit_of(q); rouse = 0 }
    :: atomic { whose != 0 && !rouse && equeue[x] == 0 -> whose = 0; x = 0; q = 0 }
    :: atomic { whose != 0 && !rouse && equeue[x] != 0 -> q = equeue[x] - 1 };
       settle(q, x, bears(x, q), bears(x, q) && surely_dead(whose));
       atomic { whose = 0; x = 0; q = 0 }
    :: atomic { whose == 0 && !(entries_that(due_entry) & ~over) -> over = 0; break }
    od
}

#ifdef T_NO_RING
#define ringing false
#else
#define ringing rings
#endif
inline ring_all() {
    do
    :: atomic { !rouse && ringing && (entries_that(is_lead) & ~over) ->
           tmp = entries_that(is_lead) & ~over; x = lowest(tmp); over = over | bit_of(x); rouse = may_sleep(x); look[x] = 1;
#ifndef T_RING_NOT_WIDE
           set_wide(x);
#endif
           if
           :: rouse
           :: else -> x = 0
           fi }
    :: atomic { rouse -> asleep = asleep & ~bit_of(x); rouse = 0; x = 0 }
    :: atomic { !rouse && !(ringing && (entries_that(is_lead) & ~over)) -> over = 0; x = 0; break }
    od
}

inline give_back() {
    do
    :: atomic {
           x = entries_that(unowned_entry); tmp = records_that(unowned_record);
           if
           :: x != 0 -> x = lowest(x); eowner[x] = 0
           :: x == 0 && tmp != 0 -> x = lowest8(tmp); rowner[x] = 0
           :: else ->
               x = slots_that(unowned_slot);
               if
               :: x == 0 -> break
               :: else -> x = lowest(x); slot_st[x] = FREE
               fi
           fi;
           x = 0
       }
    od
}

inline sweep() {
    if
    :: rings || unsettled ->
#ifdef T_GIVE_BACK_FIRST
        give_back();
#endif
        release_locks();
        settle_entries();
        ring_all();
#ifndef T_GIVE_BACK_FIRST
        give_back()
#endif
    :: else
    fi;
    atomic { unsettled = 0; known = dead; dead = 0; verdicts = 0; rings = 0; sweeping[p] = 0 }
}

#ifdef JOINS
/* A slot: a free one, or one with a certificate. Then the bell's thread, LIVE, and what a newcomer owes. */
inline attach() {
    if
    :: atomic { lock_a[0] == 0 && (slot_st[0] == FREE || certificate(0)) -> r = 0; lock_a[0] = p }
    :: atomic { lock_a[1] == 0 && (slot_st[1] == FREE || certificate(1)) -> r = 1; lock_a[1] = p }
#if NS > 2
    :: atomic { lock_a[2] == 0 && (slot_st[2] == FREE || certificate(2)) -> r = 2; lock_a[2] = p }
#endif
    fi;
    atomic {
#ifndef T_SILENT_NEWCOMER
        rings = slot_st[r] != FREE;
#endif
        slot_id[r] = p; slot_st[r] = ATTACHING; slot_of[p] = r
    };
    lock_b[r] = p;
    atomic { rang[r] = 0; registered = 1 };
    rowner[r] = p;
    rgen[r]++;
    atomic { rmark[r] = 0; runs[r] = 1; me = ME(r) };
    slot_st[r] = LIVE;
    if
    :: abandoned(r) ->
        q = lock_held(r);
        do
        :: section { to_be_had(q) -> take(q); or_dies; let_go(q) }
        :: WAKES(q)
        od;
        q = 0
    :: else
    fi;
    atomic { unsettled = 1; sweeping[p] = 1; judge(true) };
    sweep();
    live[p] = 1
}
#endif

proctype bell(byte p) {
    byte r, me, x, over, q, whose, cur, got, visited, towake, verdicts, known, dead;
    bit rings, unsettled, registered, rouse;
#ifdef SETS
    byte stage, first;
#endif
    {
#ifdef JOINS
        if
        :: p == JOINS -> attach()
        :: else -> atomic { r = slot_of[p]; me = ME(r); registered = 1 }
        fi;
#else
        d_step { r = slot_of[p]; me = ME(r); registered = 1 };
#endif
        do
        :: atomic { sweeps(p) && (any_news || any_moved || unsettled) -> sweeping[p] = 1; judge(false) };
           sweep()
        od
    } unless { dying[p] & BELL };
    d_step {
#ifdef THREADS_APART
        true ->
#else
        (ended[p] || rhold[NS + p - 1] != 0) ->     /* (the order shows only if it held a lock) */
#endif
        if
        :: me != 0 -> exit_thread(r)
        :: else
        fi;
        if
        :: registered -> rang[r] = 1
        :: else
        fi;
        me = 0; x = 0; over = 0; q = 0; whose = 0; cur = 0; got = 0; visited = 0; towake = 0; registered = 0; rouse = 0;
        verdicts = 0; known = 0; dead = 0; rings = 0; unsettled = 0; sweeping[p] = 0;
        no_stage()
    };
    /* The lock bytes are free when the whole process is gone. */
    d_step {
        ended[p] ->
        for (nth : 0 .. NS - 1) {
            if
            :: lock_a[nth] == p -> lock_a[nth] = 0
            :: else
            fi;
            if
            :: lock_b[nth] == p -> lock_b[nth] = 0
            :: else
            fi
        }
    }
}
