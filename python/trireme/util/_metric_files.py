"""The files behind `trireme.util.metrics`: one per process, written through a mapping and read by anybody at any time.

A record is: u32 length of a JSON head, u32 number of values, the head padded to 8 bytes, then (value, time) pairs of
doubles. The file's first 8 bytes say how many bytes of records are complete; they are written last, so a reader never
sees half a head. A process that cannot map a file (no session) keeps its values in memory.
"""

from __future__ import annotations

import json
import mmap
import os
import struct
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trireme import _session

GROWTH = 64 * 1024  # bytes by which a file grows; a record of a plain counter has about 100
_PAIR = struct.Struct("=dd")
_HEAD = struct.Struct("=II")
_USED = struct.Struct("=Q")


@dataclass
class Sample:
    """A metric with one set of tags, as it was read."""

    name: str
    kind: str  # counter, gauge, histogram
    description: str
    tags: dict[str, str]
    value: float  # a histogram's sum of values
    time: float = 0  # of the last change, seconds since the epoch
    boundaries: list[float] = field(default_factory=list)
    buckets: list[float] = field(default_factory=list)  # one more than boundaries


class Slot:
    """Some values of one record in the mapping. Threading: any thread."""

    def __init__(self, owner: Writer, offset: int) -> None:
        self._owner = owner
        self._offset = offset

    @property
    def stale(self) -> bool:
        """Whether the process now writes elsewhere: it forked, or another session began."""
        return self._owner is not writer()

    def add(self, index: int, value: float) -> None:
        offset = self._offset + index * _PAIR.size
        with self._owner.lock:
            memory = self._owner.memory
            _PAIR.pack_into(memory, offset, _PAIR.unpack_from(memory, offset)[0] + value, time.time())

    def set(self, index: int, value: float) -> None:
        with self._owner.lock:
            _PAIR.pack_into(self._owner.memory, self._offset + index * _PAIR.size, value, time.time())


class Writer:
    """This process's values in one session."""

    def __init__(self, session: str | None) -> None:
        self.session = session
        self.pid = os.getpid()
        self.lock = threading.Lock()
        self._file: int | None = None
        self._used = _USED.size
        self._slots: dict[str, Slot] = {}
        self.memory: Any = bytearray(GROWTH)
        if session is not None and os.path.isdir(session):
            path = os.path.join(session, "metrics", f"{self.pid}.bin")
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            os.ftruncate(self._file, GROWTH)
            self.memory = mmap.mmap(self._file, GROWTH)
        _USED.pack_into(self.memory, 0, self._used)

    def slot(self, head: dict[str, Any], numbers: int) -> Slot:
        """Return the values of the record with this head, a new one when there is none."""
        text = json.dumps(head, sort_keys=True)
        with self.lock:
            if text not in self._slots:
                self._slots[text] = Slot(self, self._append(text.encode(), numbers))
            return self._slots[text]

    def _append(self, head: bytes, numbers: int) -> int:
        padded = -(-(_HEAD.size + len(head)) // 8) * 8
        end = self._used + padded + numbers * _PAIR.size
        if end > len(self.memory):
            self._grow(-(-end // GROWTH) * GROWTH)
        _HEAD.pack_into(self.memory, self._used, len(head), numbers)
        start = self._used + _HEAD.size
        self.memory[start : start + len(head)] = head
        values = self._used + padded
        self._used = end
        _USED.pack_into(self.memory, 0, end)
        return values

    def _grow(self, size: int) -> None:
        if self._file is None:
            self.memory.extend(bytes(size - len(self.memory)))
        else:
            os.ftruncate(self._file, size)
            self.memory.resize(size)

    def close(self) -> None:
        if self._file is not None:
            self.memory.close()
            os.close(self._file)
            self._file = None
            self.memory = bytearray(self._used)  # for who still holds a slot


_writer: Writer | None = None
_writer_lock = threading.Lock()


def writer() -> Writer:
    """Return where this process's values go now."""
    global _writer
    now = _writer
    session = os.environ.get(_session.VARIABLE)
    if now is not None and now.pid == os.getpid() and now.session == session:
        return now
    with _writer_lock:
        if _writer is None or _writer.pid != os.getpid() or _writer.session != session:
            if _writer is not None:
                _writer.close()
            _writer = Writer(session)
        return _writer


def close() -> None:
    """Close this process's file: the session is over."""
    global _writer
    with _writer_lock:
        if _writer is not None:
            _writer.close()
            _writer = None


def read_folder(folder: Path) -> list[Sample]:
    """Read the files of all processes of the session in `folder`."""
    samples: list[Sample] = []
    for path in sorted((folder / "metrics").glob("*.bin")):
        try:
            samples += parse(path.read_bytes())
        except OSError:
            continue
    return samples


def parse(data: bytes) -> list[Sample]:
    """Take apart one file."""
    samples = []
    (end,) = _USED.unpack_from(data)
    offset = _USED.size
    while offset < end:
        length, numbers = _HEAD.unpack_from(data, offset)
        head = json.loads(data[offset + _HEAD.size : offset + _HEAD.size + length])
        offset += -(-(_HEAD.size + length) // 8) * 8
        pairs = [_PAIR.unpack_from(data, offset + i * _PAIR.size) for i in range(numbers)]
        offset += numbers * _PAIR.size
        values = [value for value, _ in pairs]
        samples.append(Sample(value=values[-1], time=max(when for _, when in pairs), buckets=values[:-1], **head))
    return samples


def merge(samples: Iterable[Sample]) -> list[Sample]:
    """Add up what several processes recorded under the same name and tags; of gauges the newest stays."""
    merged: dict[Any, Sample] = {}
    for sample in samples:
        key = (sample.name, sample.kind, tuple(sample.tags.items()), tuple(sample.boundaries))
        into = merged.get(key)
        if into is None:
            merged[key] = sample
        elif sample.kind == "gauge":
            if sample.time > into.time:
                merged[key] = sample
        else:
            into.value += sample.value
            into.time = max(into.time, sample.time)
            into.buckets = [a + b for a, b in zip(into.buckets, sample.buckets)]
    return [merged[key] for key in sorted(merged)]
