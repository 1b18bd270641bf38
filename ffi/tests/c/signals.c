/* Signals in waits, with SA_RESTART and without, and what may be called from their handlers. */
#include "check.h"

static wq_region *region;
static wq_queue *queue;
static wq_u32 *count;
static wq_lock *locks[2];
static wq_interrupter *interrupter;

static wq_u32 handled;
static void (*volatile action)(void);

static void handler(int signal)
{
	int kept = errno;
	(void)signal;
	if (action != NULL)
		action();
	add(&handled, 1);
	errno = kept;
}

static void install(int signal, int flags)
{
	struct sigaction how;
	memset(&how, 0, sizeof how);
	how.sa_handler = handler;
	how.sa_flags = flags;
	IS(sigaction(signal, &how, NULL), 0);
}

static void begin(char **args)
{
	wq_robust_lock *words;
	region = attach(args[0]);
	queue = queue_of(region, "queue");
	count = number_of(region, "count");
	IS(wq_region_object(region, "locks", "two", 2 * sizeof *words, 8, (void **)&words), 0);
	for (int at = 0; at < 2; at++)
		IS(wq_region_lock_at(region, &words[at], &locks[at]), 0);
	IS(wq_interrupter_new(region, &interrupter), 0);
}

static void end(void)
{
	IS(wq_region_check(region), 0);
	IS(wq_queue_has_sleepers(queue), 0);
	IS(wq_interrupter_free(interrupter), 0);
	for (int at = 0; at < 2; at++)
		IS(wq_lock_free(locks[at]), 0);
	IS(wq_queue_free(queue), 0);
	IS(wq_region_free(region), 0);
}

static int with(uint32_t flags)
{
	wq_wait_options options = waiting_with(flags);
	return wq_queue_wait_event_with(queue, take, count, &options, WQ_FOREVER, NULL);
}

static int for_a_wake(uint32_t flags)
{
	wq_wait_options options = waiting_with(flags);
	return wq_queue_wait_woken(queue, &options, WQ_FOREVER, NULL);
}

static int on_many(uint32_t flags)
{
	wq_wait_options options = waiting_with(flags);
	wq_source source;
	uint32_t fired;
	memset(&source, 0, sizeof source);
	source.queue = queue;
	source.condition = take;
	source.context = count;
	return wq_wait_many(&source, 1, &options, LONG, &fired);
}

static int in_a_set(uint32_t flags)
{
	wq_wait_options options = waiting_with(flags);
	wq_set *set;
	uint32_t member;
	int status;
	IS(wq_set_new(region, &set), 0);
	IS(wq_set_add(set, queue, take, count, NULL, &member), 0);
	status = wq_set_wait(set, &options, WQ_FOREVER, &member);
	IS(wq_set_free(set), 0);
	return status;
}

static int in_turns(uint32_t flags)
{
	wq_wait_options options = waiting_with(flags);
	wq_wait wait;
	int status = wq_queue_prepare_to_wait(queue, &options, WQ_FOREVER, &wait);
	while (status == 0 && !take(count))
		status = wq_wait_sleep(&wait);
	wq_wait_finish(&wait);
	return status;
}

/* The macros, which say by their names what the flags say. */
static int by_macro(uint32_t flags)
{
	switch (flags) {
	case 0:
		return wq_wait_event(queue, take(count));
	case WQ_INTERRUPTIBLE:
		return wq_wait_event_interruptible(queue, take(count));
	default:
		return wq_wait_event_killable(queue, take(count));
	}
}

static int by_timed_macro(uint32_t flags)
{
	int64_t left = flags == 0                  ? wq_wait_event_timeout(queue, take(count), LONG)
		       : flags == WQ_INTERRUPTIBLE ? wq_wait_event_interruptible_timeout(queue, take(count), LONG)
						   : wq_wait_event_killable_timeout(queue, take(count), LONG);
	return left > 0 ? 0 : (int)left;
}

