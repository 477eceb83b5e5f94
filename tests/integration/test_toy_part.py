"""A part of another distribution is found everywhere where those of Hermes are, without an edit of Hermes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
import trio

from tests.config.distributions import install
from tests.integration.program import Start
from tests.servers.postgres import free_port

TOY = '''
from contextlib import asynccontextmanager
from typing import Annotated

import msgspec
import trio
from prometheus_client.core import GaugeMetricFamily

from hermes.config import about
from hermes.dead_letters import DeadLetter, Source
from hermes.dead_letters.replay import Target
from hermes.dead_letters.view import LetterView
from hermes.net.control.endpoint import Endpoint
from hermes.net.control.openapi.operation import Answer, Operation, Tag
from hermes.net.control.panel import Panel
from hermes.base.errors import ConfigError
from hermes.net.http.head import Route
from hermes.net.http.response import Response
from hermes.part import Command, Part, PartStatus, RunningPart


TOYS = Tag("Toys", "Things to play with.")
KICK = "/toys/{thing}"


class ToySettings(msgspec.Struct, frozen=True):
    toy_port: Annotated[int, about("port where the toy listens", ge=1, le=65535)] = 7
    toy_lost: Annotated[int, about("things that the toy loses", ge=0)] = 0


class ToyStatus(msgspec.Struct):
    """How the toy is."""

    lost: int
    mended: list[str]


class Toy:
    """Echoes what it is sent; its account says how many things are lost."""

    def __init__(self, settings):
        self._settings = settings
        self._listeners = []
        self.mended = []

    def collect(self):
        yield GaugeMetricFamily("toy_lost", "Things that are lost", self._settings.toy_lost)

    @property
    def addresses(self):
        return [("127.0.0.1", self._settings.toy_port)]

    async def serve(self):
        async def echo(stream):
            async for data in stream:
                await stream.send_all(data)

        await trio.serve_tcp(echo, self._settings.toy_port, host="127.0.0.1")

    async def drain(self):
        pass

    def settled(self):
        return not self._settings.toy_lost

    def show(self):
        return {"toy": {"lost": self._settings.toy_lost}}

    async def mend(self, letters):
        self.mended += [letter.facts["thing"] for letter in letters]

    async def throw(self, request):
        return Response(200, request.parameters["thing"].encode(), "text/plain")

    def kick(self, head, body):
        return Response(200, b"%b %d" % (head.parameters["thing"].encode(), len(body)), "text/plain")

    async def list_things(self, request):
        return Response(200, b"[]")


def describe_throw():
    yield Operation(TOYS, "Throw a thing", answers=[Answer(200, "Its name.")])


def check_head(head):
    return None


def no_lines(head):
    return b""


def describe_kick():
    yield Operation(TOYS, "Kick a thing", answers=[Answer(200, "Its name, and how hard.")])


def describe_list():
    yield Operation(TOYS, "List things", answers=[Answer(200, "Every thing.")])


@asynccontextmanager
async def open_toy(settings, core):
    toy = Toy(settings)
    desk = core.needed["dead_letters"]
    box = Source("toy", "attic")
    broken = DeadLetter(box, {"thing": "ball", "cracks": 2}, b"\\xff\\x00", "it leaks", 1, 1700000000.0, 1700000000.0)
    await desk.store.add([broken])
    with desk.replaying_to({box: Target(toy.mend, 10)}):
        yield make_running(toy, settings)


def make_running(toy, settings):
    return RunningPart(
        value=toy,
        endpoints=[
            Endpoint("GET", "/toys/{thing}", toy.throw, describe_throw),
            Endpoint("PUT", KICK, Route(KICK, check_head, toy.kick, no_lines, 100), describe_kick),
            Endpoint("GET", "/toys", toy.list_things, describe_list, "ADMIN_ADDR", "before"),
        ],
        panels=[Panel("toys", "Toys to play with", "toy_files", "panel.js")],
        metrics=[toy],
        listeners=[toy],
        status=PartStatus(ToyStatus, lambda _now, _wall: ToyStatus(settings.toy_lost, toy.mended)),
        settled=toy.settled,
        show=toy.show,
    )


def check(settings, service):
    if settings.toy_lost > 9:
        raise ConfigError(f"TOY_LOST={settings.toy_lost}: nobody loses so much")


TOY = Part(
    "toy",
    "Plays",
    open_toy,
    settings=ToySettings,
    check=check,
    needs=("dead_letters", "events"),
    letters=lambda: LetterView(source="box", titles={"thing": "toy"}),
    commands=(Command("PLAY WITH IT", "toy", "toy_command:play", "Play with the toy."),),
)
'''

PANEL = "export const html = '<p>A ball.</p>';"

COMMAND = '''
import click


@click.command("play")
def play():
    """Play with the toy."""
    click.echo("whee")
'''


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = install(
        tmp_path / "plugins", "hermes-toy", {}, {"toy": TOY, "toy_command": COMMAND}, parts={"toy": "toy:TOY"}
    )
    files = made / "toy_files"
    files.mkdir()
    files.joinpath("__init__.py").touch()
    files.joinpath("panel.js").write_text(PANEL)
    return made


def run(folder: Path, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(folder), "SINKS": "null", **environ}
    command = [sys.executable, "-m", "hermes", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=60)


def test_its_command_is_listed_and_runs(folder: Path) -> None:
    listed = run(folder, "--help")
    assert "PLAY WITH IT" in listed.stdout
    assert "Play with the toy." in listed.stdout
    assert run(folder, "toy").stdout == "whee\n"


def test_its_settings_are_read_and_checked_where_it_is_to_run(folder: Path) -> None:
    shown = run(folder, "config", "check", "--json", PARTS="toy", TOY_PORT="7007")
    assert json.loads(shown.stdout)["TOY_PORT"] == "7007"
    assert "TOY_PORT" not in json.loads(run(folder, "config", "check", "--json").stdout)

    wrong = run(folder, "config", "check", PARTS="toy", TOY_PORT="none", TOY_LOST="10")
    assert wrong.returncode == 2
    assert "TOY_PORT='none': expected a whole number" in wrong.stderr
    assert "TOY_LOST=10: nobody loses so much" in wrong.stderr

    misspelt = run(folder, "config", "check", PARTS="toy", TOY_PROT="7007")
    assert "TOY_PROT has no effect" in misspelt.stderr
    assert "TOY_PORT" in run(folder, "config", "explain", "TOY_PORT").stdout

    unknown = run(folder, "config", "check", PARTS="toi")
    assert unknown.returncode == 2
    assert "PARTS='toi': no such part is installed; did you mean toy?" in unknown.stderr
    assert "serve: 'toi': no such part" in run(folder, "serve", "toi").stderr


@pytest.mark.parametrize(("lost", "code"), [("0", 0), ("3", 1)])
def test_it_runs_beside_the_events_and_its_account_decides_the_exit_code(
    start: Start, folder: Path, tmp_path: Path, lost: str, code: int
) -> None:
    port = free_port()
    program = start(
        "toy",
        PYTHONPATH=str(folder),
        SINKS="null",
        HERMES_DATA_DIR=str(tmp_path / "data"),
        TOY_PORT=str(port),
        TOY_LOST=lost,
    )
    assert f"toy_lost {lost}.0" in httpx.get(f"{program.url}/metrics").text
    assert httpx.get(f"{program.url}/toys/ball").text == "ball"
    assert httpx.put(f"{program.url}/toys/a%20ball", content=b"xxx").text == "a ball 3"
    assert httpx.put(f"{program.url}//toys/ball", content=b"").text == "ball 0", "the control lane answers alike"
    assert httpx.get(f"{program.admin_url}/toys").json() == []
    assert httpx.get(f"{program.admin_url}/panels/toys.js").text == PANEL
    assert "Toys to play with" in httpx.get(f"{program.admin_url}/").text
    assert httpx.get(f"{program.admin_url}/debug/accounting").json()["toy"] == {"lost": int(lost)}
    assert httpx.get(f"{program.admin_url}/status").json()["parts"]["toy"] == {"lost": int(lost), "mended": []}
    assert f"toy: lost {lost}\n" in run(folder, "top", "--once", "--url", program.admin_url).stdout
    described = httpx.get(f"{program.url}/openapi.json").json()["paths"]["/toys/{thing}"]
    assert {"get", "put"} <= described.keys()
    operators = httpx.get(f"{program.admin_url}/openapi.json").json()
    assert "/toys" in operators["paths"]
    assert operators["components"]["schemas"]["ToyStatus"]["description"] == "How the toy is."
    assert trio.run(echoed, port) == b"ball"

    store = {"HERMES_DATA_DIR": str(tmp_path / "data")}
    titles, letter = run(folder, "dlq", "list", **store).stdout.splitlines()
    assert titles.split() == ["number", "rejected", "at", "box", "toy", "cracks", "reason"]
    assert letter.split() == ["1", "2023-11-14", "22:13:20Z", "attic", "ball", "2", "it", "leaks"]
    assert run(folder, "dlq", "list", "--part", "events", **store).stdout == ""
    (shown,) = httpx.get(f"{program.admin_url}/dead-letters?part=toy").json()["letters"]
    assert (shown["source"], shown["facts"], shown["body_base64"]) == ("attic", {"thing": "ball", "cracks": 2}, "/wA=")
    assert httpx.post(f"{program.admin_url}/dead-letters/replay?part=toy").json()["delivered"] == 1
    assert httpx.get(f"{program.admin_url}/status").json()["parts"]["toy"]["mended"] == ["ball"]
    assert program.stop() == code


def test_a_service_runs_without_the_events(start: Start, tmp_path: Path) -> None:
    program = start("dead_letters", HERMES_DATA_DIR=str(tmp_path / "data"))
    assert httpx.get(f"{program.url}/ready").status_code == 200
    assert httpx.get(f"{program.admin_url}/status").json()["parts"].keys() == {"dead_letters"}
    assert httpx.get(f"{program.admin_url}/dead-letters").json()["total"] == 0
    assert httpx.get(f"{program.admin_url}/tap").status_code == 404
    drawn = subprocess.run(
        [sys.executable, "-m", "hermes", "top", "--once", "--url", program.admin_url],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert "process" in drawn.stdout
    assert program.stop() == 0


async def echoed(port: int) -> bytes:
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        await stream.send_all(b"ball")
        return bytes(await stream.receive_some())
