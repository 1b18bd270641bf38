/*
 * A bounded queue between processes: producers and consumers over a ring in shared memory, any of which may be killed at any
 * instruction. In as many terminals as you like, and with kill -9 as often as you like:
 *
 *     cc -o queue queue.c $(pkg-config --cflags --libs waitqueue)
 *     ./queue /ring put 1000      puts the numbers from 1 to 1000
 *     ./queue /ring take          takes numbers, until the end
 *     ./queue /ring end           waits until all are taken, says how many there were, and ends it
 *
 * A robust lock guards the ring and its books, and each change is noted before it is made: so whoever gets the lock after a
 * death inside puts things back. Nothing is lost between a change and its wake either: after a death all waiters look.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <waitqueue.h>

#define ROOM 8

/* How many numbers were put and taken so far, and what they add up to. */
struct books {
	wq_u64 put, taken;
	wq_u64 sum_put, sum_taken;
};

/* What lies in the region: all zero is an empty ring. */
struct ring {
	wq_queue_head not_empty, not_full;
	wq_robust_lock lock;
	wq_u64 is_changing;	/* 1 while the books are being changed, */
	struct books before;	/* and then this is what they were. */
	struct books books;
	wq_u64 numbers[ROOM];
};

static struct ring *ring;
static wq_queue *not_empty, *not_full;
static wq_lock *lock;

static int64_t check(int64_t status)
{
	if (status < 0) {
		fprintf(stderr, "queue: %s\n", wq_last_error());
		exit(1);
	}
	return status;
}

static void copy(struct books *to, const struct books *from)
{
	to->put = from->put;
	to->taken = from->taken;
	to->sum_put = from->sum_put;
	to->sum_taken = from->sum_taken;
}

static void begin_change(void)
{
	copy(&ring->before, &ring->books);
	ring->is_changing = 1;
}

static void end_change(void)
{
	ring->is_changing = 0;
}

/* If somebody has died with the lock, what he had begun to change is as if he had not begun. */
static void repair(void)
{
	if (check(wq_lock_owner_died(lock))) {
		if (ring->is_changing)
			copy(&ring->books, &ring->before);
		end_change();
		check(wq_lock_repaired(lock));
	}
}

/* Conditions, evaluated with the lock held. They do what they ask for, if that is possible. */
static int put(uint64_t number)
{
	struct books *books = &ring->books;

	repair();
	if (books->put - books->taken == ROOM)
		return 0;
	begin_change();
	ring->numbers[books->put % ROOM] = number;
	books->sum_put += number;
	books->put += 1;
	end_change();
	return 1;
}

static int take(uint64_t *number)
{
	struct books *books = &ring->books;

	repair();
	if (books->put == books->taken)
		return 0;
	begin_change();
	*number = ring->numbers[books->taken % ROOM];
	books->sum_taken += *number;
	books->taken += 1;
	end_change();
	return 1;
}

static int is_empty(void)
{
	repair();
	return ring->books.put == ring->books.taken;
}

/* Producers and consumers are exclusive: one number, or one free place, is of use to one of them only. */
static void put_all(uint64_t count)
{
	uint64_t number;

	for (number = 1; number <= count; number++) {
		check(wq_lock_lock(lock));
		check(wq_wait_event_locked_with(not_full, put(number), lock, WQ_FOREVER,
						WQ_WAIT_OPTIONS(.flags = WQ_EXCLUSIVE)));
		check(wq_lock_unlock(lock));
		check(wq_wake_up(not_empty));
	}
	printf("put %" PRIu64 "\n", count);
}

static void take_all(void)
{
	uint64_t number, count = 0;
	int64_t status;

	for (;;) {
		check(wq_lock_lock(lock));
		status = wq_wait_event_locked_with(not_empty, take(&number), lock, WQ_FOREVER,
						   WQ_WAIT_OPTIONS(.flags = WQ_EXCLUSIVE));
		if (status == -ESHUTDOWN)
			break;
		check(status);
		check(wq_lock_unlock(lock));
		check(wq_wake_up(not_full));
		count++;
	}
	check(wq_lock_unlock(lock));
	printf("took %" PRIu64 "\n", count);
}

/* Not exclusive: every wake of not_full reaches this one too, and takes none from a producer. */
static void end(void)
{
	struct books *books = &ring->books;

	check(wq_lock_lock(lock));
	check(wq_wait_event_locked(not_full, is_empty(), lock));
	check(wq_queue_close(not_empty, NULL));
	printf("put %" PRIu64 ", sum %" PRIu64 "; ", books->put, books->sum_put);
	printf("taken %" PRIu64 ", sum %" PRIu64 "\n", books->taken, books->sum_taken);
	check(wq_lock_unlock(lock));
}

int main(int argc, char **argv)
{
	const char *name = argc > 2 ? argv[1] : NULL, *what = argc > 2 ? argv[2] : "";
	wq_region *region;
	void *object;

	if (argc != (strcmp(what, "put") == 0 ? 4 : 3)) {
		fprintf(stderr, "usage: %s /NAME put COUNT | take | end\n", argv[0]);
		return 2;
	}
	check(wq_check());
	check(wq_region_open_or_create(name, NULL, &region));
	check(wq_region_object(region, "ring", "ring v1", sizeof(struct ring), _Alignof(struct ring), &object));
	ring = object;
	check(wq_region_queue_at(region, &ring->not_empty, &not_empty));
	check(wq_region_queue_at(region, &ring->not_full, &not_full));
	check(wq_region_lock_at(region, &ring->lock, &lock));

	if (argc == 4) {
		put_all(strtoull(argv[3], NULL, 10));
	} else if (strcmp(what, "take") == 0) {
		take_all();
	} else {
		end();
		check(wq_region_unlink(name));
	}

	wq_lock_free(lock);
	wq_queue_free(not_full);
	wq_queue_free(not_empty);
	wq_region_free(region);
	return 0;
}
