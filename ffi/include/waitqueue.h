/*
 * waitqueue: the Linux kernel's wait queues for processes that share memory, right even when one of them is killed.
 *
 * A process sleeps until a condition over shared memory is true; another makes it true and wakes the queue:
 *
 *     waiter    wq_wait_event(queue, atomic_load(ready) != 0);
 *     waker     atomic_store(ready, 1);  wq_wake_up(queue);
 *
 * The order of the waker's two steps is all that the caller has to get right; the fences are inside. A wake is not an
 * event: it has no effect on later waiters, several may coalesce, and a condition may be evaluated without one.
 *
 * To begin: wq_region_open_or_create gives a region of shared memory, wq_region_object_u32 a number in it,
 * wq_region_queue a queue; examples/c has whole programs. Compile with `pkg-config --cflags --libs waitqueue`.
 *
 * Conventions
 * -----------
 * Functions named after a type are its methods. Inputs come first, outputs last; nothing is both. Returns are 0 or a
 * count, or a negative errno, and then nothing was changed or written (but an empty wq_wait). wq_strerror says what
 * such a number means, and wq_last_error, in the thread that it failed in, what happened to whom and what to do. Every
 * pointer is checked for NULL, which is -EINVAL; only where it says so may an input be NULL, for the default, or an
 * output, which is then not written. Unknown flags, and options of a size that this library does not know, are -EINVAL.
 *
 * Times are in nanoseconds: 0 is a poll, WQ_FOREVER no limit. Names are UTF-8 of 1 to 63 bytes; those of regions are
 * names of POSIX shared memory objects: "/demo" is /dev/shm/demo.
 *
 * Options are structs whose first field is their size, so that they can grow, and in which 0 is the default:
 *
 *     wq_wait_event_with(queue, take(item), WQ_WAIT_OPTIONS(.flags = WQ_EXCLUSIVE, .label = "worker 3"));
 *
 * or, in C++, a variable from wq_wait_options_default(), whose fields are set one by one.
 *
 * Ownership
 * ---------
 * Handles are opaque and are given back by the function that ends in _free, to which NULL is harmless. A handle made of
 * another keeps what it needs of it: the order of freeing does not matter, and a process detaches when its last handle
 * of a region is freed. Until then, pointers to the region's objects are valid. Freeing a handle that a wait still uses
 * is -EBUSY and frees nothing. Strings and arrays that are passed in are the caller's, and not needed after the call;
 * those in the options of a wait that is begun, not after its end.
 *
 * Threads
 * -------
 * All functions may be called by any number of threads on the same handles at once, but for wq_set: a set belongs to
 * the thread that made it, and so does a wq_wait. Every attached process has one more thread, the bell, with all
 * signals blocked; so attach after daemon(), unshare() and setns().
 *
 * Cancellation. No function here is a cancellation point. A thread that ends (pthread_exit, pthread_cancel) while it is
 * inside a condition leaves its queues as it ends, and passes on a wake that chose it. So it may end at any
 * cancellation point in a condition; not by asynchronous cancellation, which no library survives. Do not longjmp out of
 * a condition.
 *
 * Signals. Waits go on when a handler has run, except those that are interruptible, killable or for given signals,
 * which return -EINTR. (Unlike in the kernel, a handler that runs just before the sleep does not end it: where that
 * matters, let it call wq_interrupter_interrupt.) From a handler, these may be called at any time:
 * wq_interrupter_interrupt, wq_region_me, wq_region_is_alive, wq_queue_has_sleepers. Any other call in a handler that
 * has interrupted one of the same thread works, or returns -EDEADLK. SIGKILL may come at any instruction of any
 * function: the others lose nothing, and nothing has to be cleaned up.
 *
 * Fork. The child of fork() opens the region for itself. On inherited handles every call that would have to act returns
 * -ECHILD (those that find nothing to do, with no waiters or a condition that holds, answer as always); freeing them is
 * allowed and leaves the parent alone. After exec nothing is left: everything is close-on-exec.
 *
 * Stopped processes (SIGSTOP, a debugger) are alive, and keep what they hold.
 *
 * Errors
 * ------
 * Each function lists its own. Beside them, all that act on a region may return: -ECHILD (after fork), -EDEADLK (from a
 * signal handler), -ESTALE (this process was taken for dead and its place given away: free all handles, open again),
 * -EUCLEAN (the region is damaged), -ETIME (a living process keeps a lock; the message names it), -ENOBUFS (a capacity
 * of the region is used up), -ENOMEM, -ENOTRECOVERABLE (a defect of the library).
 *
 * The kernel's calls
 * ------------------
 *     wait_event…(wq, condition)                 wq_wait_event…(queue, expression)
 *     prepare_to_wait, schedule, finish_wait     wq_queue_prepare_to_wait, wq_wait_sleep, wq_wait_finish
 *     add_wait_queue, wait_woken, remove_…       wq_set_add, wq_set_wait, wq_set_remove
 *     several queues in one loop                 wq_wait_many
 *     wake_up…(wq)                               wq_wake_up…(queue)
 *     wake_up_sync(wq)                           wq_queue_wake_up_sync, wq_region_flush
 *     wake_up_pollfree(wq)                       wq_queue_close
 *     wq_has_sleeper, waitqueue_active           wq_queue_has_sleepers, wq_queue_has_sleepers_without_fence
 *     DECLARE_WAIT_QUEUE_HEAD, init_…            wq_region_queue; wq_queue_head in a struct, wq_region_queue_at
 *     TASK_INTERRUPTIBLE, …                      WQ_CLASS_INTERRUPTIBLE, …
 */
