/* A line of the benches, as a C program uses it. */
#include <stdlib.h>
#include <waitqueue.h>

struct line {
	wq_queue *queue;
	wq_u32 *value;
	wq_wait_options options;
};

/* The line at a place in an object of a region, and whether to sleep at once. NULL if it cannot be had. */
struct line *line_open(const char *name, const char *object, const char *tag, size_t size, size_t queue, size_t value,
		       int sleeps)
{
	struct line *line = malloc(sizeof *line);
	wq_region *region;
	char *start;

	if (line == NULL || wq_check() != 0 || wq_region_open(name, NULL, &region) != 0 ||
	    wq_region_object(region, object, tag, size, 64, (void **)&start) != 0 ||
	    wq_region_queue_at(region, (wq_queue_head *)(start + queue), &line->queue) != 0)
		return NULL;
	line->value = (wq_u32 *)(start + value);
	line->options = wq_wait_options_default();
	line->options.flags = sleeps ? WQ_NO_SPIN : 0;
	return line;
}

int line_send(const struct line *line, uint32_t value)
{
	atomic_store_explicit(line->value, value, memory_order_release);
	return wq_wake_up(line->queue);
}

uint32_t line_receive(const struct line *line)
{
	int status = wq_wait_event_with(line->queue, atomic_load_explicit(line->value, memory_order_acquire) != 0,
					&line->options);
	return status < 0 ? 0 : atomic_exchange(line->value, 0);
}
