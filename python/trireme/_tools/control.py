"""Answers the tools of the same user: a Unix socket in the session's folder of rank 0.

A request and its answer are a line of JSON each. Nobody else can enter the folder, and no port is opened.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from trireme import _session
from trireme._session import socket_path

logger = logging.getLogger(__name__)


class ControlServer:
    """Serves until `close`. Threading: one thread that sleeps in accept, and one for each request in progress."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / _session.CONTROL_SOCKET
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        with socket_path(self._path) as short:
            self._listener.bind(short)
        self._listener.listen(8)
        self._thread = threading.Thread(target=self._run, name="trireme-control", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the thread and remove the socket."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes accept
        self._thread.join()
        self._listener.close()
        self._path.unlink(missing_ok=True)

    def _run(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=_answer, args=(connection,), name="trireme-request", daemon=True).start()


def _answer(connection: socket.socket) -> None:
    with connection, connection.makefile("rw", encoding="utf-8") as stream:
        try:
            request = json.loads(stream.readline())
            answer = {"value": OPERATIONS[request.pop("do")](**request)}
        except Exception as error:  # noqa: BLE001 - the tool prints it
            answer = {"error": f"{type(error).__name__}: {error}"}
        with contextlib.suppress(OSError):
            stream.write(json.dumps(answer, default=str) + "\n")


def _list(kind: str, timeout: float, strict: bool = False) -> Any:
    from trireme.util.state import api
    from trireme.util.state._gather import strictly

    if kind not in api.SOURCES:
        raise api.kind_error(kind)
    with strictly(strict):
        return api.SOURCES[kind](timeout)


def _timeline(timeout: float) -> Any:
    from trireme.util.state import api

    return api.timeline_events(timeout)


def _metrics(timeout: float) -> str:
    from trireme.util import metrics

    return metrics.prometheus_text(metrics.collect(timeout))


def _logs(pid: int | None, lines: int, timeout: float, after: float = 0.0) -> Any:
    from trireme import _logbook
    from trireme.util.state._gather import gather

    found = []
    for part in gather(_logbook.read_folder, timeout):
        found += [{**line, "rank": part.rank} for line in part.value]
    found = [line for line in found if line["time"] > after and (pid is None or line["pid"] == pid)]
    return sorted(found, key=lambda line: line["time"])[-lines:]


def _memory(timeout: float) -> Any:
    from trireme._tools.memory import read_folder
    from trireme.util.state._gather import gather

    return [{"rank": part.rank, "node_id": part.node_id, **part.value} for part in gather(read_folder, timeout)]


def _stack(pid: int | None, timeout: float) -> Any:
    from trireme._tools.stacks import of_driver, of_workers
    from trireme.util.state._gather import gather

    found = [{"rank": 0, "pid": os.getpid(), "what": "driver", "text": of_driver()}]
    for part in gather(of_workers, timeout):
        found += [{"rank": part.rank, **process} for process in part.value]
    return [process for process in found if pid is None or process["pid"] == pid]


OPERATIONS: dict[str, Callable[..., Any]] = {
    "list": _list,
    "timeline": _timeline,
    "metrics": _metrics,
    "logs": _logs,
    "memory": _memory,
    "stack": _stack,
}
