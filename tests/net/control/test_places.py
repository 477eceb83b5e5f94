"""Who gives way to a newcomer on the control lane."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hermes.net.control.places import Places, Use


class Connection:
    def __init__(self) -> None:
        self.open = True

    def give_way(self) -> None:
        self.open = False


@given(st.lists(st.tuples(st.integers(0, 20), st.sampled_from([*Use, None, "new"])), max_size=200))
def test_a_newcomer_gets_a_place_unless_all_are_busy_and_the_longest_idle_gives_way(
    steps: list[tuple[int, Use | str | None]],
) -> None:
    places = Places(5)
    model: list[tuple[Connection, Use]] = []  # in the order in which they came to their use
    known: list[Connection] = []
    for number, step in steps:
        if step == "new":
            newcomer = Connection()
            known.append(newcomer)
            room = len(model) < 5
            leaving = next((one for use in (Use.IDLE, Use.WAITING) for one in model if one[1] is use), None)
            assert places.take(newcomer) is (room or leaving is not None)
            if not room and leaving is not None:
                model.remove(leaving)
                assert not leaving[0].open
            if room or leaving is not None:
                model.append((newcomer, Use.IDLE))
        elif known:
            connection = known[number % len(known)]
            present = next((one for one in model if one[0] is connection), None)
            if step is None:
                places.leave(connection)
            else:
                assert isinstance(step, Use)
                places.note(connection, step)
            if present is not None and present[1] is not step:
                model.remove(present)
                if isinstance(step, Use):
                    model.append((connection, step))
        assert len(places) == len(model) <= 5
        assert all(connection.open for connection, _ in model)
    assert places.evicted == sum(not connection.open for connection in known)
    assert places.refused + places.evicted + len(model) <= len(known)
