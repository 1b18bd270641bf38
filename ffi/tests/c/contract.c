/* What the header promises of the library, regions, objects, locks and snapshots, function by function. */
#include "check.h"
#include <fcntl.h>

/* Handles that nothing writes to: what an output was before a failure. */
static int somewhere;
#define UNTOUCHED(type) ((type *)&somewhere)

struct frame {
	wq_u64 number;
	wq_u32 pixels[14];
	wq_queue_head head;
	wq_robust_lock lock;
};

static void *fails_elsewhere(void *context)
{
	(void)context;
	EXPECT(strlen(wq_last_error()) == 0);
	IS(wq_region_flush(NULL), -EINVAL);
	EXPECT(strcmp(wq_last_error(), "region is NULL") == 0);
	return NULL;
}

static void library(char **args)
{
	(void)args;
	EXPECT(wq_last_error() != NULL && strlen(wq_last_error()) == 0);
	EXPECT(strspn(wq_version(), "0123456789.") == strlen(wq_version()) && strlen(wq_version()) >= 5);
	IS(wq_check(), 0);
	FAILS(wq_check_interface(WQ_INTERFACE + 1, sizeof(wq_wait), 4, 8), EPROTO, "compile");
	IS(wq_check_interface(WQ_INTERFACE, sizeof(wq_wait) - 8, 4, 8), -EPROTO);
	IS(wq_check_interface(WQ_INTERFACE, sizeof(wq_wait), 8, 8), -EPROTO);
	IS(wq_check_interface(WQ_INTERFACE, sizeof(wq_wait), 4, 4), -EPROTO);
	JOIN(start(fails_elsewhere, NULL));
	EXPECT(strstr(wq_last_error(), "interface") != NULL);
	/* Success leaves the message. */
	IS(wq_check(), 0);
	EXPECT(strstr(wq_last_error(), "interface") != NULL);
	EXPECT(strcmp(wq_strerror(0), "success") == 0 && strcmp(wq_strerror(7), "success") == 0);
	for (int status = -1; status > -200; status--)
		EXPECT(wq_strerror(status) != NULL && strlen(wq_strerror(status)) > 0 && strcmp(wq_strerror(status), "success") != 0);
	EXPECT(wq_strerror(INT32_MIN) != NULL);
	EXPECT(strstr(wq_strerror(-ESHUTDOWN), "closed") != NULL);
	/* Of the system's own. */
	EXPECT(strcmp(wq_strerror(-EMFILE), strerror(EMFILE)) == 0);
}

static wq_region_options regions_with(uint32_t flags)
{
	wq_region_options options = wq_region_options_default();
	options.flags = flags;
	return options;
}

/* The three ways that take a name fail alike, and write nothing. */
static void all_fail(const char *name, const wq_region_options *options, int expected, const char *part)
{
	wq_region *region = UNTOUCHED(wq_region);
	FAILS(wq_region_create(name, options, &region), expected, part);
	FAILS(wq_region_open(name, options, &region), expected, part);
	FAILS(wq_region_open_or_create(name, options, &region), expected, part);
	EXPECT(region == UNTOUCHED(wq_region));
}

