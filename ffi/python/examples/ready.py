"""Waits until another program says that it is ready, or says so: the sister of waiter.rs and waker.rs.

python ready.py wait /demo      and in another terminal      cargo run --example waker -- /demo
cargo run --example waiter -- /demo      and in another      python ready.py wake /demo
"""

import sys

from waitqueue import Region


def main(what: str, name: str = "/demo") -> None:
    with Region.open_or_create(name) as region:
        ready, queue = region.u32("ready"), region.queue("ready-queue")
        if what == "wake":
            ready.value = 1
            print("woke", sum(queue.wake()))
        else:
            queue.wait(lambda: ready.value)
            # Not one step with the look before it, as in Rust: with several waiters, do both under a lock.
            ready.value = 0
            print("ready")


if __name__ == "__main__":
    if len(sys.argv) < 2 or sys.argv[1] not in ("wait", "wake"):
        sys.exit("usage: ready.py wait|wake [REGION]")
    main(*sys.argv[1:3])
