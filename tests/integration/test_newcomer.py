"""The path of somebody new: the checkout is cloned, and the commands of README.md and docs/tutorial.md are typed in it.

`make run` is the real one, in a clean folder, but it does not install: it finds an environment that has the packages
of the one that runs the tests, and Hermes from the clone alone. That it would install is seen in what make says.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
import venv
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.docs.samples import Block, Command, blocks, fits
from tests.docs.test_documents import ROOT
from tests.docs.test_samples import runs
from tests.integration.terminal import Terminal

START_SECONDS = 20.0
STOP_SECONDS = 20.0
LOOK_SECONDS = 0.05
NEVER_OURS = shutil.ignore_patterns(".git", ".venv*", ".*cache", "hermes-data", "bench-results", "__pycache__")


class Newcomer:
    """Somebody with two terminals in ``folder``: the service runs in one, the other is ``terminal``."""

    def __init__(self, folder: Path, home: Path) -> None:
        self.folder = folder
        self._environ = {"PATH": os.environ["PATH"], "HOME": str(home), "LANG": "C.UTF-8"}
        self.terminal = Terminal(folder, self._environ)
        self._make: subprocess.Popen[bytes] | None = None
        self._log = home / "log"

    def follow(self, block: Block) -> None:
        """Type every command of a block, `make run` in the terminal for it."""
        for command in block.commands:
            if "make run" in command.text:
                self.start(command)
            else:
                self.terminal.type(command)

    def start(self, command: Command) -> None:
        """Type a `make run`, and read what it prints; one that runs is stopped before."""
        if self._make is not None:
            self.stop()
        with self._log.open("wb") as log:
            self._make = subprocess.Popen(
                ["bash", "-c", f"exec {command.text}" if command.text.startswith("make") else command.text],
                cwd=self.folder,
                env=self._environ | {"HTTP_ADDR": "127.0.0.1:0", "ADMIN_ADDR": "127.0.0.1:0"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        end = time.monotonic() + START_SECONDS
        while not (found := re.search(r"Hermes listens on (\S+)\n(?s:.*)See:  (\S+)/\n\n", self.log)):
            assert self._make.poll() is None, self.log
            assert time.monotonic() < end, self.log
            time.sleep(LOOK_SECONDS)
        self.terminal.meet(found[1], found[2])
        assert fits(command, self.terminal.as_on_the_page(self.log)), self.log

    def stop(self) -> None:
        """Stop it as an orchestrator does; make says how it ended."""
        assert self._make is not None
        os.kill(self._pid_of_hermes(), signal.SIGTERM)
        assert self._make.wait(STOP_SECONDS) == 0, self.log
        self._make = None

    def kill(self) -> None:
        if self._make is not None:
            os.kill(self._pid_of_hermes(), signal.SIGKILL)
            self._make.wait(STOP_SECONDS)

    @property
    def log(self) -> str:
        return self._log.read_text()

    def _pid_of_hermes(self) -> int:
        assert self._make is not None
        pid = self._make.pid
        while children := Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            pid = int(children[0])
        return pid


@pytest.fixture
def newcomer(tmp_path: Path) -> Iterator[Newcomer]:
    """A newcomer with a clean checkout."""
    home, folder = tmp_path / "home", tmp_path / "checkout"
    home.mkdir()
    _clone(folder, home)
    _make_environment(folder)
    newcomer = Newcomer(folder, home)
    yield newcomer
    newcomer.kill()


def _clone(folder: Path, home: Path) -> None:
    """What is committed; where there is no repository, the files."""
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        shutil.copytree(ROOT, folder, ignore=NEVER_OURS)
        return
    (home / ".gitconfig").write_text("[safe]\n\tdirectory = *\n")  # whoever owns the checkout
    environ = {"PATH": os.environ["PATH"], "HOME": str(home)}
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(folder)], env=environ, check=True, capture_output=True)


def _make_environment(folder: Path) -> None:
    """An environment as `make run` leaves one, with the packages of this one; Hermes itself is the clone's."""
    dry_run = ["make", "-n", "run"]
    environ = {"PATH": os.environ["PATH"]}
    would = subprocess.run(dry_run, cwd=folder, env=environ, capture_output=True, text=True, check=True).stdout
    assert 'scripts/make-venv "python3" ".venv" all' in would
    environment = folder / ".venv"
    venv.create(environment, symlinks=True)
    (packages,) = environment.glob("lib/python*/site-packages")
    ours = [path for path in sys.path if Path(path).name in ("site-packages", "dist-packages")]
    # A path file brings no path files along, so that the package of this checkout is not found.
    (packages / "those-of-the-tests.pth").write_text("\n".join([str(folder), str(folder / "sinks"), *ours]))
    script = environment / "bin/hermes"
    script.write_text(f"#!{environment}/bin/python\nimport sys\n\nfrom hermes.cli import main\n\nsys.exit(main())\n")
    script.chmod(0o755)
    (environment / ".run").touch()


def test_the_commands_of_the_readme_do_what_it_says(newcomer: Newcomer) -> None:
    first, second, *_ = blocks(newcomer.folder / "README.md")
    run, test = first.lines
    assert test.startswith("make test ")  # which is what runs this
    assert run.startswith("make run ")
    newcomer.start(Command(run))
    (curl,) = second.commands
    newcomer.terminal.type(curl)
    dashboard = newcomer.terminal.environ["ADMIN_ADDR"]
    page = httpx.get(f"http://{dashboard}/", headers={"Accept": "text/html"})
    assert (page.status_code, "<title>" in page.text) == (200, True)
    newcomer.stop()
    newcomer.start(Command(run))
    kept = Command("sqlite3 hermes-data/events.db 'SELECT id, payload FROM events'", ['1|{"title":"Alive"}'])
    newcomer.terminal.type(kept)
    newcomer.stop()


def test_the_tutorial_can_be_followed(newcomer: Newcomer) -> None:
    for block in filter(runs, blocks(newcomer.folder / "docs/tutorial.md")):
        newcomer.follow(block)
    newcomer.stop()
    assert "Traceback" not in newcomer.log
