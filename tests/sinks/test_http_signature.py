"""Signatures that any receiver of Standard Webhooks can check, and ids that the same content always has."""

from __future__ import annotations

import pytest
from hermes_sinks.http.signature import content_id, parse_keys, sign

from hermes import ConfigError

SECRET = "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
ID, TIMESTAMP, BODY = "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}'
SIGNATURE = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


@pytest.mark.parametrize("text", [SECRET, f"whsec_{SECRET}"])
def test_the_published_example(text: str) -> None:
    assert sign(parse_keys([text]), ID, TIMESTAMP, BODY) == SIGNATURE


def test_while_keys_change_there_is_a_signature_for_each() -> None:
    keys = parse_keys(["whsec_" + "A" * 32, SECRET])
    first, second = sign(keys, ID, TIMESTAMP, BODY).split(" ")
    assert first != second == SIGNATURE


@pytest.mark.parametrize("text", ["whsec_", "not base64!", "c2hvcnQ=", "A" * 88, "é" * 32, "whsec_whsec_" + SECRET])
def test_a_key_that_is_none_is_refused_without_showing_it(text: str) -> None:
    with pytest.raises(ConfigError, match=r"SINK_HTTP_SECRET=\(hidden\)") as raised:
        parse_keys([SECRET, text])
    assert text[6:] not in str(raised.value) or len(text) <= 6


def test_the_same_content_has_the_same_id_and_another_has_another() -> None:
    assert content_id(b"[1]") == content_id(b"[1]") != content_id(b"[2]")
    assert content_id(b"[1]").startswith("msg_")
