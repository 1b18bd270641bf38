/* A bit of everything, for valgrind: all that is made is given back, and all that is read was written. */
#include "check.h"

static const char *name;
static wq_region *region;
static wq_queue *queue;
static wq_u32 *count;
static wq_lock *lock;

static void *waits(void *context)
{
	static wq_u32 turn;
	wq_source source;
	wq_wait_options options = waiting_with(WQ_EXCLUSIVE);
	wq_set *set;
	uint32_t out;
	(void)context;
	options.label = "under valgrind";
	memset(&source, 0, sizeof source);
	source.queue = queue;
	source.condition = take;
	source.context = count;
	switch (add(&turn, 1) % 6) {
	case 0:
		IS(wq_wait_event_with(queue, take(count), &options), 0);
		break;
	case 1:
		IS(wq_queue_wait_event(queue, take, count), 0);
		break;
	case 2:
		IS(wq_wait_many(&source, 1, NULL, WQ_FOREVER, &out), 0);
		break;
	case 3:
		IS(wq_set_new(region, &set), 0);
		IS(wq_set_add(set, queue, take, count, NULL, &out), 0);
		IS(wq_set_wait(set, NULL, WQ_FOREVER, &out), 0);
		IS(wq_set_remove(set, out), 0);
		IS(wq_set_free(set), 0);
		break;
	case 4:
		IS(wq_lock_lock(lock), 0);
		IS(wq_wait_event_locked(queue, take(count), lock), 0);
		IS(wq_lock_unlock(lock), 0);
		break;
	default:
		IS(wq_queue_wait_woken(queue, NULL, WQ_FOREVER, NULL), 0);
		IS(take(count), 1);
	}
	return NULL;
}

/* Not in the first thread: what Rust keeps for that one is never given back. */
static void *everything(void *context)
{
	wq_robust_lock *word;
	wq_snapshot *snapshot;
	wq_interrupter *interrupter;
	wq_wait_options options = wq_wait_options_default();
	pid_t child;
	int status;
	(void)context;
	IS(wq_region_open("/waitqueue-none", NULL, &region), -ENOENT);
	IS(wq_region_create(name, NULL, &region), 0);
	queue = queue_of(region, "queue");
	count = number_of(region, "count");
	IS(wq_region_object(region, "lock", "lock", sizeof *word, 8, (void **)&word), 0);
	IS(wq_region_lock_at(region, word, &lock), 0);
	for (int round = 0; round < 12; round++) {
		pthread_t thread = start(waits, NULL);
		UNTIL_ASLEEP(region, "queue", 1);
		put(count, 1);
		IS(wq_wake_up(queue), 1);
		JOIN(thread);
		IS(get(count), 0);
	}
	IS(wq_wait_event_timeout(queue, 0, MS), -ETIMEDOUT);
	IS(wq_interrupter_new(region, &interrupter), 0);
	options.interrupter = interrupter;
	IS(wq_interrupter_interrupt(interrupter), 0);
	IS(wq_wait_event_with(queue, 0, &options), -EINTR);
	IS(wq_interrupter_free(interrupter), 0);
	IS(wq_inspect(name, NULL, &snapshot), 0);
	EXPECT(strlen(wq_snapshot_text(snapshot)) > 0);
	IS(wq_snapshot_free(snapshot), 0);
	IS(wq_region_check(region), 0);
	/* Another process comes and dies. */
	child = fork();
	if (child == 0) {
		wq_region_open(name, NULL, &region);
		kill(getpid(), SIGKILL);
	}
	IS(waitpid(child, &status, 0), child);
	IS(wq_lock_free(lock), 0);
	IS(wq_queue_free(queue), 0);
	IS(wq_region_free(region), 0);
	IS(wq_region_unlink(name), 0);
	return NULL;
}

static void whole(char **args)
{
	name = args[0];
	JOIN(start(everything, NULL));
}

int main(void)
{
	static const struct role roles[] = {
		{ "whole", whole },
		{ NULL, NULL },
	};
	return play(roles);
}
