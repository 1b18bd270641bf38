"""The Linux kernel's wait queues for processes that share memory, right even when one of them is killed.

A process sleeps until a condition over shared memory is true; another makes it true and wakes the queue:

    with waitqueue.Region.open_or_create("/demo") as region:
        ready, queue = region.u32("ready"), region.queue("ready-queue")
        queue.wait(lambda: ready.value)         # one process
        ready.value = 1; queue.wake()           # another

The order of the waker's two steps is all that the caller has to get right. The library's own header, waitqueue.h, has
the whole contract; README.md has what is special in Python: memory, signals, fork.
"""

import ctypes
import errno
import math
import os
import threading
import time
import warnings
from ctypes import byref, c_uint32, c_uint64, c_void_p
from dataclasses import dataclass
from enum import IntEnum
from collections.abc import Iterable
from typing import Any, Callable, NamedTuple, Optional, TypeVar, Union

from . import _native as native
from ._native import lib

__all__ = [
    "AlreadyExists", "Busy", "Closed", "Damaged", "Evicted", "Forked", "Full", "Interrupted", "Interrupter", "Invalid",
    "Lock", "LockStuck", "NotFound", "NotPermitted", "Number", "ObjectInfo", "ParticipantInfo", "Queue", "QueueInfo",
    "Region", "Set", "Snapshot", "Source", "TimedOut", "WaiterInfo", "WaiterState", "WaitqueueError", "Woken",
    "WrongVersion", "inspect", "library_version", "wait_many",
]  # fmt: skip

T = TypeVar("T")
Condition = Callable[[], T]

CLASS_INTERRUPTIBLE = native.CLASS_INTERRUPTIBLE
CLASS_UNINTERRUPTIBLE = native.CLASS_UNINTERRUPTIBLE


# ---- Errors ---------------------------------------------------------------------------------------------------------


class WaitqueueError(OSError):
    """A call failed: `errno` says how, `strerror` what happened to whom and what to do."""


class TimedOut(WaitqueueError, TimeoutError):
    """The time is over, and the condition false."""


class Interrupted(WaitqueueError, InterruptedError):
    """An interrupter was used, or a signal handler ran in an interruptible wait; the condition is false."""


class Closed(WaitqueueError):
    """The queue was closed for ever, and the condition is false."""


class LockStuck(WaitqueueError, TimeoutError):
    """A living process keeps a lock."""


class Forked(WaitqueueError, ChildProcessError):
    """A handle from before fork: open the region again in the child."""


class Evicted(WaitqueueError):
    """This process was taken for dead: give all handles back, and open again."""


class Damaged(WaitqueueError):
    """The region is damaged."""


class Full(WaitqueueError):
    """A capacity of the region is used up."""


class WrongVersion(WaitqueueError):
    """The region is of another version."""


class Busy(WaitqueueError):
    """It is in use."""


class NotFound(WaitqueueError, FileNotFoundError):
    """There is no such region, or member of a set."""


class AlreadyExists(WaitqueueError, FileExistsError):
    """The name is in use, or in use for something else."""


class NotPermitted(WaitqueueError, PermissionError):
    """It is somebody else's, or belongs to another thread."""


class Invalid(WaitqueueError, ValueError):
    """An argument that cannot be."""


_ERRORS: "dict[int, type[WaitqueueError]]" = {
    errno.ETIMEDOUT: TimedOut, errno.EINTR: Interrupted, errno.ESHUTDOWN: Closed, errno.ETIME: LockStuck,
    errno.ECHILD: Forked, errno.ESTALE: Evicted, errno.EUCLEAN: Damaged, errno.ENOBUFS: Full,
    errno.EPROTO: WrongVersion, errno.EBUSY: Busy, errno.ENOENT: NotFound, errno.EEXIST: AlreadyExists,
    errno.EPERM: NotPermitted, errno.EACCES: NotPermitted, errno.EINVAL: Invalid,
}  # fmt: skip


def _error(number: int, text: Optional[str] = None) -> WaitqueueError:
    text = lib.wq_last_error().decode(errors="replace") if text is None else text
    return _ERRORS.get(number, WaitqueueError)(number, text)


