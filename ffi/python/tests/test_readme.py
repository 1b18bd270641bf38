"""What README.md shows, run."""

import re

from conftest import ROOT, finish, in_thread, until_asleep

TEXT = (ROOT / "ffi" / "python" / "README.md").read_text()
WAITER, WAKER, TAKE = re.findall(r"^ *```python\n(.*?)^ *```", TEXT, flags=re.DOTALL | re.MULTILINE)


def test_the_smallest_use(region, name, start):
    waiter = start(WAITER.replace("/demo", name))
    until_asleep(region, "ready-queue")
    finish(start(WAKER.replace("/demo", name)))
    assert finish(waiter) == "ready\n"


def test_taking_under_a_lock(region):
    tokens, queue = region.u32("tokens"), region.queue("q")
    names = {"region": region, "tokens": tokens, "queue": queue}
    join = in_thread(lambda: exec(re.sub("^  ", "", TAKE, flags=re.MULTILINE), names))
    until_asleep(region, "q")
    tokens.value = 2
    queue.wake()
    join()
    assert tokens.value == 1