#ifndef WAITQUEUE_H
#define WAITQUEUE_H

#include <pthread.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
#include <atomic>
typedef std::atomic<uint32_t> wq_u32;
typedef std::atomic<uint64_t> wq_u64;
#define WQ_ALIGNAS_(bytes) alignas(bytes)
extern "C" {
#else
#include <stdatomic.h>
typedef _Atomic(uint32_t) wq_u32;
typedef _Atomic(uint64_t) wq_u64;
#define WQ_ALIGNAS_(bytes) _Alignas(bytes)
#endif

/* ---- Types ------------------------------------------------------------------------------------------------------ */

typedef struct wq_region wq_region;		/* A region to which this process is attached. */
typedef struct wq_queue wq_queue;		/* A wait queue in a region. */
typedef struct wq_set wq_set;			/* Queues on which a thread stays enrolled. */
typedef struct wq_lock wq_lock;			/* A robust lock in a region. */
typedef struct wq_interrupter wq_interrupter;	/* Ends a wait from elsewhere. */
typedef struct wq_snapshot wq_snapshot;		/* What a region looked like. */

/* Heads and locks may be fields of structs in shared memory, of which all bytes are zero at first. */
typedef struct wq_queue_head {
	WQ_ALIGNAS_(64) wq_u64 opaque[8];
} wq_queue_head;

typedef struct wq_robust_lock {
	WQ_ALIGNAS_(16) wq_u64 opaque[2];
} wq_robust_lock;

#define WQ_QUEUE_HEAD_INIT { { 0 } }
#define WQ_ROBUST_LOCK_INIT { { 0 } }

/* A wait that is under way, in a variable of its thread. A copy of it is no wait. */
typedef struct wq_wait {
	uint64_t opaque[64];
} wq_wait;

/*
 * A condition: nonzero if the wait is over. It may have side effects (take the item): once it has returned nonzero it
 * is not called again. It may wait itself. In C++ it must not throw to a caller who goes on: what it waited for would
 * stay enrolled, with a wake that chose it, until the thread ends. (An expression may throw, and what waitqueue.hpp is
 * given.)
 */
typedef int (*wq_condition)(void *context);

/* How many waiters a wake has reached. Exclusive ones that were awake, and evaluate by themselves, are not counted. */
typedef struct wq_woken {
	uint32_t exclusive;
	uint32_t nonexclusive;
} wq_woken;

#define WQ_FOREVER UINT64_MAX	/* As a time: no limit. */
#define WQ_ALL UINT32_MAX	/* As a count of waiters to wake: all of them. */

/* The kinds of sleep that named calls use. A wake reaches a wait if their masks meet; the other 30 bits are yours. */
#define WQ_CLASS_INTERRUPTIBLE 1u
#define WQ_CLASS_UNINTERRUPTIBLE 2u
#define WQ_CLASS_NORMAL 3u
#define WQ_CLASS_ANY UINT32_MAX
#define WQ_KEY_ANY UINT32_MAX

/* Flags of a wait. */
#define WQ_EXCLUSIVE 1u		/* One wake wakes one of them, oldest first; for conditions that take something. */
#define WQ_PRIORITY 2u		/* Before all that are not. With WQ_EXCLUSIVE at most one on a queue, else -EBUSY. */
#define WQ_INTERRUPTIBLE 4u	/* -EINTR when a signal handler ran during the sleep; of class INTERRUPTIBLE. */
#define WQ_KILLABLE 8u		/* -EINTR for SIGINT, SIGTERM, SIGQUIT and SIGHUP alone; the class stays. See signals. */
#define WQ_NO_SPIN 16u		/* Sleeps at once. Without it a wait spins first where that has paid before. */

/*
 * How to wait. 0 is the default of every field.
 *
 * Where there are several queues (wq_source, wq_set_add), which wakes reach an entry is said of that entry:
 * WQ_EXCLUSIVE, WQ_PRIORITY, class_mask and key, which are -EINVAL in the options of the wait. So a wait that is
 * WQ_INTERRUPTIBLE does not make its entries of class INTERRUPTIBLE: give them that class_mask. All else, but the label
 * of a member, is said of the wait.
 */
typedef struct wq_wait_options {
	size_t size;				/* sizeof(wq_wait_options) */
	uint32_t flags;				/* WQ_EXCLUSIVE and so on */
	uint32_t class_mask;			/* which wakes reach it, by kind of sleep; default UNINTERRUPTIBLE */
	uint32_t key;				/* which wakes reach it, by event: a mask; default every key */
	uint32_t signal_count;
	const int *signals;			/* -EINTR for these alone. Others are blocked during a sleep: their handlers
						 * run at the next look around (tick), or when the wait is over. */
	const wq_interrupter *interrupter;	/* -EINTR when this is used; for one wait at a time */
	const char *label;			/* to know it by in a snapshot; what exceeds 32 bytes is cut */
	uint64_t spin;				/* evaluate for so long before sleeping; default as has paid before */
} wq_wait_options;

/* Flags of a region. */
#define WQ_PATH 1u		/* The name is the path of a file, on a local file system. */
#define WQ_REPLACE_DEAD 2u	/* open_or_create replaces a region of another version, in which nobody lives. */
#define WQ_NO_TICK 4u		/* Sleeping waits never look around without having been woken. */
#define WQ_NO_REGION_SPIN 8u	/* Waits that do not say otherwise sleep at once. */

/*
 * How to create and open. Capacities and the mode are for creation; open_or_create requires the capacities also of what
 * exists.
 */
typedef struct wq_region_options {
	size_t size;		/* sizeof(wq_region_options) */
	uint32_t flags;		/* WQ_PATH and so on */
	uint32_t mode;		/* permissions: 0600 (the default), 0640 or 0660 */
	uint64_t participants;	/* processes attached at once; default 256; 192 bytes each */
	uint64_t threads;	/* threads that wait or wake; default 1,024; 128 bytes each */
	uint64_t entries;	/* enrolments at once; default 2,048; 128 bytes each */
	uint64_t objects;	/* named objects and queues; default 256; 192 bytes each */
	uint64_t memory;	/* bytes for them, each rounded up to 64; default 128 KiB, or what queues alone need */
	uint64_t tick;		/* how often a sleeping wait looks around; default 1 s. No promise rests on it. */
	uint64_t patience;	/* after how long a lock that the living keep is -ETIME; default 10 s */
	uint64_t spin;		/* how long waits spin that do not say; default as has paid before */
	const uint32_t *owners;	/* users whose regions are accepted, beside one's own */
	size_t owner_count;
	const uint32_t *groups;	/* groups whose regions are accepted, whoever made them */
	size_t group_count;
} wq_region_options;

/* Defaults, with the size filled in. In C also as a pointer to a literal: WQ_WAIT_OPTIONS(.flags = WQ_EXCLUSIVE). */
static inline wq_wait_options wq_wait_options_default(void)
{
	wq_wait_options options = { sizeof(wq_wait_options), 0, 0, 0, 0, NULL, NULL, NULL, 0 };
	return options;
}

static inline wq_region_options wq_region_options_default(void)
{
	wq_region_options options = { sizeof(wq_region_options), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, NULL, 0, NULL, 0 };
	return options;
}

#ifndef __cplusplus
#define WQ_WAIT_OPTIONS(...) (&(const wq_wait_options){ .size = sizeof(wq_wait_options), __VA_ARGS__ })
#define WQ_REGION_OPTIONS(...) (&(const wq_region_options){ .size = sizeof(wq_region_options), __VA_ARGS__ })
#endif

/* ---- The library ------------------------------------------------------------------------------------------------ */

/* The number of this interface: it changes when a program has to be compiled again. The soname ends in it. */
#define WQ_INTERFACE 1

/* 0, or -EPROTO if the library at hand is not that of this header. Call it as wq_check(). */
int wq_check_interface(uint32_t interface_number, size_t size_of_wait, size_t size_of_u32, size_t size_of_u64);
#define wq_check() wq_check_interface(WQ_INTERFACE, sizeof(wq_wait), sizeof(wq_u32), sizeof(wq_u64))

/* The library's version, such as "0.1.0". */
const char *wq_version(void);

/* What a status means that a function returned, in general; "success" if it is not negative. Never NULL. */
const char *wq_strerror(int status);

/*
 * What the last failure of this thread was, with names and values, and what can be done about it; "" if there was none.
 * Valid until the thread's next failure; so call what may fail first, and not as another argument of one printf.
 */
const char *wq_last_error(void);

/* ---- Regions ---------------------------------------------------------------------------------------------------- */

/*
 * Attach to a region: create it (-EEXIST), open it (-ENOENT), or either, whoever comes first. It appears complete or
 * not at all, and what former participants left when they were killed is cleaned up. options may be NULL.
 *
 * -EMEDIUMTYPE: the file is not a region. -EPROTO: of another version. -EPERM: of somebody else. -EACCES: its mode lets
 * in others than are accepted, keeps us out, or cannot be. -ERANGE: it has less than was asked. -ENOSPC. -ENOSYS: the
 * kernel or the file system lacks what is needed. -EINVAL: a name or a capacity that cannot be.
 */
int wq_region_create(const char *name, const wq_region_options *options, wq_region **out);
int wq_region_open(const char *name, const wq_region_options *options, wq_region **out);
int wq_region_open_or_create(const char *name, const wq_region_options *options, wq_region **out);

/*
 * A region without a name, sealed so that no peer can truncate it: the only kind that withstands a hostile peer in
 * full. Others attach by a descriptor that they inherit or receive (SCM_RIGHTS). -EACCES: what is opened is not sealed.
 */
int wq_region_create_memfd(const char *label, const wq_region_options *options, wq_region **out);

/* The descriptor stays the caller's. */
int wq_region_open_fd(int fd, const wq_region_options *options, wq_region **out);

/* A new descriptor of the region, close-on-exec, which the caller closes. */
int wq_region_fd(const wq_region *region);

/* Removes the name of a region, or its file; those who are attached go on. -ENOENT. */
int wq_region_unlink(const char *name);
int wq_region_unlink_at(const char *path);

/* Gives the handle back. */
int wq_region_free(wq_region *region);

/* This attachment's own id: never 0, never used again. May be called from signal handlers. */
int wq_region_me(const wq_region *region, uint64_t *out);

/*
 * 1 if that participant is attached and its process alive, else 0. Turns 0 only when nothing the process did can happen
 * any more, and then all waiters of the region evaluate their conditions: so a condition may ask this. May be called
 * from signal handlers.
 */
int wq_region_is_alive(const wq_region *region, uint64_t participant);

/* The queue of that name, created open and empty at first use. -EEXIST: the name is in use for something else. */
int wq_region_queue(const wq_region *region, const char *name, wq_queue **out);

/*
 * The queue of a head, or the lock, that is a field of an object of this region. -EINVAL: it is not, or is misaligned.
 * What was once used as a head or a lock stays one: others may still be about to touch it.
 */
int wq_region_queue_at(const wq_region *region, const wq_queue_head *head, wq_queue **out);
int wq_region_lock_at(const wq_region *region, const wq_robust_lock *lock, wq_lock **out);

/*
 * The object of that name, zeroed at first use, exactly once also when processes race and are killed. It lives as long
 * as the region. Whoever opens it gives the same tag (1 to 31 bytes), size and alignment (at most 64); -EEXIST if they
 * differ. It is shared with processes that may change it at any time: declare all of it atomic, in fields of fixed
 * width, the 64-bit ones at multiples of 8. -EINVAL: a size or an alignment that cannot be.
 */
int wq_region_object(const wq_region *region, const char *name, const char *tag, size_t size, size_t alignment,
		     void **out);

/* A single number: what Rust programs call `object::<AtomicU32>` and `object::<AtomicU64>`. */
int wq_region_object_u32(const wq_region *region, const char *name, wq_u32 **out);
int wq_region_object_u64(const wq_region *region, const char *name, wq_u64 **out);

/* ---- Waiting for an expression ---------------------------------------------------------------------------------- */

/*
 * Sleep until the expression is true (nonzero). It is evaluated first; if it is true at once, nothing else happens. It
 * is evaluated again after every wake, after somebody's death, and sometimes without reason; once true it is not
 * evaluated again, so it may take something. What a waker did before its wake happens before the evaluation that
 * follows. The condition beats a close, that a timeout, that an interrupt. GNU C or C++; for others there are functions
 * below.
 *
 *     int wq_wait_event(queue, expression)
 *     int wq_wait_event_interruptible(queue, expression)
 *     int wq_wait_event_killable(queue, expression)
 *     int wq_wait_event_exclusive(queue, expression)
 *     int wq_wait_event_interruptible_exclusive(queue, expression)
 *     int wq_wait_event_with(queue, expression, options)
 *
 * 0; -ESHUTDOWN: the queue is or was closed while the expression was false; -EINTR; -EBUSY: see WQ_PRIORITY.
 *
 *     int64_t wq_wait_event_timeout(queue, expression, nanoseconds)
 *     int64_t wq_wait_event_interruptible_timeout(queue, expression, nanoseconds)
 *     int64_t wq_wait_event_killable_timeout(queue, expression, nanoseconds)
 *     int64_t wq_wait_event_exclusive_timeout(queue, expression, nanoseconds)
 *     int64_t wq_wait_event_timeout_with(queue, expression, nanoseconds, options)
 *
 * What is left of the time, at least 1 (INT64_MAX if it had no limit); as above, and -ETIMEDOUT. An int is too small
 * for it.
 *
 *     int wq_wait_event_cmd(queue, expression, before, after)
 *     int wq_wait_event_exclusive_cmd(queue, expression, before, after)
 *
 * With a statement before each sleep and one after it; the expression is evaluated after the latter.
 *
 *     int wq_wait_event_locked(queue, expression, lock)
 *     int64_t wq_wait_event_locked_timeout(queue, expression, lock, nanoseconds)
 *     int64_t wq_wait_event_locked_with(queue, expression, lock, nanoseconds, options)	(WQ_FOREVER for no limit)
 *
 * With a lock, a pthread_mutex_t * or a wq_lock *, which the caller holds, and which is released over each sleep. It is
 * held whenever the expression is evaluated and when this returns, unless taking it again fails: that is the result
 * then (of a robust mutex whose owner died it is -EOWNERDEAD, with the mutex held and inconsistent; of a wq_lock,
 * wq_lock_owner_died says it).
 *
 * An expression may be left by return, break, continue or goto, and in C++ by an exception: the queue is left then, and
 * a wake that chose the wait is passed on.
 */
#define wq_wait_event(queue, expression) wq_wait_event_with(queue, expression, NULL)
#define wq_wait_event_interruptible(queue, expression) WQ_WAIT_FLAGS_(queue, expression, WQ_INTERRUPTIBLE)
#define wq_wait_event_killable(queue, expression) WQ_WAIT_FLAGS_(queue, expression, WQ_KILLABLE)
#define wq_wait_event_exclusive(queue, expression) WQ_WAIT_FLAGS_(queue, expression, WQ_EXCLUSIVE)
#define wq_wait_event_interruptible_exclusive(queue, expression) \
	WQ_WAIT_FLAGS_(queue, expression, WQ_INTERRUPTIBLE | WQ_EXCLUSIVE)
#define wq_wait_event_with(queue, expression, options) \
	wq_status_of_(wq_wait_event_timeout_with(queue, expression, WQ_FOREVER, options))

#define wq_wait_event_timeout(queue, expression, nanoseconds) \
	wq_wait_event_timeout_with(queue, expression, nanoseconds, NULL)
#define wq_wait_event_interruptible_timeout(queue, expression, nanoseconds) \
	WQ_WAIT_FLAGS_TIMEOUT_(queue, expression, nanoseconds, WQ_INTERRUPTIBLE)
#define wq_wait_event_killable_timeout(queue, expression, nanoseconds) \
	WQ_WAIT_FLAGS_TIMEOUT_(queue, expression, nanoseconds, WQ_KILLABLE)
#define wq_wait_event_exclusive_timeout(queue, expression, nanoseconds) \
	WQ_WAIT_FLAGS_TIMEOUT_(queue, expression, nanoseconds, WQ_EXCLUSIVE)

/* All of the above. There is no loop around the expression: a break in it is one from a loop of the caller's. */
#define wq_wait_event_timeout_with(queue, expression, nanoseconds, options) __extension__({             \
	__label__ wq_again_;                                                                            \
	uint64_t wq_time_ = (nanoseconds);                                                              \
	const wq_wait_options *wq_given_ = (options); /* (Its literals live as long as this block.) */  \
	int64_t wq_result_ = wq_left_(wq_time_);                                                        \
	wq_wait wq_wait_ __attribute__((__cleanup__(wq_leave_)));                                       \
	wq_wait_.opaque[0] = 0;                                                                         \
wq_again_:                                                                                              \
	if (expression) {                                                                               \
		wq_result_ = wq_is_begun_(&wq_wait_) ? wq_wait_finish(&wq_wait_) : wq_result_;          \
	} else {                                                                                        \
		int wq_next_ = 0;                                                                       \
		if (!wq_is_begun_(&wq_wait_))                                                           \
			wq_next_ = wq_queue_begin_wait(queue, wq_given_, wq_time_, &wq_wait_);          \
		if (wq_next_ == 0)                                                                      \
			wq_next_ = wq_wait_sleep(&wq_wait_);                                            \
		if (wq_next_ == 0)                                                                      \
			goto wq_again_;                                                                 \
		wq_result_ = wq_next_;                                                                  \
	}                                                                                               \
	wq_result_;                                                                                     \
})

