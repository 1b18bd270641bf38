"""Waits, wakes, sets and locks: in one process, and with others."""

import errno
import pickle
import threading
import time

import pytest
import waitqueue
from conftest import finish, in_thread, until, until_asleep
from waitqueue import Region, Source


def test_a_condition_that_holds_is_returned_at_once(region):
    assert region.queue("q").wait(lambda: "taken", timeout=0) == "taken"


def test_a_wait_is_woken_by_another_process(region, name, start):
    ready, queue = region.u32("ready"), region.queue("q")
    other = start("r, q = region.u32('ready'), region.queue('q')\nprint(q.wait(lambda: r.value))", name)
    until_asleep(region, "q")
    ready.value = 7
    assert queue.wake() == (0, 1)
    assert finish(other) == "7\n"


def test_the_other_threads_run_while_one_waits(region):
    ready, queue, counted = region.u32("ready"), region.queue("q"), 0
    join = in_thread(lambda: queue.wait(lambda: ready.value, timeout=30))
    until_asleep(region, "q")
    end = time.monotonic() + 0.1
    while time.monotonic() < end:
        counted += 1
    assert counted > 1000
    ready.value = 1
    queue.wake()
    assert join() == 1


@pytest.mark.parametrize("seconds", [0, 0.05, 1.3])
@pytest.mark.parametrize("tick", [0.8, None])
def test_a_timeout_is_kept(name, seconds, tick):
    with Region.open_or_create(name, tick=tick) as region:
        begin = time.monotonic()
        with pytest.raises(waitqueue.TimedOut) as caught:
            region.queue("q").wait(lambda: False, timeout=seconds)
        assert seconds <= time.monotonic() - begin < seconds + 0.5
        assert caught.value.errno == errno.ETIMEDOUT
        assert isinstance(caught.value, (TimeoutError, waitqueue.WaitqueueError))
        assert not region.queue("q").has_sleepers


@pytest.mark.parametrize("wrong", [-1, float("nan")])
def test_a_time_that_cannot_be_is_refused(region, wrong):
    with pytest.raises(ValueError):
        region.queue("q").wait(lambda: False, timeout=wrong)


def test_an_exception_in_a_condition_leaves_the_queue(region):
    queue, calls = region.queue("q"), []

    def condition():
        calls.append(len(calls))
        if len(calls) == 2:
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        queue.wait(condition, exclusive=True, spin=0)
    assert not queue.has_sleepers
    region.check()
    # Also if it was chosen: the wake goes to the next.
    go, left = threading.Event(), []

    def raises():
        if go.is_set():
            raise KeyError("chosen")

    first = in_thread(lambda: queue.wait(raises, exclusive=True))
    until_asleep(region, "q", 1)
    second = in_thread(lambda: queue.wait(lambda: go.is_set() and left.append(1) is None, exclusive=True))
    until_asleep(region, "q", 2)
    go.set()
    assert queue.wake().exclusive == 1
    with pytest.raises(KeyError, match="chosen"):
        first()
    assert second() and left == [1]


def test_exclusive_waiters_are_woken_one_by_one_in_order(region):
    tokens, queue, lock, order = region.u32("tokens"), region.queue("q"), region.lock("lock"), []

    def take():
        with lock:
            tokens.value, got = max(tokens.value, 1) - 1, tokens.value
        return got

    def waiter(number):
        queue.wait(take, exclusive=True, label=f"waiter {number}")
        order.append(number)

    joins = []
    for number in range(3):
        joins.append(in_thread(lambda number=number: waiter(number)))
        until_asleep(region, "q", number + 1)
    assert [waiter.label for waiter in region.snapshot().queues[0].waiters] == ["waiter 0", "waiter 1", "waiter 2"]
    for number in range(3):
        with lock:
            tokens.value += 1
        queue.wake()
        until(lambda so_far=number + 1: len(order) == so_far)
    assert order == [0, 1, 2]
    [join() for join in joins]


def test_keys_and_classes_choose(region):
    queue, event = region.queue("q"), threading.Event()
    join = in_thread(lambda: queue.wait(event.is_set, key=2, spin=0))
    until_asleep(region, "q")
    assert queue.wake(key=1) == (0, 0)
    # A wait is uninterruptible unless that was asked for, also in the main thread.
    assert queue.wake(class_mask=waitqueue.CLASS_INTERRUPTIBLE) == (0, 0)
    event.set()
    assert queue.wake_all(key=6, class_mask=waitqueue.CLASS_UNINTERRUPTIBLE) == (0, 1)
    assert join() is True
    for wrong in (0, 2**32, -1):
        with pytest.raises(waitqueue.Invalid):
            queue.wake(key=wrong)
        with pytest.raises(waitqueue.Invalid):
            queue.wake(wrong)


