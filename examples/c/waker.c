/*
 * Says that it is ready, and wakes another program: waiter.c, or its sister in Rust. Run both in any order; the argument names
 * the region.
 *
 *     cc -o waker waker.c $(pkg-config --cflags --libs waitqueue)
 *     ./waker /demo
 */
#include <stdio.h>
#include <stdlib.h>
#include <waitqueue.h>

static void check(int status)
{
	if (status < 0) {
		fprintf(stderr, "waker: %s\n", wq_last_error());
		exit(1);
	}
}

int main(int argc, char **argv)
{
	wq_region *region;
	wq_queue *queue;
	wq_u32 *ready;
	int woken;

	check(wq_check());
	check(wq_region_open_or_create(argc > 1 ? argv[1] : "/demo", NULL, &region));
	check(wq_region_object_u32(region, "ready", &ready));
	check(wq_region_queue(region, "ready-queue", &queue));
	atomic_store(ready, 1);
	check(woken = wq_wake_up(queue));
	printf("woke %d\n", woken);
	wq_queue_free(queue);
	wq_region_free(region);
	return 0;
}
