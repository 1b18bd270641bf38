/*
 * A driver's example, out of the kernel: a device with a counter. Who reads it sleeps until the counter is another than he saw
 * last; who writes to it counts on. Beside each line that differs stands the one that it is in a kernel module.
 *
 *     cc -o sleepy sleepy.c $(pkg-config --cflags --libs waitqueue)
 *     ./sleepy /counter read      shows the counter whenever it changes, until Ctrl-C
 *     ./sleepy /counter write     counts on, in another terminal
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <waitqueue.h>

struct counter_device {
	wq_queue_head changed;		/* wait_queue_head_t changed; */
	wq_u32 count;			/* atomic_t count; */
};

static struct counter_device *device;	/* static struct counter_device device; */
static wq_queue *changed;		/* (a handle of device->changed) */

/* What each opener has for himself, as in file->private_data. */
struct file {
	uint32_t seen;
};

static void check(int status)
{
	if (status < 0) {
		fprintf(stderr, "sleepy: %s\n", wq_last_error());
		exit(1);
	}
}

static ssize_t counter_read(struct file *file, char *buffer, size_t size)
{
	int status;

	status = wq_wait_event_interruptible(changed,	/* status = wait_event_interruptible(device.changed, */
			device->count != file->seen);	/*		atomic_read(&device.count) != file->seen); */
	if (status < 0)					/* if (status) */
		return status;				/*	return status;	(-ERESTARTSYS; here it is -EINTR) */
	file->seen = device->count;			/* file->seen = atomic_read(&device.count); */
	return snprintf(buffer, size, "%u\n", file->seen);	/* …and copy_to_user() */
}

static ssize_t counter_write(struct file *file, const char *buffer, size_t size)
{
	(void)file;
	(void)buffer;
	atomic_fetch_add(&device->count, 1);		/* atomic_inc(&device.count); */
	wq_wake_up_interruptible(changed);		/* wake_up_interruptible(&device.changed); */
	return (ssize_t)size;
}

static void counter_init(const char *name)
{
	wq_region *region;
	void *object;

	check(wq_check());
	check(wq_region_open_or_create(name, NULL, &region));
	check(wq_region_object(region, "counter", "counter_device v1", sizeof *device, _Alignof(struct counter_device),
			       &object));
	device = object;
	check(wq_region_queue_at(region, &device->changed, &changed));	/* init_waitqueue_head(&device.changed); */
}

/*
 * In the kernel a signal stays pending until it has ended a wait. Here one that comes just before a sleep does not end it: press
 * Ctrl-C again, or do in the handler what many.c does in its own.
 */
static void on_signal(int signal)
{
	(void)signal;
}

int main(int argc, char **argv)
{
	struct file file = { 0 };
	char buffer[16];
	ssize_t length;

	if (argc != 3) {
		fprintf(stderr, "usage: %s /NAME read | write\n", argv[0]);
		return 2;
	}
	counter_init(argv[1]);
	if (strcmp(argv[2], "write") == 0)
		return counter_write(&file, "", 1) != 1;

	signal(SIGINT, on_signal);
	while ((length = counter_read(&file, buffer, sizeof buffer)) > 0) {
		fputs(buffer, stdout);
		fflush(stdout);
	}
	if (length != -EINTR)
		check((int)length);
	puts("interrupted");
	return 0;
}
