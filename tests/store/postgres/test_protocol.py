"""How COPY data goes to libpq: in blocks, without a copy, reading while writing."""

from __future__ import annotations

from typing import cast

from psycopg.pq.abc import PGconn
from psycopg.waiting import Ready, Wait

from hermes.store.postgres.protocol import COPY_BLOCK_BYTES, put_copy


class FakePGconn:
    """Takes COPY data; each `flush()` answers what the script says (1: the socket is full), and then 0."""

    def __init__(self, *flushes: int) -> None:
        self.flushes = list(flushes)
        self.blocks: list[memoryview] = []
        self.reads = 0

    def put_copy_data(self, block: memoryview) -> int:
        self.blocks.append(block)
        return 1

    def flush(self) -> int:
        return self.flushes.pop(0) if self.flushes else 0

    def consume_input(self) -> None:
        self.reads += 1


def run(pgconn: FakePGconn, data: bytes, *ready: Ready) -> list[Wait]:
    """Send `data`; the socket is ready as `ready` says, and then for writing. Return what was waited for."""
    generator = put_copy(cast("PGconn", pgconn), data)
    answers = list(ready)
    waits: list[Wait] = []
    try:
        waits.append(next(generator))
        while True:
            waits.append(generator.send(answers.pop(0) if answers else Ready.W))
    except StopIteration:
        return waits


def test_data_is_cut_into_blocks_and_nothing_is_lost() -> None:
    pgconn = FakePGconn()
    data = bytes(range(256)) * 1024
    run(pgconn, data)
    assert max(len(block) for block in pgconn.blocks) == COPY_BLOCK_BYTES
    assert b"".join(pgconn.blocks) == data


def test_blocks_are_views_of_the_callers_bytes() -> None:
    pgconn = FakePGconn()
    data = b"x" * (3 * COPY_BLOCK_BYTES)
    run(pgconn, data)
    assert all(block.obj is data for block in pgconn.blocks)


def test_no_data_is_no_block_and_no_wait() -> None:
    pgconn = FakePGconn()
    assert run(pgconn, b"") == []
    assert pgconn.blocks == []


def test_a_block_waits_until_the_socket_has_taken_all_of_the_one_before() -> None:
    pgconn = FakePGconn(1, 1, 0)
    assert run(pgconn, b"x") == [Wait.RW, Wait.RW, Wait.RW]


def test_what_the_server_sends_meanwhile_is_read() -> None:
    pgconn = FakePGconn()
    assert run(pgconn, b"x", Ready.R, Ready.R, Ready.RW) == [Wait.RW, Wait.RW, Wait.RW]
    assert pgconn.reads == 3
