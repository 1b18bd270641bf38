/* Locks, and where everything ends: capacities, forks, evictions. */
#include "check.h"
#include <fcntl.h>

static int somewhere;
#define UNTOUCHED(type) ((type *)&somewhere)

struct shared {
	wq_robust_lock locks[8];
	wq_queue_head head;
};

static wq_region *region;
static wq_queue *queue;
static struct shared *shared;
static wq_lock *locks[8];

static void begin(const char *name, const wq_region_options *options)
{
	IS(wq_region_open_or_create(name, options, &region), 0);
	queue = queue_of(region, "queue");
	IS(wq_region_object(region, "shared", "limits", sizeof *shared, 64, (void **)&shared), 0);
	for (int at = 0; at < 8; at++)
		IS(wq_region_lock_at(region, &shared->locks[at], &locks[at]), 0);
}

static void end(void)
{
	for (int at = 0; at < 8; at++)
		IS(wq_lock_free(locks[at]), 0);
	IS(wq_region_check(region), 0);
	IS(wq_queue_free(queue), 0);
	IS(wq_region_free(region), 0);
}

static void *tries_a_held_lock(void *context)
{
	(void)context;
	FAILS(wq_lock_lock_timeout(locks[0], 0), ETIME, "alive");
	FAILS(wq_lock_lock_timeout(locks[0], 2 * MS), ETIME, "alive");
	/* The region's patience. */
	FAILS(wq_lock_lock(locks[0]), ETIME, "process");
	FAILS(wq_lock_unlock(locks[0]), EPERM, "not held by this thread");
	FAILS(wq_lock_repaired(locks[0]), EPERM, "not held by this thread");
	FAILS(wq_lock_owner_died(locks[0]), EPERM, "not held by this thread");
	return NULL;
}

static void *ends_inside(void *context)
{
	IS(wq_lock_lock((wq_lock *)context), 0);
	return NULL;
}

static void a_lock(char **args)
{
	wq_region_options options = wq_region_options_default();
	wq_lock *again;
	options.patience = 50 * MS;
	begin(args[0], &options);
	FAILS(wq_lock_unlock(locks[0]), EPERM, "not held by this thread");
	IS(wq_lock_lock(locks[0]), 0);
	IS(wq_lock_owner_died(locks[0]), 0);
	FAILS(wq_lock_lock(locks[0]), EDEADLK, "take a lock once");
	IS(wq_lock_lock_timeout(locks[0], 0), -EDEADLK);
	FAILS(wq_lock_free(locks[0]), EBUSY, "held by this handle");
	JOIN(start(tries_a_held_lock, NULL));
	/* By another handle it is held, but not so. */
	IS(wq_region_lock_at(region, &shared->locks[0], &again), 0);
	IS(wq_lock_lock(again), -EDEADLK);
	FAILS(wq_lock_unlock(again), EPERM, "by this handle");
	for (int at = 1; at < 7; at++)
		IS(wq_lock_lock_timeout(locks[at], 0), 0);
	FAILS(wq_lock_lock(locks[7]), ENOLCK, "7");
	/* Not in the order in which they were taken. */
	for (int at = 0; at < 7; at++)
		IS(wq_lock_unlock(locks[at]), 0);
	FAILS(wq_lock_unlock(locks[0]), EPERM, "not held by this thread");
	IS(wq_lock_lock(again), 0);
	IS(wq_lock_unlock(again), 0);

	/* A thread that ends holding it: the next owner gets 1, until somebody says that all is well. */
	JOIN(start(ends_inside, again));
	IS(wq_lock_lock(locks[0]), 1);
	IS(wq_lock_owner_died(locks[0]), 1);
	IS(wq_lock_unlock(locks[0]), 0);
	IS(wq_lock_lock_timeout(again, 0), 1);
	IS(wq_lock_repaired(again), 0);
	IS(wq_lock_owner_died(again), 0);
	IS(wq_lock_unlock(again), 0);
	FAILS(wq_lock_repaired(again), EPERM, "not held");
	IS(wq_lock_lock(locks[0]), 0);
	IS(wq_lock_unlock(locks[0]), 0);
	/* Its handle is held by nobody. */
	JOIN(start(ends_inside, again));
	IS(wq_lock_free(again), 0);
	IS(wq_lock_lock(locks[0]), 1);
	IS(wq_lock_repaired(locks[0]), 0);
	IS(wq_lock_unlock(locks[0]), 0);
	end();
}

