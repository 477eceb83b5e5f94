"""The pool's decisions on the virtual clock, with connections that are only pretended."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import trio
import trio.testing
from psycopg import Error, OperationalError, errors, pq
from trio.testing import MockClock

from hermes.store.postgres import Pool, PoolClosed, PoolTimeout, open_pool


class FakeConnection:
    """What the pool sees of a connection."""

    def __init__(self) -> None:
        self.closed = False
        self.has_unread_input = False
        self.autocommit = True
        self.pgconn = SimpleNamespace(transaction_status=pq.TransactionStatus.IDLE)

    def discard(self, reason: str) -> None:
        self.closed = True

    async def close(self) -> None:
        self.closed = True
        await trio.lowlevel.checkpoint()


class FakeServer:
    """Stands for `Connection`: notes when it is dialed, and refuses while it is down."""

    def __init__(self) -> None:
        self.dialed_at: list[float] = []
        self.down = False
        self.dial_time = 0.0

    async def connect(self, dsn: str, **options: object) -> FakeConnection:
        self.dialed_at.append(round(trio.current_time(), 6))
        await trio.sleep(self.dial_time)
        if self.down:
            raise OperationalError("refused")
        return FakeConnection()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> FakeServer:
    server = FakeServer()
    monkeypatch.setattr("hermes.store.postgres.pool.Connection", server)
    # No jitter: each pause is its whole step.
    monkeypatch.setattr("hermes.store.postgres.pool.random.random", lambda: 1.0)
    return server


async def expect_timeout(pool: Pool, timeout: float | None = None) -> PoolTimeout:
    with pytest.raises(PoolTimeout) as refusal:
        async with pool.connection(timeout=timeout):
            pass
    return refusal.value


async def test_borrowers_are_served_in_the_order_of_asking(server: FakeServer, autojump_clock: MockClock) -> None:
    served: list[int] = []

    async def borrow(pool: Pool, n: int) -> None:
        async with pool.connection():
            served.append(n)
            await trio.sleep(1)

    async with open_pool("host=db", max_size=1, acquire_timeout=100) as pool, trio.open_nursery() as nursery:
        for n in range(5):
            nursery.start_soon(borrow, pool, n)
            await trio.testing.wait_all_tasks_blocked()
    assert served == [0, 1, 2, 3, 4]
    assert server.dialed_at == [0.0]


async def test_a_returned_connection_goes_to_who_waits_not_to_who_comes(
    server: FakeServer, autojump_clock: MockClock
) -> None:
    served: list[str] = []

    async def borrow(pool: Pool, name: str) -> None:
        async with pool.connection():
            served.append(name)

    async with open_pool("host=db", max_size=1) as pool, trio.open_nursery() as nursery:
        async with pool.connection():
            nursery.start_soon(borrow, pool, "waits")
            await trio.testing.wait_all_tasks_blocked()
        await borrow(pool, "comes")
    assert served == ["waits", "comes"]


async def test_all_in_use_is_a_timeout_that_says_so(server: FakeServer, autojump_clock: MockClock) -> None:
    async with open_pool("host=db", max_size=1, acquire_timeout=7) as pool, pool.connection():
        refusal = await expect_timeout(pool)
        assert trio.current_time() == 7.0
        assert str(refusal) == "no Postgres connection within 7 s (1 of 1 in use, 0 others waiting)"
        assert refusal.last_error is None
        assert pool.statistics().timeouts == 1


async def test_a_server_that_is_down_is_a_timeout_with_the_reason(
    server: FakeServer, autojump_clock: MockClock
) -> None:
    server.down = True
    async with open_pool("host=db", max_size=1) as pool:
        refusal = await expect_timeout(pool, timeout=1)
    assert str(refusal).endswith("connecting failed: refused")
    assert str(refusal.last_error) == "refused"


async def test_a_success_forgets_the_reason_of_earlier_failures(server: FakeServer, autojump_clock: MockClock) -> None:
    server.down = True
    async with open_pool("host=db", max_size=1) as pool:
        assert (await expect_timeout(pool, timeout=1)).last_error is not None
        server.down = False
        async with pool.connection():
            assert (await expect_timeout(pool, timeout=1)).last_error is None


async def test_dialing_backs_off_while_the_server_is_down(server: FakeServer, autojump_clock: MockClock) -> None:
    server.down = True
    async with open_pool("host=db", max_size=1, backoff_min=1, backoff_max=5) as pool:
        await expect_timeout(pool, timeout=18.5)
    assert server.dialed_at == [0.0, 1.0, 3.0, 7.0, 12.0, 17.0]


async def test_all_borrowers_share_one_back_off(server: FakeServer, autojump_clock: MockClock) -> None:
    server.down = True
    async with open_pool("host=db", max_size=3, backoff_min=1, backoff_max=5) as pool:
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(expect_timeout, pool, 10)
        # Together at first, when nobody knows; one by one afterwards.
        assert server.dialed_at == [0.0, 0.0, 0.0, 1.0, 3.0, 7.0]


async def test_all_borrowers_connect_as_soon_as_one_finds_the_server_up(
    server: FakeServer, autojump_clock: MockClock
) -> None:
    connected_at: list[float] = []

    async def borrow(pool: Pool) -> None:
        async with pool.connection():
            connected_at.append(trio.current_time())
            await trio.sleep(1)

    server.down = True
    async with open_pool("host=db", max_size=3, backoff_min=4) as pool, trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(borrow, pool)
        await trio.sleep(0.5)
        server.down = False
    assert connected_at == [1.0, 1.0, 1.0]


async def test_a_borrower_that_waits_to_dial_takes_what_comes_back(
    server: FakeServer, autojump_clock: MockClock
) -> None:
    async with open_pool("host=db", max_size=2, backoff_min=1, backoff_max=1) as pool, trio.open_nursery() as nursery:
        lent = trio.Event()

        async def lend(pool: Pool) -> None:
            async with pool.connection():
                lent.set()
                await trio.sleep(0.5)

        nursery.start_soon(lend, pool)
        await lent.wait()
        server.down = True
        async with pool.connection():
            assert trio.current_time() == 1.0
        assert server.dialed_at == [0.0, 0.0]


async def test_a_cancelled_dial_gives_its_slot_back(server: FakeServer, autojump_clock: MockClock) -> None:
    server.dial_time = 60
    async with open_pool("host=db", max_size=1) as pool:
        await expect_timeout(pool, timeout=2)
        assert pool.statistics().in_use == 0


async def test_a_closed_pool_refuses_newcomers_and_who_waits(server: FakeServer, autojump_clock: MockClock) -> None:
    async def expect_closed(pool: Pool) -> None:
        with pytest.raises(PoolClosed):
            async with pool.connection():
                pass

    pool = open_pool("host=db", max_size=1)
    await expect_closed(pool)
    async with trio.open_nursery() as nursery:
        async with pool:
            lent = pool.connection()
            await lent.__aenter__()
            nursery.start_soon(expect_closed, pool)
            await trio.testing.wait_all_tasks_blocked()
            assert pool.statistics().waiting == 1
        await lent.__aexit__(None, None, None)


async def test_lifetimes_are_spread(
    server: FakeServer, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    chances = iter([0.0, 1.0])
    monkeypatch.setattr("hermes.store.postgres.pool.random.random", lambda: next(chances))
    async with open_pool("host=db", max_size=2, max_lifetime=100, check_after=1000) as pool:
        async with pool.connection(), pool.connection():
            await trio.sleep(95)
        # The one that was to live for 90 s is closed at its return; the other one goes on to 100 s.
        assert (pool.statistics().idle, pool.statistics().retired) == (1, 1)


@pytest.mark.parametrize(
    ("error", "dialed_anew"),
    [
        (errors.UniqueViolation, 0),
        (errors.UndefinedTable, 0),
        (errors.LockNotAvailable, 0),
        (errors.DiskFull, 0),
        (errors.InvalidSqlStatementName, 1),  # a prepared statement that the session does not know
        (OperationalError, 1),
        (errors.ReadOnlySqlTransaction, 3),  # a standby since a failover: the idle ones lead there too
        (errors.AdminShutdown, 3),
    ],
)
async def test_connections_that_are_at_fault_are_not_lent_again(
    server: FakeServer, autojump_clock: MockClock, error: type[Error], dialed_anew: int
) -> None:
    async def borrow_three(pool: Pool) -> None:
        async with pool.connection(), pool.connection(), pool.connection():
            pass

    async with open_pool("host=db", max_size=3) as pool:
        await borrow_three(pool)
        with pytest.raises(error):
            async with pool.connection():
                raise error("as the server says")
        assert pool.statistics().discarded == dialed_anew
        await borrow_three(pool)
        assert len(server.dialed_at) == 3 + dialed_anew
