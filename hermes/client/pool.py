"""Connections that wait for the next call, at most four a node.

Invariant: a connection is given back only after a whole call; after a fault or a cancelled call it is closed.
"""

from __future__ import annotations

from hermes.broker.wire.hermesmq_pb2 import Request, Response
from hermes.client.connection import Connection, ConnectionLost, Dial, open_connection
from hermes.client.message import Node

# As many as HermesMQ's own client keeps.
MOST_IDLE = 4


class Pool:
    """The idle connections of every node, and the way to a new one."""

    def __init__(self, dial: Dial, token: str, answer_seconds: float) -> None:
        self._dial = dial
        self._token = token
        self._idle: dict[Node, list[Connection]] = {}
        self.answer_seconds = answer_seconds

    async def open(self, node: Node) -> Connection:
        """Open a connection that is the caller's own."""
        return await open_connection(self._dial, node.address, self._token, self.answer_seconds)

    async def call(self, node: Node, request: Request, seconds: float) -> Response:
        """Ask a node. A pooled connection that fails is replaced once, so a request can be sent twice."""
        idle = self._idle.setdefault(node, [])
        if idle:
            try:
                return await self._call_on(idle.pop(), node, request, seconds)
            except ConnectionLost:
                # The node may have been started anew: its other idle connections are dead as well.
                await self._close_idle(node)
        # Once: if a fresh connection fails too, the fault is the node's, and the caller counts it as an attempt.
        return await self._call_on(await self.open(node), node, request, seconds)

    async def _call_on(self, connection: Connection, node: Node, request: Request, seconds: float) -> Response:
        whole = False
        try:
            response = await connection.call(request, seconds)
            whole = True
        finally:
            # Looked up again, as `_close_idle` may have taken the list out during the call.
            idle = self._idle.setdefault(node, [])
            if whole and len(idle) < MOST_IDLE:
                idle.append(connection)
            else:
                # The answer of a cancelled call may still come, and the next call would take it for its own.
                await connection.close()
        return response

    async def _close_idle(self, node: Node) -> None:
        # Out of the dict before the first close, during which another call could take a connection.
        for connection in self._idle.pop(node, []):
            await connection.close()

    async def close(self) -> None:
        """Close every idle connection."""
        # A list, since `_close_idle` takes nodes out.
        for node in list(self._idle):
            await self._close_idle(node)