static void *waits_for_a_thread_record(void *context)
{
	wq_wait wait;
	uint32_t member = 7;
	wq_set *set = UNTOUCHED(wq_set);
	wq_source source;
	(void)context;
	memset(&source, 0, sizeof source);
	source.queue = queue;
	source.condition = never;
	FAILS(wq_queue_wait_event(queue, never, NULL), ENOBUFS, "threads");
	IS(wq_queue_wait_woken(queue, NULL, MS, NULL), -ENOBUFS);
	IS(wq_queue_prepare_to_wait(queue, NULL, MS, &wait), -ENOBUFS);
	IS(wq_wait_cancel(&wait), 0);
	IS(wq_set_new(region, &set), -ENOBUFS);
	IS(wq_wait_many(&source, 1, NULL, MS, &member), -ENOBUFS);
	/* What costs nothing needs nothing. */
	IS(wq_queue_wait_event(queue, always, NULL), 0);
	source.condition = always;
	IS(wq_wait_many(&source, 1, NULL, MS, &member), 0);
	IS(wq_queue_has_sleepers(queue), 0);
	EXPECT(set == UNTOUCHED(wq_set) && member == 0);
	return NULL;
}

static void capacities(char **args)
{
	wq_region_options options = wq_region_options_default();
	wq_region *other = UNTOUCHED(wq_region);
	wq_queue *one_more = UNTOUCHED(wq_queue);
	wq_wait waits[3];
	wq_set *set;
	uint32_t members[3] = { 7, 7, 7 };
	wq_u64 *wide = UNTOUCHED(wq_u64);
	options.participants = 1;
	options.threads = 1;
	options.entries = 2;
	options.objects = 2;
	IS(wq_region_create(args[0], &options, &region), 0);
	FAILS(wq_region_open(args[0], NULL, &other), ENOBUFS, "1 participants");
	queue = queue_of(region, "queue");
	number_of(region, "number");
	FAILS(wq_region_object_u64(region, "wide", &wide), ENOBUFS, "2 objects");
	FAILS(wq_region_queue(region, "one more", &one_more), ENOBUFS, "objects");
	EXPECT(other == UNTOUCHED(wq_region) && one_more == UNTOUCHED(wq_queue) && wide == UNTOUCHED(wq_u64));
	for (int at = 0; at < 2; at++)
		IS(wq_queue_prepare_to_wait(queue, NULL, WQ_FOREVER, &waits[at]), 0);
	FAILS(wq_queue_prepare_to_wait(queue, NULL, WQ_FOREVER, &waits[2]), ENOBUFS, "2 entries");
	IS(wq_queue_wait_event_with(queue, never, NULL, NULL, MS, NULL), -ENOBUFS);
	IS(wq_queue_wait_woken(queue, NULL, MS, NULL), -ENOBUFS);
	IS(wq_set_new(region, &set), -ENOBUFS);
	IS(wq_wait_cancel(&waits[2]), 0);
	IS(wq_wait_cancel(&waits[0]), 0);
	/* One for the set, so that its only member has none. */
	IS(wq_set_new(region, &set), 0);
	FAILS(wq_set_add(set, queue, never, NULL, NULL, &members[0]), ENOBUFS, "entries");
	IS(members[0], 7);
	IS(wq_wait_cancel(&waits[1]), 0);
	IS(wq_set_add(set, queue, never, NULL, NULL, &members[0]), 0);
	IS(wq_set_free(set), 0);
	IS(wq_queue_has_sleepers(queue), 0);
	JOIN(start(waits_for_a_thread_record, NULL));
	IS(wq_region_check(region), 0);
	IS(wq_queue_free(queue), 0);
	IS(wq_region_free(region), 0);
	/* All has come back. */
	IS(wq_region_open(args[0], NULL, &region), 0);
	IS(wq_region_free(region), 0);
}