/* The same with something to do before and after each sleep, for which the wait is enrolled from the start. */
#define WQ_WAIT_AROUND_(queue, expression, nanoseconds, options, before, after) __extension__({         \
	__label__ wq_again_;                                                                            \
	uint64_t wq_time_ = (nanoseconds);                                                              \
	const wq_wait_options *wq_given_ = (options); /* (Its literals live as long as this block.) */  \
	int64_t wq_result_ = wq_left_(wq_time_);                                                        \
	wq_wait wq_wait_ __attribute__((__cleanup__(wq_leave_)));                                       \
	wq_wait_.opaque[0] = 0;                                                                         \
wq_again_:                                                                                              \
	if (expression) {                                                                               \
		wq_result_ = wq_is_begun_(&wq_wait_) ? wq_wait_finish(&wq_wait_) : wq_result_;          \
	} else {                                                                                        \
		int wq_next_;                                                                           \
		if (wq_is_begun_(&wq_wait_)) {                                                          \
			before;                                                                         \
			wq_next_ = wq_wait_sleep(&wq_wait_);                                            \
			after;                                                                          \
		} else {                                                                                \
			wq_next_ = wq_queue_prepare_to_wait(queue, wq_given_, wq_time_, &wq_wait_);     \
		}                                                                                       \
		if (wq_next_ == 0)                                                                      \
			goto wq_again_;                                                                 \
		wq_result_ = wq_next_;                                                                  \
	}                                                                                               \
	wq_result_;                                                                                     \
})

