/* What the header promises of waits and wakes, in one process, call by call. */
#include "check.h"

static wq_region *region;
static wq_queue *queue;
static wq_u32 *count;

static void begin(char **args)
{
	region = attach(args[0]);
	queue = queue_of(region, "queue");
	count = number_of(region, "count");
}

static void end(void)
{
	IS(wq_region_check(region), 0);
	IS(wq_queue_has_sleepers(queue), 0);
	IS(wq_queue_free(queue), 0);
	IS(wq_region_free(region), 0);
}

/* A wait in another thread, in one of these ways. */
struct waiter {
	int (*wait)(struct waiter *);
	int status;
	uint64_t left;
	uint32_t fired;
	wq_wait_options options;
};

static void *wait_so(void *context)
{
	struct waiter *waiter = (struct waiter *)context;
	waiter->status = waiter->wait(waiter);
	return NULL;
}

static int plainly(struct waiter *waiter)
{
	(void)waiter;
	return wq_queue_wait_event(queue, take, count);
}

static int with_options(struct waiter *waiter)
{
	return wq_queue_wait_event_with(queue, take, count, &waiter->options, LONG, &waiter->left);
}

static int for_a_wake(struct waiter *waiter)
{
	return wq_queue_wait_woken(queue, &waiter->options, LONG, &waiter->left);
}

static int on_many(struct waiter *waiter)
{
	wq_source source;
	memset(&source, 0, sizeof source);
	source.queue = queue;
	source.condition = take;
	source.context = count;
	return wq_wait_many(&source, 1, &waiter->options, LONG, &waiter->fired);
}

static int in_a_set(struct waiter *waiter)
{
	wq_set *set;
	uint32_t member;
	int status;
	IS(wq_set_new(region, &set), 0);
	IS(wq_set_add(set, queue, take, count, NULL, &member), 0);
	status = wq_set_wait(set, &waiter->options, LONG, &waiter->fired);
	IS(wq_set_free(set), 0);
	return status;
}

static int in_turns(struct waiter *waiter)
{
	wq_wait wait;
	int status = wq_queue_prepare_to_wait(queue, &waiter->options, LONG, &wait);
	while (status == 0) {
		if (take(count)) {
			int64_t left = wq_wait_finish(&wait);
			waiter->left = (uint64_t)left;
			return left > 0 ? 0 : -1;
		}
		status = wq_wait_sleep(&wait);
	}
	return status;
}

static int (*const ways[])(struct waiter *) = { plainly, with_options, for_a_wake, on_many, in_a_set, in_turns };
#define WAYS (sizeof ways / sizeof *ways)

static pthread_t waiting(struct waiter *waiter, int (*way)(struct waiter *))
{
	memset(waiter, 0, sizeof *waiter);
	waiter->wait = way;
	waiter->options = wq_wait_options_default();
	waiter->status = 1;
	return start(wait_so, waiter);
}

static void every_way_sleeps_and_is_woken(char **args)
{
	begin(args);
	for (size_t way = 0; way < WAYS; way++) {
		struct waiter waiter;
		wq_woken woken = { 7, 7 };
		pthread_t thread = waiting(&waiter, ways[way]);
		UNTIL_ASLEEP(region, "queue", 1);
		IS(wq_queue_has_sleepers(queue), 1);
		IS(wq_queue_has_sleepers_without_fence(queue), 1);
		/* A wait uses its queue, but for a set, which has a handle of its own. */
		if (ways[way] != in_a_set)
			FAILS(wq_queue_free(queue), EBUSY, "waits on queue");
		put(count, 1);
		IS(wq_queue_wake_up(queue, 1, WQ_CLASS_ANY, WQ_KEY_ANY, &woken), 0);
		EXPECT(woken.exclusive == 0 && woken.nonexclusive == 1);
		JOIN(thread);
		IS(waiter.status, 0);
		EXPECT(ways[way] == plainly || ways[way] == on_many || ways[way] == in_a_set
		       || (waiter.left > 0 && waiter.left <= LONG));
		IS(get(count), ways[way] == for_a_wake ? 1 : 0);
		put(count, 0);
		IS(wq_queue_has_sleepers(queue), 0);
	}
	end();
}