static void opening(char **args)
{
	const char *name = args[0];
	wq_region *region = UNTOUCHED(wq_region), *other = UNTOUCHED(wq_region);
	wq_region_options options;
	uint64_t me = 7, again = 7;
	char path[300];

	all_fail("no/slash", NULL, EINVAL, "no/slash");
	all_fail("", NULL, EINVAL, "region name");
	all_fail("/\xff", NULL, EINVAL, "not UTF-8");
	all_fail(NULL, NULL, EINVAL, "name is NULL");
	options = regions_with(16);
	all_fail(name, &options, EINVAL, "unknown flags 0x10");
	options = regions_with(0);
	options.owner_count = 1;
	all_fail(name, &options, EINVAL, "owners are NULL");
	options = regions_with(0);
	options.group_count = 1;
	all_fail(name, &options, EINVAL, "groups are NULL");

	FAILS(wq_region_open(name, NULL, &region), ENOENT, name);
	EXPECT(region == UNTOUCHED(wq_region));
	options = regions_with(0);
	options.threads = 32768;
	FAILS(wq_region_create(name, &options, &region), EINVAL, "threads = 32768");
	options = regions_with(0);
	options.mode = 0777;
	FAILS(wq_region_create(name, &options, &region), EACCES, "0777");
	EXPECT(region == UNTOUCHED(wq_region));
	options = regions_with(0);
	options.memory = UINT64_C(1) << 40;
	FAILS(wq_region_create(name, &options, &region), ENOSPC, name);

	options = regions_with(0);
	options.participants = 3;
	options.mode = 0640;
	IS(wq_region_create(name, &options, &region), 0);
	FAILS(wq_region_create(name, &options, &other), EEXIST, name);
	EXPECT(other == UNTOUCHED(wq_region));
	IS(wq_region_open(name, NULL, &other), 0);
	IS(wq_region_me(region, &me), 0);
	IS(wq_region_me(other, &again), 0);
	EXPECT(me != 0 && again != 0 && me != again);
	IS(wq_region_is_alive(region, me), 1);
	IS(wq_region_is_alive(region, again), 1);
	IS(wq_region_free(other), 0);
	IS(wq_region_is_alive(region, again), 0);
	IS(wq_region_is_alive(region, 0), 0);
	IS(wq_region_is_alive(region, UINT64_MAX), 0);
	IS(wq_region_open_or_create(name, &options, &other), 0);
	EXPECT(wq_region_me(other, &me) == 0 && me != again);
	IS(wq_region_free(other), 0);

	other = UNTOUCHED(wq_region);
	snprintf(path, sizeof path, "/dev/shm%s", name);
	IS(chmod(path, 0646), 0);
	FAILS(wq_region_open_or_create(name, &options, &other), EACCES, "0646");
	IS(chmod(path, 0600), 0);
	options.participants = 4;
	FAILS(wq_region_open_or_create(name, &options, &other), ERANGE, "participants = 3");
	EXPECT(other == UNTOUCHED(wq_region));

	IS(wq_region_unlink(name), 0);
	FAILS(wq_region_unlink(name), ENOENT, name);
	FAILS(wq_region_unlink(NULL), EINVAL, "name is NULL");
	FAILS(wq_region_unlink("a/b"), EINVAL, "a/b");
	/* Those who are attached go on. */
	IS(wq_region_is_alive(region, again), 0);
	IS(wq_region_free(region), 0);
	IS(wq_region_free(NULL), 0);
}

