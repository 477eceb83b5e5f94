"""The pod as the chart renders it, run by a container engine: the image, its environment, mounts and security context.

What a cluster would do is done by hand: the volume belongs to the group that fsGroup names, secrets are files of that
group, the hook runs before the stop. No part of `make test`, for it wants an engine; `make image` runs it.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

import pytest
import yaml

from tests.deploy.helm import RECIPES, ROOT, open_helm

ENGINE = "docker"
KEYS = {"ADMIN_KEYS": {"secret": "keys", "key": "admin"}, "API_KEYS": {"secret": "keys", "key": "ingest"}}


def run(*arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([ENGINE, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0 or not check, done.stdout + done.stderr
    return done


@pytest.fixture(scope="module")
def image() -> Iterator[str]:
    tag = f"hermes-pod:{uuid4().hex[:8]}"
    run("build", "--quiet", "--network", "host", "--tag", tag, ".")
    yield tag
    run("rmi", "--force", tag)


@contextmanager
def volume(image: str, script: str) -> Iterator[str]:
    """A volume that a script has prepared as root, in the folder /volume: what the cluster does with it."""
    name = run("volume", "create").stdout.strip()
    try:
        run("run", "--rm", "--network", "none", "--user", "0", "--volume", f"{name}:/volume", "--entrypoint", "sh",
            image, "-ec", script)  # fmt: skip
        yield name
    finally:
        run("volume", "rm", "--force", name)


def restrictions(pod: dict[str, Any], container: dict[str, Any]) -> list[str]:
    """A security context in the engine's words."""
    context, own = pod["securityContext"], container["securityContext"]
    assert own["readOnlyRootFilesystem"]
    assert not own["allowPrivilegeEscalation"]
    drops = [f"--cap-drop={name}" for name in own["capabilities"]["drop"]]
    user = f"--user={context['runAsUser']}:{context['runAsGroup']}"
    return ["--read-only", "--security-opt=no-new-privileges", *drops, user, "--tmpfs=/tmp"]


@pytest.mark.timeout(300)
def test_the_image_runs_as_the_chart_wants_it(image: str) -> None:
    values = yaml.safe_load(RECIPES["one-pod"].read_text()) | {"secrets": KEYS, "admin": {"expose": True}}
    with open_helm() as helm:
        manifests = helm.render(values)
    pod, smoke_pod = manifests.pod(), manifests.one("Pod")["spec"]
    (container,), (smoke,) = pod["containers"], smoke_pod["containers"]
    group = pod["securityContext"]["fsGroup"]
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    environment = [f"--env={name}={value}" for name, value in manifests.environment().items()]
    files = " ".join(f"/volume/{name}" for name in KEYS)
    own_group = f"chown 0:{group} /volume; chmod 2775 /volume"
    secret_files = f"for file in {files}; do echo key-1 >$file; chown 0:{group} $file; chmod 440 $file; done"
    with volume(image, own_group) as data, volume(image, secret_files) as secrets:
        secrets_mount = f"--volume={secrets}:{mounts['secrets']}:ro"
        identity = run(
            "run", "--detach", "--network=none", *restrictions(pod, container), *environment,
            f"--volume={data}:{mounts['data']}", secrets_mount, image,
        ).stdout.strip()  # fmt: skip
        try:
            for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
                assert status(identity, 8080, container[probe]["httpGet"]["path"]) == "200"
            assert status(identity, 8081, "/dead-letters") == "401"

            variables = {each["name"]: each["value"] for each in smoke["env"]} | {"URL": "http://127.0.0.1:8080"}
            posted = run(
                "run", "--rm", f"--network=container:{identity}", *restrictions(smoke_pod, smoke), secrets_mount,
                *(f"--env={name}={value}" for name, value in variables.items()),
                "--entrypoint", smoke["command"][0], image, *smoke["command"][1:], *smoke["args"],
            )  # fmt: skip
            assert posted.stdout == '202 {"accepted":1}\n'

            run("exec", identity, *container["lifecycle"]["preStop"]["exec"]["command"])
            run("stop", "--time", str(pod["terminationGracePeriodSeconds"]), identity)
            assert run("inspect", "--format", "{{.State.ExitCode}}", identity).stdout.strip() == "0"
            folder = manifests.environment()["HERMES_DATA_DIR"]
            count = (
                f"import sqlite3; print(*sqlite3.connect('{folder}/events.db').execute('SELECT count(*) FROM events'))"
            )
            stored = run(
                "run", "--rm", "--network=none", *restrictions(pod, container), f"--volume={data}:{mounts['data']}",
                "--entrypoint", "python", image, "-c", count,
            )  # fmt: skip
            assert stored.stdout == "(1,)\n"
        finally:
            run("rm", "--force", "--volumes", identity)


def status(identity: str, port: int, path: str) -> str:
    """What a GET in the pod is answered with, once somebody listens."""
    program = (
        "import http.client\n"
        f"connection = http.client.HTTPConnection('127.0.0.1', {port})\n"
        f"connection.request('GET', '{path}')\n"
        "print(connection.getresponse().status)"
    )
    for _ in range(50):
        done = run("exec", identity, "python", "-c", program, check=False)
        if done.returncode == 0:
            return done.stdout.strip()
        time.sleep(0.2)
    return done.stderr