#define wq_wait_event_cmd(queue, expression, before, after) \
	wq_status_of_(WQ_WAIT_AROUND_(queue, expression, WQ_FOREVER, NULL, before, after))
#define wq_wait_event_exclusive_cmd(queue, expression, before, after) __extension__({                   \
	wq_wait_options wq_options_ = wq_options_of_(WQ_EXCLUSIVE);                                     \
	wq_status_of_(WQ_WAIT_AROUND_(queue, expression, WQ_FOREVER, &wq_options_, before, after));     \
})

#define wq_wait_event_locked(queue, expression, lock) \
	wq_status_of_(wq_wait_event_locked_timeout(queue, expression, lock, WQ_FOREVER))
#define wq_wait_event_locked_timeout(queue, expression, lock, nanoseconds) \
	wq_wait_event_locked_with(queue, expression, lock, nanoseconds, NULL)
#define wq_wait_event_locked_with(queue, expression, lock, nanoseconds, options)                        \
	WQ_WAIT_AROUND_(queue, expression, nanoseconds, options, WQ_RELEASE_(lock), {                   \
		int wq_taken_ = WQ_RETAKE_(lock);                                                       \
		wq_next_ = wq_taken_ < 0 ? wq_taken_ : wq_next_;                                        \
	})

#define WQ_WAIT_FLAGS_(queue, expression, flags) \
	wq_status_of_(WQ_WAIT_FLAGS_TIMEOUT_(queue, expression, WQ_FOREVER, flags))
