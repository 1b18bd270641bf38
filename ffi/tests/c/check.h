/*
 * What the C programs of the tests share: roles, expectations, threads, and an end to everything that hangs.
 *
 * All of it, and the programs, are C11 as well as C++17.
 */
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <waitqueue.h>

#define MS UINT64_C(1000000)
#define LONG (20000 * MS)	/* Beyond what anything takes: whoever gets so far has hung. */

static int failures;
static volatile int line_now;

/* A line for the test. */
__attribute__((__format__(__printf__, 1, 2), __unused__)) static void say(const char *format, ...)
{
	va_list rest;
	flockfile(stdout);
	fputs("> ", stdout);
	va_start(rest, format);
	vprintf(format, rest);
	va_end(rest);
	putchar('\n');
	fflush(stdout);
	funlockfile(stdout);
}

/* A line from it. */
__attribute__((__unused__)) static void listen_for(const char *expected)
{
	char line[100] = "";
	if (fgets(line, sizeof line, stdin) == NULL)
		_exit(4); /* The test has ended. */
	line[strcspn(line, "\n")] = 0;
	if (strcmp(line, expected) != 0) {
		say("told %s instead of %s", line, expected);
		failures++;
	}
}

__attribute__((__unused__)) static int expect_(int holds, const char *what, const char *file, int line)
{
	line_now = line;
	if (!holds) {
		say("%s:%d: %s (%s)", file, line, what, wq_last_error());
		failures++;
	}
	return holds;
}

__attribute__((__unused__)) static void is_(int64_t value, int64_t expected, const char *what, const char *file, int line)
{
	line_now = line;
	if (value != expected) {
		say("%s:%d: %s is %" PRId64 ", not %" PRId64 " (%s)", file, line, what, value, expected, wq_last_error());
		failures++;
	}
}

#define EXPECT(what) expect_((what) ? 1 : 0, #what, __FILE__, __LINE__)
#define IS(what, expected) is_((int64_t)(what), (int64_t)(expected), #what, __FILE__, __LINE__)
/* Fails in this way, and the message has this in it. */
#define FAILS(what, expected, part)                                  \
	do {                                                         \
		IS(what, -(expected));                               \
		EXPECT(strstr(wq_last_error(), part) != NULL);       \
	} while (0)

static inline void nap(void)
{
	struct timespec time = { 0, 200000 };
	nanosleep(&time, NULL);
}

/* Waits until it holds; the watchdog ends what takes too long. */
#define UNTIL(what)                          \
	do {                                 \
		line_now = __LINE__;         \
		while (!(what))              \
			nap();               \
	} while (0)

#ifdef __cplusplus
static inline uint32_t get(wq_u32 *number) { return number->load(); }
static inline void put(wq_u32 *number, uint32_t value) { number->store(value); }
static inline uint32_t add(wq_u32 *number, uint32_t value) { return number->fetch_add(value); }
static inline bool swap(wq_u32 *number, uint32_t *seen, uint32_t value) { return number->compare_exchange_weak(*seen, value); }
#else
static inline uint32_t get(wq_u32 *number) { return atomic_load(number); }
static inline void put(wq_u32 *number, uint32_t value) { atomic_store(number, value); }
static inline uint32_t add(wq_u32 *number, uint32_t value) { return atomic_fetch_add(number, value); }
static inline _Bool swap(wq_u32 *number, uint32_t *seen, uint32_t value) { return atomic_compare_exchange_weak(number, seen, value); }
#endif

/* Takes one, if there is one. */
__attribute__((__unused__)) static int take(void *context)
{
	wq_u32 *count = (wq_u32 *)context;
	uint32_t seen = get(count);
	while (seen != 0)
		if (swap(count, &seen, seen - 1))
			return 1;
	return 0;
}

__attribute__((__unused__)) static int never(void *context)
{
	(void)context;
	return 0;
}

__attribute__((__unused__)) static int always(void *context)
{
	(void)context;
	return 1;
}

__attribute__((__unused__)) static pthread_t start(void *(*body)(void *), void *context)
{
	pthread_t thread;
	IS(pthread_create(&thread, NULL, body, context), 0);
	return thread;
}

#define JOIN(thread)                                              \
	do {                                                      \
		line_now = __LINE__;                              \
		is_(pthread_join(thread, NULL), 0, "join", __FILE__, __LINE__); \
	} while (0)

__attribute__((__unused__)) static wq_wait_options waiting_with(uint32_t flags)
{
	wq_wait_options options = wq_wait_options_default();
	options.flags = flags;
	return options;
}

/* As in the tests in Rust: no tick, so that a lost wake hangs instead of being late, and no spin. */
__attribute__((__unused__)) static wq_region *attach(const char *name)
{
	wq_region_options options = wq_region_options_default();
	wq_region *region = NULL;
	options.flags = WQ_NO_TICK | WQ_NO_REGION_SPIN;
	IS(wq_region_open_or_create(name, &options, &region), 0);
	return region;
}

__attribute__((__unused__)) static wq_queue *queue_of(const wq_region *region, const char *name)
{
	wq_queue *queue = NULL;
	IS(wq_region_queue(region, name, &queue), 0);
	return queue;
}

__attribute__((__unused__)) static wq_u32 *number_of(const wq_region *region, const char *name)
{
	wq_u32 *number = NULL;
	IS(wq_region_object_u32(region, name, &number), 0);
	return number;
}

/* How many wait on a queue in a state, or in any (-1). */
__attribute__((__unused__)) static unsigned waiters(const wq_region *region, const char *name, int state)
{
	wq_snapshot *snapshot;
	wq_queue_info queue;
	wq_waiter_info waiter;
	unsigned found = 0;
	IS(wq_region_snapshot(region, &snapshot), 0);
	for (uint32_t at = 0; wq_snapshot_queue(snapshot, at, &queue) == 0; at++)
		if (strcmp(queue.name, name) == 0)
			for (uint32_t of = 0; wq_snapshot_waiter(snapshot, at, of, &waiter) == 0; of++)
				found += state < 0 || waiter.state == (uint32_t)state;
	wq_snapshot_free(snapshot);
	return found;
}

#define UNTIL_ASLEEP(region, name, count) UNTIL(waiters(region, name, WQ_ASLEEP) >= (count))

struct role {
	const char *name;
	void (*play)(char **args);
};

static void *watch(void *context)
{
	struct timespec limit = { 25, 0 };
	(void)context;
	nanosleep(&limit, NULL);
	say("hung near line %d", line_now);
	_exit(3);
}

__attribute__((__unused__)) static int play(const struct role *roles)
{
	char *args[16] = { NULL }, *rest = NULL, *given = getenv("WAITQUEUE_TEST_ARGS");
	const char *wanted = getenv("WAITQUEUE_TEST_ROLE");
	int count = 0;
	sigset_t all, before;
	pthread_t watchdog;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	pthread_create(&watchdog, NULL, watch, NULL);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	for (char *arg = given ? strtok_r(given, "\n", &rest) : NULL; arg && count < 15; arg = strtok_r(NULL, "\n", &rest))
		args[count++] = arg;
	for (; roles->name != NULL; roles++)
		if (wanted != NULL && strcmp("roles", wanted) == 0)
			say("%s", roles->name);
		else if (wanted != NULL && strcmp(roles->name, wanted) == 0) {
			roles->play(args);
			if (failures == 0)
				say("well");
			return failures != 0;
		}
	return 2;
}
