/* The robust lock of a head. Compare `src/lock.rs`.
 *
 * A thread has locals: r (its record), me (its name in a lock word), and what a walk needs: cur, got, visited, towake.
 * Announcing (`holding`, then the mark) is one step: until the swap nothing rests on either. So is its taking back.
 */

#define free_lock(h) (OWNED(lockw[h]) == 0)
#define owner_gone(w) (rowner[REC(w)] == 0 || rgen[REC(w)] != GEN(w) || rmark[REC(w)] || is_dead(rowner[REC(w)]))
#define gone_owner(h) (OWNED(lockw[h]) != 0 && owner_gone(lockw[h]))
#define living_owner(h) (OWNED(lockw[h]) != 0 && !owner_gone(lockw[h]))
/* Among the living there is mutual exclusion: whoever is taken for gone does nothing any more. */
#define nobody_there(h) (rgen[REC(lockw[h])] != GEN(lockw[h]) || !runs[REC(lockw[h])])

#ifdef T_NOTED_LATE
#define announce(h) skip
#define taken(h) rhold[r] = h + 1
#else
#define announce(h) rhold[r] = h + 1
#define taken(h) skip
#endif

inline repair(h) {
#ifndef T_NO_REBUILD
    linked[h] = members(h);
    atomic {
        waiting[h] = count(h);
        if
        :: closed[h] -> expel(h)
        :: else
        fi
    }
#else
    skip
#endif
}

/* Who looks at the owner again and again, as everybody does between two slices of sleep. */
inline take_looking(h) {
    announce(h);
    if
    :: atomic { free_lock(h) -> lockw[h] = me | lockw[h] & WAITERS }; taken(h)
    :: atomic { gone_owner(h) -> assert(nobody_there(h)); lockw[h] = me | lockw[h] & WAITERS }; taken(h); repair(h)
    fi
}

#ifdef SLEEP_ON_LOCKS
/* The same without slices: only a wake ends the sleep. */
inline take(h) {
    announce(h);
    do
    :: atomic { free_lock(h) -> lockw[h] = me | lockw[h] & WAITERS }; taken(h); break
    :: atomic { gone_owner(h) -> assert(nobody_there(h)); lockw[h] = me | lockw[h] & WAITERS };
       taken(h); repair(h); break
    :: atomic { living_owner(h) -> lockw[h] = lockw[h] | WAITERS; got = lockw[h] };
       d_step {
           if
           :: lockw[h] == got -> lsleep[h] = lsleep[h] | bit_of(r)
           :: else
           fi;
           got = 0
       };
       !(lsleep[h] & bit_of(r))
    od
}
#else
#define take(h) take_looking(h)
#endif

/* One system call: free, and everybody woken. */
inline release(h) {
#ifdef T_STORE_THEN_WAKE
    atomic { assert((lockw[h] & ~WAITERS) == me); lockw[h] = 0 };
    lsleep[h] = 0
#elif defined(T_WAKE_ONE)
    atomic {
        assert((lockw[h] & ~WAITERS) == me); lockw[h] = 0;
        if
        :: lsleep[h] & 1 -> lsleep[h] = lsleep[h] & ~1
        :: lsleep[h] & 2 -> lsleep[h] = lsleep[h] & ~2
        :: lsleep[h] & 4 -> lsleep[h] = lsleep[h] & ~4
        :: lsleep[h] & 8 -> lsleep[h] = lsleep[h] & ~8
        :: lsleep[h] & 16 -> lsleep[h] = lsleep[h] & ~16
        :: lsleep[h] & 32 -> lsleep[h] = lsleep[h] & ~32
        :: lsleep[h] == 0
        fi
    }
#else
    atomic { assert((lockw[h] & ~WAITERS) == me); lockw[h] = 0; lsleep[h] = 0 }
#endif
}

/* Then what was announced is taken back, and those are woken whom the work under the lock marked. */
inline unlock(h) {
    release(h);
    do
    :: atomic {
           if
           :: rhold[r] != 0 -> rhold[r] = 0
           :: else -> cur = lowest(towake); asleep = asleep & ~bit_of(cur); towake = towake & ~bit_of(cur); cur = 0
           fi;
           if
           :: towake == 0 -> break
           :: else
           fi
       }
    od
}
