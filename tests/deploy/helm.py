"""Helm for the tests: the chart rendered and linted by the real thing, as the library of ``helm-python-sdk``.

It is Go, with threads and signal handlers of its own, so it lives in a child process: run as a program, this file is
that child. It answers one line of JSON with another.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml

from tests.needs import lacks

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "k8s" / "hermes"
RECIPES = {path.stem: path for path in sorted(ROOT.joinpath("k8s/recipes").glob("*.yaml"))}


class Refused(Exception):
    """Helm does not render these values; the text is what it says."""


class Helm:
    """The child: one request at a time."""

    def __init__(self, child: subprocess.Popen[str]) -> None:
        self._child = child
        self._rendered: dict[str, dict[str, str]] = {}

    def render(self, values: dict[str, Any] | None = None, name: str = "demo") -> Manifests:
        """Everything that an installation in the namespace ``events`` would make. Raises `Refused`."""
        key = json.dumps([values or {}, name])
        if key not in self._rendered:
            self._rendered[key] = self._ask({"do": "render", "values": values or {}, "name": name})
        return Manifests(dict(self._rendered[key]))

    def lint(self, values: dict[str, Any] | None = None) -> list[str]:
        """What ``helm lint --strict`` finds to be wrong."""
        errors: list[str] = self._ask({"do": "lint", "values": values or {}})
        return errors

    def _ask(self, request: dict[str, Any]) -> Any:
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        self._child.stdin.write(json.dumps(request) + "\n")
        self._child.stdin.flush()
        answer = json.loads(self._child.stdout.readline())
        if "error" in answer:
            raise Refused(answer["error"])
        return answer["result"]


class Manifests:
    """What was rendered: the notes, and the objects."""

    def __init__(self, texts: dict[str, str]) -> None:
        self.notes = texts.pop("hermes/templates/NOTES.txt")
        documents = [document for text in texts.values() for document in yaml.load_all(text, yaml.CSafeLoader)]
        self.objects: list[dict[str, Any]] = [document for document in documents if document]

    def kinds(self) -> set[str]:
        return {each["kind"] for each in self.objects}

    def one(self, kind: str, name: str | None = None) -> dict[str, Any]:
        (found,) = [each for each in self.objects if each["kind"] == kind and name in (None, each["metadata"]["name"])]
        return found

    def workload(self) -> dict[str, Any]:
        (found,) = [each for each in self.objects if each["kind"] in ("Deployment", "StatefulSet")]
        return found

    def pod(self) -> dict[str, Any]:
        spec: dict[str, Any] = self.workload()["spec"]["template"]["spec"]
        return spec

    def environment(self) -> dict[str, str]:
        data: dict[str, str] = self.one("ConfigMap", "demo-hermes")["data"]
        return data


@contextmanager
def open_helm() -> Iterator[Helm]:
    """Start the child. Skips where the library is not to be had, but never under CI=true."""
    if find_spec("helm_python") is None:
        lacks("helm-python-sdk is not installed; see the extra `test`")
    command = [sys.executable, "-m", "tests.deploy.helm"]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        yield Helm(child)
        assert child.stdin is not None
        child.stdin.close()


def main() -> None:
    import helm_python

    chart = helm_python.Chart.load(CHART)
    for line in sys.stdin:
        request = json.loads(line)
        try:
            if request["do"] == "lint":
                result: Any = helm_python.lint(CHART, request["values"], strict=True)["errors"]
            else:
                result = chart.render(request["values"], name=request["name"], namespace="events")
            answer = {"result": result}
        except helm_python.HelmError as error:
            answer = {"error": str(error)}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
