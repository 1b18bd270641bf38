/* What is shared, and what the kernel knows. Compare `src/layout.rs`. */

#define N1 (NP + 1)             /* participants are numbered from 1: an id names a slot in one generation */
#define NR (NS + NU)            /* records: one for each slot's bell, then those of users' threads */
#define NONE 9

/* Slot: one for each process that is attached. */
#define FREE 0
#define ATTACHING 1
#define LIVE 2
#define DETACHING 3
byte slot_id[NS];               /* whose it is, or was last */
byte slot_st[NS];
bit rang[NS];                   /* the kernel has marked the life words */
byte lock_a[NS], lock_b[NS];    /* the lock bytes: who holds them */
byte slot_of[N1] = NONE;

/* Record: what a thread locks with. */
byte rowner[NR];
byte rgen[NR];
bit rmark[NR];                  /* the kernel has marked it: its thread died holding a lock */
byte rhold[NR];                 /* the lock it holds, or is about to take, or has just released: head + 1 */
bit runs[NR];                   /* (known to nobody: its thread can still act) */

/* Head. The lock word is WAITERS | generation << 4 | record + 1. */
#define WAITERS 128
#define OWNED(word) ((word) & 15)
#define REC(word) (((word) & 15) - 1)
#define GEN(word) (((word) >> 4) & 7)
#define ME(record) (rgen[record] << 4 | ((record) + 1))
byte lockw[NQ];
byte waiting[NQ];               /* how many are enrolled: never too low */
byte linked[NQ];                /* which entries a walk along the links meets */
bit closed[NQ];
byte item[NQ];                  /* not the head's: the condition of those who wait here */

/* Entry. The word is taken apart: state, claim, bits. `wide` is here where it says anything: to sets, and of closes. */
#define IDLE 0
#define OPEN 1
#define ASLEEP 2
#define HELD 3
byte eowner[NE], equeue[NE], eorder[NE], elead[NE];
bit eshared[NE];                /* not exclusive */
bit estays[NE];                 /* persistent: goes to the tail when it is claimed */
byte word[NE], claim[NE];
bit look[NE], gone[NE];
#if defined(SETS) || defined(MAY_CLOSE)
bit wide[NE];
#define set_wide(l) wide[l] = 1
#define clear_wide(l) wide[l] = 0
#define is_wide(l) (wide[l] || gone[l])
#else
#define set_wide(l) skip
#define clear_wide(l) skip
#define is_wide(l) false
#endif
#ifdef SETS
byte noted[NE];                 /* of a set's lead: the stack of the members that wakes have met, entry + 1 */
byte next_noted[NE];            /* of a member: not noted; or LAST; or what is below it on the stack, entry + 1 */
#define LAST 15
bit doubt[NE];                  /* of a member: it may say that it is noted while it is not */
bit in_doubt;                   /* the owner's own: some lock could not be had to find out */
#endif

/* The kernel. */
byte asleep;                    /* in futex_wait on the word of this lead: one bit for each entry */
byte lsleep[NQ];                /* the same for lock words: one bit for each record */
byte dying[N1];                 /* MAIN, BELL: killed, does nothing any more */
bit ended[N1];                  /* the main thread's exit is complete, its mark is set */
bit in_call[N1];                /* inside a system call that changes a condition */
#define MAIN 1
#define BELL 2
byte kills;
#define THIS_THREAD (r < NS -> BELL : MAIN)
/* Who dies at the same time. A bell that does not sweep is in the middle of nothing. */
#if defined(THREADS_APART) || defined(THREAD_DIES)
#define DIES(p) THIS_THREAD
#elif KILLS == 1
#define DIES(p) (MAIN | BELL)
#else
#define DIES(p) (sweeps(p) -> THIS_THREAD : MAIN | BELL)
#endif
#ifndef MORTALS
#define MORTALS 254
#endif
#ifndef FALSE_BELL
#define FALSE_BELL 0
#endif
#define mortal(p) ((MORTALS) >> (p) & 1)
/* Whose bells get to run: among them must be one that lives to the end. */
#define sweeps(p) ((SWEEPERS) >> (p) & 1)

/* What each program does, to judge by. */
bit live[N1];                   /* attached, and its first sweep done */
bit done[N1];                   /* its calls have returned */
bit ready[N1];                  /* enrolled, or dead */
bit sweeping[N1];               /* its bell is inside a sweep */
byte wants[N1];                 /* the heads whose condition it waits for: one bit each */
byte owed, answered;            /* wakes that have returned, and waits without condition that have */

hidden byte nth, num, tmp;            /* inside d_step only */

#define bit_of(i) (1 << (i))
#define lowest(m) (((m) & 1) -> 0 : (((m) & 2) -> 1 : (((m) & 4) -> 2 : 3)))
#define on(e, h) (equeue[e] == (h) + 1)
#if NE == 2
#define members(h) (on(0, h) | on(1, h) << 1)
#define count(h) (on(0, h) + on(1, h))
#elif NE == 3
#define members(h) (on(0, h) | on(1, h) << 1 | on(2, h) << 2)
#define count(h) (on(0, h) + on(1, h) + on(2, h))
#else
#define members(h) (on(0, h) | on(1, h) << 1 | on(2, h) << 2 | on(3, h) << 3)
#define count(h) (on(0, h) + on(1, h) + on(2, h) + on(3, h))
#endif

#if NE == 2
#define entries_that(is) (is(0) | is(1))
#elif NE == 3
#define entries_that(is) (is(0) | is(1) | is(2))
#else
#define entries_that(is) (is(0) | is(1) | is(2) | is(3))
#endif
#if NS == 2
#define slots_that(is) (is(0) | is(1))
#elif NS == 3
#define slots_that(is) (is(0) | is(1) | is(2))
#else
#define slots_that(is) (is(0) | is(1) | is(2) | is(3))
#endif
#if NR == 4
#define records_that(is) (is(0) | is(1) | is(2) | is(3))
#elif NR == 5
#define records_that(is) (is(0) | is(1) | is(2) | is(3) | is(4))
#elif NR == 6
#define records_that(is) (is(0) | is(1) | is(2) | is(3) | is(4) | is(5))
#else
#define records_that(is) (is(0) | is(1) | is(2) | is(3) | is(4) | is(5) | is(6))
#endif
#define lowest8(m) (((m) & 15) -> lowest(m) : 4 + lowest((m) >> 4))


#define certificate(s) (lock_a[s] == 0 && lock_b[s] == 0)
#define is_dead(id) (slot_id[slot_of[id]] != id || slot_st[slot_of[id]] == FREE || certificate(slot_of[id]))

/* A process is attached, its bell watches, its main thread has a record. */
inline begin_at(p, s) {
    slot_of[p] = s; slot_id[s] = p; slot_st[s] = LIVE; lock_a[s] = p; lock_b[s] = p;
    rowner[s] = p; rgen[s]++; runs[s] = 1;
    rowner[NS + p - 1] = p; rgen[NS + p - 1]++; runs[NS + p - 1] = 1;
    live[p] = 1
}

/* A thread's exit: the kernel visits the word that its robust list names as pending. */
inline exit_thread(record) {
    if
    :: rhold[record] != 0 -> rmark[record] = 1
    :: else
    fi;
    runs[record] = 0;
    for (nth : 0 .. NQ - 1) { lsleep[nth] = lsleep[nth] & ~bit_of(record) }
}
