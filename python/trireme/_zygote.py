"""The template process: imports once, forks workers, tells the rank when they end.

It is started before the rank initialises MPI, UCX or CUDA and has one thread, so every fork is safe, cheap (its pages are
shared with all workers) and quick. It ends with its rank: its socket then reads end of file, its workers are killed, and
the session's folder goes.

The protocol stands at the end of `_native.pyi`.
"""

from __future__ import annotations

import gc
import json
import os
import select
import signal
import socket
import struct
import sys
import threading
from collections.abc import Callable
from typing import Any

import _signal
import _socket

_REPORT = struct.Struct("<cIii")
_PACKET_BYTES_MAX = 1 << 18
#: What the template process runs. os.register_at_fork() only notes: see _Zygote._forked(). There are no collections: they
#: take a tenth of the time of the imports, and what they free in shared pages workers would fill and so copy them.
_PROGRAM = """
import gc, os, sys
gc.disable()
register, hooks = os.register_at_fork, []
os.register_at_fork = lambda **given: hooks.append(given)
sys.path[0] = sys.argv[1]
from trireme._zygote import main
main(register, hooks)
"""
#: Modules whose hooks make locks and the list of threads as they are with one thread, which is what they are.
_ONE_THREAD_HOOKS = frozenset(("threading", "logging"))
#: Launchers' variables that would make a program started by a worker take itself for a rank.
_SCRUBBED = ("OMPI_", "PMIX_", "PMI_", "PRTE_", "ORTE_", "MPI_LOCAL", "SLURM_STEP", "SLURM_TASK")
_SCRUBBED_NAMES = frozenset(
    (
        "SLURM_PROCID", "SLURM_LOCALID", "SLURM_NODEID", "SLURM_GTIDS", "SLURM_LAUNCH_NODE_IPADDR", "SLURM_SRUN_COMM_HOST",
        "SLURM_SRUN_COMM_PORT", "SLURM_NTASKS", "SLURM_NPROCS", "SLURM_CPU_BIND", "SLURM_CPU_BIND_LIST",
        "SLURM_CPU_BIND_TYPE", "SLURM_CPU_BIND_VERBOSE", "SLURM_DISTRIBUTION", "SLURM_MPI_TYPE",
    )
)  # fmt: skip
#: Libraries with thread pools of their own get one thread in a worker unless the user said otherwise.
_ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS", "BLIS_NUM_THREADS")


