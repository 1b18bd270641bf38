/*
 * waitqueue: the Linux kernel's wait queues for processes that share memory, right even when one of them is killed.
 *
 * A process sleeps until a condition over shared memory is true; another makes it true and wakes the queue:
 *
 *     waiter    wq_queue_wait_event(queue, is_ready, ready);
 *     waker     atomic_store(ready, 1);  wq_queue_wake_up(queue, NULL);
 *
 * The order of the waker's two steps is all that the caller has to get right; the fences are inside. A wake is not an
 * event: it has no effect on later waiters, several may coalesce, and a condition may be evaluated without one.
 *
 * Threads, signals, fork
 * ----------------------
 * Threads. All functions may be called by any number of threads on the same handles at once, but for the two that
 * free a handle: wq_region_free and wq_queue_free. Freeing a queue's handle while another thread is inside a call on
 * it is an error, and is reported as -EBUSY where it is noticed. Every attached process has one more thread, the bell,
 * with all signals blocked; so attach after daemon(), unshare() and setns().
 *
 * Signals. No signal ends the waits declared here; handlers run, and the wait goes on. From a handler only
 * wq_region_me, wq_region_is_alive and wq_queue_has_sleepers may be called; any other call that meets an interrupted
 * one of the same thread returns -EDEADLK. Do not longjmp or throw out of a handler or a condition. SIGKILL may come
 * at any instruction of any function: the others lose nothing, and nothing has to be cleaned up.
 *
 * Fork. The child of fork() opens the region for itself. On inherited handles every call that would have to act returns
 * -ECHILD (those that find nothing to do, with no waiters or a condition that holds, answer as always); freeing them
 * is allowed and leaves the parent alone. After exec nothing is left: everything is close-on-exec.
 *
 * Stopped processes (SIGSTOP, a debugger) are alive, and keep what they hold.
 *
 * Building
 * --------
 *     cargo build --release -p waitqueue-ffi
 *     cc -I ffi/include program.c target/release/libwaitqueue_ffi.a -pthread -ldl -lm
 *
 * Conventions
 * -----------
 * Functions named after a type are its methods. Inputs come first, outputs last; nothing is both. Functions that
 * return int return 0 or a negative errno, and then have written nothing; predicates return 1 or 0 instead of 0. The
 * message of a thread's last failure is in wq_last_error. NULL is checked for, everywhere, and is -EINVAL; only where
 * it says so may an output be NULL, and is then not written. Names are UTF-8 of 1 to 63 bytes, those of regions are
 * names of POSIX shared memory objects: "/demo" is /dev/shm/demo. Handles are opaque and are freed by the function
 * that ends in _free, to which NULL is harmless.
 *
 * Errors that most functions may return, beside those that are listed: -ECHILD (after fork), -ESTALE (taken for dead
 * and the slot given away: free all handles and open again), -EDEADLK (from a signal handler), -EUCLEAN (the region is
 * damaged), -ETIME (a living process keeps a lock; the message names it), -ENOBUFS (a capacity is used up:
 * regions made here have the default sizes; for others let a Rust program create the region).
 */
