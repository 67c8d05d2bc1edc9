"""`trireme debug`: lists the places of this node where a debugger waits, and connects the terminal to one."""

from __future__ import annotations

import os
import select
import socket
import sys
from pathlib import Path

from trireme import _session
from trireme._session import socket_path
from trireme._tools import client


def waiting(job: str | None = None) -> list[tuple[Path, str]]:
    """Return (socket, title) of each place, in the order in which they were reached."""
    rank0 = _session.describe(client.find(job))
    found = []
    for folder in _session.sessions():
        about = _session.describe(folder)
        if about and rank0 and about.job == rank0.job:
            for title in (folder / "pdb").glob("*.txt"):
                path = title.with_suffix(".sock")
                if path.exists():
                    found.append((title.stat().st_mtime, path, title.read_text()))
    return [(path, title) for _, path, title in sorted(found)]


def run(job: str | None, number: int | None, only_list: bool) -> int:
    """List the places, or attach to the `number`-th; to the only one without a number."""
    places = waiting(job)
    if not places:
        raise RuntimeError("no task of this session waits for a debugger on this node")
    if only_list or (number is None and len(places) > 1):
        for index, (_, title) in enumerate(places):
            print(f"{index}: {title}")
        if not only_list:
            print("`trireme debug NUMBER` attaches to one")
        return 0
    number = number or 0
    if not 0 <= number < len(places):
        raise ValueError(f"there is no number {number}; `trireme debug --list` lists what there is")
    path, title = places[number]
    print(f"attached to {title}; `continue` lets it go on")
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    with connection:
        with socket_path(path) as short:
            connection.connect(short)
        _relay(connection)
    return 0


def _relay(connection: socket.socket) -> None:
    """Copy between the terminal and the debugger until it lets the program go on."""
    sources = [connection, sys.stdin.fileno()]
    while True:
        readable, _, _ = select.select(sources, [], [])
        if connection in readable:
            data = connection.recv(65536)
            if not data:
                return
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()
        elif sys.stdin.fileno() in readable:
            data = os.read(sys.stdin.fileno(), 65536)
            if not data:
                # The terminal is gone: what was typed is still answered, then the debugger sees the end and quits.
                sources.remove(sys.stdin.fileno())
                connection.shutdown(socket.SHUT_WR)
            else:
                connection.sendall(data)
