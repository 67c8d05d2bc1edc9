"""What a search writes down so that it can go on after it was killed.

Every event is one record, appended with one write: ``length, CRC-32, pickle``. A record that was cut off by a death
ends the journal. Beside it ``search_state.pkl`` holds the state of searcher, scheduler and stopper as of some record,
replaced by renaming; the records after it are replayed.
"""

from __future__ import annotations

import os
import pickle
import struct
import time
import zlib
from collections.abc import Iterator
from typing import Any

JOURNAL_FILE = "experiment.journal"
STATE_FILE = "search_state.pkl"
_MAGIC = b"TRIREME-TUNE-1\n"
_HEADER = struct.Struct("<II")
# A state is written again only when this many times the last writing's duration went by.
_STATE_SPACING = 50


class Journal:
    """Appends records.

    Threading: one thread.
    Errors:    OSError of the file system.
    """

    def __init__(self, folder: str) -> None:
        self._folder = folder
        path = os.path.join(folder, JOURNAL_FILE)
        records, size = _scan(path)
        self.count = sum(1 for _ in records)
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
        if size() == 0:
            os.ftruncate(self._file, 0)
            os.write(self._file, _MAGIC)
        else:
            os.ftruncate(self._file, size())  # what a death cut off
            os.lseek(self._file, 0, os.SEEK_END)
        self._next_state = 0.0

    def append(self, kind: str, trial_id: str, data: Any) -> None:
        """Writes a record."""
        try:
            payload = pickle.dumps((kind, trial_id, data), protocol=pickle.HIGHEST_PROTOCOL)
        except Exception:
            import cloudpickle  # a configuration with lambdas or local classes

            payload = cloudpickle.dumps((kind, trial_id, data))
        os.write(self._file, _HEADER.pack(len(payload), zlib.crc32(payload)) + payload)
        self.count += 1

    def state_due(self) -> bool:
        """Whether it is time for `save_state`."""
        return time.monotonic() >= self._next_state

    def save_state(self, state: dict[str, Any]) -> None:
        """Writes the state as of the last record."""
        import cloudpickle

        start = time.monotonic()
        path = os.path.join(self._folder, STATE_FILE)
        with open(f"{path}.partial", "wb") as file:
            file.write(cloudpickle.dumps({**state, "records": self.count}))
        os.replace(f"{path}.partial", path)
        end = time.monotonic()
        self._next_state = end + _STATE_SPACING * (end - start)

    def close(self) -> None:
        """No more records."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


def read_journal(folder: str) -> Iterator[tuple[str, str, Any]]:
    """The whole records: kind, trial id, data.

    Raises
    ------
    FileNotFoundError
        The folder holds no journal.
    """
    path = os.path.join(folder, JOURNAL_FILE)
    if not os.path.exists(path):
        raise FileNotFoundError(f"{folder!r} holds no {JOURNAL_FILE}: it is no folder of a search")
    records, _ = _scan(path)
    for payload in records:
        yield pickle.loads(payload)


def read_state(folder: str) -> dict[str, Any] | None:
    """The last state; None when none was written."""
    path = os.path.join(folder, STATE_FILE)
    if not os.path.exists(path):
        return None
    with open(path, "rb") as file:
        return pickle.load(file)


def _scan(path: str) -> tuple[Iterator[bytes], Any]:
    good = 0

    def records() -> Iterator[bytes]:
        nonlocal good
        if not os.path.exists(path):
            return
        with open(path, "rb") as file:
            if file.read(len(_MAGIC)) != _MAGIC:
                return
            good = len(_MAGIC)
            while len(header := file.read(_HEADER.size)) == _HEADER.size:
                length, crc = _HEADER.unpack(header)
                payload = file.read(length)
                if len(payload) < length or zlib.crc32(payload) != crc:
                    return
                good += _HEADER.size + length
                yield payload

    return records(), lambda: good