static wq_set *set_of_main, *set_of_another;

/* At its first evaluation, before there is a wait, or at the next. */
static int forks_inside(void *context)
{
	static int evaluations;
	int at = context != NULL ? 2 : 1, status;
	pid_t child;
	if (++evaluations != at)
		return 0;
	evaluations = 0;
	child = fork();
	if (child == 0) {
		/* A copy, which goes on waiting and uses the queue; not to be called again. */
		evaluations = 100;
		if (at == 2)
			FAILS(wq_queue_free(queue), EBUSY, "1 waits");
		return 0;
	}
	IS(waitpid(child, &status, 0), child);
	IS(status, 0);
	return 1;
}

struct waiter {
	wq_interrupter *interrupter;
};

static void *sleeps(void *context)
{
	wq_wait_options options = wq_wait_options_default();
	options.interrupter = ((struct waiter *)context)->interrupter;
	IS(wq_queue_wait_woken(queue, &options, WQ_FOREVER, NULL), -EINTR);
	return NULL;
}

static void *holds(void *context)
{
	uint32_t member;
	IS(wq_set_new(region, &set_of_another), 0);
	IS(wq_set_add(set_of_another, queue, never, NULL, NULL, &member), 0);
	IS(wq_lock_lock(locks[1]), 0);
	add((wq_u32 *)context, 1);
	UNTIL(get((wq_u32 *)context) == 2);
	IS(wq_lock_unlock(locks[1]), 0);
	IS(wq_set_free(set_of_another), 0);
	return NULL;
}

static void in_the_child(const char *name, wq_u32 *number, struct waiter *waiter)
{
	wq_wait wait;
	uint32_t out = 7;
	uint64_t me = 0;
	wq_region *again = UNTOUCHED(wq_region);
	wq_queue *other = UNTOUCHED(wq_queue);
	wq_set *set = UNTOUCHED(wq_set);
	wq_u32 *object = UNTOUCHED(wq_u32);
	wq_source source;

	failures = 0;
	memset(&source, 0, sizeof source);
	source.queue = queue;
	source.condition = never;
	FAILS(wq_queue_wait_event(queue, never, NULL), ECHILD, "fork");
	IS(wq_queue_wait_woken(queue, NULL, MS, NULL), -ECHILD);
	IS(wq_queue_prepare_to_wait(queue, NULL, MS, &wait), -ECHILD);
	IS(wq_wait_many(&source, 1, NULL, MS, &out), -ECHILD);
	IS(wq_set_new(region, &set), -ECHILD);
	IS(wq_set_add(set_of_main, queue, never, NULL, NULL, &out), -ECHILD);
	IS(wq_set_wait(set_of_main, NULL, MS, &out), -ECHILD);
	IS(wq_region_queue(region, "another", &other), -ECHILD);
	IS(wq_region_object_u32(region, "another", &object), -ECHILD);
	IS(wq_region_flush(region), -ECHILD);
	IS(wq_region_check(region), -ECHILD);
	IS(wq_wake_up(queue), -ECHILD);
	IS(wq_queue_close(queue, &out), -ECHILD);
	IS(wq_lock_lock(locks[2]), -ECHILD);
	FAILS(wq_lock_unlock(locks[0]), ECHILD, "forked");
	IS(wq_lock_repaired(locks[0]), -ECHILD);
	/* What finds nothing to do. */
	source.condition = always;
	IS(wq_queue_wait_event(queue, always, NULL), 0);
	EXPECT(wq_wait_many(&source, 1, NULL, MS, &out) == 0 && out == 0);
	EXPECT(wq_wait_event(queue, get(number) == 1) == 0);
	IS(wq_region_me(region, &me), 0);
	IS(wq_region_is_alive(region, me), 1);
	IS(wq_queue_has_sleepers(queue), 1);
	EXPECT(other == UNTOUCHED(wq_queue) && set == UNTOUCHED(wq_set) && object == UNTOUCHED(wq_u32));
	/* Freeing all, also what other threads of the parent use. */
	IS(wq_interrupter_free(waiter->interrupter), 0);
	IS(wq_set_free(set_of_main), 0);
	IS(wq_set_free(set_of_another), 0);
	for (int at = 0; at < 8; at++)
		IS(wq_lock_free(locks[at]), 0);
	IS(wq_queue_free(queue), 0);
	IS(wq_region_free(region), 0);
	/* The child for itself. */
	IS(wq_region_open(name, NULL, &again), 0);
	region = again;
	IS(wq_region_me(region, &me), 0);
	other = queue_of(region, "child");
	IS(wq_queue_wait_event_with(other, never, NULL, NULL, MS, NULL), -ETIMEDOUT);
	IS(wq_queue_free(other), 0);
	IS(wq_region_free(region), 0);
	_exit(failures != 0);
}

