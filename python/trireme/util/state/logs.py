"""list_logs and get_log: what worker processes wrote, from the sessions' logbooks.

Each rank keeps the newest lines of its workers, 2 to 4 MiB. A process's lines are shown as two files, as Ray has them:
`worker-WORKER_ID-JOB_ID-PID.out` and `.err`.
"""

from __future__ import annotations

import fnmatch
import re
import time
from collections.abc import Iterator
from typing import Any

import trireme
from trireme.util.state import api
from trireme.util.state.schema import RayStateApiException

_STREAMS = {"out": 1, "err": 2}
_POLL_S = 0.2
_ANSI = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]")


def _lines(address: str | None, timeout: float, after: float = 0.0) -> list[dict[str, Any]]:
    """All lines that are kept, the oldest first: `rank`, `pid`, `stream`, `time`, `text`."""
    if trireme.is_initialized() and address in (None, "auto", "local"):
        from trireme._tools.control import OPERATIONS

        return OPERATIONS["logs"](pid=None, lines=1 << 40, timeout=timeout, after=after)
    from trireme._tools.client import ask

    job = None if address in (None, "auto", "local") else address
    return ask("logs", job=job, pid=None, lines=1 << 40, timeout=timeout, after=after)


def _rank_of(address: str | None, node_id: str | None, node_ip: str | None, timeout: float) -> set[int]:
    """The ranks that are meant; several may be on the host that an address names."""
    nodes = api.list_nodes(address, limit=1 << 30, timeout=timeout)
    found = {node.rank for node in nodes if node_id in (None, node.node_id) and node_ip in (None, node.node_ip, node.node_name)}
    if not found:
        raise RayStateApiException(
            f"there is no node with node_id={node_id!r}, node_ip={node_ip!r}; there are: "
            + ", ".join(f"{node.node_id} ({node.node_ip})" for node in nodes)
        )
    return found


def _names(address: str | None, timeout: float) -> dict[tuple[int, int], str]:
    """Of each process, by rank and pid, what its files are called before the dot."""
    jobs = api.list_jobs(address, timeout=timeout)
    job = jobs[0].job_id if jobs else ""
    workers = api.list_workers(address, limit=1 << 30, timeout=timeout)
    return {(worker.rank, worker.pid): f"worker-{worker.worker_id}-{job}-{worker.pid}" for worker in workers}


def _file_of(names: dict[tuple[int, int], str], line: dict[str, Any]) -> str:
    # A process that was started and has not run anything is no worker yet.
    name = names.get((line["rank"], line["pid"]), f"worker-{line['pid']}")
    return f"{name}.{'err' if line['stream'] == 2 else 'out'}"


def list_logs(
    address: str | None = None,
    node_id: str | None = None,
    node_ip: str | None = None,
    glob_filter: str | None = None,
    timeout: int = 30,
) -> dict[str, list[str]]:
    """List the files that `get_log` can read on a node: those of processes that wrote something.

    Parameters
    ----------
    address
        As for `list_tasks`.
    node_id, node_ip
        The node; one of them is needed. With `node_ip` all ranks on that host are meant.
    glob_filter
        Only files whose names match, as a shell matches them.
    timeout
        Seconds to wait for other ranks.

    Returns
    -------
    `"worker_out"` and `"worker_err"` to the names, each when there are any.

    Raises
    ------
    ValueError
        No node was named.
    RayStateApiException
        There is no such node.
    """
    if node_id is None and node_ip is None:
        raise ValueError("list_logs() needs node_id or node_ip: logs are listed by node")
    ranks = _rank_of(address, node_id, node_ip, timeout)
    names = _names(address, timeout)
    found: dict[str, set[str]] = {}
    for line in _lines(address, timeout):
        name = _file_of(names, line)
        if line["rank"] in ranks and fnmatch.fnmatchcase(name, glob_filter or "*"):
            found.setdefault(f"worker_{name.rpartition('.')[2]}", set()).add(name)
    return {kind: sorted(files) for kind, files in sorted(found.items())}


