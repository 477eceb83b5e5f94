"""Responses as bytes, and problem details."""

from __future__ import annotations

import json

from hermes.net.http.response import Response, problem
from tests.net.http.kit import read_answers

DATE = b"Tue, 14 Nov 2023 22:13:20 GMT"


def test_a_response_is_rendered_with_what_changes_from_request_to_request() -> None:
    response = Response(202, b'{"accepted":1}')
    assert response.render(DATE, b"id-1", b"\r\nvary: origin") == (
        b"HTTP/1.1 202 Accepted\r\ncontent-length: 14\r\ncontent-type: application/json\r\n"
        b"date: Tue, 14 Nov 2023 22:13:20 GMT\r\nx-request-id: id-1\r\nvary: origin\r\n\r\n"
        b'{"accepted":1}'
    )


def test_a_new_date_is_shown_at_once() -> None:
    response = Response(202)
    assert b"date: one\r\n" in response.render(b"one", b"1")
    assert b"date: two\r\n" in response.render(b"two", b"2")


def test_without_a_body_there_is_no_content_type() -> None:
    (answer,) = read_answers(Response(204, headers={"Allow": "POST"}).render(DATE, b"1"))
    assert "content-type" not in answer.headers
    assert (answer.headers["content-length"], answer.headers["allow"]) == ("0", "POST")


def test_an_empty_message_of_another_type_says_its_type() -> None:
    (answer,) = read_answers(Response(200, b"", "application/x-protobuf").render(DATE, b"1"))
    assert (answer.headers["content-type"], answer.body) == ("application/x-protobuf", b"")


def test_a_problem_has_the_members_of_rfc_9457_and_extensions() -> None:
    response = problem(400, "it is wrong", {"Retry-After": "1"}, close=True, rejected=[{"index": 0}])
    assert response.close
    (answer,) = read_answers(response.render(DATE, b"1"))
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["retry-after"] == "1"
    assert json.loads(answer.body) == {
        "type": "about:blank",
        "title": "Bad Request",
        "status": 400,
        "detail": "it is wrong",
        "rejected": [{"index": 0}],
    }
