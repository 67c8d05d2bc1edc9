"""Where processes are: py-spy when it is installed, otherwise what the processes dump themselves."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import Any

from trireme import _observe

# A process that is in a system call or in C code answers the signal at once; one that is stopped never does.
DUMP_TIMEOUT_S = 5.0
SETTLED_S = 0.1


def of_driver() -> str:
    """Return the stacks of all threads of this process."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    parts = []
    for ident, frame in sys._current_frames().items():
        parts.append(f"Thread {names.get(ident, ident)}:\n{''.join(traceback.format_stack(frame))}")
    return "\n".join(parts)


def of_workers(folder: Path) -> list[dict[str, Any]]:
    """Return the stacks of the workers of the rank with that session folder: dicts with pid, what, text."""
    found = []
    for process in _observe.read_folder(folder):
        if process["alive"]:
            what = process.get("class_name") or "worker"
            found.append({"pid": process["pid"], "what": what, "text": _stack(process["pid"])})
    return found


def _stack(pid: int) -> str:
    if tool := shutil.which("py-spy"):
        done = subprocess.run([tool, "dump", "--pid", str(pid)], capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return done.stdout
    try:
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):  # closed by now
                if _observe.STACK_FILE in os.readlink(entry):
                    return _dumped(pid, entry)
    except OSError as error:
        return f"(no stack: {error})\n"
    return "(no stack: the process writes none)\n"


def _dumped(pid: int, path: Path) -> str:
    try:
        before = path.stat().st_size
        os.kill(pid, _observe.STACK_SIGNAL)
    except OSError as error:
        return f"(no stack: {error})\n"
    deadline = time.monotonic() + DUMP_TIMEOUT_S
    size, settled_at = before, 0.0
    # The dump has no end mark; it is whole when it has stopped growing.
    while time.monotonic() < deadline:
        now = path.stat().st_size
        if now != size:
            size, settled_at = now, time.monotonic() + SETTLED_S
        elif size > before and time.monotonic() >= settled_at:
            break
        time.sleep(0.01)
    if size == before:
        return f"(no answer within {DUMP_TIMEOUT_S:g} s: the process is stopped, or its program took over the signal)\n"
    with path.open("rb") as file:
        file.seek(before)
        return file.read().decode(errors="replace")
