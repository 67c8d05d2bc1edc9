"""The tools' side: finds the running session of this user on this node and asks its rank 0."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path
from typing import Any

from trireme import _session
from trireme._session import socket_path


class NoSessionError(ConnectionError):
    """There is no session to ask."""


def find(job: str | None = None) -> Path:
    """Return the folder of rank 0 of the newest session of this user, or of the one with that job name or pid.

    Raises
    ------
    NoSessionError
        There is none on this node.
    """
    found = [folder for folder in _session.sessions() if (folder / _session.CONTROL_SOCKET).exists()]
    if job is not None:
        named = {folder: _session.describe(folder) for folder in found}
        found = [folder for folder, about in named.items() if about and job in (about.job, str(about.pid))]
    if not found:
        wanted = f" named {job}" if job is not None else ""
        raise NoSessionError(
            f"no session{wanted} of uid {os.getuid()} whose rank 0 is on {socket.gethostname()} (looked into "
            f"{_session.base()}). Run this on the node where the program runs, with the same TMPDIR."
        )
    return found[-1]


def ask(do: str, *, job: str | None = None, **arguments: Any) -> Any:
    """Have rank 0 carry out an operation of `control.OPERATIONS` and return its value.

    Raises
    ------
    NoSessionError
        There is no session, or it ended meanwhile.
    RuntimeError
        The operation failed; with rank 0's error.
    """
    path = find(job) / _session.CONTROL_SOCKET
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    with connection:
        try:
            with socket_path(path) as short:
                connection.connect(short)
        except OSError as error:
            raise NoSessionError(f"the session of {path.parent} does not answer: {error}") from error
        with connection.makefile("rw", encoding="utf-8") as stream:
            stream.write(json.dumps({"do": do, **arguments}) + "\n")
            stream.flush()
            line = stream.readline()
    if not line:
        raise NoSessionError(f"the session of {path.parent} ended")
    answer = json.loads(line)
    if "error" in answer:
        raise RuntimeError(answer["error"])
    return answer["value"]
