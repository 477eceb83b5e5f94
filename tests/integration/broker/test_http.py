"""The broker over HTTP beside its protocol on TCP: its data routes, its operators' routes, its commands."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Self

import httpx
import pytest

from tests.integration.broker.daemon import free_port
from tests.integration.broker.peer import Peer
from tests.integration.program import Program, Start


class Broker:
    """A service with the broker, and clients of its two addresses."""

    def __init__(self, program: Program, port: int, topic: str) -> None:
        self.program = program
        self.port = port
        self.topic = topic
        self.data = httpx.Client(base_url=program.url, timeout=20)
        self.admin = httpx.Client(base_url=program.admin_url, timeout=20)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.data.close()
        self.admin.close()

    def ask(self, client: httpx.Client, method: str, path: str, body: object = None, status: int = 200) -> Any:
        answer = client.request(method, f"/topics/{self.topic}{path}", json=body)
        assert answer.status_code == status, answer.text
        return answer.json()

    def produce(self, *messages: object) -> list[Any]:
        return list(self.ask(self.data, "POST", "/messages", messages, 201)["stored"])

    def poll(self, group: str = "g", **options: object) -> list[Any]:
        return list(self.ask(self.data, "POST", f"/groups/{group}/poll", options)["messages"])

    def call(self, what: str, body: object, group: str = "g", status: int = 200) -> Any:
        return self.ask(self.data, "POST", f"/groups/{group}/{what}", body, status)

    def why(self, group: str = "g") -> str:
        return str(self.ask(self.admin, "GET", f"/groups/{group}")["why"])

    def set(self, group: str = "g", **options: object) -> None:
        self.ask(self.admin, "PATCH", f"/groups/{group}", options)

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "hermes", "broker", *arguments, "--url", self.program.admin_url]
        return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False, env={**os.environ})


@pytest.fixture
def broker(start: Start, request: pytest.FixtureRequest) -> Iterator[Broker]:
    port = free_port()
    program = start(PARTS="broker", HERMESMQ_CLIENT_ADDR=f"127.0.0.1:{port}")
    with Broker(program, port, "orders") as broker:
        yield broker


def test_messages_go_between_http_and_the_wire(broker: Broker) -> None:
    one = broker.ask(broker.data, "POST", "/messages", {"payload": {"n": 1.0}}, 201)
    assert one == {"offset": 0}
    assert broker.produce({"text": "hé"}, {"base64": "AP8="}) == [{"offset": 1}, {"offset": 2}]
    with Peer(broker.port) as peer:
        items = peer.poll("orders", "wire")
        # The client's own bytes.
        assert [(item.content_type, item.payload) for item in items] == [
            (2, b'{"n":1.0}'),
            (1, "hé".encode()),
            (0, b"\0\xff"),
        ]
        assert peer.produce("orders", b"no json", content_type=2) == 3
        assert peer.produce("orders", b"[1]", content_type=2, priority=7) == 4
    found = broker.poll(max=10)
    contents = [{k: m[k] for k in ("payload", "text", "base64") if k in m} for m in found]
    assert contents == [
        {"payload": [1]},
        {"payload": {"n": 1.0}},
        {"text": "hé"},
        {"base64": "AP8="},
        {"text": "no json"},
    ]
    assert [(m["offset"], m["attempt"]) for m in found] == [(4, 1), (0, 1), (1, 1), (2, 1), (3, 1)]
    broker.call("ack", {"leases": [m["lease"] for m in found]})
    assert broker.poll() == []
    assert broker.why() == "The group g is at the end of orders, at offset 5."
    # The other group has them still.
    assert len(broker.ask(broker.data, "GET", "/messages")["messages"]) == 5


def test_a_message_enters_when_its_time_comes_and_not_if_it_is_cancelled(broker: Broker) -> None:
    stored = broker.produce(
        {"text": "b", "delay": "600ms"}, {"text": "a", "delay": "300ms"}, {"text": "x", "delay": "1h"}
    )
    begun = time.monotonic()
    assert [each.keys() for each in stored] == [{"id"}] * 3
    assert broker.poll() == []
    ended = []
    for _ in range(2):
        (message,) = broker.poll(wait="5s")
        ended.append((message["text"], message["offset"], time.monotonic() - begun))
    assert [each[:2] for each in ended] == [("a", 0), ("b", 1)]
    for (_, _, took), due in zip(ended, (0.3, 0.6), strict=True):
        assert due - 0.02 < took < due + 1
    path = f"/scheduled/{stored[2]['id']}"
    assert broker.ask(broker.data, "DELETE", path) == {}
    assert "has entered its topic" in broker.ask(broker.data, "DELETE", path, status=404)["detail"]


def test_what_waits_for_its_time_survives_a_kill(broker: Broker, start: Start) -> None:
    broker.produce({"text": "later", "delay": "2s", "producer_id": "p", "seq": 7})
    (message,) = (broker.produce({"text": "now"}), broker.poll())[1]
    (delayed,) = broker.call("nack", {"leases": [message["lease"]], "delay": "2s"})["leases"]
    broker.set("other", paused=True)
    program = broker.program
    program.kill()
    again = start(PARTS="broker", HERMESMQ_CLIENT_ADDR=f"127.0.0.1:{broker.port}")
    with Broker(again, broker.port, "orders") as anew:
        assert anew.produce({"text": "later", "delay": "2s", "producer_id": "p", "seq": 7}) == [{"id": 0}]
        found = [message for _ in range(2) for message in anew.poll(wait="5s", max=1)]
        assert sorted((m["text"], m["offset"], m["attempt"]) for m in found) == [("later", 1, 1), ("now", 0, 2)]
        assert delayed < min(m["lease"] for m in found)
        assert "is paused" in anew.why("other")


def test_a_message_that_was_given_back_comes_when_its_delay_ends_or_is_ended(broker: Broker) -> None:
    broker.produce({"text": "a"}, {"text": "b"})
    one, two = broker.poll()
    first, second = broker.call("nack", {"leases": [one["lease"], two["lease"]], "delay": "700ms"})["leases"]
    assert "2 are delayed, the first until" in broker.why()
    assert broker.poll() == []
    broker.call("nack", {"leases": [first]})
    (early,) = broker.poll()
    assert (early["text"], early["attempt"]) == ("a", 2)
    begun = time.monotonic()
    (late,) = broker.poll(wait="5s")
    assert late["text"] == "b"
    assert time.monotonic() - begun < 1.5
    # That delay is over, and names nothing any more.
    assert broker.call("nack", {"leases": [second, 10**9], "delay": "1s"}) == {"leases": [None, None]}


def test_messages_of_a_key_come_one_after_the_other(broker: Broker) -> None:
    broker.produce(*({"payload": n, "key": "ann" if n % 2 else "bob", "priority": n % 3} for n in range(8)))
    seen: dict[int, list[int]] = {0: [], 1: []}
    for _ in range(4):
        found = broker.poll(max=10)
        assert {m["payload"] % 2 for m in found} == {0, 1}
        assert len(found) == 2
        for message in found:
            seen[message["payload"] % 2].append(message["payload"])
        assert broker.poll() == []
        broker.call("ack", {"leases": [m["lease"] for m in found]})
    assert seen == {0: [0, 2, 4, 6], 1: [1, 3, 5, 7]}


def test_a_waiting_poll_gets_the_next_of_a_key_at_once(broker: Broker) -> None:
    broker.produce({"payload": 1, "key": "k"}, {"payload": 2, "key": "k"})
    (first,) = broker.poll()
    assert "1 is behind an older message of its key" in broker.why() or broker.poll() == []
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(lambda: (broker.poll(wait="10s"), time.monotonic()))
        time.sleep(0.3)
        acked = time.monotonic()
        broker.call("ack", {"leases": [first["lease"]]})
        (second,), ended = waiting.result()
    assert second["payload"] == 2
    assert ended - acked < 1


def test_a_lease_that_is_extended_lasts_longer(broker: Broker) -> None:
    broker.produce({"text": "a"}, {"text": "b"})
    one, two = broker.poll(visibility="400ms")
    assert broker.call("extend", {"leases": [two["lease"], 10**9], "visibility": "1m"}) == {"leases": [two["lease"]]}
    (again,) = broker.poll(wait="3s")
    assert (again["text"], again["attempt"]) == ("a", 2)
    time.sleep(0.5)
    assert broker.poll() == []
    assert broker.call("extend", {"leases": [one["lease"]], "visibility": "1m"}) == {"leases": []}


def test_forward_does_both_or_neither(broker: Broker) -> None:
    broker.produce({"text": "a"})
    (message,) = broker.poll()
    body = {"lease": message["lease"], "topic": "next", "message": {"payload": 1, "key": "k"}}
    assert broker.call("forward", body, status=201) == {"offset": 0}
    assert "nothing was done" in broker.call("forward", body, status=410)["detail"]
    assert broker.poll(visibility="1ms") == []
    broker.topic = "next"
    assert [m["payload"] for m in broker.poll()] == [1]
    assert broker.poll("another") != []


def test_after_its_last_attempt_a_message_is_a_dead_letter_and_can_be_replayed(broker: Broker) -> None:
    broker.produce({"payload": {"n": 1}, "priority": 3}, {"text": "good"})
    broker.set(max_attempts=2)
    for attempt in (1, 2):
        bad, good = broker.poll()
        assert (bad["payload"], bad["attempt"]) == ({"n": 1}, attempt)
        broker.call("nack", {"leases": [bad["lease"]], "reason": "the mail server said \x1b[2J no"})
        broker.call("nack", {"leases": [good["lease"]], "delay": "1ms"} if attempt == 1 else {"leases": [10**9]})
        time.sleep(0.01)
    until = time.monotonic() + 5
    while not (letters := broker.admin.get("/dead-letters").json()["letters"]):
        assert time.monotonic() < until
        time.sleep(0.05)
    (letter,) = letters
    assert (letter["part"], letter["attempts"], letter["body"]) == ("broker", 2, '{"n":1}')
    assert letter["facts"] == {"topic": "orders", "group": "g", "offset": 0, "priority": 3, "content_type": 2}
    assert "the mail server said" in letter["reason"]
    assert broker.poll() == []
    replayed = broker.admin.post("/dead-letters/replay", params={"part": "broker"}).json()
    assert (replayed["delivered"], replayed["left"]) == (1, 0)
    assert [(m["offset"], m["payload"]) for m in broker.poll()] == [(2, {"n": 1})]
    assert broker.admin.get("/dead-letters").json()["letters"] == []


def test_a_paused_group_gets_nothing_and_what_waits_comes_when_it_is_resumed(broker: Broker) -> None:
    broker.produce({"text": "a"})
    broker.set(paused=True)
    assert broker.poll(wait="200ms") == []
    assert len(broker.poll("other")) == 1
    with Peer(broker.port) as peer:
        peer.subscribe("orders", "g")
        assert peer.silent(0.4)
        assert broker.command("why", "orders", "g").stdout == "The group g is paused, with 1 message before it.\n"
        assert broker.command("resume", "orders", "g").stdout == "g: not paused, lag 1\n"
        item = peer.pushed(2)
        assert item.payload == b"a"
        told = broker.command("why", "orders", "g", "--leases").stdout
        assert "1 is leased to 127.0.0.1:" in told
        assert str(item.lease_id) in told.splitlines()[2]


def test_a_limited_topic_says_when_to_come_again(broker: Broker) -> None:
    assert broker.ask(broker.admin, "PUT", "", {"rate": 0.5, "burst": 1, "max_age": "1h"})["max_age_ms"] == 3_600_000
    assert broker.ask(broker.admin, "PUT", "", {"max_messages": 10})["rate"] == 0.5
    broker.produce({"text": "a"}, {"text": "b"})
    assert len(broker.poll()) == 1
    answer = broker.data.post("/topics/orders/groups/g/poll", json={"wait": "5s"})
    assert (answer.status_code, answer.headers["Retry-After"]) == (429, "2")
    assert 1000 < answer.json()["retry_after_ms"] <= 2000
    assert "lets none through for" in broker.why()


def test_topics_and_groups_are_listed_by_pages(broker: Broker) -> None:
    for name in ("b", "a", "c ü"):
        assert broker.data.post(f"/topics/{name}/messages", json={"text": ""}).status_code == 201
    broker.topic = "a"
    for group in ("x", "y", "z"):
        broker.poll(group)
    page = broker.admin.get("/topics", params={"limit": 1}).json()
    assert ([each["topic"] for each in page["topics"]], page["next"]) == (["a"], "a")
    page = broker.admin.get("/topics", params={"after": "a"}).json()
    assert [each["topic"] for each in page["topics"]] == ["b", "c ü"]
    groups = broker.ask(broker.admin, "GET", "/groups?limit=2")
    assert [(each["group"], each["lag"], each["leased"]) for each in groups["groups"]] == [("x", 1, 1), ("y", 1, 1)]
    assert (groups["next"], groups["total"]) == ("y", 3)
    assert broker.command("topics").stdout.splitlines()[1].split() == ["a", "1", "0", "1", "3"]
    assert [line.split()[:3] for line in broker.command("groups", "a").stdout.splitlines()[1:]] == [
        [group, "1", "1"] for group in ("x", "y", "z")
    ]
    assert broker.ask(broker.admin, "DELETE", "") == {}
    assert broker.ask(broker.admin, "DELETE", "", status=404)["status"] == 404
    failed = broker.command("groups", "a")
    assert (failed.returncode, failed.stdout, "there is no topic" in failed.stderr) == (1, "", True)


@pytest.mark.parametrize("command", ["why t g", "topics", "groups t", "peek t", "pause t g", "resume t g"])
def test_a_command_tells_a_wrong_setting_in_one_line(command: str) -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "hermes", "broker", *command.split()],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        env={**os.environ, "HTTP_ADDR": "bad"},
    )
    assert (ran.returncode, ran.stdout) == (2, "")
    (line,) = ran.stderr.splitlines()
    assert line.startswith("hermes: HTTP_ADDR='bad'")


def test_peek_shows_pages_and_leases_nothing(broker: Broker) -> None:
    broker.produce(*({"payload": n} for n in range(30)))
    page = broker.ask(broker.data, "GET", "/messages?offset=25&limit=3")
    assert ([m["payload"] for m in page["messages"]], page["next"]) == ([25, 26, 27], 28)
    assert broker.ask(broker.data, "GET", "/messages?offset=28")["next"] is None
    assert len(broker.poll(max=100)) == 30
    assert broker.command("peek", "orders", "--offset", "29").stdout.split()[-1] == "29"


@pytest.mark.parametrize(
    ("path", "body", "words"),
    [
        ("/messages", {"payload": 1, "text": "x"}, "one of payload, text and base64"),
        ("/messages", {}, "one of payload, text and base64"),
        ("/messages", [], "1 to 10,000"),
        ("/messages", {"text": "x", "priority": 8}, "priority"),
        ("/messages", {"text": "x", "delay": "soon"}, "'soon' is no duration"),
        ("/messages", {"text": "x", "delay": "9000h"}, "too long"),
        ("/messages", {"text": "x", "dealy": "1s"}, "dealy"),
        ("/messages", [{"text": "x"}, {"text": 1}], "text"),
        ("/groups/g/poll", {"max": 0}, "max"),
        ("/groups/g/ack", {"leases": []}, "leases"),
        ("/groups/g/ack", {"leases": ["x"]}, "leases"),
        ("/groups/g/extend", {"leases": [1]}, "visibility"),
        (f"/groups/{'g' * 257}/poll", {}, "256 bytes"),
        ("/groups/g/commit", {"offset": -1}, "offset"),
    ],
)
def test_a_wrong_request_is_told_by_its_place_and_does_nothing(
    shared: Broker, path: str, body: object, words: str
) -> None:
    answer = shared.data.post(f"/topics/wrong{path}", json=body)
    assert (answer.status_code, words in answer.json()["detail"]) == (400, True), answer.text
    assert "wrong" not in [each["topic"] for each in shared.admin.get("/topics").json()["topics"]]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """One service for the tests that leave nothing behind."""
    port = free_port()
    program = Program(tmp_path_factory.mktemp("shared"), PARTS="broker", HERMESMQ_CLIENT_ADDR=f"127.0.0.1:{port}")
    with Broker(program, port, "orders") as broker:
        yield broker
    program.kill()


def test_a_payload_too_large_is_refused_and_takes_nothing_with_it(broker: Broker) -> None:
    answer = broker.data.post("/topics/orders/messages", json=[{"text": "x"}, {"text": "x" * (2**20 + 1)}])
    assert answer.status_code == 413
    assert broker.poll() == []


def test_with_keys_nobody_else_gets_in(start: Start) -> None:
    port = free_port()
    program = start(PARTS="broker", HERMESMQ_CLIENT_ADDR=f"127.0.0.1:{port}", API_KEYS="k" * 20)
    url = f"{program.url}/topics/t/messages"
    assert httpx.post(url, json={"text": "x"}).status_code == 401
    assert httpx.post(url, json={"text": "x"}, headers={"X-API-Key": "k" * 20}).status_code == 201


def test_a_stop_ends_a_poll_that_waits(broker: Broker) -> None:
    outcome: list[object] = []
    waiting = threading.Thread(target=lambda: outcome.append(broker.poll(wait="2m")))
    waiting.start()
    time.sleep(0.5)
    begun = time.monotonic()
    assert broker.program.stop() == 0
    waiting.join(10)
    assert outcome == [[]]
    assert time.monotonic() - begun < 10
