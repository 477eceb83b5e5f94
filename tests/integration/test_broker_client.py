"""The Python client against the broker's daemon, a process of its own."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import trio

from hermes.client import Client, Message, Unavailable, connect
from hermes.client.sync import connect as connect_sync


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


@contextmanager
def daemon(folder: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "hermes.broker.daemon", "--data-dir", str(folder)]
    command += ["--client-addr", f"127.0.0.1:{port}", "--metrics-addr", f"127.0.0.1:{free_port()}"]
    process = subprocess.Popen(command)
    try:
        until = time.monotonic() + 20
        while True:
            assert process.poll() is None
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                assert time.monotonic() < until
                time.sleep(0.05)
        yield process
    finally:
        process.kill()
        process.wait()


def test_the_calls_of_the_synchronous_client_work_and_the_daemon_stops_cleanly(tmp_path: Path) -> None:
    port = free_port()
    with daemon(tmp_path / "data", port) as process:
        with connect_sync([f"127.0.0.1:{port}"]) as client:
            client.create_topic("orders")
            assert client.produce("orders", {"id": 1}) == 0
            assert client.produce_many("orders", ["a", b"b"]) == [1, 2]
            messages = client.poll("orders", "billing")
            assert [(m.payload, m.content_type) for m in messages] == [(b'{"id":1}', 2), (b"a", 1), (b"b", 0)]
            client.ack(messages[0])
            client.nack(messages[1])
            client.commit("orders", "billing", 3)
            assert client.poll("orders", "billing") == []
            assert client.stats().topics == 1
            client.delete_topic("orders")
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0


async def test_a_kill_under_load_loses_nothing_acknowledged_and_duplicates_nothing(tmp_path: Path) -> None:
    port = free_port()
    address = f"127.0.0.1:{port}"
    count = 3000
    offsets: dict[int, int] = {}
    seen: dict[int, list[int]] = {}
    begun, failed, stored, delivered = (trio.Event() for _ in range(4))

    async def produce(client: Client, share: int) -> None:
        for number in range(share, count, 8):
            while number not in offsets:
                try:
                    offsets[number] = await client.produce("t", number, producer_id="p", seq=number)
                except Unavailable:
                    failed.set()
                    await trio.sleep(0.05)
            if len(offsets) >= 300:
                begun.set()
        if len(offsets) == count:
            stored.set()

    async def handler(message: Message) -> None:
        seen.setdefault(message.json(), []).append(message.offset)
        if len(seen) == count:
            delivered.set()

    with trio.fail_after(50):
        with daemon(tmp_path / "data", port) as process:
            async with connect([address]) as client, trio.open_nursery() as nursery:
                await client.create_topic("t")
                for share in range(8):
                    nursery.start_soon(produce, client, share)
                await begun.wait()
                process.kill()
                process.wait()
                await failed.wait()
                assert len(offsets) < count
                with daemon(tmp_path / "data", port):
                    await stored.wait()
                    async with client.subscribe("t", "g", handler, prefetch=64):
                        await delivered.wait()
    assert sorted(offsets.values()) == list(range(count))
    assert seen == {number: [offset] for number, offset in offsets.items()}
