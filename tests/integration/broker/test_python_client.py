"""The Python client against the broker's daemon, a process of its own."""

from __future__ import annotations

import signal
from pathlib import Path

import trio

from hermes.client import Client, Message, Unavailable, connect
from hermes.client.sync import connect as connect_sync
from tests.integration.broker.daemon import free_port, run_daemon


def test_the_calls_of_the_synchronous_client_work_and_the_daemon_stops_cleanly(tmp_path: Path) -> None:
    with run_daemon(tmp_path / "data") as daemon:
        with connect_sync([daemon.address]) as client:
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
        daemon.process.send_signal(signal.SIGTERM)
        assert daemon.process.wait(20) == 0


async def test_a_kill_under_load_loses_nothing_acknowledged_and_duplicates_nothing(tmp_path: Path) -> None:
    port = free_port()
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
        with run_daemon(tmp_path / "data", port=port) as daemon:
            async with connect([f"127.0.0.1:{port}"]) as client, trio.open_nursery() as nursery:
                await client.create_topic("t")
                for share in range(8):
                    nursery.start_soon(produce, client, share)
                await begun.wait()
                daemon.process.kill()
                daemon.process.wait()
                await failed.wait()
                assert len(offsets) < count
                with run_daemon(tmp_path / "data", port=port):
                    await stored.wait()
                    async with client.subscribe("t", "g", handler, prefetch=64):
                        await delivered.wait()
    assert sorted(offsets.values()) == list(range(count))
    assert seen == {number: [offset] for number, offset in offsets.items()}
