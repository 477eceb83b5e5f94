"""What can be wrong with a body's coding."""

from __future__ import annotations


class ContentError(Exception):
    """The body is not what its Content-Encoding says."""


class ContentTooLarge(Exception):
    """The decoded body passes the limit, or what is made of it; then the message says so."""
