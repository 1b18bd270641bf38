/* Those who wake, and who close. Compare `src/queue.rs`, `src/head.rs`. */

/* Puts an item `many` times, and wakes one waiter each time. */
proctype putter(byte p; byte a; byte many) {
    LOCALS;
    {
        do
        :: atomic { many > 0 -> many--;
               if
               :: me == 0 -> begin_main(p)
               :: else
               fi };
#ifdef T_NO_FENCE_B
           over = waiting[a];
           d_step { item[a]++; made++ };
#else
           in_call[p] = 1;
           d_step { item[a]++; made++; in_call[p] = 0 };
           over = waiting[a];
#endif
            if
            :: over != 0 -> take(a); walk(a, 1); unlock(a)
            :: else
            fi
        :: atomic { many == 0 -> break }
        od;
        RETURNED
    } UNTIL_KILLED
}

/* Wakes one waiter, when all that wait without a condition are enrolled (or dead). */
proctype waker(byte p; byte a) {
    LOCALS;
    {
        atomic { GATE -> begin_main(p) };
        take(a);
        walk(a, 1);
        unlock(a);
        owed++;
        RETURNED
    } UNTIL_KILLED
}

proctype closer(byte p; byte a) {
    LOCALS;
    {
        atomic { begin_main(p) };
        take(a);
        closed[a] = 1;
        expel(a);
        unlock(a);
        RETURNED
    } UNTIL_KILLED
}

/* Takes the lock and releases it. */
proctype locker(byte p; byte a) {
    LOCALS;
    {
        atomic { begin_main(p) };
        take(a);
        unlock(a);
        RETURNED
    } UNTIL_KILLED
}

/* A process whose main thread has nothing to do. */
proctype idler(byte p) {
    LOCALS;
    {
        atomic { begin_main(p) };
        RETURNED
    } UNTIL_KILLED
}
