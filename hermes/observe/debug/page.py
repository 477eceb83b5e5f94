"""Renders the page at ``/debug/pprof/``: each profile in one sentence, with links that work as they are.

Invariant: plain HTML without scripts; links are relative, so that the page works behind a prefix.
"""

from __future__ import annotations

import html
from typing import NamedTuple


class Link(NamedTuple):
    """A link of the page: its target, relative to the page, and its text."""

    href: str
    words: str


class Section(NamedTuple):
    """One kind of profile: its name, a sentence about it, and links to its formats."""

    name: str
    about: str
    links: tuple[Link, ...]


SECTIONS = (
    Section(
        "profile",
        "Where CPU time goes, on all threads and in all tasks. ?seconds= (30), ?hz= (100), ?format=.",
        (
            Link("profile?seconds=10", "10 s for go tool pprof"),
            Link("profile?seconds=10&format=speedscope", "for speedscope.app"),
            Link("profile?seconds=10&format=folded", "folded stacks"),
        ),
    ),
    Section(
        "goroutine",
        "The Trio task tree (also under tasks): where each task waits, in which nursery, under which deadline.",
        (
            Link("goroutine?debug=2", "the tree"),
            Link("goroutine?debug=1", "tasks counted by where they wait"),
            Link("goroutine?format=json", "JSON"),
            Link("goroutine", "for go tool pprof"),
        ),
    ),
    Section(
        "block",
        "What keeps the run loop busy: task steps that took longer than ?threshold_ms= (10) within ?seconds= (10).",
        (
            Link("block?debug=1", "watch for 10 s"),
            Link("block?format=json", "JSON"),
            Link("block", "for go tool pprof"),
        ),
    ),
    Section(
        "heap",
        "What was allocated within ?seconds= (10) and is still alive, by line. The process is slower meanwhile.",
        (Link("heap?debug=1", "trace for 10 s"), Link("heap", "for go tool pprof")),
    ),
    Section(
        "memory",
        "How large the process is: resident memory, the garbage collector, live objects by type. Immediate.",
        (Link("memory", "text"), Link("memory?format=json", "JSON")),
    ),
)

# In the page itself: the debug address serves no files.
_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:52rem;margin:2rem auto;padding:0 1rem}"
    "dt{font-weight:600}dd{margin:0 0 1rem}"
)


def render(tasks: int) -> str:
    """Return the page. ``tasks`` is the present number of Trio tasks."""
    sections = "\n".join(_section(section) for section in SECTIONS)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>hermes: /debug/pprof/</title>'
        f"<style>{_STYLE}</style></head>\n<body><h1>/debug/pprof/</h1>\n"
        f"<p>{tasks:,} Trio tasks. Each profile runs only while it is asked for.</p>\n"
        f"<dl>\n{sections}\n</dl></body></html>\n"
    )


def _section(section: Section) -> str:
    # Escaped although the texts are constants: they hold ampersands.
    links = " · ".join(f'<a href="{html.escape(link.href)}">{html.escape(link.words)}</a>' for link in section.links)
    return f"<dt>{html.escape(section.name)}</dt><dd>{html.escape(section.about)}<br>{links}</dd>"
