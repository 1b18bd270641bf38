"""The C interface: the library, found and checked, and what waitqueue.h declares, word for word."""

import ctypes
import os
from collections.abc import Iterator
from ctypes import POINTER, Structure, c_char_p, c_int, c_int64, c_size_t, c_uint32, c_uint64, c_void_p
from pathlib import Path
from typing import Any

INTERFACE = 1
FOREVER = 2**64 - 1
ALL = 2**32 - 1
CLASS_INTERRUPTIBLE, CLASS_UNINTERRUPTIBLE, CLASS_NORMAL, CLASS_ANY = 1, 2, 3, 2**32 - 1
KEY_ANY = 2**32 - 1
EXCLUSIVE, PRIORITY, INTERRUPTIBLE, KILLABLE, NO_SPIN = 1, 2, 4, 8, 16
PATH, REPLACE_DEAD, NO_TICK, NO_REGION_SPIN = 1, 2, 4, 8
EVALUATING, ASLEEP, CHOSEN, GONE = 0, 1, 2, 3


_TYPES = {
    "u32": c_uint32, "u64": c_uint64, "i64": c_int64, "size": c_size_t, "text": c_char_p, "pointer": c_void_p,
    "ints": POINTER(c_int), "u32s": POINTER(c_uint32),
}  # fmt: skip


def _fields(text: str) -> list[Any]:
    """Declarations such as "u32 flags mode, u64 tick"."""
    words = [declaration.split() for declaration in text.split(",")]
    return [(name, _TYPES[kind]) for kind, *names in words for name in names]


class wq_queue_head(Structure):
    _fields_ = [("opaque", c_uint64 * 8)]


class wq_robust_lock(Structure):
    _fields_ = [("opaque", c_uint64 * 2)]


class wq_wait(Structure):
    _fields_ = [("opaque", c_uint64 * 64)]


class wq_woken(Structure):
    _fields_ = _fields("u32 exclusive nonexclusive")


class wq_wait_options(Structure):
    _fields_ = _fields(
        "size size, u32 flags class_mask key signal_count, ints signals, pointer interrupter, text label, u64 spin"
    )


class wq_region_options(Structure):
    _fields_ = _fields(
        "size size, u32 flags mode, u64 participants threads entries objects memory tick patience spin, "
        "u32s owners, size owner_count, u32s groups, size group_count"
    )


class wq_source(Structure):
    _fields_ = _fields("pointer queue condition context, u32 flags class_mask key reserved")


class wq_region_info(Structure):
    _fields_ = _fields(
        "text name, u64 size deaths, u32 participants queues objects entries_used entries threads_used threads"
    )


class wq_participant_info(Structure):
    _fields_ = _fields("u64 id, i64 since, u32 process is_alive")


class wq_queue_info(Structure):
    _fields_ = _fields(
        "text name, u64 lock_owner wakes claims hand_ons recoveries, u32 rescues waiters is_closed reserved"
    )


class wq_waiter_info(Structure):
    _fields_ = _fields("text label, u64 participant, i64 since, u32 process thread state flags is_persistent key")


class wq_object_info(Structure):
    _fields_ = _fields("text name tag, u64 size")


_handle, _out, _text, _time = c_void_p, POINTER(c_void_p), c_char_p, c_uint64
_wait, _wait_options, _region_options = POINTER(wq_wait), POINTER(wq_wait_options), POINTER(wq_region_options)
_call = [c_void_p, c_void_p]  # a condition, always NULL, and its context: conditions are evaluated between calls

