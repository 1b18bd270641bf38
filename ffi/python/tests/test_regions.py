"""Regions, the memory in them, snapshots, errors, and where the library is found."""

import array
import ctypes
import gc
import os
import subprocess
import sys
import tempfile
import threading
import time

import pytest
import waitqueue
from conftest import ROOT, finish, in_thread, until_asleep
from waitqueue import Region


def test_create_open_unlink(name):
    with pytest.raises(waitqueue.NotFound):
        Region.open(name)
    with Region.create(name, participants=8, threads=16, entries=32, objects=8, memory=4096, mode=0o600) as region:
        with pytest.raises(FileExistsError, match=name):
            Region.create(name)
        with Region.open(name) as other:
            assert other.me != region.me
            assert region.is_alive(other.me) and region.is_alive(region.me)
            them = other.me
        assert not region.is_alive(them)
        assert not region.is_alive(0)
        for at in range(8):
            region.u32(f"n{at}")
        with pytest.raises(waitqueue.Full):
            region.u32("one more")
        with pytest.raises(waitqueue.AlreadyExists):
            region.u64("n1")
    with pytest.raises(waitqueue.Invalid, match="closed"):
        region.queue("q")
    Region.unlink(name)
    with pytest.raises(waitqueue.NotFound):
        Region.unlink(name)
    with pytest.raises(TypeError):
        Region.create(name, no_such_option=1)
    for wrong in ("", "a\0b", "/a/b"):
        with pytest.raises(ValueError):
            Region.create(wrong)


def test_a_path(tmp_path):
    path = str(tmp_path / "region")
    with Region.open_or_create(path, path=True, owners=[os.getuid()], groups=[os.getgid()]):
        pass
    Region.unlink(path, path=True)
    (tmp_path / "other").write_text("no region, but long enough" * 1000)
    with pytest.raises(waitqueue.WaitqueueError):
        Region.open(str(tmp_path / "other"), path=True)


def test_a_memfd_goes_to_a_child():
    with Region.memfd("test") as region:
        fd = region.fd()
        code = (
            "import sys, waitqueue\nregion = waitqueue.Region.open_fd(int(sys.argv[1]))\n"
            "region.u32('n').value = 9\nregion.queue('q').wake()"
        )
        child = subprocess.Popen([sys.executable, "-c", code, str(fd)], pass_fds=[fd])
        os.close(fd)
        n = region.u32("n")
        assert region.queue("q").wait(lambda: n.value, timeout=30) == 9
        assert child.wait(30) == 0
    with pytest.raises(waitqueue.WaitqueueError):
        Region.open_fd(-1)


def test_objects_are_memory(region):
    view = region.object("bytes", "bytes", 64, 8)
    assert isinstance(view, memoryview) and len(view) == 64 and not view.readonly and bytes(view) == bytes(64)
    view[:4] = b"abcd"
    again = region.object("bytes", "bytes", 64, 8)
    assert bytes(again[:5]) == b"abcd\0"
    doubles = view.cast("d")
    doubles[1] = 2.5
    assert array.array("d", bytes(again[8:16]))[0] == 2.5

    class Header(ctypes.Structure):
        _fields_ = [("count", ctypes.c_uint32), ("flags", ctypes.c_uint32)]

    header = Header.from_buffer(again, 16)
    header.flags = 3
    assert view[20] == 3
    with pytest.raises(waitqueue.AlreadyExists, match="size"):
        region.object("bytes", "bytes", 32, 8)
    with pytest.raises(waitqueue.Invalid):
        region.object("zero", "bytes", 8, 3)


def test_a_view_keeps_the_process_attached(name):
    region = Region.open_or_create(name)
    view, me = region.object("bytes", "u8", 4096, 1)[1000:], region.me
    region.close()
    del region
    gc.collect()
    view[0] = 1
    with Region.open(name) as other:
        assert other.is_alive(me)
        assert other.object("bytes", "u8", 4096, 1)[1000] == 1
        del view
        gc.collect()
        assert not other.is_alive(me)


def test_numpy_sees_it(region, name, start):
    numpy = pytest.importorskip("numpy")
    samples = numpy.frombuffer(region.object("samples", "f64", 800, 8), dtype=numpy.float64)
    assert samples.shape == (100,) and not samples.any()
    code = (
        "import numpy\ns = numpy.frombuffer(region.object('samples', 'f64', 800, 8))\n"
        "s[:] = numpy.arange(100)\nregion.u32('ready').value = 1\nregion.queue('q').wake()"
    )
    other, ready = start(code, name), region.u32("ready")
    region.queue("q").wait(lambda: ready.value, timeout=30)
    assert samples.sum() == 4950
    finish(other)
    region.close()
    gc.collect()
    assert samples[99] == 99


