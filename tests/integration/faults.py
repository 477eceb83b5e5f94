"""Faults that are injected into a running process or under its folder: calls that fail, a disk that is small.

Invariant: nothing of them outlives its block. They need tools and rights that not every machine has; where one is
missing the test is skipped and says which, under CI=true it fails. Used by the tests of durability and
of sinks.
"""

from __future__ import annotations

import itertools
import os
import resource
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.needs import lacks

PATIENCE = 20.0
LET_GO_SECONDS = 2.0
LOOK_SECONDS = 0.01


def needs(tool: str, package: str) -> str:
    """The path of a tool, which this Debian package brings."""
    return shutil.which(tool) or lacks(f"{tool} is not installed (Debian: apt-get install {package})")


@contextmanager
def failing_syncs(pid: int, folder: Path) -> Iterator[None]:
    """While the block runs, every fsync and fdatasync of the process fails with EIO, as on a disk that dies.

    What was written before is still in the page cache, as it would be. ``folder`` gets strace's own output.
    """
    with _syncs(pid, folder, "error=EIO"):
        yield


@contextmanager
def hanging_syncs(pid: int, folder: Path) -> Iterator[None]:
    """While the block runs, no fsync and no fdatasync of the process ends, as on a network disk that is away."""
    with _syncs(pid, folder, "delay_enter=600s"):
        yield


@contextmanager
def _syncs(pid: int, folder: Path, fault: str) -> Iterator[None]:
    strace = needs("strace", "strace")
    trace = folder / "strace"
    calls = "fsync,fdatasync"
    command = [
        strace,
        "-f",
        "-p",
        str(pid),
        "-o",
        str(trace),
        "-e",
        f"trace={calls}",
        "-e",
        f"inject={calls}:{fault}",
    ]
    with (folder / "strace-log").open("w+b") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            _wait_attached(process, pid, log.name)
            yield
        finally:
            _let_go(process)


def _let_go(strace: subprocess.Popen[bytes]) -> None:
    """strace ends, and what it traced goes on. Where that has been killed, strace may miss it and wait for ever."""
    strace.terminate()
    try:
        strace.wait(LET_GO_SECONDS)
    except subprocess.TimeoutExpired:
        strace.kill()
        strace.wait(PATIENCE)


def _wait_attached(process: subprocess.Popen[bytes], pid: int, log: str) -> None:
    """Until every thread is traced; those that come later are too."""
    end = time.monotonic() + PATIENCE
    while True:
        if process.poll() is not None:
            lacks(f"strace cannot attach to a process: {Path(log).read_text(errors='replace')}")
        threads = [path / "status" for path in Path(f"/proc/{pid}/task").iterdir()]
        if all(f"TracerPid:\t{process.pid}\n" in thread.read_text() for thread in threads):
            return
        assert time.monotonic() < end, Path(log).read_text(errors="replace")
        time.sleep(LOOK_SECONDS)


@contextmanager
def few_descriptors(spare: int) -> Iterator[None]:
    """While the block runs, this process may open so many files more, in place of the next ones that are free."""
    used = {int(path.name) for path in Path("/proc/self/fd").iterdir()}
    free = (number for number in itertools.count() if number not in used)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (next(itertools.islice(free, spare, None)), limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


@contextmanager
def small_disk(megabytes: int) -> Iterator[Path]:
    """A folder on a disk of this size, in memory."""
    if os.geteuid() != 0:
        lacks("only root may mount a small disk")
    mount, unmount = needs("mount", "mount"), needs("umount", "mount")
    # Not below pytest's folders: other sessions clean up there, and would find it busy.
    folder = Path(tempfile.mkdtemp(prefix="hermes-disk-", dir="/tmp"))
    try:
        command = [mount, "-t", "tmpfs", "-o", f"size={megabytes}m,mode=0700", "hermes-test", str(folder)]
        mounted = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
        if mounted.returncode:
            lacks(f"a small disk cannot be mounted: {mounted.stderr.strip()}")
        try:
            yield folder
        finally:
            # At once, also when a test has failed and its program still uses the disk.
            subprocess.run([unmount, "--lazy", str(folder)], timeout=PATIENCE, check=True)
    finally:
        folder.rmdir()
