/*
 * Waits until another program says that it is ready: waker.c, or its sister in Rust. Run both in any order; the argument names
 * the region.
 *
 *     cc -o waiter waiter.c $(pkg-config --cflags --libs waitqueue)
 *     ./waiter /demo
 */
#include <stdio.h>
#include <stdlib.h>
#include <waitqueue.h>

static void check(int status)
{
	if (status < 0) {
		fprintf(stderr, "waiter: %s\n", wq_last_error());
		exit(1);
	}
}

int main(int argc, char **argv)
{
	wq_region *region;
	wq_queue *queue;
	wq_u32 *ready;

	check(wq_check());
	check(wq_region_open_or_create(argc > 1 ? argv[1] : "/demo", NULL, &region));
	check(wq_region_object_u32(region, "ready", &ready));
	check(wq_region_queue(region, "ready-queue", &queue));
	check(wq_wait_event(queue, atomic_exchange(ready, 0) != 0));
	puts("ready");
	wq_queue_free(queue);
	wq_region_free(region);
	return 0;
}