# ---- Handles --------------------------------------------------------------------------------------------------------


class _Handle:
    """An opaque pointer, given back when nothing in Python refers to it any more."""

    def __init__(self, pointer: int, free: Callable[[int], int]) -> None:
        self._pointer, self._free, self._process = pointer, free, os.getpid()

    def check(self) -> None:
        # The library itself refuses only what has something to do.
        if self._process != os.getpid():
            raise _error(errno.ECHILD, "this handle is from before fork: open the region again in the child")

    @property
    def pointer(self) -> int:
        self.check()
        return self._pointer

    def __reduce__(self) -> Any:
        raise TypeError("handles of waitqueue cannot be pickled: open the region by name in the other process")

    def __del__(self, warn: Any = warnings.warn) -> None:
        if self._free(self._pointer) < 0:
            # A set that another thread has made, or a lock that is held: the end of that thread undoes it.
            warn(f"not given back: {lib.wq_last_error().decode(errors='replace')}", ResourceWarning)


def _check(function: Callable[..., int], *arguments: Any) -> int:
    """Calls the library, with pointers for handles, which live until it returns. Raises an error that it returns."""
    status = function(*[value.pointer if isinstance(value, _Handle) else value for value in arguments])
    if status < 0:
        raise _error(-status)
    return status


def _make(free: Callable[[int], int], function: Callable[..., int], *arguments: Any) -> _Handle:
    out = c_void_p()
    _check(function, *arguments, byref(out))
    return _Handle(out.value or 0, free)


def _name(text: str) -> bytes:
    if "\0" in text:
        raise _error(errno.EINVAL, f"{text!r} has a zero byte")
    return text.encode()


def _nanoseconds(seconds: Optional[float]) -> int:
    """A time for the library; None and infinity are for ever."""
    if seconds is None or seconds == math.inf:
        return native.FOREVER
    if not seconds >= 0:
        raise _error(errno.EINVAL, f"a time of {seconds} seconds")
    return min(math.ceil(seconds * 1e9), native.FOREVER - 1)


def _mask(mask: Optional[int], default: int) -> int:
    if mask is not None and not 0 < mask < 2**32:
        raise _error(errno.EINVAL, f"a mask of {mask}: it has 32 bits, of which at least one is set")
    return default if mask is None else mask


# ---- Waiting --------------------------------------------------------------------------------------------------------

# How long a signal's handler may have to wait for the main thread, in seconds. A signal that comes after the
# interpreter has looked for signals, and before the kernel puts the thread to sleep, does not end the sleep. So the
# main thread looks around: by the region's tick, over which it keeps its place in the queue, or else by waits of this
# length.
_LOOK = 1.0
_TICK = 0.8  # which is spread over a quarter