static int by_exclusive_macro(uint32_t flags)
{
	return flags == 0                  ? wq_wait_event_exclusive(queue, take(count))
	       : flags == WQ_INTERRUPTIBLE ? wq_wait_event_interruptible_exclusive(queue, take(count))
					   : with(WQ_EXCLUSIVE | WQ_KILLABLE);
}

typedef int (*way)(uint32_t flags);
static const way ways[] = { with, for_a_wake, on_many, in_a_set, in_turns, by_macro, by_timed_macro, by_exclusive_macro };
#define WAYS (sizeof ways / sizeof *ways)

struct waiter {
	way wait;
	uint32_t flags;
	int status;
	wq_u32 over;
	wq_u32 thread;
};

static void *wait_so(void *context)
{
	struct waiter *waiter = (struct waiter *)context;
	put(&waiter->thread, (uint32_t)syscall(SYS_gettid));
	waiter->status = waiter->wait(waiter->flags);
	put(&waiter->over, 1);
	return NULL;
}

static pthread_t waiting(struct waiter *waiter, way wait, uint32_t flags)
{
	pthread_t thread;
	waiter->wait = wait;
	waiter->flags = flags;
	waiter->status = 77;
	put(&waiter->over, 0);
	thread = start(wait_so, waiter);
	UNTIL_ASLEEP(region, "queue", 1);
	return thread;
}

/* Until the wait is over: a handler may run just before the sleep, and then it does not end it. */
static void signal_until_over(struct waiter *waiter, pthread_t thread, int signal)
{
	while (!get(&waiter->over)) {
		pthread_kill(thread, signal);
		nap();
	}
	JOIN(thread);
}

static void signal_and_wait(pthread_t thread, int signal)
{
	uint32_t before = get(&handled);
	pthread_kill(thread, signal);
	UNTIL(get(&handled) > before);
}

/* Whether a thread has a signal blocked, as it has over a killable sleep. */
static int blocks(struct waiter *waiter, int signal)
{
	char path[64], line[200];
	unsigned long long mask = 0;
	FILE *file;
	snprintf(path, sizeof path, "/proc/self/task/%u/status", get(&waiter->thread));
	file = fopen(path, "r");
	while (file != NULL && fgets(line, sizeof line, file) != NULL)
		sscanf(line, "SigBlk: %llx", &mask);
	if (file != NULL)
		fclose(file);
	return (mask >> (signal - 1) & 1) != 0;
}

static void interruptible_waits(char **args)
{
	static struct waiter waiter;
	begin(args);
	for (int restart = 0; restart < 2; restart++) {
		install(SIGUSR1, restart ? SA_RESTART : 0);
		for (size_t at = 0; at < WAYS; at++) {
			signal_until_over(&waiter, waiting(&waiter, ways[at], WQ_INTERRUPTIBLE), SIGUSR1);
			IS(waiter.status, -EINTR);
		}
	}
	end();
}

static void deaf_waits(char **args)
{
	static struct waiter waiter;
	begin(args);
	for (int restart = 0; restart < 2; restart++) {
		install(SIGUSR1, restart ? SA_RESTART : 0);
		for (size_t at = 0; at < WAYS; at++) {
			pthread_t thread = waiting(&waiter, ways[at], 0);
			for (int times = 0; times < 5; times++)
				signal_and_wait(thread, SIGUSR1);
			EXPECT(!get(&waiter.over));
			put(count, 1);
			EXPECT(wq_wake_up(queue) >= 0);
			JOIN(thread);
			IS(waiter.status, 0);
			put(count, 0);
		}
	}
	end();
}

