"""The values that the chart is rendered with: the recipes, and each option by itself."""

from __future__ import annotations

import copy
from typing import Any

import yaml

from tests.deploy.helm import RECIPES

DATABASE = {"DB_DSN": {"secret": "database", "key": "dsn"}}
ADMIN_KEYS = {"ADMIN_KEYS": {"secret": "keys", "key": "admin"}}
API_KEYS = {"API_KEYS": {"secret": "keys", "key": "ingest"}}

OPTIONS: dict[str, dict[str, Any]] = {
    "nothing": {},
    "memory": {"ingest": {"durability": "memory"}},
    "postgres": {"ingest": {"durability": "postgres"}, "secrets": DATABASE},
    "several disks": {"ingest": {"replicas": 3, "persistence": {"storageClass": "fast"}}, "secrets": DATABASE},
    "autoscaling": {"ingest": {"durability": "memory", "autoscaling": {"enabled": True, "maxReplicas": 5}}},
    "disruption budget": {"ingest": {"podDisruptionBudget": {"enabled": True, "maxUnavailable": "50%"}}},
    "network policy": {"ingest": {"networkPolicy": {"enabled": True}}},
    "strict network policy": {
        "ingest": {
            "networkPolicy": {
                "enabled": True,
                "from": [{"namespaceSelector": {}}],
                "adminFrom": [{"podSelector": {"matchLabels": {"role": "operator"}}}],
                "egress": [{"ports": [{"port": 5432}]}],
            }
        },
        "admin": {"expose": True},
        "secrets": ADMIN_KEYS,
    },
    "ingress": {"ingest": {"ingress": {"enabled": True, "hosts": ["a.example.com", "*.b.example.com"]}}},
    "ingress with TLS": {
        "ingest": {
            "ingress": {
                "enabled": True,
                "className": "nginx",
                "hosts": ["a.example.com"],
                "tlsSecret": "certificate",
                "annotations": {"nginx.ingress.kubernetes.io/proxy-body-size": "10m"},
            }
        }
    },
    "monitoring": {
        "monitoring": {
            "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
            "rules": {"enabled": True, "labels": {"release": "prometheus"}},
            "dashboard": {"enabled": True, "annotations": {"folder": "Services"}},
        }
    },
    "TLS": {"ingest": {"tls": {"secret": "certificate"}}, "monitoring": {"serviceMonitor": {"enabled": True}}},
    "admin": {"admin": {"expose": True}, "secrets": ADMIN_KEYS},
    "keys": {"secrets": API_KEYS},
    "no hook, no account": {
        "ingest": {"preStopSeconds": 0},
        "serviceAccount": {"create": False, "name": "another"},
    },
    "the rest": {
        "image": {
            "repository": "registry.example.com:5000/team/hermes",
            "digest": "sha256:" + "0" * 64,
            "pullPolicy": "Always",
            "pullSecrets": ["registry"],
        },
        "serviceAccount": {"annotations": {"eks.amazonaws.com/role-arn": "arn:aws:iam::1:role/hermes"}},
        "fullnameOverride": "events",
        "ingest": {
            "service": {"type": "LoadBalancer", "port": 80, "annotations": {"a": "b"}},
            "podAnnotations": {"a": "b"},
            "podLabels": {"team": "events"},
            "nodeSelector": {"kubernetes.io/os": "linux"},
            "tolerations": [{"key": "dedicated", "operator": "Exists"}],
            "affinity": {"nodeAffinity": {}},
            "priorityClassName": "important",
            "topologySpread": [],
            "extraEnv": [{"name": "AWS_REGION", "value": "eu-central-1"}],
            "extraVolumes": [{"name": "certificates", "configMap": {"name": "certificates"}}],
            "extraVolumeMounts": [{"name": "certificates", "mountPath": "/etc/certificates", "readOnly": True}],
        },
        "settings": {"SINK_NULL_CATCH_UP": 2.5, "SINK_NULL_REQUIRED": True, "EVENT_TYPES": "*"},
        "secrets": {"SINK_HTTP_SECRET": {"secret": "keys", "key": "http"}},
    },
}


EVERYTHING: list[dict[str, Any]] = [
    OPTIONS["the rest"] | {"nameOverride": "events", "fullnameOverride": "events"},
    {
        "nameOverride": "events",
        "serviceAccount": {"create": False, "name": "another"},
        "image": {"tag": "other"},
        "ingest": {
            "durability": "postgres",
            "autoscaling": {"enabled": True, "minReplicas": 3, "maxReplicas": 5, "targetCPU": 50},
            "podDisruptionBudget": {"enabled": True, "maxUnavailable": 2},
            "networkPolicy": OPTIONS["strict network policy"]["ingest"]["networkPolicy"],
            "ingress": OPTIONS["ingress with TLS"]["ingest"]["ingress"] | {"paths": ["/events"]},
            "tls": {"secret": "certificate"},
            "resources": {"requests": {"cpu": "2", "memory": "2Gi"}, "limits": {"memory": "4Gi"}},
            "preStopSeconds": 10,
            "startupSeconds": 60,
        },
        "admin": {"expose": True},
        "monitoring": {
            "serviceMonitor": {"enabled": True, "interval": "1m", "labels": {"release": "prometheus"}},
            "rules": {"enabled": True, "labels": {"release": "prometheus"}},
            "dashboard": {
                "enabled": True,
                "labels": {"grafana_dashboard": "yes"},
                "annotations": {"folder": "Services"},
            },
        },
        "secrets": DATABASE | ADMIN_KEYS,
    },
    {"ingest": {"replicas": 3, "persistence": {"size": "30Gi", "storageClass": "fast"}}},
]
"""Values that between them set everything that can be set, to something other than its default."""


_CASES = OPTIONS | {f"recipe {name}": yaml.safe_load(path.read_text()) for name, path in RECIPES.items()}


def cases() -> dict[str, dict[str, Any]]:
    """All of them by name, fresh."""
    return copy.deepcopy(_CASES)
