"""The token buckets of topics: how many messages may be delivered now. Pure.

Buckets are memory of the process: they are full after a start, and the log does not know them.
"""

from __future__ import annotations

import math

from hermes.broker.machine.topic import Limits


class TokenBucket:
    """A bucket that is full on its first use, and refills continuously.

    Rates are in thousandths of a message a second, times in milliseconds.

    >>> bucket = TokenBucket(rate_milli=1000, burst=1, now_ms=0)
    >>> bucket.take(10, 0), bucket.take(10, 0), bucket.retry_after_ms(0)
    (1, 0, 1000)
    >>> bucket.take(10, 1000)
    1
    """

    __slots__ = ("_at_ms", "_capacity", "_rate", "_tokens")

    def __init__(self, rate_milli: int, burst: int, now_ms: float) -> None:
        self._rate = rate_milli / 1_000_000  # tokens a millisecond
        # HermesMQ's rule. With 0 no message would ever be delivered.
        self._capacity = float(max(1, burst))
        self._tokens = self._capacity
        self._at_ms = now_ms

    def change(self, rate_milli: int, burst: int, now_ms: float) -> None:
        """Take on another limit; the tokens stay, capped to the new burst."""
        # First, for the time until now counts by the old rate.
        self._refill(now_ms)
        self._rate = rate_milli / 1_000_000
        self._capacity = float(max(1, burst))
        self._tokens = min(self._tokens, self._capacity)

    def take(self, wanted: int, now_ms: float) -> int:
        """Take up to ``wanted`` tokens, and return how many."""
        self._refill(now_ms)
        granted = min(math.floor(self._tokens), wanted)
        self._tokens -= granted
        return granted

    def give_back(self, tokens: int) -> None:
        """Put back tokens that were not needed."""
        # The burst may be lower than at the grant.
        self._tokens = min(self._tokens + tokens, self._capacity)

    def retry_after_ms(self, now_ms: float) -> int:
        """The milliseconds until one token is there."""
        self._refill(now_ms)
        # Rounded up, so that a client that waits so long finds the token.
        return max(0, math.ceil((1 - self._tokens) / self._rate)) if self._rate else 0

    def _refill(self, now_ms: float) -> None:
        # A clock that goes back takes no tokens away.
        if now_ms > self._at_ms:
            self._tokens = min(self._tokens + (now_ms - self._at_ms) * self._rate, self._capacity)
            self._at_ms = now_ms


class RateLimits:
    """The bucket of every topic that has a limit.

    >>> limits = RateLimits()
    >>> limits.grant("orders", Limits(rate_milli=1000, burst=2), 10, now_ms=0)
    2
    >>> limits.grant("orders", Limits(rate_milli=1000, burst=2), 10, now_ms=0), limits.retry_after_ms("orders", 0)
    (0, 1000)
    """

    def __init__(self) -> None:
        self._buckets: dict[str, TokenBucket] = {}

    def grant(self, topic: str, limits: Limits | None, wanted: int, now_ms: int) -> int:
        """Take tokens for up to ``wanted`` messages; ``limits`` is None for a topic that does not exist."""
        if limits is None or not limits.rate_milli:
            # Full again, if the topic ever has a limit again.
            self._buckets.pop(topic, None)
            return wanted
        bucket = self._buckets.get(topic)
        if bucket is None:
            bucket = self._buckets[topic] = TokenBucket(limits.rate_milli, limits.burst, now_ms)
        else:
            # The limit in the state may be another one since the last grant.
            bucket.change(limits.rate_milli, limits.burst, now_ms)
        return bucket.take(wanted, now_ms)

    def give_back(self, topic: str, tokens: int) -> None:
        """Put back tokens of messages that were not delivered."""
        if (bucket := self._buckets.get(topic)) is not None:
            bucket.give_back(tokens)

    def retry_after_ms(self, topic: str, now_ms: int) -> int:
        """The milliseconds until the topic has a token; 0 without a limit."""
        bucket = self._buckets.get(topic)
        return 0 if bucket is None else bucket.retry_after_ms(now_ms)
