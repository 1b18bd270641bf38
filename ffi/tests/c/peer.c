/* What a program in C does while one in Rust watches it, talks with it, and kills it. */
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

static int on_many(const wq_wait_options *options)
{
	wq_source sources[2];
	wq_queue *other = queue_of(region, "other");
	uint32_t fired = 7;
	int status;
	memset(sources, 0, sizeof sources);
	sources[0].queue = other;
	sources[0].condition = never;
	sources[1].queue = queue;
	sources[1].condition = take;
	sources[1].context = count;
	sources[1].flags = options->flags & WQ_EXCLUSIVE;
	status = wq_wait_many(sources, 2, NULL, WQ_FOREVER, &fired);
	EXPECT(status != 0 || fired == 1);
	IS(wq_queue_free(other), 0);
	return status;
}

static int in_a_set(const wq_wait_options *options)
{
	wq_queue *other = queue_of(region, "other");
	uint32_t one, two, fired = 7;
	wq_set *set;
	int status;
	IS(wq_set_new(region, &set), 0);
	IS(wq_set_add(set, other, never, NULL, options, &one), 0);
	IS(wq_set_add(set, queue, take, count, options, &two), 0);
	status = wq_set_wait(set, NULL, WQ_FOREVER, &fired);
	EXPECT(status != 0 || fired == two);
	IS(wq_set_free(set), 0);
	IS(wq_queue_free(other), 0);
	return status;
}

static int in_turns(const wq_wait_options *options)
{
	wq_wait wait;
	int status = wq_queue_prepare_to_wait(queue, options, WQ_FOREVER, &wait);
	while (status == 0 && !take(count))
		status = wq_wait_sleep(&wait);
	wq_wait_finish(&wait);
	return status;
}

/* Waits in the way that it is told, and says how that ended. */
static void waits(char **args)
{
	const char *way = args[1];
	wq_wait_options options = waiting_with(0);
	int64_t left;
	begin(args);
	options.label = "in C";
	if (strncmp(way, "exclusive ", 10) == 0) {
		options.flags = WQ_EXCLUSIVE;
		way += 10;
	}
	if (strcmp(way, "event") == 0)
		left = wq_wait_event_with(queue, take(count), &options);
	else if (strcmp(way, "function") == 0)
		left = wq_queue_wait_event_with(queue, take, count, &options, WQ_FOREVER, NULL);
	else if (strcmp(way, "timeout") == 0)
		left = wq_wait_event_timeout_with(queue, take(count), LONG, &options);
	else if (strcmp(way, "interruptible") == 0)
		left = wq_wait_event_interruptible(queue, take(count));
	else if (strcmp(way, "many") == 0)
		left = on_many(&options);
	else if (strcmp(way, "set") == 0)
		left = in_a_set(&options);
	else if (strcmp(way, "turns") == 0)
		left = in_turns(&options);
	else if (strcmp(way, "woken") == 0)
		left = wq_queue_wait_woken(queue, &options, WQ_FOREVER, NULL);
	else {
		options.key = 4;
		left = wq_wait_event_with(queue, take(count), &options);
	}
	say("%d", left > 0 ? 0 : (int)left);
	IS(wq_queue_free(queue), 0);
	IS(wq_region_free(region), 0);
}

/* Wakes in the way that it is told, and says whom it reached. */
static void wakes(char **args)
{
	const char *way = args[1];
	wq_woken woken = { 0, 0 };
	uint32_t closed = 0;
	begin(args);
	add(count, 1);
	if (strcmp(way, "one") == 0)
		say("%d", wq_wake_up(queue));
	else if (strcmp(way, "all") == 0)
		say("%d", wq_wake_up_all(queue));
	else if (strcmp(way, "interruptible") == 0)
		say("%d", wq_wake_up_interruptible(queue));
	else if (strcmp(way, "key") == 0)
		say("%d", wq_wake_up_poll(queue, 4));
	else if (strcmp(way, "sync") == 0) {
		IS(wq_queue_wake_up_sync(queue, &woken), 0);
		say("%u", woken.exclusive + woken.nonexclusive);
		IS(wq_region_flush(region), 0);
	} else {
		put(count, 0);
		IS(wq_queue_close(queue, &closed), 0);
		say("%u", closed);
	}
	IS(wq_queue_free(queue), 0);
	IS(wq_region_free(region), 0);
}

static wq_lock *the_lock(char **args)
{
	wq_lock *lock = NULL;
	wq_robust_lock *word = NULL;
	begin(args);
	IS(wq_region_object(region, "lock", args[1], sizeof *word, 16, (void **)&word), 0);
	IS(wq_region_lock_at(region, word, &lock), 0);
	return lock;
}

static void holds(char **args)
{
	wq_lock *lock = the_lock(args);
	IS(wq_lock_lock(lock), 0);
	say("held");
	listen_for("let go");
	IS(wq_lock_unlock(lock), 0);
}

static void takes_the_lock(char **args)
{
	wq_lock *lock = the_lock(args);
	int status;
	say("tries");
	status = wq_lock_lock(lock);
	say("%d", status);
	IS(wq_lock_repaired(lock), 0);
	IS(wq_lock_unlock(lock), 0);
	IS(wq_lock_free(lock), 0);
}

int main(void)
{
	static const struct role roles[] = {
		{ "waits", waits },
		{ "wakes", wakes },
		{ "holds", holds },
		{ "takes_the_lock", takes_the_lock },
		{ NULL, NULL },
	};
	return play(roles);
}
