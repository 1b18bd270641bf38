/*
 * Greetings between processes: one waits for as many as it wants, others send them.
 *
 *     c++ -std=c++17 -o hello hello.cpp $(pkg-config --cflags --libs waitqueue)
 *     ./hello /hello wait 3       in one terminal: waits for three greetings, a minute for each
 *     ./hello /hello say          in others, and any may be killed at any time
 */
#include <cstdlib>
#include <exception>
#include <iostream>
#include <string>
#include <waitqueue.hpp>

/* What lies in the region: all zero is no greetings. */
struct greetings {
	wq_queue_head arrived;
	wq_u32 count;
};

static void wait(const wq::queue &arrived, wq_u32 &count, int wanted)
{
	/* A condition may take what it finds: once it has returned true it is not called again. */
	const auto take_one = [&] {
		uint32_t seen = count.load();
		while (seen != 0 && !count.compare_exchange_weak(seen, seen - 1)) {
		}
		return seen != 0;
	};
	while (wanted-- > 0 && arrived.wait_for(std::chrono::minutes(1), take_one, WQ_EXCLUSIVE))
		std::cout << "hello" << std::endl;
}

int main(int argc, char **argv)
try {
	const std::string what = argc > 2 ? argv[2] : "";
	if (what != "say" && (what != "wait" || argc != 4)) {
		std::cerr << "usage: " << argv[0] << " /NAME wait COUNT | say\n";
		return 2;
	}
	const auto region = wq::region::open_or_create(argv[1]);
	auto &shared = region.object<greetings>("greetings", "greetings v1");
	const auto arrived = region.queue(shared.arrived);
	if (what == "wait") {
		wait(arrived, shared.count, std::atoi(argv[3]));
	} else {
		++shared.count;
		arrived.wake_up();
	}
} catch (const std::exception &error) {
	std::cerr << "hello: " << error.what() << '\n';
	return 1;
}
