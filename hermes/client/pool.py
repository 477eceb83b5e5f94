"""Connections that wait for the next call, at most four a node.

Invariant: a connection is given back only after a whole call; after a fault or a cancelled call it is closed.
"""

from __future__ import annotations

from hermes.broker.wire.hermesmq_pb2 import Request, Response
from hermes.client.connection import Connection, ConnectionLost, Dial, open_connection
from hermes.client.message import Node

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
        return await self._call_on(await self.open(node), node, request, seconds)

    async def _call_on(self, connection: Connection, node: Node, request: Request, seconds: float) -> Response:
        whole = False
        try:
            response = await connection.call(request, seconds)
            whole = True
        finally:
            idle = self._idle.setdefault(node, [])
            if whole and len(idle) < MOST_IDLE:
                idle.append(connection)
            else:
                await connection.close()
        return response

    async def _close_idle(self, node: Node) -> None:
        for connection in self._idle.pop(node, []):
            await connection.close()

    async def close(self) -> None:
        """Close every idle connection."""
        for node in list(self._idle):
            await self._close_idle(node)
