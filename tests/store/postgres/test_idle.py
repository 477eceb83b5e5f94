"""The pool's idle connections, a pure object: names stand for connections, and times are given."""

from __future__ import annotations

from hermes.store.postgres.idle import IdleStack, Pooled


def stack(*names: str, expires_at: float = 1000.0, max_idle: float = 100.0) -> IdleStack[str]:
    """Return a stack that got one connection a second, from second 0."""
    idle: IdleStack[str] = IdleStack(max_idle)
    for second, name in enumerate(names):
        idle.put(Pooled(name, expires_at=expires_at), now=float(second))
    return idle


def names(taken: list[Pooled[str]]) -> list[str]:
    return [pooled.connection for pooled in taken]


def test_the_last_one_in_is_the_first_one_out() -> None:
    idle = stack("a", "b")
    assert [(one.connection, one.idle_since) for one in (idle.take(), idle.take()) if one] == [("b", 1.0), ("a", 0.0)]
    assert idle.take() is None


def test_those_that_nobody_used_for_max_idle_are_outdated() -> None:
    idle = stack("a", "b", "c")
    assert names(idle.take_outdated(101.0)) == ["a", "b"]
    assert len(idle) == 1


def test_those_at_the_end_of_their_life_are_outdated() -> None:
    idle = stack("old", expires_at=50.0)
    idle.put(Pooled("young", expires_at=51.0), now=49.0)
    assert names(idle.take_outdated(50.0)) == ["old"]


def test_an_outdated_one_is_taken_out_once() -> None:
    idle = stack("a")
    assert names(idle.take_outdated(100.0)) == ["a"]
    assert idle.take_outdated(100.0) == []


def test_all_of_them_can_be_taken_for_closing() -> None:
    idle = stack("a", "b")
    assert names(idle.take_all()) == ["a", "b"]
    assert len(idle) == 0