def get_log(
    address: str | None = None,
    node_id: str | None = None,
    node_ip: str | None = None,
    filename: str | None = None,
    actor_id: str | None = None,
    task_id: str | None = None,
    pid: int | None = None,
    follow: bool = False,
    tail: int = -1,
    timeout: int = 30,
    suffix: str = "out",
    encoding: str | None = "utf-8",
    errors: str | None = "strict",
    submission_id: str | None = None,
    attempt_number: int = 0,
    _interval: float | None = None,
    filter_ansi_code: bool = False,
) -> Iterator[Any]:
    """Yield what a process wrote, line by line, as far as it is kept.

    One of `filename`, `actor_id`, `task_id` and `pid` says which process; `filename` and `pid` need a node beside it when
    several have them.

    Parameters
    ----------
    address, node_id, node_ip
        As for `list_logs`.
    filename
        As `list_logs` gives it.
    actor_id
        Of an actor: its process's lines.
    task_id
        Of a task or call: the lines that it wrote to `sys.stdout` or `sys.stderr`; what its C code and the programs that it
        started wrote, too, in a process that runs one call at a time.
    pid
        Of a worker process.
    follow
        Go on with what it writes from now on, until the session ends.
    tail
        So many lines of the end at most; -1: all.
    suffix
        "out" or "err"; with `filename` its own counts.
    encoding, errors
        None gives bytes instead of text; `errors` is for Ray's signature, since lines are kept as text.
    attempt_number
        0: another attempt of a task has a `task_id` of its own here.
    filter_ansi_code
        Without colours and other terminal codes.

    Raises
    ------
    ValueError
        Not exactly one process was named, or a suffix that there is not.
    RayStateApiException
        There is no such node, actor, task or file; submitted jobs (`submission_id`) do not exist here.
    """
    named = [what for what in (filename, actor_id, task_id, pid) if what is not None]
    if submission_id is not None:
        raise RayStateApiException("get_log(submission_id=...): there are no submitted jobs here; give actor_id, task_id or pid")
    if len(named) != 1:
        raise ValueError("get_log() needs exactly one of filename, actor_id, task_id and pid")
    if suffix not in _STREAMS:
        raise ValueError(f"suffix is 'out' or 'err', not {suffix!r}")
    if attempt_number != 0:
        raise ValueError("attempt_number: another attempt has a task_id of its own here (list_tasks tells)")
    wanted = _Wanted(address, node_id, node_ip, filename, actor_id, task_id, pid, suffix, timeout)
    return _yield_lines(wanted, address, timeout, tail, follow, encoding, _interval or _POLL_S, filter_ansi_code)


class _Wanted:
    """Which lines are meant."""

    def __init__(
        self,
        address: str | None,
        node_id: str | None,
        node_ip: str | None,
        filename: str | None,
        actor_id: str | None,
        task_id: str | None,
        pid: int | None,
        suffix: str,
        timeout: float,
    ) -> None:
        self.ranks = _rank_of(address, node_id, node_ip, timeout)
        self.pid = pid
        self.stream = _STREAMS[suffix]
        self.call = 0
        self.begin, self.end = 0.0, float("inf")
        if filename is not None:
            self._of_file(address, filename, timeout)
        elif actor_id is not None:
            actor = api.get_actor(actor_id, address, timeout)
            if actor is None:
                raise RayStateApiException(f"there is no actor with the id {actor_id!r}")
            self.ranks, self.pid = {actor.rank}, actor.pid
        elif task_id is not None:
            self._of_task(address, task_id, timeout)

    def _of_file(self, address: str | None, filename: str, timeout: float) -> None:
        names = _names(address, timeout)
        lines = [line for line in _lines(address, timeout) if line["rank"] in self.ranks]
        for line in lines:
            if _file_of(names, line) == filename:
                self.ranks, self.pid, self.stream = {line["rank"]}, line["pid"], line["stream"]
                return
        known = sorted({_file_of(names, line) for line in lines})
        raise RayStateApiException(f"there is no file {filename!r}; there are: {', '.join(known) or 'none'}")

    def _of_task(self, address: str | None, task_id: str, timeout: float) -> None:
        tasks = api.list_tasks(address, limit=1 << 30, timeout=timeout)
        task = next((task for task in tasks if task.task_id == task_id), None)
        if task is None or task.start_time_ms is None:
            raise RayStateApiException(f"there is no task with the id {task_id!r} that began, or nobody remembers it")
        self.ranks, self.pid = {task.rank}, task.worker_pid
        self.call = int(task_id[-16:], 16)
        self.begin = task.start_time_ms / 1000
        later = [
            other.start_time_ms
            for other in tasks
            if other.worker_id == task.worker_id and other.start_time_ms is not None and other.start_time_ms > task.start_time_ms
        ]
        if later:
            self.end = min(later) / 1000

    def holds(self, line: dict[str, Any]) -> bool:
        return (
            line["rank"] in self.ranks
            and line["pid"] == self.pid
            and line["stream"] == self.stream
            and self._wrote(line)
        )

    def _wrote(self, line: dict[str, Any]) -> bool:
        if self.call == 0:
            return True
        if line["call"] != 0:
            return line["call"] == self.call
        # Not written by Python: whoever ran then.
        return self.begin <= line["time"] < self.end


def _yield_lines(
    wanted: _Wanted,
    address: str | None,
    timeout: float,
    tail: int,
    follow: bool,
    encoding: str | None,
    interval: float,
    plain: bool,
) -> Iterator[Any]:
    from trireme._tools.client import NoSessionError

    seen = 0.0
    first = True
    inside = trireme.is_initialized()
    while True:
        try:
            lines = _lines(address, timeout, seen)
        except NoSessionError:
            return
        seen = max((line["time"] for line in lines), default=seen)
        lines = [line for line in lines if wanted.holds(line)]
        if first and tail >= 0:
            lines = lines[len(lines) - min(tail, len(lines)) :]
        first = False
        for line in lines:
            text = (_ANSI.sub("", line["text"]) if plain else line["text"]) + "\n"
            yield text if encoding is not None else text.encode()
        if not follow:
            return
        time.sleep(interval)
        if inside and not trireme.is_initialized():
            return  # the session is over
