"""Counters, gauges and histograms that tasks and actors write and the driver reads.

Every process keeps its values in a file of its own in the session's folder, mapped into memory: recording is a few
instructions, sends nothing, and the values of a process that died stay. `collect` reads the files of all ranks and adds them
up; `prometheus_text` prints the sum in Prometheus' text format.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Sequence
from typing import Any

from trireme.util import _metric_files as files
from trireme.util._metric_files import Sample

__all__ = ["Counter", "Gauge", "Histogram", "Sample", "collect", "prometheus_text"]

Tags = dict[str, str]


class Metric:
    """What all metrics have in common.

    Threading: any thread, any process; can be passed to tasks and actors.

    Parameters
    ----------
    name
        Letters, digits and underscores, not starting with a digit; one kind of metric a name.
    description
        For who reads the values.
    tag_keys
        Names of the tags; every record gives each of them a value, itself or by `set_default_tags`.
    """

    _kind = ""

    def __init__(self, name: str, description: str = "", tag_keys: Sequence[str] | None = None) -> None:
        if not isinstance(name, str) or not name.replace(":", "_").isidentifier() or not name.isascii():
            raise ValueError(f"a metric's name is letters, digits and underscores, but {name!r} was given")
        if tag_keys is not None and (isinstance(tag_keys, str) or not isinstance(tag_keys, Sequence)):
            raise TypeError(f"tag_keys is a tuple of strings, not {tag_keys!r}")
        for key in tag_keys or ():
            if not isinstance(key, str):
                raise TypeError(f"tag_keys are strings, but {key!r} was given")
        self._name = name
        self._description = description
        self._tag_keys = tuple(tag_keys or ())
        self._default_tags: Tags = {}
        self._slots: dict[tuple[str, ...], files.Slot] = {}

    @property
    def info(self) -> dict[str, Any]:
        """Name, description, tag keys and default tags."""
        return {
            "name": self._name,
            "description": self._description,
            "tag_keys": self._tag_keys,
            "default_tags": self._default_tags,
        }

    def set_default_tags(self, default_tags: Tags) -> Metric:
        """Set the values of tags that a record does not give; returns the metric.

        Raises
        ------
        ValueError
            A key is not among `tag_keys`.
        TypeError
            A value is not a string.
        """
        self._check_tags(default_tags)
        self._default_tags = dict(default_tags)
        return self

    def _check_tags(self, tags: Tags) -> None:
        for key, value in tags.items():
            if key not in self._tag_keys:
                raise ValueError(f"{self._name} has no tag {key!r}; its tag_keys are {self._tag_keys}")
            if not isinstance(value, str):
                raise TypeError(f"tag values are strings, but {key}={value!r} was given")

    def _values(self, tags: Tags | None) -> tuple[str, ...]:
        if tags:
            self._check_tags(tags)
        merged = {**self._default_tags, **(tags or {})}
        missing = [key for key in self._tag_keys if key not in merged]
        if missing:
            raise ValueError(f"{self._name}: no value for the tags {missing}; give them, or set_default_tags()")
        return tuple(merged[key] for key in self._tag_keys)

    def _slot(self, values: tuple[str, ...], numbers: int = 1, more: dict[str, Any] | None = None) -> files.Slot:
        slot = self._slots.get(values)
        if slot is None or slot.stale:
            head = {"name": self._name, "kind": self._kind, "description": self._description}
            slot = files.writer().slot({**head, "tags": dict(zip(self._tag_keys, values)), **(more or {})}, numbers)
            self._slots[values] = slot
        return slot

    def __reduce__(self) -> Any:
        return _rebuild, (type(self), self._arguments(), self._default_tags)

    def _arguments(self) -> tuple[Any, ...]:
        return self._name, self._description, self._tag_keys


def _rebuild(cls: type[Metric], arguments: tuple[Any, ...], default_tags: Tags) -> Metric:
    metric = cls(*arguments)
    metric._default_tags = default_tags
    return metric


class Counter(Metric):
    """A sum that only grows; the sum over all processes is read."""

    _kind = "counter"

    def inc(self, value: float = 1.0, tags: Tags | None = None) -> None:
        """Add `value`.

        Raises
        ------
        ValueError
            `value` is not positive, or a tag is missing or unknown.
        """
        if not isinstance(value, (int, float)):
            raise TypeError(f"{self._name}: value is a number, not {type(value).__name__}")
        if not value > 0:
            raise ValueError(f"{self._name}: a counter only grows, but {value} was given")
        self._slot(self._values(tags)).add(0, value)


class Gauge(Metric):
    """A value that goes up and down; the value set last by any process is read."""

    _kind = "gauge"

    def set(self, value: float | None, tags: Tags | None = None) -> None:
        """Set the value; None is passed over."""
        if value is None:
            return
        if not isinstance(value, (int, float)):
            raise TypeError(f"{self._name}: value is a number, not {type(value).__name__}")
        self._slot(self._values(tags)).set(0, value)


class Histogram(Metric):
    """How often values fell between boundaries; the sum over all processes is read.

    Parameters
    ----------
    boundaries
        Positive, ascending upper bounds of the buckets; a last bucket takes what is above.
    """

    _kind = "histogram"

    def __init__(
        self,
        name: str,
        description: str = "",
        boundaries: Sequence[float] | None = None,
        tag_keys: Sequence[str] | None = None,
    ) -> None:
        super().__init__(name, description, tag_keys)
        if not boundaries:
            raise ValueError(f"{name}: a histogram needs boundaries, as in boundaries=[0.1, 1, 10]")
        if any(not bound > 0 for bound in boundaries) or list(boundaries) != sorted(set(boundaries)):
            raise ValueError(f"{name}: boundaries are positive and ascending, but {list(boundaries)} was given")
        self.boundaries = [float(bound) for bound in boundaries]

    @property
    def info(self) -> dict[str, Any]:
        """Name, description, tag keys, default tags and boundaries."""
        return {**super().info, "boundaries": self.boundaries}

    def observe(self, value: float, tags: Tags | None = None) -> None:
        """Count `value` in its bucket."""
        if not isinstance(value, (int, float)):
            raise TypeError(f"{self._name}: value is a number, not {type(value).__name__}")
        # Buckets, then the sum of the values.
        slot = self._slot(self._values(tags), len(self.boundaries) + 2, {"boundaries": self.boundaries})
        slot.add(bisect.bisect_left(self.boundaries, value), 1)
        slot.add(len(self.boundaries) + 1, value)

    def _arguments(self) -> tuple[Any, ...]:
        return self._name, self._description, self.boundaries, self._tag_keys


def collect(timeout: float = 10) -> list[Sample]:
    """Read all metrics of the job, added up over its processes.

    Parameters
    ----------
    timeout
        Seconds to wait for other nodes; a node that does not answer in time is named in a warning and left out.

    Returns
    -------
    list of Sample
        One for each metric and set of tags, sorted by name.
    """
    from trireme.util.state._gather import gather

    parts = gather(files.read_folder, timeout)
    return files.merge([sample for part in parts for sample in part.value])


def prometheus_text(samples: Sequence[Sample] | None = None) -> str:
    """Return the metrics in Prometheus' text format; those of `collect()` by default."""
    lines: list[str] = []
    previous = None
    for sample in collect() if samples is None else samples:
        if sample.name != previous:
            previous = sample.name
            description = sample.description.replace("\\", r"\\").replace("\n", r"\n")
            lines.append(f"# HELP {sample.name} {description}")
            lines.append(f"# TYPE {sample.name} {sample.kind}")
        if sample.kind != "histogram":
            lines.append(f"{sample.name}{_labels(sample.tags)} {_number(sample.value)}")
            continue
        total = 0.0
        for bound, count in zip([*sample.boundaries, math.inf], sample.buckets):
            total += count
            lines.append(f"{sample.name}_bucket{_labels({**sample.tags, 'le': _number(bound)})} {_number(total)}")
        lines.append(f"{sample.name}_sum{_labels(sample.tags)} {_number(sample.value)}")
        lines.append(f"{sample.name}_count{_labels(sample.tags)} {_number(total)}")
    return "".join(f"{line}\n" for line in lines)


def _labels(tags: Tags) -> str:
    def escaped(value: str) -> str:
        return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")

    return "{" + ",".join(f'{key}="{escaped(value)}"' for key, value in tags.items()) + "}" if tags else ""


def _number(value: float) -> str:
    if value == math.inf:
        return "+Inf"
    return str(int(value)) if float(value).is_integer() else repr(float(value))
