"""How the broker's dead letters are shown."""

from __future__ import annotations

from hermes.dead_letters.view import LetterView

VIEW = LetterView(
    source="store",
    body="payload",
    titles={"content_type": "content type"},
    listed=("topic", "group", "offset"),
)
