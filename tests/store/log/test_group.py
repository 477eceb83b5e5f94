"""Group commit: who shares a commit with whom, and what a failure or a cancellation at any moment leaves behind."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from hermes.base.errors import LogFull, LogUnavailable, StaleWriter
from hermes.store.log.group import MAX_COMMIT_BYTES, MAX_COMMIT_RECORDS, GroupCommit


class SlowDisk:
    """Commits take a second, are not cancelled once begun, and fail as the test wishes."""

    def __init__(self, next_index: int = 0) -> None:
        self.commits: list[tuple[int, list[bytes]]] = []
        self.failure: Exception | None = None
        self.busy = False
        self.group = GroupCommit(next_index, self.write)

    async def write(self, index: int, records: list[bytes]) -> None:
        assert not self.busy
        await trio.lowlevel.checkpoint_if_cancelled()
        self.busy = True
        with trio.CancelScope(shield=True):
            await trio.sleep(1)
        self.busy = False
        if self.failure is not None:
            raise self.failure
        self.commits.append((index, records))

    async def append(self, *records: bytes, expected_index: int | None = None) -> int:
        return await self.group.append(records, expected_index)


class Appends:
    """Appends under way in a nursery, each with what became of it."""

    def __init__(self, disk: SlowDisk, nursery: trio.Nursery) -> None:
        self.outcomes: dict[bytes, int | str] = {}
        self.scopes: dict[bytes, trio.CancelScope] = {}
        self._disk = disk
        self._nursery = nursery

    async def start(self, *names: bytes, expected_index: int | None = None) -> None:
        """Begin one append after the other; the first of them leads, if nobody does."""
        for name in names:
            self._nursery.start_soon(self._append, name, expected_index)
            await wait_all_tasks_blocked()

    async def _append(self, name: bytes, expected_index: int | None) -> None:
        with trio.CancelScope() as scope:
            self.scopes[name] = scope
            try:
                self.outcomes[name] = await self._disk.append(name, expected_index=expected_index)
            except (LogUnavailable, StaleWriter) as error:
                self.outcomes[name] = type(error).__name__
        if scope.cancelled_caught:
            self.outcomes[name] = "cancelled"


async def test_appends_during_a_commit_share_the_next_one(autojump_clock: MockClock) -> None:
    disk = SlowDisk(next_index=7)
    async with trio.open_nursery() as nursery:
        appends = Appends(disk, nursery)
        await appends.start(b"a", b"b", b"c")
        await trio.sleep(1.5)
        await appends.start(b"d")
    assert disk.commits == [(7, [b"a"]), (8, [b"b", b"c"]), (10, [b"d"])]
    assert appends.outcomes == {b"a": 7, b"b": 8, b"c": 9, b"d": 10}
    assert (disk.group.next, disk.group.appends, disk.group.commits, disk.group.failed_commits) == (11, 4, 3, 0)
    assert trio.current_time() == pytest.approx(3, abs=0.1)


async def test_appends_that_begin_at_the_same_moment_share_the_first_commit(autojump_clock: MockClock) -> None:
    disk = SlowDisk()
    async with trio.open_nursery() as nursery:
        for _ in range(64):
            nursery.start_soon(disk.append, b"a", b"b")
    assert [(index, len(records)) for index, records in disk.commits] == [(0, 128)]


async def test_a_commit_is_bounded(autojump_clock: MockClock) -> None:
    disk = SlowDisk()
    large = bytes(MAX_COMMIT_BYTES // 2)
    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(disk.append, large)
    assert [len(records) for _, records in disk.commits] == [2, 2, 1]
    many = [b""] * (MAX_COMMIT_RECORDS - 1)
    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(disk.append, *many)
    assert [len(records) for _, records in disk.commits[3:]] == [len(many) * 2, len(many)]


async def test_a_failed_commit_fails_its_appends_and_no_others(autojump_clock: MockClock) -> None:
    disk = SlowDisk()
    disk.failure = LogFull("no room")
    async with trio.open_nursery() as nursery:
        appends = Appends(disk, nursery)
        await appends.start(b"a", b"b", b"c")
        await trio.sleep(1.5)
        assert appends.outcomes == {b"a": "LogFull"}
        await appends.start(b"d")
        await trio.sleep(1)
        assert appends.outcomes == {b"a": "LogFull", b"b": "LogFull", b"c": "LogFull"}
        disk.failure = None
    assert appends.outcomes[b"d"] == 0
    assert disk.commits == [(0, [b"d"])]
    assert (disk.group.commits, disk.group.failed_commits, disk.group.appends) == (1, 2, 1)


async def test_a_stale_writer_is_refused_within_the_group(autojump_clock: MockClock) -> None:
    disk = SlowDisk(next_index=3)
    with pytest.raises(StaleWriter, match="at index 2 was refused: the log is at 3") as caught:
        await disk.append(b"x", expected_index=2)
    assert caught.value.next_index == 3
    assert not disk.commits
    async with trio.open_nursery() as nursery:
        appends = Appends(disk, nursery)
        await appends.start(b"a", expected_index=3)
        await appends.start(b"b", expected_index=4)
        await appends.start(b"c", expected_index=4)
        await appends.start(b"d", expected_index=5)
        await appends.start(b"e")
    assert appends.outcomes == {b"a": 3, b"b": 4, b"c": "StaleWriter", b"d": 5, b"e": 6}
    assert disk.group.appends == 4


async def test_a_stale_writer_learns_no_place_from_a_commit_that_failed(autojump_clock: MockClock) -> None:
    disk = SlowDisk()
    disk.failure = LogUnavailable("broken")
    async with trio.open_nursery() as nursery:
        appends = Appends(disk, nursery)
        await appends.start(b"a", b"b")
        await appends.start(b"c", expected_index=0)
    assert appends.outcomes[b"c"] == "LogUnavailable"


# Cancellation


async def test_an_append_that_is_cancelled_while_it_waits_is_not_committed(autojump_clock: MockClock) -> None:
    disk = SlowDisk()
    async with trio.open_nursery() as nursery:
        appends = Appends(disk, nursery)
        await appends.start(b"a", b"b", b"c")
        appends.scopes[b"b"].cancel()
    assert appends.outcomes == {b"a": 0, b"b": "cancelled", b"c": 1}
    assert disk.commits == [(0, [b"a"]), (1, [b"c"])]


async def test_when_all_that_wait_are_cancelled_the_next_append_leads(autojump_clock: MockClock) -> None:
    disk = SlowDisk()
    async with trio.open_nursery() as nursery:
        appends = Appends(disk, nursery)
        await appends.start(b"a", b"b")
        appends.scopes[b"b"].cancel()
        await trio.sleep(5)
        await appends.start(b"c")
    assert appends.outcomes == {b"a": 0, b"b": "cancelled", b"c": 1}


async def test_a_leader_that_is_cancelled_during_the_commit_settles_it(autojump_clock: MockClock) -> None:
    disk = SlowDisk()
    async with trio.open_nursery() as nursery:
        appends = Appends(disk, nursery)
        await appends.start(b"a", b"b", b"c")
        await trio.sleep(1.5)
        appends.scopes[b"b"].cancel()  # leads for itself and for c
    assert disk.commits == [(0, [b"a"]), (1, [b"b", b"c"])]
    assert appends.outcomes == {b"a": 0, b"b": 1, b"c": 2}


async def test_an_append_that_is_cancelled_during_its_commit_leaves_the_others_their_place(
    autojump_clock: MockClock,
) -> None:
    disk = SlowDisk()
    async with trio.open_nursery() as nursery:
        appends = Appends(disk, nursery)
        await appends.start(b"a", b"b", b"c", b"d")
        await trio.sleep(1.5)
        appends.scopes[b"c"].cancel()
    assert disk.commits == [(0, [b"a"]), (1, [b"b", b"c", b"d"])]
    assert appends.outcomes == {b"a": 0, b"b": 1, b"c": "cancelled", b"d": 3}


@pytest.mark.parametrize("cancelled", [b"a", b"b", b"c"])
async def test_whoever_is_cancelled_when_the_leadership_changes_hands_the_others_are_committed(
    cancelled: bytes, autojump_clock: MockClock
) -> None:
    disk = SlowDisk()
    write = disk.write

    async def write_and_cancel(index: int, records: list[bytes]) -> None:
        await write(index, records)
        appends.scopes[cancelled].cancel()  # the leader settles, and hands on, before the cancelled task runs

    disk.group = GroupCommit(0, write_and_cancel)
    async with trio.open_nursery() as nursery:
        appends = Appends(disk, nursery)
        await appends.start(b"a", b"b", b"c")
    expected = [name for name in (b"a", b"b", b"c") if appends.outcomes[name] != "cancelled"]
    assert [record for _, records in disk.commits for record in records] == expected
    assert len(expected) >= 2
    assert await disk.append(b"d") == len(expected)


async def test_a_leader_that_is_cancelled_before_the_commit_began_leaves_the_rest_to_the_next(
    autojump_clock: MockClock,
) -> None:
    disk = SlowDisk()
    thread = trio.Semaphore(0)

    async def write(index: int, records: list[bytes]) -> None:
        await thread.acquire()
        await disk.write(index, records)

    disk.group = GroupCommit(0, write)
    async with trio.open_nursery() as nursery:
        appends = Appends(disk, nursery)
        await appends.start(b"a", b"b", b"c", b"d")
        thread.release()
        await trio.sleep(1.5)
        appends.scopes[b"b"].cancel()  # it has taken c and d with it
        await appends.start(b"e")
        thread.release()
    assert disk.commits == [(0, [b"a"]), (1, [b"c", b"d", b"e"])]
    assert appends.outcomes == {b"a": 0, b"b": "cancelled", b"c": 1, b"d": 2, b"e": 3}


async def test_a_leader_that_is_cancelled_before_it_has_begun_commits_nothing() -> None:
    disk = SlowDisk()
    with trio.CancelScope() as scope:
        scope.cancel()
        await disk.append(b"a")
    assert scope.cancelled_caught
    assert not disk.commits
    assert not disk.group._led


async def test_a_bug_in_the_engine_ends_its_caller_alone(autojump_clock: MockClock) -> None:
    disk = SlowDisk()
    disk.failure = ZeroDivisionError()
    async with trio.open_nursery() as nursery:
        appends = Appends(disk, nursery)

        async def crash() -> None:
            with pytest.raises(ZeroDivisionError):
                await disk.append(b"a")
            disk.failure = None

        nursery.start_soon(crash)
        await wait_all_tasks_blocked()
        await appends.start(b"b")
    assert appends.outcomes == {b"b": 0}