static void every_way_is_ended_by_a_close(char **args)
{
	begin(args);
	for (size_t way = 0; way < WAYS; way++) {
		struct waiter waiter;
		char name[20];
		uint32_t closed = 7;
		pthread_t thread;
		wq_queue_free(queue);
		snprintf(name, sizeof name, "closing %d", (int)way);
		queue = queue_of(region, name);
		IS(wq_queue_is_closed(queue), 0);
		thread = waiting(&waiter, ways[way]);
		UNTIL_ASLEEP(region, name, 1);
		IS(wq_queue_close(queue, &closed), 0);
		IS(closed, 1);
		JOIN(thread);
		IS(waiter.status, -ESHUTDOWN);
		IS(waiter.left, 0);
		IS(wq_queue_is_closed(queue), 1);
		IS(wq_queue_close(queue, NULL), 0);
		if (ways[way] != in_a_set) {
			waiter.status = ways[way](&waiter);
			FAILS(waiter.status, ESHUTDOWN, name);
		}
		/* The condition beats a close. */
		put(count, 1);
		if (ways[way] != for_a_wake && ways[way] != in_a_set && ways[way] != in_turns)
			IS(ways[way](&waiter), 0);
		put(count, 0);
	}
	end();
}

static void every_way_is_ended_by_its_interrupter(char **args)
{
	wq_interrupter *interrupter;
	begin(args);
	IS(wq_interrupter_new(region, &interrupter), 0);
	for (size_t way = 1; way < WAYS; way++) {
		struct waiter waiter;
		pthread_t thread;
		memset(&waiter, 0, sizeof waiter);
		waiter.wait = ways[way];
		waiter.options = wq_wait_options_default();
		waiter.options.interrupter = interrupter;
		thread = start(wait_so, &waiter);
		UNTIL_ASLEEP(region, "queue", 1);
		FAILS(wq_interrupter_free(interrupter), EBUSY, "interrupter");
		IS(wq_interrupter_interrupt(interrupter), 0);
		JOIN(thread);
		IS(waiter.status, -EINTR);
		/* Kept for the next, if none listens. */
		IS(wq_interrupter_interrupt(interrupter), 0);
		IS(ways[way](&waiter), -EINTR);
	}
	IS(wq_interrupter_free(interrupter), 0);
	end();
}

static void polls_and_timeouts(char **args)
{
	uint64_t left = 7;
	wq_wait_options options = wq_wait_options_default();
	struct timespec before, after;
	begin(args);
	IS(wq_queue_wait_event(queue, always, NULL), 0);
	IS(wq_queue_wait_event_with(queue, never, NULL, NULL, 0, &left), -ETIMEDOUT);
	FAILS(wq_queue_wait_event_with(queue, never, NULL, &options, MS, &left), ETIMEDOUT, args[0]);
	EXPECT(strstr(wq_last_error(), "queue") != NULL);
	IS(wq_queue_wait_woken(queue, NULL, MS, &left), -ETIMEDOUT);
	IS(wq_queue_wait_woken(queue, NULL, 0, &left), -ETIMEDOUT);
	IS(left, 7);
	IS(wq_queue_wait_event_with(queue, always, NULL, NULL, 0, &left), 0);
	IS(left, 1);
	IS(wq_queue_wait_event_with(queue, always, NULL, NULL, MS, &left), 0);
	IS(left, MS);
	IS(wq_queue_wait_event_with(queue, always, NULL, NULL, WQ_FOREVER, &left), 0);
	IS(left, WQ_FOREVER);
	IS(wq_queue_wait_event_with(queue, always, NULL, NULL, WQ_FOREVER, NULL), 0);
	clock_gettime(CLOCK_MONOTONIC, &before);
	IS(wq_queue_wait_event_with(queue, never, NULL, NULL, 30 * MS, &left), -ETIMEDOUT);
	clock_gettime(CLOCK_MONOTONIC, &after);
	EXPECT((after.tv_sec - before.tv_sec) * 1000000000 + after.tv_nsec - before.tv_nsec >= 30000000);
	end();
}

