"""``hermesmqd`` as a process: its start, its addresses, its token, its end, and what is there after a start anew."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from tests.integration.broker.daemon import free_port, run_daemon
from tests.integration.broker.peer import Peer, framed, request


def test_a_fresh_node_forms_its_cluster_when_a_client_says_so(tmp_path: Path) -> None:
    with run_daemon(tmp_path) as daemon, Peer(daemon.port) as peer:
        stats = peer.ask("stats")
        assert (stats.current_leader, stats.current_term, stats.is_leader) == (0, 0, False)
        for kind in ("produce", "poll", "create_topic", "ack", "commit", "delete_topic"):
            error = peer.fails(kind, topic="t")
            assert (error.code, error.leader_addr) == ("not_leader", "")
        assert peer.fails("bootstrap").code == "bootstrap_failed"
        assert daemon.get("/ready") == (503, "not ready\n")
        with Peer(daemon.port) as other:
            other.subscribe("t")
            assert other.read().code == "not_leader"
            assert other.closed()
        peer.bootstrap()
        for pause in (0, 0.05, 0.15):
            time.sleep(pause)
            peer.ok("create_topic", topic=f"t{pause}")
        assert daemon.get("/ready") == (200, "ready\n")


def test_a_bootstrap_without_this_node_is_refused(tmp_path: Path) -> None:
    with run_daemon(tmp_path, "--node-id", "2") as daemon, Peer(daemon.port) as peer:
        assert peer.fails("bootstrap", nodes=[]).code == "bootstrap_failed"
        peer.bootstrap(node=2)
        assert peer.ask("stats").current_leader == 2


def test_its_http_address(tmp_path: Path) -> None:
    with run_daemon(tmp_path) as daemon, Peer(daemon.port) as peer:
        peer.bootstrap()
        peer.produce("t")
        peer.poll("t")
        assert daemon.get("/health?x=1") == (200, "ok\n")
        assert daemon.get("/nothing")[0] == 404
        status, text = daemon.get("/metrics")
        found = dict(line.rsplit(" ", 1) for line in text.splitlines() if line.startswith("hermesmq"))
        stats = peer.ask("stats")
        assert status == 200
        for name, value in (
            ("raft_term", stats.current_term),
            ("raft_is_leader", 1),
            ("raft_current_leader", 1),
            ("raft_last_log_index", stats.last_log_index),
            ("raft_last_applied", stats.last_applied),
            ("topics", 1),
            ("messages", 1),
            ("in_flight", 1),
        ):
            assert float(found[f'hermesmq_{name}{{node="1"}}']) == value, name
        assert 0 <= float(found['hermesmq_raft_millis_since_quorum_ack{node="1"}']) < 60_000


def test_without_metrics_the_rest_of_the_http_address_answers(tmp_path: Path) -> None:
    with run_daemon(tmp_path, "--metrics-enabled", "false") as daemon:
        assert daemon.get("/metrics") == (404, "metrics disabled\n")
        assert daemon.get("/health")[0] == 200


def test_with_a_token_the_first_request_has_to_show_it(tmp_path: Path) -> None:
    with run_daemon(tmp_path, "--client-token", "secret") as daemon:
        with Peer(daemon.port) as peer:
            peer.send(framed(b"\xff"), request("auth", token="secret"), request("stats"), request("auth", token="any"))
            assert [peer.read().DESCRIPTOR.name for _ in range(4)] == ["Error", "Ok", "StatsResult", "Ok"]
        for first in (
            request("auth", token="wrong"),
            request("auth"),
            request("stats"),
            request("subscribe", topic="t"),
        ):
            with Peer(daemon.port) as peer:
                peer.send(first, request("stats"))
                assert peer.read().code == "unauthorized"
                assert peer.closed()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_although_clients_wait(tmp_path: Path, number: signal.Signals) -> None:
    with run_daemon(tmp_path) as daemon, ExitStack() as stack:
        idle, polling, subscribed = (stack.enter_context(Peer(daemon.port)) for _ in range(3))
        idle.bootstrap()
        polling.send(request("poll", topic="t", group="g", wait_ms=60_000))
        subscribed.subscribe("t")
        time.sleep(0.2)
        daemon.process.send_signal(number)
        assert list(polling.read().items) == []
        assert all(peer.closed() for peer in (idle, polling, subscribed))
        assert daemon.process.wait(10) == 0


def refused(*flags: str) -> tuple[int, str]:
    """How a daemon ends that cannot start, and what it says."""
    command = [sys.executable, "-m", "hermes.broker.daemon", *flags]
    found = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    return found.returncode, found.stderr


def test_a_port_in_use_is_one_line_with_the_mend(tmp_path: Path) -> None:
    with run_daemon(tmp_path / "one") as daemon:
        for flag, free in (("client", "metrics"), ("metrics", "client")):
            port = daemon.port if flag == "client" else daemon.metrics_port
            code, text = refused(
                *("--data-dir", str(tmp_path / "two")),
                *(f"--{flag}-addr", f"127.0.0.1:{port}", f"--{free}-addr", f"127.0.0.1:{free_port()}"),
            )
            assert code != 0
            (line,) = text.splitlines()
            assert f"HERMESMQ_{flag.upper()}_ADDR" in line
            assert str(port) in line
            assert "Traceback" not in text


def test_a_data_folder_in_use_is_refused(tmp_path: Path) -> None:
    with run_daemon(tmp_path):
        code, text = refused(
            *("--data-dir", str(tmp_path)),
            *("--client-addr", f"127.0.0.1:{free_port()}", "--metrics-addr", f"127.0.0.1:{free_port()}"),
        )
    assert code != 0
    assert "Traceback" not in text
    assert str(tmp_path) in text


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (("--client-addr", "localhost:7600"), "HERMESMQ_CLIENT_ADDR"),
        (("--node-id", "none"), "HERMESMQ_NODE_ID"),
        (("--metrics-enabled", "perhaps"), "HERMESMQ_METRICS_ENABLED"),
    ],
)
def test_a_wrong_option_is_told_by_its_name(tmp_path: Path, flags: tuple[str, str], named: str) -> None:
    code, text = refused("--data-dir", str(tmp_path), *flags)
    assert (code, named in text, "Traceback" in text) == (2, True, False), text


def fill(port: int) -> dict[int, bytes]:
    """What 8 writers of 16 messages were told is stored, by offset."""

    def send(writer: int) -> list[tuple[int, bytes]]:
        with Peer(port) as peer:
            payloads = [b"%d/%d" % (writer, number) for number in range(16)]
            return [(peer.produce("t", payload), payload) for payload in payloads]

    with ThreadPoolExecutor(8) as pool:
        return dict(pair for pairs in pool.map(send, range(8)) for pair in pairs)


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM])
def test_a_start_anew_finds_everything(tmp_path: Path, end: signal.Signals) -> None:
    port = free_port()
    with run_daemon(tmp_path, port=port) as daemon, Peer(port) as peer:
        peer.bootstrap()
        peer.ok("set_rate_limit", topic="limited", rate_per_sec=0.001, burst=1)
        peer.ok("set_retention", topic="short", max_messages=2, max_age_ms=0)
        stored = fill(port)
        done = peer.poll("t", max=10, ack_mode="auto")
        leased = peer.poll("t", max=5, visibility_timeout_ms=60_000)
        assert peer.produce("t", b"once", producer_id="p", seq=1) == 128
        daemon.process.send_signal(end)
        daemon.process.wait(10)
    with run_daemon(tmp_path, port=port), Peer(port) as peer:
        stats = peer.ask("stats")
        assert (stats.is_leader, stats.current_term) == (True, 2)
        assert peer.produce("t", b"again", producer_id="p", seq=1) == 128
        rest = {item.offset: item.payload for item in peer.poll("t", max=1000)}
        gone = {item.offset for item in (*done, *leased)}
        assert rest == {offset: data for offset, data in (stored | {128: b"once"}).items() if offset not in gone}
        # A lease that was given before the end is one still.
        peer.ok("nack", topic="t", group="g", lease_id=leased[0].lease_id)
        (again,) = peer.poll("t")
        assert (again.offset, again.lease_id > leased[-1].lease_id) == (leased[0].offset, True)
        for _ in range(3):
            peer.produce("limited")
            peer.produce("short")
        assert peer.offsets("limited", max=10) == [0]
        assert peer.fails("poll", topic="limited", group="g").code == "rate_limited"
        assert peer.offsets("short") == [1, 2]


def test_what_was_acknowledged_survives_a_kill_under_load(tmp_path: Path) -> None:
    port = free_port()
    stored: dict[int, bytes] = {}
    for round_ in range(3):
        with run_daemon(tmp_path, port=port) as daemon, Peer(port) as peer:
            peer.bootstrap()
            frames = [request("produce", topic="t", payload=b"%d/%d" % (round_, number)) for number in range(3000)]
            peer.send(*frames)
            for number in range(400):
                stored[peer.read().offset] = b"%d/%d" % (round_, number)
            daemon.process.kill()
            # What it had sent counts as acknowledged too.
            with suppress(EOFError, ConnectionResetError, AssertionError):
                for number in range(400, len(frames)):
                    stored[peer.read().offset] = b"%d/%d" % (round_, number)
    with run_daemon(tmp_path, port=port), Peer(port) as peer:
        found: dict[int, bytes] = {}
        while items := peer.poll("t", max=1024, ack_mode="auto"):
            found |= {item.offset: item.payload for item in items}
    assert {offset: found.get(offset) for offset in stored} == stored
    assert sorted(found) == list(range(len(found)))


def test_caps_are_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HERMESMQ_MAX_TOPICS", "2")
    monkeypatch.setenv("HERMESMQ_MAX_GROUPS", "2")
    monkeypatch.setenv("HERMESMQ_MAX_CONNECTIONS", "3")
    monkeypatch.setenv("HERMESMQ_MAX_VISIBILITY", "300ms")
    with run_daemon(tmp_path) as daemon, ExitStack() as stack:
        peer, *_ = (stack.enter_context(Peer(daemon.port)) for _ in range(3))
        assert stack.enter_context(Peer(daemon.port)).closed()
        peer.bootstrap()
        for name in ("a", "b"):
            peer.ok("create_topic", topic=name)
        for kind in ("create_topic", "produce", "set_retention", "set_rate_limit"):
            assert peer.fails(kind, topic="c").code == "rejected", kind
        peer.produce("a")
        for group, expected in (("g", [0]), ("h", [0]), ("one more", [])):
            assert peer.offsets("a", group) == expected
        peer.ok("commit", topic="a", group="one more", offset=1)
        # A lease of an hour is cut to what is allowed.
        peer.produce("b")
        assert peer.offsets("b", visibility_timeout_ms=3_600_000) == [0]
        assert peer.offsets("b", wait_ms=2000) == [0]
        peer.ok("delete_topic", topic="a")
        assert peer.produce("c") == 0
