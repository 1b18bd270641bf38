/* Every form of wq_wait_event: true at once, true after a sleep, and failing; and what may stand in an expression. */
#include "check.h"

static wq_region *region;
static wq_queue *queue;
static wq_u32 *count;
static wq_lock *lock;
static pthread_mutex_t mutex;
static const wq_wait_options *given;

/* How often the expression was evaluated, was true, and stood in a locked form without its lock. */
static wq_u32 evaluated, was_true, unlocked, before, after;

static int evaluate(void)
{
	add(&evaluated, 1);
	if (!take(count))
		return 0;
	add(&was_true, 1);
	return 1;
}

static int with_mutex(void)
{
	add(&unlocked, pthread_mutex_trylock(&mutex) != 0 ? 0 : 1);
	return evaluate();
}

static int with_lock(void)
{
	add(&unlocked, wq_lock_owner_died(lock) == 0 ? 0 : 1);
	return evaluate();
}

/* Before comes first, then after; and an evaluation only behind both. */
static void between_(void)
{
	add(&unlocked, get(&before) == get(&after) ? 0 : 1);
}

static int between(void)
{
	between_();
	return evaluate();
}

static void go_before(void)
{
	between_();
	add(&before, 1);
}

static void go_after(void)
{
	add(&after, 1);
}

enum { MUTEX = 1, LOCK = 2, COMMANDS = 4, TIMED = 8, EXCLUSIVE = 16, INTERRUPTIBLE = 32 };

/* Each form: its name, what it is, and the call. `limit` is the time of those that have one. */
#define FORMS(FORM)                                                                                                   \
	FORM(plain, 0, wq_wait_event(queue, evaluate()))                                                              \
	FORM(interruptible, INTERRUPTIBLE, wq_wait_event_interruptible(queue, evaluate()))                            \
	FORM(killable, 0, wq_wait_event_killable(queue, evaluate()))                                                  \
	FORM(exclusive, EXCLUSIVE, wq_wait_event_exclusive(queue, evaluate()))                                        \
	FORM(interruptible_exclusive, INTERRUPTIBLE | EXCLUSIVE, wq_wait_event_interruptible_exclusive(queue, evaluate())) \
	FORM(with, EXCLUSIVE, wq_wait_event_with(queue, evaluate(), given))                                           \
	FORM(timeout, TIMED, wq_wait_event_timeout(queue, evaluate(), limit))                                         \
	FORM(interruptible_timeout, TIMED | INTERRUPTIBLE, wq_wait_event_interruptible_timeout(queue, evaluate(), limit)) \
	FORM(killable_timeout, TIMED, wq_wait_event_killable_timeout(queue, evaluate(), limit))                       \
	FORM(exclusive_timeout, TIMED | EXCLUSIVE, wq_wait_event_exclusive_timeout(queue, evaluate(), limit))         \
	FORM(timeout_with, TIMED | EXCLUSIVE, wq_wait_event_timeout_with(queue, evaluate(), limit, given))            \
	FORM(cmd, COMMANDS, wq_wait_event_cmd(queue, between(), go_before(), go_after()))                                       \
	FORM(exclusive_cmd, COMMANDS | EXCLUSIVE, wq_wait_event_exclusive_cmd(queue, between(), go_before(), go_after()))       \
	FORM(locked, MUTEX, wq_wait_event_locked(queue, with_mutex(), &mutex))                                        \
	FORM(locked_by_lock, LOCK, wq_wait_event_locked(queue, with_lock(), lock))                                    \
	FORM(locked_timeout, MUTEX | TIMED, wq_wait_event_locked_timeout(queue, with_mutex(), &mutex, limit))         \
	FORM(locked_timeout_by_lock, LOCK | TIMED, wq_wait_event_locked_timeout(queue, with_lock(), lock, limit))     \
	FORM(locked_with, MUTEX | TIMED | EXCLUSIVE, wq_wait_event_locked_with(queue, with_mutex(), &mutex, limit, given)) \
	FORM(locked_with_by_lock, LOCK | TIMED | EXCLUSIVE, wq_wait_event_locked_with(queue, with_lock(), lock, limit, given))

