"""The CPU profile for real: signals, threads, other people's handlers, and go's own reader."""

import contextlib
import ctypes
import hashlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
import trio
import trio.lowlevel

from hermes.observe.debug import answer
from hermes.observe.debug import profile as profile_module
from hermes.observe.debug.exclusive import ProfilerBusy, ProfilerUnavailable
from hermes.observe.debug.profile import Samples, cpu_profile
from tests.observe.debug.decoding import decode


@pytest.fixture(autouse=True)
def _signals_are_left_as_they_were() -> Iterator[None]:
    before = signal.getsignal(signal.SIGPROF)
    yield
    assert signal.getitimer(signal.ITIMER_PROF) == (0.0, 0.0)
    assert signal.getsignal(signal.SIGPROF) == before


def burn(seconds: float) -> None:
    """Use so much CPU on this thread, whatever else the machine does."""
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        sum(range(500))


async def burn_by_turns() -> None:
    # It never sleeps and a turn is several ticks long, so every profile has some, however busy the machine is.
    while True:
        burn(0.2)
        await trio.lowlevel.checkpoint()


async def profile_while(function: Callable[[], Awaitable[object]], seconds: float = 1.0, hz: int = 100) -> Samples:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(function)
        samples = await cpu_profile(seconds, hz)
        nursery.cancel_scope.cancel()
    return samples


def by_function(samples: Samples) -> dict[str, int]:
    """CPU nanoseconds by the functions that are anywhere on a stack."""
    sums: dict[str, int] = {}
    for sample in samples.samples:
        for name in {frame.function for frame in sample.stack}:
            sums[name] = sums.get(name, 0) + sample.values[1]
    return sums


async def test_a_busy_function_is_at_the_top_and_under_its_task() -> None:
    samples = await profile_while(burn_by_turns)
    used = by_function(samples)
    assert used[f"{__name__}.burn"] > 0.7 * samples.cpu_ns
    top = max(samples.samples, key=lambda sample: sample.values[1])
    assert dict(top.labels) == {
        "thread": threading.current_thread().name,
        "task": f"{__name__}.burn_by_turns",
    }
    # A task's stack begins with the task, not with Trio's loop.
    assert top.stack[0].function == f"{__name__}.burn_by_turns"


async def test_the_samples_and_the_overhead_add_up_to_the_process() -> None:
    samples = await profile_while(burn_by_turns, hz=1000)
    told = sum(sample.values[1] for sample in samples.samples) + samples.overhead_ns
    assert told == pytest.approx(samples.cpu_ns, rel=0.01)
    assert samples.ticks > 10
    assert samples.overhead_ns < samples.cpu_ns / 5


@contextlib.contextmanager
def busy_thread() -> Iterator[None]:
    """A thread named digester that uses a whole core, mostly without Python's lock."""
    stop = threading.Event()
    data = bytes(1_000_000)

    def digest() -> None:
        while not stop.is_set():
            hashlib.sha256(data)

    thread = threading.Thread(target=digest, name="digester")
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


async def test_a_busy_thread_is_charged_and_the_waiting_loop_is_not() -> None:
    with busy_thread():
        samples = await cpu_profile(1)
    by_thread: dict[str, int] = {}
    for sample in samples.samples:
        name = dict(sample.labels).get("thread", "")
        by_thread[name] = by_thread.get(name, 0) + sample.values[1]
    assert by_thread["digester"] > 0.7 * samples.cpu_ns
    assert by_thread.get(threading.current_thread().name, 0) < 0.2 * samples.cpu_ns


async def test_ticks_of_a_busy_thread_do_not_charge_a_task_s_work_to_the_loop_s_waiting(no_rest: None) -> None:
    used: list[float] = []

    async def work_a_little() -> None:
        while True:
            burn(0.002)
            used.append(0.002)
            await trio.sleep(0.015)

    charged = 0
    # Some ten ticks of a profile find the task at work, so one profile can be far off; where the waiting is charged, a
    # tenth is left for the task.
    for _ in range(6):
        with busy_thread():
            samples = await profile_while(work_a_little, 2)
        charged += by_function(samples).get(f"{__name__}.burn", 0)
        if charged > 0.5e9 * sum(used):
            return
    pytest.fail(f"the task was charged {charged / 1e9} of the {sum(used)} seconds that it used")


async def test_many_threads_with_a_little_each_are_charged_too(no_rest: None) -> None:
    charged = []
    for _ in range(6):  # on a busy machine a thread may have ended before the tick that would have met it
        async with trio.open_nursery() as nursery:
            for _ in range(10):
                nursery.start_soon(trio.to_thread.run_sync, burn, 0.3)
            samples = await cpu_profile(1.5)
        charged.append(by_function(samples).get(f"{__name__}.burn", 0) / samples.cpu_ns)
        if charged[-1] > 0.3:
            return
    pytest.fail(f"the threads were charged {charged} of what the process used")


