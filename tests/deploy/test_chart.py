"""The chart: what it renders is valid for the clusters of today, and runs Hermes as it wants to be run."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from kubernetes_validate import utils

from hermes import __version__
from hermes.config import parse_duration
from hermes.events.settings import EventSettings
from hermes.settings import RunSettings
from hermes.store.settings import Storage
from tests.deploy.cases import ADMIN_KEYS, API_KEYS, DATABASE, EVERYTHING, cases
from tests.deploy.helm import CHART, RECIPES, ROOT, Helm, Manifests, Refused
from tests.settings import read_all
from tests.sinks.configured import configure_sinks

KUBERNETES = ("1.32", "1.34", "1.37")
"""The oldest that Kubernetes's makers still patched lately, one between, and the newest that the schemas know."""

CUSTOM = {"ServiceMonitor", "PrometheusRule"}
"""Kinds of the Prometheus operator: no part of Kubernetes, and so of its schemas; test_monitoring.py looks at them."""


@pytest.fixture(scope="module")
def validate() -> Any:
    """kubernetes-validate, whose schemas are read once."""
    patch = pytest.MonkeyPatch()
    patch.setattr(utils, "schema_contents", functools.cache(utils.schema_contents))
    yield utils.validate
    patch.undo()


@pytest.mark.parametrize("case", cases())
def test_what_is_rendered_is_valid_for_three_versions_of_kubernetes(helm: Helm, validate: Any, case: str) -> None:
    manifests = helm.render(cases()[case])
    for version in KUBERNETES:
        for each in manifests.objects:
            if each["kind"] not in CUSTOM:
                validate(each, version, strict=True)


@pytest.mark.parametrize("case", cases())
def test_helm_lint_finds_nothing(helm: Helm, case: str) -> None:
    assert helm.lint(cases()[case]) == []


@pytest.mark.parametrize("case", cases())
def test_hermes_takes_the_environment_that_it_gets(helm: Helm, tmp_path: Any, case: str) -> None:
    """What is in the ConfigMap is read by Hermes itself, sinks included; its secrets are files of ours."""
    values = cases()[case]
    environment = helm.render({**values, "fullnameOverride": "demo-hermes"}).environment()
    for name in values.get("secrets", {}):
        path = tmp_path / name
        path.write_text("postgresql://localhost/events" if name == "DB_DSN" else "key-1,key-2")
        assert environment[f"{name}_FILE"] == f"/run/hermes/secrets/{name}"
        environment[f"{name}_FILE"] = str(path)
    settings = read_all(environment)
    assert settings.durability == values.get("ingest", {}).get("durability", "disk")
    configure_sinks(
        settings.group(EventSettings).sink_names(settings.group(Storage)),
        {name: value for name, value in environment.items() if "HTTP" not in name},
    )


def test_the_chart_is_of_the_version_that_is_in_the_checkout() -> None:
    assert yaml.safe_load(CHART.joinpath("Chart.yaml").read_text())["appVersion"] == __version__


# One value decides


@pytest.mark.parametrize(
    ("durability", "kind"), [("disk", "StatefulSet"), ("postgres", "Deployment"), ("memory", "Deployment")]
)
def test_one_value_decides_what_kind_of_workload_it_is(helm: Helm, durability: str, kind: str) -> None:
    manifests = helm.render({"ingest": {"durability": durability}, "secrets": DATABASE})
    assert manifests.workload()["kind"] == kind
    assert manifests.environment()["DURABILITY"] == durability
    mounts = {mount["name"]: mount["mountPath"] for mount in manifests.pod()["containers"][0]["volumeMounts"]}
    claims = manifests.workload()["spec"].get("volumeClaimTemplates", [])
    if durability == "disk":
        assert [claim["metadata"]["name"] for claim in claims] == ["data"]
        assert manifests.environment()["HERMES_DATA_DIR"].startswith(mounts["data"] + "/")
    else:
        assert not claims
        assert "data" not in mounts