#define DEFINE(name, what, call)                 \
	static int64_t form_##name(uint64_t limit) \
	{                                        \
		(void)limit;                     \
		return call;                     \
	}
FORMS(DEFINE)

struct form {
	const char *name;
	int what;
	int64_t (*wait)(uint64_t limit);
};

#define ROW(name, what, call) { #name, what, form_##name },
static const struct form forms[] = { FORMS(ROW) { NULL, 0, NULL } };

struct waiter {
	const struct form *form;
	uint64_t limit;
	int64_t result;
};

/* Takes what a locked form wants before it, and finds it held afterwards. */
static void *wait_by(void *context)
{
	struct waiter *waiter = (struct waiter *)context;
	int what = waiter->form->what;
	if (what & MUTEX)
		IS(pthread_mutex_lock(&mutex), 0);
	if (what & LOCK)
		IS(wq_lock_lock(lock), 0);
	waiter->result = waiter->form->wait(waiter->limit);
	if (what & MUTEX)
		IS(pthread_mutex_unlock(&mutex), 0);
	if (what & LOCK)
		IS(wq_lock_unlock(lock), 0);
	return NULL;
}

static int64_t result_of(const struct form *form, uint64_t limit)
{
	struct waiter waiter = { form, limit, 77 };
	line_now = 1000 + (int)(form - forms);
	wait_by(&waiter);
	return waiter.result;
}

static void named(const struct form *form, int64_t result, int64_t expected)
{
	char what[80];
	snprintf(what, sizeof what, "%s, evaluated %u times", form->name, get(&evaluated));
	is_(result, expected, what, __FILE__, __LINE__);
}

static void begin(char **args)
{
	static wq_wait_options options;
	wq_robust_lock *word;
	pthread_mutexattr_t checks;
	region = attach(args[0]);
	queue = queue_of(region, "queue");
	count = number_of(region, "count");
	IS(wq_region_object(region, "lock", "lock", sizeof *word, 8, (void **)&word), 0);
	IS(wq_region_lock_at(region, word, &lock), 0);
	options = waiting_with(WQ_EXCLUSIVE);
	given = &options;
	pthread_mutexattr_init(&checks);
	pthread_mutexattr_settype(&checks, PTHREAD_MUTEX_ERRORCHECK);
	pthread_mutexattr_setrobust(&checks, PTHREAD_MUTEX_ROBUST);
	pthread_mutex_init(&mutex, &checks);
}

static void end(void)
{
	IS(get(&unlocked), 0);
	IS(wq_queue_has_sleepers(queue), 0);
	IS(wq_region_check(region), 0);
	IS(wq_lock_free(lock), 0);
	IS(wq_queue_free(queue), 0);
	IS(wq_region_free(region), 0);
}

static void true_at_once(char **args)
{
	begin(args);
	for (const struct form *form = forms; form->name != NULL; form++) {
		put(&evaluated, 0);
		put(count, 1);
		named(form, result_of(form, 5 * MS), form->what & TIMED ? (int64_t)(5 * MS) : 0);
		put(count, 1);
		named(form, result_of(form, WQ_FOREVER), form->what & TIMED ? INT64_MAX : 0);
		put(count, 1);
		named(form, result_of(form, 0), form->what & TIMED ? 1 : 0);
		IS(get(&evaluated), 3);
		IS(get(count), 0);
	}
	IS(get(&before), 0);
	end();
}