class _Waiting:
    """How to wait, and the one loop that does."""

    def __init__(
        self,
        region: "Region",
        timeout: Optional[float],
        interruptible: bool = False,
        interrupter: "Optional[Interrupter]" = None,
        label: Optional[str] = None,
        spin: Optional[float] = None,
        exclusive: bool = False,
        priority: bool = False,
        key: Optional[int] = None,
        class_mask: Optional[int] = None,
    ) -> None:
        is_main = threading.get_ident() == threading.main_thread().ident
        self.interruptible, self.interrupter = interruptible, interrupter
        self.time = _nanoseconds(timeout)
        self.turn = _nanoseconds(_LOOK) if is_main and not region._looks_around else native.FOREVER
        flags = native.EXCLUSIVE * exclusive | native.PRIORITY * priority
        # In the main thread signals always end the sleep; which wakes reach it is a matter of what was asked.
        flags |= native.INTERRUPTIBLE * (interruptible or is_main) | native.NO_SPIN * (spin == 0)
        default = native.CLASS_INTERRUPTIBLE if interruptible else native.CLASS_UNINTERRUPTIBLE
        self.options = native.wq_wait_options(
            size=ctypes.sizeof(native.wq_wait_options),
            flags=flags,
            class_mask=_mask(class_mask, default),
            key=_mask(key, native.KEY_ANY),
            interrupter=interrupter and interrupter._handle.pointer,
            label=None if label is None else _name(label),
            spin=_nanoseconds(spin or 0),
        )

    def of_many(self) -> "_Waiting":
        """The same on many queues, where which wakes reach an entry is said of the entry."""
        self.options.class_mask = self.options.key = 0
        return self

    def run(
        self,
        begin: Callable[[int, native.wq_wait], Any],
        evaluate: Callable[[int], T],
        step: Callable[..., Any] = lib.wq_wait_next,
    ) -> tuple[int, T]:
        """Which condition was true, and what it returned. `begin` begins a wait of so many nanoseconds."""
        deadline = None if self.time == native.FOREVER else time.monotonic_ns() + self.time
        left, at = self.time, c_uint32()
        while True:
            wait = native.wq_wait()
            try:
                status = begin(min(left, self.turn), wait)
                while status == 0:
                    status = step(wait, byref(at))
                    if status == 0:
                        value = evaluate(at.value)
                        if value:
                            lib.wq_wait_finish(wait)
                            return at.value, value
            finally:
                lib.wq_wait_cancel(wait)  # which does nothing if it is finished
            error = _error(-status)
            if deadline is not None:
                left = deadline - time.monotonic_ns()
            if isinstance(error, TimedOut) and left > 0:
                continue
            # A signal whose handler did not raise, as in PEP 475. (An interrupt that came too was taken with it.)
            interrupted = self.interrupter is not None and self.interrupter._take()
            if isinstance(error, Interrupted) and not (interrupted or self.interruptible):
                left = max(left, 1)
                continue
            raise error


class Woken(NamedTuple):
    """How many waiters a wake has reached. Those that were awake and evaluate by themselves are not counted."""

    exclusive: int
    nonexclusive: int


class Queue:
    """A wait queue in a region. Threads may share it."""

    def __init__(self, region: "Region", handle: _Handle, name: str) -> None:
        self._region, self._handle, self.name = region, handle, name

    def __repr__(self) -> str:
        return f"<Queue {self.name!r} of {self._region.name!r}>"

    def wait(
        self,
        condition: Condition[T],
        timeout: Optional[float] = None,
        *,
        exclusive: bool = False,
        priority: bool = False,
        interruptible: bool = False,
        interrupter: "Optional[Interrupter]" = None,
        key: Optional[int] = None,
        class_mask: Optional[int] = None,
        label: Optional[str] = None,
        spin: Optional[float] = None,
    ) -> T:
        """Sleeps until `condition()` is true, and returns what it returned.

        It is called first, again after every wake and somebody's death, and sometimes without reason; not again once
        it was true, so it may take something. What it raises ends the wait. The condition beats a close, that a
        timeout, that an interrupt. Times are in seconds; 0 is a poll.

        `exclusive`: one wake wakes one of them, oldest first. `priority`: before all that are not. `interruptible`: a
        signal handler ends it, and it is of class INTERRUPTIBLE. `key`, `class_mask`: which wakes reach it. `label`: to
        know it by in a snapshot. `spin`: evaluate for so long before sleeping; default as has paid before.

        Raises TimedOut, Closed, Interrupted; Busy if there is another exclusive wait with priority.
        """
        waiting = _Waiting(
            self._region, timeout, interruptible, interrupter, label, spin, exclusive, priority, key, class_mask
        )
        pointer = self._handle.pointer
        value = condition()
        if value:
            return value

        def begin(left: int, wait: native.wq_wait) -> Any:
            return lib.wq_queue_begin_wait(pointer, waiting.options, left, wait)

        return waiting.run(begin, lambda _: condition(), lambda wait, _: lib.wq_wait_sleep(wait))[1]

    def wake(self, n: int = 1, *, key: Optional[int] = None, class_mask: Optional[int] = None) -> Woken:
        """Wakes all non-exclusive waiters, and up to `n` exclusive ones, whose masks meet these."""
        if not 0 < n < 2**32:
            raise _error(errno.EINVAL, f"a count of {n}")
        woken = native.wq_woken()
        mask = _mask(class_mask, native.CLASS_ANY)
        _check(lib.wq_queue_wake_up, self._handle, n, mask, _mask(key, native.KEY_ANY), byref(woken))
        return Woken(woken.exclusive, woken.nonexclusive)

    def wake_all(self, *, key: Optional[int] = None, class_mask: Optional[int] = None) -> Woken:
        """Wakes all waiters whose masks meet these."""
        return self.wake(native.ALL, key=key, class_mask=class_mask)

    def close(self) -> int:
        """Closes the queue for ever, for everybody; how many waited. They get Closed unless their condition is true."""
        waited = c_uint32()
        _check(lib.wq_queue_close, self._handle, byref(waited))
        return waited.value

    @property
    def is_closed(self) -> bool:
        """Whether it was closed."""
        return bool(_check(lib.wq_queue_is_closed, self._handle))

    @property
    def has_sleepers(self) -> bool:
        """Whether anybody waits. If not, whoever begins to wait from now on sees what the caller did before."""
        return bool(_check(lib.wq_queue_has_sleepers, self._handle))