static void null_pointers(char **args)
{
	wq_set *set;
	wq_source sources[2];
	wq_wait wait;
	wq_queue *other;
	uint32_t member = 7;
	begin(args);
	other = queue_of(region, "other");
	IS(wq_set_new(region, &set), 0);
	memset(sources, 0, sizeof sources);
	FAILS(wq_queue_wait_event(NULL, always, NULL), EINVAL, "queue is NULL");
	FAILS(wq_queue_wait_event(queue, NULL, NULL), EINVAL, "condition is NULL");
	FAILS(wq_queue_wait_event_with(NULL, always, NULL, NULL, 0, NULL), EINVAL, "queue is NULL");
	FAILS(wq_queue_wait_event_with(queue, NULL, NULL, NULL, 0, NULL), EINVAL, "condition is NULL");
	IS(wq_queue_wait_woken(NULL, NULL, 0, NULL), -EINVAL);
	IS(wq_queue_prepare_to_wait(NULL, NULL, 0, &wait), -EINVAL);
	IS(wq_wait_cancel(&wait), 0);
	IS(wq_queue_prepare_to_wait(queue, NULL, 0, NULL), -EINVAL);
	IS(wq_queue_begin_wait(NULL, NULL, 0, &wait), -EINVAL);
	IS(wq_queue_begin_wait(queue, NULL, 0, NULL), -EINVAL);
	IS(wq_wait_sleep(NULL), -EINVAL);
	IS(wq_wait_next(NULL, &member), -EINVAL);
	IS(wq_wait_was_chosen(NULL), -EINVAL);
	IS(wq_wait_was_first(NULL), -EINVAL);
	IS(wq_wait_finish(NULL), -EINVAL);
	IS(wq_wait_cancel(NULL), -EINVAL);
	IS(wq_wake_up((wq_queue *)NULL), -EINVAL);
	IS(wq_queue_wake_up(NULL, 1, 1, 1, NULL), -EINVAL);
	IS(wq_queue_wake_up_sync(NULL, NULL), -EINVAL);
	IS(wq_queue_close(NULL, NULL), -EINVAL);
	IS(wq_queue_is_closed(NULL), -EINVAL);
	IS(wq_queue_has_sleepers(NULL), -EINVAL);
	IS(wq_queue_has_sleepers_without_fence(NULL), -EINVAL);
	IS(wq_queue_free(NULL), 0);
	FAILS(wq_wait_many(NULL, 1, NULL, 0, &member), EINVAL, "sources are NULL");
	FAILS(wq_wait_many(NULL, 0, NULL, 0, &member), EINVAL, "number of queues");
	FAILS(wq_wait_many(sources, 0, NULL, 0, &member), EINVAL, "number of queues");
	FAILS(wq_wait_many(sources, 1, NULL, 0, NULL), EINVAL, "out is NULL");
	FAILS(wq_wait_many(sources, 1, NULL, 0, &member), EINVAL, "queue of a source is NULL");
	sources[0].queue = queue;
	FAILS(wq_wait_many(sources, 1, NULL, 0, &member), EINVAL, "condition of a source is NULL");
	sources[0].condition = never;
	sources[1] = sources[0];
	sources[1].condition = NULL;
	FAILS(wq_wait_many(sources, 2, NULL, 0, &member), EINVAL, "condition of a source is NULL");
	sources[1].queue = NULL;
	sources[1].condition = always;
	FAILS(wq_wait_many(sources, 2, NULL, 0, &member), EINVAL, "queue of a source is NULL");
	IS(wq_begin_wait_many(NULL, 2, NULL, 0, &wait), -EINVAL);
	IS(wq_begin_wait_many(sources, 2, NULL, 0, &wait), -EINVAL);
	IS(wq_begin_wait_many(sources, 1, NULL, 0, NULL), -EINVAL);
	IS(wq_set_add(NULL, queue, never, NULL, NULL, &member), -EINVAL);
	IS(wq_set_add(set, NULL, never, NULL, NULL, &member), -EINVAL);
	IS(wq_set_add(set, queue, never, NULL, NULL, NULL), -EINVAL);
	IS(wq_set_remove(NULL, 0), -EINVAL);
	IS(wq_set_wait(NULL, NULL, 0, &member), -EINVAL);
	IS(wq_set_wait(set, NULL, 0, NULL), -EINVAL);
	IS(wq_set_begin_wait(NULL, NULL, 0, &wait), -EINVAL);
	IS(wq_set_begin_wait(set, NULL, 0, NULL), -EINVAL);
	IS(wq_set_ask_all(NULL), -EINVAL);
	IS(wq_set_take_fired(NULL, 0, &member), -EINVAL);
	IS(wq_set_take_fired(set, 0, NULL), -EINVAL);
	IS(wq_set_free(NULL), 0);
	IS(member, 7);
	IS(wq_set_free(set), 0);
	IS(wq_queue_free(other), 0);
	end();
}

