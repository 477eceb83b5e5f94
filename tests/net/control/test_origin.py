"""Where a browser says that a request comes from: every kind of foreign page, and all that must still work."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from hermes.net.control.origin import refuse_foreign

HOST = "localhost:8081"

# What a page of another origin makes a browser send. None of it may reach anything but an open page by a link.
FOREIGN: dict[str, Mapping[str, str]] = {
    "image": {"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors", "sec-fetch-dest": "image"},
    "script": {"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors", "sec-fetch-dest": "script"},
    "fetch": {"origin": "https://evil.example", "sec-fetch-site": "cross-site", "sec-fetch-mode": "cors"},
    "event source": {"origin": "https://evil.example", "sec-fetch-site": "cross-site", "sec-fetch-dest": "empty"},
    "form": {"origin": "https://evil.example", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"},
    "sandboxed form": {"origin": "null", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"},
    "frame": {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "iframe"},
    "prefetch": {"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors", "sec-fetch-dest": "empty"},
    "another port of this machine": {"sec-fetch-site": "same-site", "sec-fetch-mode": "no-cors"},
    "another port, by its origin": {"origin": "http://localhost:3000"},
    "an origin that begins like ours": {"origin": "http://localhost:8081.evil.example"},
    "image in an old browser": {"user-agent": "Mozilla/5.0", "accept": "image/*", "referer": "https://evil.example/"},
    "image without a referer": {"user-agent": "Mozilla/5.0 (old)", "accept": "image/png,image/*;q=0.8,*/*;q=0.5"},
    "script without a referer": {"user-agent": "Mozilla/5.0 (old)", "accept": "*/*"},
    "beacon without a word": {"user-agent": "Mozilla/5.0 (old)"},
    "ours as a name and password": {"referer": "http://localhost:8081@evil.example/"},
}
LINKS: dict[str, Mapping[str, str]] = {
    "link": {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"},
    "link of this site": {"sec-fetch-site": "same-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"},
    "link in an old browser": {"referer": "https://wiki.example/runbook"},
    "link without a readable referer": {"referer": "http://[::1"},
}
OURS: dict[str, Mapping[str, str]] = {
    "curl": {},
    "prometheus": {"user-agent": "Prometheus/3.0", "accept": "application/openmetrics-text"},
    "typed in an old browser": {"user-agent": "Mozilla/5.0 (old)", "accept": "text/html,*/*;q=0.8"},
    "our script in an old browser": {
        "user-agent": "Mozilla/5.0 (old)",
        "accept": "*/*",
        "referer": "http://localhost:8081/",
    },
    # What remains: without a Referer, a foreign page that opens or frames an address is like a visitor who types it.
    "frame of a page that hides, in an old browser": {"user-agent": "Mozilla/5.0 (old)", "accept": "text/html"},
    "typed": {"sec-fetch-site": "none", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"},
    "our page": {"sec-fetch-site": "same-origin", "sec-fetch-mode": "cors", "sec-fetch-dest": "empty"},
    "our form": {"origin": "http://localhost:8081", "sec-fetch-site": "same-origin"},
    "our form in capitals": {"origin": "HTTP://LOCALHOST:8081"},
    "our page in an old browser": {"referer": "http://localhost:8081/debug/pprof/"},
    "our page behind a proxy that changes the name": {"sec-fetch-site": "same-origin", "referer": "https://ops/"},
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_a_foreign_page_reaches_nothing(kind: str) -> None:
    headers = {"host": HOST, **FOREIGN[kind]}
    refusal = refuse_foreign(headers, page=False)
    assert refusal is not None
    assert refusal.status == 403


@pytest.mark.parametrize("kind", [kind for kind in FOREIGN if "ours" not in kind])
def test_a_foreign_page_cannot_show_or_load_an_open_page_either(kind: str) -> None:
    assert refuse_foreign({"host": HOST, **FOREIGN[kind]}, page=True) is not None


@pytest.mark.parametrize("kind", LINKS)
def test_a_link_leads_to_a_page_and_to_nothing_else(kind: str) -> None:
    headers = {"host": HOST, **LINKS[kind]}
    assert refuse_foreign(headers, page=True) is None
    assert refuse_foreign(headers, page=False) is not None


@pytest.mark.parametrize("kind", OURS)
def test_operators_and_our_own_pages_pass(kind: str) -> None:
    for page in (True, False):
        assert refuse_foreign({"host": HOST, **OURS[kind]}, page=page) is None