/* A size of options that no header has, and those of a later header, of which this library knows the beginning. */
static void sizes(char **args)
{
	struct {
		wq_region_options known;
		uint64_t later[2];
	} region_options;
	struct {
		wq_wait_options known;
		uint64_t later[2];
	} wait_options;
	wq_region *region = UNTOUCHED(wq_region);
	wq_queue *queue;
	const size_t bad[] = { 0, 1, sizeof(wq_region_options) - 1, SIZE_MAX };
	const size_t bad_of_waits[] = { 0, 1, sizeof(wq_wait_options) - 1, SIZE_MAX };

	region_options.known = wq_region_options_default();
	wait_options.known = wq_wait_options_default();
	memset(region_options.later, 0, sizeof region_options.later);
	memset(wait_options.later, 0, sizeof wait_options.later);
	for (int at = 0; at < 4; at++) {
		region_options.known.size = bad[at];
		all_fail(args[0], &region_options.known, EINVAL, "wq_region_options_default");
		FAILS(wq_region_create_memfd("m", &region_options.known, &region), EINVAL, "size");
		FAILS(wq_region_open_fd(0, &region_options.known, &region), EINVAL, "size");
		FAILS(wq_inspect(args[0], &region_options.known, (wq_snapshot **)&region), EINVAL, "size");
	}
	region_options.known.size = sizeof region_options;
	region_options.later[1] = 1;
	all_fail(args[0], &region_options.known, EINVAL, "size");
	EXPECT(region == UNTOUCHED(wq_region));
	region_options.later[1] = 0;
	IS(wq_region_create(args[0], &region_options.known, &region), 0);
	queue = queue_of(region, "queue");
	for (int at = 0; at < 4; at++) {
		wait_options.known.size = bad_of_waits[at];
		FAILS(wq_queue_wait_event_with(queue, never, NULL, &wait_options.known, 0, NULL), EINVAL, "wq_wait_options_default");
	}
	wait_options.known.size = sizeof wait_options;
	wait_options.later[0] = UINT64_C(1) << 63;
	IS(wq_queue_wait_woken(queue, &wait_options.known, 0, NULL), -EINVAL);
	wait_options.later[0] = 0;
	IS(wq_queue_wait_woken(queue, &wait_options.known, 0, NULL), -ETIMEDOUT);
	wait_options.known.flags = 32;
	FAILS(wq_queue_wait_event_with(queue, never, NULL, &wait_options.known, 0, NULL), EINVAL, "unknown flags 0x20");
	wait_options.known.flags = 0;
	wait_options.known.signal_count = 1;
	FAILS(wq_queue_wait_event_with(queue, never, NULL, &wait_options.known, 0, NULL), EINVAL, "signals are NULL");
	wait_options.known.signal_count = 0;
	wait_options.known.label = "\xff";
	FAILS(wq_queue_wait_event_with(queue, never, NULL, &wait_options.known, 0, NULL), EINVAL, "label");
	IS(wq_queue_free(queue), 0);
	IS(wq_region_free(region), 0);
}

/* Writes into the file of a region. */
static void patch(const char *name, off_t offset, const void *bytes, size_t size)
{
	char path[300];
	int fd;
	snprintf(path, sizeof path, "/dev/shm%s", name);
	fd = open(path, O_RDWR | O_CLOEXEC);
	EXPECT(fd >= 0 && pwrite(fd, bytes, size, offset) == (ssize_t)size && close(fd) == 0);
}

static void others_files(char **args)
{
	const uint32_t version = 9;
	const char *const no_magic = "nonsense";
	wq_region *region = NULL;
	wq_region_options options = regions_with(WQ_REPLACE_DEAD);
	uint32_t owner = 12345;
	char path[300];

	snprintf(path, sizeof path, "/dev/shm%s", args[0]);
	IS(wq_region_create(args[0], NULL, &region), 0);
	IS(wq_region_free(region), 0);
	region = UNTOUCHED(wq_region);
	if (geteuid() == 0 && chown(path, owner, 0) == 0) {
		FAILS(wq_region_open(args[0], NULL, &region), EPERM, "12345");
		options.owners = &owner;
		options.owner_count = 1;
		IS(wq_region_open(args[0], &options, &region), 0);
		IS(wq_region_free(region), 0);
		options.owner_count = 0;
		IS(chown(path, 0, 0), 0);
	}
	region = UNTOUCHED(wq_region);
	patch(args[0], 8, &version, sizeof version);
	FAILS(wq_region_open(args[0], NULL, &region), EPROTO, "version 9");
	FAILS(wq_region_open_or_create(args[0], NULL, &region), EPROTO, args[0]);
	EXPECT(region == UNTOUCHED(wq_region));
	IS(wq_region_open_or_create(args[0], &options, &region), 0);
	IS(wq_region_free(region), 0);
	region = UNTOUCHED(wq_region);
	patch(args[0], 24, no_magic, 8);
	FAILS(wq_region_open(args[0], NULL, &region), EUCLEAN, "size in the header");
	patch(args[0], 0, no_magic, 8);
	FAILS(wq_region_open(args[0], NULL, &region), EMEDIUMTYPE, "not a region");
	EXPECT(region == UNTOUCHED(wq_region));
	IS(wq_region_unlink(args[0]), 0);
}

