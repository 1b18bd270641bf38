"""A process that polls for what another process makes, and the same one waiting: what each costs, and how late it is.

    python poll_to_wait.py [EVENTS]

The producer writes the time into shared memory every 10 ms; the consumer says how long after that it has seen it.
"""

import multiprocessing
import os
import statistics
import sys
import time

from waitqueue import Number, Queue, Region

GAP = 0.01
REGION = f"/poll-to-wait-{os.getpid()}"


def spinning(number: Number, queue: Queue, last: int) -> int:
    """Before: a loop that looks as often as it can."""
    while number.value == last:
        pass
    return number.value


def polling(number: Number, queue: Queue, last: int) -> int:
    """Before, with a nap: cheaper, and later."""
    while number.value == last:
        time.sleep(0.001)
    return number.value


def waiting(number: Number, queue: Queue, last: int) -> int:
    """After: asleep until there is something to see."""
    return queue.wait(lambda: number.value != last and number.value)


WAYS = {way.__name__: way for way in (spinning, polling, waiting)}


def consume(name: str, way: str, events: int, report) -> None:
    with Region.open(name) as region:
        number, seen, queue, late, last = region.u64("made"), region.u64("seen"), region.queue("made-queue"), [], 0
        report.send("ready")
        begin = time.process_time()
        for _ in range(events):
            last = WAYS[way](number, queue, last)
            late.append(time.monotonic_ns() - last)
            seen.value = last
        report.send((time.process_time() - begin, sorted(late)))


def main(events: int) -> None:
    spawn = multiprocessing.get_context("spawn")
    print(f"{events} events, one every {GAP * 1000:.0f} ms\n")
    print(f"{'consumer':<10} {'its CPU time':>14} {'of a CPU':>9} {'latency: median':>17} {'99 %':>10}")
    for way in WAYS:
        with Region.create(f"{REGION}-{way}") as region:
            number, seen, queue = region.u64("made"), region.u64("seen"), region.queue("made-queue")
            ours, theirs = spawn.Pipe()
            consumer = spawn.Process(target=consume, args=(region.name, way, events, theirs))
            consumer.start()
            ours.recv()
            begin = time.monotonic()
            for _ in range(events):
                time.sleep(GAP)
                while number.value != seen.value:
                    time.sleep(GAP)  # the consumer has not come to run at all
                number.value = time.monotonic_ns()
                queue.wake()
            took = time.monotonic() - begin
            cpu, late = ours.recv()
            consumer.join()
        Region.unlink(region.name)
        median, most = statistics.median(late) / 1000, late[len(late) * 99 // 100] / 1000
        print(f"{way:<10} {cpu * 1000:>11.1f} ms {cpu / took:>8.1%} {median:>14.0f} us {most:>7.0f} us")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 500)
