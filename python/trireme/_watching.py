"""Futures of references: one thread per process waits for all that are watched."""

from __future__ import annotations

import concurrent.futures
import itertools
import threading
from collections.abc import Callable
from typing import Any

from trireme import _state
from trireme._object_ref import ObjectRef

_lock = threading.Lock()
#: By token: the native reference, which must live until it is ready, and what is to be done.
_waiting: dict[int, tuple[Any, Watcher]] = {}
_tokens = itertools.count(1)
_thread_session = 0
_thread: threading.Thread | None = None
_JOIN_S = 10.0  # what a watcher does is short


class Watcher:
    """What is done once a reference is ready: in the watching thread, so it is short and does not block."""

    def __init__(self, future: concurrent.futures.Future, fill: Callable[[concurrent.futures.Future], None]) -> None:
        self._future = future
        self._fill = fill

    def act(self) -> None:
        if self._future.set_running_or_notify_cancel():
            self._fill(self._future)

    def give_up(self) -> None:
        """The runtime ends before it is ready."""
        from trireme.exceptions import RaySystemError

        if self._future.set_running_or_notify_cancel():
            self._future.set_exception(RaySystemError("the runtime was shut down before this was ready"))


def _when_ready(ref: Any, watcher: Watcher) -> None:
    global _thread_session, _thread
    core = _state.core
    token = next(_tokens)
    with _lock:
        _waiting[token] = (ref, watcher)
        if _thread_session != _state.session:
            _thread_session = _state.session
            _thread = threading.Thread(target=_watch, args=(core,), name="trireme-watch", daemon=True)
            _thread.start()
    core.watch(ref, token)


def _watch(core: Any) -> None:
    while tokens := core.next_watched():
        for token in tokens:
            _, watcher = _waiting.pop(token, (None, None))
            if watcher is not None:
                watcher.act()
            del _, watcher  # while this thread waits, it must not keep the last object
    close()


def close() -> None:
    """Ends what waits, before the runtime does: a native reference that outlives it keeps its memory."""
    with _lock:
        left = list(_waiting.values())
        _waiting.clear()
    for _, watcher in left:
        watcher.give_up()


def join() -> None:
    """After the runtime has ended: waits for the thread, which sees that."""
    global _thread
    with _lock:
        thread, _thread = _thread, None
    if thread is not None and thread is not threading.current_thread():
        thread.join(_JOIN_S)


def ready_future(ref: Any) -> concurrent.futures.Future:
    """Done (with None) when the native reference is ready."""
    future: concurrent.futures.Future = concurrent.futures.Future()
    _when_ready(ref, Watcher(future, lambda done: done.set_result(None)))
    return future


def future_of(ref: ObjectRef) -> concurrent.futures.Future:
    """The value or error as a future. The future keeps the object until it is done."""
    future: concurrent.futures.Future = concurrent.futures.Future()

    def fill(done: concurrent.futures.Future) -> None:
        from trireme._api import get

        try:
            value = get(ref)
        except BaseException as error:  # noqa: BLE001 - it is handed on
            # The frames of this thread say nothing, and would keep the reference as long as the error.
            done.set_exception(error.with_traceback(None))
        else:
            done.set_result(value)

    watcher = Watcher(future, fill)
    if ref._ref.ready:
        watcher.act()
    else:
        _when_ready(ref._ref, watcher)
    return future