class Source(NamedTuple):
    """A queue and what is waited for there. The rest is as in `Queue.wait`."""

    queue: Queue
    condition: Condition[Any]
    exclusive: bool = False
    priority: bool = False
    key: Optional[int] = None
    class_mask: Optional[int] = None


def wait_many(
    sources: "Iterable[Union[Source, tuple[Queue, Condition[Any]]]]",
    timeout: Optional[float] = None,
    *,
    interruptible: bool = False,
    interrupter: "Optional[Interrupter]" = None,
    label: Optional[str] = None,
    spin: Optional[float] = None,
) -> tuple[int, Any]:
    """Sleeps until one of the conditions is true: the place of the first that is, and what it returned.

    The sources are of one region; each wake is consumed by one waiter. Otherwise as `Queue.wait`.
    """
    all_of = [Source(*source) for source in sources]
    if not all_of:
        raise _error(errno.EINVAL, "there are no sources to wait for")
    waiting = _Waiting(all_of[0].queue._region, timeout, interruptible, interrupter, label, spin).of_many()
    array = (native.wq_source * len(all_of))()
    for entry, source in zip(array, all_of):
        entry.queue = source.queue._handle.pointer
        entry.flags = native.EXCLUSIVE * source.exclusive | native.PRIORITY * source.priority
        entry.class_mask, entry.key = _mask(source.class_mask, 0), _mask(source.key, 0)

    def begin(left: int, wait: native.wq_wait) -> Any:
        return lib.wq_begin_wait_many(array, len(array), waiting.options, left, wait)

    return waiting.run(begin, lambda at: all_of[at].condition())


class Set:
    """Queues on which the thread that made it stays enrolled: a wait costs what there is to do."""

    def __init__(self, region: "Region", handle: _Handle) -> None:
        self._region = region
        self._own: Optional[_Handle] = handle
        self._members: dict[int, tuple[Queue, Condition[Any]]] = {}

    @property
    def _handle(self) -> _Handle:
        if self._own is None:
            raise _error(errno.EINVAL, "the set is closed")
        return self._own

    def __enter__(self) -> "Set":
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def add(
        self,
        queue: Queue,
        condition: Condition[Any],
        *,
        exclusive: bool = False,
        priority: bool = False,
        key: Optional[int] = None,
        class_mask: Optional[int] = None,
        label: Optional[str] = None,
    ) -> int:
        """Enrols on a queue; the number of the new member.

        The condition has to be about what is woken for: a member is asked when it is new, when a wake has met it since,
        and for as long as it answers true.
        """
        waiting = _Waiting(self._region, None, False, None, label, None, exclusive, priority, key, class_mask)
        out = c_uint32()
        _check(lib.wq_set_add, self._handle, queue._handle, None, None, waiting.options, byref(out))
        self._members[out.value] = queue, condition
        return out.value

    def remove(self, member: int) -> None:
        """Leaves a queue; a wake that chose this member is passed on."""
        _check(lib.wq_set_remove, self._handle, member)
        self._members.pop(member, None)

    def wait(
        self,
        timeout: Optional[float] = None,
        *,
        interruptible: bool = False,
        interrupter: "Optional[Interrupter]" = None,
        spin: Optional[float] = None,
    ) -> tuple[int, Any]:
        """Sleeps until a member's condition is true: its number, and what it returned. As `Queue.wait`."""
        waiting = _Waiting(self._region, timeout, interruptible, interrupter, None, spin).of_many()
        pointer = self._handle.pointer

        def begin(left: int, wait: native.wq_wait) -> Any:
            return lib.wq_set_begin_wait(pointer, waiting.options, left, wait)

        return waiting.run(begin, lambda member: self._members[member][1]())

    def ask_all(self) -> None:
        """Makes the next wait ask every member, because conditions have changed their meaning."""
        _check(lib.wq_set_ask_all, self._handle)

    def take_fired(self, member: int) -> int:
        """How many wakes have met a member since this was last called: a hint where to look."""
        fired = c_uint32()
        _check(lib.wq_set_take_fired, self._handle, member, byref(fired))
        return fired.value

    def close(self) -> None:
        """Leaves all queues."""
        if self._own is not None:
            handle = self._own
            handle.check()
            status = handle._free(handle._pointer)
            if status < 0:
                raise _error(-status)
            handle._pointer, self._own = 0, None


