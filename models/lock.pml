/* The robust lock of a head. Compare `src/lock.rs`.
 *
 * A thread has locals: r (its record), me (its name in a lock word), and what a walk needs: cur, got, visited, towake,
 * and where there is a set: stage, first.
 *
 * A `section` is one step for all but death, which may come between its parts: `or_dies`. No behaviour is lost by that
 * (Lipton's reduction): to take a lock, or an entry or a record that is free, commutes with whatever others do next; to
 * release one, with whatever they did before; and nobody sees the links, the order and the announcement but under the
 * lock, or after a death. What is left of a section is one access, at most, to a word that others read without the lock:
 *
 *   a lead's word     each member's turn in a walk is a section of its own
 *   a set's notes     each of the three accesses of a note too
 *   waiting           raised in `enrol` alone; a waker may read it as it was before it was lowered (`putter`)
 *   equeue            of the living, read by themselves alone; of the dead, changed by a cleaner's `leave` alone
 *
 * With one kill the other thread of the dying process is inside no section, because bells work after a death. With
 * more it may be, so that each thread dies by itself: `DIES`. Taken whole is what a take-over tells members, of a close
 * that it finishes, and of sets. FINE
 * takes sections apart, to compare; and so does SLEEP_ON_LOCKS.
 */

#if defined(FINE) || defined(SLEEP_ON_LOCKS)
#define section
#define or_dies skip
#elif KILLS == 0
#define section atomic
#define or_dies skip
#else
#define section atomic
#define or_dies \
    if \
    :: kills < KILLS && mortal(p) && !dying[p] -> kills++; dying[p] = DIES(p) \
    :: KILLS > 1 && dying[p] && p != FALSE_BELL && !(dying[p] & THIS_THREAD) -> dying[p] = MAIN | BELL \
    :: true \
    fi
#endif

#define free_lock(h) (OWNED(lockw[h]) == 0)
#define owner_gone(w) (rowner[REC(w)] == 0 || rgen[REC(w)] != GEN(w) || rmark[REC(w)] || is_dead(rowner[REC(w)]))
#define gone_owner(h) (OWNED(lockw[h]) != 0 && owner_gone(lockw[h]))
#define living_owner(h) (OWNED(lockw[h]) != 0 && !owner_gone(lockw[h]))
/* Among the living there is mutual exclusion: whoever is taken for gone does nothing any more. */
#define nobody_there(h) (rgen[REC(lockw[h])] != GEN(lockw[h]) || !runs[REC(lockw[h])])
#define mine(h) (me != 0 && (lockw[h] & ~WAITERS) == me)
#define to_be_had(h) (towake == 0 && (free_lock(h) || gone_owner(h)))

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
    or_dies;
    waiting[h] = count(h);
    if
    :: closed[h] -> or_dies; expel(h)
    :: else
    fi
#else
    skip
#endif
#ifdef SETS
    ;
    or_dies;
    alert_sets(h)
#endif
}

/* Looking at the owner again and again, as everybody does between two slices of sleep. */
inline take(h) {
    announce(h);
    or_dies;
    if
    :: atomic { free_lock(h) -> lockw[h] = me | lockw[h] & WAITERS }; or_dies; taken(h)
    :: atomic { gone_owner(h) -> assert(nobody_there(h)); lockw[h] = me | lockw[h] & WAITERS };
       or_dies; taken(h); repair(h)
    fi
}

/* The same without slices: only a wake ends the sleep. */
inline take_asleep(h) {
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

/* One system call: free, and everybody woken. Then what was announced is taken back. */
inline release(h) {
#ifdef T_STORE_THEN_WAKE
    atomic { assert(mine(h)); lockw[h] = 0 };
    lsleep[h] = 0;
#elif defined(T_WAKE_ONE)
    atomic { assert(mine(h)); lockw[h] = 0; lsleep[h] = lsleep[h] & (lsleep[h] - 1) };
#else
    atomic { assert(mine(h)); lockw[h] = 0; lsleep[h] = 0 };
#endif
    or_dies;
    rhold[r] = 0
}

/* Releases, and ends the loop around it if there is nobody to wake. */
inline let_go(h) {
    release(h);
    if
    :: towake == 0 -> break
    :: else
    fi
}

/* Those are woken whom the work under the lock marked: the last turns of the loop that took it. */
#define WAKES(h) \
    atomic { towake != 0 && !mine(h) -> \
        cur = lowest(towake); asleep = asleep & ~bit_of(cur); towake = towake & ~bit_of(cur); cur = 0; \
        if \
        :: towake == 0 -> break \
        :: else \
        fi }
