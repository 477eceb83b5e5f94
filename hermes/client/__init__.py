"""The Python client of the broker, on Trio; ``hermes.client.sync`` has the same for scripts without Trio.

| file | its idea |
|---|---|
| ``errors`` | the errors of a call, and who acts |
| ``message`` | messages, nodes and statistics as the client shows them |
| ``routing`` | which node is asked, and how long a retry waits; pure |
| ``connection`` | one connection: requests out, answers in |
| ``pool`` | connections that wait for the next call |
| ``producing`` | the pipelined produces, in one task |
| ``subscription`` | messages that the broker pushes |
| ``client`` | the calls |
| ``sync`` | the calls, for programs without Trio |
| ``http`` | the calls over HTTP, with those that the protocol lacks |

::

    async with connect(["127.0.0.1:7600"]) as client:
        await client.create_topic("orders")
        offset = await client.produce("orders", {"id": 1})
"""

from hermes.client.client import Client, connect
from hermes.client.connection import dial_tls
from hermes.client.errors import (
    BadRequest,
    BrokerError,
    LeaseGone,
    PayloadTooLarge,
    RateLimited,
    Rejected,
    Unauthorized,
    Unavailable,
)
from hermes.client.message import Message, Node, Stats
from hermes.client.subscription import Subscription

__all__ = [
    "BadRequest",
    "BrokerError",
    "Client",
    "LeaseGone",
    "Message",
    "Node",
    "PayloadTooLarge",
    "RateLimited",
    "Rejected",
    "Stats",
    "Subscription",
    "Unauthorized",
    "Unavailable",
    "connect",
    "dial_tls",
]