def test_a_statefulsets_service_is_there(helm: Helm) -> None:
    manifests = helm.render()
    service = manifests.one("Service", manifests.workload()["spec"]["serviceName"])
    assert service["spec"]["clusterIP"] == "None"


def test_everything_selects_the_pods_and_nothing_else(helm: Helm) -> None:
    manifests = helm.render(cases()["recipe autoscaled"])
    labels = manifests.workload()["spec"]["template"]["metadata"]["labels"]
    selectors = [manifests.workload()["spec"]["selector"]["matchLabels"]]
    selectors += [each["spec"]["selector"] for each in manifests.objects if each["kind"] == "Service"]
    selectors += [manifests.one("PodDisruptionBudget")["spec"]["selector"]["matchLabels"]]
    selectors += [manifests.one("NetworkPolicy")["spec"]["podSelector"]["matchLabels"]]
    selectors += [each["labelSelector"]["matchLabels"] for each in manifests.pod()["topologySpreadConstraints"]]
    assert len(selectors) == 7
    for selector in selectors:
        assert selector.items() <= labels.items()
        assert selector["app.kubernetes.io/component"] == "ingest"
    smoke = manifests.one("Pod")["metadata"]["labels"]
    assert not selectors[0].items() <= smoke.items()


def test_the_autoscaler_has_the_number_of_pods_to_itself(helm: Helm) -> None:
    manifests = helm.render(cases()["autoscaling"])
    assert "replicas" not in manifests.workload()["spec"]
    target = manifests.one("HorizontalPodAutoscaler")["spec"]["scaleTargetRef"]
    assert target == {
        "apiVersion": "apps/v1",
        "kind": manifests.workload()["kind"],
        "name": manifests.workload()["metadata"]["name"],
    }


# No value is dead


