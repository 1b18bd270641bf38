/*
 * One thread that waits on many queues: four mailboxes, and one more queue by which it is told to stop.
 *
 *     cc -o many many.c $(pkg-config --cflags --libs waitqueue)
 *     ./many /post once           receives, enrolling on all queues anew for each wait: wq_wait_many
 *     ./many /post set            receives, staying enrolled on them: a set, better the more queues there are
 *     ./many /post send 2         sends a letter to mailbox 2 (of 0 to 3)
 *     ./many /post stop           stops one receiver
 *
 * Ctrl-C stops a receiver too.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <waitqueue.h>

#define BOXES 4
#define STOP BOXES	/* As the place of a queue: the one behind the mailboxes. */

static wq_region *region;
static wq_queue *queues[BOXES + 1];
static wq_u32 *counts[BOXES + 1];	/* Letters in the mailboxes; receivers that are to stop. */
static wq_interrupter *interrupter;

static int check(int status)
{
	if (status < 0) {
		fprintf(stderr, "many: %s\n", wq_last_error());
		exit(1);
	}
	return status;
}

/* The condition of each queue: takes one, if there is one. (As an exclusive waiter: nobody else needs to wake for it.) */
static int take_one(void *context)
{
	wq_u32 *count = context;
	uint32_t seen = atomic_load(count);

	while (seen != 0)
		if (atomic_compare_exchange_weak(count, &seen, seen - 1))
			return 1;
	return 0;
}

/* Whether to go on after a wait that returned this, and what it found at this place. */
static int receive(int status, uint32_t at)
{
	if (status == -EINTR) {
		puts("interrupted");
		return 0;
	}
	check(status);
	if (at == STOP) {
		puts("stopped");
		return 0;
	}
	printf("a letter in mailbox %u\n", at);
	fflush(stdout);
	return 1;
}

static void receive_with_wait_many(const wq_wait_options *options)
{
	wq_source sources[BOXES + 1];
	uint32_t at;
	int status;

	/* The first whose condition is true is returned; to look for the order to stop first, make it the first. */
	for (at = 0; at <= STOP; at++)
		sources[at] = (wq_source){
			.queue = queues[at], .condition = take_one, .context = counts[at], .flags = WQ_EXCLUSIVE
		};
	do
		status = wq_wait_many(sources, BOXES + 1, options, WQ_FOREVER, &at);
	while (receive(status, at));
}

static void receive_with_set(const wq_wait_options *options)
{
	uint32_t at, member, members[BOXES + 1];
	wq_set *set;
	int status;

	check(wq_set_new(region, &set));
	for (at = 0; at <= STOP; at++)
		check(wq_set_add(set, queues[at], take_one, counts[at], WQ_WAIT_OPTIONS(.flags = WQ_EXCLUSIVE),
				 &members[at]));
	do {
		status = wq_set_wait(set, options, WQ_FOREVER, &member);
		for (at = 0; status == 0 && members[at] != member; at++)
			;
	} while (receive(status, at));
	check(wq_set_free(set));
}

/* An interrupt is kept for the next wait, if there is none now: so none is lost. */
static void on_signal(int signal)
{
	(void)signal;
	wq_interrupter_interrupt(interrupter);
}

static void send_to(uint32_t at)
{
	atomic_fetch_add(counts[at], 1);
	check(wq_wake_up(queues[at]));
}

int main(int argc, char **argv)
{
	const char *what = argc > 2 ? argv[2] : "";
	const wq_wait_options *options;
	char name[16];
	uint32_t at;

	check(wq_check());
	check(wq_region_open_or_create(argc > 1 ? argv[1] : "/post", NULL, &region));
	for (at = 0; at <= STOP; at++) {
		snprintf(name, sizeof name, at == STOP ? "stop" : "mailbox %u", at);
		check(wq_region_queue(region, name, &queues[at]));
		snprintf(name, sizeof name, at == STOP ? "stops" : "letters %u", at);
		check(wq_region_object_u32(region, name, &counts[at]));
	}
	check(wq_interrupter_new(region, &interrupter));
	signal(SIGINT, on_signal);
	options = WQ_WAIT_OPTIONS(.interrupter = interrupter);

	if (strcmp(what, "once") == 0) {
		receive_with_wait_many(options);
	} else if (strcmp(what, "set") == 0) {
		receive_with_set(options);
	} else if (strcmp(what, "send") == 0 && argc == 4 && strtoul(argv[3], NULL, 10) < BOXES) {
		send_to((uint32_t)strtoul(argv[3], NULL, 10));
	} else if (strcmp(what, "stop") == 0) {
		send_to(STOP);
	} else {
		fprintf(stderr, "usage: %s /NAME once | set | send BOX | stop\n", argv[0]);
		return 2;
	}

	check(wq_interrupter_free(interrupter));
	for (at = 0; at <= STOP; at++)
		check(wq_queue_free(queues[at]));
	check(wq_region_free(region));
	return 0;
}
