"""The rules of the house that no linter knows: who may open a nursery, what is caught, and that the documents agree."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

from hermes.config import describe
from hermes.configuration import describe_service
from hermes.events.sink import installed_sinks, load_plugin, variable_prefix

ROOT = Path(__file__).resolve().parent.parent
SOURCES = sorted(path for folder in ("hermes", "sinks/hermes_sinks") for path in ROOT.joinpath(folder).rglob("*.py"))

NURSERIES = {
    "hermes/app.py": "the tree of the service",
    "hermes/broker/daemon.py": "the addresses of `hermesmqd`",
    "hermes/client/http.py": "the handlers of messages, and beside each the extensions of its lease",
    "hermes/broker/http/polls.py": "a poll that waits, for one request",
    "hermes/broker/opening.py": "the broker's sequencer and keeper",
    "hermes/broker/running.py": "the burial of dead letters, around the broker",
    "hermes/broker/sequencer.py": "the broker's tick, beside its commits",
    "hermes/broker/tcp/connection.py": "the reader and the writer of a connection, its parked polls",
    "hermes/broker/tcp/server.py": "the connections of the broker's clients",
    "hermes/cli/serve.py": "the service, and the task that obeys signals",
    "hermes/net/control/server.py": "the connections of the control lane",
    "hermes/net/edges.py": "the drains of the addresses, side by side",
    "hermes/events/engine/delivery.py": "the workers of one sink",
    "hermes/events/engine/engine.py": "the event engine: deliveries, intake, upkeep",
    "hermes/net/http/reactor.py": "the lane, and its timer",
    "hermes/net/http/stream.py": "the connections of the fast lane under TLS",
    "hermes/load/client.py": "the load generator's connections",
    "hermes/client/client.py": "the client's produces, the subscriptions and their handlers",
    "hermes/client/producing.py": "one connection's writer beside its reader",
    "hermes/traces/part.py": "the export of spans, around what is traced",
    "hermes/testing/conformance.py": "writes at the same time, against the sink of a plugin's author",
    "hermes/testing/log_concurrency.py": "appends at the same time, against any log",
}
"""Every file that may open a nursery, and for what. A new one is a change of the tree: draw it in the design first."""

SLEEPING_THREADS = {"hermes/cli/top.py", "hermes/observe/debug/block.py"}
"""Files whose ``time.sleep`` runs on a thread of its own, or in a command that has no loop."""


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def nodes(paths: Iterable[Path]) -> Iterator[tuple[Path, ast.AST]]:
    """Every node of the sources, with its file."""
    for path in paths:
        for node in ast.walk(parsed(path)):
            yield path, node


def dotted(node: ast.expr) -> str:
    """``a.b.c`` of an expression, as far as it is one."""
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def calls(path: Path) -> Iterator[str]:
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Call):
            yield dotted(node.func)


def imports(path: Path) -> Iterator[str]:
    """Every module that a file imports, anywhere in it, and every name that it takes from one."""
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def within(module: str, package: str) -> bool:
    return module == package or module.startswith(package + ".")


def test_there_are_sources() -> None:
    assert {"hermes/app.py", "sinks/hermes_sinks/null.py"} <= set(map(name_of, SOURCES))


# Structured concurrency


def test_no_sum_is_read_before_an_await_and_written_after_it() -> None:
    """``total += await call()`` reads ``total`` first, so what another task adds meanwhile is lost."""
    found = [
        f"{name_of(path)}:{node.lineno}"
        for path, node in nodes(SOURCES)
        if isinstance(node, ast.AugAssign)
        and not isinstance(node.target, ast.Name)
        and any(isinstance(part, ast.Await) for part in ast.walk(node.value))
    ]
    assert not found, "await into a name of its own, and add that"


def test_one_module_shields_so_that_a_stop_bounds_all_clean_up() -> None:
    shielding = {
        name_of(path)
        for path, node in nodes(SOURCES)
        if (isinstance(node, ast.keyword) and node.arg == "shield")
        or (isinstance(node, ast.Attribute) and node.attr == "shield" and isinstance(node.ctx, ast.Store))
    }
    assert shielding == {"hermes/base/cleanup.py"}, "use hermes.base.cleanup.clean_up"


def test_nurseries_are_opened_in_the_named_files_and_nowhere_else() -> None:
    opening = {name_of(path) for path in SOURCES if any(call.endswith("open_nursery") for call in calls(path))}
    assert opening == set(NURSERIES)


def keeps_a_nursery(path: Path) -> Iterator[int]:
    """The lines that put a nursery on an object."""
    nurseries = {"nursery"}
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.withitem) and isinstance(node.optional_vars, ast.Name):
            context = node.context_expr
            if isinstance(context, ast.Call) and dotted(context.func).endswith("open_nursery"):
                nurseries.add(node.optional_vars.id)
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            into_object = any(isinstance(target, ast.Attribute | ast.Subscript) for target in targets)
            named_so = any("nursery" in dotted(target) and isinstance(target, ast.Attribute) for target in targets)
            holds = isinstance(node.value, ast.Name) and node.value.id in nurseries
            if (into_object and holds) or named_so:
                yield node.lineno


def test_no_nursery_is_kept_on_an_object() -> None:
    assert not [f"{name_of(path)}:{line}" for path in SOURCES for line in keeps_a_nursery(path)]


def test_nothing_spawns_behind_the_trees_back() -> None:
    forbidden = {"trio.lowlevel.spawn_system_task", "threading.Thread", "threading.Timer", "_thread.start_new_thread"}
    assert not [name_of(path) for path in SOURCES if forbidden & set(calls(path))]


def test_nothing_sleeps_on_the_loop() -> None:
    sleeping = {name_of(path) for path in SOURCES if {"time.sleep", "sleep"} & set(calls(path))}
    assert sleeping == SLEEPING_THREADS


# Size of a class

MOST_ATTRIBUTES = 14
MOST_PARAMETERS = 5


def size_of(cls: ast.ClassDef) -> tuple[int, int]:
    """The attributes that ``__init__`` gives an object, and the parameters that it takes beside ``self``."""
    for function in cls.body:
        if isinstance(function, ast.FunctionDef) and function.name == "__init__":
            stored = {
                node.attr
                for node in ast.walk(function)
                if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and dotted(node.value) == "self"
            }
            arguments = function.args
            return len(stored), len([*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]) - 1
    return 0, 0


def test_a_class_is_small_or_says_why_not() -> None:
    """Its docstring, or a comment where users read that, has ``Attributes: 17, because ...`` or ``Parameters: ...``."""
    for path, node in nodes(SOURCES):
        if not isinstance(node, ast.ClassDef):
            continue
        told = ast.get_source_segment(path.read_text(), node) or ""
        attributes, parameters = size_of(node)
        for kind, count, most in (
            ("Attributes", attributes, MOST_ATTRIBUTES),
            ("Parameters", parameters, MOST_PARAMETERS),
        ):
            reason = re.search(rf"^ *#? ?{kind}: (\d+), because \w.{{20,}}", told, re.M)
            allowed = int(reason[1]) if reason else 0
            assert allowed == (count if count > most else 0), f"{name_of(path)}: {node.name}: {count} {kind}"


# The words of a folder


def test_a_folder_names_each_of_its_files_and_no_file_that_is_gone() -> None:
    for package in (path for path in SOURCES if path.name == "__init__.py"):
        words = ast.get_docstring(ast.parse(package.read_text())) or ""
        there = {path.stem for path in package.parent.glob("*.py")} - {"__init__", "__main__"}
        there |= {path.parent.name for path in package.parent.glob("*/__init__.py")}
        # A small folder says it in a sentence; the interface in the root says it in the documents.
        if len(there) < 4 or package.parent.name == "hermes":
            continue
        rows = re.findall(r"^(?:\||-) (`.*?`)(?: *\||:)", words, re.M)
        listed = set(re.findall(r"`+([a-z_]+)/?`+", " ".join(rows)))
        listed |= set(re.findall(r"`+([a-z_]+)`+", words)) & there
        assert listed == there, f"{name_of(package)}: not named {there - listed}, not there {listed - there}"


# Errors


def broad(kind: ast.expr | None) -> bool:
    kinds = kind.elts if isinstance(kind, ast.Tuple) else [kind]
    return any(each is None or dotted(each) in {"Exception", "BaseException", "trio.Cancelled"} for each in kinds)


def test_a_broad_except_raises_again_or_says_why_not() -> None:
    for path, node in nodes(SOURCES):
        if isinstance(node, ast.ExceptHandler) and broad(node.type) and not isinstance(node.body[-1], ast.Raise):
            # At the end of the line, or alone above it.
            above, line = path.read_text().splitlines()[node.lineno - 2 : node.lineno]
            reason = re.search(r"# (noqa: BLE001 - )?(.{10,})", line) or re.fullmatch(r" *# .{10,}", above)
            assert reason, f"{name_of(path)}:{node.lineno} catches all and neither raises nor says why"


# Imports


def importing(paths: Iterable[Path], *packages: str) -> list[str]:
    """Each import of one of the packages, with its file."""
    return [
        f"{name_of(path)}: {module}"
        for path in paths
        for module in imports(path)
        if any(within(module, package) for package in packages)
    ]


def test_asyncio_is_never_imported() -> None:
    assert not importing(SOURCES, "asyncio", "trio_asyncio", "anyio")


def test_production_never_imports_the_kit_for_tests() -> None:
    production = [path for path in SOURCES if "testing" not in path.parts]
    assert not importing(production, "hermes.testing", "pytest", "hypothesis")


def test_every_module_begins_with_its_header() -> None:
    assert not [name_of(path) for path in SOURCES if not ast.get_docstring(parsed(path))]


# Documents


def declared() -> dict[str, str]:
    """Every variable of the service and of the built-in sinks, with its default (empty where words describe it)."""
    variables = list(describe_service())
    for name, point in installed_sinks().items():
        if point.dist is not None and point.dist.name == "hermes-events":
            variables += describe(load_plugin(point).settings, variable_prefix(name))
    return {variable.name: "" if variable.default_words else variable.default_text for variable in variables}


def settings_table(*arguments: str) -> str:
    command = [sys.executable, str(ROOT / "scripts" / "settings-table"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout.strip()


def test_the_settings_of_the_reference_are_those_of_the_declarations() -> None:
    reference = ROOT.joinpath("docs/reference/settings.md").read_text()
    table = reference.partition("<!-- settings:begin -->")[2].partition("<!-- settings:end -->")[0].strip()
    assert table == settings_table(), "run scripts/settings-table --write"
    assert all(f"`{name}`" in table for name in declared())


def test_the_example_environment_has_every_variable_with_its_default() -> None:
    example = ROOT.joinpath(".env.example").read_text()
    assignments = re.findall(r"^(# ?)?([A-Z][A-Z0-9_]*)=(.*)$", example, re.M)
    names = {name for _, name, _ in assignments}
    missing = declared().keys() - names
    assert not missing, "see scripts/settings-table --env"
    for comment, name, text in assignments:
        if comment and name in declared():
            assert text == declared()[name], f"{name}: what is commented out is the default"
    strangers = names - declared().keys()
    compose = ROOT.joinpath("compose.yaml").read_text()
    assert all(name.startswith("SINK_") or f"${{{name}" in compose for name in strangers)
