/* What waitqueue.hpp promises: each line that does not hold is printed. */
#include <csignal>
#include <cstdio>
#include <cstring>
#include <mutex>
#include <stdexcept>
#include <thread>
#include <sys/wait.h>
#include <unistd.h>
#include <waitqueue.hpp>

using namespace std::chrono_literals;

static int failures;

#define EXPECT(what)                                                             \
	do {                                                                     \
		if (!(what)) {                                                   \
			std::printf("line %d: %s\n", __LINE__, #what);           \
			failures++;                                              \
		}                                                                \
	} while (0)

/* Whether the action throws that, and the action is over then. */
template <class Exception, class Action> static bool throws(Action &&action)
{
	try {
		action();
	} catch (const Exception &) {
		return true;
	}
	return false;
}

struct shared {
	wq_queue_head head;
	wq_robust_lock lock;
	wq_u64 items;
};

static bool take_one(wq_u64 &items)
{
	uint64_t seen = items.load();
	while (seen != 0 && !items.compare_exchange_weak(seen, seen - 1)) {
	}
	return seen != 0;
}

/* Until somebody sleeps there. */
static void until_asleep(const wq::queue &queue)
{
	while (!queue.has_sleepers())
		std::this_thread::sleep_for(1ms);
}

static void errors()
{
	EXPECT(throws<std::system_error>([] { wq::region::open("/there-is-no-such-region"); }));
	try {
		wq::region::open("no slash/and then one");
	} catch (const std::system_error &error) {
		EXPECT(error.code() == std::error_code(EINVAL, std::generic_category()));
		EXPECT(std::strstr(error.what(), "no slash") != nullptr);
	}
	EXPECT(wq::timeout(-1s).nanoseconds == 0 && wq::timeout(0s).nanoseconds == 0);
	EXPECT(wq::timeout(1500us).nanoseconds == 1500000 && wq::timeout(std::chrono::duration<double>(0.5)).nanoseconds == 500000000);
	EXPECT(wq::timeout(std::chrono::hours::max()).nanoseconds == WQ_FOREVER && wq::timeout().nanoseconds == WQ_FOREVER);
}

static void handles(const wq::region &region)
{
	static_assert(!std::is_copy_constructible<wq::queue>::value && std::is_nothrow_move_constructible<wq::queue>::value);
	static_assert(!std::is_copy_constructible<wq::set>::value && std::is_move_constructible<wq::set>::value);
	wq::queue first = region.queue("first"), second = std::move(first);
	EXPECT(first.get() == nullptr && second.get() != nullptr);
	first = region.queue("other");
	EXPECT(first.get() != nullptr && first.wake_up().exclusive == 0);
	EXPECT(throws<std::system_error>([&] { region.u64("first"); }));
	EXPECT(&region.u32("number") == &region.u32("number") && region.u32("number") == 0);
	EXPECT(region.me() != 0 && region.is_alive(region.me()) && !region.is_alive(region.me() + 1));
	const int fd = wq_region_fd(region.get());
	const wq::region again = wq::region::open_fd(fd);
	close(fd);
	EXPECT(again.object<shared>("shared", "t").items == 0);
	EXPECT(std::strstr(again.snapshot().text(), "first") != nullptr);
}

static void waits(const wq::region &region, shared &shared)
{
	const wq::queue queue = region.queue(shared.head);
	queue.wait([] { return true; });
	EXPECT(!queue.wait_for(0s, [] { return false; }));
	EXPECT(!queue.wait_for(2ms, [] { return false; }, { WQ_EXCLUSIVE | WQ_NO_SPIN, "in vain" }));
	EXPECT(queue.wait_for(0s, [] { return 1; }));

	std::thread waiter([&] { queue.wait([&, own = std::make_unique<int>(1)] { return take_one(shared.items); }, WQ_EXCLUSIVE); });
	until_asleep(queue);
	shared.items = 1;
	queue.wake_up();
	waiter.join();
	EXPECT(shared.items == 0);
	EXPECT(queue.wake_up_all().nonexclusive == 0);

	const wq::queue closing = region.queue("closing");
	std::thread closed([&] { EXPECT(throws<wq::closed>([&] { closing.wait([] { return false; }); })); });
	until_asleep(closing);
	closing.close();
	closed.join();
	EXPECT(throws<wq::closed>([&] { closing.wait_for(1min, [] { return false; }); }));

	const wq::interrupter interrupter = region.interrupter();
	wq::wait_options options;
	options.interrupter = interrupter.get();
	interrupter.interrupt();
	EXPECT(throws<wq::interrupted>([&] { queue.wait([] { return false; }, options); }));
	EXPECT(!queue.has_sleepers());
}

/* A wake that has chosen the one whose condition throws is passed on; nothing else would wake the other. */
static void exceptions(const wq::region &region, shared &shared)
{
	const wq::queue queue = region.queue(shared.head);
	std::atomic<bool> is_bad(false), is_first(false);
	std::thread first([&] {
		EXPECT(throws<std::logic_error>([&] {
			queue.wait([&] { return is_bad ? throw std::logic_error("bad") : false; }, { WQ_EXCLUSIVE, "first" });
		}));
		is_first = true;
	});
	until_asleep(queue);
	std::thread second([&] {
		queue.wait([&] { return take_one(shared.items); }, { WQ_EXCLUSIVE, "second" });
		EXPECT(is_bad);
	});
	while (std::strstr(region.snapshot().text(), "second") == nullptr)
		std::this_thread::sleep_for(1ms);
	std::this_thread::sleep_for(20ms);
	is_bad = true;
	shared.items = 1;
	EXPECT(queue.wake_up().exclusive == 1);
	first.join();
	second.join();
	EXPECT(is_first && shared.items == 0 && !queue.has_sleepers());

	/* At the first evaluation, and at a later one of a wait on many queues. */
	const auto bad = []() -> bool { throw std::logic_error("bad"); };
	EXPECT(throws<std::logic_error>([&] { queue.wait(bad); }));
	EXPECT(throws<std::logic_error>([&] { wq::wait_many({ { queue, [] { return false; } }, { queue, bad } }); }));
	wq::set set = region.set();
	const uint32_t member = set.add(queue, bad);
	EXPECT(throws<std::logic_error>([&] { set.wait(); }));
	/* The wait is over, or the set would be busy. */
	set.remove(member);
	EXPECT(!set.wait_for(1ms) && !queue.has_sleepers());
}

static void locks(const wq::region &region, shared &shared)
{
	const wq::queue queue = region.queue(shared.head);
	wq::mutex mutex = region.mutex(shared.lock);
	{
		std::lock_guard<wq::mutex> guard(mutex);
		EXPECT(!mutex.owner_died());
		EXPECT(throws<std::system_error>([&] { mutex.lock(); }));
		std::thread other([&] { EXPECT(!mutex.try_lock() && !mutex.try_lock_for(1ms)); });
		other.join();
	}
	EXPECT(throws<std::system_error>([&] { mutex.owner_died(); }));

	std::thread waiter([&] {
		std::unique_lock<wq::mutex> guard(mutex);
		queue.wait_locked(guard, [&] { return guard.owns_lock() && take_one(shared.items); });
		EXPECT(guard.owns_lock());
		EXPECT(!queue.wait_locked_for(guard, 1ms, [&] { return !guard.owns_lock(); }));
		EXPECT(throws<std::logic_error>([&] {
			queue.wait_locked_for(guard, 1min, [turn = 0]() mutable {
				return ++turn == 2 ? throw std::logic_error("bad") : false;
			});
		}));
		EXPECT(guard.owns_lock());
	});
	until_asleep(queue);
	{
		std::unique_lock<wq::mutex> guard(mutex);
		shared.items = 1;
	}
	queue.wake_up();
	waiter.join();
	EXPECT(mutex.try_lock());
	mutex.unlock();

	const int fd = wq_region_fd(region.get());
	const pid_t child = fork();
	if (child == 0) {
		const wq::region own = wq::region::open_fd(fd);
		own.mutex(own.object<struct shared>("shared", "t").lock).lock();
		kill(getpid(), SIGKILL);
	}
	waitpid(child, nullptr, 0);
	close(fd);
	std::lock_guard<wq::mutex> guard(mutex);
	EXPECT(mutex.owner_died());
	mutex.repaired();
	EXPECT(!mutex.owner_died());
}

static void many(const wq::region &region, shared &shared)
{
	const wq::queue work = region.queue("work"), control = region.queue("control");
	wq_u32 &stop = region.u32("stop");
	const auto take = [&] { return take_one(shared.items); };
	const auto is_over = [&] { return stop != 0; };
	EXPECT(!wq::wait_many_for({ { work, take, WQ_EXCLUSIVE }, { control, is_over } }, 1ms));
	EXPECT(throws<std::system_error>([&] { wq::wait_many({}); }));

	std::atomic<bool> is_set(false);
	std::thread worker([&] {
		EXPECT(wq::wait_many({ { work, take, WQ_EXCLUSIVE }, { control, is_over } }) == 0);
		wq::set set = region.set();
		const uint32_t working = set.add(work, take, WQ_EXCLUSIVE), stopping = set.add(control, is_over);
		EXPECT(!set.wait_for(1ms));
		wq::set moved = std::move(set);
		is_set = true;
		EXPECT(moved.wait() == working);
		EXPECT(moved.wait() == stopping && moved.wait_for(0s) == stopping);
	});
	shared.items = 1;
	work.wake_up();
	while (!is_set)
		std::this_thread::sleep_for(1ms);
	shared.items = 1;
	work.wake_up();
	while (shared.items != 0)
		std::this_thread::sleep_for(1ms);
	stop = 1;
	control.wake_up();
	worker.join();
	EXPECT(!work.has_sleepers() && !control.has_sleepers());
}

int main(int argc, char **argv)
{
	wq::region_options options;
	options.flags = WQ_NO_TICK;
	const wq::region named = wq::region::open_or_create(argc > 1 ? argv[1] : "/contract", options);
	const wq::region region = wq::region::create_memfd("contract", options);
	struct shared &shared = region.object<struct shared>("shared", "t");
	errors();
	handles(region);
	waits(region, shared);
	exceptions(region, shared);
	locks(region, shared);
	many(region, shared);
	if (wq_region_check(region.get()) < 0)
		std::printf("%s\n", wq_last_error()), failures++;
	if (failures == 0)
		std::puts("the contract holds");
	return failures != 0;
}
