/* Threads that are cancelled, or end, while they wait or hold a lock. Nothing here is a cancellation point but conditions. */
#include "check.h"

static wq_region *region;
static wq_queue *queue;
static wq_u32 *count;
static wq_lock *locks[2];

static void begin(const char *name, uint64_t threads, uint64_t entries)
{
	wq_region_options options = wq_region_options_default();
	wq_robust_lock *words;
	options.flags = WQ_NO_TICK | WQ_NO_REGION_SPIN;
	options.threads = threads;
	options.entries = entries;
	IS(wq_region_open_or_create(name, &options, &region), 0);
	queue = queue_of(region, "queue");
	count = number_of(region, "count");
	IS(wq_region_object(region, "locks", "two", 2 * sizeof *words, 8, (void **)&words), 0);
	for (int at = 0; at < 2; at++)
		IS(wq_region_lock_at(region, &words[at], &locks[at]), 0);
}

static void end(void)
{
	IS(wq_region_check(region), 0);
	IS(wq_queue_has_sleepers(queue), 0);
	for (int at = 0; at < 2; at++)
		IS(wq_lock_free(locks[at]), 0);
	IS(wq_queue_free(queue), 0);
	IS(wq_region_free(region), 0);
}

/* How a condition ends its thread, from some evaluation on. */
enum ending { STAYS, EXITS, TESTS, IS_CANCELLED };
static __thread enum ending ending;
static __thread int evaluations, ends_at;

static int condition(void *context)
{
	if (++evaluations >= ends_at) {
		if (ending == EXITS)
			pthread_exit(NULL);
		if (ending == IS_CANCELLED)
			pthread_cancel(pthread_self());
		if (ending != STAYS)
			pthread_testcancel();
	}
	return take(context);
}

static uint32_t flags;

static int by_macro(void)
{
	wq_wait_options options = waiting_with(flags);
	return wq_wait_event_with(queue, condition(count), &options);
}

static int by_cmd(void)
{
	return flags & WQ_EXCLUSIVE ? wq_wait_event_exclusive_cmd(queue, condition(count), (void)0, (void)0)
				    : wq_wait_event_cmd(queue, condition(count), (void)0, (void)0);
}

static int by_function(void)
{
	wq_wait_options options = waiting_with(flags);
	return wq_queue_wait_event_with(queue, condition, count, &options, WQ_FOREVER, NULL);
}

static int on_many(void)
{
	wq_source sources[2];
	uint32_t fired;
	memset(sources, 0, sizeof sources);
	sources[0].queue = sources[1].queue = queue;
	sources[0].condition = never;
	sources[1].condition = condition;
	sources[1].context = count;
	sources[1].flags = flags;
	return wq_wait_many(sources, 2, NULL, WQ_FOREVER, &fired);
}

static int in_a_set(void)
{
	wq_wait_options options = waiting_with(flags);
	wq_set *set;
	uint32_t member;
	int status;
	IS(wq_set_new(region, &set), 0);
	IS(wq_set_add(set, queue, condition, count, &options, &member), 0);
	status = wq_set_wait(set, NULL, WQ_FOREVER, &member);
	IS(wq_set_free(set), 0);
	return status;
}

static int in_turns(void)
{
	wq_wait_options options = waiting_with(flags);
	wq_wait wait;
	int status = wq_queue_prepare_to_wait(queue, &options, WQ_FOREVER, &wait);
	while (status == 0 && !condition(count))
		status = wq_wait_sleep(&wait);
	wq_wait_finish(&wait);
	return status;
}

typedef int (*way)(void);
static const way ways[] = { by_macro, by_cmd, by_function, on_many, in_a_set, in_turns };
#define WAYS (sizeof ways / sizeof *ways)

struct waiter {
	way wait;
	enum ending ending;
	int ends_at;
	int status;
	int ended;
};

static void *wait_so(void *context)
{
	struct waiter *waiter = (struct waiter *)context;
	ending = waiter->ending;
	ends_at = waiter->ends_at;
	waiter->status = waiter->wait();
	waiter->ended = 1;
	return NULL;
}

static pthread_t waiting(struct waiter *waiter, way wait, enum ending how, int at)
{
	waiter->wait = wait;
	waiter->ending = how;
	waiter->ends_at = at;
	waiter->status = 77;
	waiter->ended = 0;
	return start(wait_so, waiter);
}

