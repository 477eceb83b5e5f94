"""What the frame of every app does with a bug of ours: an answer, and few lines."""

from __future__ import annotations

import errno

import structlog.testing

from hermes.net.control.frame import Frame, make_frame


async def test_a_bug_is_a_500_with_problem_details_and_one_line_for_each_place_however_often_it_happens() -> None:
    refused = []
    app = make_frame(Frame(lambda route, status, _: refused.append((route, status)), lambda _: None, lambda: b"1", 100))

    @app.get("/one")
    async def one() -> str:
        raise KeyError("one")

    @app.get("/two/<int(max=7):number>/<name>")
    async def two(number: int, name: str) -> str:
        raise KeyError("two")

    client = app.test_client()
    with structlog.testing.capture_logs() as lines:
        for path in ("/one", "/two/7/x") * 5:
            answer = await client.get(path)
            assert answer.status_code == 500
            assert (await answer.get_json())["title"] == "Internal Server Error"
    assert refused == [("/one", 500), ("/two/{number}/{name}", 500)] * 5
    bugs = [line for line in lines if line["log_level"] == "error"]
    assert [(bug["event"], bug["route"], repr(bug["exc_info"])) for bug in bugs] == [
        ("a request failed", "/one", "KeyError('one')"),
        ("a request failed", "/two/{number}/{name}", "KeyError('two')"),
    ]


async def test_what_the_machine_lacks_is_a_503_and_no_bug() -> None:
    app = make_frame(Frame(lambda *_: None, lambda _: None, lambda: b"1", 100))

    @app.get("/file")
    async def file() -> str:
        raise OSError(errno.EMFILE, "Too many open files")

    @app.get("/thread")
    async def thread() -> str:
        raise RuntimeError("can't start new thread")

    @app.get("/bug")
    async def bug() -> str:
        raise OSError(errno.EBADF, "Bad file descriptor")

    client = app.test_client()
    for path, status in (("/file", 503), ("/thread", 503), ("/bug", 500)):
        answer = await client.get(path)
        assert (answer.status_code, answer.content_type) == (status, "application/problem+json")