/* Conditions that hold cost their evaluation only, whatever else would fail. */
static void many_queues(char **args)
{
	wq_region *elsewhere;
	wq_queue *second, *foreign;
	wq_source sources[2];
	wq_wait_options options = wq_wait_options_default();
	wq_wait wait;
	uint32_t fired = 7;
	begin(args);
	second = queue_of(region, "second");
	IS(wq_region_create_memfd("elsewhere", NULL, &elsewhere), 0);
	foreign = queue_of(elsewhere, "queue");
	memset(sources, 0, sizeof sources);
	sources[0].queue = queue;
	sources[0].condition = never;
	sources[1].queue = second;
	sources[1].condition = never;
	IS(wq_wait_many(sources, 2, NULL, 0, &fired), -ETIMEDOUT);
	IS(wq_wait_many(sources, 2, NULL, MS, &fired), -ETIMEDOUT);
	sources[1].flags = 4;
	FAILS(wq_wait_many(sources, 2, NULL, 0, &fired), EINVAL, "unknown flags 0x4");
	sources[1].flags = WQ_EXCLUSIVE;
	options.flags = 64;
	FAILS(wq_wait_many(sources, 2, &options, 0, &fired), EINVAL, "unknown flags 0x40");
	sources[1].queue = foreign;
	FAILS(wq_wait_many(sources, 2, NULL, 0, &fired), EINVAL, "wait_many");
	sources[1].queue = second;
	/* The first in order; the same queue also twice. */
	IS(fired, 7);
	sources[1].condition = always;
	IS(wq_wait_many(sources, 2, NULL, WQ_FOREVER, &fired), 0);
	IS(fired, 1);
	sources[0].condition = always;
	sources[1].queue = queue;
	IS(wq_wait_many(sources, 2, NULL, WQ_FOREVER, &fired), 0);
	IS(fired, 0);
	sources[1].queue = second;
	sources[0].condition = sources[1].condition = NULL;

	/* By turns: a whole round before each sleep. */
	IS(wq_begin_wait_many(sources, 2, NULL, 10 * MS, &wait), 0);
	IS(wq_wait_next(&wait, &fired), 0);
	IS(fired, 0);
	IS(wq_wait_next(&wait, &fired), 0);
	IS(fired, 1);
	FAILS(wq_queue_free(second), EBUSY, "second");
	IS(wq_wait_next(&wait, &fired), 0);
	IS(fired, 0);
	EXPECT(wq_queue_has_sleepers(second) == 1);
	while (wq_wait_next(&wait, &fired) == 0)
		continue;
	EXPECT(strstr(wq_last_error(), "timed out") != NULL);
	EXPECT(wq_queue_has_sleepers(second) == 0);
	FAILS(wq_wait_next(&wait, &fired), EINVAL, "ended");

	IS(wq_queue_close(second, NULL), 0);
	sources[0].condition = sources[1].condition = never;
	FAILS(wq_wait_many(sources, 2, NULL, WQ_FOREVER, &fired), ESHUTDOWN, "second");
	sources[0].flags = WQ_EXCLUSIVE | WQ_PRIORITY;
	IS(wq_queue_prepare_to_wait(queue, NULL, WQ_FOREVER, &wait), 0);
	IS(wq_wait_cancel(&wait), 0);
	options = waiting_with(WQ_EXCLUSIVE | WQ_PRIORITY);
	IS(wq_queue_prepare_to_wait(queue, &options, WQ_FOREVER, &wait), 0);
	FAILS(wq_wait_many(sources, 1, NULL, WQ_FOREVER, &fired), EBUSY, "priority");
	IS(wq_wait_cancel(&wait), 0);
	IS(wq_queue_free(foreign), 0);
	IS(wq_region_free(elsewhere), 0);
	IS(wq_queue_free(second), 0);
	end();
}

