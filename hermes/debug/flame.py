"""A profile as flame graphs: folded stacks (one line each) and speedscope's JSON.

Sources: folded stacks are the input of https://github.com/brendangregg/FlameGraph; the JSON's schema is
https://www.speedscope.app/file-format-schema.json. Invariant: the weights of a profile add up to the same total in
every format. Labels become the outermost frames, so that a graph divides by thread and task first.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from hermes.debug.stacks import Frame, Sample, short_path, synthetic


def folded(samples: Sequence[Sample], value: int) -> bytes:
    """``outer;inner 123`` a line, the largest first. ``value`` is the index in ``Sample.values`` of what to show."""
    lines = (
        ";".join(_folded_name(frame) for frame in _with_labels(sample)) + f" {sample.values[value]}\n"
        for sample in sorted(samples, key=lambda sample: -sample.values[value])
        if sample.values[value]
    )
    return "".join(lines).encode(errors="replace")


def speedscope(samples: Sequence[Sample], value: int, unit: str, name: str) -> bytes:
    """A file for https://www.speedscope.app. ``unit`` is one that it knows: ``nanoseconds``, ``bytes``, ``none``."""
    frames: dict[Frame, int] = {}
    stacks = [
        [frames.setdefault(frame, len(frames)) for frame in _with_labels(sample)]
        for sample in samples
        if sample.values[value]
    ]
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
    return [synthetic(f"{key}: {value}") for key, value in sample.labels] + list(sample.stack)


def _folded_name(frame: Frame) -> str:
    place = f" ({short_path(frame.file)}:{frame.line})" if frame.file else ""
    return (frame.function + place).replace(";", ",").replace("\n", " ")
