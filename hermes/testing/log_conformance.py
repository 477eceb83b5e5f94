"""The conformance suite for logs: checks a real log against the promises that the event journal relies on.

    async def test_my_log_conforms(tmp_path):
        await check_log(lambda: open_my_log(tmp_path))

Invariant: a log that passes keeps the promises of `hermes.store.log.Log` while its storage works; the behaviour with a
broken storage needs tests of its own. Runs under pytest-trio or any Trio program, without a running Hermes.
"""

from __future__ import annotations

from hermes.testing import log_concurrency, log_lifetime, log_records
from hermes.testing.log_probe import LogProbe, OpenLog


async def check_log(
    open_log: OpenLog,
    *,
    keeps: bool = True,
    shares_commits: bool = True,
    largest_record: int = 10 * 2**20,
    timeout: float = 60.0,
) -> None:
    """Check every promise of `hermes.store.log.Log`. Raises `LogCheckFailed` for the first one that the log breaks.

    ``open_log()`` opens the log, as its plugin does; it is called many times, over the same storage. Records that the
    storage holds already are trimmed. The log's claims:

    - ``keeps``: appended records are there when the log is opened again
    - ``shares_commits``: concurrent appends need fewer commits than there are appends

    ``largest_record`` is in bytes. ``timeout`` is the longest time, in seconds, that any single step may take.

        async def test_my_log_conforms(tmp_path: Path) -> None:
            await check_log(lambda: open_my_log(tmp_path))
    """
    # One probe for all checks; each check opens the log itself, over the same storage.
    probe = LogProbe(open_log, keeps, shares_commits, largest_record, timeout)
    # From simple to hard: the first failure names the simplest broken promise.
    for check in (
        log_records.attributes_are_sane,
        log_records.records_come_back_in_order,
        log_records.reads_keep_their_limits,
        log_records.an_append_of_nothing_is_refused,
        log_records.stale_writers_are_refused,
        log_records.large_records_come_back,
        log_lifetime.what_is_trimmed_is_gone,
        log_lifetime.the_last_snapshot_counts,
        log_lifetime.a_reopened_log_is_as_it_was,
        log_lifetime.a_block_that_fails_loses_nothing,
        log_concurrency.appends_at_the_same_time_stay_whole,
        log_concurrency.of_writers_that_expect_the_same_index_one_wins,
        log_concurrency.appends_and_reads_go_on_during_a_trim,
        log_concurrency.cancelled_appends_are_whole_or_absent,
        log_concurrency.other_cancelled_calls_leave_a_usable_log,
    ):
        await check(probe)
