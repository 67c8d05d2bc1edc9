"""Reads the session folders of all ranks: those on this host directly, the others by a task on each."""

from __future__ import annotations

import contextlib
import contextvars
import logging
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trireme
from trireme import _session
from trireme.util.state.schema import RayStateApiException

logger = logging.getLogger(__name__)
#: The tasks that read elsewhere; they are not listed themselves.
TASK_NAME = "trireme.util.state"


_strict = contextvars.ContextVar("strict", default=False)


@contextlib.contextmanager
def strictly(strict: bool) -> Iterator[None]:
    """While it lasts, ranks that do not answer in time are an error of `gather` when `strict`."""
    token = _strict.set(strict)
    try:
        yield
    finally:
        _strict.reset(token)


@dataclass
class Part:
    """What was read at one rank."""

    rank: int
    node_id: str
    value: Any


def gather(read: Callable[[Path], Any], timeout: float, through_tasks: bool = False) -> list[Part]:
    """Apply `read` to the session folder of every living rank.

    Parameters
    ----------
    read
        A function of a module, so that other nodes find it; its result is sent back.
    timeout
        Seconds to wait for ranks of other hosts. Those that do not answer are named in a warning or, within `strictly`, in a
        RayStateApiException.
    through_tasks
        Ask other ranks of this host by a task too, as if they were elsewhere.
    """
    here = _session.current()
    if here is None:
        return []
    local = {} if through_tasks else _folders_of_this_host(here)
    own = _pid_of(here)
    parts: list[Part] = []
    asked: dict[Any, tuple[int, str]] = {}
    host = socket.gethostname()
    for node in trireme.nodes():
        if not node["Alive"]:
            continue
        pid, same_host = node["pid"], node["NodeManagerHostname"] == host
        if same_host and pid == own:
            parts.append(Part(node["rank"], node["NodeID"], read(here)))
        elif same_host and pid in local:
            parts.append(Part(node["rank"], node["NodeID"], read(local[pid])))
        else:
            asked[_ask(node["NodeID"], read)] = (node["rank"], node["NodeID"])
    if asked:
        ready, late = trireme.wait(list(asked), num_returns=len(asked), timeout=timeout)
        parts += [Part(*asked[ref], trireme.get(ref)) for ref in ready]
        if late:
            ranks = sorted(asked[ref][0] for ref in late)
            if _strict.get():
                raise RayStateApiException(
                    f"ranks {ranks} did not answer within {timeout} s; raise_on_missing_output=False gives what the others know"
                )
            logger.warning("ranks %s did not answer within %s s; what they know is missing", ranks, timeout)
    return sorted(parts, key=lambda part: part.rank)


def _folders_of_this_host(here: Path) -> dict[int, Path]:
    mine = _session.describe(here)
    found = {}
    for folder in _session.sessions():
        described = _session.describe(folder)
        if mine and described and described.job == mine.job:
            found[described.pid] = folder
    return found


def _pid_of(folder: Path) -> int:
    return int(folder.name.partition("-")[0])


def _ask(node_id: str, read: Callable[[Path], Any]) -> Any:
    from trireme.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    there = NodeAffinitySchedulingStrategy(node_id, soft=False)
    return trireme.remote(_read_here).options(num_cpus=0, max_retries=0, scheduling_strategy=there, name=TASK_NAME).remote(read)


def _read_here(read: Callable[[Path], Any]) -> Any:
    folder = _session.current()
    if folder is None:
        raise RuntimeError("this worker belongs to no session")
    return read(folder)
