"""The errors of a body's content coding."""

from __future__ import annotations


class ContentError(Exception):
    """The body is not in the coding that its Content-Encoding names."""


class ContentTooLarge(Exception):
    """The decoded body passes the limit, or the items of the body do; then the message names the limit."""
