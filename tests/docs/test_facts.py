"""What the documents name exists: settings, metrics, alerts; and what Hermes complains about is explained."""

from __future__ import annotations

import ast
import configparser
import json
import re
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from hermes.config.notation import parse_duration
from hermes.net.settings import HttpSettings
from tests.docs.test_documents import DOCUMENTS, ROOT, name_of
from tests.perf import reference
from tests.perf.__main__ import plan

GENERATED = {
    "docs/reference/settings.md",
    "docs/reference/metrics.md",
    "docs/reference/cli.md",
    "docs/reference/api.md",
}
WRITTEN = [document for document in DOCUMENTS if name_of(document) not in GENERATED]

NO_SETTINGS = {
    "API_KEY",  # a mistake, on purpose
    "HERMES_ADMIN_KEY",  # of the commands that ask a running Hermes
    "HERMES_PORT",  # of compose
    "NAME_FILE",  # stands for any
    "PIP_CONSTRAINT",
    "POSTGRES_PASSWORD",  # of compose
    "QUEUE_SIZ",  # a mistake, on purpose
    "SASL_SSL",
    "YOUR_KEY",
}
OTHERS = ("AWS_", "GF_", "OTEL_", "SINK_LINES_")  # the last are those of the sink that the how-to writes


def settings() -> set[str]:
    """Every variable of the reference."""
    table = (ROOT / "docs/reference/settings.md").read_text()
    return set(re.findall(r"^\| `([A-Z][A-Z0-9_<>]*)` \|", table, re.M))


@pytest.mark.parametrize("document", WRITTEN, ids=name_of)
def test_every_setting_that_is_named_exists(document: Path) -> None:
    known = settings()
    of_sinks = {name.split("_", 2)[2] for name in known if name.startswith("SINK_")}
    unknown = set()
    for name in re.findall(r"(?<![\w{])[A-Z][A-Z0-9]*_(?:[A-Z0-9_]|<NAME>_)+(?![\w:])", document.read_text()):
        plain = name.removesuffix("_FILE")
        if plain.startswith("SINK_") and plain.split("_", 2)[2] in of_sinks:
            continue
        if not (plain in known or name in NO_SETTINGS or plain.startswith(OTHERS) or plain.endswith("_")):
            unknown.add(name)
    assert unknown == set()


@pytest.mark.parametrize("document", WRITTEN, ids=name_of)
def test_every_metric_that_is_named_exists(document: Path) -> None:
    known = set(re.findall(r"^\| `(hermes_\w+)", (ROOT / "docs/reference/metrics.md").read_text(), re.M))
    named = set(
        re.findall(r"\bhermes_\w+(?:_total|_events|_state|_bytes|_seconds|_length|_requests)\b", document.read_text())
    )
    assert named <= known


@pytest.mark.parametrize("document", WRITTEN, ids=name_of)
def test_every_alert_that_is_named_exists(document: Path) -> None:
    known = set(re.findall(r"alert: (\w+)", (ROOT / "k8s/hermes/rules/hermes.yaml").read_text()))
    assert set(re.findall(r"`(Hermes[A-Z]\w+)`", document.read_text())) <= known


def test_the_figures_are_those_of_the_committed_run() -> None:
    run = reference.load()
    assert reference.between(reference.FIGURES.read_text()) == reference.figures(run), "run scripts/figures"
    assert reference.between(reference.COMPARISON.read_text()) == reference.comparison(run), "run scripts/figures"
    assert not run["quick"]
    assert set(run["measurements"]) == set(plan(quick=False)), "a run of make bench with all its rows is to be adopted"


def complaints() -> Iterator[str]:
    """The event of every log line at the level of a warning or an error."""
    for folder in ("hermes", "sinks"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text())):
                if (
                    isinstance(node, ast.Call)
                    and isinstance(node.func, ast.Attribute)
                    and node.func.attr in ("warning", "error", "critical", "warn", "report_bug")
                    and node.args
                    and isinstance(node.args[0], ast.Constant)
                    and isinstance(node.args[0].value, str)
                ):
                    yield node.args[0].value


def test_whatever_hermes_complains_about_is_explained() -> None:
    page = " ".join((ROOT / "docs/how-to/recover.md").read_text().split())
    found = list(complaints())
    assert len(found) > 20
    assert [words for words in found if words not in page] == []


@pytest.mark.parametrize("document", WRITTEN, ids=name_of)
def test_files_to_copy_can_be_read(document: Path) -> None:
    readers: dict[str, Callable[[str], object]] = {
        "yaml": yaml.safe_load,
        "toml": tomllib.loads,
        "json": json.loads,
        "ini": configparser_of,
    }
    for language, text in re.findall(r"^```(yaml|toml|json|ini)\n(.*?)^```", document.read_text(), re.M | re.S):
        assert readers[language](text) is not None


def configparser_of(text: str) -> list[str]:
    """A unit of systemd, where a name may stand more than once."""
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(text)
    return parser.sections()


def test_the_unit_of_the_how_to_has_what_its_words_say() -> None:
    text = (ROOT / "docs/how-to/deploy.md").read_text()
    (unit,) = re.findall(r"^```ini\n(.*?)^```", text, re.M | re.S)
    variables = dict(
        word.split("=", 1) for line in re.findall(r"^Environment=(.*)$", unit, re.M) for word in line.split()
    )
    limits = dict(re.findall(r"^(TimeoutStopSec|LimitNOFILE)=(\d+)", unit, re.M))
    names = {name.removesuffix("_FILE") for name in variables}
    assert names <= settings()
    assert int(limits["TimeoutStopSec"]) > parse_duration(variables["SHUTDOWN_TIMEOUT"])
    assert int(limits["LimitNOFILE"]) > HttpSettings().max_connections
