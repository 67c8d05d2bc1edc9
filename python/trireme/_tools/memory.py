"""How much memory a rank and its workers use."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from trireme import _observe


def read_folder(folder: Path) -> dict[str, Any]:
    """Return bytes by process: `processes` has pid, what, private (its own pages) and shared (mapped objects included)."""
    rank_pid = int(folder.name.partition("-")[0])
    processes = [{"what": "rank", **_usage(rank_pid)}]
    for process in _observe.read_folder(folder):
        if process["alive"]:
            processes.append({"what": process.get("class_name") or "worker", **_usage(process["pid"])})
    return {"processes": processes, "arena": arena_bytes(rank_pid)}


def _usage(pid: int) -> dict[str, int]:
    fields = dict.fromkeys(("RssAnon", "RssFile", "RssShmem"), 0)
    try:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            name, _, value = line.partition(":")
            if name in fields:
                fields[name] = int(value.split()[0]) * 1024
    except OSError:
        pass
    return {"pid": pid, "private": fields["RssAnon"], "shared": fields["RssFile"] + fields["RssShmem"]}


def arena_bytes(pid: int) -> int:
    """Return how much of the rank's arena has been written to, in bytes."""
    seen = {}
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        try:
            target = entry.readlink()
            if "trireme" in target.name:
                status = entry.stat()
                seen[status.st_ino] = status.st_blocks * 512
        except OSError:
            continue
    return sum(seen.values())
