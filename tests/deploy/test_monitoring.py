"""The alerts and the dashboard: they ask for what Hermes exposes, fire when they should, and reach the operator."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import trio
import yaml
from prometheus_client.parser import text_string_to_metric_families

from hermes.events.engine.collectors import DROPPED
from hermes.events.ingest.refusal_counts import REJECTED
from tests.deploy.cases import cases
from tests.deploy.helm import CHART, ROOT, Helm
from tests.needs import lacks
from tests.service import open_service

RULES = CHART / "rules" / "hermes.yaml"
DASHBOARD = json.loads(CHART.joinpath("dashboards/hermes.json").read_text())
TARGET = {"job", "instance"}
"""The labels that Prometheus itself gives to whatever it scrapes."""


@pytest.fixture(scope="module")
def exposed() -> dict[str, set[str]]:
    """Every series that a Hermes which has done everything exposes, with its labels."""

    async def scrape() -> str:
        async with open_service(event_types=("song_played",)) as service:
            return service.running.edges.metrics.expose("")[0].decode()

    text = trio.run(scrape)
    found: dict[str, set[str]] = {"up": set()}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    return found


def alerts() -> list[dict[str, Any]]:
    groups = yaml.safe_load(RULES.read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def panels() -> list[dict[str, Any]]:
    return [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]


def expressions() -> list[str]:
    asked = [rule["expr"] for rule in alerts()]
    asked += [target["expr"] for panel in panels() for target in panel["targets"]]
    asked += [each["expr"] for each in DASHBOARD["annotations"]["list"]]
    return asked


def series(expression: str) -> set[str]:
    without_text = re.sub(r'"[^"]*"', "", expression)
    return set(re.findall(r"\b(?:hermes|process|python)_\w+|\bup\b", without_text))


def labels(expression: str) -> set[str]:
    grouped = {name.strip() for group in re.findall(r"\bby \(([^)]*)\)", expression) for name in group.split(",")}
    return grouped | set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)\s*\"", expression))


@pytest.mark.parametrize("expression", expressions())
def test_every_series_and_label_that_is_asked_for_is_exposed(exposed: dict[str, set[str]], expression: str) -> None:
    asked = series(expression)
    assert asked
    assert asked - exposed.keys() == set()
    assert labels(expression) - TARGET - set().union(*(exposed[name] for name in asked)) == set()


def test_reasons_that_are_asked_for_by_name_are_hermess_own() -> None:
    named = {
        reason
        for expression in expressions()
        for match in re.findall(r'reason=~?"([^"]*)"', expression)
        for reason in match.split("|")
    }
    assert named
    assert named <= {*REJECTED, *DROPPED}


# Alerts


def test_every_alert_says_what_is_wrong_and_what_to_do() -> None:
    assert len(alerts()) >= 12
    for rule in alerts():
        assert rule["labels"]["severity"] in {"critical", "warning"}
        assert rule["annotations"].keys() == {"summary", "description"}
    names = [rule["alert"] for rule in alerts()]
    assert len(set(names)) == len(names)


def test_what_is_told_of_an_alert_is_in_its_result(exposed: dict[str, set[str]]) -> None:
    for rule in alerts():
        known = TARGET.union(*(exposed[name] for name in series(rule["expr"])))
        for text in rule["annotations"].values():
            assert set(re.findall(r"\$labels\.(\w+)", text)) <= known, rule["alert"]


def promtool() -> str:
    found = shutil.which("promtool")
    if found is None:
        lacks("promtool is not installed; scripts/install-promtool does it on Debian")
    return found


@pytest.mark.parametrize("arguments", [("check", "rules", str(RULES)), ("test", "rules", "tests/deploy/rules.yaml")])
def test_promtool_takes_the_alerts_and_they_fire_when_they_should(arguments: tuple[str, ...]) -> None:
    done = subprocess.run([promtool(), *arguments], cwd=ROOT, capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_has_a_case() -> None:
    tried = ROOT.joinpath("tests/deploy/rules.yaml").read_text()
    assert [rule["alert"] for rule in alerts() if rule["alert"] not in tried] == []


# The dashboard


def test_every_expression_of_the_dashboard_is_promql(tmp_path: Path) -> None:
    """promtool reads them as rules, once Grafana's variables are what Grafana makes of them."""
    texts = [re.sub(r"\$__(rate_interval|range)", "5m", each) for each in expressions()[len(alerts()) :]]
    rules = [{"record": "dashboard", "expr": text, "labels": {"number": str(n)}} for n, text in enumerate(texts)]
    path = tmp_path / "rules.yaml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
    done = subprocess.run([promtool(), "check", "rules", path], capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(texts)} rules found" in done.stdout


