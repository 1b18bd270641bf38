/* What the header promises beyond waiting and waking: each line that does not hold is printed. */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <waitqueue.h>

static int failures;

#define EXPECT(what)                                                                              \
	do {                                                                                      \
		if (!(what)) {                                                                    \
			printf("line %d: %s (%s)\n", __LINE__, #what, wq_last_error());           \
			failures++;                                                               \
		}                                                                                 \
	} while (0)

struct frame {
	wq_u64 number;
	wq_u32 pixels[14];
};

static int never(void *context)
{
	(void)context;
	return 0;
}

static int always(void *context)
{
	(void)context;
	return 1;
}

static int take_one(void *context)
{
	wq_u32 *count = context;
	uint32_t seen = atomic_load(count);
	while (seen != 0)
		if (atomic_compare_exchange_weak(count, &seen, seen - 1))
			return 1;
	return 0;
}

struct wait {
	wq_queue *queue;
	wq_u32 *count;
	int status;
};

static void *wait_exclusively(void *context)
{
	struct wait *wait = context;
	wait->status = wq_wait_event_exclusive(wait->queue, take_one(wait->count));
	return NULL;
}

static void library(void)
{
	EXPECT(strlen(wq_version()) > 0);
	EXPECT(wq_last_error() != NULL && strlen(wq_last_error()) == 0);
	EXPECT(wq_check() == 0);
	EXPECT(wq_check_interface(WQ_INTERFACE + 1, sizeof(wq_wait), 4, 8) == -EPROTO);
	EXPECT(strstr(wq_last_error(), "compile") != NULL);
}

static void null_pointers(wq_region *region, wq_queue *queue)
{
	wq_region *no_region = (wq_region *)&failures;
	wq_queue *no_queue = (wq_queue *)&failures;
	void *object = &failures;
	wq_u32 *number = NULL;
	uint64_t id = 7;

	EXPECT(wq_region_create(NULL, NULL, &no_region) == -EINVAL);
	EXPECT(wq_region_open(NULL, NULL, &no_region) == -EINVAL);
	EXPECT(wq_region_open_or_create(NULL, NULL, &no_region) == -EINVAL);
	EXPECT(no_region == (wq_region *)&failures);
	EXPECT(wq_region_open_or_create("/x", NULL, NULL) == -EINVAL);
	EXPECT(wq_region_unlink(NULL) == -EINVAL);
	EXPECT(wq_region_me(NULL, &id) == -EINVAL && id == 7);
	EXPECT(wq_region_me(region, NULL) == -EINVAL);
	EXPECT(wq_region_is_alive(NULL, 1) == -EINVAL);
	EXPECT(strcmp(wq_last_error(), "region is NULL") == 0);
	EXPECT(wq_region_queue(NULL, "q", &no_queue) == -EINVAL);
	EXPECT(wq_region_queue(region, NULL, &no_queue) == -EINVAL);
	EXPECT(wq_region_queue(region, "q", NULL) == -EINVAL);
	EXPECT(no_queue == (wq_queue *)&failures);
	EXPECT(wq_region_object(NULL, "o", "t", 4, 4, &object) == -EINVAL);
	EXPECT(wq_region_object(region, NULL, "t", 4, 4, &object) == -EINVAL);
	EXPECT(wq_region_object(region, "o", NULL, 4, 4, &object) == -EINVAL);
	EXPECT(wq_region_object(region, "o", "t", 4, 4, NULL) == -EINVAL);
	EXPECT(object == &failures);
	EXPECT(wq_region_object_u32(region, "o", NULL) == -EINVAL);
	EXPECT(wq_region_object_u32(NULL, "o", &number) == -EINVAL);
	EXPECT(wq_queue_wait_event(NULL, always, NULL) == -EINVAL);
	EXPECT(wq_queue_wait_event(queue, NULL, NULL) == -EINVAL);
	EXPECT(wq_wake_up((wq_queue *)NULL) == -EINVAL);
	EXPECT(wq_queue_close(NULL, NULL) == -EINVAL);
	EXPECT(wq_queue_has_sleepers(NULL) == -EINVAL);
	EXPECT(wq_queue_free(NULL) == 0);
	wq_region_free(NULL);
}

static void objects(wq_region *region)
{
	struct frame *frame, *again;
	wq_u32 *number;
	wq_u64 *wide;
	void *other = &failures;
	char long_name[100];

	EXPECT(wq_region_object(region, "frame", "frame v1", sizeof *frame, 64, (void **)&frame) == 0);
	EXPECT(frame->number == 0 && frame->pixels[13] == 0);
	frame->number = 42;
	EXPECT(wq_region_object(region, "frame", "frame v1", sizeof *frame, 64, (void **)&again) == 0);
	EXPECT(again == frame && again->number == 42);
	EXPECT(wq_region_object(region, "frame", "frame v2", sizeof *frame, 64, &other) == -EEXIST);
	EXPECT(strstr(wq_last_error(), "frame v1") != NULL && strstr(wq_last_error(), "frame v2") != NULL);
	EXPECT(wq_region_object(region, "frame", "frame v1", sizeof *frame + 1, 64, &other) == -EEXIST);
	EXPECT(wq_region_object(region, "frame", "frame v1", sizeof *frame, 32, &other) == -EEXIST);
	EXPECT(wq_region_object(region, "odd", "t", 4, 3, &other) == -EINVAL);
	EXPECT(wq_region_object(region, "odd", "t", 4, 0, &other) == -EINVAL);
	EXPECT(wq_region_object(region, "odd", "t", 4, 128, &other) == -EINVAL);
	EXPECT(wq_region_object(region, "odd", "t", 4, SIZE_MAX, &other) == -EINVAL);
	EXPECT(wq_region_object(region, "odd", "t", 0, 1, &other) == -EINVAL);
	EXPECT(wq_region_object(region, "odd", "t", SIZE_MAX, 1, &other) == -ENOBUFS);
	EXPECT(wq_region_object(region, "", "t", 4, 4, &other) == -EINVAL);
	EXPECT(wq_region_object(region, "\xff", "t", 4, 4, &other) == -EINVAL);
	memset(long_name, 'x', sizeof long_name);
	long_name[sizeof long_name - 1] = 0;
	EXPECT(wq_region_object(region, long_name, "t", 4, 4, &other) == -EINVAL);
	EXPECT(other == &failures);
	EXPECT(wq_region_object_u32(region, "number", &number) == 0 && *number == 0);
	EXPECT(wq_region_object_u64(region, "number", &wide) == -EEXIST);
	EXPECT(wq_region_object_u64(region, "wide", &wide) == 0 && *wide == 0);
}

static void waits(wq_region *region, wq_queue *queue)
{
	uint64_t left = 7;
	wq_woken woken = { 7, 7 };
	uint32_t closed = 7;
	struct wait wait = { .queue = queue };
	pthread_t thread;
	wq_queue *other;

	EXPECT(wq_queue_wait_event(queue, always, NULL) == 0);
	EXPECT(wq_wait_event_exclusive(queue, 1) == 0);
	EXPECT(wq_queue_wait_event_with(queue, never, NULL, NULL, 0, &left) == -ETIMEDOUT);
	EXPECT(wq_queue_wait_event_with(queue, never, NULL, NULL, 1000000, &left) == -ETIMEDOUT);
	EXPECT(wq_wait_event_exclusive_timeout(queue, 0, 1000000) == -ETIMEDOUT);
	EXPECT(left == 7);
	EXPECT(wq_queue_wait_event_with(queue, always, NULL, NULL, 0, &left) == 0 && left == 1);
	EXPECT(wq_queue_wait_event_with(queue, always, NULL, NULL, UINT64_MAX, &left) == 0 && left == UINT64_MAX);
	EXPECT(wq_queue_wake_up(queue, 0, WQ_CLASS_ANY, WQ_KEY_ANY, &woken) == -EINVAL);
	EXPECT(woken.exclusive == 7 && woken.nonexclusive == 7);
	EXPECT(wq_wake_up(queue) == 0);
	EXPECT(wq_queue_wake_up(queue, WQ_ALL, WQ_CLASS_ANY, WQ_KEY_ANY, &woken) == 0 && woken.exclusive == 0 && woken.nonexclusive == 0);
	EXPECT(wq_queue_has_sleepers(queue) == 0);

	EXPECT(wq_region_object_u32(region, "count", &wait.count) == 0);
	EXPECT(pthread_create(&thread, NULL, wait_exclusively, &wait) == 0);
	while (wq_queue_has_sleepers(queue) == 0)
		usleep(100);
	EXPECT(wq_queue_free(queue) == -EBUSY);
	atomic_store(wait.count, 1);
	EXPECT(wq_wake_up_nr(queue, 2) >= 0);
	EXPECT(pthread_join(thread, NULL) == 0 && wait.status == 0 && atomic_load(wait.count) == 0);

	EXPECT(wq_region_queue(region, "closing", &other) == 0);
	EXPECT(wq_queue_close(other, &closed) == 0 && closed == 0);
	EXPECT(wq_queue_wait_event(other, never, NULL) == -ESHUTDOWN);
	EXPECT(wq_queue_wait_event(other, always, NULL) == 0);
	EXPECT(wq_queue_free(other) == 0);
}

static void lives(wq_region *region, wq_queue *queue, const char *name)
{
	uint64_t me = 0;
	wq_region *again;
	int status;
	pid_t child;

	EXPECT(wq_region_me(region, &me) == 0 && me != 0);
	EXPECT(wq_region_is_alive(region, me) == 1);
	EXPECT(wq_region_is_alive(region, 0) == 0);
	EXPECT(wq_region_is_alive(region, UINT64_MAX) == 0);
	EXPECT(wq_region_open(name, NULL, &again) == 0);
	EXPECT(wq_region_me(again, &me) == 0 && wq_region_is_alive(region, me) == 1);
	wq_region_free(again);
	EXPECT(wq_region_is_alive(region, me) == 0);

	child = fork();
	if (child == 0) {
		failures = 0;
		EXPECT(wq_queue_wait_event(queue, never, NULL) == -ECHILD);
		EXPECT(wq_region_open(name, NULL, &again) == 0);
		wq_region_free(again);
		fflush(stdout);
		_exit(failures);
	}
	EXPECT(waitpid(child, &status, 0) == child && status == 0);
}

int main(int argc, char **argv)
{
	const char *name = argv[argc - 1];
	wq_region *region, *other = NULL;
	wq_queue *queue;

	library();
	EXPECT(wq_region_open(name, NULL, &other) == -ENOENT && other == NULL);
	EXPECT(wq_region_create("no/slash", NULL, &other) == -EINVAL && other == NULL);
	EXPECT(wq_region_create(name, NULL, &region) == 0);
	EXPECT(wq_region_create(name, NULL, &other) == -EEXIST && other == NULL);
	EXPECT(strstr(wq_last_error(), name) != NULL);
	EXPECT(wq_region_queue(region, "queue", &queue) == 0);
	null_pointers(region, queue);
	objects(region);
	waits(region, queue);
	lives(region, queue, name);
	/* A queue keeps its region attached. */
	wq_region_free(region);
	EXPECT(wq_queue_wait_event_with(queue, never, NULL, NULL, 1000, NULL) == -ETIMEDOUT);
	EXPECT(wq_queue_free(queue) == 0);
	EXPECT(wq_region_unlink(name) == 0);
	EXPECT(wq_region_unlink(name) == -ENOENT);
	if (failures == 0)
		puts("the contract holds");
	return failures != 0;
}