static void descriptors_and_paths(char **args)
{
	wq_region *region, *other = UNTOUCHED(wq_region);
	wq_snapshot *snapshot = UNTOUCHED(wq_snapshot);
	wq_region_options options = regions_with(WQ_PATH);
	wq_region_info info;
	wq_u32 *one, *two;
	char path[] = P_tmpdir "/waitqueue-XXXXXX", file[64];
	int fd, unsealed;

	(void)args;
	IS(wq_region_create_memfd("a label", NULL, &region), 0);
	fd = wq_region_fd(region);
	EXPECT(fd >= 0 && (fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0);
	IS(wq_region_open_fd(fd, NULL, &other), 0);
	/* The descriptor stayed ours. */
	EXPECT(fcntl(fd, F_GETFD) >= 0 && close(fd) == 0);
	one = number_of(region, "number");
	two = number_of(other, "number");
	put(one, 42);
	IS(get(two), 42);
	IS(wq_region_free(other), 0);
	other = UNTOUCHED(wq_region);
	FAILS(wq_region_open_fd(-1, NULL, &other), EBADF, "-1 is not an open descriptor");
	FAILS(wq_region_open_fd(fd, NULL, &other), EBADF, "not an open descriptor");
	unsealed = memfd_create("unsealed", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	EXPECT(unsealed >= 0 && ftruncate(unsealed, 8192) == 0 && fchmod(unsealed, 0600) == 0);
	IS(wq_region_open_fd(unsealed, NULL, &other), -EACCES);
	close(unsealed);
	FAILS(wq_region_create_memfd(NULL, NULL, &other), EINVAL, "label is NULL");
	FAILS(wq_region_fd(NULL), EINVAL, "region is NULL");
	EXPECT(other == UNTOUCHED(wq_region));
	IS(wq_region_free(region), 0);

	EXPECT(mkdtemp(path) != NULL);
	snprintf(file, sizeof file, "%s/region", path);
	FAILS(wq_region_open(file, &options, &other), ENOENT, file);
	IS(wq_region_create(file, &options, &region), 0);
	FAILS(wq_region_create(file, &options, &other), EEXIST, file);
	IS(wq_region_open_or_create(file, &options, &other), 0);
	IS(wq_inspect(file, &options, &snapshot), 0);
	IS(wq_snapshot_region(snapshot, &info), 0);
	EXPECT(strcmp(info.name, file) == 0 && info.participants == 2);
	IS(wq_snapshot_free(snapshot), 0);
	IS(wq_inspect(file, NULL, &snapshot), -EINVAL);
	IS(wq_region_unlink_at(file), 0);
	FAILS(wq_region_unlink_at(file), ENOENT, file);
	FAILS(wq_region_unlink_at(NULL), EINVAL, "path is NULL");
	IS(wq_region_free(other), 0);
	IS(wq_region_free(region), 0);
	IS(rmdir(path), 0);
}

static void objects(char **args)
{
	wq_region *region = attach(args[0]), *elsewhere;
	struct frame *frame = NULL, *again = NULL;
	wq_queue_head own_head = WQ_QUEUE_HEAD_INIT;
	wq_robust_lock own_lock = WQ_ROBUST_LOCK_INIT;
	wq_queue *queue = UNTOUCHED(wq_queue);
	wq_lock *lock = UNTOUCHED(wq_lock);
	wq_u32 *number = NULL;
	wq_u64 *wide = UNTOUCHED(wq_u64);
	void *object = &somewhere;
	char long_name[65], name[40];

	IS(wq_region_object(region, "frame", "frame v1", sizeof *frame, 64, (void **)&frame), 0);
	EXPECT(frame->number == 0 && frame->pixels[13] == 0);
	frame->number = 42;
	IS(wq_region_object(region, "frame", "frame v1", sizeof *frame, 64, (void **)&again), 0);
	EXPECT(again == frame && again->number == 42);
	FAILS(wq_region_object(region, "frame", "frame v2", sizeof *frame, 64, &object), EEXIST, "frame v1");
	EXPECT(strstr(wq_last_error(), "frame v2") != NULL);
	IS(wq_region_object(region, "frame", "frame v1", sizeof *frame + 1, 64, &object), -EEXIST);
	IS(wq_region_object(region, "frame", "frame v1", sizeof *frame, 32, &object), -EEXIST);
	FAILS(wq_region_queue(region, "frame", &queue), EEXIST, "frame");
	for (size_t alignment = 0; alignment < 3; alignment++)
		FAILS(wq_region_object(region, "odd", "t", 4, alignment == 0 ? 0 : alignment == 1 ? 3 : 128, &object), EINVAL, "alignment");
	IS(wq_region_object(region, "odd", "t", 4, SIZE_MAX, &object), -EINVAL);
	IS(wq_region_object(region, "odd", "t", 4, (size_t)(UINT64_C(1) << 32 | 4), &object), -EINVAL);
	IS(wq_region_object(region, "odd", "t", 0, 1, &object), -EINVAL);
	IS(wq_region_object(region, "odd", "t", SIZE_MAX, 1, &object), -ENOBUFS);
	IS(wq_region_object(region, "odd", "", 4, 4, &object), -EINVAL);
	IS(wq_region_object(region, "odd", "12345678901234567890123456789012", 4, 4, &object), -EINVAL);
	IS(wq_region_object(region, "", "t", 4, 4, &object), -EINVAL);
	FAILS(wq_region_object(region, "\xff", "t", 4, 4, &object), EINVAL, "UTF-8");
	memset(long_name, 'x', sizeof long_name);
	long_name[64] = 0;
	FAILS(wq_region_object(region, long_name, "t", 4, 4, &object), EINVAL, "63");
	FAILS(wq_region_queue(region, long_name, &queue), EINVAL, "63");
	EXPECT(object == &somewhere && queue == UNTOUCHED(wq_queue));
	long_name[63] = 0;
	IS(wq_region_object(region, long_name, "1234567890123456789012345678901", 4, 4, &object), 0);
	IS(wq_region_object_u32(region, "number", &number), 0);
	IS(get(number), 0);
	FAILS(wq_region_object_u64(region, "number", &wide), EEXIST, "number");
	EXPECT(wide == UNTOUCHED(wq_u64));
	IS(wq_region_object_u64(region, "wide", &wide), 0);
	EXPECT(*wide == 0);

	/* Heads and locks in it, and elsewhere. */
	IS(wq_region_queue_at(region, &frame->head, &queue), 0);
	IS(wq_wake_up(queue), 0);
	FAILS(wq_queue_wait_event_with(queue, never, NULL, NULL, 0, NULL), ETIMEDOUT, "@");
	IS(wq_queue_free(queue), 0);
	IS(wq_region_lock_at(region, &frame->lock, &lock), 0);
	IS(wq_lock_free(lock), 0);
	queue = UNTOUCHED(wq_queue);
	lock = UNTOUCHED(wq_lock);
	IS(wq_region_create_memfd("elsewhere", NULL, &elsewhere), 0);
	FAILS(wq_region_queue_at(region, &own_head, &queue), EINVAL, "queue head");
	FAILS(wq_region_queue_at(elsewhere, &frame->head, &queue), EINVAL, "elsewhere");
	FAILS(wq_region_lock_at(region, &own_lock, &lock), EINVAL, "robust lock");
	FAILS(wq_region_lock_at(elsewhere, &frame->lock, &lock), EINVAL, "elsewhere");
	FAILS(wq_region_queue_at(region, NULL, &queue), EINVAL, "head is NULL");
	FAILS(wq_region_lock_at(region, NULL, &lock), EINVAL, "lock is NULL");
	EXPECT(queue == UNTOUCHED(wq_queue) && lock == UNTOUCHED(wq_lock));
	IS(wq_region_free(elsewhere), 0);
	for (int at = 0; at < 1000; at++) {
		snprintf(name, sizeof name, "filler %d", at);
		if (wq_region_object_u64(region, name, &wide) != 0)
			break;
	}
	FAILS(wq_region_object_u64(region, "one more", &wide), ENOBUFS, "objects");
	IS(wq_region_check(region), 0);
	IS(wq_region_free(region), 0);
}

static void null_pointers(char **args)
{
	wq_region *region = attach(args[0]), *no_region = UNTOUCHED(wq_region);
	wq_queue *no_queue = UNTOUCHED(wq_queue);
	wq_lock *no_lock = UNTOUCHED(wq_lock);
	wq_set *no_set = UNTOUCHED(wq_set);
	wq_snapshot *no_snapshot = UNTOUCHED(wq_snapshot), *snapshot;
	wq_interrupter *no_interrupter = UNTOUCHED(wq_interrupter);
	wq_queue_head head = WQ_QUEUE_HEAD_INIT;
	wq_robust_lock lock = WQ_ROBUST_LOCK_INIT;
	wq_u32 *number = UNTOUCHED(wq_u32);
	wq_u64 *wide = UNTOUCHED(wq_u64);
	void *object = &somewhere;
	uint64_t id = 7;

	IS(wq_region_create(args[0], NULL, NULL), -EINVAL);
	IS(wq_region_open(args[0], NULL, NULL), -EINVAL);
	IS(wq_region_open_or_create("/waitqueue-none", NULL, NULL), -EINVAL);
	IS(wq_region_open("/waitqueue-none", NULL, &no_region), -ENOENT);
	IS(wq_region_create_memfd("m", NULL, NULL), -EINVAL);
	IS(wq_region_open_fd(0, NULL, NULL), -EINVAL);
	IS(wq_region_me(NULL, &id), -EINVAL);
	IS(wq_region_me(region, NULL), -EINVAL);
	FAILS(wq_region_is_alive(NULL, 1), EINVAL, "region is NULL");
	IS(wq_region_queue(NULL, "q", &no_queue), -EINVAL);
	IS(wq_region_queue(region, NULL, &no_queue), -EINVAL);
	FAILS(wq_region_queue(region, "q", NULL), EINVAL, "out is NULL");
	IS(wq_region_queue_at(NULL, &head, &no_queue), -EINVAL);
	IS(wq_region_queue_at(region, &head, NULL), -EINVAL);
	IS(wq_region_lock_at(NULL, &lock, &no_lock), -EINVAL);
	IS(wq_region_lock_at(region, &lock, NULL), -EINVAL);
	IS(wq_region_object(NULL, "o", "t", 4, 4, &object), -EINVAL);
	IS(wq_region_object(region, NULL, "t", 4, 4, &object), -EINVAL);
	IS(wq_region_object(region, "o", NULL, 4, 4, &object), -EINVAL);
	IS(wq_region_object(region, "o", "t", 4, 4, NULL), -EINVAL);
	IS(wq_region_object_u32(NULL, "o", &number), -EINVAL);
	IS(wq_region_object_u32(region, NULL, &number), -EINVAL);
	IS(wq_region_object_u32(region, "o", NULL), -EINVAL);
	IS(wq_region_object_u64(NULL, "o", &wide), -EINVAL);
	IS(wq_region_object_u64(region, NULL, &wide), -EINVAL);
	IS(wq_region_object_u64(region, "o", NULL), -EINVAL);
	IS(wq_region_flush(NULL), -EINVAL);
	IS(wq_region_check(NULL), -EINVAL);
	IS(wq_region_snapshot(NULL, &no_snapshot), -EINVAL);
	IS(wq_region_snapshot(region, NULL), -EINVAL);
	IS(wq_inspect(NULL, NULL, &no_snapshot), -EINVAL);
	IS(wq_inspect(args[0], NULL, NULL), -EINVAL);
	IS(wq_interrupter_new(NULL, &no_interrupter), -EINVAL);
	IS(wq_interrupter_new(region, NULL), -EINVAL);
	IS(wq_interrupter_interrupt(NULL), -EINVAL);
	IS(wq_interrupter_free(NULL), 0);
	IS(wq_set_new(NULL, &no_set), -EINVAL);
	IS(wq_set_new(region, NULL), -EINVAL);
	IS(wq_lock_lock(NULL), -EINVAL);
	IS(wq_lock_lock_timeout(NULL, 0), -EINVAL);
	IS(wq_lock_owner_died(NULL), -EINVAL);
	IS(wq_lock_repaired(NULL), -EINVAL);
	IS(wq_lock_unlock(NULL), -EINVAL);
	IS(wq_lock_free(NULL), 0);
	EXPECT(strlen(wq_snapshot_text(NULL)) == 0);
	IS(wq_snapshot_region(NULL, (wq_region_info *)&somewhere), -EINVAL);
	IS(wq_snapshot_participant(NULL, 0, (wq_participant_info *)&somewhere), -EINVAL);
	IS(wq_snapshot_queue(NULL, 0, (wq_queue_info *)&somewhere), -EINVAL);
	IS(wq_snapshot_waiter(NULL, 0, 0, (wq_waiter_info *)&somewhere), -EINVAL);
	IS(wq_snapshot_object(NULL, 0, (wq_object_info *)&somewhere), -EINVAL);
	IS(wq_region_snapshot(region, &snapshot), 0);
	IS(wq_snapshot_region(snapshot, NULL), -EINVAL);
	IS(wq_snapshot_participant(snapshot, 0, NULL), -EINVAL);
	IS(wq_snapshot_queue(snapshot, 0, NULL), -EINVAL);
	IS(wq_snapshot_waiter(snapshot, 0, 0, NULL), -EINVAL);
	IS(wq_snapshot_object(snapshot, 0, NULL), -EINVAL);
	IS(wq_snapshot_free(snapshot), 0);
	IS(wq_snapshot_free(NULL), 0);
	EXPECT(no_region == UNTOUCHED(wq_region) && no_queue == UNTOUCHED(wq_queue) && no_lock == UNTOUCHED(wq_lock));
	EXPECT(no_set == UNTOUCHED(wq_set) && no_snapshot == UNTOUCHED(wq_snapshot) && no_interrupter == UNTOUCHED(wq_interrupter));
	EXPECT(number == UNTOUCHED(wq_u32) && wide == UNTOUCHED(wq_u64) && object == &somewhere && id == 7 && somewhere == 0);
	IS(wq_region_free(region), 0);
}

static void snapshots(char **args)
{
	wq_region *region = attach(args[0]);
	wq_queue *first = queue_of(region, "first"), *second = queue_of(region, "second");
	wq_wait_options options = waiting_with(WQ_EXCLUSIVE | WQ_PRIORITY);
	wq_wait wait, other;
	wq_snapshot *snapshot, *inspected = UNTOUCHED(wq_snapshot);
	wq_region_info info;
	wq_participant_info participant = { 0, 0, 0, 0 };
	wq_queue_info queue;
	wq_waiter_info waiter;
	wq_object_info object;
	uint64_t me;
	uint32_t at;

	number_of(region, "a number");
	options.label = "a label that is longer than thirty-two bytes";
	options.key = 12;
	IS(wq_queue_prepare_to_wait(first, NULL, WQ_FOREVER, &other), 0);
	IS(wq_queue_prepare_to_wait(first, &options, WQ_FOREVER, &wait), 0);
	IS(wq_queue_close(second, NULL), 0);
	IS(wq_region_snapshot(region, &snapshot), 0);
	IS(wq_inspect(args[0], NULL, &inspected), 0);
	EXPECT(strstr(wq_snapshot_text(inspected), "first") != NULL && strstr(wq_snapshot_text(snapshot), args[0]) != NULL);
	IS(wq_snapshot_free(inspected), 0);
	IS(wq_snapshot_region(snapshot, &info), 0);
	EXPECT(strcmp(info.name, args[0]) == 0 && info.size > 100000 && info.deaths == 0);
	EXPECT(info.participants == 1 && info.queues == 2 && info.objects == 1);
	EXPECT(info.entries_used >= 2 && info.entries >= 2048 && info.threads_used >= 1 && info.threads >= 1024);
	IS(wq_snapshot_participant(snapshot, 0, &participant), 0);
	IS(wq_region_me(region, &me), 0);
	EXPECT(participant.id == me && participant.process == (uint32_t)getpid() && participant.is_alive == 1);
	EXPECT(participant.since / 1000000000 >= time(NULL) - 60 && participant.since / 1000000000 <= time(NULL));
	for (at = 0; wq_snapshot_queue(snapshot, at, &queue) == 0 && strcmp(queue.name, "first") != 0; at++)
		EXPECT(queue.is_closed == 1 && queue.waiters == 0 && strcmp(queue.name, "second") == 0);
	EXPECT(queue.waiters == 2 && queue.is_closed == 0 && queue.lock_owner == 0 && queue.rescues == 0);
	/* In the order of waking: priority first. */
	IS(wq_snapshot_waiter(snapshot, at, 0, &waiter), 0);
	EXPECT(strcmp(waiter.label, "a label that is longer than thir") == 0);
	EXPECT(waiter.participant == me && waiter.process == (uint32_t)getpid() && waiter.key == 12 && waiter.is_persistent == 0);
	EXPECT(waiter.thread == (uint32_t)syscall(SYS_gettid) && waiter.state == WQ_EVALUATING);
	IS(waiter.flags, WQ_EXCLUSIVE | WQ_PRIORITY);
	IS(wq_snapshot_waiter(snapshot, at, 1, &waiter), 0);
	EXPECT(strlen(waiter.label) == 0 && waiter.flags == 0 && waiter.key == WQ_KEY_ANY);
	IS(wq_snapshot_object(snapshot, 0, &object), 0);
	EXPECT(strcmp(object.name, "a number") == 0 && strlen(object.tag) > 0 && object.size == 4);

	queue.wakes = 77;
	queue.name = "untouched";
	FAILS(wq_snapshot_queue(snapshot, 2, &queue), ENOENT, "queue 2");
	FAILS(wq_snapshot_participant(snapshot, 1, &participant), ENOENT, "participant 1");
	FAILS(wq_snapshot_waiter(snapshot, at, 2, &waiter), ENOENT, "waiter 2");
	FAILS(wq_snapshot_waiter(snapshot, 2, 0, &waiter), ENOENT, "queue 2");
	FAILS(wq_snapshot_object(snapshot, UINT32_MAX, &object), ENOENT, "object 4294967295");
	EXPECT(queue.wakes == 77 && strcmp(queue.name, "untouched") == 0 && participant.id == me);
	IS(wq_wait_cancel(&wait), 0);
	IS(wq_wait_cancel(&other), 0);
	/* It shows what was. */
	EXPECT(wq_snapshot_waiter(snapshot, at, 1, &waiter) == 0);
	IS(wq_snapshot_free(snapshot), 0);
	snapshot = UNTOUCHED(wq_snapshot);
	FAILS(wq_inspect("/waitqueue-none", NULL, &snapshot), ENOENT, "/waitqueue-none");
	EXPECT(snapshot == UNTOUCHED(wq_snapshot));
	IS(wq_queue_free(first), 0);
	IS(wq_queue_free(second), 0);
	IS(wq_region_free(region), 0);
}

int main(void)
{
	static const struct role roles[] = {
		{ "library", library },
		{ "opening", opening },
		{ "sizes", sizes },
		{ "others_files", others_files },
		{ "descriptors_and_paths", descriptors_and_paths },
		{ "objects", objects },
		{ "null_pointers", null_pointers },
		{ "snapshots", snapshots },
		{ NULL, NULL },
	};
	return play(roles);
}
