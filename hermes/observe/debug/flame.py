"""Writes a profile as flame graphs: folded stacks (one line each) and speedscope's JSON.

Invariant: the weights of a profile add up to the same total in every format.

Sources: folded stacks are the input of https://github.com/brendangregg/FlameGraph; the JSON's schema is
https://www.speedscope.app/file-format-schema.json.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from hermes.observe.debug.stacks import Frame, Sample, short_path, synthetic


def folded(samples: Sequence[Sample], value: int) -> bytes:
    r"""Return lines ``outer;inner 123``, the largest first. ``value`` is the index in ``Sample.values`` of the weight.

    >>> folded([Sample((synthetic("run"), synthetic("parse")), (3, 700))], value=1)
    b'run;parse 700\n'
    """
    lines = (
        ";".join(_folded_name(frame) for frame in _with_labels(sample)) + f" {sample.values[value]}\n"
        for sample in sorted(samples, key=lambda sample: -sample.values[value])
        if sample.values[value]
    )
    # A task's name may hold half of a surrogate pair.
    return "".join(lines).encode(errors="replace")


def speedscope(samples: Sequence[Sample], value: int, unit: str, name: str) -> bytes:
    """Return a file for https://www.speedscope.app.

    ``unit`` is one of speedscope's units: ``nanoseconds``, ``bytes``, ``none``.
    """
    frames: dict[Frame, int] = {}
    stacks = [
        [frames.setdefault(frame, len(frames)) for frame in _with_labels(sample)]
        for sample in samples
        if sample.values[value]
    ]
    # The same condition as above: speedscope needs as many weights as stacks.
    weights = [sample.values[value] for sample in samples if sample.values[value]]
    return msgspec.json.encode(
        {
            "$schema": "https://www.speedscope.app/file-format-schema.json",
            "exporter": "hermes",
            "name": name,
            "shared": {
                "frames": [{"name": frame.function, "file": frame.file, "line": frame.line} for frame in frames]
            },
            "profiles": [
                {
                    "type": "sampled",
                    "name": name,
                    "unit": unit,
                    "startValue": 0,
                    "endValue": sum(weights),
                    "samples": stacks,
                    "weights": weights,
                }
            ],
        }
    )


def _with_labels(sample: Sample) -> list[Frame]:
    # The labels become the outermost frames, so that a graph divides by thread and task first.
    return [synthetic(f"{key}: {value}") for key, value in sample.labels] + list(sample.stack)


def _folded_name(frame: Frame) -> str:
    # With the place, because functions of one name in two files would be added up.
    place = f" ({short_path(frame.file)}:{frame.line})" if frame.file else ""
    # Semicolons separate frames in this format, and line feeds separate stacks.
    return (frame.function + place).replace(";", ",").replace("\n", " ")