static void killable_waits(char **args)
{
	static const int killing[] = { SIGINT, SIGTERM, SIGQUIT, SIGHUP };
	static struct waiter waiter;
	begin(args);
	install(SIGUSR1, 0);
	for (int at = 0; at < 4; at++)
		install(killing[at], SA_RESTART);
	for (size_t at = 0; at < WAYS; at++) {
		uint32_t before = get(&handled);
		pthread_t thread;
		signal_until_over(&waiter, waiting(&waiter, ways[at], WQ_KILLABLE), killing[at % 4]);
		IS(waiter.status, -EINTR);
		before = get(&handled);
		/* Another is kept until the sleep is over. */
		thread = waiting(&waiter, ways[at], WQ_KILLABLE);
		UNTIL(blocks(&waiter, SIGUSR1));
		pthread_kill(thread, SIGUSR1);
		usleep(3000);
		IS(get(&handled), before);
		UNTIL_ASLEEP(region, "queue", 1);
		put(count, 1);
		EXPECT(wq_wake_up(queue) >= 0);
		JOIN(thread);
		IS(waiter.status, 0);
		IS(get(&handled), before + 1);
		put(count, 0);
	}
	end();
}

static int for_some_signals(uint32_t flags)
{
	static const int some[] = { SIGUSR2 };
	wq_wait_options options = waiting_with(flags);
	options.signals = some;
	options.signal_count = 1;
	return wq_queue_wait_event_with(queue, take, count, &options, LONG, NULL);
}

static void chosen_signals(char **args)
{
	static struct waiter waiter;
	pthread_t thread;
	begin(args);
	install(SIGUSR1, 0);
	install(SIGUSR2, SA_RESTART);
	thread = waiting(&waiter, for_some_signals, 0);
	UNTIL(blocks(&waiter, SIGUSR1));
	EXPECT(!blocks(&waiter, SIGUSR2));
	signal_until_over(&waiter, thread, SIGUSR2);
	IS(waiter.status, -EINTR);
	end();
}

static void interrupts(void)
{
	wq_interrupter_interrupt(interrupter);
}

static uint32_t looks, raise_at;

static int raises(void *context)
{
	(void)context;
	if (++looks == raise_at)
		raise(SIGUSR1);
	if (looks == 2 && raise_at == 3)
		wq_wake_up(queue); /* For a third look. */
	return 0;
}

/* Also just before the sleep, where a signal alone would be missed. */
static void an_interrupter_in_a_handler(char **args)
{
	wq_wait_options options = wq_wait_options_default();
	begin(args);
	install(SIGUSR1, SA_RESTART);
	action = interrupts;
	options.interrupter = interrupter;
	for (raise_at = 1; raise_at <= 3; raise_at++) {
		looks = 0;
		IS(wq_queue_wait_event_with(queue, raises, NULL, &options, LONG, NULL), -EINTR);
		EXPECT(looks >= raise_at);
		looks = 0;
		IS(wq_wait_event_timeout_with(queue, raises(NULL), LONG, &options), -EINTR);
	}
	action = NULL;
	IS(wq_queue_wait_event_with(queue, never, NULL, &options, MS, NULL), -ETIMEDOUT);
	end();
}

/* What a handler finds that has interrupted a call which is at work: here one that waits for a lock. */
static wq_u32 asked, wrong;

static void asks_everything(void)
{
	uint64_t me = 0;
	wq_queue *other = NULL;
	wq_wait wait;
	uint32_t out;
	/* What may be called at any time. */
	int right = wq_region_me(region, &me) == 0 && me != 0;
	right &= wq_region_is_alive(region, me) == 1;
	right &= wq_queue_has_sleepers(queue) == 0;
	right &= wq_interrupter_interrupt(interrupter) == 0;
	/* What may not. */
	right &= wq_wake_up(queue) == 0; /* Of an empty queue it is a fence and a load. */
	right &= wq_queue_wait_event(queue, always, NULL) == 0;
	right &= wq_queue_wait_event(queue, never, NULL) == -EDEADLK;
	right &= strstr(wq_last_error(), "signal handlers") != NULL;
	right &= wq_queue_wait_woken(queue, NULL, MS, NULL) == -EDEADLK;
	right &= wq_queue_prepare_to_wait(queue, NULL, MS, &wait) == -EDEADLK;
	right &= wq_lock_lock(locks[1]) == -EDEADLK;
	right &= wq_lock_lock_timeout(locks[1], 0) == -EDEADLK;
	right &= wq_queue_close(queue, &out) == -EDEADLK;
	right &= wq_region_queue(region, "another", &other) == -EDEADLK && other == NULL;
	right &= wq_region_flush(region) == -EDEADLK;
	right &= wq_region_check(region) == -EDEADLK;
	if (!right)
		put(&wrong, 1);
	add(&asked, 1);
}