def leaves(values: dict[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The paths of what can be set. The names in a dict that is empty are the user's own."""
    for name, value in values.items():
        if isinstance(value, dict) and value:
            yield from leaves(value, (*path, name))
        else:
            yield (*path, name)


def without(values: dict[str, Any], path: tuple[str, ...]) -> dict[str, Any]:
    """The values but for what is there. Raises KeyError where there is nothing."""
    head, *rest = path
    if rest:
        return {**values, head: without(values[head], tuple(rest))}
    return {name: value for name, value in values.items() if name != head}


def test_every_value_makes_a_difference_somewhere(helm: Helm) -> None:
    declared = leaves(yaml.safe_load(CHART.joinpath("values.yaml").read_text()))
    dead = {path for path in declared if path[0] not in {"settings", "secrets"}}
    assert len(dead) > 50
    for values in EVERYTHING:
        rendered = helm.render(values)
        for path in list(dead):
            try:
                other = helm.render(without(values, path))
            except KeyError:
                continue
            except Refused:  # it is what made these values agree
                dead.remove(path)
            else:
                if (other.objects, other.notes) != (rendered.objects, rendered.notes):
                    dead.remove(path)
    assert dead == set()


# How the pod runs


@pytest.mark.parametrize("case", cases())
def test_every_pod_may_do_nothing_that_it_need_not(helm: Helm, case: str) -> None:
    manifests = helm.render(cases()[case])
    for pod in (manifests.pod(), manifests.one("Pod")["spec"]):
        assert pod["automountServiceAccountToken"] is False
        assert pod["enableServiceLinks"] is False
        security = pod["securityContext"]
        assert security["runAsNonRoot"] is True
        assert security["runAsUser"] == security["runAsGroup"] == security["fsGroup"] == 10001
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in pod["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert container["resources"]["limits"]["memory"]


def test_the_user_is_that_of_the_image() -> None:
    user = re.search(r"^USER (\d+):(\d+)$", ROOT.joinpath("Dockerfile").read_text(), re.M)
    assert user is not None
    assert user.groups() == ("10001", "10001")


def test_the_probes_ask_what_they_are_for(helm: Helm) -> None:
    (container,) = helm.render().pod()["containers"]
    probes = {name: container[f"{name}Probe"] for name in ("startup", "liveness", "readiness")}
    paths = {name: probe["httpGet"]["path"] for name, probe in probes.items()}
    assert paths == {"startup": "/health", "liveness": "/health", "readiness": "/ready"}
    assert {probe["httpGet"]["port"] for probe in probes.values()} == {"http"}
    assert probes["startup"]["failureThreshold"] * probes["startup"]["periodSeconds"] == 300


def test_under_tls_everybody_asks_over_tls(helm: Helm) -> None:
    manifests = helm.render(cases()["TLS"])
    (container,) = manifests.pod()["containers"]
    assert {container[f"{name}Probe"]["httpGet"]["scheme"] for name in ("startup", "liveness", "readiness")} == {
        "HTTPS"
    }
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert manifests.environment()["TLS_CERT"] == mounts["tls"] + "/tls.crt"
    assert manifests.environment()["TLS_KEY"] == mounts["tls"] + "/tls.key"
    (smoke,) = manifests.one("Pod")["spec"]["containers"]
    assert {"name": "URL", "value": "https://demo-hermes:8080"} in smoke["env"]
    assert manifests.one("ServiceMonitor")["spec"]["endpoints"][0]["scheme"] == "https"


@pytest.mark.parametrize(
    ("timeout", "pre_stop", "seconds"),
    [
        ("30s", 5, 40),
        ("1m30s", 5, 100),
        ("2h", 0, 7205),
        ("100ms", 5, 11),
        ("1.5s", 5, 12),
        (".5m", 5, 40),
        ("1h1m1s1ms", 10, 3677),
        ("1500ms", 0, 7),
        ("3000000us", 0, 8),
        ("3000000µs", 0, 8),
        ("2.s", 0, 7),
        ("24h", 600, 87005),
    ],
)
def test_the_grace_period_follows_the_shutdown_timeout(helm: Helm, timeout: str, pre_stop: int, seconds: int) -> None:
    pod = helm.render({"settings": {"SHUTDOWN_TIMEOUT": timeout}, "ingest": {"preStopSeconds": pre_stop}}).pod()
    assert pod["terminationGracePeriodSeconds"] == seconds
    assert seconds - pre_stop - 5 == -(-parse_duration(timeout) // 1)
    (container,) = pod["containers"]
    if pre_stop:
        assert container["lifecycle"]["preStop"]["exec"]["command"] == ["sleep", str(pre_stop)]
    else:
        assert "lifecycle" not in container


def test_a_shutdown_timeout_that_is_left_out_is_hermess_own(helm: Helm) -> None:
    pod = helm.render({"settings": {"SHUTDOWN_TIMEOUT": None}}).pod()
    assert pod["terminationGracePeriodSeconds"] == 10 + RunSettings().shutdown_timeout


def test_a_changed_setting_rolls_the_pods(helm: Helm) -> None:
    def checksum(manifests: Manifests) -> str:
        found: str = manifests.workload()["spec"]["template"]["metadata"]["annotations"]["checksum/config"]
        return found

    assert checksum(helm.render()) == checksum(helm.render())
    assert checksum(helm.render()) != checksum(helm.render({"settings": {"BATCH_SIZE": 999}}))


# Settings and secrets


def test_a_large_number_is_written_out(helm: Helm) -> None:
    settings = {"QUEUE_SIZE": 12_000_000, "SINK_NULL_CATCH_UP": 2.5, "SINK_NULL_REQUIRED": True}
    environment = helm.render({"settings": settings}).environment()
    assert environment["QUEUE_SIZE"] == "12000000"
    assert environment["SINK_NULL_CATCH_UP"] == "2.5"
    assert environment["SINK_NULL_REQUIRED"] == "true"


def test_secrets_are_files_and_never_in_the_environment(helm: Helm) -> None:
    manifests = helm.render({"secrets": DATABASE | API_KEYS})
    pod = manifests.pod()
    (volume,) = [each["projected"] for each in pod["volumes"] if each["name"] == "secrets"]
    assert volume["defaultMode"] == 0o440
    sources = {source["secret"]["items"][0]["path"]: source["secret"]["name"] for source in volume["sources"]}
    assert sources == {"DB_DSN": "database", "API_KEYS": "keys"}
    assert not {"DB_DSN", "API_KEYS"} & manifests.environment().keys()
    assert "env" not in pod["containers"][0]


def test_the_admin_port_is_the_pods_own_unless_it_is_exposed(helm: Helm) -> None:
    manifests = helm.render()
    assert manifests.environment()["ADMIN_ADDR"] == "127.0.0.1:8081"
    ports = [
        port["targetPort"] for each in manifests.objects if each["kind"] == "Service" for port in each["spec"]["ports"]
    ]
    assert set(ports) == {"http"}

    exposed = helm.render({"admin": {"expose": True}, "secrets": ADMIN_KEYS})
    assert exposed.environment()["ADMIN_ADDR"] == ":8081"
    service = exposed.one("Service", "demo-hermes-admin")["spec"]
    assert service["type"] == "ClusterIP"
    assert [port["port"] for port in service["ports"]] == [8081]
    assert "kubectl --namespace events port-forward service/demo-hermes-admin 8081" in exposed.notes


def test_outside_only_the_data_routes_are_reached(helm: Helm) -> None:
    ingress = helm.render(cases()["ingress"]).one("Ingress")
    paths = {path["path"] for rule in ingress["spec"]["rules"] for path in rule["http"]["paths"]}
    assert paths == {"/events", "/v1"}


def test_a_network_policy_lets_the_smoke_test_in(helm: Helm) -> None:
    manifests = helm.render(cases()["strict network policy"])
    events, admin = manifests.one("NetworkPolicy")["spec"]["ingress"]
    labels = manifests.one("Pod")["metadata"]["labels"].items()
    assert any(peer["podSelector"]["matchLabels"].items() <= labels for peer in events["from"] if "podSelector" in peer)
    assert admin["ports"] == [{"port": "admin"}]
    assert "from" not in helm.render(cases()["network policy"]).one("NetworkPolicy")["spec"]["ingress"][0]


# What is written about it


def test_the_notes_say_what_a_202_means_and_what_is_open(helm: Helm) -> None:
    notes = helm.render().notes
    assert "in the journal on the pod's volume" in notes
    assert "port-forward statefulset/demo-hermes 8081" in notes
    assert "the sink null runs, which keeps nothing" in notes
    assert "whoever reaches the port may post" in notes
    assert "Events of these types are taken, and others rejected: trip_started,song_played," in notes
    closed = helm.render(cases()["recipe autoscaled"]).notes
    assert "https://events.example.com/events" in closed
    assert "NOTE" not in closed


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_secrets_that_a_recipe_tells_to_make_are_those_that_it_uses(recipe: str) -> None:
    text = RECIPES[recipe].read_text()
    made = {
        (secret, key)
        for secret, literals in re.findall(r"create secret generic (\S+) (.*)", text)
        for key in re.findall(r"--from-literal=(\w+)=", literals)
    }
    used = {(each["secret"], each["key"]) for each in yaml.safe_load(text).get("secrets", {}).values()}
    assert made == used


def test_the_readme_has_every_recipe_and_no_other_file() -> None:
    text = ROOT.joinpath("k8s/README.md").read_text()
    assert set(re.findall(r"recipes/([\w-]+)\.yaml", text)) == set(RECIPES)
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in link]
    assert [link for link in links if not ROOT.joinpath("k8s", link).exists()] == []
