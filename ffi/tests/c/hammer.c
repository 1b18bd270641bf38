/* Eight threads on one queue; what is passed on is counted to the end. */
#include "check.h"

#define THREADS 8
#define ROUNDS 1000

static wq_region *region;
static wq_queue *queue;
static wq_u32 *tokens, taken, ended;

/* Each token is taken by one, and given back by that one. */
static void *takes_and_gives(void *context)
{
	(void)context;
	for (int round = 0; round < ROUNDS; round++) {
		IS(wq_wait_event_exclusive(queue, take(tokens)), 0);
		add(&taken, 1);
		add(tokens, 1);
		EXPECT(wq_wake_up(queue) >= 0);
	}
	add(&ended, 1);
	return NULL;
}

static void tokens_go_round(char **args)
{
	pthread_t threads[THREADS];
	region = attach(args[0]);
	queue = queue_of(region, "queue");
	tokens = number_of(region, "tokens");
	put(tokens, 3);
	for (int at = 0; at < THREADS; at++)
		threads[at] = start(takes_and_gives, NULL);
	for (int at = 0; at < THREADS; at++)
		JOIN(threads[at]);
	IS(get(&taken), THREADS * ROUNDS);
	IS(get(&ended), THREADS);
	IS(get(tokens), 3);
	IS(wq_queue_has_sleepers(queue), 0);
	IS(wq_region_check(region), 0);
	IS(wq_queue_free(queue), 0);
	IS(wq_region_free(region), 0);
}

/* Producers and consumers with a buffer of four, under a lock. */
struct buffer {
	wq_robust_lock lock;
	wq_queue_head not_empty, not_full;
	wq_u32 items[4];
	wq_u32 first, count;
};

static struct buffer *buffer;
static wq_queue *not_empty, *not_full;
static wq_u64 sum_in, sum_out;
static wq_u32 consumed;

static wq_lock *lock_of_thread(void)
{
	wq_lock *lock = NULL;
	IS(wq_region_lock_at(region, &buffer->lock, &lock), 0);
	return lock;
}

static void *produces(void *context)
{
	wq_lock *lock = lock_of_thread();
	for (uint32_t round = 1; round <= ROUNDS; round++) {
		uint32_t item = round * THREADS + (uint32_t)(uintptr_t)context;
		IS(wq_lock_lock(lock), 0);
		IS(wq_wait_event_locked(not_full, get(&buffer->count) < 4, lock), 0);
		put(&buffer->items[(get(&buffer->first) + get(&buffer->count)) % 4], item);
		add(&buffer->count, 1);
		IS(wq_lock_unlock(lock), 0);
		sum_in += item;
		EXPECT(wq_wake_up(not_empty) >= 0);
	}
	IS(wq_lock_free(lock), 0);
	return NULL;
}

static void *consumes(void *context)
{
	wq_lock *lock = lock_of_thread();
	(void)context;
	while (add(&consumed, 1) < ROUNDS * THREADS / 2) {
		uint32_t item;
		IS(wq_lock_lock(lock), 0);
		IS(wq_wait_event_locked(not_empty, get(&buffer->count) > 0, lock), 0);
		item = get(&buffer->items[get(&buffer->first)]);
		put(&buffer->first, (get(&buffer->first) + 1) % 4);
		add(&buffer->count, UINT32_MAX);
		IS(wq_lock_unlock(lock), 0);
		sum_out += item;
		EXPECT(wq_wake_up(not_full) >= 0);
	}
	IS(wq_lock_free(lock), 0);
	return NULL;
}

static void producers_and_consumers(char **args)
{
	pthread_t threads[THREADS];
	region = attach(args[0]);
	IS(wq_region_object(region, "buffer", "buffer", sizeof *buffer, 64, (void **)&buffer), 0);
	IS(wq_region_queue_at(region, &buffer->not_empty, &not_empty), 0);
	IS(wq_region_queue_at(region, &buffer->not_full, &not_full), 0);
	for (int at = 0; at < THREADS; at++)
		threads[at] = start(at % 2 ? produces : consumes, (void *)(uintptr_t)at);
	for (int at = 0; at < THREADS; at++)
		JOIN(threads[at]);
	EXPECT(sum_in == sum_out && sum_in != 0);
	IS(get(&buffer->count), 0);
	IS(wq_region_check(region), 0);
	IS(wq_queue_free(not_empty), 0);
	IS(wq_queue_free(not_full), 0);
	IS(wq_region_free(region), 0);
}

int main(void)
{
	static const struct role roles[] = {
		{ "tokens_go_round", tokens_go_round },
		{ "producers_and_consumers", producers_and_consumers },
		{ NULL, NULL },
	};
	return play(roles);
}
