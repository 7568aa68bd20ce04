"""One timer for many deadlines."""

from __future__ import annotations

import asyncio

from mahavishnu.execution.deadlines import DeadlineWatcher


class Item:
    """Something with a deadline."""

    def __init__(self, name: str, deadline: float | None) -> None:
        self.name = name
        self.deadline = deadline


async def test_deadlines_are_met_in_their_order_and_never_early() -> None:
    """Whatever the order they were set in, and though each is set after an earlier or a later one."""
    loop = asyncio.get_running_loop()
    now = loop.time()
    seen: list[tuple[str, bool]] = []
    done = asyncio.Event()
    items: set[Item] = set()

    def expire(item: Item, at: float) -> None:
        seen.append((item.name, loop.time() >= due[item.name]))
        items.discard(item)
        if len(seen) == 4:
            done.set()

    watcher = DeadlineWatcher(items, expire)
    due = {"c": now + 0.06, "a": now + 0.02, "b": now + 0.04, "past": now - 1}
    for name, deadline in due.items():
        items.add(Item(name, deadline))
        watcher.watch(deadline)
    items.add(Item("never", None))
    async with asyncio.timeout(5):
        await done.wait()
    assert seen == [("past", True), ("a", True), ("b", True), ("c", True)]


async def test_a_deadline_may_be_moved_on() -> None:
    """What is due once more is looked at once more."""
    loop = asyncio.get_running_loop()
    item = Item("a", loop.time() + 0.01)
    times: list[float] = []
    done = asyncio.Event()

    def expire(one: Item, at: float) -> None:
        times.append(at)
        if len(times) < 3:
            one.deadline = at + 0.01
        else:
            done.set()

    watcher = DeadlineWatcher([item], expire)
    watcher.watch(loop.time() + 0.01)
    async with asyncio.timeout(5):
        await done.wait()
    assert times == sorted(times)


async def test_nothing_happens_after_close() -> None:
    """The timer is disarmed."""
    loop = asyncio.get_running_loop()
    seen: list[Item] = []
    watcher = DeadlineWatcher([Item("a", loop.time() + 0.01)], lambda item, _: seen.append(item))
    watcher.watch(loop.time() + 0.01)
    watcher.close()
    await asyncio.sleep(0.03)
    assert seen == []
