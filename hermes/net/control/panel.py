"""A panel of the dashboard, as a part declares it.

    Panel("jobs", "Jobs", "hermes_jobs", "panel.js")

Invariant: nothing here imports Quart or Trio, so that a part can declare its panel without loading either.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Panel:
    """One section of the page. ``id`` is the section's place in the address, ``title`` its name at the top of the page.

    ``file`` of ``package`` is a JavaScript module. The module exports ``html``, the content of the section (made by
    ``markup`` of ``/dom.js``). A module may export ``begin()``, called once, and ``render(status)``, called every
    second with the answer of ``/status``.

    >>> Panel("jobs", "Jobs", "hermes_jobs", "panel.js").path
    '/panels/jobs.js'
    """

    id: str
    title: str
    package: str
    file: str

    @property
    def path(self) -> str:
        """Where the module is served."""
        return f"/panels/{self.id}.js"
