"""checkov on what the chart renders: what it finds is in the list here, with the reason, or is mended."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.cases import cases
from tests.deploy.helm import ROOT, Helm
from tests.needs import lacks

PODS = {"Deployment", "StatefulSet", "Pod"}

CASES = ["nothing", "memory", *(case for case in cases() if case.startswith("recipe"))]

ALLOWED: dict[tuple[str, str], str] = {
    **{("CKV_K8S_11", kind): "no CPU limit: throttling would stall the event loop" for kind in PODS},
    **{("CKV_K8S_15", kind): "no pull on every start: a tag is a version and stays what it is" for kind in PODS},
    **{
        ("CKV_K8S_43", kind): "no digest by default: the image is built by who installs; image.digest is there"
        for kind in PODS
    },
    ("CKV_K8S_8", "Pod"): "no liveness probe: the pod of `helm test` runs one request",
    ("CKV_K8S_9", "Pod"): "no readiness probe: the pod of `helm test` serves nobody",
    ("CKV2_K8S_6", "Pod"): "no network policy by default: who may connect only the operator knows",
}


@pytest.fixture(scope="module")
def failed(helm: Helm, tmp_path_factory: pytest.TempPathFactory) -> set[tuple[str, str]]:
    """What checkov finds, as check and kind. In a namespace, as an installation is."""
    folder = tmp_path_factory.mktemp("manifests")
    for case in CASES:
        objects = helm.render(cases()[case]).objects
        for each in objects:
            each["metadata"]["namespace"] = "events"
        folder.joinpath(re.sub(r"\W+", "-", case) + ".yaml").write_text(yaml.safe_dump_all(objects))
    command: list[str | Path] = [ROOT / "scripts/run-checkov", "--directory", folder, "--output", "json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=50, check=False)
    if done.returncode == 3:
        lacks(done.stderr.strip())
    report: dict[str, Any] = json.loads(done.stdout)
    assert report["summary"]["parsing_errors"] == 0
    assert report["summary"]["passed"] > 500
    return {(each["check_id"], each["resource"].split(".")[0]) for each in report["results"]["failed_checks"]}


def test_checkov_finds_nothing_that_has_no_reason(failed: set[tuple[str, str]]) -> None:
    assert failed - ALLOWED.keys() == set()


def test_every_reason_is_still_needed(failed: set[tuple[str, str]]) -> None:
    assert ALLOWED.keys() - failed == set()
