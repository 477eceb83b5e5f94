"""What each answer means for the events that were posted, as a table; and when a receiver wants them again."""

from __future__ import annotations

import pytest
from hermes_sinks.common.parts import Refusal
from hermes_sinks.http.answers import judge

from hermes import SinkUnavailable
from hermes.base.quoting import clean
from hermes.net.outgoing import MOST_PAUSE, Answer, host_of, retry_after

NOW = 1_700_000_000.0  # Tue, 14 Nov 2023 22:13:20 GMT


def told(status: int, body: bytes = b"", count: int = 3, **headers: str) -> Refusal | None:
    return judge(Answer(status, headers, body), count, NOW)


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
def test_any_2xx_takes_the_events(status: int) -> None:
    assert told(status) is None


@pytest.mark.parametrize(
    "body",
    [
        b"ok",
        b'{"rejected": 0}',
        b'{"rejected": []}',
        b'{"rejected": ["a"]}',
        b'{"rejected": [{"error": "no index"}]}',
        b'{"rejected": [{"index": 3}, {"index": -1}]}',
        b'{"rejected": [{"index": "0"}]}',
        b'{"rejected": [{"index": 0}',
        b'["rejected"]',
        b'\xff"rejected"',
        b'{"deep": ' + b"[" * 100_000 + b'"rejected"',
        b'{"rejected": [{"index": 99999999999999999999, "error": "\\ud800"}]}',
    ],
)
def test_a_2xx_that_names_no_event_of_ours_takes_them_all(body: bytes) -> None:
    assert told(200, body) is None


def test_a_2xx_may_name_the_events_that_it_does_not_take() -> None:
    body = b'{"accepted": 1, "rejected": [{"index": 2, "error": "no\\u0007\\n good"}, {"index": 0, "id": "x"}]}'
    assert told(202, body) == Refusal("", {2: "no good", 0: "rejected"}, rest_taken=True)


@pytest.mark.parametrize("status", [400, 422])
def test_a_refusal_of_the_content_may_name_events(status: int) -> None:
    refusal = told(status, b'{"rejected": [{"index": 1, "error": "bad"}]}')
    assert refusal is not None
    assert (refusal.named, refusal.rest_taken) == ({1: "bad"}, False)


def test_a_refusal_of_the_content_is_quoted() -> None:
    assert told(400, b"what\r\nis \x1b[31mthis?") == Refusal("it answered 400 Bad Request", quote="what is [31mthis?")
    assert told(413) == Refusal(f"it answered 413 {phrase(413)}")


def phrase(status: int) -> str:
    from http import HTTPStatus

    return HTTPStatus(status).phrase  # not the same in every Python


@pytest.mark.parametrize("status", [408, 409, 421, 425, 429, 500, 501, 502, 503, 504, 507, 520, 599])
def test_what_may_pass_is_unavailable(status: int) -> None:
    with pytest.raises(SinkUnavailable, match=f"it answered {status}") as raised:
        told(status, b"cannot handle user-1")
    assert ("user-1" in str(raised.value)) is (status < 500), "a receiver's own fault may quote what was posted"


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (401, "renew the credentials"),
        (403, "SINK_HTTP_SECRET"),
        (404, "check the path of SINK_HTTP_URL"),
        (405, "takes no POST"),
        (410, "gone for good"),
        (415, "change SINK_HTTP_FORMAT"),
    ],
)
def test_what_the_operator_mends_is_unavailable_with_words(status: int, words: str) -> None:
    with pytest.raises(SinkUnavailable, match=words):
        told(status, b"nope")


@pytest.mark.parametrize(
    ("location", "words"),
    [
        ("https://new.example/path?token=s3cret", "to new.example; redirects are not followed"),
        ("//user:s3cret@new.example/", "to new.example;"),
        ("/s3cret", "to another path;"),
        ("http://[s3cret", "to another path;"),
        ("", "to another path;"),
    ],
)
def test_a_redirect_is_not_followed_and_told_by_its_host(location: str, words: str) -> None:
    with pytest.raises(SinkUnavailable, match=words) as raised:
        told(308, location=location)
    assert "s3cret" not in str(raised.value)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("", None),
        ("0", 0.0),
        ("7", 7.0),
        (" 120 ", 120.0),
        ("999999999", MOST_PAUSE),
        ("9" * 400, None),
        ("-1", None),
        ("1.5", None),
        ("nan", None),
        ("soon", None),
        ("Tue, 14 Nov 2023 22:13:50 GMT", 30.0),
        ("Tue, 14 Nov 2023 22:13:00 GMT", 0.0),
        ("Tue, 14 Nov 2099 22:13:00 GMT", MOST_PAUSE),
        ("Tue, 99 Nov 2023 22:13:50 GMT", None),
    ],
)
def test_retry_after_in_seconds_or_as_a_date_is_read_and_bounded(text: str, seconds: float | None) -> None:
    assert retry_after(Answer(503, {"retry-after": text}, b""), NOW) == seconds


def test_the_pause_goes_with_the_failure() -> None:
    with pytest.raises(SinkUnavailable) as raised:
        told(429, b"", 3, **{"retry-after": "12"})
    assert raised.value.retry_after == 12.0


@pytest.mark.parametrize(
    ("text", "line"),
    [("a\n\tb\0c", "a b c"), ("\u202eabc\u2028", "abc"), ("x" * 20, "x" * 9 + "…"), ("  ", "")],
)
def test_what_others_wrote_is_fit_for_a_log(text: str, line: str) -> None:
    assert clean(text, 10) == line


def test_a_host_is_that_of_the_url() -> None:
    assert host_of("https://a:b@c.example:1/x") == "c.example"
