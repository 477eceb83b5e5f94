"""The broker behind TLS: the Python client, a client without TLS, one that distrusts, and files that cannot be used."""

from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
from pathlib import Path

import pytest
import trio

from hermes.client import Unavailable, connect, dial_tls
from tests.integration.broker.daemon import run_daemon
from tests.integration.broker.peer import Peer, request
from tests.integration.broker.test_daemon import refused
from tests.needs import lacks


@pytest.fixture
def certificate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A certificate of its own, with which the daemons of the test serve."""
    if shutil.which("openssl") is None:
        lacks("there is no openssl")
    chain, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost"
    names = ["-addext", "subjectAltName=IP:127.0.0.1"]
    files = ["-keyout", str(key), "-out", str(chain)]
    subprocess.run([*command.split(), *names, *files], check=True, capture_output=True, timeout=30)
    monkeypatch.setenv("HERMESMQ_TLS_CERT", str(chain))
    monkeypatch.setenv("HERMESMQ_TLS_KEY", str(key))
    return chain


async def test_clients_of_tls_are_served_and_others_hold_up_nobody(certificate: Path, tmp_path: Path) -> None:
    trusting = ssl.create_default_context(cafile=str(certificate))
    with run_daemon(tmp_path / "data") as daemon:
        # Without a word, and without TLS.
        silent = socket.create_connection(("127.0.0.1", daemon.port))
        with Peer(daemon.port) as plain, trio.fail_after(30):
            plain.send(request("stats"))
            async with connect([daemon.address], dial=dial_tls(trusting)) as client:
                offsets = await client.produce_many("t", [b"x" * 100_000] * 50)
                assert offsets == list(range(50))
                seen = []
                async with client.subscribe("t", "g", prefetch=10) as messages:
                    async for message in messages:
                        seen.append(message.offset)
                        await messages.ack(message)
                        if len(seen) == 50:
                            break
                assert sorted(seen) == offsets
            assert plain.closed()
            with pytest.raises(Unavailable, match="certificate"):
                async with connect([daemon.address], dial=dial_tls(ssl.create_default_context())):
                    pass
        silent.close()


def test_files_that_cannot_be_used_stop_the_start(
    certificate: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "key.pem").write_text("no key")
    code, text = refused("--data-dir", str(tmp_path / "data"))
    assert (code, "HERMESMQ_TLS_KEY=" in text, "Traceback" in text) == (2, True, False)
    monkeypatch.delenv("HERMESMQ_TLS_KEY")
    code, text = refused("--data-dir", str(tmp_path / "data"))
    assert (code, "HERMESMQ_TLS_CERT is set and HERMESMQ_TLS_KEY is not" in text) == (2, True)