static void *elsewhere_in(void *context)
{
	wq_wait *wait = (wq_wait *)context;
	uint32_t next = 7;
	FAILS(wq_wait_sleep(wait), EINVAL, "another thread's");
	IS(wq_wait_next(wait, &next), -EINVAL);
	IS(wq_wait_was_chosen(wait), -EINVAL);
	IS(wq_wait_was_first(wait), -EINVAL);
	IS(wq_wait_finish(wait), 0);
	IS(wq_wait_cancel(wait), 0);
	IS(next, 7);
	return NULL;
}

static void turn_by_turn(char **args)
{
	wq_wait wait, second;
	wq_wait_options options = waiting_with(WQ_EXCLUSIVE);
	begin(args);
	/* Never begun, and ended. */
	memset(&wait, 0, sizeof wait);
	FAILS(wq_wait_sleep(&wait), EINVAL, "has not begun");
	IS(wq_wait_cancel(&wait), 0);
	IS(wq_wait_finish(&wait), 0);
	IS(wq_queue_prepare_to_wait(queue, &options, WQ_FOREVER, &wait), 0);
	IS(wq_wait_was_first(&wait), 1);
	IS(wq_wait_was_chosen(&wait), 0);
	IS(wq_queue_has_sleepers(queue), 1);
	JOIN(start(elsewhere_in, &wait));
	IS(wq_queue_prepare_to_wait(queue, &options, 5 * MS, &second), 0);
	IS(wq_wait_was_first(&second), 0);
	FAILS(wq_queue_free(queue), EBUSY, "2 waits");
	IS(wq_wait_finish(&wait), INT64_MAX);
	IS(wq_wait_finish(&wait), 0);
	IS(wq_wait_cancel(&wait), 0);
	FAILS(wq_wait_sleep(&wait), EINVAL, "ended");
	while (wq_wait_sleep(&second) == 0)
		continue;
	EXPECT(strstr(wq_last_error(), "timed out") != NULL);
	IS(wq_wait_finish(&second), 0);
	IS(wq_queue_has_sleepers(queue), 0);

	/* begin_wait enrols only when the condition was false. */
	IS(wq_queue_begin_wait(queue, NULL, WQ_FOREVER, &wait), 0);
	IS(wq_queue_has_sleepers(queue), 0);
	IS(wq_wait_sleep(&wait), 0);
	IS(wq_queue_has_sleepers(queue), 1);
	/* A wake after an evaluation began keeps the sleep from happening. */
	IS(wq_wake_up(queue), 1);
	IS(wq_wait_sleep(&wait), 0);
	IS(wq_wait_finish(&wait), INT64_MAX);
	/* Of an exclusive one too, and nobody is charged with it. */
	IS(wq_queue_prepare_to_wait(queue, &options, WQ_FOREVER, &wait), 0);
	IS(wq_wake_up(queue), 0);
	IS(wq_wait_sleep(&wait), 0);
	IS(wq_wait_cancel(&wait), 0);

	/* Failures leave an empty wait. */
	IS(wq_queue_close(queue, NULL), 0);
	IS(wq_queue_prepare_to_wait(queue, NULL, WQ_FOREVER, &wait), 0);
	while (wq_wait_sleep(&wait) == 0)
		continue;
	EXPECT(strstr(wq_last_error(), "closed") != NULL);
	IS(wq_wait_cancel(&wait), 0);
	end();
}

static void *sleeps_exclusively(void *context)
{
	struct waiter *waiter = (struct waiter *)context;
	waiter->options.flags = WQ_EXCLUSIVE;
	waiter->status = with_options(waiter);
	return NULL;
}

