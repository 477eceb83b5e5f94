"""The sqlite log on storage that fails: fsync and writes by strace, a full disk, ``kill -9`` at any moment.

Nothing that an append has acknowledged is ever lost, nothing that it has refused comes back, and service resumes by
itself.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.needs import lacks
from tests.store.log.child import Child

SYNCS = "fdatasync,fsync"
WRITES = "pwrite64,write,ftruncate,fallocate"


@pytest.fixture
def strace() -> None:
    if shutil.which("strace") is None:
        lacks("strace is not installed")


def names(child: Child) -> list[str]:
    """The records of the log, which are numbered without a gap."""
    records = child.ask("read")["records"]
    first = child.ask("state")["first"]
    assert [index for index, _, _ in records] == list(range(first, first + len(records)))
    return [name for _, name, _ in records]


def refused(answer: dict[str, Any], kind: str, words: str) -> bool:
    return answer.get("error") == kind and words in answer["message"]


# fsync


@pytest.mark.usefixtures("strace")
def test_an_append_whose_fsync_fails_is_refused_and_service_resumes(tmp_path: Path) -> None:
    with Child(tmp_path / "journal") as child:
        assert child.ask("append", names=["a", "b"]) == {"index": 0}
        with child.failing(SYNCS, "EIO"):
            for _ in range(3):
                assert refused(child.ask("append", names=["refused"]), "LogUnavailable", "log.db: disk I/O error")
            assert names(child) == ["a", "b"]
        assert child.ask("append", names=["c"]) == {"index": 2}
        assert child.ask("state")["failed_commits"] == 3
        child.kill()
    with Child(tmp_path / "journal") as child:
        assert names(child) == ["a", "b", "c"]


@pytest.mark.usefixtures("strace")
def test_an_append_whose_fsync_failed_does_not_come_back_by_a_crash(tmp_path: Path) -> None:
    with Child(tmp_path / "journal") as child:
        child.ask("append", names=["a"])
        with child.failing(SYNCS, "EIO"):
            child.ask("append", names=["refused"], size=100_000)
            child.kill()
    with Child(tmp_path / "journal") as child:
        assert names(child) == ["a"]
        assert child.ask("append", names=["b"]) == {"index": 1}


@pytest.mark.usefixtures("strace")
def test_while_the_database_cannot_be_synced_appends_go_on_up_to_a_bound(tmp_path: Path) -> None:
    folder = tmp_path / "journal"
    with Child(folder, CHECKPOINT_BYTES=200_000, MAX_UNCHECKPOINTED_BYTES=2_000_000) as child:
        acknowledged = []
        with child.failing(SYNCS, "EIO", path=folder / "log.db"):
            for number in range(100):
                answer = child.ask("append", names=[str(number)], size=50_000)
                if "error" in answer:
                    break
                acknowledged.append(str(number))
            assert refused(answer, "LogUnavailable", "disk I/O error")
            assert 5 < len(acknowledged) < 40
        assert child.ask("append", names=["after"]) == {"index": len(acknowledged)}
        child.kill()
    with Child(folder) as child:
        assert names(child) == [*acknowledged, "after"]


@pytest.mark.usefixtures("strace")
def test_what_trims_and_snapshots_is_tried_again_after_a_failure(tmp_path: Path) -> None:
    with Child(tmp_path / "journal") as child:
        child.ask("append", names=["a", "b", "c"])
        child.ask("take_snapshot", index=1, state="good")
        with child.failing(SYNCS, "EIO"):
            assert refused(child.ask("take_snapshot", index=2, state="refused"), "LogUnavailable", "disk I/O error")
            assert refused(child.ask("trim", to_index=2), "LogUnavailable", "disk I/O error")
            now = child.ask("state")
            assert (now["first"], now["snapshot"]) == (0, [1, "good"])
            child.kill()
    with Child(tmp_path / "journal") as child:
        now = child.ask("state")
        assert (now["first"], now["snapshot"]) == (0, [1, "good"])
        assert child.ask("trim", to_index=2) == {}
        assert names(child) == ["c"]


# Writing


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [("ENOSPC", "LogFull", "the disk is full"), ("EIO", "LogUnavailable", "disk I/O error")],
)
@pytest.mark.usefixtures("strace")
def test_an_append_that_cannot_be_written_is_refused_and_service_resumes(
    error: str, kind: str, words: str, tmp_path: Path
) -> None:
    folder = tmp_path / "journal"
    with Child(folder) as child:
        child.ask("append", names=["a"])
        with child.failing(WRITES, error, path=folder / "log.db-wal"):
            for _ in range(3):
                assert refused(child.ask("append", names=["refused"], size=500_000), kind, words)
            assert names(child) == ["a"]
        assert child.ask("append", names=["b"]) == {"index": 1}
        child.kill()
    with Child(folder) as child:
        assert names(child) == ["a", "b"]


# A full disk


class SmallDisk:
    """A tmpfs of a few MiB, in a mount namespace of its own, so that it is gone when the test is."""

    def __init__(self, place: Path, holder: int, user: bool) -> None:
        self.folder = place / "journal"
        self.prefix = [
            "nsenter",
            f"--target={holder}",
            "--mount",
            *(["--user", "--preserve-credentials"] if user else []),
        ]
        self._other = place / "other"

    def run(self, *command: str) -> str:
        done = subprocess.run([*self.prefix, *command], capture_output=True, text=True, check=True)
        return done.stdout

    def child(self) -> Child:
        return Child(self.folder, prefix=self.prefix)

    def free(self) -> int:
        return int(self.run("stat", "-f", "-c", "%a", str(self.folder.parent))) * 4096

    def fill(self, left: int = 0) -> None:
        """Let another program take the room, but for so many bytes."""
        self.run(
            "dd", "if=/dev/zero", f"of={self._other}", "bs=4096", f"count={(self.free() - left) // 4096}", "status=none"
        )

    def free_up(self) -> None:
        self.run("rm", str(self._other))


@contextmanager
def small_disk(place: Path, size: int) -> Iterator[SmallDisk]:
    user = os.geteuid() != 0
    script = f'mount -t tmpfs -o size={size} tmpfs "{place}" && echo mounted && read _'
    command = ["unshare", *(["--map-root-user"] if user else []), "--mount", "sh", "-c", script]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stderr is not None
        if holder.stdout.readline() != b"mounted\n":
            lacks(f"a tmpfs cannot be mounted: {holder.stderr.read().decode()}")
        yield SmallDisk(place, holder.pid, user)


def fill_the_log(child: Child, size: int = 200_000) -> list[str]:
    """Append until there is no room; return what was acknowledged."""
    acknowledged: list[str] = []
    while "error" not in (answer := child.ask("append", names=[f"r{len(acknowledged)}"], size=size)):
        acknowledged.append(f"r{len(acknowledged)}")
    assert refused(answer, "LogFull", "the disk is full")
    return acknowledged


def test_a_log_that_has_filled_its_disk_can_be_trimmed_and_then_goes_on(tmp_path: Path) -> None:
    with small_disk(tmp_path, 48 * 2**20) as disk, disk.child() as child:
        acknowledged = fill_the_log(child)
        assert len(acknowledged) > 100
        for _ in range(3):
            assert refused(child.ask("append", names=["refused"], size=200_000), "LogFull", "the disk is full")
        assert names(child) == acknowledged
        assert child.ask("take_snapshot", index=50, state="x" * 10_000) == {}
        assert child.ask("trim", to_index=50) == {}
        more = fill_the_log(child)
        assert len(more) > 30
        assert child.ask("trim", to_index=child.ask("state")["next"]) == {}
        assert disk.free() > 30 * 2**20
        assert len(fill_the_log(child)) > 100


def test_nothing_is_lost_by_a_crash_on_a_full_disk(tmp_path: Path) -> None:
    with small_disk(tmp_path, 48 * 2**20) as disk:
        with disk.child() as child:
            acknowledged = fill_the_log(child)
            child.kill()
        with disk.child() as child:
            assert names(child) == acknowledged
            assert child.ask("trim", to_index=60) == {}
            assert child.ask("append", names=["after"]) == {"index": len(acknowledged)}
            assert names(child) == [*acknowledged[60:], "after"]


def test_when_others_fill_the_disk_to_the_last_byte_service_resumes_when_they_have_gone(tmp_path: Path) -> None:
    with small_disk(tmp_path, 48 * 2**20) as disk:
        with disk.child() as child:
            for number in range(20):
                assert "index" in child.ask("append", names=[f"r{number}"], size=200_000)
            disk.fill()
            assert refused(child.ask("append", names=["refused"]), "LogFull", "the disk is full")
            assert len(names(child)) == 20
            child.kill()
        with disk.child() as child:  # also a start finds no room
            assert len(names(child)) == 20
            assert refused(child.ask("append", names=["refused"]), "LogFull", "the disk is full")
            disk.free_up()
            assert child.ask("append", names=["after"]) == {"index": 20}
            child.close()
        with disk.child() as child:
            assert names(child) == [*(f"r{number}" for number in range(20)), "after"]


# kill -9


def test_what_was_acknowledged_is_there_after_kill_9_at_any_moment(tmp_path: Path) -> None:
    acknowledged: dict[int, str] = {}
    for moment in (1, 3, 40, 300):
        with Child(tmp_path / "journal", CHECKPOINT_BYTES=2_000_000) as child:
            child.send("load", tasks=16, size=3000)
            answers = [child.answer() for _ in range(moment)]
            answers += child.kill()
        acknowledged |= {answer["index"]: answer["name"] for answer in answers}
        with Child(tmp_path / "journal") as child:
            found = dict(enumerate(names(child)))
            assert acknowledged.items() <= found.items()
            acknowledged = found  # what was not acknowledged but is there stays, too
            child.close()


def test_a_folder_that_another_process_uses_is_refused(tmp_path: Path) -> None:
    with Child(tmp_path / "journal"), Child(tmp_path / "journal") as second:
        assert refused(second.opened, "ConfigError", "journal: another Hermes uses it; stop that one, or name")