static void after_fork(char **args)
{
	struct waiter waiter;
	wq_u32 *number;
	pthread_t sleeper, holder;
	uint32_t member;
	int status;
	pid_t child;
	begin(args[0], NULL);
	number = number_of(region, "number");
	IS(wq_interrupter_new(region, &waiter.interrupter), 0);
	IS(wq_set_new(region, &set_of_main), 0);
	IS(wq_set_add(set_of_main, queue, never, NULL, NULL, &member), 0);
	IS(wq_lock_lock(locks[0]), 0);
	sleeper = start(sleeps, &waiter);
	UNTIL_ASLEEP(region, "queue", 1);
	holder = start(holds, number);
	UNTIL(get(number) == 1);
	child = fork();
	if (child == 0)
		in_the_child(args[0], number, &waiter);
	IS(waitpid(child, &status, 0), child);
	IS(status, 0);
	/* The parent was left alone. */
	FAILS(wq_lock_free(locks[1]), EBUSY, "held");
	FAILS(wq_queue_free(queue), EBUSY, "1 waits");
	IS(wq_lock_unlock(locks[0]), 0);
	add(number, 1);
	JOIN(holder);
	IS(wq_interrupter_interrupt(waiter.interrupter), 0);
	JOIN(sleeper);
	IS(wq_interrupter_free(waiter.interrupter), 0);
	IS(wq_set_wait(set_of_main, NULL, MS, &member), -ETIMEDOUT);
	IS(wq_set_free(set_of_main), 0);
	IS(wq_queue_has_sleepers(queue), 0);
	end();
}

/* A child inside a condition of its parent: its wait ends with -ECHILD, and the parent's goes on. */
static void a_fork_inside_a_condition(char **args)
{
	pid_t parent = getpid();
	int status;
	begin(args[0], NULL);
	for (int way = 0; way < 4; way++) {
		void *second = way & 1 ? &parent : NULL;
		status = way & 2 ? wq_wait_event(queue, forks_inside(second)) : wq_queue_wait_event(queue, forks_inside, second);
		if (getpid() != parent) {
			IS(status, -ECHILD);
			IS(wq_queue_free(queue), 0);
			_exit(failures != 0);
		}
		IS(status, 0);
	}
	IS(wq_queue_has_sleepers(queue), 0);
	end();
}