/* Who is woken: counts, classes, keys, priority. */
static void wakes(char **args)
{
	struct waiter one[3];
	pthread_t threads[3];
	wq_wait first, other, third;
	wq_wait_options options = wq_wait_options_default();
	wq_woken woken = { 7, 7 };
	begin(args);
	FAILS(wq_queue_wake_up(queue, 0, WQ_CLASS_ANY, WQ_KEY_ANY, &woken), EINVAL, "WQ_ALL");
	EXPECT(woken.exclusive == 7 && woken.nonexclusive == 7);
	IS(wq_wake_up(queue), 0);
	IS(wq_wake_up_all(queue), 0);
	IS(wq_queue_wake_up(queue, WQ_ALL, WQ_CLASS_ANY, WQ_KEY_ANY, &woken), 0);
	EXPECT(woken.exclusive == 0 && woken.nonexclusive == 0);
	IS(wq_queue_wake_up(queue, 1, WQ_CLASS_ANY, WQ_KEY_ANY, NULL), 0);
	for (int at = 0; at < 3; at++) {
		memset(&one[at], 0, sizeof one[at]);
		one[at].options = wq_wait_options_default();
		threads[at] = start(sleeps_exclusively, &one[at]);
		UNTIL_ASLEEP(region, "queue", (unsigned)at + 1);
	}
	put(count, 1);
	IS(wq_wake_up(queue), 1);
	/* The oldest first. */
	JOIN(threads[0]);
	IS(waiters(region, "queue", WQ_ASLEEP), 2);
	IS(wq_queue_wake_up_sync(queue, &woken), 0);
	IS(woken.exclusive, 1);
	/* Chosen at once, its system call put off. */
	IS(waiters(region, "queue", WQ_ASLEEP), 1);
	put(count, 2);
	IS(wq_region_flush(region), 0);
	JOIN(threads[1]);
	IS(wq_wake_up_nr(queue, 5), 1);
	JOIN(threads[2]);
	for (int at = 0; at < 3; at++)
		IS(one[at].status, 0);
	IS(wq_region_flush(region), 0);

	/* Classes and keys: seen by what is left of a wait's sleep. */
	options.class_mask = WQ_CLASS_INTERRUPTIBLE;
	options.key = 6;
	options.flags = WQ_EXCLUSIVE;
	IS(wq_queue_prepare_to_wait(queue, &options, WQ_FOREVER, &first), 0);
	threads[0] = waiting(&one[0], plainly);
	UNTIL_ASLEEP(region, "queue", 1);
	IS(wq_wake_up_interruptible(queue), 0);
	IS(wq_wake_up_interruptible_nr(queue, 3), 0);
	IS(wq_wake_up_interruptible_all(queue), 0);
	IS(waiters(region, "queue", WQ_ASLEEP), 1);
	put(count, 1);
	/* The default class is UNINTERRUPTIBLE, which this meets; every key. */
	IS(wq_wake_up_poll(queue, 8), 1);
	JOIN(threads[0]);
	IS(wq_wait_cancel(&first), 0);

	options = waiting_with(WQ_EXCLUSIVE | WQ_PRIORITY);
	IS(wq_queue_prepare_to_wait(queue, &options, WQ_FOREVER, &first), 0);
	/* The condition may be true, and beats it. */
	IS(wq_queue_prepare_to_wait(queue, &options, WQ_FOREVER, &other), 0);
	FAILS(wq_wait_sleep(&other), EBUSY, "priority");
	FAILS(wq_wait_sleep(&other), EINVAL, "ended");
	IS(wq_queue_wait_event_with(queue, never, NULL, &options, WQ_FOREVER, NULL), -EBUSY);
	options.flags = WQ_PRIORITY;
	IS(wq_queue_prepare_to_wait(queue, &options, WQ_FOREVER, &other), 0);
	options.flags = WQ_EXCLUSIVE;
	IS(wq_queue_prepare_to_wait(queue, &options, WQ_FOREVER, &third), 0);
	IS(wq_wait_cancel(&first), 0);
	IS(wq_wait_cancel(&other), 0);
	IS(wq_wait_cancel(&third), 0);
	end();
}

static wq_set *shared_set;

