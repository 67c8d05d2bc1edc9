"""The folder of this rank's session, `$TMPDIR/trireme-UID/PID-START`: where the tools of the same user find the job, and
where its processes leave what the tools read.

One folder per rank, made before the template process starts, so that every worker knows it from `TRIREME_SESSION_DIR`.
Nothing but this user can enter it (mode 0700). It goes with the rank: the template process
removes it when the rank was killed, and the next rank of the same user on that node when both were.
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

VARIABLE = "TRIREME_SESSION_DIR"
CONTROL_SOCKET = "control.sock"
_DESCRIPTION = "session.json"


@dataclass(frozen=True)
class Description:
    """What session.json says about a rank's session."""

    job: str  # equal for all ranks of a job
    pid: int
    started: float  # seconds since the epoch
    command: list[str]


def base() -> Path:
    """Return the folder of all sessions of this user on this node."""
    return Path(_temporary()) / f"trireme-{os.getuid()}"


def _temporary() -> str:
    """Return what tempfile.gettempdir() does, in almost all cases without its import, which a rank's start waits for."""
    for place in (*map(os.environ.get, ("TMPDIR", "TEMP", "TMP")), "/tmp"):  # noqa: S108 - the place where others look
        if place and os.path.isdir(place) and os.access(place, os.W_OK | os.X_OK):
            return os.path.abspath(place)
    import tempfile

    return tempfile.gettempdir()


def job_name() -> str:
    """Return the launcher's name of the job step, or one of this process when there is no launcher."""
    for variable in ("PMIX_NAMESPACE", "TRIREME_LOCAL_SOCKET"):
        if value := os.environ.get(variable):
            return value
    if job := os.environ.get("SLURM_JOB_ID"):
        if step := os.environ.get("SLURM_STEP_ID"):
            return f"{job}.{step}"
    return f"pid-{os.getpid()}"


def create() -> Path:
    """Make this rank's folder and put it into the environment.

    Raises
    ------
    PermissionError
        The folder of the user's sessions belongs to somebody else, or others can enter it.
    """
    top = base()
    top.mkdir(mode=0o700, exist_ok=True)
    found = top.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise PermissionError(
            f"{top} is not a folder that only uid {os.getuid()} can enter (it is mode {stat.S_IMODE(found.st_mode):o} of "
            f"uid {found.st_uid}); remove it or point TMPDIR elsewhere"
        )
    _remove_stale(top)
    folder = top / f"{os.getpid()}-{_start_time(os.getpid())}"
    folder.mkdir(mode=0o700, exist_ok=True)
    for part in ("events", "metrics", "pdb"):
        (folder / part).mkdir(exist_ok=True)
    description = Description(job_name(), os.getpid(), time.time(), list(sys.orig_argv))
    (folder / _DESCRIPTION).write_text(json.dumps(asdict(description)))
    os.environ[VARIABLE] = str(folder)
    return folder


def current() -> Path | None:
    """Return the folder of the session this process belongs to, None outside of one."""
    value = os.environ.get(VARIABLE)
    return Path(value) if value and os.path.isdir(value) else None


def remove(folder: Path) -> None:
    """Remove this rank's folder; the workers that wrote there have ended or keep open files."""
    if os.environ.get(VARIABLE) == str(folder):
        del os.environ[VARIABLE]
    if (metrics := sys.modules.get("trireme.util._metric_files")) is not None:
        metrics.close()
    _remove_all(folder)
    try:
        folder.parent.rmdir()
    except OSError:
        pass  # other sessions are there


def describe(folder: Path) -> Description | None:
    """Read session.json; None when it is not there (yet or any more) or not to be understood."""
    try:
        return Description(**json.loads((folder / _DESCRIPTION).read_text()))
    except (OSError, ValueError, TypeError):
        return None


@contextlib.contextmanager
def socket_path(path: Path) -> Iterator[str]:
    """Give a short name of a socket's path: sun_path holds 108 bytes, TMPDIR may be longer."""
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)


def sessions() -> list[Path]:
    """Return this user's folders on this node whose rank is alive, the newest last."""
    found = [folder for folder in base().glob("*-*") if _alive(folder)]
    return sorted(found, key=lambda folder: folder.stat().st_mtime)


def _remove_all(folder: Path) -> None:
    import shutil

    shutil.rmtree(folder, ignore_errors=True)


def _remove_stale(top: Path) -> None:
    for folder in top.glob("*-*"):
        if not _alive(folder):
            _remove_all(folder)


def _alive(folder: Path) -> bool:
    pid, _, start = folder.name.partition("-")
    return pid.isdigit() and start == _start_time(int(pid))


def _start_time(pid: int) -> str:
    """Return when the process started, in clock ticks after boot: with the pid it names one process for good."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ""
    return text.rpartition(")")[2].split()[19]
