"""The errors of a body's content coding."""

from __future__ import annotations

DAMAGED = "its bytes are damaged, or of another coding; send it again, or leave Content-Encoding out if it is plain"
"""What is wrong with a body that a library of codings cannot read: its own words name functions and numbers."""


class ContentError(Exception):
    """The body is not in the coding that its Content-Encoding names."""


class ContentTooLarge(Exception):
    """The decoded body passes the limit, or the items of the body do; then the message names the limit."""