static void true_after_a_sleep(char **args)
{
	begin(args);
	for (const struct form *form = forms; form->name != NULL; form++) {
		struct waiter waiter = { form, LONG, 77 };
		uint32_t slept = get(&before);
		pthread_t thread;
		put(&was_true, 0);
		thread = start(wait_by, &waiter);
		UNTIL_ASLEEP(region, "queue", 1);
		/* One that wakes the other kind does not reach it. */
		if (!(form->what & INTERRUPTIBLE))
			IS(wq_wake_up_interruptible_all(queue), 0);
		/* It has let go of its lock. */
		if (form->what & MUTEX)
			EXPECT(pthread_mutex_lock(&mutex) == 0 && pthread_mutex_unlock(&mutex) == 0);
		if (form->what & LOCK)
			EXPECT(wq_lock_lock(lock) == 0 && wq_lock_unlock(lock) == 0);
		/* For nothing: it sleeps again. */
		put(&evaluated, 0);
		IS(wq_wake_up(queue), 1);
		UNTIL(get(&evaluated) > 0);
		UNTIL_ASLEEP(region, "queue", 1);
		put(&evaluated, 0);
		put(count, 3);
		IS(form->what & INTERRUPTIBLE ? wq_wake_up_interruptible(queue) : wq_wake_up(queue), 1);
		JOIN(thread);
		if (form->what & TIMED)
			EXPECT(waiter.result > 0 && waiter.result < (int64_t)LONG);
		else
			named(form, waiter.result, 0);
		/* Evaluated once more, true, and not again. */
		IS(get(&evaluated), 1);
		IS(get(&was_true), 1);
		IS(get(count), 2);
		put(count, 0);
		if (form->what & COMMANDS)
			EXPECT(get(&before) >= slept + 2 && get(&before) == get(&after));
	}
	end();
}

static void ended_without(char **args)
{
	begin(args);
	for (const struct form *form = forms; form->name != NULL; form++) {
		struct waiter waiter = { form, WQ_FOREVER, 77 };
		char name[40];
		pthread_t thread;
		wq_queue_free(queue);
		snprintf(name, sizeof name, "closing %s", form->name);
		queue = queue_of(region, name);
		if (form->what & TIMED) {
			named(form, result_of(form, 0), -ETIMEDOUT);
			named(form, result_of(form, 1), -ETIMEDOUT);
			named(form, result_of(form, 3 * MS), -ETIMEDOUT);
		}
		thread = start(wait_by, &waiter);
		UNTIL_ASLEEP(region, name, 1);
		put(&evaluated, 0);
		IS(wq_queue_close(queue, NULL), 0);
		JOIN(thread);
		named(form, waiter.result, -ESHUTDOWN);
		EXPECT(get(&evaluated) >= 1);
		IS(get(&before), get(&after));
		named(form, result_of(form, 0), -ESHUTDOWN);
		/* The condition beats it. */
		put(count, 1);
		EXPECT(result_of(form, 0) >= 0 && get(count) == 0);
	}
	end();
}

static void *dies_with_the_mutex(void *context)
{
	(void)context;
	IS(pthread_mutex_lock(&mutex), 0);
	put(count, 1);
	return NULL;
}

static void *dies_with_the_lock(void *context)
{
	(void)context;
	IS(wq_lock_lock(lock), 0);
	put(count, 1);
	return NULL;
}

static void *waits_with_the_mutex(void *context)
{
	IS(pthread_mutex_lock(&mutex), 0);
	*(int64_t *)context = wq_wait_event_locked(queue, with_mutex(), &mutex);
	/* Held, and inconsistent. */
	IS(pthread_mutex_consistent(&mutex), 0);
	IS(pthread_mutex_unlock(&mutex), 0);
	return NULL;
}

static void *waits_with_the_lock(void *context)
{
	IS(wq_lock_lock(lock), 0);
	*(int64_t *)context = wq_wait_event_locked_timeout(queue, evaluate(), lock, LONG);
	IS(wq_lock_owner_died(lock), 1);
	IS(wq_lock_repaired(lock), 0);
	IS(wq_lock_unlock(lock), 0);
	return NULL;
}