def environment() -> dict[str, str]:
    """This process's environment as workers should see it."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(_SCRUBBED) and name not in _SCRUBBED_NAMES
    }
    for name in _ONE_THREAD:
        kept.setdefault(name, "1")
    # A crash is reported by the rank with the worker's last lines, which UCX's own report would push out.
    kept.setdefault("UCX_HANDLE_ERRORS", "none")
    return kept


def start(preload: list[str]) -> tuple[int, int]:
    """Starts a template process: (socket to it, its pid). It has no descriptor of this process but that socket.

    It imports `preload` and the modules named in TRIREME_PRELOAD (separated by commas) before it forks workers: what takes
    long to import (torch) is then imported once for a rank, not in every worker.
    """
    if not sys.executable:
        raise RuntimeError("sys.executable is empty, so no worker can be started: embed Python with a program name set")
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    wanted = [name.strip() for name in os.environ.get("TRIREME_PRELOAD", "").split(",")]
    names = ",".join([*preload, *(name for name in wanted if name)])
    arguments = [sys.executable, "-c", _PROGRAM, root, str(theirs.fileno()), str(os.getpid()), names]
    theirs.set_inheritable(True)
    with open(os.devnull) as null:
        # A session of its own: Ctrl-C at the terminal reaches the rank, which decides what becomes of the workers.
        pid = os.posix_spawn(
            sys.executable,
            arguments,
            environment(),
            file_actions=[(os.POSIX_SPAWN_DUP2, null.fileno(), 0)],
            setsid=True,
        )
    theirs.close()
    return ours.detach(), pid


def main(register: Callable[..., None], hooks: list[dict[str, Callable[[], Any]]]) -> None:
    """Runs the template process; arguments: as start() gives them. `hooks`: what os.register_at_fork(), which is
    `register`, was given until now and will be.
    """
    root, fd, rank_pid, preload = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
    del sys.path[0]  # it was for this import only; workers get the driver's path
    sys.argv = ["trireme worker"]
    channel = socket.socket(fileno=fd)
    channel.set_inheritable(False)
    zygote = _Zygote(channel, rank_pid, root, [name for name in preload.split(",") if name])
    zygote.register, zygote.hooks = register, hooks
    zygote.run()


class _Zygote:
    def __init__(self, channel: socket.socket, rank_pid: int, root: str, preload: list[str]) -> None:
        self.channel = channel
        self.rank_pid = rank_pid
        self.root = root
        self.workers: dict[int, int] = {}  # pid to worker id
        self.register: Callable[..., None] = os.register_at_fork
        self.hooks: list[dict[str, Callable[[], Any]]] = []
        # Ctrl-C and the launcher's signals are for the rank; this process ends with it.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        self.wake, wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        if root not in sys.path:
            sys.path.append(root)
        from trireme import _worker
        from trireme._native import become_worker

        _worker.prepare_process()
        self.become_worker, self.start_worker = become_worker, _worker.start
        if os.environ.get("TRIREME_RAY") == "1":
            import trireme._rayhook  # noqa: F401

        self.preload = list(preload)
        for name in self.preload:
            if not _try_import(name):
                sys.stderr.write(f"trireme: TRIREME_PRELOAD names {name!r}, which cannot be imported\n")
        self._freeze()

    def _freeze(self) -> None:
        if "numpy" in sys.modules:
            from trireme import _reseed

            _reseed.prepare()
        # A collection in a worker then leaves the shared pages alone.
        gc.freeze()

    def run(self) -> None:
        try:
            self.channel.send(b"R")
        except ConnectionError:
            return  # the rank was faster: it has ended
        later = [name for name in ("numpy", "cloudpickle", "asyncio") if name not in sys.modules]
        while True:
            # What most programs use is imported while nothing else is to be done, for the workers to come.
            readable, _, _ = select.select([self.channel, self.wake], [], [], 0.3 if later else None)
            if not readable:
                _try_import(later.pop(0))  # nothing to do where it has come meanwhile
                self._freeze()
                continue
            if self.wake in readable:
                os.read(self.wake, 4096)
                self._reap()
            if self.channel in readable and not self._receive():
                break
        for pid in self.workers:
            os.kill(pid, signal.SIGKILL)
        self._remove_session()
        os._exit(0)

    def _remove_session(self) -> None:
        # A rank that ends as it should waits for this process and then does that itself; one that was killed cannot.
        from trireme import _session

        try:
            while True:
                os.waitpid(-1, 0)
        except ChildProcessError:
            pass  # nobody writes there any more
        if folder := os.environ.get(_session.VARIABLE):
            _session.remove(_session.Path(folder))

    def _receive(self) -> bool:
        try:
            packet = self.channel.recv(_PACKET_BYTES_MAX)
        except ConnectionError:
            return False
        if packet[:1] == b"F":
            self._fork(packet[1:])
        return bool(packet)

    def _fork(self, command: bytes) -> None:
        if "cloudpickle" not in sys.modules:
            # Whatever a worker is sent first needs it: imported once here, not in every worker.
            _try_import("cloudpickle")
            self._freeze()
        fields = json.loads(command)
        worker = fields["worker"]
        parent = os.getpid()
        hooks = [hook for hook in self.hooks if _module_of(hook) not in _ONE_THREAD_HOOKS]
        _run(hooks[::-1], "before")
        try:
            pid = os.fork()
        except OSError as error:
            _run(hooks, "after_in_parent")
            sys.stderr.write(f"trireme: a worker cannot be forked: {error}\n")
            self._report(b"D", worker, 0, 0x7F00)
            return
        if pid == 0:
            self._become_worker(command, fields, parent, hooks)
        _run(hooks, "after_in_parent")
        self.workers[pid] = worker
        self._report(b"S", worker, pid, 0)

    # What runs from here on touches as few of the template's pages as it can: each is copied for the worker, and that
    # is most of what its start takes. So the signal module without its enumerations, and no import.
    def _become_worker(self, command: bytes, fields: dict, parent: int, hooks: list) -> None:
        try:
            gc.enable()
            self._forked(hooks)
            if not self.become_worker(parent, fields["rank_pid"], fields["out_fd"], fields["err_fd"]):
                os._exit(0)
            signal.set_wakeup_fd(-1)
            _signal.signal(_signal.SIGCHLD, _signal.SIG_DFL)
            _signal.signal(_signal.SIGTERM, _signal.SIG_DFL)
            _socket.socket.close(self.channel)
            if fields["cpus"]:
                os.sched_setaffinity(0, fields["cpus"])
            self.start_worker(command, fields["env"], self.root)
        except BaseException:  # noqa: BLE001 - the process ends here
            import traceback

            traceback.print_exc()
            sys.stderr.flush()
        finally:
            os._exit(1)

    def _forked(self, hooks: list) -> None:
        """Does in a worker what Python does after a fork, but for what only matters when there were other threads."""
        _run(hooks, "after_in_child")
        os.register_at_fork = self.register
        for hook in self.hooks:  # for the processes that the worker forks
            self.register(**hook)
        main_thread = threading.main_thread()
        if hasattr(main_thread, "_set_native_id"):
            main_thread._set_native_id()

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            worker = self.workers.pop(pid, None)
            if worker is not None:
                self._report(b"D", worker, pid, status)

    def _report(self, kind: bytes, worker: int, pid: int, status: int) -> None:
        try:
            self.channel.send(_REPORT.pack(kind, worker, pid, status))
        except OSError:
            pass  # the rank is gone; the next receive says so


def _module_of(hook: dict[str, Callable[[], Any]]) -> str:
    return getattr(next(iter(hook.values())), "__module__", None) or ""


def _run(hooks: list[dict[str, Callable[[], Any]]], when: str) -> None:
    for hook in hooks:
        if when in hook:
            hook[when]()


def _try_import(name: str) -> bool:
    try:
        __import__(name)
    except ImportError:
        return False
    return True


