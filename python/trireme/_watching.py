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
_waiting: dict[int, tuple[Any, Callable[[], None]]] = {}  # by token; keeps the native reference
_tokens = itertools.count(1)
_thread_session = 0


def when_ready(ref: Any, act: Callable[[], None]) -> None:
    """Runs `act` once the native reference is ready: in the watching thread, so it must be short and must not block."""
    global _thread_session
    core = _state.core
    token = next(_tokens)
    with _lock:
        _waiting[token] = (ref, act)
        if _thread_session != _state.session:
            _thread_session = _state.session
            threading.Thread(target=_watch, args=(core,), name="trireme-watch", daemon=True).start()
    core.watch(ref, token)


def _watch(core: Any) -> None:
    while tokens := core.next_watched():
        for token in tokens:
            _, act = _waiting.pop(token, (None, None))
            if act is not None:
                act()
    with _lock:
        left = list(_waiting.values())
        _waiting.clear()
    for _, act in left:
        act()


def ready_future(ref: Any) -> concurrent.futures.Future:
    """Done (with None) when the native reference is ready."""
    future: concurrent.futures.Future = concurrent.futures.Future()

    def act() -> None:
        if future.set_running_or_notify_cancel():
            future.set_result(None)

    when_ready(ref, act)
    return future


def future_of(ref: ObjectRef) -> concurrent.futures.Future:
    """The value or error as a future. The future keeps the object."""
    future: concurrent.futures.Future = concurrent.futures.Future()

    def act() -> None:
        if not future.set_running_or_notify_cancel():
            return
        from trireme._api import get

        try:
            value = get(ref)
        except BaseException as error:  # noqa: BLE001 - it is handed on
            future.set_exception(error)
        else:
            future.set_result(value)

    if ref._ref.ready:
        act()
    else:
        when_ready(ref._ref, act)
    return future
