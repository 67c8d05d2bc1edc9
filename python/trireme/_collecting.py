"""References in cycles: dropped ones are found within a second or so, also in a process that then only waits.

The interpreter looks for cycles when much is allocated, not when time passes; a forgotten reference in a cycle (an exception
and its frames, say) would keep its object in the arena for as long as the program sleeps.
"""

from __future__ import annotations

import gc
import threading
import time

from trireme import _state

_INTERVAL_S = 0.5
#: Collecting takes at most about this part of the time.
_SHARE = 0.02
_JOIN_S = 10.0  # for a collection that is under way
_running = 0  # the session whose thread it is
_thread: threading.Thread | None = None
#: Held while the thread runs. A lock and no Event, whose wait() allocates: the thread would find itself busy for ever.
_ended = threading.Lock()


def start() -> None:
    """Begins for the present session. Any thread; again and again does no harm."""
    global _running, _thread, _ended
    if _running != _state.session:
        _running = _state.session
        _ended = threading.Lock()
        _ended.acquire()
        _thread = threading.Thread(target=_run, args=(_running, _ended), name="trireme-gc", daemon=True)
        _thread.start()


def join() -> None:
    """At the end of the session: waits for the thread, which may be collecting."""
    global _thread
    thread, _thread = _thread, None
    if thread is None:
        return
    _ended.release()
    if thread is not threading.current_thread():
        thread.join(_JOIN_S)


def _allocated() -> int:
    """A number that differs once something was allocated. No tuple: one that is kept would itself count."""
    young, middle, old = gc.get_count()
    return young + (middle << 20) + (old << 40)


def _run(session: int, ended: threading.Lock) -> None:
    pause = _INTERVAL_S
    seen = -1
    while True:
        if ended.acquire(True, pause) or _state.session != session:
            return
        # Nothing was allocated since, or the program does not want collections.
        if _allocated() == seen or not gc.isenabled():
            continue
        begun = time.perf_counter()
        gc.collect()
        pause = max(_INTERVAL_S, (time.perf_counter() - begun) / _SHARE)
        # A collection empties the interpreter's free lists: the first tuple of each length after it counts.
        if ended.acquire(True, 0.0):
            return
        _allocated()
        seen = _allocated()
