"""pdb in a task or actor, for `trireme debug` to attach to.

The process waits at a Unix socket in its session's folder, which only its user can enter: no port is opened.
"""

from __future__ import annotations

import contextlib
import os
import pdb
import socket
import sys
import time
import traceback
from types import FrameType, TracebackType
from typing import Any

from trireme import _session
from trireme._session import socket_path


class _Debugger(pdb.Pdb):
    """pdb over a connection. The connection closes when the program goes on."""

    def __init__(self, source: Any, out: Any, close: Any) -> None:
        super().__init__(stdin=source, stdout=out, nosigint=True, readrc=False)
        self.use_rawinput = False
        self.prompt = "(trireme pdb) "
        self._close = close

    def do_continue(self, arg: str) -> Any:
        if not self.breaks:
            self._close()
        return super().do_continue(arg)

    do_c = do_cont = do_continue

    def do_quit(self, arg: str) -> Any:
        self._close()
        return super().do_quit(arg)

    do_q = do_exit = do_quit


def _attach(title: str) -> _Debugger:
    session = _session.current()
    if session is None:
        raise RuntimeError("set_trace() needs a running session: call trireme.init() first")
    path = session / "pdb" / f"{os.getpid()}-{time.monotonic_ns()}.sock"
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with socket_path(path) as short:
            listener.bind(short)
        path.with_suffix(".txt").write_text(title)
        listener.listen(1)
        print(
            f"waiting for a debugger in {title}: run `trireme debug` on {socket.gethostname()}",
            file=sys.stderr,
            flush=True,
        )
        connection, _ = listener.accept()
    finally:
        listener.close()
        path.unlink(missing_ok=True)
        path.with_suffix(".txt").unlink(missing_ok=True)
    # Two files: one for both directions forgets what it has read ahead when it writes.
    source = connection.makefile("r", encoding="utf-8", errors="replace")
    out = connection.makefile("w", buffering=1, encoding="utf-8")

    def close() -> None:
        with contextlib.suppress(OSError):
            out.flush()
            connection.shutdown(socket.SHUT_RDWR)
        for file in (source, out, connection):
            file.close()

    return _Debugger(source, out, close)


def set_trace(frame: FrameType | None = None) -> None:
    """Stop here until somebody attaches with `trireme debug`, and let them debug. In workers, `breakpoint()` is this."""
    frame = frame or sys._getframe(1)
    title = f"{frame.f_code.co_name} at {frame.f_code.co_filename}:{frame.f_lineno} (pid {os.getpid()})"
    _attach(title).set_trace(frame)


def post_mortem(tb: TracebackType | None = None) -> None:
    """Debug the exception being handled, or the one `tb` belongs to, as `set_trace` does."""
    tb = tb or sys.exc_info()[2]
    if tb is None:
        raise ValueError("post_mortem() needs a traceback: call it where an exception is handled")
    last = traceback.extract_tb(tb)[-1]
    debugger = _attach(f"exception in {last.name} at {last.filename}:{last.lineno} (pid {os.getpid()})")
    debugger.reset()
    debugger.interaction(None, tb)
