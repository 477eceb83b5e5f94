"""The pprof encoder, read back by an independent decoder."""

import gzip

from hypothesis import given
from hypothesis import strategies as st

from hermes.observe.debug.pprof import Header, ValueType, encode
from hermes.observe.debug.stacks import Frame, Sample
from tests.observe.debug.decoding import decode

COUNT, CPU = ValueType("samples", "count"), ValueType("cpu", "nanoseconds")
HEADER = Header((COUNT, CPU), CPU, 10_000_000, 1_700_000_000_000_000_000, 30_000_000_000, "cpu", ("a comment",))
OUTER = Frame("app.main", "/src/app.py", 10, 5)
INNER = Frame("app.work", "/src/app.py", 300, 200)


def test_the_header_survives() -> None:
    decoded = decode(encode(HEADER, []))
    assert decoded.sample_types == [("samples", "count"), ("cpu", "nanoseconds")]
    assert decoded.period_type == ("cpu", "nanoseconds")
    assert decoded.period == 10_000_000
    assert decoded.time_nanos == 1_700_000_000_000_000_000
    assert decoded.duration_nanos == 30_000_000_000
    assert decoded.default_sample_type == "cpu"
    assert decoded.comments == ["a comment"]


def test_a_sample_is_written_innermost_first_with_values_and_labels() -> None:
    sample = Sample((OUTER, INNER), (3, 30_000_000), (("thread", "MainThread"), ("task", "app.main")))
    (decoded,) = decode(encode(HEADER, [sample])).samples
    assert decoded.stack == [("app.work", "/src/app.py", 300), ("app.main", "/src/app.py", 10)]
    assert decoded.values == [3, 30_000_000]
    assert decoded.labels == {"thread": "MainThread", "task": "app.main"}


def test_shared_frames_are_written_once() -> None:
    one = len(gzip.decompress(encode(HEADER, [Sample((OUTER, INNER), (1, 1))])))
    two = len(gzip.decompress(encode(HEADER, [Sample((OUTER, INNER), (1, 1))] * 2)))
    assert two - one == 10  # tag and length of the sample, then two locations and two values with theirs


def test_two_lines_of_a_function_are_two_locations_of_one_function() -> None:
    other = Frame("app.work", "/src/app.py", 301, 200)
    decoded = decode(encode(HEADER, [Sample((INNER,), (1, 1)), Sample((other,), (1, 1))]))
    assert [sample.stack[0][2] for sample in decoded.samples] == [300, 301]
    assert gzip.decompress(encode(HEADER, [Sample((INNER, other), (1, 1))])).count(b"app.work") == 1


def test_equal_input_gives_equal_bytes() -> None:
    samples = [Sample((OUTER, INNER), (1, 2))]
    assert encode(HEADER, samples) == encode(HEADER, samples)


def test_a_name_that_is_no_unicode_is_replaced_not_refused() -> None:
    decoded = decode(encode(HEADER, [Sample((Frame("f", "/src/\udcff.py", 1),), (1, 1))]))
    assert decoded.samples[0].stack == [("f", "/src/?.py", 1)]


_frames = st.builds(
    Frame, st.text("abc.ü<>", min_size=1, max_size=8), st.text("/xy", max_size=4), st.integers(0, 2**31), st.just(0)
)
_samples = st.builds(
    Sample,
    st.lists(_frames, min_size=1, max_size=6).map(tuple),
    st.tuples(st.integers(0, 2**63 - 1), st.integers(0, 2**63 - 1)),
    st.just(()),
)


@given(st.lists(_samples, max_size=10))
def test_any_samples_read_back_as_they_were(samples: list[Sample]) -> None:
    decoded = decode(encode(HEADER, samples)).samples
    assert [(list(reversed(s.stack)), tuple(s.values)) for s in decoded] == [
        ([(frame.function, frame.file, frame.line) for frame in sample.stack], sample.values) for sample in samples
    ]