/* It leaves its queue, and a wake that had chosen it goes to the next waiter. */
static void a_thread_ends_in_a_condition(char **args)
{
	begin(args[0], 0, 0);
	for (uint32_t exclusive = 0; exclusive < 2; exclusive++)
		for (size_t at = 0; at < WAYS; at++)
			for (int cancelled = 0; cancelled < 2; cancelled++) {
				struct waiter waiter, next;
				pthread_t thread, other;
				flags = exclusive ? WQ_EXCLUSIVE : 0;
				line_now = 1000 + (int)at;
				/* At its third evaluation, after the first sleep: sets evaluate once before that. */
				thread = waiting(&waiter, ways[at], cancelled ? TESTS : EXITS, ways[at] == in_a_set || ways[at] == in_turns ? 2 : ways[at] == on_many ? 4 : 3);
				UNTIL_ASLEEP(region, "queue", 1);
				flags = WQ_EXCLUSIVE;
				other = waiting(&next, by_macro, STAYS, 0);
				UNTIL_ASLEEP(region, "queue", ways[at] == on_many ? 3 : 2);
				if (cancelled)
					pthread_cancel(thread);
				put(count, 1);
				EXPECT(wq_wake_up(queue) >= 1);
				JOIN(thread);
				JOIN(other);
				IS(waiter.status, 77);
				IS(next.status, 0);
				IS(get(count), 0);
				IS(wq_queue_has_sleepers(queue), 0);
				IS(wq_queue_free(queue), 0);
				queue = queue_of(region, "queue");
			}
	end();
}

/* At the very first evaluation, at the one that follows enrolling, and before any sleep. */
static void at_every_evaluation(char **args)
{
	begin(args[0], 0, 0);
	flags = WQ_EXCLUSIVE;
	for (size_t at = 0; at < WAYS; at++)
		for (int evaluation = 1; evaluation <= 2; evaluation++) {
			struct waiter waiter;
			pthread_t thread = waiting(&waiter, ways[at], EXITS, evaluation);
			if ((ways[at] == in_a_set || ways[at] == in_turns) && evaluation == 2) {
				UNTIL_ASLEEP(region, "queue", 1);
				IS(wq_wake_up(queue), 1);
			}
			JOIN(thread);
			IS(waiter.status, 77);
			IS(wq_queue_has_sleepers(queue), 0);
			IS(wq_queue_free(queue), 0);
			queue = queue_of(region, "queue");
		}
	end();
}

/* Hundreds of them use up nothing of a small region. */
static void hundreds_of_threads(char **args)
{
	begin(args[0], 3, 6);
	flags = WQ_EXCLUSIVE;
	for (int round = 0; round < 300 && failures == 0; round++) {
		struct waiter waiter;
		pthread_t thread = waiting(&waiter, ways[(size_t)round % WAYS], round / WAYS % 2 ? EXITS : IS_CANCELLED, 1);
		JOIN(thread);
		IS(waiter.ended, 0);
		IS(wq_queue_has_sleepers(queue), 0);
	}
	for (int round = 0; round < 60 && failures == 0; round++) {
		struct waiter waiter;
		way wait = ways[(size_t)round % WAYS];
		pthread_t thread = waiting(&waiter, wait, EXITS, wait == in_a_set || wait == in_turns ? 2 : 3);
		/* After a sleep. */
		while (wq_queue_has_sleepers(queue) == 0 && pthread_tryjoin_np(thread, NULL) == EBUSY)
			nap();
		if (wait != on_many)
			UNTIL_ASLEEP(region, "queue", 1);
		EXPECT(wq_wake_up(queue) >= 0);
		UNTIL(wq_queue_has_sleepers(queue) == 0);
		pthread_join(thread, NULL);
		IS(waiter.ended, 0);
	}
	end();
}

static wq_u32 result;

static void *sleeps_deaf(void *context)
{
	int status = (*(way *)context)();
	put(&result, status == 0 ? 1 : 2);
	pthread_testcancel();
	put(&result, 3);
	return NULL;
}

static int until_woken(void)
{
	return wq_queue_wait_woken(queue, NULL, WQ_FOREVER, NULL);
}