static void *uses_a_foreign_set(void *context)
{
	uint32_t member = 7;
	wq_wait wait;
	(void)context;
	FAILS(wq_set_add(shared_set, queue, never, NULL, NULL, &member), EPERM, "thread that made it");
	IS(wq_set_remove(shared_set, 0), -EPERM);
	IS(wq_set_wait(shared_set, NULL, 0, &member), -EPERM);
	IS(wq_set_begin_wait(shared_set, NULL, 0, &wait), -EPERM);
	IS(wq_set_ask_all(shared_set), -EPERM);
	IS(wq_set_take_fired(shared_set, 0, &member), -EPERM);
	IS(wq_set_free(shared_set), -EPERM);
	IS(member, 7);
	return NULL;
}

static void sets(char **args)
{
	wq_region *elsewhere;
	wq_queue *second, *foreign;
	wq_wait_options options = waiting_with(WQ_EXCLUSIVE | WQ_PRIORITY);
	wq_wait wait, other;
	uint32_t one = 7, two = 7, fired = 7;
	begin(args);
	second = queue_of(region, "second");
	IS(wq_region_create_memfd("elsewhere", NULL, &elsewhere), 0);
	foreign = queue_of(elsewhere, "queue");
	IS(wq_set_new(region, &shared_set), 0);
	IS(wq_set_wait(shared_set, NULL, MS, &fired), -ETIMEDOUT);
	FAILS(wq_set_add(shared_set, foreign, never, NULL, NULL, &one), EINVAL, "queue of a set");
	options.flags = 128;
	FAILS(wq_set_add(shared_set, queue, never, NULL, &options, &one), EINVAL, "unknown flags");
	IS(one, 7);
	options.flags = WQ_EXCLUSIVE | WQ_PRIORITY;
	IS(wq_set_add(shared_set, queue, take, count, &options, &one), 0);
	FAILS(wq_set_add(shared_set, queue, never, NULL, &options, &two), EBUSY, "priority");
	IS(two, 7);
	IS(wq_set_add(shared_set, second, NULL, NULL, NULL, &two), 0);
	EXPECT(one != two);
	JOIN(start(uses_a_foreign_set, NULL));
	/* Its own handle of the queue. */
	IS(wq_queue_free(second), 0);
	second = queue_of(region, "second");
	put(count, 1);
	IS(wq_set_wait(shared_set, NULL, WQ_FOREVER, &fired), 0);
	IS(fired, one);
	FAILS(wq_set_wait(shared_set, NULL, WQ_FOREVER, &fired), EINVAL, "has no condition");
	IS(wq_wake_up(second), 1);
	IS(wq_wake_up(second), 1);
	IS(wq_set_take_fired(shared_set, two, &fired), 0);
	IS(fired, 2);
	IS(wq_set_take_fired(shared_set, two, &fired), 0);
	IS(fired, 0);
	FAILS(wq_set_take_fired(shared_set, 99, &fired), ENOENT, "member 99");

	/* Turn by turn, and what is not possible meanwhile. */
	IS(wq_set_ask_all(shared_set), 0);
	IS(wq_set_begin_wait(shared_set, NULL, WQ_FOREVER, &wait), 0);
	FAILS(wq_set_begin_wait(shared_set, NULL, WQ_FOREVER, &other), EBUSY, "under way");
	IS(wq_set_wait(shared_set, NULL, 0, &fired), -EBUSY);
	IS(wq_set_add(shared_set, second, never, NULL, NULL, &fired), -EBUSY);
	IS(wq_set_remove(shared_set, one), -EBUSY);
	IS(wq_set_ask_all(shared_set), -EBUSY);
	IS(wq_set_take_fired(shared_set, one, &fired), -EBUSY);
	IS(wq_set_free(shared_set), -EBUSY);
	do
		IS(wq_wait_next(&wait, &fired), 0);
	while (fired != two);
	IS(wq_wait_finish(&wait), INT64_MAX);
	IS(wq_set_remove(shared_set, two), 0);
	FAILS(wq_set_remove(shared_set, two), ENOENT, "there is no member");
	IS(wq_queue_has_sleepers(second), 0);
	IS(wq_set_wait(shared_set, NULL, MS, &fired), -ETIMEDOUT);
	IS(wq_queue_close(second, NULL), 0);
	FAILS(wq_set_add(shared_set, second, never, NULL, NULL, &fired), ESHUTDOWN, "second");
	IS(wq_queue_close(queue, NULL), 0);
	FAILS(wq_set_wait(shared_set, NULL, WQ_FOREVER, &fired), ESHUTDOWN, "queue");
	IS(wq_set_free(shared_set), 0);
	IS(wq_queue_free(second), 0);
	IS(wq_queue_free(foreign), 0);
	IS(wq_region_free(elsewhere), 0);
	end();
}

