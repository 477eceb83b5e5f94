"""What the chart refuses: values of the wrong shape by its schema, values that contradict each other in words."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.deploy.cases import ADMIN_KEYS, DATABASE
from tests.deploy.helm import CHART, Helm, Refused

SECRET = {"secret": "a", "key": "b"}

SHAPES: list[tuple[dict[str, Any], str]] = [
    ({"replicas": 3}, "replicas"),
    ({"ingest": {"replica": 3}}, "replica"),
    ({"ingest": {"replicas": "three"}}, "/ingest/replicas"),
    ({"ingest": {"replicas": -1}}, "/ingest/replicas"),
    ({"ingest": {"replicas": 1.5}}, "/ingest/replicas"),
    ({"ingest": {"durability": "disc"}}, "/ingest/durability"),
    ({"ingest": {"persistence": {"size": 20}}}, "/ingest/persistence/size"),
    ({"ingest": {"persistence": {"size": "20GiB"}}}, "/ingest/persistence/size"),
    ({"ingest": {"service": {"port": 70000}}}, "/ingest/service/port"),
    ({"ingest": {"service": {"type": "Loadbalancer"}}}, "/ingest/service/type"),
    ({"ingest": {"resources": {"limits": {"memory": "lots"}}}}, "/ingest/resources/limits/memory"),
    ({"ingest": {"resources": {"limit": {"memory": "1Gi"}}}}, "limit"),
    ({"ingest": {"preStopSeconds": "5s"}}, "/ingest/preStopSeconds"),
    ({"ingest": {"startupSeconds": 1}}, "/ingest/startupSeconds"),
    ({"ingest": {"autoscaling": {"enabled": "yes"}}}, "/ingest/autoscaling/enabled"),
    ({"ingest": {"autoscaling": {"targetCPU": 0}}}, "/ingest/autoscaling/targetCPU"),
    ({"ingest": {"podDisruptionBudget": {"maxUnavailable": 0}}}, "/ingest/podDisruptionBudget/maxUnavailable"),
    ({"ingest": {"podDisruptionBudget": {"maxUnavailable": "0%"}}}, "/ingest/podDisruptionBudget/maxUnavailable"),
    ({"ingest": {"ingress": {"hosts": ["https://example.com"]}}}, "/ingest/ingress/hosts"),
    ({"ingest": {"ingress": {"paths": ["events"]}}}, "/ingest/ingress/paths"),
    ({"ingest": {"ingress": {"paths": []}}}, "/ingest/ingress/paths"),
    ({"ingest": {"topologySpread": [{"topologyKey": "zone"}]}}, "/ingest/topologySpread"),
    ({"ingest": {"podAnnotations": {"number": 1}}}, "/ingest/podAnnotations"),
    ({"ingest": {"extraEnv": [{"value": "a"}]}}, "/ingest/extraEnv"),
    ({"ingest": {"extraVolumes": [{"name": "data", "emptyDir": {}}]}}, "/ingest/extraVolumes"),
    ({"image": {"repository": ""}}, "/image/repository"),
    ({"image": {"tag": "a b"}}, "/image/tag"),
    ({"image": {"digest": "sha256:abc"}}, "/image/digest"),
    ({"image": {"pullPolicy": "Sometimes"}}, "/image/pullPolicy"),
    ({"admin": {"expose": 1}}, "/admin/expose"),
    ({"monitoring": {"serviceMonitor": {"interval": "often"}}}, "/monitoring/serviceMonitor/interval"),
    ({"monitoring": {"alerts": {}}}, "alerts"),
    # Settings
    ({"settings": None}, "settings"),
    ({"settings": {"QUEUE_SIZES": 1}}, "QUEUE_SIZES"),
    ({"settings": {"queue_size": 1}}, "queue_size"),
    ({"settings": {"QUEUE_SIZE": 0}}, "/settings/QUEUE_SIZE"),
    ({"settings": {"QUEUE_SIZE": "many"}}, "/settings/QUEUE_SIZE"),
    ({"settings": {"WORKER_COUNT": 5000}}, "/settings/WORKER_COUNT"),
    ({"settings": {"QUEUE_BYTES": "256 megabytes"}}, "/settings/QUEUE_BYTES"),
    ({"settings": {"QUEUE_BYTES": 0}}, "/settings/QUEUE_BYTES"),
    ({"settings": {"SHUTDOWN_TIMEOUT": "30"}}, "/settings/SHUTDOWN_TIMEOUT"),
    ({"settings": {"SHUTDOWN_TIMEOUT": 30}}, "/settings/SHUTDOWN_TIMEOUT"),
    ({"settings": {"SHUTDOWN_TIMEOUT": "0s"}}, "/settings/SHUTDOWN_TIMEOUT"),
    ({"settings": {"BACKPRESSURE_MODE": "drop"}}, "/settings/BACKPRESSURE_MODE"),
    ({"settings": {"EVENT_TYPES": "a b"}}, "/settings/EVENT_TYPES"),
    ({"settings": {"EVENT_TYPES": ""}}, "/settings/EVENT_TYPES"),
    ({"settings": {"LOG_LEVEL": "loud"}}, "/settings/LOG_LEVEL"),
    ({"settings": {"DEBUG_ENDPOINTS": "perhaps"}}, "/settings/DEBUG_ENDPOINTS"),
    ({"settings": {"SINK_postgres_TABLE": "events"}}, "SINK_postgres_TABLE"),
    ({"settings": {"SINK_POSTGRES_TABLE": ["events"]}}, "/settings/SINK_POSTGRES_TABLE"),
    # What the chart decides, and what may not be seen
    ({"settings": {"DURABILITY": "memory"}}, "DURABILITY"),
    ({"settings": {"HTTP_ADDR": ":80"}}, "HTTP_ADDR"),
    ({"settings": {"ADMIN_ADDR": ":8081"}}, "ADMIN_ADDR"),
    ({"settings": {"DB_DSN": "postgresql://user:password@host/db"}}, "DB_DSN"),
    ({"settings": {"API_KEYS": "key"}}, "API_KEYS"),
    ({"secrets": {"DB_DSN": "postgresql://user:password@host/db"}}, "/secrets/DB_DSN"),
    ({"secrets": {"DB_DSN": {"secret": "database"}}}, "/secrets/DB_DSN"),
    ({"secrets": {"DB_DSN": SECRET | {"optional": True}}}, "optional"),
    ({"secrets": {"DB_DNS": SECRET}}, "DB_DNS"),
    ({"secrets": {"QUEUE_SIZE": SECRET}}, "QUEUE_SIZE"),
]


@pytest.mark.parametrize(("values", "words"), SHAPES, ids=[str(values) for values, _ in SHAPES])
def test_values_of_the_wrong_shape_are_refused_and_named(helm: Helm, values: dict[str, Any], words: str) -> None:
    with pytest.raises(Refused, match="schema") as refused:
        helm.render(values)
    assert words in str(refused.value)


CONTRADICTIONS: dict[str, tuple[dict[str, Any], str]] = {
    "volumes that come and go": (
        {"ingest": {"autoscaling": {"enabled": True}}},
        "a pod that is scaled away leaves its volume behind",
    ),
    "a least number above the most": (
        {"ingest": {"durability": "memory", "autoscaling": {"enabled": True, "minReplicas": 9, "maxReplicas": 3}}},
        "minReplicas=9 is more than maxReplicas=3",
    ),
    "a percentage of nothing": (
        {"ingest": {"durability": "memory", "autoscaling": {"enabled": True}, "resources": {"requests": None}}},
        "set ingest.resources.requests.cpu",
    ),
    "sqlite in several pods": (
        {"ingest": {"replicas": 2}, "settings": {"SINKS": "sqlite"}},
        "each would have a file with a part of the events",
    ),
    "sqlite without a volume": (
        {"ingest": {"durability": "memory"}, "settings": {"SINKS": "stdout, sqlite"}},
        "SINKS=sqlite writes to the pod's volume",
    ),
    "files without a volume": (
        {"ingest": {"durability": "memory"}, "settings": {"SINKS": "file", "SINK_FILE_PATH": "lines"}},
        "name a folder of ingest.extraVolumeMounts in settings.SINK_FILE_PATH",
    ),
    "a secret for all to see": (
        {"settings": {"SINK_CLICKHOUSE_PASSWORD": "a"}},
        "settings.SINK_CLICKHOUSE_PASSWORD is a secret: secrets.SINK_CLICKHOUSE_PASSWORD",
    ),
    "a secret of a sink by another name for all to see": (
        {"settings": {"SINKS": "eu", "SINK_EU_PLUGIN": "postgres", "SINK_EU_DSN": "postgresql://h/d"}},
        "settings.SINK_EU_DSN is a secret: secrets.SINK_EU_DSN",
    ),
    "postgres without an address": ({"settings": {"SINKS": "postgres"}}, "secrets.DB_DSN"),
    "a journal in a database without an address": (
        {"ingest": {"durability": "postgres"}},
        "the journal is in the database",
    ),
    "an admin port without keys": ({"admin": {"expose": True}}, "secrets.ADMIN_KEYS"),
    "one variable twice": (
        {"settings": {"SINK_POSTGRES_TABLE": "a"}, "secrets": {"SINK_POSTGRES_TABLE": SECRET}},
        "SINK_POSTGRES_TABLE is in settings and in secrets: keep one",
    ),
    "a stop that takes days": ({"settings": {"SHUTDOWN_TIMEOUT": "25h"}}, "SHUTDOWN_TIMEOUT=25h: at most 24h"),
    "a journal larger than its volume": (
        {"settings": {"JOURNAL_MAX_BYTES": "20GiB"}},
        "JOURNAL_MAX_BYTES=20GiB does not fit into ingest.persistence.size=20Gi",
    ),
    "a journal larger than its volume, in other units": (
        {"settings": {"JOURNAL_MAX_BYTES": 1_000_000_001}, "ingest": {"persistence": {"size": "1G"}}},
        "JOURNAL_MAX_BYTES=1000000001 does not fit into ingest.persistence.size=1G",
    ),
    "a queue larger than the memory": (
        {"settings": {"QUEUE_BYTES": "2GB"}},
        "QUEUE_BYTES=2GB does not fit into ingest.resources.limits.memory=1Gi",
    ),
    "an ingress for nobody": ({"ingest": {"ingress": {"enabled": True}}}, "name at least one of its hosts"),
}


@pytest.mark.parametrize("case", CONTRADICTIONS)
def test_values_that_contradict_each_other_are_refused_in_words(helm: Helm, case: str) -> None:
    values, words = CONTRADICTIONS[case]
    with pytest.raises(Refused) as refused:
        helm.render(values)
    assert words in str(refused.value)


def test_all_contradictions_are_told_at_once(helm: Helm) -> None:
    with pytest.raises(Refused) as refused:
        helm.render({"admin": {"expose": True}, "settings": {"SINKS": "postgres", "SHUTDOWN_TIMEOUT": "25h"}})
    assert all(words in str(refused.value) for words in ("ADMIN_KEYS", "DB_DSN", "24h"))


@pytest.mark.parametrize(
    "values",
    [
        {"settings": {"JOURNAL_MAX_BYTES": "999MB"}, "ingest": {"persistence": {"size": "1G"}}},
        {"settings": {"JOURNAL_MAX_BYTES": "100GiB"}, "ingest": {"durability": "memory"}},
        {"settings": {"QUEUE_BYTES": "2GiB"}, "ingest": {"resources": {"limits": None}}},
        {"settings": {"WORKER_COUNT": None, "QUEUE_SIZE": None, "SHUTDOWN_TIMEOUT": "24h"}},
        {"settings": {"SINKS": "sqlite,stdout"}},
        {"ingest": {"durability": "memory"}, "settings": {"SINKS": "parquet", "SINK_PARQUET_URL": "s3://bucket"}},
        {"ingest": {"durability": "memory"}, "settings": {"SINKS": "file", "SINK_FILE_PATH": "/mounted"}},
        {"ingest": {"durability": "memory", "autoscaling": {"enabled": True, "minReplicas": 3, "maxReplicas": 3}}},
        {"admin": {"expose": True}, "secrets": ADMIN_KEYS},
        {"settings": {"SINKS": "stdout"}, "secrets": DATABASE},
        {"settings": {"SINKS": "postgres"}, "secrets": {"SINK_POSTGRES_DSN": SECRET}},
        {"settings": {"SINKS": "eu", "SINK_EU_PLUGIN": "postgres"}, "secrets": {"SINK_EU_DSN": SECRET}},
    ],
    ids=str,
)
def test_what_is_close_to_a_contradiction_and_none_is_taken(helm: Helm, values: dict[str, Any]) -> None:
    helm.render(values)


def test_the_schema_leaves_no_room_for_misspellings() -> None:
    """Every object in it names its properties and refuses others, but for those that are Kubernetes's own or free."""
    free = {"global", "affinity.nodeAffinity", "affinity.podAffinity", "affinity.podAntiAffinity", "valueFrom"}
    schema = json.loads(CHART.joinpath("values.schema.json").read_text())

    def open_ones(rule: Any, path: str) -> Iterator[str]:
        if isinstance(rule, dict):
            if rule.get("type") == "object" and "additionalProperties" not in rule:
                yield path
            for name, inner in rule.items():
                yield from open_ones(inner, path if name in {"properties", "items"} else f"{path}.{name}".lstrip("."))

    found = {path for path in open_ones(schema, "") if not any(path.endswith(name) for name in free)}
    assert found == {"definitions.objects", "ingest.extraVolumes", "ingest.extraVolumeMounts"}
