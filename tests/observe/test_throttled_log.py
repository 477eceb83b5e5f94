"""Throttled lines: the first of a kind at once, then one every few seconds that says how many there were between."""

from __future__ import annotations

import doctest

import structlog
import trio
from hypothesis import given
from hypothesis import strategies as st

import hermes.base.throttle
from hermes.base.throttle import PAUSE, Throttle
from hermes.observe.throttled_log import ThrottledLog


async def test_lasting_trouble_has_a_line_now_and_then_and_each_says_how_many_it_stands_for(
    autojump_clock: None,
) -> None:
    log = ThrottledLog("hermes.test", sink="main")
    with structlog.testing.capture_logs() as lines:
        for _ in range(25):
            log.warn("write failed", reason="no")
            log.warn("behind")
            await trio.sleep(1)
    failed = [line for line in lines if line["event"] == "write failed"]
    assert [line.get("more") for line in failed] == [None, 4, 4, 4, 4]
    assert all(line["sink"] == "main" and line["reason"] == "no" and line["log_level"] == "warning" for line in failed)
    assert len(lines) == 2 * len(failed)


async def test_the_lines_of_a_trouble_that_ends_early_are_told_at_its_end(autojump_clock: None) -> None:
    log = ThrottledLog("hermes.test", sink="main")
    with structlog.testing.capture_logs() as lines:
        for number in range(3):
            log.warn("write failed", number=number)
        log.warn("behind")
        log.report_bug("a request failed", ValueError("first"))
        log.report_bug("a request failed", ValueError("second"))
        log.write_rest()
        log.write_rest()
    rest = [line for line in lines if "more" in line]
    assert [(line["event"], line["more"], line.get("number")) for line in rest] == [
        ("write failed", 2, 2),
        ("a request failed", 1, None),
    ]
    assert rest[1]["error"] == "ValueError('second')"  # the error itself would keep its frames until now
    assert len(lines) == 5


async def test_bugs_are_told_apart_by_the_line_that_raised_them(autojump_clock: None) -> None:
    log = ThrottledLog("hermes.test")

    def fail_here() -> None:
        raise ValueError("here")

    def fail_there() -> None:
        raise ValueError("there")

    written = []
    with structlog.testing.capture_logs() as lines:
        for fail in (fail_here, fail_there, fail_here):
            try:
                fail()
            except ValueError as error:
                written.append(log.report_bug("a request failed", ExceptionGroup("", [error])))
    assert written == [True, True, False]
    assert all(line["exc_info"] is not None and line["log_level"] == "error" for line in lines)


@given(
    st.lists(st.tuples(st.sampled_from("abcdef"), st.floats(0, 3), st.integers(1, 9), st.booleans())),
    st.sampled_from([1, 3, None]),
)
def test_each_line_is_written_or_counted_in_a_later_one_and_kinds_are_bounded(
    lines: list[tuple[str, float, int, bool]], most: int | None
) -> None:
    throttle: Throttle[str] = Throttle(most)
    now, given_, told = 0.0, 0, 0
    for kind, pause, count, look in lines:
        now += pause
        given_ += count
        more = throttle.admit(kind, kind, now, count)
        told += 0 if more is None else more + count
        if look:
            told += sum(unsaid for _, unsaid in throttle.take_rest(now))
        assert most is None or len(throttle) <= most + 1
    told += sum(unsaid for _, unsaid in throttle.take_rest(now, at_the_end=True))
    assert told == given_
    assert [*throttle.take_rest(now + PAUSE)] == []
    assert len(throttle) == 0


def test_the_example_is_right() -> None:
    found = doctest.testmod(hermes.base.throttle)
    assert found.attempted
    assert not found.failed
