"""What the tests share: regions with names of their own, other processes, and patience that ends."""

import itertools
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
LIMIT = 30.0

if "WAITQUEUE_LIBRARY" not in os.environ:
    for profile in ("release", "debug"):
        built = ROOT / "target" / profile / "libwaitqueue_ffi.so"
        if built.exists():
            os.environ["WAITQUEUE_LIBRARY"] = str(built)
            break

import waitqueue  # noqa: E402  (after it is known where the library is)

# The other programs use the same package, whether it is installed or not.
os.environ["PYTHONPATH"] = str(Path(waitqueue.__file__).resolve().parents[1])
_numbers = itertools.count()


def until(condition, what="a condition"):
    """Waits, by looking again and again, for what should come soon; returns it."""
    end = time.monotonic() + LIMIT
    while time.monotonic() < end:
        value = condition()
        if value:
            return value
        time.sleep(0.002)
    raise AssertionError(f"{what} has not come in {LIMIT} s")


def until_asleep(region, name, count=1):
    """Waits until so many sleep on a queue."""

    def asleep():
        queues = [queue for queue in region.snapshot().queues if queue.name == name]
        waiters = [waiter for queue in queues for waiter in queue.waiters]
        return sum(waiter.state == waitqueue.WaiterState.ASLEEP for waiter in waiters) >= count

    until(asleep, f"{count} sleepers on {name}")


@pytest.fixture
def name():
    """The name of a region that is there for one test."""
    name = f"/python-{os.getpid()}-{next(_numbers)}"
    yield name
    try:
        waitqueue.Region.unlink(name)
    except waitqueue.NotFound:
        pass


@pytest.fixture
def region(name):
    with waitqueue.Region.open_or_create(name) as region:
        yield region


@pytest.fixture
def start():
    """Starts programs in Python, which end with the test; `region` is the one whose name is their argument."""
    started = []

    def start(code, *arguments, command=None):
        if command is None:
            prelude = "import os, signal, sys, threading, time, waitqueue\nfrom waitqueue import Region\n"
            prelude += "region = Region.open_or_create(sys.argv[1])\n" if arguments else ""
            command = [sys.executable, "-u", "-c", prelude + code]
        process = subprocess.Popen([*command, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def finish(process, status=0):
    """What a program said, which ended as expected."""
    out, err = process.communicate(timeout=LIMIT)
    assert process.returncode == status, f"it ended with {process.returncode}: {err}"
    return out


def in_thread(function):
    """Runs a function in a thread; a function that returns what it returned, or raises what it raised."""
    outcome = []

    def run():
        try:
            outcome.append((True, function()))
        except BaseException as error:
            outcome.append((False, error))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()

    def join():
        thread.join(LIMIT)
        assert outcome, "the thread has not ended"
        is_well, value = outcome[0]
        if not is_well:
            raise value
        return value

    return join
