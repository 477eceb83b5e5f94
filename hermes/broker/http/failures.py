"""The failures of a request to the broker, each with the problem details that say what to do."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable

from hermes.base.errors import HermesError
from hermes.broker.http.bodies import WrongBody
from hermes.broker.machine.machine import LeaseGone, Refusal, TooManyGroups, TooManyScheduled, TooManyTopics
from hermes.broker.node import Node
from hermes.net.control.endpoint import Answer, Handler, Request
from hermes.net.http.response import Response, problem

# A new leader is known, or the log works again, within seconds or not for long.
_RETRY = {"Retry-After": "1"}


class NotLeader(Exception):
    """Another node leads, or none."""


class Refused(Exception):
    """The broker refuses a command."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal)
        self.refusal = refusal


class Limited(Exception):
    """The rate of the topic is used up."""

    def __init__(self, retry_after_ms: int) -> None:
        super().__init__(retry_after_ms)
        self.retry_after_ms = retry_after_ms


class NoSuch(Exception):
    """What the path names does not exist; the message says so."""


class TooLarge(Exception):
    """A payload is too large; the message says how large it may be."""


def explained(node: Node, handler: Callable[[Request], Awaitable[Answer]]) -> Handler:
    """The handler, whose failures are answered."""

    async def answer(request: Request) -> Answer:
        try:
            return await handler(request)
        except WrongBody as error:
            return problem(400, str(error))
        except NoSuch as error:
            return problem(404, str(error))
        except TooLarge as error:
            return problem(413, str(error))
        except NotLeader:
            return _not_leader(node)
        except Limited as error:
            seconds = str(math.ceil(error.retry_after_ms / 1000))
            words = f"the rate of the topic is used up for {error.retry_after_ms} ms"
            # The header has whole seconds; a client of ours takes the milliseconds of the body.
            return problem(429, words, {"Retry-After": seconds}, retry_after_ms=error.retry_after_ms)
        except Refused as error:
            # 410 and not 404: the lease has been there, and no repetition brings it back.
            return problem(410 if isinstance(error.refusal, LeaseGone) else 409, words_of(error.refusal))
        # The log's own errors: after one nothing of the command has happened, so the client may send again.
        except HermesError as error:
            return problem(503, f"the broker's log did not take it: {error}; try again", _RETRY)

    return answer


def words_of(refusal: Refusal) -> str:
    """Why the broker refuses a command.

    >>> words_of(TooManyTopics(3))
    'there are 3 topics, and no more may be made: delete one first'
    """
    match refusal:
        case LeaseGone():
            return f"there is no lease {refusal.lease_id} any more: nothing was done"
        case TooManyTopics():
            return f"there are {refusal.most:,} topics, and no more may be made: delete one first"
        case TooManyGroups():
            return f"the topic has {refusal.most:,} groups, and no more may be made"
        case TooManyScheduled():
            return f"{refusal.most:,} messages of the topic wait for their time: no more may"


def _not_leader(node: Node) -> Response:
    address = node.leader_address
    mend = f"ask the node whose peer address is {address}" if address else "no leader is known: try again"
    return problem(503, f"this node does not lead; {mend}", _RETRY, leader_addr=address)