class Interrupter:
    """Ends a wait from elsewhere: the one that has it, or the next that gets it. For one wait at a time."""

    def __init__(self, handle: _Handle) -> None:
        self._handle, self._is_used = handle, False

    def interrupt(self) -> None:
        """Ends the wait with Interrupted. A Python signal handler, or any thread, may call it."""
        # Before the library learns of it: so a wait that it ends knows that no signal did.
        self._is_used = True
        _check(lib.wq_interrupter_interrupt, self._handle)

    def _take(self) -> bool:
        was_used, self._is_used = self._is_used, False
        return was_used


# ---- Locks and memory -----------------------------------------------------------------------------------------------


class Lock:
    """A robust lock in a region, for data that single numbers cannot keep consistent. Not recursive, not fair.

    with lock:
        if lock.owner_died: ...; lock.repaired()
    """

    def __init__(self, region: "Region", handle: _Handle) -> None:
        self._region, self._handle = region, handle
        self._holder: Optional[int] = None
        #: For the holder: an owner has died inside, and nobody has said since that the data is consistent again.
        self.owner_died = False

    def acquire(self, timeout: Optional[float] = None) -> None:
        """Takes it. LockStuck: the living have kept it for so many seconds (default: the region's patience)."""
        pointer, me = self._handle.pointer, threading.get_ident()
        left = _nanoseconds(self._region._patience if timeout is None else timeout)
        deadline, turn = time.monotonic_ns() + left, _nanoseconds(_LOOK / 2)
        was_mine = self._holder == me
        try:
            # In turns, between which signal handlers run.
            while (status := lib.wq_lock_lock_timeout(pointer, max(0, min(left, turn)))) < 0:
                left = deadline - time.monotonic_ns()
                if status != -errno.ETIME or left <= 0:
                    raise _error(-status)
            self._holder, self.owner_died = me, status == 1
        except BaseException:
            if not was_mine:
                lib.wq_lock_unlock(pointer)  # of a lock that was taken when a signal handler raised; or else nothing
            raise

    def release(self) -> None:
        """Releases it. NotPermitted if this thread does not hold it."""
        self._holder = None if self._holder == threading.get_ident() else self._holder
        _check(lib.wq_lock_unlock, self._handle)

    def repaired(self) -> None:
        """Says that the data is consistent again."""
        _check(lib.wq_lock_repaired, self._handle)
        self.owner_died = False

    def __enter__(self) -> "Lock":
        self.acquire()
        return self

    def __exit__(self, *_: Any) -> None:
        self.release()