#define WQ_WAIT_FLAGS_TIMEOUT_(queue, expression, nanoseconds, flags) __extension__({                   \
	wq_wait_options wq_options_ = wq_options_of_(flags);                                            \
	wq_wait_event_timeout_with(queue, expression, nanoseconds, &wq_options_);                       \
})

static inline wq_wait_options wq_options_of_(uint32_t flags)
{
	wq_wait_options options = wq_wait_options_default();
	options.flags = flags;
	return options;
}

static inline int64_t wq_left_(uint64_t time)
{
	return time == 0 ? 1 : time < INT64_MAX ? (int64_t)time : INT64_MAX;
}

/* The first word of a wait is 0 unless it is under way. */
static inline int wq_is_begun_(const wq_wait *wait)
{
	return wait->opaque[0] != 0;
}

static inline int wq_status_of_(int64_t left)
{
	return left < 0 ? (int)left : 0;
}

/* ---- Waiting, turn by turn -------------------------------------------------------------------------------------- */

/*
 * What the macros are made of, for loops of one's own:
 *
 *     status = wq_queue_prepare_to_wait(queue, NULL, WQ_FOREVER, &wait);
 *     while (status == 0) {
 *             if (condition) {
 *                     wq_wait_finish(&wait);
 *                     break;
 *             }
 *             status = wq_wait_sleep(&wait);
 *     }
 *
 * prepare_to_wait enrols. What changes from there on is seen by an evaluation, or keeps the sleep that follows it from
 * happening. begin_wait is for a condition that was false just now: it enrols only when spinning has not helped.
 * options may be NULL. Both leave an empty wait if they fail; -EINVAL: an interrupter of another region. That the queue
 * is closed, or that another has the priority, is no failure of theirs: the condition may be true, which beats it, and
 * wq_wait_sleep says so after it was evaluated.
 */