static void *wants_the_lock(void *context)
{
	struct waiter *waiter = (struct waiter *)context;
	put(&waiter->thread, (uint32_t)syscall(SYS_gettid));
	IS(wq_lock_lock(locks[0]), 0);
	IS(wq_lock_unlock(locks[0]), 0);
	return NULL;
}

/* Whether a thread sleeps in the kernel. */
static int is_asleep(struct waiter *waiter)
{
	char path[64], line[400] = "", *state;
	FILE *file;
	snprintf(path, sizeof path, "/proc/self/task/%u/stat", get(&waiter->thread));
	file = fopen(path, "r");
	if (file == NULL)
		return 0;
	state = fgets(line, sizeof line, file) ? strrchr(line, ')') : NULL;
	fclose(file);
	return state != NULL && state[2] == 'S';
}

static void calls_from_handlers(char **args)
{
	static struct waiter waiter;
	pthread_t thread;
	begin(args);
	install(SIGUSR1, SA_RESTART);
	IS(wq_lock_lock(locks[0]), 0);
	thread = start(wants_the_lock, &waiter);
	UNTIL(get(&waiter.thread) != 0 && is_asleep(&waiter));
	action = asks_everything;
	for (int times = 0; times < 5; times++)
		signal_and_wait(thread, SIGUSR1);
	action = NULL;
	IS(get(&asked), 5);
	IS(get(&wrong), 0);
	IS(wq_lock_unlock(locks[0]), 0);
	JOIN(thread);
	end();
}

/* What may be called at any time, at any time. */
static wq_u32 stop;

static void asks_what_is_allowed(void)
{
	uint64_t me = 0;
	int right = wq_region_me(region, &me) == 0 && wq_region_is_alive(region, me) == 1;
	right &= wq_queue_has_sleepers(queue) >= 0 && wq_interrupter_interrupt(interrupter) == 0;
	right &= wq_wake_up(queue) >= 0 || strstr(wq_last_error(), "signal handlers") != NULL;
	if (!right)
		put(&wrong, 1);
}

static void *is_busy(void *context)
{
	wq_wait wait;
	(void)context;
	while (!get(&stop)) {
		IS(wq_queue_prepare_to_wait(queue, NULL, WQ_FOREVER, &wait), 0);
		EXPECT(wq_wake_up(queue) == 1);
		IS(wq_wait_sleep(&wait), 0);
		IS(wq_wait_finish(&wait), INT64_MAX);
		EXPECT(wq_lock_lock(locks[0]) == 0 && wq_lock_unlock(locks[0]) == 0);
		EXPECT(wq_queue_has_sleepers(NULL) == -EINVAL);
	}
	return NULL;
}

static void handlers_at_any_time(char **args)
{
	pthread_t thread;
	begin(args);
	install(SIGUSR1, SA_RESTART);
	action = asks_what_is_allowed;
	thread = start(is_busy, NULL);
	for (int times = 0; times < 2000; times++) {
		pthread_kill(thread, SIGUSR1);
		if (times % 20 == 0)
			nap();
	}
	put(&stop, 1);
	JOIN(thread);
	action = NULL;
	IS(get(&wrong), 0);
	end();
}

int main(void)
{
	static const struct role roles[] = {
		{ "interruptible_waits", interruptible_waits },
		{ "deaf_waits", deaf_waits },
		{ "killable_waits", killable_waits },
		{ "chosen_signals", chosen_signals },
		{ "an_interrupter_in_a_handler", an_interrupter_in_a_handler },
		{ "calls_from_handlers", calls_from_handlers },
		{ "handlers_at_any_time", handlers_at_any_time },
		{ NULL, NULL },
	};
	return play(roles);
}
