"""The pod of `helm test`: its program, as the chart renders it, against a running Hermes."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.deploy.helm import Helm, open_helm
from tests.service import open_service

KEYS = {"secrets": {"API_KEYS": {"secret": "keys", "key": "ingest"}}}


@pytest.fixture(scope="module")
def helm() -> Iterator[Helm]:
    with open_helm() as opened:
        yield opened


async def run_pod(helm: Helm, values: dict[str, Any], address: str, keys: Path | None = None) -> Any:
    """Run the pod's one container: its command and its environment, the address and the mounted keys put in."""
    (container,) = helm.render(values).one("Pod")["spec"]["containers"]
    assert container["command"] == ["python", "-c"]
    environment = {variable["name"]: variable["value"] for variable in container["env"]} | {"URL": address}
    if keys is not None:
        assert environment["API_KEYS_FILE"] == "/run/hermes/secrets/API_KEYS"
        environment["API_KEYS_FILE"] = str(keys)
    return await trio.run_process(
        [sys.executable, "-c", *container["args"]],
        env=os.environ | environment,
        capture_stdout=True,
        capture_stderr=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("types", "posted"), [("a.b,c", "a.b"), ("*", "smoke"), (None, "trip_started")], ids=["names", "any", "default"]
)
async def test_the_smoke_test_posts_an_event_of_a_type_that_is_taken(
    helm: Helm, types: str | None, posted: str
) -> None:
    values = {"settings": {"EVENT_TYPES": types}}
    settings: dict[str, Any] = {} if types is None else {"event_types": tuple(types.split(","))}
    async with open_service(**settings) as service:
        done = await run_pod(helm, values, f"http://{service.host}:{service.port}")
        assert (done.returncode, done.stdout) == (0, b'202 {"accepted":1}\n'), done.stderr
        assert service.engine.aggregator.received[posted] == 1


async def test_the_smoke_test_brings_a_key_where_keys_are_wanted(helm: Helm, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text("first,second\n")
    async with open_service(api_keys=("first", "second")) as service:
        address = f"http://{service.host}:{service.port}"
        with_key = await run_pod(helm, KEYS, address, keys)
        without = await run_pod(helm, {}, address)
    assert with_key.returncode == 0
    assert without.returncode == 1
    assert without.stdout.startswith(b"401 ")


async def test_the_smoke_test_fails_where_nobody_listens(helm: Helm) -> None:
    done = await run_pod(helm, {}, "http://127.0.0.1:1")
    assert done.returncode == 1
    assert b"refused" in done.stderr