int wq_queue_prepare_to_wait(const wq_queue *queue, const wq_wait_options *options, uint64_t nanoseconds, wq_wait *out);
int wq_queue_begin_wait(const wq_queue *queue, const wq_wait_options *options, uint64_t nanoseconds, wq_wait *out);

/*
 * Says that the condition was false: sleeps until woken, unless something has happened since the evaluation began; then
 * evaluate again. A negative result ends the wait: -ETIMEDOUT, -EINTR, -ESHUTDOWN, -EBUSY; the condition was evaluated
 * after it was known, and the queue has been left. -EINVAL: the wait has ended, or is another thread's.
 */
int wq_wait_sleep(wq_wait *wait);

/*
 * The same for a wait that has several conditions, of a set or of wq_sources: says that the one evaluated last was
 * false, and writes which to evaluate next, a member or an index. (The first call says nothing.)
 */
int wq_wait_next(wq_wait *wait, uint32_t *out);

/* 1 if an exclusive wake has chosen this wait, else 0. -EINVAL: as above. */
int wq_wait_was_chosen(const wq_wait *wait);

/* 1 if nobody waited on its queues when it began, else 0. -EINVAL: as above. */
int wq_wait_was_first(const wq_wait *wait);

/*
 * Ends a wait whose condition was true: what is left of its time, at least 1. A wake that chose it is used up, if it
 * was for that condition, or else passed on. Of a wait that has ended: 0, and nothing happens.
 */
int64_t wq_wait_finish(wq_wait *wait);

/* Ends a wait for another reason: a wake that chose it is passed on. Nothing happens to one that has ended. */
int wq_wait_cancel(wq_wait *wait);

static inline void wq_leave_(wq_wait *wait)
{
	if (wq_is_begun_(wait))
		wq_wait_cancel(wait);
}

/* ---- Waiting for a function ------------------------------------------------------------------------------------- */

/*
 * As the macros, for other languages. _with: *out is what is left of the time, at least 1, UINT64_MAX of WQ_FOREVER;
 * options and out may be NULL. -ETIMEDOUT, -EINTR, -ESHUTDOWN, -EBUSY.
 */
int wq_queue_wait_event(const wq_queue *queue, wq_condition condition, void *context);
int wq_queue_wait_event_with(const wq_queue *queue, wq_condition condition, void *context,
			     const wq_wait_options *options, uint64_t nanoseconds, uint64_t *out);

/*
 * Sleeps until a wake reaches this waiter; there is no condition. For events that leave no trace elsewhere: a wake
 * before this call has no effect on it. Each exclusive wake returns from one such wait.
 */
int wq_queue_wait_woken(const wq_queue *queue, const wq_wait_options *options, uint64_t nanoseconds, uint64_t *out);

/* ---- Waiting on many queues ------------------------------------------------------------------------------------- */

/* A queue and what is waited for there. Flags: WQ_EXCLUSIVE and WQ_PRIORITY; 0 is the default of mask and key. */
typedef struct wq_source {
	const wq_queue *queue;
	wq_condition condition;
	void *context;
	uint32_t flags;
	uint32_t class_mask;
	uint32_t key;
	uint32_t reserved;
} wq_source;

/*
 * Sleeps until one of the conditions is true, and writes which: the first, in order. Any number of queues of one
 * region, the same one also twice; each exclusive wake is consumed by one waiter. The options are those of the sleep,
 * and may be NULL: how an entry is woken is said in each source. -EINVAL: no sources, or of several regions, or options
 * of an entry; -ESHUTDOWN: one of the queues is closed, and the message names it; as wq_queue_wait_event_with.
 */
int wq_wait_many(const wq_source *sources, uint32_t count, const wq_wait_options *options, uint64_t nanoseconds,
		 uint32_t *out);

/* The same for conditions that are not functions, which are ignored here: evaluate what wq_wait_next says. */
int wq_begin_wait_many(const wq_source *sources, uint32_t count, const wq_wait_options *options,
		       uint64_t nanoseconds, wq_wait *out);

/*
 * A set of queues on which its thread stays enrolled between waits: a wait costs as much as there is to do, whether
 * there is one queue in it or ten thousand. A member is asked when it is new, when a wake has met it since, and for as
 * long as it answers true; so its condition has to be the same in every wait, and about what is woken for. Corresponds
 * to add_wait_queue, wait_woken and remove_wait_queue; in what it costs, to epoll.
 */
int wq_set_new(const wq_region *region, wq_set **out);

/*
 * Enrols on a queue of the region; *out is the member's number in this set. condition may be NULL if it is asked by
 * wq_wait_next. The options are those of an entry, and its label. -ESHUTDOWN, -EBUSY, -EINVAL: of another region.
 */
