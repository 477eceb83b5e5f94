"""Capturing stacks and naming them afterwards."""

import inspect
import sys
from typing import Any

from hermes.observe.debug.stacks import MAX_DEPTH, Frame, Sample, StackTable, merge, short_path


def test_a_captured_stack_resolves_to_module_function_file_and_line() -> None:
    table = StackTable()

    def inner() -> tuple[int, ...]:
        return table.capture(inspect.currentframe())

    line = sys._getframe().f_lineno + 1
    raw = inner()
    *_, here, innermost = table.resolve(raw)
    name = "test_a_captured_stack_resolves_to_module_function_file_and_line"
    assert here == Frame(f"{__name__}.{name}", __file__, line, here.first_line)
    assert innermost.function == f"{__name__}.{name}.<locals>.inner"
    assert innermost.line == inner.__code__.co_firstlineno + 1


def test_capturing_stops_at_the_given_frame() -> None:
    table = StackTable()
    here = inspect.currentframe()

    def inner() -> tuple[int, ...]:
        return table.capture(inspect.currentframe(), until=here)

    functions = [frame.function.rpartition(".")[2] for frame in table.resolve(inner())]
    assert functions == ["test_capturing_stops_at_the_given_frame", "inner"]


def test_a_deep_recursion_keeps_its_innermost_frames_and_says_that_it_was_cut() -> None:
    table = StackTable()

    def recurse(left: int) -> tuple[int, ...]:
        return recurse(left - 1) if left else table.capture(inspect.currentframe())

    stack = table.resolve(recurse(MAX_DEPTH + 50))
    assert len(stack) == MAX_DEPTH + 1
    assert stack[0].function == f"[more than {MAX_DEPTH} frames]"
    assert {frame.function.rpartition(".")[2] for frame in stack[1:]} == {"recurse"}


def test_equal_stacks_are_equal_keys_and_an_unhashable_global_name_does_no_harm() -> None:
    table = StackTable()
    namespace: dict[str, Any] = {"sys": sys, "__name__": "odd"}
    exec("def f(): return sys._getframe()", namespace)
    first, second = (table.capture(namespace["f"](), until=None) for _ in range(2))
    assert hash(first) == hash(second)
    assert table.resolve(first)[-1].function == "odd.f"


def test_no_frame_is_an_empty_stack() -> None:
    table = StackTable()
    assert table.resolve(table.capture(None)) == ()


def test_samples_of_one_line_are_added_up_unless_their_labels_differ() -> None:
    stack = (Frame("f", "f.py", 1),)
    merged = merge(
        [Sample(stack, (1, 10), (("task", "a"),)), Sample(stack, (2, 20), (("task", "a"),)), Sample(stack, (4, 40))]
    )
    assert merged == (Sample(stack, (3, 30), (("task", "a"),)), Sample(stack, (4, 40)))


def test_a_short_path_keeps_three_parts() -> None:
    assert short_path("/usr/lib/python3/trio/_core/_run.py") == "trio/_core/_run.py"
    assert short_path("<string>") == "<string>"