static int for_a_lock(void)
{
	int status = wq_lock_lock(locks[0]);
	wq_lock_unlock(locks[0]);
	return status;
}

/* A cancellation that is pending ends no wait: the thread ends where it asks. */
static void no_cancellation_points(char **args)
{
	begin(args[0], 0, 0);
	flags = 0;
	for (size_t at = 0; at < WAYS + 2; at++) {
		way wait = at < WAYS ? ways[at] : at == WAYS ? until_woken : for_a_lock;
		void *end_of_it = NULL;
		pthread_t thread;
		put(&result, 0);
		if (wait == for_a_lock)
			IS(wq_lock_lock(locks[0]), 0);
		thread = start(sleeps_deaf, &wait);
		if (wait == for_a_lock)
			usleep(5000);
		else
			UNTIL_ASLEEP(region, "queue", 1);
		IS(pthread_cancel(thread), 0);
		usleep(3000);
		IS(get(&result), 0);
		if (wait != for_a_lock) {
			UNTIL_ASLEEP(region, "queue", 1);
			/* Nor when it is woken for nothing. */
			if (wait != until_woken)
				EXPECT(wq_wake_up(queue) >= 1);
			usleep(1000);
			UNTIL_ASLEEP(region, "queue", 1);
			put(count, 1);
			EXPECT(wq_wake_up(queue) >= 1);
		} else {
			IS(wq_lock_unlock(locks[0]), 0);
		}
		IS(pthread_join(thread, &end_of_it), 0);
		EXPECT(end_of_it == PTHREAD_CANCELED);
		IS(get(&result), 1);
		put(count, 0);
	}
	end();
}

/* All calls that do not wait, with a cancellation pending. */
static void *calls_everything(void *context)
{
	wq_region *again;
	wq_queue *other;
	wq_lock *lock;
	wq_snapshot *snapshot;
	wq_set *set;
	wq_interrupter *interrupter;
	wq_robust_lock *word;
	uint32_t member, out;
	uint64_t me;
	pthread_cancel(pthread_self());
	IS(wq_region_open((const char *)context, NULL, &again), 0);
	IS(wq_region_me(again, &me), 0);
	other = queue_of(again, "other");
	number_of(again, "another");
	IS(wq_region_object(again, "word", "word", sizeof *word, 8, (void **)&word), 0);
	IS(wq_region_lock_at(again, word, &lock), 0);
	IS(wq_lock_lock(lock), 0);
	IS(wq_lock_repaired(lock), 0);
	IS(wq_lock_unlock(lock), 0);
	IS(wq_lock_free(lock), 0);
	IS(wq_region_snapshot(again, &snapshot), 0);
	IS(wq_snapshot_free(snapshot), 0);
	IS(wq_inspect((const char *)context, NULL, &snapshot), 0);
	IS(wq_snapshot_free(snapshot), 0);
	IS(wq_interrupter_new(again, &interrupter), 0);
	IS(wq_interrupter_free(interrupter), 0);
	IS(wq_set_new(again, &set), 0);
	IS(wq_set_add(set, other, never, NULL, NULL, &member), 0);
	IS(wq_wake_up_all(other), 1);
	IS(wq_queue_wake_up_sync(other, NULL), 0);
	IS(wq_region_flush(again), 0);
	IS(wq_set_take_fired(set, member, &out), 0);
	IS(wq_set_wait(set, NULL, MS, &out), -ETIMEDOUT);
	IS(wq_set_free(set), 0);
	IS(wq_queue_wait_event_with(other, never, NULL, NULL, MS, NULL), -ETIMEDOUT);
	IS(wq_region_check(again), 0);
	EXPECT(close(wq_region_fd(again)) == 0 || 1);
	return NULL;
}

static void *calls_nearly_everything(void *context)
{
	wq_region *again = NULL;
	wq_queue *other;
	pthread_cancel(pthread_self());
	IS(wq_region_open((const char *)context, NULL, &again), 0);
	other = queue_of(again, "another one");
	IS(wq_queue_close(other, NULL), 0);
	IS(wq_queue_free(other), 0);
	IS(wq_region_free(again), 0);
	put(&result, 7);
	return NULL;
}

