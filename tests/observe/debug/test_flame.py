"""Folded stacks and speedscope's JSON."""

import json

from hermes.observe.debug.flame import folded, speedscope
from hermes.observe.debug.stacks import Frame, Sample, synthetic

OUTER, INNER = Frame("app.main", "/long/way/src/app.py", 10), Frame("app.work;1", "/long/way/src/app.py", 20)
SAMPLES = (
    Sample((OUTER,), (1, 5), (("thread", "MainThread"), ("task", "app.main"))),
    Sample((OUTER, INNER), (2, 70), (("thread", "MainThread"), ("task", "app.main"))),
    Sample((synthetic("[idle]"),), (9, 0)),
)


def test_folded_lines_are_sorted_outermost_first_and_leave_zeros_out() -> None:
    assert folded(SAMPLES, 1).decode().splitlines() == [
        "thread: MainThread;task: app.main;app.main (way/src/app.py:10);app.work,1 (way/src/app.py:20) 70",
        "thread: MainThread;task: app.main;app.main (way/src/app.py:10) 5",
    ]


def test_the_chosen_value_weighs_the_stacks() -> None:
    assert [int(line.rsplit(" ", 1)[1]) for line in folded(SAMPLES, 0).decode().splitlines()] == [9, 2, 1]


def test_speedscope_refers_to_shared_frames_and_its_weights_add_up() -> None:
    document = json.loads(speedscope(SAMPLES, 1, "nanoseconds", "test"))
    (profile,) = document["profiles"]
    names = [frame["name"] for frame in document["shared"]["frames"]]
    assert document["$schema"] == "https://www.speedscope.app/file-format-schema.json"
    assert profile["unit"] == "nanoseconds"
    assert profile["endValue"] == sum(profile["weights"]) == 75
    assert [[names[index] for index in stack] for stack in profile["samples"]] == [
        ["thread: MainThread", "task: app.main", "app.main"],
        ["thread: MainThread", "task: app.main", "app.main", "app.work;1"],
    ]
    assert len(names) == len(set(names))