class Number:
    """A number of 32 or 64 bits in a region, which Rust knows as an AtomicU32 or AtomicU64.

    A load or a store of `value` is one machine instruction; `value += 1` is a load and a store, between which others
    may store: see README.md.
    """

    def __init__(self, handle: _Handle, cell: "Union[c_uint32, c_uint64]") -> None:
        self._handle, self._cell = handle, cell

    @property
    def value(self) -> int:
        """What it is."""
        self._handle.check()
        return self._cell.value

    @value.setter
    def value(self, value: int) -> None:
        self._handle.check()
        if not 0 <= value < 2 ** (8 * ctypes.sizeof(self._cell)):
            raise _error(errno.EINVAL, f"{value} does not fit")
        self._cell.value = value


# ---- Regions --------------------------------------------------------------------------------------------------------


def _region_options(
    *,
    path: bool = False,
    replace_dead: bool = False,
    mode: int = 0,
    participants: int = 0,
    threads: int = 0,
    entries: int = 0,
    objects: int = 0,
    memory: int = 0,
    tick: Optional[float] = _TICK,
    patience: float = 10.0,
    spin: Optional[float] = None,
    owners: Iterable[int] = (),
    groups: Iterable[int] = (),
) -> native.wq_region_options:
    flags = native.PATH * path | native.REPLACE_DEAD * replace_dead
    flags |= native.NO_TICK * (not tick) | native.NO_REGION_SPIN * (spin == 0)
    all_owners, all_groups = list(owners), list(groups)
    return native.wq_region_options(
        size=ctypes.sizeof(native.wq_region_options),
        flags=flags,
        mode=mode,
        participants=participants,
        threads=threads,
        entries=entries,
        objects=objects,
        memory=memory,
        tick=_nanoseconds(tick or 0),
        patience=_nanoseconds(patience) or 1,
        spin=_nanoseconds(spin or 0),
        owners=(c_uint32 * len(all_owners))(*all_owners),
        owner_count=len(all_owners),
        groups=(c_uint32 * len(all_groups))(*all_groups),
        group_count=len(all_groups),
    )


