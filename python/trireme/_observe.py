"""What a worker process leaves for the tools: in its session's folder which tasks it ran, and its stacks on demand.

A record of a task is written in place into a mapped file, one ring per process (by the compiled runtime, python/native/records.hpp):
nothing is sent, and the last tasks of a process that died can still be read. TRIREME_TASK_EVENTS=0 switches records off.
"""

from __future__ import annotations

import faulthandler
import json
import mmap
import os
import signal
import struct
import sys
from dataclasses import dataclass
from json.encoder import encode_basestring_ascii as _json_text
from pathlib import Path
from time import time
from typing import Any

from trireme import _session
from trireme._native import Records

CAPACITY = 1024  # records a process keeps; older ones are overwritten
NAME_BYTES = 112  # of longer names the end is kept
STACK_SIGNAL = signal.SIGUSR2
#: How /proc/PID/fd names the file that the process writes them to.
STACK_FILE = "trireme-stack"
#: At the beginning of a file: how many records were begun, then what is known of the process as JSON.
_HEADER = struct.Struct("=QQ")
_HEADER_BYTES = 4096
# begin, end (0: runs), number, token, kind, attempt, name, error
_RECORD = struct.Struct(f"=ddQQII{NAME_BYTES}s32s")

KINDS = ("NORMAL_TASK", "ACTOR_CREATION_TASK", "ACTOR_TASK")
TASK, CREATION, CALL = range(3)


@dataclass(frozen=True)
class Record:
    """One task as a process recorded it. Times in seconds since the epoch; `end` is 0 while it runs."""

    number: int
    token: int  # the runtime's name of the call in this worker
    kind: str
    name: str
    attempt: int
    begin: float
    end: float
    error: str


class Recorder:
    """The ring of this process. Threading: any thread; records of concurrent calls do not disturb each other."""

    def __init__(self, folder: str, about: dict[str, Any]) -> None:
        size = _HEADER_BYTES + CAPACITY * _RECORD.size
        file = os.open(f"{folder}/events/{os.getpid()}.bin", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        os.ftruncate(file, size)
        self._memory = mmap.mmap(file, size)
        self.records = Records(self._memory)
        #: begin(kind, name, attempt, token) records that a task starts and gives the number for end(number, error=""), which
        #: records that it ended, with the type of the exception when it failed. `kind` is an index of KINDS.
        self.begin = self.records.begin
        self.end = self.records.end
        os.close(file)
        self._about = {"pid": os.getpid(), "started": time(), **about}
        self.describe()

    def describe(self, **more: Any) -> None:
        """Add to what is known of the process: the actor it is, its name."""
        self._about.update(more)
        text = ("{" + ", ".join([f'"{name}": {_json(value)}' for name, value in self._about.items()]) + "}").encode()
        if len(text) > _HEADER_BYTES - _HEADER.size:
            text = json.dumps({name: str(value)[-256:] for name, value in self._about.items()}).encode()
        self._memory[_HEADER.size : _HEADER.size + len(text)] = text
        self._memory[8:16] = len(text).to_bytes(8, sys.byteorder)


def _json(value: Any) -> str:
    # json.dumps() touches more of a forked worker's pages than what it writes.
    return _json_text(value) if type(value) is str else repr(value) if type(value) in (int, float) else json.dumps(value)


#: The session's folder ("": there is none), and whether records are wanted: see prepare().
_folder = ""
_records = True
#: This process's recorder; None in a driver, without a session, and when records are off.
recorder: Recorder | None = None


def prepare() -> None:
    """Look up what holds for all workers: in the template process, or in one that was not forked from it."""
    global _folder, _records
    _folder = str(_session.current() or "")
    _records = os.environ.get("TRIREME_TASK_EVENTS", "1") != "0"


def start_worker(**about: Any) -> None:
    """Set up a worker process, once, after the fork.

    Parameters
    ----------
    about
        What is known of it: `rank`, `worker_id`.
    """
    global recorder
    if not _folder:
        return
    if _records:
        recorder = Recorder(_folder, about)
    # A descriptor for the process's life; a file in a folder takes much longer to make.
    stacks = os.memfd_create(STACK_FILE, os.MFD_CLOEXEC)
    faulthandler.register(STACK_SIGNAL, file=stacks, all_threads=True)
    sys.breakpointhook = _breakpoint


def keep_environment(env: dict[str, Any], error: BaseException | None, seconds: float) -> None:
    """Leave what runtime environment this worker process has, how long it took to make, and why it could not be made."""
    folder = _session.current()
    if folder is None:
        return
    known = {"runtime_env": env, "error": None if error is None else str(error), "creation_time_ms": 1000 * seconds}
    place = folder / "events" / f"{os.getpid()}.env"
    unfinished = place.with_suffix(".new")
    unfinished.write_text(json.dumps(known, default=str))
    unfinished.rename(place)


def read_environments(folder: Path) -> list[dict[str, Any]]:
    """Read what keep_environment() left at one rank: each with `alive`, whether the process is there."""
    found = []
    for path in sorted((folder / "events").glob("*.env")):
        try:
            known = json.loads(path.read_text())
        except (OSError, ValueError):
            continue
        found.append({**known, "alive": os.path.exists(f"/proc/{path.stem}")})
    return found


def _breakpoint(*_: Any, **__: Any) -> None:
    from trireme.util import rpdb

    rpdb.set_trace(sys._getframe(1))


def read_folder(folder: Path) -> list[dict[str, Any]]:
    """Read what the workers of one rank left: for each what `describe` said, `alive`, and `records`."""
    found = []
    for path in sorted((folder / "events").glob("*.bin")):
        try:
            data = path.read_bytes()
            about = json.loads(data[_HEADER.size : _HEADER.size + _HEADER.unpack_from(data)[1]])
        except (OSError, ValueError, struct.error):
            continue  # it is being made, or the text is being written
        found.append({**about, "alive": os.path.exists(f"/proc/{about['pid']}"), "records": parse(data)})
    return found


def parse(data: bytes) -> list[Record]:
    """Take apart a ring, the oldest record first."""
    count = _HEADER.unpack_from(data)[0]
    records = []
    for number in range(max(0, count - CAPACITY), count):
        offset = _HEADER_BYTES + number % CAPACITY * _RECORD.size
        begin, end, written, token, kind, attempt, name, error = _RECORD.unpack_from(data, offset)
        if written == number:  # not being overwritten right now
            records.append(Record(number, token, KINDS[kind], _text(name), attempt, begin, end, _text(error)))
    return records


def _text(raw: bytes) -> str:
    return raw.partition(b"\0")[0].decode(errors="replace")