/* Members come and go for ever, and nothing grows. */
static void a_set_that_changes_does_not_grow(char **args)
{
	uint32_t member;
	long before = 0, after;
	begin(args);
	IS(wq_set_new(region, &shared_set), 0);
	for (int round = 0; round < 40000; round++) {
		if (round == 20000)
			before = (long)(uintptr_t)sbrk(0);
		if (wq_set_add(shared_set, queue, never, NULL, NULL, &member) != 0 || wq_set_remove(shared_set, member) != 0) {
			EXPECT(!"adds and removes");
			break;
		}
	}
	after = (long)(uintptr_t)sbrk(0);
	EXPECT(after - before < 200000);
	IS(wq_set_free(shared_set), 0);
	end();
}

/* A copy is no wait, whatever is done with it. */
static void a_copy(char **args)
{
	wq_wait wait, copy;
	begin(args);
	IS(wq_queue_prepare_to_wait(queue, NULL, LONG, &wait), 0);
	copy = wait;
	FAILS(wq_wait_sleep(&copy), EINVAL, "or a copy");
	IS(wq_wait_finish(&copy), 0);
	IS(wq_wait_cancel(&copy), 0);
	IS(wq_queue_has_sleepers(queue), 1);
	IS(wq_queue_free(queue), -EBUSY);
	IS(wq_wait_cancel(&wait), 0);
	end();
}

static wq_wait interrupted;
static wq_set *interrupted_set;
static volatile int from_handler[3];

static void calls_for_the_same(int signal)
{
	uint32_t at;
	(void)signal;
	from_handler[0] = wq_wait_cancel(&interrupted);
	from_handler[1] = wq_wait_next(&interrupted, &at);
	from_handler[2] = (int)wq_wait_finish(&interrupted);
}

/* A handler that has interrupted a sleep cannot end the wait under it. */
static void a_handler_of_the_sleeper(char **args)
{
	struct sigaction action;
	uint32_t member;
	begin(args);
	memset(&action, 0, sizeof action);
	action.sa_handler = calls_for_the_same;
	IS(sigaction(SIGALRM, &action, NULL), 0);
	for (int of_set = 0; of_set < 2; of_set++) {
		int status = 0;
		uint32_t at;
		if (of_set) {
			IS(wq_set_new(region, &interrupted_set), 0);
			IS(wq_set_add(interrupted_set, queue, NULL, NULL, NULL, &member), 0);
			IS(wq_set_begin_wait(interrupted_set, NULL, 1500 * MS, &interrupted), 0);
		} else {
			IS(wq_queue_begin_wait(queue, NULL, 1500 * MS, &interrupted), 0);
		}
		memset((void *)from_handler, 0, sizeof from_handler);
		alarm(1);
		while (status == 0)
			status = wq_wait_next(&interrupted, &at);
		IS(status, -ETIMEDOUT);
		for (int call = 0; call < 3; call++)
			IS(from_handler[call], -EDEADLK);
	}
	IS(wq_set_free(interrupted_set), 0);
	end();
}

int main(void)
{
	static const struct role roles[] = {
		{ "every_way_sleeps_and_is_woken", every_way_sleeps_and_is_woken },
		{ "every_way_is_ended_by_a_close", every_way_is_ended_by_a_close },
		{ "every_way_is_ended_by_its_interrupter", every_way_is_ended_by_its_interrupter },
		{ "polls_and_timeouts", polls_and_timeouts },
		{ "null_pointers", null_pointers },
		{ "many_queues", many_queues },
		{ "turn_by_turn", turn_by_turn },
		{ "wakes", wakes },
		{ "sets", sets },
		{ "a_set_that_changes_does_not_grow", a_set_that_changes_does_not_grow },
		{ "a_copy", a_copy },
		{ "a_handler_of_the_sleeper", a_handler_of_the_sleeper },
		{ NULL, NULL },
	};
	return play(roles);
}