class Region:
    """A region of shared memory to which this process is attached. Threads may share it; a forked child may not.

    Made by `create`, `open`, `open_or_create`, `memfd` and `open_fd`, whose options are: `path` (the name is that of a
    file), `replace_dead`, `mode`, the capacities `participants`, `threads`, `entries`, `objects` and `memory` (bytes),
    `tick` (seconds between two looks around of a sleeping wait, or None), `patience` (seconds until a lock that the
    living keep is LockStuck), `spin` (seconds), `owners` and `groups` (whose regions are accepted, by their ids).
    Default capacities suffice for 256 processes, 1,024 threads, 256 objects and 128 KiB.
    """

    def __init__(self, name: str, attach: Callable[..., int], what: Any, options: dict[str, Any]) -> None:
        given = _region_options(**options)
        self.name = name
        self._own: Optional[_Handle] = _make(lib.wq_region_free, attach, what, byref(given))
        self._patience = given.patience / 1e9
        self._looks_around = 0 < given.tick <= _nanoseconds(_TICK)

    @classmethod
    def create(cls, name: str, **options: Any) -> "Region":
        """Creates the region; AlreadyExists."""
        return cls(name, lib.wq_region_create, _name(name), options)

    @classmethod
    def open(cls, name: str, **options: Any) -> "Region":
        """Opens the region; NotFound."""
        return cls(name, lib.wq_region_open, _name(name), options)

    @classmethod
    def open_or_create(cls, name: str, **options: Any) -> "Region":
        """Either, whoever comes first."""
        return cls(name, lib.wq_region_open_or_create, _name(name), options)

    @classmethod
    def memfd(cls, label: str, **options: Any) -> "Region":
        """Creates a region without a name, sealed. Others attach by a descriptor: `fd`, and `open_fd` there."""
        return cls(label, lib.wq_region_create_memfd, _name(label), options)

    @classmethod
    def open_fd(cls, fd: int, **options: Any) -> "Region":
        """Opens a region by a descriptor, which stays the caller's."""
        return cls(f"fd {fd}", lib.wq_region_open_fd, fd, options)

    @staticmethod
    def unlink(name: str, *, path: bool = False) -> None:
        """Removes the name of a region, or its file; those who are attached go on. NotFound."""
        _check(lib.wq_region_unlink_at if path else lib.wq_region_unlink, _name(name))

    @property
    def _handle(self) -> _Handle:
        if self._own is None:
            raise _error(errno.EINVAL, f"region {self.name!r} is closed")
        return self._own

    def close(self) -> None:
        """Gives the handle back. The process detaches when its queues, numbers and views are gone, too."""
        self._own = None

    def __enter__(self) -> "Region":
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Region {self.name!r}{'' if self._own else ', closed'}>"

    def fd(self) -> int:
        """A new descriptor of the region, which the caller closes."""
        return _check(lib.wq_region_fd, self._handle)

    @property
    def me(self) -> int:
        """This attachment's own id: never 0, never used again."""
        out = c_uint64()
        _check(lib.wq_region_me, self._handle, byref(out))
        return out.value

    def is_alive(self, participant: int) -> bool:
        """Whether that participant is attached and its process alive. When somebody dies all waiters evaluate again."""
        return bool(_check(lib.wq_region_is_alive, self._handle, participant))

    def queue(self, name: str) -> Queue:
        """The queue of that name, created at first use."""
        return Queue(self, _make(lib.wq_queue_free, lib.wq_region_queue, self._handle, _name(name)), name)

    def queue_at(self, memory: Any, offset: int = 0) -> Queue:
        """The queue whose head is in an object: 64 bytes at a multiple of 64, zero at first."""
        at = ctypes.addressof(native.wq_queue_head.from_buffer(memory, offset))
        return Queue(self, _make(lib.wq_queue_free, lib.wq_region_queue_at, self._handle, at), f"at {at:#x}")

    def lock_at(self, memory: Any, offset: int = 0) -> Lock:
        """The lock that is in an object: 16 bytes at a multiple of 16, zero at first."""
        at = ctypes.addressof(native.wq_robust_lock.from_buffer(memory, offset))
        return Lock(self, _make(lib.wq_lock_free, lib.wq_region_lock_at, self._handle, at))

    def lock(self, name: str) -> Lock:
        """The lock of that name: what Rust programs call object::<RobustLock>."""
        return self.lock_at(self.object(name, "waitqueue lock", ctypes.sizeof(native.wq_robust_lock), 16))

    def object(self, name: str, tag: str, size: int, align: int = 8) -> memoryview:
        """The bytes of that name, zeroed at first use. Whoever opens it gives the same tag, size and alignment.

        The view, and what is made of it (numpy.frombuffer, cast, from_buffer of a ctypes.Structure), keeps the process
        attached. Other processes may change it at any time: see README.md.
        """
        out, handle = c_void_p(), self._handle
        _check(lib.wq_region_object, handle, _name(name), _name(tag), size, align, byref(out))
        array = (ctypes.c_ubyte * size).from_address(out.value or 0)
        array._handle = handle  # type: ignore[attr-defined]
        return memoryview(array).cast("B")

    def u32(self, name: str) -> Number:
        """A number of 32 bits: what Rust programs call object::<AtomicU32>."""
        return self._number(lib.wq_region_object_u32, name, c_uint32)

    def u64(self, name: str) -> Number:
        """A number of 64 bits: what Rust programs call object::<AtomicU64>."""
        return self._number(lib.wq_region_object_u64, name, c_uint64)

    def _number(self, function: Callable[..., int], name: str, cell: Any) -> Number:
        out = c_void_p()
        _check(function, self._handle, _name(name), byref(out))
        return Number(self._handle, cell.from_address(out.value))

    def set(self) -> Set:
        """A set of queues, which belongs to this thread."""
        return Set(self, _make(lib.wq_set_free, lib.wq_set_new, self._handle))

    def interrupter(self) -> Interrupter:
        """Something that ends waits in this region."""
        return Interrupter(_make(lib.wq_interrupter_free, lib.wq_interrupter_new, self._handle))

    def snapshot(self) -> "Snapshot":
        """What the region looks like now."""
        return Snapshot._of(_make(lib.wq_snapshot_free, lib.wq_region_snapshot, self._handle))

    def check(self) -> None:
        """Checks every queue's list, for tools and tests: Damaged."""
        _check(lib.wq_region_check, self._handle)


