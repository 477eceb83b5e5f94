"""Decides which node is asked, how often, and how long a retry waits. Pure.

Invariant: a call is tried at most max(3, 3 × nodes) times; its pauses double from 50 ms to at most 500 ms.
"""

from __future__ import annotations

from collections.abc import Sequence

from hermes.client.message import Node


def pause_after(failures: int, *, longest: float = 0.5) -> float:
    """Return the seconds to wait after so many failures in a row.

    >>> [pause_after(failures) for failures in (1, 2, 3, 4, 5, 99)]
    [0.05, 0.1, 0.2, 0.4, 0.5, 0.5]
    """
    # The exponent is bounded: a subscription may fail for days.
    return float(min(longest, 0.05 * 2 ** min(failures - 1, 30)))


class Routing:
    """The nodes, and the one that is presumed to lead.

    >>> routing = Routing([Node("a:1", "a:2"), Node("b:1", "b:2")])
    >>> routing.redirect(routing.node, "b:2")
    >>> routing.node.address
    'b:1'
    >>> routing.failed(routing.node)
    >>> routing.node.address
    'a:1'
    """

    def __init__(self, nodes: Sequence[Node]) -> None:
        if not nodes:
            raise ValueError("connect() needs the address of at least one node")
        self.nodes = tuple(nodes)
        # As often as HermesMQ's own client.
        self.attempts = max(3, 3 * len(self.nodes))
        self._current = 0

    @property
    def node(self) -> Node:
        """The node that is presumed to lead."""
        return self.nodes[self._current]

    def failed(self, node: Node) -> None:
        """Note that a node did not answer: the next one is presumed to lead."""
        # A call that failed earlier on another node must not move the others away from the leader.
        if node == self.node:
            self._current = (self._current + 1) % len(self.nodes)

    def redirect(self, node: Node, peer_address: str) -> None:
        """Note that a node does not lead, and the peer address that the node names, empty for no known leader."""
        for index, other in enumerate(self.nodes):
            # The broker knows the other nodes by the addresses of the bootstrap, and not by those for clients.
            if peer_address and other.peer_address == peer_address:
                self._current = index
                return
        # No leader is known, or one that the caller did not name: the next node may know more.
        self.failed(node)

    def answered(self, node: Node) -> None:
        """Note that a node answered a request otherwise than by a redirect, and is presumed to lead."""
        self._current = self.nodes.index(node)