async def test_a_thread_that_begins_later_is_met() -> None:
    async def start_later() -> None:
        await trio.sleep(0.2)
        await trio.to_thread.run_sync(burn, 0.5)

    samples = await profile_while(start_later, 1.5)
    assert by_function(samples)[f"{__name__}.burn"] > 0.3 * samples.cpu_ns


async def test_a_long_call_into_c_is_charged_whole() -> None:
    async def hash_slowly() -> None:
        hashlib.pbkdf2_hmac("sha256", b"", b"", 800_000)

    samples = await profile_while(hash_slowly, 0.5)
    assert by_function(samples)[f"{__name__}.test_a_long_call_into_c_is_charged_whole.<locals>.hash_slowly"] > (
        0.5 * samples.cpu_ns
    )


async def test_the_handler_gives_way_when_it_costs_too_much(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(profile_module, "COST_DIVISOR", 500)

    def recurse(left: int) -> None:
        recurse(left - 1) if left else burn(0.8)

    async def burn_deep() -> None:
        await trio.lowlevel.checkpoint()
        recurse(100)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(burn_deep)
        samples = await cpu_profile(1, hz=1000)
    assert samples.skipped > samples.ticks > 0
    assert samples.overhead_ns < samples.cpu_ns / 100
    told = sum(sample.values[1] for sample in samples.samples) + samples.overhead_ns
    assert told == pytest.approx(samples.cpu_ns, rel=0.01)
    assert by_function(samples)[f"{__name__}.burn"] > 0.3 * samples.cpu_ns


async def test_system_calls_that_a_tick_interrupts_go_on() -> None:
    """PEP 475 for Python's own calls on both threads, while another thread's CPU makes ticks all the time."""
    stop = threading.Event()
    ours, theirs = socket.socketpair()
    got: list[bytes] = []

    def spin() -> None:
        while not stop.is_set():
            sum(range(1000))

    def receive() -> None:
        got.append(theirs.recv(10))

    threads = [threading.Thread(target=function) for function in (spin, receive)]
    for thread in threads:
        thread.start()
    try:
        async with trio.open_nursery() as nursery:
            profiles: list[Samples] = []

            async def profile() -> None:
                profiles.append(await cpu_profile(1, hz=500))

            nursery.start_soon(profile)
            await trio.sleep(0.05)
            began = time.monotonic()
            time.sleep(0.4)  # noqa: ASYNC251 - the call under test
            assert time.monotonic() - began >= 0.4
            assert subprocess.run([sys.executable, "-c", "print(1)"], capture_output=True).stdout == b"1\n"  # noqa: ASYNC221 - the call under test
            ours.send(b"still here")
    finally:
        stop.set()
        for thread in threads:
            thread.join()
        ours.close()
        theirs.close()
    assert got == [b"still here"]
    assert profiles[0].ticks > 5  # the spinning thread may get little of a busy machine


async def test_a_system_call_of_a_c_library_is_restarted_by_the_kernel() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    reading, writing = os.pipe()
    got: list[tuple[int, int]] = []

    def read() -> None:
        buffer = ctypes.create_string_buffer(1)
        got.append((libc.read(reading, buffer, 1), ctypes.get_errno()))

    thread = threading.Thread(target=read)
    thread.start()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(cpu_profile, 0.4)
        for _ in range(5):
            await trio.sleep(0.05)
            assert thread.ident is not None
            signal.pthread_kill(thread.ident, signal.SIGPROF)
        os.write(writing, b"x")
    thread.join()
    os.close(reading)
    os.close(writing)
    assert got == [(1, 0)]


async def test_a_cancelled_profile_gives_the_signal_back() -> None:
    with trio.move_on_after(0.2) as scope:
        await profile_while(burn_by_turns, 60)
    assert scope.cancelled_caught
    burn(0.05)  # an armed timer under the default action would end the process here


async def test_a_handler_that_was_there_is_there_again() -> None:
    seen: list[int] = []
    before = signal.signal(signal.SIGPROF, lambda number, frame: seen.append(number))
    try:
        await profile_while(burn_by_turns, 0.2)
        assert seen == []
        signal.raise_signal(signal.SIGPROF)
        assert seen == [signal.SIGPROF]
    finally:
        signal.signal(signal.SIGPROF, before)


async def test_a_tick_that_is_pending_at_the_end_is_discarded() -> None:
    """Under SIGPROF's default action it would end the process; a blocked signal makes sure that one is pending."""
    code = """
import signal, time, trio
from hermes.observe.debug.profile import cpu_profile
async def main():
    async with trio.open_nursery() as nursery:
        nursery.start_soon(cpu_profile, 0.2)
        await trio.sleep(0.1)
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGPROF])
        end = time.process_time() + 0.1
        while time.process_time() < end: pass
        assert signal.SIGPROF in signal.sigpending()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGPROF])
    print("alive")
trio.run(main)
"""
    done = await trio.run_process([sys.executable, "-c", code], capture_stdout=True, capture_stderr=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"alive\n", b"")


async def test_a_second_profile_is_refused_while_one_runs() -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(cpu_profile, 0.3)
        await trio.sleep(0.05)
        with pytest.raises(ProfilerBusy):
            await cpu_profile(0.1)
        found = await answer("/debug/pprof/profile", {"seconds": "1"})
        assert (found.status, found.headers["Retry-After"]) == (503, "1")


async def test_a_timer_that_somebody_else_uses_is_left_alone() -> None:
    before = signal.signal(signal.SIGPROF, signal.SIG_IGN)
    signal.setitimer(signal.ITIMER_PROF, 100)
    try:
        with pytest.raises(ProfilerUnavailable, match="in use by another profiler"):
            await cpu_profile(0.1)
        assert signal.getitimer(signal.ITIMER_PROF)[0] > 90
        assert (await answer("/debug/pprof/profile", {"seconds": "1"})).status == 501
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


async def test_a_loop_on_another_thread_is_refused_with_the_reason() -> None:
    with pytest.raises(ProfilerUnavailable, match="needs Trio on the process's main thread"):
        await trio.to_thread.run_sync(partial(trio.run, cpu_profile, 0.1))


@pytest.mark.parametrize("hz", [0, 1001])
async def test_a_rate_out_of_bounds_is_refused(hz: int) -> None:
    with pytest.raises(ValueError, match="hz must be 1 to 1000"):
        await cpu_profile(1, hz)


async def test_all_formats_are_served(no_rest: None) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(burn_by_turns)
        began = time.monotonic_ns()
        profile = await answer("/debug/pprof/profile", {"seconds": "0.4"})
        took = time.monotonic_ns() - began
        scope = await answer("/debug/pprof/profile", {"seconds": "0.4", "format": "speedscope"})
        lines = await answer("/debug/pprof/profile", {"seconds": "0.4", "format": "folded"})
        nursery.cancel_scope.cancel()
    assert profile.headers["Content-Disposition"] == 'attachment; filename="profile.pb.gz"'
    decoded = decode(profile.body)
    assert decoded.sample_types == [("samples", "count"), ("cpu", "nanoseconds")]
    assert next(iter(decoded.totals(1))) == f"{__name__}.burn"
    assert decoded.period == 10_000_000
    assert 0.39e9 < decoded.duration_nanos < took
    names = {frame["name"] for frame in json.loads(scope.body)["shared"]["frames"]}
    assert f"{__name__}.burn" in names
    assert f"task: {__name__}.burn_by_turns;" in lines.body.decode().splitlines()[0]


@pytest.mark.skipif(shutil.which("go") is None, reason="go is not installed: its pprof is the reference reader")
async def test_go_tool_pprof_reads_every_profile(tmp_path: Path, no_rest: None) -> None:
    kept: list[bytearray] = []

    async def grow() -> None:
        while True:
            kept.append(bytearray(20_000))
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(burn_by_turns)
        nursery.start_soon(grow)
        bodies = {
            name: (await answer(f"/debug/pprof/{name}", query)).body
            for name, query in {
                "profile": {"seconds": "0.5"},
                "heap": {"seconds": "0.5"},
                "block": {"seconds": "0.5", "threshold_ms": "5"},
                "goroutine": {},
            }.items()
        }
        nursery.cancel_scope.cancel()
    tops = {}
    for name, body in bodies.items():
        path = trio.Path(tmp_path / f"{name}.pb.gz")
        await path.write_bytes(body)
        done = await trio.run_process(
            ["go", "tool", "pprof", "-top", str(path)], capture_stdout=True, capture_stderr=True
        )
        tops[name] = done.stdout.decode()
    assert "Type: cpu" in tops["profile"]
    assert f"{__name__}.burn\n" in tops["profile"]
    assert "Type: inuse_space" in tops["heap"]
    assert f"test_debug_profile.py:{grow.__code__.co_firstlineno + 2}" in tops["heap"]
    assert "Type: delay" in tops["block"]
    assert f"{__name__}.burn\n" in tops["block"]
    assert "Type: tasks" in tops["goroutine"]
    assert "trio._core._run.NurseryManager.__aexit__" in tops["goroutine"]