# ---- Looking --------------------------------------------------------------------------------------------------------


class WaiterState(IntEnum):
    """What a waiter does."""

    EVALUATING = native.EVALUATING
    ASLEEP = native.ASLEEP
    CHOSEN = native.CHOSEN
    GONE = native.GONE


@dataclass(frozen=True)
class ParticipantInfo:
    """A process that is attached; `since` is in seconds since 1970."""

    id: int
    process: int
    since: float
    is_alive: bool


@dataclass(frozen=True)
class WaiterInfo:
    """One who waits on a queue."""

    label: str
    participant: int
    process: int
    thread: int
    since: float
    state: WaiterState
    exclusive: bool
    priority: bool
    is_persistent: bool
    key: int


@dataclass(frozen=True)
class QueueInfo:
    """A queue, and its waiters in the order of waking."""

    name: str
    lock_owner: Optional[int]
    wakes: int
    claims: int
    hand_ons: int
    recoveries: int
    rescues: int
    is_closed: bool
    waiters: list[WaiterInfo]


@dataclass(frozen=True)
class ObjectInfo:
    """A named object."""

    name: str
    tag: str
    size: int


@dataclass(frozen=True)
class Snapshot:
    """What a region looked like. It takes no lock, so it may be torn. As a string: all of it."""

    name: str
    size: int
    deaths: int
    entries: tuple[int, int]
    threads: tuple[int, int]
    participants: list[ParticipantInfo]
    queues: list[QueueInfo]
    objects: list[ObjectInfo]
    text: str

    def __str__(self) -> str:
        return self.text

    @staticmethod
    def _of(handle: _Handle) -> "Snapshot":
        def part(function: Callable[..., int], info: Any, *at: int) -> Any:
            _check(function, handle, *at, byref(info))
            return info

        def text(value: Optional[bytes]) -> str:
            return (value or b"").decode(errors="replace")

        def participant(at: int) -> ParticipantInfo:
            of = part(lib.wq_snapshot_participant, native.wq_participant_info(), at)
            return ParticipantInfo(of.id, of.process, of.since / 1e9, bool(of.is_alive))

        def waiter(queue: int, at: int) -> WaiterInfo:
            of = part(lib.wq_snapshot_waiter, native.wq_waiter_info(), queue, at)
            return WaiterInfo(
                text(of.label), of.participant, of.process, of.thread, of.since / 1e9, WaiterState(of.state),
                bool(of.flags & native.EXCLUSIVE), bool(of.flags & native.PRIORITY), bool(of.is_persistent), of.key,
            )  # fmt: skip

        def queue(at: int) -> QueueInfo:
            of = part(lib.wq_snapshot_queue, native.wq_queue_info(), at)
            return QueueInfo(
                text(of.name), of.lock_owner or None, of.wakes, of.claims, of.hand_ons, of.recoveries, of.rescues,
                bool(of.is_closed), [waiter(at, place) for place in range(of.waiters)],
            )  # fmt: skip

        def named(at: int) -> ObjectInfo:
            of = part(lib.wq_snapshot_object, native.wq_object_info(), at)
            return ObjectInfo(text(of.name), text(of.tag), of.size)

        of = part(lib.wq_snapshot_region, native.wq_region_info())
        return Snapshot(
            text(of.name), of.size, of.deaths, (of.entries_used, of.entries), (of.threads_used, of.threads),
            [participant(at) for at in range(of.participants)], [queue(at) for at in range(of.queues)],
            [named(at) for at in range(of.objects)], text(lib.wq_snapshot_text(handle.pointer)),
        )  # fmt: skip


def inspect(name: str, **options: Any) -> Snapshot:
    """What a region looks like, without attaching to it, to whoever may read it. Options as in `Region`."""
    return Snapshot._of(_make(lib.wq_snapshot_free, lib.wq_inspect, _name(name), byref(_region_options(**options))))


def library_version() -> str:
    """The version of the C library."""
    return str(lib.wq_version().decode())