# Every function of the header: what it returns, then its arguments.
FUNCTIONS: dict[str, tuple[Any, ...]] = {
    "wq_check_interface": (c_int, c_uint32, c_size_t, c_size_t, c_size_t),
    "wq_version": (c_char_p,),
    "wq_strerror": (c_char_p, c_int),
    "wq_last_error": (c_char_p,),
    "wq_region_create": (c_int, _text, _region_options, _out),
    "wq_region_open": (c_int, _text, _region_options, _out),
    "wq_region_open_or_create": (c_int, _text, _region_options, _out),
    "wq_region_create_memfd": (c_int, _text, _region_options, _out),
    "wq_region_open_fd": (c_int, c_int, _region_options, _out),
    "wq_region_fd": (c_int, _handle),
    "wq_region_unlink": (c_int, _text),
    "wq_region_unlink_at": (c_int, _text),
    "wq_region_free": (c_int, _handle),
    "wq_region_me": (c_int, _handle, POINTER(c_uint64)),
    "wq_region_is_alive": (c_int, _handle, c_uint64),
    "wq_region_queue": (c_int, _handle, _text, _out),
    "wq_region_queue_at": (c_int, _handle, c_void_p, _out),
    "wq_region_lock_at": (c_int, _handle, c_void_p, _out),
    "wq_region_object": (c_int, _handle, _text, _text, c_size_t, c_size_t, _out),
    "wq_region_object_u32": (c_int, _handle, _text, _out),
    "wq_region_object_u64": (c_int, _handle, _text, _out),
    "wq_queue_prepare_to_wait": (c_int, _handle, _wait_options, _time, _wait),
    "wq_queue_begin_wait": (c_int, _handle, _wait_options, _time, _wait),
    "wq_wait_sleep": (c_int, _wait),
    "wq_wait_next": (c_int, _wait, POINTER(c_uint32)),
    "wq_wait_was_chosen": (c_int, _wait),
    "wq_wait_was_first": (c_int, _wait),
    "wq_wait_finish": (c_int64, _wait),
    "wq_wait_cancel": (c_int, _wait),
    "wq_queue_wait_event": (c_int, _handle, *_call),
    "wq_queue_wait_event_with": (c_int, _handle, *_call, _wait_options, _time, POINTER(c_uint64)),
    "wq_queue_wait_woken": (c_int, _handle, _wait_options, _time, POINTER(c_uint64)),
    "wq_wait_many": (c_int, POINTER(wq_source), c_uint32, _wait_options, _time, POINTER(c_uint32)),
    "wq_begin_wait_many": (c_int, POINTER(wq_source), c_uint32, _wait_options, _time, _wait),
    "wq_set_new": (c_int, _handle, _out),
    "wq_set_add": (c_int, _handle, _handle, *_call, _wait_options, POINTER(c_uint32)),
    "wq_set_remove": (c_int, _handle, c_uint32),
    "wq_set_wait": (c_int, _handle, _wait_options, _time, POINTER(c_uint32)),
    "wq_set_begin_wait": (c_int, _handle, _wait_options, _time, _wait),
    "wq_set_ask_all": (c_int, _handle),
    "wq_set_take_fired": (c_int, _handle, c_uint32, POINTER(c_uint32)),
    "wq_set_free": (c_int, _handle),
    "wq_queue_wake_up": (c_int, _handle, c_uint32, c_uint32, c_uint32, POINTER(wq_woken)),
    "wq_queue_wake_up_sync": (c_int, _handle, POINTER(wq_woken)),
    "wq_region_flush": (c_int, _handle),
    "wq_queue_close": (c_int, _handle, POINTER(c_uint32)),
    "wq_queue_is_closed": (c_int, _handle),
    "wq_queue_has_sleepers": (c_int, _handle),
    "wq_queue_has_sleepers_without_fence": (c_int, _handle),
    "wq_queue_free": (c_int, _handle),
    "wq_lock_lock": (c_int, _handle),
    "wq_lock_lock_timeout": (c_int, _handle, _time),
    "wq_lock_owner_died": (c_int, _handle),
    "wq_lock_repaired": (c_int, _handle),
    "wq_lock_unlock": (c_int, _handle),
    "wq_lock_free": (c_int, _handle),
    "wq_interrupter_new": (c_int, _handle, _out),
    "wq_interrupter_interrupt": (c_int, _handle),
    "wq_interrupter_free": (c_int, _handle),
    "wq_region_snapshot": (c_int, _handle, _out),
    "wq_inspect": (c_int, _text, _region_options, _out),
    "wq_region_check": (c_int, _handle),
    "wq_snapshot_text": (c_char_p, _handle),
    "wq_snapshot_region": (c_int, _handle, POINTER(wq_region_info)),
    "wq_snapshot_participant": (c_int, _handle, c_uint32, POINTER(wq_participant_info)),
    "wq_snapshot_queue": (c_int, _handle, c_uint32, POINTER(wq_queue_info)),
    "wq_snapshot_waiter": (c_int, _handle, c_uint32, c_uint32, POINTER(wq_waiter_info)),
    "wq_snapshot_object": (c_int, _handle, c_uint32, POINTER(wq_object_info)),
    "wq_snapshot_free": (c_int, _handle),
}

_HELP = """\
{tried}.
Install the C library, or build it in a checkout of waitqueue, and say where it is:
    cargo build --release -p waitqueue-ffi
    export WAITQUEUE_LIBRARY="$PWD/target/release/libwaitqueue_ffi.so"\
"""


def _candidates() -> Iterator[str]:
    """Where the library may be, the likeliest first."""
    named = os.environ.get("WAITQUEUE_LIBRARY")
    if named:
        yield named
        return
    yield "libwaitqueue.so.1"
    tree = Path(__file__).resolve().parents[2]  # ffi, in a checkout
    if (tree / "include" / "waitqueue.h").exists():
        for profile in ("release", "debug"):
            yield str(tree.parent / "target" / profile / "libwaitqueue_ffi.so")


def _load() -> ctypes.CDLL:
    tried = []
    for candidate in _candidates():
        try:
            library = ctypes.CDLL(candidate)
            for name, (result, *arguments) in FUNCTIONS.items():
                function = getattr(library, name)
                function.restype, function.argtypes = result, arguments
        except (OSError, AttributeError) as error:
            tried.append(f"{candidate} ({error})")
            continue
        sizes = ctypes.sizeof(wq_wait), ctypes.sizeof(c_uint32), ctypes.sizeof(c_uint64)
        if library.wq_check_interface(INTERFACE, *sizes) != 0:
            raise ImportError(f"{candidate}: {library.wq_last_error().decode(errors='replace')}")
        return library
    raise ImportError(_HELP.format(tried="no usable libwaitqueue: tried " + ", ".join(tried)))


lib = _load()