/* Somebody takes us for dead and gives our slot away, as its state says then. */
static void taken_for_dead(char **args)
{
	uint64_t me, state;
	wq_u64 *bytes;
	wq_wait wait;
	char path[300];
	int fd, found = 0;
	begin(args[0], NULL);
	IS(wq_queue_prepare_to_wait(queue, NULL, WQ_FOREVER, &wait), 0);
	IS(wq_region_me(region, &me), 0);
	snprintf(path, sizeof path, "/dev/shm%s", args[0]);
	fd = open(path, O_RDWR | O_CLOEXEC);
	bytes = (wq_u64 *)mmap(NULL, 65536, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	EXPECT(fd >= 0 && bytes != MAP_FAILED);
	state = (me >> 32) << 32 | 2;
	for (int at = 4096 / 8; at < 65536 / 8 && !found; at++)
		if (bytes[at] == state) {
			bytes[at] = (me >> 32) << 32;
			found = 1;
		}
	EXPECT(found);
	FAILS(wq_queue_wait_event(queue, never, NULL), ESTALE, args[0]);
	EXPECT(strstr(wq_last_error(), "attach again") != NULL);
	IS(wq_lock_lock(locks[0]), -ESTALE);
	IS(wq_region_flush(region), -ESTALE);
	IS(wq_region_is_alive(region, me), 0);
	IS(wq_wait_cancel(&wait), 0);
	for (int at = 0; at < 8; at++)
		IS(wq_lock_free(locks[at]), 0);
	IS(wq_queue_free(queue), 0);
	IS(wq_region_free(region), 0);
	begin(args[0], NULL);
	IS(wq_queue_wait_event_with(queue, never, NULL, NULL, MS, NULL), -ETIMEDOUT);
	end();
	munmap((void *)bytes, 65536);
	close(fd);
}

/* Handles keep what they need of the one they were made of, and the last one detaches. */
static void any_order_of_freeing(char **args)
{
	wq_region *observer;
	wq_interrupter *interrupter;
	wq_snapshot *snapshot;
	uint64_t me;
	wq_set *set;
	uint32_t member;
	begin(args[0], NULL);
	IS(wq_region_open(args[0], NULL, &observer), 0);
	IS(wq_region_me(region, &me), 0);
	IS(wq_interrupter_new(region, &interrupter), 0);
	IS(wq_region_snapshot(region, &snapshot), 0);
	IS(wq_set_new(region, &set), 0);
	IS(wq_set_add(set, queue, take, &shared->head, NULL, &member), 0);
	IS(wq_region_free(region), 0);
	IS(wq_queue_wait_event_with(queue, never, NULL, NULL, MS, NULL), -ETIMEDOUT);
	IS(wq_queue_free(queue), 0);
	IS(wq_set_wait(set, NULL, MS, &member), -ETIMEDOUT);
	IS(wq_set_free(set), 0);
	for (int at = 0; at < 8; at++) {
		IS(wq_region_is_alive(observer, me), 1);
		IS(wq_lock_lock(locks[at]), 0);
		IS(wq_lock_unlock(locks[at]), 0);
		IS(wq_lock_free(locks[at]), 0);
	}
	IS(wq_region_is_alive(observer, me), 0);
	EXPECT(strstr(wq_snapshot_text(snapshot), args[0]) != NULL);
	IS(wq_interrupter_interrupt(interrupter), 0);
	IS(wq_interrupter_free(interrupter), 0);
	IS(wq_snapshot_free(snapshot), 0);
	IS(wq_region_free(observer), 0);
}

static const char *name_to_open;

static void *opens_and_frees_while_cancelled(void *context)
{
	int *outcomes = (int *)context;
	wq_region *other = NULL;
	pthread_cancel(pthread_self());
	outcomes[0] = wq_region_open(name_to_open, NULL, &other);
	outcomes[1] = wq_region_free(other);
	outcomes[2] = 1;
	pthread_testcancel();
	outcomes[2] = 2;
	return NULL;
}

/* No function is a cancellation point. */
static void a_cancellation_that_is_pending(char **args)
{
	int outcomes[3] = { 1, 1, 0 };
	void *result;
	begin(args[0], NULL);
	name_to_open = args[0];
	pthread_t thread = start(opens_and_frees_while_cancelled, outcomes);
	IS(pthread_join(thread, &result), 0);
	EXPECT(result == PTHREAD_CANCELED);
	IS(outcomes[0], 0);
	IS(outcomes[1], 0);
	IS(outcomes[2], 1);
	end();
}

int main(void)
{
	static const struct role roles[] = {
		{ "a_lock", a_lock },
		{ "capacities", capacities },
		{ "after_fork", after_fork },
		{ "a_fork_inside_a_condition", a_fork_inside_a_condition },
		{ "taken_for_dead", taken_for_dead },
		{ "any_order_of_freeing", any_order_of_freeing },
		{ "a_cancellation_that_is_pending", a_cancellation_that_is_pending },
		{ NULL, NULL },
	};
	return play(roles);
}
