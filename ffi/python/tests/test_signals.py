"""Signals in a wait, in real processes: Ctrl-C, handlers that return, and the sleep that a signal just misses."""

import random
import signal
import time

import pytest
from conftest import finish, until_asleep
from waitqueue import Region

WAITS = {
    "queue": "queue.wait(lambda: False)",
    "exclusive": "queue.wait(lambda: False, exclusive=True, timeout=60)",
    "many": "waitqueue.wait_many([(queue, lambda: False), (region.queue('two'), lambda: False)])",
    "set": "members = region.set(); members.add(queue, lambda: False); members.wait(60)",
    "lock": "lock = region.lock('l'); threading.Thread(target=hold, daemon=True).start(); ready.wait(); lock.acquire()",
}


@pytest.mark.parametrize("kind", WAITS)
def test_ctrl_c_ends_a_wait(region, name, start, kind):
    other = start(
        "queue, ready = region.queue('q'), threading.Event()\n"
        "def hold():\n    other = region.lock('l'); other.acquire(); ready.set(); time.sleep(60)\n"
        f"try:\n    print('go', flush=True)\n    {WAITS[kind]}\nexcept KeyboardInterrupt:\n"
        "    assert not queue.has_sleepers or 'members' in globals()\n    print('interrupted')",
        name,
    )
    other.stdout.readline()
    if kind == "lock":
        time.sleep(0.2)
    else:
        until_asleep(region, "q")
    begin = time.monotonic()
    other.send_signal(signal.SIGINT)
    assert finish(other) == "interrupted\n"
    assert time.monotonic() - begin < 2


def test_ctrl_c_at_any_moment_ends_a_wait_soon(region, name, start):
    """Many signals at moments of their own, most of which hit between two sleeps."""
    other = start(
        "queue = region.queue('q')\nfor _ in range(200):\n    try:\n"
        "        print('waits', flush=True)\n"
        "        while True:\n"
        "            try: queue.wait(lambda: False, 0.0005, spin=0)\n"
        "            except waitqueue.TimedOut: pass\n"
        "    except KeyboardInterrupt: print('ended', flush=True)",
        name,
    )
    for _ in range(200):
        assert other.stdout.readline() == "waits\n"
        time.sleep(random.random() * 0.002)
        other.send_signal(signal.SIGINT)
        assert other.stdout.readline() == "ended\n"
    assert finish(other) == ""
    region.check()
    assert not region.queue("q").has_sleepers


@pytest.mark.parametrize("tick", [0.8, 60, None])
def test_a_signal_that_does_not_end_the_sleep_is_handled_within_a_second(name, start, tick):
    """Another thread takes the signal: as if it had come to the main thread just before the sleep."""
    other = start(
        f"region = Region.open_or_create(sys.argv[1], tick={tick})\nqueue = region.queue('q')\n"
        "threading.Thread(target=time.sleep, args=(60,), daemon=True).start()\n"
        "signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])\n"
        "try:\n    queue.wait(lambda: False, exclusive=True)\n"
        "except KeyboardInterrupt:\n    os._exit(3)",
        name,
    )
    with Region.open_or_create(name) as region:
        until_asleep(region, "q")
        begin = time.monotonic()
        other.send_signal(signal.SIGINT)
        finish(other, 3)
        assert time.monotonic() - begin < 1.5


def test_a_handler_that_returns_lets_the_wait_go_on(region, name, start):
    other = start(
        "n, seen = region.u32('n'), []\ndef handler(*_):\n    seen.append(1)\n    print('seen')\n"
        "signal.signal(signal.SIGUSR1, handler)\n"
        "print(region.queue('q').wait(lambda: n.value, 60), len(seen))",
        name,
    )
    until_asleep(region, "q")
    for _ in range(3):
        other.send_signal(signal.SIGUSR1)
        assert other.stdout.readline() == "seen\n"
        until_asleep(region, "q")
    region.u32("n").value = 4
    region.queue("q").wake()
    assert finish(other) == "4 3\n"


def test_an_interruptible_wait_ends_with_an_error(region, name, start):
    other = start(
        "signal.signal(signal.SIGUSR1, lambda *_: None)\n"
        "try: region.queue('q').wait(lambda: False, interruptible=True)\n"
        "except waitqueue.Interrupted as error: print(error.errno == 4)",
        name,
    )
    until_asleep(region, "q")
    other.send_signal(signal.SIGUSR1)
    assert finish(other) == "True\n"


def test_a_handler_may_use_an_interrupter(region, name, start):
    other = start(
        "stop = region.interrupter()\nsignal.signal(signal.SIGTERM, lambda *_: stop.interrupt())\n"
        "signal.signal(signal.SIGUSR1, lambda *_: None)\n"
        "try: region.queue('q').wait(lambda: False, interrupter=stop)\n"
        "except waitqueue.Interrupted: print('stopped')",
        name,
    )
    until_asleep(region, "q")
    other.send_signal(signal.SIGUSR1)
    until_asleep(region, "q")
    other.send_signal(signal.SIGTERM)
    assert finish(other) == "stopped\n"


def test_a_handler_may_wake_what_the_main_thread_waits_for(region, name, start):
    other = start(
        "n, queue = region.u32('n'), region.queue('q')\n"
        "def handler(*_):\n    n.value = 1\n    queue.wake()\n"
        "signal.signal(signal.SIGUSR1, handler)\nprint(queue.wait(lambda: n.value))",
        name,
    )
    until_asleep(region, "q")
    other.send_signal(signal.SIGUSR1)
    assert finish(other) == "1\n"