int wq_set_add(wq_set *set, const wq_queue *queue, wq_condition condition, void *context,
	       const wq_wait_options *options, uint32_t *out);

/* Leaves a queue; a wake that chose this member is passed on. -ENOENT: it is not in the set. */
int wq_set_remove(wq_set *set, uint32_t member);

/*
 * Sleeps until a member's condition is true, and writes which; one that was returned comes after the others next time.
 * -EINVAL: a member that has no condition has to be asked. Otherwise as wq_queue_wait_event_with.
 */
int wq_set_wait(wq_set *set, const wq_wait_options *options, uint64_t nanoseconds, uint32_t *out);

/* The same, with conditions of the caller: evaluate what wq_wait_next says. -EBUSY: a wait on this set is under way. */
int wq_set_begin_wait(wq_set *set, const wq_wait_options *options, uint64_t nanoseconds, wq_wait *out);

/* Makes the next wait ask every member, because conditions have changed their meaning. */
int wq_set_ask_all(wq_set *set);

/* How many wakes have met a member since this was last called, a hint where to look. -ENOENT. */
int wq_set_take_fired(wq_set *set, uint32_t member, uint32_t *out);

/* Leaves all queues, and gives the handle back. -EPERM: another thread made it. -EBUSY: a wait on it is under way. */
int wq_set_free(wq_set *set);

/* ---- Waking ----------------------------------------------------------------------------------------------------- */

/*
 * Wakes all non-exclusive waiters, and up to count of the exclusive ones (WQ_ALL: all), whose class and key masks meet
 * these. If nobody waits, this is a fence and a load. out may be NULL. -EINVAL: a count of 0.
 */
int wq_queue_wake_up(const wq_queue *queue, uint32_t count, uint32_t class_mask, uint32_t key, wq_woken *out);

/*
 * The same in the kernel's words: how many waiters were reached, or a negative errno. That none is counted does not
 * mean that nobody will see the change: exclusive waiters that are awake evaluate without being charged with a wake.
 */
#define wq_wake_up(queue) wq_wake_up_nr(queue, 1)
#define wq_wake_up_all(queue) wq_wake_up_nr(queue, WQ_ALL)
#define wq_wake_up_nr(queue, count) wq_wake_up_with_(queue, count, WQ_CLASS_ANY, WQ_KEY_ANY)
#define wq_wake_up_interruptible(queue) wq_wake_up_interruptible_nr(queue, 1)
#define wq_wake_up_interruptible_all(queue) wq_wake_up_interruptible_nr(queue, WQ_ALL)
#define wq_wake_up_interruptible_nr(queue, count) wq_wake_up_with_(queue, count, WQ_CLASS_INTERRUPTIBLE, WQ_KEY_ANY)
#define wq_wake_up_poll(queue, key) wq_wake_up_with_(queue, 1, WQ_CLASS_ANY, key)

static inline int wq_wake_up_with_(const wq_queue *queue, uint32_t count, uint32_t class_mask, uint32_t key)
{
	wq_woken woken = { 0, 0 };
	int status = wq_queue_wake_up(queue, count, class_mask, key, &woken);
	return status < 0 ? status : (int)(woken.exclusive + woken.nonexclusive);
}

/*
 * As wq_wake_up, but for callers about to wait: from here on, until wq_region_flush, this thread's wakes choose waiters
 * at once, but make their system calls only in its next wait of this region, or as it ends. Before any other sleep,
 * flush.
 */
int wq_queue_wake_up_sync(const wq_queue *queue, wq_woken *out);
int wq_region_flush(const wq_region *region);

/*
 * Closes the queue for ever, for everybody, also after a restart (unlink the region to begin anew): present and future
 * waiters whose condition is false get -ESHUTDOWN. out is how many there were, and may be NULL.
 */
int wq_queue_close(const wq_queue *queue, uint32_t *out);

/* 1 if it was closed, else 0. */
int wq_queue_is_closed(const wq_queue *queue);

/*
 * 1 if anybody waits, else 0. If 0, whoever begins to wait from now on sees what the caller did before. May be called
 * from signal handlers. _without_fence is in no order with what the caller did: a hint, never a reason not to wake.
 */
int wq_queue_has_sleepers(const wq_queue *queue);
int wq_queue_has_sleepers_without_fence(const wq_queue *queue);

/* Gives the handle back. -EBUSY: a wait uses it. */
int wq_queue_free(wq_queue *queue);

/* ---- Robust locks ----------------------------------------------------------------------------------------------- */

/*
 * For data that atomics alone cannot keep consistent. 1 if an owner has died inside, and nobody has said since that he
 * has repaired the data; else 0. Not recursive (-EDEADLK), not fair; a thread can hold seven of a region at once
 * (-ENOLCK). -ETIME: a living process has kept it for the region's patience, or the time given; 0 tries once.
 */
int wq_lock_lock(wq_lock *lock);
int wq_lock_lock_timeout(wq_lock *lock, uint64_t nanoseconds);

/* The same 1 or 0 of a lock that is held, after wq_wait_event_locked has taken it again. -EPERM, as below. */
int wq_lock_owner_died(const wq_lock *lock);

/* Says that the data is consistent again. -EPERM: this thread does not hold the lock by this handle. */
int wq_lock_repaired(wq_lock *lock);

/* -EPERM: this thread does not hold the lock by this handle. */
int wq_lock_unlock(wq_lock *lock);