def test_numbers(region):
    small, large = region.u32("small"), region.u64("large")
    small.value, large.value = 2**32 - 1, 2**64 - 1
    assert (region.u32("small").value, region.u64("large").value) == (2**32 - 1, 2**64 - 1)
    for number, wrong in ((small, 2**32), (large, 2**64), (small, -1)):
        with pytest.raises(ValueError):
            number.value = wrong


def test_heads_and_locks_in_an_object(region):
    view = region.object("struct", "my struct", 128, 64)
    queue, lock = region.queue_at(view, 64), region.lock_at(view, 16)
    with lock:
        assert view[16:32].tobytes() != bytes(16)
    join = in_thread(lambda: queue.wait(lambda: view[0], timeout=30))
    while not queue.has_sleepers:
        time.sleep(0.001)
    view[0] = 1
    region.queue_at(region.object("struct", "my struct", 128, 64), 64).wake()
    assert join() == 1
    with pytest.raises(waitqueue.Invalid, match="multiple of 64"):
        region.queue_at(view, 8)
    with pytest.raises(waitqueue.Invalid, match="multiple of 16"):
        region.lock_at(view, 8)
    with pytest.raises(ValueError):
        region.queue_at(view, 128)
    elsewhere = Region.memfd("elsewhere").object("struct", "my struct", 64, 64)
    with pytest.raises(waitqueue.Invalid, match="region"):
        region.queue_at(elsewhere)


def test_a_snapshot(region, name):
    queue, event = region.queue("q"), threading.Event()
    region.u32("n")
    join = in_thread(lambda: queue.wait(event.is_set, exclusive=True, key=4, label="me"))
    until_asleep(region, "q")
    for seen in (region.snapshot(), waitqueue.inspect(name)):
        assert name in seen.name and name in str(seen) and "q" in str(seen)
        assert seen.size > 4096 and seen.deaths == 0 and seen.entries[0] >= 1 and seen.threads[1] >= 1024
        (participant,) = seen.participants
        assert (participant.id, participant.process, participant.is_alive) == (region.me, os.getpid(), True)
        assert abs(participant.since - time.time()) < 60
        (found,) = seen.queues
        (waiter,) = found.waiters
        assert (found.name, found.is_closed, found.lock_owner) == ("q", False, None)
        assert (waiter.label, waiter.participant, waiter.key) == ("me", region.me, 4)
        assert (waiter.exclusive, waiter.priority, waiter.is_persistent) == (True, False, False)
        assert waiter.state is waitqueue.WaiterState.ASLEEP
        assert waitqueue.ObjectInfo("n", "u32", 4) in seen.objects
    event.set()
    queue.wake()
    join()
    with pytest.raises(waitqueue.NotFound):
        waitqueue.inspect("/python-no-such-region")


def test_errors_say_what_to_do(name):
    with pytest.raises(FileNotFoundError) as caught:
        Region.open(name)
    error = caught.value
    assert error.errno == 2 and name in error.strerror and str(error).startswith("[Errno 2]")
    assert repr(Region.memfd("m")) == "<Region 'm'>"
    assert waitqueue.library_version()


def load(**environment):
    code = "import waitqueue; print(waitqueue._native.lib._name)"
    whole = {**os.environ, **environment}
    return subprocess.run(
        [sys.executable, "-c", code], env=whole, capture_output=True, text=True, cwd=tempfile.gettempdir()
    )


def test_a_library_that_is_not_there(tmp_path):
    result = load(WAITQUEUE_LIBRARY=str(tmp_path / "none.so"))
    assert result.returncode != 0
    assert "ImportError" in result.stderr and "cargo build" in result.stderr and "none.so" in result.stderr
    (tmp_path / "other.so").write_text("no library")
    assert "ImportError" in load(WAITQUEUE_LIBRARY=str(tmp_path / "other.so")).stderr


def test_the_loader_finds_it(tmp_path):
    os.symlink(os.environ["WAITQUEUE_LIBRARY"], tmp_path / "libwaitqueue.so.1")
    result = load(WAITQUEUE_LIBRARY="", LD_LIBRARY_PATH=str(tmp_path))
    assert result.stdout == "libwaitqueue.so.1\n", result.stderr


def test_the_checkout_has_it():
    result = load(WAITQUEUE_LIBRARY="", PYTHONPATH=str(ROOT / "ffi" / "python"))
    assert result.stdout.startswith(str(ROOT / "target")) or result.stdout == "libwaitqueue.so.1\n", result.stderr