#ifndef WAITQUEUE_H
#define WAITQUEUE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
#include <atomic>
typedef std::atomic<uint32_t> wq_u32;
typedef std::atomic<uint64_t> wq_u64;
extern "C" {
#else
#include <stdatomic.h>
typedef _Atomic(uint32_t) wq_u32;
typedef _Atomic(uint64_t) wq_u64;
#endif

/* A region to which this process is attached. */
typedef struct wq_region wq_region;

/* A wait queue in a region; keeps the region attached. */
typedef struct wq_queue wq_queue;

/* How many waiters a wake has reached. Those that were awake and evaluate by themselves are not counted. */
typedef struct wq_woken {
	uint32_t exclusive;
	uint32_t nonexclusive;
} wq_woken;

/*
 * A condition: nonzero if the wait is over. It may have side effects (take the item): once it has returned nonzero it
 * is not called again. It may wait itself.
 */
typedef int (*wq_condition)(void *context);

/* ---- The library ------------------------------------------------------------------------------------------------ */

/* The number of this interface: it changes when a program has to be compiled again. */
#define WQ_INTERFACE 1

/* The library's version, such as "0.1.0". */
const char *wq_version(void);

/* 0, or -EPROTO if the library at hand is not that of this header. Call it as wq_check(). */
int wq_check_interface(uint32_t interface_number, size_t size_of_woken, size_t size_of_u32, size_t size_of_u64);
#define wq_check() wq_check_interface(WQ_INTERFACE, sizeof(wq_woken), sizeof(wq_u32), sizeof(wq_u64))

/*
 * What the last failure of this thread was, with names and values, and what can be done about it; "" if there was
 * none. Valid until the thread's next failure.
 */
const char *wq_last_error(void);

/* ---- Regions ---------------------------------------------------------------------------------------------------- */

/*
 * Attach to a named region of default size: create it (-EEXIST), open it (-ENOENT), or either, whoever comes first.
 * What former participants left when they were killed is cleaned up. -EMEDIUMTYPE: the file is not a region. -EPROTO:
 * of another version. -EPERM, -EACCES: of somebody else. -ENOSPC.
 */
int wq_region_create(const char *name, wq_region **out);
int wq_region_open(const char *name, wq_region **out);
int wq_region_open_or_create(const char *name, wq_region **out);

/* Removes the name; those who are attached go on. -ENOENT. */
int wq_region_unlink(const char *name);

/*
 * Gives the handle back. The process detaches when the handles of all queues that were got from it are freed as well;
 * until then pointers to its objects are valid.
 */
void wq_region_free(wq_region *region);

/* This attachment's own id: never 0, never used again. */
int wq_region_me(const wq_region *region, uint64_t *out);

/*
 * 1 if that participant is attached and its process alive, else 0. Turns 0 only when nothing the process did can
 * happen any more, and then all waiters of the region evaluate their conditions: so a condition may ask this.
 */
int wq_region_is_alive(const wq_region *region, uint64_t participant);

/* The queue of that name, created open and empty at first use. -EEXIST: the name is in use for something else. */
int wq_region_queue(const wq_region *region, const char *name, wq_queue **out);

/*
 * The object of that name, zeroed at first use, exactly once also when processes race and are killed. It lives as
 * long as the region. Whoever opens it gives the same tag (1 to 31 bytes), size and alignment (at most 64); -EEXIST if
 * they differ. It is shared with processes that may change it at any time: declare all of it atomic, in fields of
 * fixed width, the 64-bit ones at multiples of 8.
 */
int wq_region_object(const wq_region *region, const char *name, const char *tag, size_t size, size_t alignment,
		     void **out);

/* A single number: what Rust programs call object::<AtomicU32> and object::<AtomicU64>. */
int wq_region_object_u32(const wq_region *region, const char *name, wq_u32 **out);
int wq_region_object_u64(const wq_region *region, const char *name, wq_u64 **out);

/* ---- Waiting ---------------------------------------------------------------------------------------------------- */

/*
 * Sleep until the condition is true. It is evaluated first; if it is true at once, nothing else happens. What a waker
 * did before its wake happens before the evaluation that follows. -ESHUTDOWN: the queue is or was closed while the
 * condition was false.
 *
 * _exclusive: one wake wakes one of them, oldest first; for conditions that take something. Who takes less than a wake
 * announced wakes the next. _timeout: for at most so many nanoseconds, -ETIMEDOUT if the condition is false at the
 * end; 0 is a poll, UINT64_MAX is for ever; *out is what is left of it, at least 1, and may be NULL.
 */
int wq_queue_wait_event(const wq_queue *queue, wq_condition condition, void *context);
int wq_queue_wait_event_timeout(const wq_queue *queue, wq_condition condition, void *context, uint64_t nanoseconds,
				uint64_t *out);
int wq_queue_wait_event_exclusive(const wq_queue *queue, wq_condition condition, void *context);
int wq_queue_wait_event_exclusive_timeout(const wq_queue *queue, wq_condition condition, void *context,
					  uint64_t nanoseconds, uint64_t *out);

/* ---- Waking ----------------------------------------------------------------------------------------------------- */

/*
 * Wake all non-exclusive waiters, and one, up to count, or all of the exclusive ones. If nobody waits, this is a fence
 * and a load. out may be NULL. A count of 0 is -EINVAL.
 */
int wq_queue_wake_up(const wq_queue *queue, wq_woken *out);
int wq_queue_wake_up_nr(const wq_queue *queue, uint32_t count, wq_woken *out);
int wq_queue_wake_up_all(const wq_queue *queue, wq_woken *out);

/*
 * Closes the queue for ever, for everybody: present and future waiters whose condition is false get -ESHUTDOWN. out is
 * how many there were, and may be NULL.
 */
int wq_queue_close(const wq_queue *queue, uint32_t *out);

/* 1 if anybody waits, else 0. If 0, whoever begins to wait from now on sees what the caller did before. */
int wq_queue_has_sleepers(const wq_queue *queue);

/* Gives the handle back. -EBUSY, and it is not freed, if another thread is inside a call on it. */
int wq_queue_free(wq_queue *queue);

#ifdef __cplusplus
}
#endif

#endif