/* Gives the handle back. -EBUSY: the lock is held by it. */
int wq_lock_free(wq_lock *lock);

/* ---- Interrupters ----------------------------------------------------------------------------------------------- */

/* For waits in this region, by their options: for one wait at a time. */
int wq_interrupter_new(const wq_region *region, wq_interrupter **out);

/* Ends the wait that has it, or the next that gets it, with -EINTR. May be called from signal handlers. */
int wq_interrupter_interrupt(const wq_interrupter *interrupter);

/* Gives the handle back. -EBUSY: a wait has it. */
int wq_interrupter_free(wq_interrupter *interrupter);

/* ---- Looking ---------------------------------------------------------------------------------------------------- */

/*
 * What a region looks like now; wq_inspect needs no more than to be allowed to read it, and does not attach. Takes no
 * lock, so it may be torn.
 */
int wq_region_snapshot(const wq_region *region, wq_snapshot **out);
int wq_inspect(const char *name, const wq_region_options *options, wq_snapshot **out);

/* Checks each queue's list, under its lock, for tools and tests. -EUCLEAN: the message names the law that is broken. */
int wq_region_check(const wq_region *region);

/* The whole as text. This and the strings below live as long as the snapshot. */
const char *wq_snapshot_text(const wq_snapshot *snapshot);

typedef struct wq_region_info {
	const char *name;
	uint64_t size;		/* bytes */
	uint64_t deaths;	/* that were cleaned up after */
	uint32_t participants, queues, objects;
	uint32_t entries_used, entries, threads_used, threads;
} wq_region_info;

typedef struct wq_participant_info {
	uint64_t id;
	int64_t since;		/* attached: nanoseconds since 1970 */
	uint32_t process;	/* its number in its own PID namespace */
	uint32_t is_alive;
} wq_participant_info;

typedef struct wq_queue_info {
	const char *name;
	uint64_t lock_owner;	/* who holds its lock, or 0 */
	uint64_t wakes;		/* that found waiters, those passed on included */
	uint64_t claims;	/* exclusive waiters that wakes chose */
	uint64_t hand_ons;	/* wakes passed on from a waiter that could not use them */
	uint64_t recoveries;	/* times that its list was made anew */
	uint32_t rescues;	/* times that only the tick found a condition true */
	uint32_t waiters;
	uint32_t is_closed;
	uint32_t reserved;
} wq_queue_info;

#define WQ_EVALUATING 0u	/* awake, evaluating, or a set between its waits */
#define WQ_ASLEEP 1u		/* or just about to be */
#define WQ_CHOSEN 2u		/* by a wake */
#define WQ_GONE 3u		/* believed dead, or about to be taken off by its process */

typedef struct wq_waiter_info {
	const char *label;
	uint64_t participant;
	int64_t since;		/* waits: nanoseconds since 1970 */
	uint32_t process, thread;
	uint32_t state;		/* WQ_EVALUATING and so on */
	uint32_t flags;		/* WQ_EXCLUSIVE, WQ_PRIORITY */
	uint32_t is_persistent;	/* stays enrolled between waits */
	uint32_t key;
} wq_waiter_info;

typedef struct wq_object_info {
	const char *name;
	const char *tag;
	uint64_t size;
} wq_object_info;

/* Its parts; waiters are in the order of waking. -ENOENT: there are not so many. */
int wq_snapshot_region(const wq_snapshot *snapshot, wq_region_info *out);
int wq_snapshot_participant(const wq_snapshot *snapshot, uint32_t at, wq_participant_info *out);
int wq_snapshot_queue(const wq_snapshot *snapshot, uint32_t at, wq_queue_info *out);
int wq_snapshot_waiter(const wq_snapshot *snapshot, uint32_t queue, uint32_t at, wq_waiter_info *out);
int wq_snapshot_object(const wq_snapshot *snapshot, uint32_t at, wq_object_info *out);

int wq_snapshot_free(wq_snapshot *snapshot);

#ifdef __cplusplus
}
#endif

/* ---- What wq_wait_event_locked takes ---------------------------------------------------------------------------- */

static inline void wq_release_mutex_(pthread_mutex_t *lock)
{
	pthread_mutex_unlock(lock);
}

static inline int wq_retake_mutex_(pthread_mutex_t *lock)
{
	return -pthread_mutex_lock(lock);
}

static inline void wq_release_lock_(wq_lock *lock)
{
	wq_lock_unlock(lock);
}

static inline int wq_retake_lock_(wq_lock *lock)
{
	int status = wq_lock_lock(lock);
	return status < 0 ? status : 0;
}

#ifdef __cplusplus
inline void wq_release_(pthread_mutex_t *lock) { wq_release_mutex_(lock); }
inline void wq_release_(wq_lock *lock) { wq_release_lock_(lock); }
inline int wq_retake_(pthread_mutex_t *lock) { return wq_retake_mutex_(lock); }
inline int wq_retake_(wq_lock *lock) { return wq_retake_lock_(lock); }
#define WQ_RELEASE_(lock) wq_release_(lock)
#define WQ_RETAKE_(lock) wq_retake_(lock)
#else
#define WQ_RELEASE_(lock) _Generic((lock), pthread_mutex_t *: wq_release_mutex_, wq_lock *: wq_release_lock_)(lock)
#define WQ_RETAKE_(lock) _Generic((lock), pthread_mutex_t *: wq_retake_mutex_, wq_lock *: wq_retake_lock_)(lock)
#endif

#endif
