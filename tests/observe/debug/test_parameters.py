"""Query parameters: defaults, bounds, and errors that say what is accepted."""

import pytest

from hermes.observe.debug.parameters import BadParameterError, Parameters


def seconds(given: str) -> float:
    return Parameters({"seconds": given}).number("seconds", 30, 0.1, 120, "seconds")


@pytest.mark.parametrize(("given", "value"), [("0.1", 0.1), ("5", 5), ("120", 120), ("1e1", 10)])
def test_a_number_within_its_bounds_is_taken(given: str, value: float) -> None:
    assert seconds(given) == value


@pytest.mark.parametrize("given", ["", "abc", "0", "-5", "0.09", "121", "nan", "inf", "-inf", "1,5", "10s"])
def test_a_number_beyond_them_is_refused_with_the_bounds(given: str) -> None:
    with pytest.raises(BadParameterError, match=r"^seconds='.*': must be a number from 0\.1 to 120 \(seconds\)$"):
        seconds(given)


def test_a_missing_parameter_has_its_default() -> None:
    parameters = Parameters({})
    assert parameters.number("seconds", 30, 0.1, 120, "seconds") == 30
    assert parameters.whole("hz", 100, 1, 1000) == 100
    assert parameters.format(("pprof", "text"), ("pprof", "text")) == "pprof"


@pytest.mark.parametrize("given", ["0", "1001", "1.5", "-1", "", "ten", "²", "٣", "9" * 100_000])
def test_a_whole_number_out_of_its_bounds_is_refused(given: str) -> None:
    with pytest.raises(BadParameterError, match=r"must be a whole number from 1 to 1000$"):
        Parameters({"hz": given}).whole("hz", 100, 1, 1000)


def test_debug_chooses_the_format_as_in_go() -> None:
    forms = ("pprof", "text", "tree", "json")
    chosen = [Parameters({"debug": str(level)}).format(forms, forms[:3]) for level in range(3)]
    assert chosen == ["pprof", "text", "tree"]
    with pytest.raises(BadParameterError, match="debug='3': must be a whole number from 0 to 2"):
        Parameters({"debug": "3"}).format(forms, forms[:3])


def test_format_wins_over_debug_and_an_unknown_one_is_refused_with_the_known() -> None:
    forms = ("pprof", "text")
    assert Parameters({"debug": "1", "format": "pprof"}).format(forms, forms) == "pprof"
    with pytest.raises(BadParameterError, match="format='svg': must be one of pprof, text"):
        Parameters({"format": "svg"}).format(forms, forms)


def test_a_huge_value_is_not_echoed_whole() -> None:
    with pytest.raises(BadParameterError) as caught:
        seconds("x" * 10_000)
    assert len(str(caught.value)) < 150
