"""The lines of the specification's checklist that the machine alone proves, also with a restart after each entry."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hermes.broker.machine import commands as c
from hermes.broker.machine import dedup
from hermes.broker.machine.machine import Machine, TooManyTopics
from tests.broker.machine.driver import Driver, Restart, no_restart, restart_from_log, restart_from_snapshot

DAY_MS = 86_400_000
HOURS_12_MS = DAY_MS // 2


@pytest.fixture(params=[no_restart, restart_from_snapshot, restart_from_log])
def broker(request: pytest.FixtureRequest) -> Driver:
    restart: Restart = request.param
    return Driver(restart)


# Produce, poll, ack


def test_a_message_is_produced_at_offset_0_polled_acked_and_not_redelivered(broker: Driver) -> None:
    assert broker.apply(c.CreateTopic("t")) == [None]
    assert broker.produce(payload=b"hi", content_type=2, priority=1) == 0
    [delivery] = broker.poll()
    message = delivery.message
    assert (delivery.lease_id, delivery.offset, message.size, message.time_ms) == (0, 0, 2, 1000)
    assert (message.content_type, message.priority, message.record, message.place) == (2, 1, 1, 0)
    broker.ack(delivery)
    broker.now_ms += DAY_MS
    assert broker.poll() == []


@pytest.mark.parametrize(("given_priority", "priority"), [(0, 0), (7, 7), (8, 7), (2**32 - 1, 7)])
@pytest.mark.parametrize(("given_type", "content_type"), [(0, 0), (3, 3), (4, 0), (2**32 - 1, 0)])
def test_what_is_beyond_a_range_is_read_back_inside_it(
    given_priority: int, priority: int, given_type: int, content_type: int
) -> None:
    broker = Driver()
    broker.produce(priority=given_priority, content_type=given_type)
    [delivery] = broker.poll()
    assert (delivery.message.priority, delivery.message.content_type) == (priority, content_type)


def test_an_auto_poll_is_never_redelivered_and_a_manual_one_after_its_visibility(broker: Driver) -> None:
    broker.produce()
    broker.produce()
    assert broker.offsets(most=1, auto=True) == [0]
    [first] = broker.poll(visibility_ms=100)
    broker.now_ms += 99
    assert broker.poll() == []
    broker.now_ms += 1
    [again] = broker.poll()
    assert (again.offset, again.message) == (first.offset, first.message) == (1, first.message)
    assert again.lease_id > first.lease_id


def test_a_visibility_of_twelve_hours_ends_after_twelve_hours(broker: Driver) -> None:
    broker.produce()
    broker.poll(visibility_ms=HOURS_12_MS)
    broker.now_ms += HOURS_12_MS - 1
    assert broker.poll() == []
    broker.now_ms += 1
    assert broker.offsets() == [0]


def test_an_ack_after_the_deadline_counts_until_a_poll_has_reaped_the_lease(broker: Driver) -> None:
    broker.produce()
    broker.produce()
    late, too_late = broker.poll(visibility_ms=10)
    broker.now_ms += 1000
    assert broker.machine.in_flight == 2
    broker.ack(late)
    assert broker.offsets() == [1]
    broker.ack(too_late)
    assert broker.machine.in_flight == 1


def test_a_nack_makes_a_message_deliverable_at_its_original_place(broker: Driver) -> None:
    for _ in range(4):
        broker.produce()
    first, second, _ = broker.poll(most=3)
    broker.nack(second)
    broker.nack(first)
    assert broker.offsets() == [0, 1, 3]


def test_a_lease_of_another_topic_or_group_or_an_unknown_one_is_no_error(broker: Driver) -> None:
    broker.produce()
    broker.produce("other")
    [delivery] = broker.poll()
    for topic, group in (("t", "h"), ("other", "g"), ("absent", "g")):
        broker.ack(delivery, topic=topic, group=group)
        broker.nack(delivery, topic=topic, group=group)
    broker.ack(delivery._replace(lease_id=99))
    assert broker.machine.in_flight == 1
    assert broker.poll() == []


def test_what_is_absent_is_no_error(broker: Driver) -> None:
    assert broker.poll(topic="absent") == []
    broker.commit(5, topic="absent")
    assert broker.apply(c.Register("absent", "g"), c.DeleteTopic("absent")) == [None, None]
    assert broker.machine.topics == {}


def test_a_poll_leases_of_its_messages_what_fits_in_16_mib(broker: Driver) -> None:
    for priority in (0, *[1] * 17):
        broker.produce(payload=bytes(2**20), priority=priority)
    assert broker.offsets(most=20) == [*range(1, 17)]
    assert broker.machine.in_flight == 16
    assert broker.offsets(most=20) == [17, 0]


# Idempotent produce


def test_dedup_also_inside_a_batch_and_never_without_a_producer(broker: Driver) -> None:
    keys = [("p", 1), ("p", 2), ("p", 1), ("", 0), ("", 0), ("q", 1)]
    batch = [c.Produce("t", b"x", producer_id=producer, seq=seq) for producer, seq in keys]
    assert broker.apply(*batch) == [0, 1, 0, 2, 3, 4]
    assert broker.apply(*batch) == [0, 1, 0, 5, 6, 4]


def test_a_key_is_known_after_its_message_was_consumed_and_in_its_topic_alone(broker: Driver) -> None:
    broker.produce(producer_id="p", seq=7)
    broker.ack(*broker.poll())
    assert broker.machine.retained == 0
    broker.produce()
    assert broker.produce(producer_id="p", seq=7) == 0
    assert broker.produce("other", producer_id="p", seq=7) == 0
    assert broker.offsets() == [1]


def test_the_window_holds_distinct_keys_first_in_first_out(broker: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dedup, "WINDOW", 2)
    # The hit on 1 does not refresh it, so 3 pushes it out.
    sent = [broker.produce(producer_id="p", seq=seq) for seq in (1, 2, 1, 3, 2, 1)]
    assert sent == [0, 1, 0, 2, 1, 3]


def test_sent_again_after_retention_took_the_original_it_is_stored_anew(broker: Driver) -> None:
    broker.apply(c.SetRetention("t", 2, 0))
    for seq in range(3):
        broker.produce(producer_id="p", seq=seq)
    assert broker.produce(producer_id="p", seq=0) == 3
    assert broker.produce(producer_id="p", seq=2) == 2


def test_a_dedup_hit_trims_the_topic(broker: Driver) -> None:
    for seq in range(3):
        broker.produce(producer_id="p", seq=seq)
    broker.apply(c.SetRetention("t", 2, 0))
    assert broker.machine.retained == 3
    assert broker.produce(producer_id="p", seq=2) == 2
    assert broker.machine.retained == 2


@settings(max_examples=50)
@given(st.lists(st.tuples(st.sampled_from("pq"), st.integers(0, 5), st.integers(0, 7)), max_size=30))
def test_any_sequence_with_repeats_drained_yields_each_distinct_key_once(sent: list[tuple[str, int, int]]) -> None:
    broker = Driver()
    keys: dict[int, tuple[str, int]] = {}
    for producer, seq, priority in sent:
        offset = broker.produce(producer_id=producer, seq=seq, priority=priority)
        assert isinstance(offset, int)
        assert keys.setdefault(offset, (producer, seq)) == (producer, seq)
    drained = []
    while taken := broker.poll(most=3):
        broker.ack(*taken)
        drained += [keys[each.offset] for each in taken]
    assert sorted(drained) == sorted({(producer, seq) for producer, seq, _ in sent})


# Priority and starvation


def test_priorities_0_5_3_are_delivered_5_3_0(broker: Driver) -> None:
    for priority in (0, 5, 3):
        broker.produce(priority=priority)
    assert broker.offsets() == [1, 2, 0]


def test_equal_priorities_are_first_in_first_out(broker: Driver) -> None:
    for _ in range(6):
        broker.produce(priority=4)
    assert broker.offsets(most=4) + broker.offsets(most=4) == [0, 1, 2, 3, 4, 5]


def test_starvation_four_polls_of_one_include_the_oldest(broker: Driver) -> None:
    broker.produce(priority=0)
    for _ in range(5):
        broker.produce(priority=7)
    assert [broker.offsets(most=1) for _ in range(4)] == [[1], [2], [3], [0]]


@pytest.mark.parametrize(
    ("most", "oldest"),
    [(1, [0, 0, 0, 1]), (2, [0, 0, 0, 1]), (3, [0, 0, 0, 1]), (4, [1, 1, 1, 2]), (16, [4, 4, 4, 5])],
)
def test_the_oldest_have_a_share_of_each_poll(broker: Driver, most: int, oldest: list[int]) -> None:
    broker.apply(*(c.Produce("t", b"", 0) for _ in range(20)), *(c.Produce("t", b"", 7) for _ in range(100)))
    polls = [broker.offsets(most=most) for _ in range(4)]
    assert [sum(offset < 20 for offset in offsets) for offsets in polls] == oldest
    assert [len(offsets) for offsets in polls] == [most] * 4


def test_an_empty_poll_counts_for_the_share_and_a_registration_does_not(broker: Driver) -> None:
    broker.apply(c.CreateTopic("t"))
    for _ in range(3):
        broker.apply(c.Register("t", "g"))
    for _ in range(2):
        assert broker.poll() == []
    broker.produce(priority=0)
    broker.produce(priority=1)
    broker.produce(priority=1)
    assert broker.offsets(most=1) == [1]
    assert broker.offsets(most=1) == [0]


# Groups


def test_competing_consumers_get_disjoint_sets_and_each_group_sees_all(broker: Driver) -> None:
    for _ in range(6):
        broker.produce()
    sets = [broker.offsets(most=2) for _ in range(3)]
    assert sets == [[0, 1], [2, 3], [4, 5]]
    assert broker.offsets("h") == [0, 1, 2, 3, 4, 5]


def test_fully_acked_the_topic_is_empty_and_the_slowest_group_holds_it(broker: Driver) -> None:
    for _ in range(3):
        broker.produce()
    fast, slow = broker.poll("fast"), broker.poll("slow")
    broker.ack(*fast, group="fast")
    assert broker.machine.retained == 3
    broker.ack(slow[0], slow[2], group="slow")
    assert broker.machine.retained == 2
    broker.ack(slow[1], group="slow")
    assert broker.machine.retained == 0


def test_a_commit_releases_and_without_a_group_nothing_does(broker: Driver) -> None:
    for _ in range(4):
        broker.produce()
    assert broker.machine.retained == 4
    leased = broker.poll(most=3)
    broker.commit(2)
    assert (broker.machine.retained, broker.machine.in_flight) == (2, 1)
    broker.commit(1)
    broker.ack(*leased)
    assert broker.machine.retained == 1


def test_commit_far_past_the_end_then_produce_is_delivered(broker: Driver) -> None:
    broker.produce()
    broker.commit(2**63)
    assert broker.machine.retained == 0
    assert broker.produce() == 1
    assert broker.offsets() == [1]


def test_a_group_that_polled_the_empty_topic_gets_what_another_group_has_acked_since(broker: Driver) -> None:
    broker.apply(c.CreateTopic("t"))
    assert broker.poll("late") == []
    broker.produce()
    broker.ack(*broker.poll("early"), group="early")
    assert broker.offsets("late") == [0]


@pytest.mark.parametrize("activity", [c.Poll("t", "g", 0), c.Register("t", "g"), c.Commit("t", "g", 0)])
def test_a_group_idle_for_seven_days_starts_anew_and_one_in_use_does_not(
    broker: Driver, activity: c.AnyCommand
) -> None:
    broker.produce()
    assert broker.offsets(most=1, auto=True) == [0]
    broker.produce()
    broker.apply(c.Register("t", "holds all"))
    broker.produce("other")
    for _ in range(3):
        broker.now_ms += 6 * DAY_MS
        broker.apply(activity)
        broker.poll("holds all", most=0)
    assert "g" in broker.machine.topics["t"].groups
    broker.now_ms += 7 * DAY_MS - 1
    broker.poll("another", most=0)
    assert "g" in broker.machine.topics["t"].groups
    broker.now_ms += 1
    broker.poll("another", most=0)
    assert list(broker.machine.topics["t"].groups) == ["another"]


def test_an_idle_group_is_dropped_beside_an_older_one_that_is_in_use(broker: Driver) -> None:
    broker.produce()
    broker.poll("first", most=0)
    broker.poll("second", most=0)
    broker.now_ms += DAY_MS
    broker.poll("first", most=0)
    broker.now_ms += 6 * DAY_MS
    broker.poll("third", most=0)
    assert sorted(broker.machine.topics["t"].groups) == ["first", "third"]


def test_a_group_with_a_live_lease_is_not_idle(broker: Driver) -> None:
    broker.produce()
    broker.poll(visibility_ms=8 * DAY_MS)
    broker.now_ms += 7 * DAY_MS
    assert broker.offsets("another") == [0]
    # Anew it would have the message again.
    assert broker.poll() == []


def test_a_group_that_comes_back_starts_at_the_oldest_retained_message(broker: Driver) -> None:
    for _ in range(3):
        broker.produce()
    assert broker.offsets(most=1, auto=True) == [0]
    assert broker.offsets(auto=True) == [1, 2]
    broker.produce()
    broker.now_ms += 7 * DAY_MS
    assert broker.offsets() == [3]


# Retention


def test_retention_3_of_5_leaves_2_3_4(broker: Driver) -> None:
    broker.apply(c.SetRetention("t", 3, 0))
    for _ in range(5):
        broker.produce()
    assert broker.offsets() == [2, 3, 4]


def test_age_1000_at_5000_drops_what_came_at_0(broker: Driver) -> None:
    broker.apply(c.SetRetention("t", 0, 1000))
    for now_ms in (1000, 5000, 6000):
        broker.now_ms = now_ms
        broker.produce()
    # Strictly: what is 1,000 ms old at 6,000 stays.
    assert broker.offsets() == [1, 2]


def test_retention_is_enforced_by_produce_alone(broker: Driver) -> None:
    for _ in range(5):
        broker.produce()
    broker.apply(c.SetRetention("t", 3, 0))
    assert broker.machine.retained == 5
    broker.produce()
    assert broker.machine.retained == 3


def test_a_purge_moves_the_watermark_and_drops_leases(broker: Driver) -> None:
    broker.apply(c.SetRetention("t", 2, 0))
    broker.produce()
    broker.produce()
    purged, kept = broker.poll()
    broker.produce()
    assert broker.machine.in_flight == 1
    broker.nack(purged)
    broker.nack(kept)
    assert broker.offsets() == [1, 2]


def test_what_a_group_had_acked_above_a_purged_message_is_reclaimed(broker: Driver) -> None:
    broker.apply(c.SetRetention("t", 3, 0))
    for _ in range(3):
        broker.produce()
    _, second, _ = broker.poll("slow")
    broker.ack(second, group="slow")
    broker.commit(3, "fast")
    broker.produce()
    assert broker.machine.retained == 3
    broker.commit(4, "fast")
    assert broker.machine.retained == 2


@pytest.mark.parametrize(
    ("limits", "retained"),
    [((0, 0), 10), ((0, 10**9), 12), ((11, 0), 11), ((11, 10**9), 11)],
    ids=["never set", "age alone", "count", "both"],
)
def test_without_limits_the_default_bounds_the_count(
    limits: tuple[int, int], retained: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hermes.broker.machine.topic.DEFAULT_MAX_MESSAGES", 10)
    broker = Driver()
    broker.apply(c.SetRetention("t", *limits))
    for _ in range(12):
        broker.produce()
    assert broker.machine.retained == retained


# Caps, topics, time, the cluster


def test_a_topic_beyond_the_cap_is_refused_and_a_group_beyond_it_polls_empty(broker: Driver) -> None:
    broker.apply(c.SetCaps(max_topics=1, max_groups=1, group_ttl_ms=DAY_MS))
    broker.produce()
    creating = (c.Produce("u", b""), c.CreateTopic("u"), c.SetRateLimit("u", 1, 1), c.SetRetention("u", 1, 1))
    assert broker.apply(*creating) == [TooManyTopics(1)] * 4
    assert broker.apply(c.CreateTopic("t")) == [None]
    assert broker.offsets("g") == [0]
    assert broker.poll("h") == []
    broker.commit(1, "h")
    assert (broker.machine.retained, list(broker.machine.topics["t"].groups)) == (1, ["g"])


def test_a_deleted_topic_begins_again_at_0_and_lease_ids_go_on(broker: Driver) -> None:
    broker.produce(producer_id="p", seq=1)
    broker.apply(c.SetRetention("t", 1, 0))
    [delivery] = broker.poll()
    broker.apply(c.DeleteTopic("t"))
    assert (broker.machine.retained, broker.machine.in_flight, broker.machine.topics) == (0, 0, {})
    broker.ack(delivery)
    assert [broker.produce(producer_id="p", seq=1), broker.produce()] == [0, 1]
    assert [(each.lease_id, each.offset) for each in broker.poll()] == [(1, 0), (2, 1)]


def test_the_time_never_goes_back(broker: Driver) -> None:
    broker.now_ms = 5000
    broker.produce()
    broker.poll(visibility_ms=100)
    broker.now_ms = 1000
    broker.produce()
    [delivery] = broker.poll()
    assert delivery.message.time_ms == 5000
    assert broker.machine.time_ms == 5000
    broker.now_ms = 5100
    assert broker.offsets() == [0]


def test_the_first_bootstrap_counts_and_each_lead_is_a_term(broker: Driver) -> None:
    machine = broker.machine
    assert (machine.nodes, machine.leader, machine.term) == ({}, 0, 0)
    broker.apply(c.Bootstrap(((1, "one:7700"), (2, "two:7700"))), c.Bootstrap(((3, "three:7700"),)))
    broker.apply(c.Lead(2), c.Lead(1))
    machine = broker.machine
    assert (machine.nodes, machine.leader, machine.term) == ({1: "one:7700", 2: "two:7700"}, 1, 2)


# Restarts


def test_a_crash_between_an_auto_poll_s_entry_and_its_reply_leaves_it_done() -> None:
    broker = Driver()
    broker.produce()
    broker.poll(auto=True)
    restarted = restart_from_log(broker)
    assert (restarted.in_flight, restarted.retained) == (0, 0)
    assert restarted.apply(9, c.Entry(9 * DAY_MS, (c.Poll("t", "g", 1),))) == [[]]


def test_a_restart_from_a_snapshot_and_the_entries_after_it_is_the_same_machine() -> None:
    broker = Driver()
    for seq in range(3):
        broker.produce(producer_id="p", seq=seq, priority=seq)
    broker.nack(broker.poll(most=2)[0])
    machine: Machine = restart_from_snapshot(broker)
    at = machine.next_index
    broker.ack(*broker.poll(most=1))
    broker.produce(producer_id="p", seq=2)
    for index, entry in enumerate(broker.log[at:], at):
        machine.apply(index, entry)
    assert (machine.retained, machine.in_flight) == (broker.machine.retained, broker.machine.in_flight)
    assert [machine.apply(99, c.Entry(10**9, (c.Poll("t", "g", 9),)))] == [
        broker.machine.apply(99, c.Entry(10**9, (c.Poll("t", "g", 9),)))
    ]