static void *waits_too_long_for_the_lock(void *context)
{
	IS(wq_lock_lock(lock), 0);
	*(int64_t *)context = wq_wait_event_locked_timeout(queue, evaluate(), lock, LONG);
	FAILS(wq_lock_unlock(lock), EPERM, "not held");
	return NULL;
}

/* Owners who die while a waiter sleeps, and one who keeps the lock. */
static void locks_of_the_dead(char **args)
{
	int64_t result = 77;
	wq_region_options options = wq_region_options_default();
	wq_robust_lock *word;
	pthread_t thread;
	begin(args);
	thread = start(waits_with_the_mutex, &result);
	UNTIL_ASLEEP(region, "queue", 1);
	JOIN(start(dies_with_the_mutex, NULL));
	IS(wq_wake_up(queue), 1);
	JOIN(thread);
	IS(result, -EOWNERDEAD);
	/* It was not evaluated without a lock that is good. */
	IS(get(count), 1);
	put(count, 0);
	thread = start(waits_with_the_lock, &result);
	UNTIL_ASLEEP(region, "queue", 1);
	JOIN(start(dies_with_the_lock, NULL));
	IS(wq_wake_up(queue), 1);
	JOIN(thread);
	EXPECT(result > 0);
	IS(get(count), 0);

	IS(wq_lock_free(lock), 0);
	IS(wq_queue_free(queue), 0);
	IS(wq_region_free(region), 0);
	options.patience = 30 * MS;
	IS(wq_region_open(args[0], &options, &region), 0);
	queue = queue_of(region, "queue");
	count = number_of(region, "count");
	IS(wq_region_object(region, "lock", "lock", sizeof *word, 8, (void **)&word), 0);
	IS(wq_region_lock_at(region, word, &lock), 0);
	thread = start(waits_too_long_for_the_lock, &result);
	UNTIL_ASLEEP(region, "queue", 1);
	IS(wq_lock_lock(lock), 0);
	IS(wq_wake_up(queue), 1);
	JOIN(thread);
	IS(result, -ETIME);
	IS(wq_lock_unlock(lock), 0);
	IS(wq_queue_has_sleepers(queue), 0);
	end();
}

/* An expression that waits itself, in every place where it is evaluated. */
static int64_t nested(void)
{
	return wq_wait_event_timeout(queue, wq_wait_event_exclusive_timeout(queue, wq_wait_event(queue, add(&evaluated, 1) >= 1) == 0 && evaluate(), MS) > 0, LONG);
}

static void *wait_nested(void *context)
{
	*(int64_t *)context = nested();
	return NULL;
}

static void nested_waits(char **args)
{
	int64_t result = 77;
	pthread_t thread;
	begin(args);
	put(count, 1);
	EXPECT(nested() > 0);
	thread = start(wait_nested, &result);
	UNTIL(wq_queue_has_sleepers(queue) == 1);
	UNTIL(get(&evaluated) > 8);
	put(count, 2);
	EXPECT(wq_wake_up_all(queue) >= 0);
	JOIN(thread);
	EXPECT(result > 0 && result < (int64_t)LONG);
	IS(get(count), 1);
	put(count, 0);
	end();
}

/* Out of an expression, at its first evaluation and when it is enrolled. */
static int returns_at(uint32_t which)
{
	int64_t left = wq_wait_event_exclusive_timeout(queue, __extension__({
		if (add(&evaluated, 1) + 1 == which)
			return 5;
		0;
	}), LONG);
	EXPECT(!"returned");
	return (int)left;
}

static int breaks_at(uint32_t which)
{
	int rounds = 0;
	for (int round = 0; round < 10; round++) {
		rounds++;
		wq_wait_event_exclusive_cmd(queue, __extension__({
			if (add(&evaluated, 1) + 1 == which)
				break;
			if (get(&evaluated) == 2)
				continue;
			0;
		}), (void)0, (void)0);
		EXPECT(!"broken");
	}
	return rounds;
}

struct leaver {
	int (*leave)(uint32_t);
	uint32_t which;
	int result;
};

