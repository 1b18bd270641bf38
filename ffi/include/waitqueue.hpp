/*
 * waitqueue.h for C++17: handles that give themselves back, conditions that are lambdas, failures that are exceptions.
 *
 *     wq::region region = wq::region::open_or_create("/demo");
 *     wq_u32 &ready = region.u32("ready");
 *     region.queue("ready-queue").wait([&] { return ready.exchange(0) != 0; });
 *
 * Handles can be moved. A wait returns when its condition is true; what ends in _for also, with false or nullopt, when the time
 * is over. All else is thrown: wq::closed, wq::interrupted, or another std::system_error, with the errno as its code. A
 * condition may throw: the wait is given up, a wake that chose it is passed on, and the exception goes to the caller.
 */
#ifndef WAITQUEUE_HPP
#define WAITQUEUE_HPP
#include <cerrno>
#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <system_error>
#include <type_traits>
#include <vector>
#include <waitqueue.h>

namespace wq {
struct closed : std::system_error { explicit closed(const system_error &error) : system_error(error) {} };
struct interrupted : std::system_error { explicit interrupted(const system_error &error) : system_error(error) {} };

/* What a function of waitqueue.h returned, unless that is a failure. */
inline int check(int status)
{
	if (status >= 0)
		return status;
	const std::system_error error(-status, std::generic_category(), wq_last_error());
	status == -ESHUTDOWN ? throw closed(error) : status == -EINTR ? throw interrupted(error) : throw error;
}

/* How long: any std::chrono::duration. One below 0 is 0, one of centuries is for ever. */
struct timeout {
	uint64_t nanoseconds = WQ_FOREVER;
	timeout() = default;
	template <class Rep, class Period> timeout(std::chrono::duration<Rep, Period> time)
	{
		if (const double about = std::chrono::duration<double, std::nano>(time).count(); about < 9e18)
			nanoseconds = about > 0 ? uint64_t(std::chrono::ceil<std::chrono::nanoseconds>(time).count()) : 0;
	}
};

/* What all handles are. get() is for what only waitqueue.h has. */
template <class Type, int (*Free)(Type *)> class handle {
	struct freed { void operator()(Type *given) const noexcept { Free(given); } };
	std::unique_ptr<Type, freed> pointer;
public:
	using type = Type;
	explicit handle(Type *given) noexcept : pointer(given) {}
	Type *get() const noexcept { return pointer.get(); }
};

/* What a function of waitqueue.h writes last, and that as a handle. */
template <class Result, class Function, class... Given> Result result(Function function, Given... given)
{
	Result out = {};
	check(function(given..., &out));
	return out;
}
template <class Handle, class... Given> Handle made(Given... given) { return Handle(result<typename Handle::type *>(given...)); }
struct interrupter : handle<wq_interrupter, wq_interrupter_free> { using handle::handle;
	void interrupt() const noexcept { wq_interrupter_interrupt(get()); }
};

/* The defaults, or queue.wait(condition, WQ_EXCLUSIVE), or { WQ_EXCLUSIVE, "worker 3" }. Other fields are set one by one. */
struct region_options : wq_region_options { region_options() : wq_region_options(wq_region_options_default()) {} };
struct wait_options : wq_wait_options {
	wait_options(uint32_t which = 0, const char *name = nullptr) : wq_wait_options(wq_wait_options_default())
	{ flags = which, label = name; }
};

struct no_lock { void lock() {} void unlock() {} };
/* A wait, which is given up unless it is finished: also when a condition throws, or its thread is cancelled. */
struct turns {
	wq_wait wait = {};
	turns() = default;
	turns(const turns &) = delete;
	~turns() { wq_wait_cancel(&wait); }
	/* Which condition is true, if one is in time. The lock is released over each sleep. */
	template <class Ask, class Lock = no_lock> std::optional<uint32_t> find(int status, Ask ask, Lock &&lock = {})
	{
		for (uint32_t at = 0; status == 0;) {
			lock.unlock(), status = wq_wait_next(&wait, &at), lock.lock();
			if (status == 0 && ask(at))
				return wq_wait_finish(&wait), at;
		}
		if (status != -ETIMEDOUT)
			check(status);
		return std::nullopt;
	}
};

struct queue : handle<wq_queue, wq_queue_free> { using handle::handle;
	template <class Ask> void wait(Ask &&ask, const wait_options &how = {}) const { wait_for(timeout(), ask, how); }
	template <class Ask> bool wait_for(timeout time, Ask &&ask, const wait_options &how = {}) const
	{ return wait_locked_for(no_lock(), time, ask, how); }
	/* The caller holds the lock, such as a std::unique_lock, which is released over each sleep. */
	template <class Lock, class Ask> void wait_locked(Lock &&lock, Ask &&ask, const wait_options &how = {}) const
	{ wait_locked_for(lock, timeout(), ask, how); }
	template <class Lock, class Ask> bool wait_locked_for(Lock &&lock, timeout time, Ask &&ask, const wait_options &how = {}) const
	{
		if (ask())
			return true;
		turns on;
		const int status = wq_queue_begin_wait(get(), &how, time.nanoseconds, &on.wait);
		return on.find(status, [&](uint32_t) { return ask(); }, lock).has_value();
	}
	wq_woken wake_up(uint32_t count = 1, uint32_t key = WQ_KEY_ANY, uint32_t class_mask = WQ_CLASS_ANY) const
	{ return result<wq_woken>(wq_queue_wake_up, get(), count, class_mask, key); }
	wq_woken wake_up_all() const { return wake_up(WQ_ALL); }
	void close() const { check(wq_queue_close(get(), nullptr)); }
	bool has_sleepers() const { return check(wq_queue_has_sleepers(get())) != 0; }
};

/* A robust lock, for std::unique_lock and its kin. Who has taken it asks whether an owner died, repairs, and says so. */
struct mutex : handle<wq_lock, wq_lock_free> { using handle::handle;
	void lock() { check(wq_lock_lock(get())); }
	bool try_lock() { return try_lock_for(std::chrono::seconds(0)); }
	bool try_lock_for(timeout time)
	{ const int status = wq_lock_lock_timeout(get(), time.nanoseconds); return status != -ETIME && check(status) >= 0; }
	void unlock() noexcept { wq_lock_unlock(get()); }
	bool owner_died() const { return check(wq_lock_owner_died(get())) != 0; }
	void repaired() { check(wq_lock_repaired(get())); }
};

/* A queue, and what is waited for there; of the options, what concerns an entry. */
struct source { const queue &on; std::function<bool()> ask; wait_options how = {}; };

/* Which is true, in order: wq::wait_many({ { work, [&] { return take(item); }, WQ_EXCLUSIVE }, { control, is_over } }) */
inline std::optional<size_t> wait_many_for(const std::vector<source> &sources, timeout time, const wait_options &how = {})
{
	std::vector<wq_source> raw;
	for (const auto &[queue, ask, entry] : sources)
		raw.push_back({ queue.get(), nullptr, nullptr, entry.flags, entry.class_mask, entry.key, 0 });
	turns on;
	const int status = wq_begin_wait_many(raw.data(), uint32_t(raw.size()), &how, time.nanoseconds, &on.wait);
	return on.find(status, [&](uint32_t at) { return sources[at].ask(); });
}
inline size_t wait_many(const std::vector<source> &sources, const wait_options &how = {}) { return *wait_many_for(sources, timeout(), how); }

/* Queues on which its thread stays enrolled. A member is a number. */
class set : public handle<wq_set, wq_set_free> {
	std::map<uint32_t, std::function<bool()>> asks;
public: using handle::handle;
	uint32_t add(const queue &on, std::function<bool()> ask, const wait_options &how = {})
	{
		const auto member = result<uint32_t>(wq_set_add, get(), on.get(), nullptr, nullptr, &how);
		return asks[member].swap(ask), member;
	}
	void remove(uint32_t member) { check(wq_set_remove(get(), member)), asks.erase(member); }
	uint32_t wait(const wait_options &how = {}) const { return *wait_for(timeout(), how); }
	std::optional<uint32_t> wait_for(timeout time, const wait_options &how = {}) const
	{
		turns on;
		const int status = wq_set_begin_wait(get(), &how, time.nanoseconds, &on.wait);
		return on.find(status, [&](uint32_t member) { return asks.at(member)(); });
	}
};

/* What a region looked like. For its parts: wq_snapshot_queue(snapshot.get(), 0, &info) and so on. */
struct snapshot : handle<wq_snapshot, wq_snapshot_free> { using handle::handle;
	const char *text() const { return wq_snapshot_text(get()); }
};

/* References to what is in it are valid as long as a handle of it, or of one of its parts, is. */
struct region : handle<wq_region, wq_region_free> { using handle::handle;
	using options = region_options;
	template <class... Given> static region attach(Given... given) { return check(wq_check()), made<region>(given...); }
	static region create(const char *name, const options &how = {}) { return attach(wq_region_create, name, &how); }
	static region open(const char *name, const options &how = {}) { return attach(wq_region_open, name, &how); }
	static region open_fd(int fd, const options &how = {}) { return attach(wq_region_open_fd, fd, &how); }
	static region open_or_create(const char *name, const options &how = {}) { return attach(wq_region_open_or_create, name, &how); }
	static region create_memfd(const char *label, const options &how = {}) { return attach(wq_region_create_memfd, label, &how); }
	/* All of it has to be atomic, as wq_region_object says; its bytes are zero at first. */
	template <class T> T &object(const char *name, const char *tag) const
	{
		static_assert(std::is_standard_layout<T>::value && std::is_trivially_destructible<T>::value, "not plain data");
		return *static_cast<T *>(result<void *>(wq_region_object, get(), name, tag, sizeof(T), alignof(T)));
	}
	wq_u32 &u32(const char *name) const { return *result<wq_u32 *>(wq_region_object_u32, get(), name); }
	wq_u64 &u64(const char *name) const { return *result<wq_u64 *>(wq_region_object_u64, get(), name); }
	wq::queue queue(const char *name) const { return made<wq::queue>(wq_region_queue, get(), name); }
	wq::queue queue(const wq_queue_head &head) const { return made<wq::queue>(wq_region_queue_at, get(), &head); }
	wq::mutex mutex(const wq_robust_lock &lock) const { return made<wq::mutex>(wq_region_lock_at, get(), &lock); }
	wq::set set() const { return made<wq::set>(wq_set_new, get()); }
	wq::interrupter interrupter() const { return made<wq::interrupter>(wq_interrupter_new, get()); }
	wq::snapshot snapshot() const { return made<wq::snapshot>(wq_region_snapshot, get()); }
	uint64_t me() const { return result<uint64_t>(wq_region_me, get()); }
	bool is_alive(uint64_t participant) const { return check(wq_region_is_alive(get(), participant)) != 0; }
};
} /* namespace wq */
#endif
