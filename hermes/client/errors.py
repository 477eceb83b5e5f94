"""The errors of the broker's client, and what to do about each.

Invariant: a call of the client ends with its result or with a `BrokerError`. That another node leads is handled inside.
"""

from __future__ import annotations

from hermes.base.errors import HermesError
from hermes.broker.wire.hermesmq_pb2 import Error


class BrokerError(HermesError):
    """The base of every error of the client."""


class RateLimited(BrokerError):
    """The topic's delivery rate is used up. Poll again after ``retry_after`` seconds."""

    def __init__(self, message: str, retry_after: float) -> None:
        super().__init__(f"{message}: poll again in {retry_after:g} s")
        self.retry_after = retry_after


class PayloadTooLarge(BrokerError):
    """The payload is larger than the broker takes. Send a smaller one, or a reference to the data."""


class Rejected(BrokerError):
    """The broker has no room for another topic. Delete a topic, or raise the broker's limit."""


class LeaseGone(BrokerError):
    """The lease has ended: nothing was done, and the message is delivered again, or was acknowledged by another."""


class Unauthorized(BrokerError):
    """The broker wants another token. Give `connect` the token of the broker's ``--client-token``."""


class BadRequest(BrokerError):
    """The request is wrong, such as a name that is too long. Change the request; a retry fails likewise."""


class Unavailable(BrokerError):
    """No node answered, or none leads. Try later; a produce without ``producer_id`` may be stored all the same."""


def error_of(reply: Error) -> BrokerError:
    """Return the client's error for the broker's.

    >>> error_of(Error(code="rate_limited", message="orders", retry_after_ms=1500))
    RateLimited('orders: poll again in 1.5 s')
    """
    # The protocol leaves the message free, so it may be empty.
    text = reply.message or reply.code
    if reply.code == "rate_limited":
        return RateLimited(text, reply.retry_after_ms / 1000)
    if reply.code == "payload_too_large":
        return PayloadTooLarge(f"{text}: send a smaller payload")
    if reply.code == "rejected":
        return Rejected(f"{text}: delete a topic or raise the broker's limit")
    if reply.code == "unauthorized":
        return Unauthorized(f"{text}: give connect() the broker's client token")
    # A failed bootstrap is the caller's too: the list of nodes lacks the node that was asked.
    if reply.code in {"bad_request", "bootstrap_failed"}:
        return BadRequest(text)
    # The code ``internal``, and codes of a later broker.
    return Unavailable(f"{text}: try later")