static void *leave_at(void *context)
{
	struct leaver *leaver = (struct leaver *)context;
	leaver->result = leaver->leave(leaver->which);
	return NULL;
}

static void *takes_exclusively(void *context)
{
	*(int *)context = wq_wait_event_exclusive(queue, take(count));
	return NULL;
}

static void left_by_return_and_break(char **args)
{
	struct leaver leaver = { returns_at, 4, 77 };
	int taken = 77;
	pthread_t thread, other;
	begin(args);
	IS(returns_at(1), 5);
	IS(wq_queue_has_sleepers(queue), 0);
	put(&evaluated, 0);
	IS(returns_at(2), 5);
	IS(wq_queue_has_sleepers(queue), 0);
	put(&evaluated, 0);
	IS(breaks_at(1), 1);
	put(&evaluated, 1);
	/* The second goes round the caller's loop, not that of the wait. */
	IS(breaks_at(3), 2);
	put(&evaluated, 2);
	IS(breaks_at(4), 1);
	IS(wq_queue_has_sleepers(queue), 0);
	IS(wq_queue_free(queue), 0);
	queue = queue_of(region, "queue");

	/* A wake that chose it goes to the next. */
	put(&evaluated, 1);
	thread = start(leave_at, &leaver);
	UNTIL_ASLEEP(region, "queue", 1);
	other = start(takes_exclusively, &taken);
	UNTIL_ASLEEP(region, "queue", 2);
	put(count, 1);
	IS(wq_wake_up(queue), 1);
	JOIN(thread);
	JOIN(other);
	IS(leaver.result, 5);
	IS(taken, 0);
	IS(get(count), 0);
	end();
}

static int calls;
static wq_queue *this_queue(void)
{
	calls++;
	return queue;
}

/* What is beside the expression is evaluated at most once; literals and defaults of options. */
static void arguments(char **args)
{
	int n = 0;
	wq_wait_options options = wq_wait_options_default();
	begin(args);
	IS(wq_wait_event_timeout(this_queue(), 0, (n++, 3 * MS)), -ETIMEDOUT);
	IS(calls, 1);
	IS(n, 1);
	IS(wq_wait_event(this_queue(), 1), 0);
	IS(calls, 1);
	options.flags = 1024;
	FAILS(wq_wait_event_with(queue, 0, &options), EINVAL, "unknown flags 0x400");
	FAILS(wq_wait_event_locked_with(queue, 0, &mutex, 0, &options), EINVAL, "unknown flags 0x400");
	FAILS(wq_wait_event((wq_queue *)NULL, 0), EINVAL, "queue is NULL");
	IS(wq_wait_event((wq_queue *)NULL, 1), 0);
	if (wq_wait_event(queue, n == 1 || n == 2))
		EXPECT(!"true at once");
	else
		n = 3;
	IS(n, 3);
#ifndef __cplusplus
	IS(wq_wait_event_timeout_with(queue, 0, MS, WQ_WAIT_OPTIONS(.flags = WQ_EXCLUSIVE, .label = "worker 3")), -ETIMEDOUT);
	IS(wq_queue_wait_woken(queue, WQ_WAIT_OPTIONS(.spin = MS), 3 * MS, NULL), -ETIMEDOUT);
	IS(wq_region_open_or_create(args[0], WQ_REGION_OPTIONS(.entries = UINT32_MAX, .flags = WQ_NO_TICK), &region), -EINVAL);
#endif
	end();
}

int main(void)
{
	static const struct role roles[] = {
		{ "true_at_once", true_at_once },
		{ "true_after_a_sleep", true_after_a_sleep },
		{ "ended_without", ended_without },
		{ "locks_of_the_dead", locks_of_the_dead },
		{ "nested_waits", nested_waits },
		{ "left_by_return_and_break", left_by_return_and_break },
		{ "arguments", arguments },
		{ NULL, NULL },
	};
	return play(roles);
}