def test_the_dashboard_can_be_imported_anywhere() -> None:
    variables = {each["name"]: each for each in DASHBOARD["templating"]["list"]}
    assert variables["datasource"]["type"] == "datasource"
    sources = [panel["datasource"] for panel in panels()]
    sources += [target["datasource"] for panel in panels() for target in panel["targets"]]
    sources += [variables[name]["datasource"] for name in ("job", "instance")]
    assert {source["uid"] for source in sources} == {"${datasource}"}
    assert "id" not in DASHBOARD
    assert "__inputs" not in DASHBOARD


def test_every_panel_is_of_the_chosen_instances_alone() -> None:
    for expression in expressions()[len(alerts()) :]:
        selectors = re.findall(r"\b(?:hermes|process|python)_\w+(\{[^}]*\})?", expression)
        assert all('job=~"$job", instance=~"$instance"' in selector for selector in selectors), expression


def test_the_panels_do_not_overlap_and_have_ids_of_their_own() -> None:
    cells: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        own = {(x + place["x"], y + place["y"]) for x in range(place["w"]) for y in range(place["h"])}
        assert not cells & own, panel["title"]
        cells |= own
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])


# As options of the chart. Kubernetes does not know these kinds: what the operator reads is looked at here.


def test_prometheus_finds_the_pods_by_the_one_service_with_metrics(helm: Helm) -> None:
    manifests = helm.render({**cases()["monitoring"], **cases()["admin"]})
    monitor = manifests.one("ServiceMonitor")
    assert monitor["apiVersion"] == "monitoring.coreos.com/v1"
    assert monitor["metadata"]["labels"]["release"] == "prometheus"
    selector = monitor["spec"]["selector"]["matchLabels"].items()
    (service,) = [
        each
        for each in manifests.objects
        if each["kind"] == "Service" and selector <= each["metadata"]["labels"].items()
    ]
    (endpoint,) = monitor["spec"]["endpoints"]
    assert endpoint == {"port": "http", "path": "/metrics", "interval": "15s"}
    assert endpoint["port"] in {port["name"] for port in service["spec"]["ports"]}
    assert service["metadata"]["labels"][monitor["spec"]["jobLabel"]] == "hermes"


def test_the_alerts_reach_the_operator_as_they_are(helm: Helm) -> None:
    rule = helm.render(cases()["monitoring"]).one("PrometheusRule")
    assert rule["apiVersion"] == "monitoring.coreos.com/v1"
    assert rule["metadata"]["labels"]["release"] == "prometheus"
    assert rule["spec"] == yaml.safe_load(RULES.read_text())


def test_the_dashboard_reaches_grafana_as_it_is(helm: Helm) -> None:
    found = helm.render(cases()["monitoring"]).one("ConfigMap", "demo-hermes-dashboard")
    assert found["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert found["metadata"]["annotations"] == {"folder": "Services"}
    assert json.loads(found["data"]["hermes.json"]) == DASHBOARD


def test_nothing_of_the_operators_kinds_is_made_unasked(helm: Helm) -> None:
    assert not {"ServiceMonitor", "PrometheusRule"} & helm.render().kinds()
