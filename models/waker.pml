/* Those who wake, and who close. Compare `src/queue.rs`, `src/head.rs`. */

/* Puts an item `many` times, on b and a in turn if there is a b, and wakes one waiter each time. It may read `waiting`
 * as it was before it was lowered, and walk without need. */
proctype putter(byte p; byte a; byte b; byte many) {
    LOCALS;
    {
again:  do
        :: atomic { many > 0 && live[p] && puts(p, many) -> many--;
               if
               :: me == 0 -> begin_main(p)
               :: else
               fi;
               if
               :: b != NONE -> num = a; a = b; b = num
               :: else
               fi;
#ifdef T_NO_FENCE_B
               over = waiting[a]
           };
           item[a]++;
#else
#ifdef LATE_WRITES
               in_call[p] = 1
           };
           atomic {
#elif defined(DRAINS)
               item[a] = 0;
#endif
               item[a]++; in_call[p] = 0
#ifndef DRAINS
           };
           atomic {
#endif
               over = waiting[a];
#endif
#ifdef T_NO_FENCE_B
           atomic {
#endif
               if
               :: over == 0 -> goto again
               :: over = 0
               fi
           };
           wake_one(a)
        :: atomic { many == 0 -> RETURNED }
        od
    } UNTIL_KILLED
}

/* Wakes one waiter, when all that wait without a condition are enrolled (or dead). */
proctype waker(byte p; byte a) {
    LOCALS;
    {
        atomic { live[p] && gate(p) -> begin_main(p) };
        wake_one(a);
        atomic { owed++; RETURNED }
    } UNTIL_KILLED
}

proctype closer(byte p; byte a) {
    LOCALS;
    {
        do
        :: section { live[p] && to_be_had(a) -> begin_main(p); take(a); closed[a] = 1 }
        :: section { mine(a) && members(a) != 0 -> put_out(a) }
        :: section { mine(a) && members(a) == 0 -> linked[a] = 0; or_dies; waiting[a] = 0; let_go(a) }
        :: WAKES(a)
        od;
        atomic { RETURNED }
    } UNTIL_KILLED
}

/* Takes the lock and releases it. */
proctype locker(byte p; byte a) {
    LOCALS;
    {
        atomic { live[p] -> begin_main(p) };
        take_asleep(a);
        release(a);
        atomic { RETURNED }
    } UNTIL_KILLED
}

/* A process whose main thread has nothing to do. */
proctype idler(byte p) {
    LOCALS;
    {
        atomic { live[p] -> begin_main(p); RETURNED }
    } UNTIL_KILLED
}