def test_the_main_thread_is_of_the_class_that_was_asked_for(region, name, start):
    for option, mask in (("", 1), ("interruptible=True", 2)):
        other = start(f"q = region.queue('q'); r = region.u32('ready')\nq.wait(lambda: r.value, {option})", name)
        until_asleep(region, "q")
        region.u32("ready").value = 1
        queue = region.queue("q")
        assert queue.wake(class_mask=mask) == (0, 0)
        assert queue.wake(class_mask=3 - mask) == (0, 1)
        finish(other)
        region.u32("ready").value = 0


def test_a_closed_queue_ends_waits(region):
    queue = region.queue("q")
    join = in_thread(lambda: queue.wait(lambda: False))
    until_asleep(region, "q")
    assert not queue.is_closed
    assert queue.close() == 1
    assert queue.is_closed
    with pytest.raises(waitqueue.Closed, match="q"):
        join()
    with pytest.raises(waitqueue.Closed):
        queue.wait(lambda: False, timeout=0)
    assert queue.wait(lambda: True)


def test_an_interrupter_ends_a_wait_or_the_next(region):
    queue, interrupter = region.queue("q"), region.interrupter()
    join = in_thread(lambda: queue.wait(lambda: False, interrupter=interrupter))
    until_asleep(region, "q")
    interrupter.interrupt()
    with pytest.raises(waitqueue.Interrupted):
        join()
    interrupter.interrupt()
    with pytest.raises(InterruptedError):
        queue.wait(lambda: False, interrupter=interrupter)
    with pytest.raises(waitqueue.TimedOut):
        queue.wait(lambda: False, 0.01, interrupter=interrupter)


def test_many(region):
    one, two, event = region.queue("one"), region.queue("two"), threading.Event()
    sources = [(one, lambda: False), Source(two, lambda: event.is_set() and "two", exclusive=True)]
    join = in_thread(lambda: waitqueue.wait_many(sources, timeout=30))
    until_asleep(region, "two")
    event.set()
    assert two.wake() == (1, 0)
    assert join() == (1, "two")
    event.clear()
    with pytest.raises(waitqueue.TimedOut):
        waitqueue.wait_many(sources, timeout=0.01)
    with pytest.raises(waitqueue.Invalid):
        waitqueue.wait_many([])
    one.close()
    with pytest.raises(waitqueue.Closed, match="one"):
        waitqueue.wait_many(sources)


def test_a_set_stays_enrolled(region):
    one, two, flags = region.queue("one"), region.queue("two"), {1: 0, 2: 0}
    with region.set() as queues:
        first = queues.add(one, lambda: flags[1], label="the first")
        second = queues.add(two, lambda: flags[2], exclusive=True)
        assert one.has_sleepers and two.has_sleepers
        with pytest.raises(waitqueue.TimedOut):
            queues.wait(0.01)
        flags[2] = 5
        two.wake()
        assert queues.wait(10) == (second, 5)
        assert queues.take_fired(first) == 0
        flags[2] = 0
        with pytest.raises(waitqueue.TimedOut):
            queues.wait(0)
        flags[1] = 1
        queues.ask_all()
        assert queues.wait(10) == (first, 1)
        queues.remove(first)
        with pytest.raises(waitqueue.NotFound):
            queues.remove(first)
        assert not one.has_sleepers
        with pytest.raises(waitqueue.NotPermitted):
            in_thread(lambda: queues.wait(0))()
        flags[2] = "raise"

        def raises():
            raise KeyError

        queues.add(one, raises)
        with pytest.raises(KeyError):
            queues.remove(second)
            queues.wait(10)
    assert not two.has_sleepers
    with pytest.raises(waitqueue.Invalid):
        queues.wait(0)
    queues.close()


def test_a_set_wakes_across_processes(region, name, start):
    code = "s, n = region.set(), region.u64('n')\nm = s.add(region.queue('q'), lambda: n.value)\nprint(s.wait(30)[1])"
    other = start(code, name)
    until_asleep(region, "q")
    region.u64("n").value = 2**40
    region.queue("q").wake()
    assert finish(other) == f"{2**40}\n"


def test_a_lock_excludes(region):
    lock, data, rounds = region.lock("lock"), region.u64("data"), 200

    def add():
        for _ in range(rounds):
            with lock:
                data.value += 1

    joins = [in_thread(add) for _ in range(3)]
    [join() for join in joins]
    assert data.value == 3 * rounds
    with lock:
        with pytest.raises(waitqueue.WaitqueueError) as caught:
            lock.acquire()
        assert caught.value.errno == errno.EDEADLK
        other = region.lock("lock")
        with pytest.raises(waitqueue.LockStuck):
            in_thread(lambda: other.acquire(timeout=0.05))()
        with pytest.raises(waitqueue.NotPermitted):
            in_thread(lock.release)()
    with pytest.raises(waitqueue.NotPermitted):
        lock.release()
    other.acquire(0)
    assert not other.owner_died
    other.release()


def test_handles_cannot_be_pickled(region):
    for handle in (region, region.queue("q"), region.lock("l"), region.interrupter()):
        with pytest.raises((TypeError, ValueError)):
            pickle.dumps(handle)
    with pytest.raises((TypeError, ValueError)):
        pickle.dumps(region.u32("n"))
