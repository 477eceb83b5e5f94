"""The settings in the chart: they are those that Hermes declares, and the schema takes nothing that Hermes refuses."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import json
import sys
from types import ModuleType
from typing import Any

import pytest
from jsonschema import Draft7Validator

from hermes.configuration import describe_service
from tests.deploy.helm import CHART, ROOT, Helm


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    """The script, as a module; compiled, it would leave a folder among the scripts."""
    path = str(ROOT / "scripts" / "helm-values")
    loader = importlib.machinery.SourceFileLoader("helm_values", path)
    spec = importlib.util.spec_from_loader("helm_values", loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "dont_write_bytecode", True)
        loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(CHART.joinpath("values.schema.json").read_text())
    return found


def test_the_chart_has_what_the_settings_declare(generator: ModuleType) -> None:
    generator.main(["--check"])


def test_a_chart_that_has_fallen_behind_is_noticed(generator: ModuleType, tmp_path: Any, monkeypatch: Any) -> None:
    tmp_path.joinpath("files").mkdir()
    for name in ("values.yaml", "values.schema.json", "files/secret-settings.txt"):
        tmp_path.joinpath(name).write_text(CHART.joinpath(name).read_text().replace("QUEUE_SIZE", "QUEUE_LENGTH"))
    monkeypatch.setattr(generator, "CHART", tmp_path)
    with pytest.raises(SystemExit, match=r"values\.yaml, values\.schema\.json.* scripts/helm-values --write"):
        generator.main(["--check"])
    generator.main(["--write"])
    generator.main(["--check"])
    assert tmp_path.joinpath("values.yaml").read_text() == CHART.joinpath("values.yaml").read_text()


def test_every_variable_is_a_setting_a_secret_or_the_charts_own(generator: ModuleType, schema: Any) -> None:
    declared = {variable.name: variable for variable in describe_service()}
    settings, secrets = (set(schema["properties"][part]["properties"]) for part in ("settings", "secrets"))
    assert settings | secrets | set(generator.OWNED) == set(declared)
    assert secrets == {name for name, variable in declared.items() if variable.secret}
    assert not settings & secrets


def test_the_defaults_are_hermess_own(helm: Helm) -> None:
    environment = helm.render().environment()
    owned = {"HTTP_ADDR", "HERMES_DATA_DIR"}
    for variable in describe_service():
        if variable.name in environment and variable.name not in owned:
            assert variable.read(environment[variable.name]) == variable.default


TEXTS: list[Any] = [
    "", " ", "0", "1", "-1", "1.5", "1s", "0s", "100ms", "1m30s", "1.5h", ".5s", "5.s", "1d", "s", "1 s", "1µs", "1ns",
    "10MiB", "10 MiB", "10mib", "10Mi", "1KB", "1kb", "1B", "0GiB", "off", "on", "yes", "true", "false",
    "*", "a", "a,b", "a, b", "a,,b", "a b", "*,a", "a" * 64, "a" * 65, "line\nline",
    "strict", "block", "STRICT", "debug", "json", "auto", 0, 1, -1, 4096, 4097, 10**12, 1.5, True, False,
]  # fmt: skip


def test_what_the_schema_takes_hermes_takes(schema: Any) -> None:
    """The schema may be stricter than Hermes, but what it lets pass does not keep the pod from starting."""
    taken = 0
    for variable in describe_service():
        rule = schema["properties"]["settings"]["properties"].get(variable.name)
        for value in TEXTS if rule else ():
            text = str(value).lower() if isinstance(value, bool) else str(value)
            if text and Draft7Validator(rule).is_valid(value):
                variable.read(text)
                taken += 1
    assert taken > 100


def test_a_notation_that_the_chart_does_not_know_is_an_error(generator: ModuleType, monkeypatch: Any) -> None:
    monkeypatch.setattr(generator, "PATTERNS", {})
    with pytest.raises(SystemExit, match="has no pattern for its notation"):
        generator.main(["--check"])