static void no_call_is_one(char **args)
{
	void *end_of_it = NULL;
	pthread_t thread;
	begin(args[0], 0, 0);
	thread = start(calls_nearly_everything, args[0]);
	IS(pthread_join(thread, &end_of_it), 0);
	EXPECT(end_of_it == NULL);
	IS(get(&result), 7);
	/* (`close` is one, at last.) */
	thread = start(calls_everything, args[0]);
	IS(pthread_join(thread, &end_of_it), 0);
	EXPECT(end_of_it == PTHREAD_CANCELED);
	end();
}

static void *ends_inside(void *context)
{
	IS(wq_lock_lock(locks[0]), 0);
	add((wq_u32 *)context, 1);
	while (sleep(1) == 0)
		continue;
	return NULL;
}

static int exits(void)
{
	pthread_exit(NULL);
	return 0;
}

static void *ends_in_a_locked_wait(void *context)
{
	(void)context;
	IS(wq_lock_lock(locks[0]), 0);
	wq_wait_event_locked(queue, get(count) != 0 && exits(), locks[0]);
	return NULL;
}

/* Holding a lock: the next owner learns of it. */
static void a_thread_ends_with_a_lock(char **args)
{
	pthread_t thread;
	begin(args[0], 0, 0);
	put(&result, 0);
	thread = start(ends_inside, &result);
	UNTIL(get(&result) == 1);
	pthread_cancel(thread);
	JOIN(thread);
	IS(wq_lock_lock(locks[0]), 1);
	IS(wq_lock_repaired(locks[0]), 0);
	IS(wq_lock_unlock(locks[0]), 0);
	IS(wq_lock_free(locks[0]), 0);
	IS(wq_region_lock_at(region, (wq_robust_lock *)NULL, &locks[0]), -EINVAL);
	{
		wq_robust_lock *words;
		IS(wq_region_object(region, "locks", "two", 2 * sizeof *words, 8, (void **)&words), 0);
		IS(wq_region_lock_at(region, &words[0], &locks[0]), 0);
	}
	thread = start(ends_in_a_locked_wait, NULL);
	UNTIL_ASLEEP(region, "queue", 1);
	put(count, 1);
	IS(wq_wake_up(queue), 1);
	JOIN(thread);
	IS(wq_queue_has_sleepers(queue), 0);
	IS(wq_lock_lock(locks[0]), 1);
	IS(wq_lock_repaired(locks[0]), 0);
	IS(wq_lock_unlock(locks[0]), 0);
	end();
}

#ifdef __cplusplus
static int throws(void)
{
	throw 5;
}

static void *throws_out(void *context)
{
	int caught = 0;
	try {
		wq_wait_event_exclusive(queue, get(count) != 0 && throws());
	} catch (int number) {
		caught = number;
	}
	*(int *)context = caught;
	return NULL;
}

/* Out of an expression, with the thread living on. */
static void an_exception(char **args)
{
	int caught = 0;
	struct waiter next;
	pthread_t thread, other;
	begin(args[0], 0, 0);
	put(count, 1);
	throws_out(&caught);
	IS(caught, 5);
	put(count, 0);
	IS(wq_queue_has_sleepers(queue), 0);
	caught = 0;
	thread = start(throws_out, &caught);
	UNTIL_ASLEEP(region, "queue", 1);
	flags = WQ_EXCLUSIVE;
	other = waiting(&next, by_macro, STAYS, 0);
	UNTIL_ASLEEP(region, "queue", 2);
	put(count, 1);
	IS(wq_wake_up(queue), 1);
	JOIN(thread);
	JOIN(other);
	IS(caught, 5);
	IS(next.status, 0);
	IS(get(count), 0);
	end();
}
#endif

int main(void)
{
	static const struct role roles[] = {
		{ "a_thread_ends_in_a_condition", a_thread_ends_in_a_condition },
		{ "at_every_evaluation", at_every_evaluation },
		{ "hundreds_of_threads", hundreds_of_threads },
		{ "no_cancellation_points", no_cancellation_points },
		{ "no_call_is_one", no_call_is_one },
		{ "a_thread_ends_with_a_lock", a_thread_ends_with_a_lock },
#ifdef __cplusplus
		{ "an_exception", an_exception },
#endif
		{ NULL, NULL },
	};
	return play(roles);
}
