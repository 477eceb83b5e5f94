"""A sink that can be told to be down, or to refuse events, while ``hermes serve`` runs with it in a process.

It looks into the folder in which the program was started: while there is a file ``down``, it is unavailable, in the
file's words; while there is a file ``stalled``, no write ends; until there is a file ``mended``, it refuses the events
whose payload has a ``refuse``, for that reason.
Installed as a distribution of its own, so that it is found like anybody's.
"""

from __future__ import annotations

from pathlib import Path

from tests.config.distributions import install

_SOURCE = """
    import json
    from contextlib import asynccontextmanager
    from pathlib import Path

    import trio

    from hermes import BatchRejected, SinkUnavailable
    from hermes.config import NoSettings
    from hermes.events.sink import SinkPlugin

    class Moody:
        max_batch = 1000
        concurrency = 1

        async def write(self, batch):
            if Path("down").exists():
                raise SinkUnavailable(Path("down").read_text())
            while Path("stalled").exists():
                await trio.sleep(0.01)
            payloads = [json.loads(bytes(event.payload)) for event in batch]
            refused = {n: payload["refuse"] for n, payload in enumerate(payloads) if "refuse" in payload}
            if refused and not Path("mended").exists():
                raise BatchRejected(refused)

    @asynccontextmanager
    async def open_moody(settings, service):
        yield Moody()

    plugin = SinkPlugin(open_moody, NoSettings, summary="as the test wants it")
"""


class Mood:
    """The sink of the program that was started in ``folder``."""

    def __init__(self, folder: Path, name: str = "moody") -> None:
        self.environ = {"SINKS": name, "PYTHONPATH": str(folder / "plugins")}
        """What the program has to be started with."""
        self._down, self._stalled, self._mended = (folder / mood for mood in ("down", "stalled", "mended"))
        install(folder / "plugins", "moody-sink", {name: "moody_sink:plugin"}, {"moody_sink": _SOURCE})

    @property
    def is_down(self) -> bool:
        return self._down.exists()

    def go_down(self, words: str) -> None:
        """Every write fails from now on, with these words."""
        self._down.write_text(words)

    def come_back(self) -> None:
        """End `go_down`."""
        self._down.unlink(missing_ok=True)

    def stall(self) -> None:
        """No write ends, until `reset`."""
        self._stalled.touch()

    def mend(self) -> None:
        """Nothing is refused any more, until `reset`."""
        self._mended.touch()

    def reset(self) -> None:
        """As it was at first."""
        self.come_back()
        self._mended.unlink(missing_ok=True)
        self._stalled.unlink(missing_ok=True)
