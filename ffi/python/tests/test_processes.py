"""Other processes: killed ones, forked ones, and those in Rust."""

import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
import warnings

import pytest
import waitqueue
from conftest import ROOT, finish, until, until_asleep
from waitqueue import Region


def test_a_killed_sleeper_loses_nobodys_wake(region, name, start):
    wait = "n = region.u32('n')\nregion.queue('q').wait(lambda: n.value, exclusive=True)\nprint('woken')"
    first = start(wait, name)
    until_asleep(region, "q", 1)
    second = start(wait, name)
    until_asleep(region, "q", 2)
    first.kill()
    first.wait()
    region.u32("n").value = 1
    region.queue("q").wake()
    assert finish(second) == "woken\n"
    until(lambda: region.snapshot().deaths == 1)


def test_a_chosen_waiter_that_is_killed_passes_the_wake_on(region, name, start):
    first = start("n = region.u32('n')\nregion.queue('q').wait(lambda: n.value, exclusive=True)", name)
    until_asleep(region, "q", 1)
    second = start("n = region.u32('n')\nprint(region.queue('q').wait(lambda: n.value, exclusive=True))", name)
    until_asleep(region, "q", 2)
    os.kill(first.pid, signal.SIGSTOP)
    region.u32("n").value = 1
    assert region.queue("q").wake().exclusive == 1
    first.kill()
    assert finish(second) == "1\n"


def test_a_condition_may_ask_who_lives(region, name, start):
    other = start("region.u64('who').value = region.me\nregion.queue('q').wake()\ntime.sleep(60)", name)
    who, queue = region.u64("who"), region.queue("q")
    queue.wait(lambda: who.value, 30)
    assert region.is_alive(who.value)
    begin = time.monotonic()
    os.kill(other.pid, signal.SIGKILL)
    queue.wait(lambda: not region.is_alive(who.value), 30)
    assert time.monotonic() - begin < 5


def test_a_killed_owner_of_a_lock_is_noticed(region, name, start):
    other = start("region.lock('lock').acquire()\nprint('held', flush=True)\ntime.sleep(60)", name)
    other.stdout.readline()
    lock = region.lock("lock")
    with pytest.raises(TimeoutError):
        lock.acquire(timeout=0)
    other.kill()
    with lock:
        assert lock.owner_died
    with lock:
        assert lock.owner_died  # until somebody says that he has repaired the data
        lock.repaired()
        assert not lock.owner_died
    with lock:
        assert not lock.owner_died


def test_a_forked_child_opens_the_region_for_itself(region, name):
    queue, number, lock, members = region.queue("q"), region.u32("n"), region.lock("l"), region.set()
    members.add(queue, lambda: number.value)
    number.value = 1
    calls = [
        lambda: queue.wait(lambda: True), queue.wake, lambda: queue.has_sleepers, lambda: number.value,
        lambda: setattr(number, "value", 5), lambda: region.me, lambda: region.queue("q"), lock.acquire,
        lambda: members.wait(0), lambda: waitqueue.wait_many([(queue, lambda: True)]), region.snapshot,
        lambda: region.is_alive(1), region.interrupter,
    ]  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # (that other threads are there)
        child = os.fork()
    if child == 0:
        try:
            for at, call in enumerate(calls):
                try:
                    call()
                    os._exit(100 + at)
                except waitqueue.Forked:
                    pass
            with Region.open(name) as own:
                own.u32("n").value = 2
            os._exit(0)
        except BaseException:
            os._exit(99)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert number.value == 2
    members.close()
    region.check()


def work(name):
    with Region.open(name) as region:
        region.u32("n").value = os.getpid()
        region.queue("q").wake()


@pytest.mark.parametrize("method", ["spawn", "fork", "forkserver"])
def test_multiprocessing(region, name, method):
    queue, number = region.queue("q"), region.u32("n")
    child = multiprocessing.get_context(method).Process(target=work, args=(name,))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        child.start()
    assert queue.wait(lambda: number.value, 30) == child.pid
    child.join(30)
    assert child.exitcode == 0


@pytest.fixture(scope="session")
def rust():
    """Where the examples in Rust are."""
    for profile in ("release", "debug"):
        programs = ROOT / "target" / profile / "examples"
        if (programs / "waiter").exists() and (programs / "waker").exists():
            return programs
    pytest.skip("cargo build --example waiter --example waker has not been run")


def test_rust_waits_and_python_wakes(region, name, start, rust):
    waiter = start("", name, command=[str(rust / "waiter")])
    until_asleep(region, "ready-queue")
    region.u32("ready").value = 1
    region.queue("ready-queue").wake()
    assert finish(waiter) == "ready\n"
    assert region.u32("ready").value == 0


def test_python_waits_and_rust_wakes(region, name, start, rust):
    example = str(ROOT / "ffi" / "python" / "examples" / "ready.py")
    waiter = start("", "wait", name, command=[sys.executable, example])
    until_asleep(region, "ready-queue")
    assert "woke" in finish(start("", name, command=[str(rust / "waker")]))
    assert finish(waiter) == "ready\n"


def test_python_wakes_by_the_example(region, name, start, rust):
    example = str(ROOT / "ffi" / "python" / "examples" / "ready.py")
    waiter = start("", name, command=[str(rust / "waiter")])
    until_asleep(region, "ready-queue")
    assert finish(start("", "wake", name, command=[sys.executable, example])) == "woke 1\n"
    assert finish(waiter) == "ready\n"


def test_rust_is_killed_asleep(region, name, start, rust):
    waiters = [start("", name, command=[str(rust / "waiter")]) for _ in range(2)]
    until_asleep(region, "ready-queue", 2)
    waiters[0].kill()
    waiters[0].wait()
    region.u32("ready").value = 1
    region.queue("ready-queue").wake()
    assert finish(waiters[1]) == "ready\n"


def test_the_poll_example_comes_to_its_end():
    example = ROOT / "ffi" / "python" / "examples" / "poll_to_wait.py"
    ended = subprocess.run([sys.executable, example, "20"], capture_output=True, text=True, timeout=60, check=True)
    assert "waiting" in ended.stdout


def test_workers_that_are_killed_lose_no_item(region, name, start):
    """Items are taken under a lock, by workers who are killed at any moment and replaced: all are, and nobody hangs."""
    worker = (
        "items, made, lock = region.object('items', 'u8', 4096, 1), region.u32('made'), region.lock('lock')\n"
        "queue, done = region.queue('q'), region.queue('done')\n"
        "def take():\n"
        "    with lock:\n"
        "        if lock.owner_died: lock.repaired()\n"
        "        left = [at for at in range(made.value) if not items[at]][:1]\n"
        "        for at in left: items[at] = 1\n"
        "    return [True] if left else False\n"
        "while True:\n    queue.wait(take, exclusive=True)\n    done.wake()"
    )
    items, made = region.object("items", "u8", 4096, 1), region.u32("made")
    queue, done = region.queue("q"), region.queue("done")
    random.seed(seed := random.randrange(2**32))
    workers, count = [start(worker, name) for _ in range(3)], 0
    until_asleep(region, "q", 3)
    for _ in range(8):
        for _ in range(20):
            count += 1
            made.value = count
            queue.wake()
            time.sleep(random.random() * 0.004)
        victim = random.randrange(3)
        workers[victim].kill()
        workers[victim].wait()
        workers[victim] = start(worker, name)
        assert done.wait(lambda so_far=count: sum(items) == so_far, 30), f"seed {seed}"
    region.check()
    assert sum(queue.rescues for queue in region.snapshot().queues) == 0, f"seed {seed}"
