"""The lines that docs/how-to/recover.md quotes are those that Hermes says."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from hermes.base.errors import ConfigError
from hermes.events.ingest.refusal import REFUSALS
from hermes.events.settings import EventSettings
from hermes.net.http.keys import UNKNOWN, WANTED
from hermes.net.listen import open_listeners
from hermes.settings import read_settings
from hermes.store.log.sqlite.folder import lock_folder
from hermes.store.settings import Storage
from tests.settings import read_all
from tests.sinks.configured import configure_sinks

PAGE = (Path(__file__).resolve().parents[2] / "docs/how-to/recover.md").read_text()


def configure(environ: dict[str, str]) -> None:
    settings = read_all(environ)
    configure_sinks(settings.group(EventSettings).sink_names(settings.group(Storage)), environ)


def said(environ: dict[str, str]) -> str:
    with pytest.raises(ConfigError) as caught:
        configure(environ)
    return str(caught.value)


@pytest.mark.parametrize(
    "environ",
    [
        {"QUEUE_SIZE": "x"},
        {"ADMIN_ADDR": "0.0.0.0:8081"},
        {"DURABILITY": "postgres"},
    ],
)
def test_the_page_quotes_what_is_said_about_a_setting(environ: dict[str, str]) -> None:
    assert f"`{said(environ)}`" in PAGE


def test_the_page_quotes_what_is_said_about_a_sink_that_is_not_there() -> None:
    assert said({"SINKS": "nope"}).partition("there are ")[0] in PAGE


def test_the_page_quotes_what_is_said_about_a_port_in_use() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(ConfigError) as caught, open_listeners(read_settings({"HTTP_ADDR": address}).http.http_addr):
            pass
    assert f"`{str(caught.value).replace(address, '127.0.0.1:8080')}`" in PAGE


def test_the_page_quotes_what_is_said_about_a_folder_in_use(tmp_path: Path) -> None:
    lock = lock_folder(tmp_path)
    try:
        with pytest.raises(ConfigError) as caught:
            lock_folder(tmp_path)
    finally:
        os.close(lock)
    assert f"`…/journal{str(caught.value).removeprefix(str(tmp_path))}`" in PAGE


def test_the_page_quotes_what_clients_are_told() -> None:
    page = " ".join(PAGE.split())
    assert all(words.partition(":")[0] in page for words in (WANTED, UNKNOWN))
    for _, words, _ in REFUSALS.values():
        assert f'"detail":"{words}. Nothing of this request was taken: send it again"' in PAGE
