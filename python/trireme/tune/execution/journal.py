"""What a search writes down so that it can go on after it was killed.

Every event is one record, appended with one write: ``length, CRC-32, pickle``. A record that was cut off by a death
ends the journal. Beside it ``search_state.pkl`` holds the state of searcher, scheduler and stopper as of some record,
replaced by renaming; the records after it are replayed.
"""

from __future__ import annotations

import fcntl
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
    Errors:    FileExistsError when another search writes there; OSError of the file system.
    """

    def __init__(self, folder: str) -> None:
        self._folder = folder
        path = os.path.join(folder, JOURNAL_FILE)
        # A file object: it is closed, and with it the lock given up, also when the search never comes to its end.
        self._file = os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644), "wb", buffering=0)
        try:
            _lock(self._file.fileno(), folder)
            records, size = _scan(path)
            self.count = sum(1 for _ in records)
            self._file.truncate(size())  # what a death cut off
            self._file.seek(0, os.SEEK_END)
            if size() == 0:
                self._file.write(_MAGIC)
        except BaseException:
            self._file.close()
            raise
        self._next_state = 0.0

    def append(self, kind: str, trial_id: str, data: Any) -> None:
        """Writes a record."""
        try:
            payload = pickle.dumps((kind, trial_id, data), protocol=pickle.HIGHEST_PROTOCOL)
        except Exception:
            import cloudpickle  # a configuration with lambdas or local classes

            payload = cloudpickle.dumps((kind, trial_id, data))
        self._file.write(_HEADER.pack(len(payload), zlib.crc32(payload)) + payload)
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
        self._file.close()


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


def set_aside(folder: str, *others: str) -> int:
    """Gives the journal in a folder, its state and the `others` beside it a number behind their names, which it returns.

    Raises
    ------
    FileExistsError
        The search runs.
    """
    file = os.open(os.path.join(folder, JOURNAL_FILE), os.O_WRONLY | os.O_CLOEXEC)
    try:
        _lock(file, folder)
        number = 1
        while os.path.exists(os.path.join(folder, f"{JOURNAL_FILE}.{number}")):
            number += 1
        for name in (JOURNAL_FILE, STATE_FILE, *others):
            path = os.path.join(folder, name)
            if os.path.exists(path):
                os.replace(path, f"{path}.{number}")
    finally:
        os.close(file)
    return number


def _lock(file: int, folder: str) -> None:
    """Until it is closed, nobody else gets it; where the file system knows no locks, everybody does."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise FileExistsError(f"a search runs in {folder!r} now; give this one another RunConfig.name") from None
    except OSError:
        pass


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
