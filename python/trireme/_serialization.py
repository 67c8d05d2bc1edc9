"""Python values to bytes and back.

A value crosses as a pickle (protocol 5), its out-of-band buffers, and the references in it. Values made of plain types
only are pickled by the C pickler directly; everything else goes through `_pickler`, which is imported when it is first
needed.

Arguments are a pickled tuple when that is all, or a list `[args, kwargs, positions]`: the values at `positions` (indices
and keyword names) are references that the runtime resolves; they come first among the references. No arguments: b"".
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

from trireme import _collecting, _state
from trireme._native import _set_loading, load_references

PLAIN = frozenset((type(None), bool, int, float, complex, str, bytes))
_all_plain = PLAIN.issuperset
_dumps = pickle.dumps
_loads = pickle.loads

#: What a function without a result gives.
NONE = _dumps(None, 5)
NONE_RESULT = (NONE, (), ())

Packed = tuple[bytes, Any, Any]


def is_plain(value: Any) -> bool:
    """True for what the C pickler treats alike in every process. Containers one level deep."""
    kind = type(value)
    if kind in PLAIN:
        return True
    if kind is tuple or kind is list:
        return _all_plain(map(type, value))
    if kind is dict:
        return _all_plain(map(type, value)) and _all_plain(map(type, value.values()))
    return False


def pack(value: Any) -> Packed:
    """The value as (pickle, buffers, native references). Errors: TypeError that names what cannot be pickled."""
    if value is None:
        return NONE_RESULT
    kind = type(value)
    if kind in PLAIN or is_plain(value):
        return _dumps(value, 5), (), ()
    if kind.__module__ == "numpy" and kind.__name__ == "ndarray" and kind not in custom:
        # Numbers only: nothing in it that the C pickler would treat otherwise.
        if value.dtype.isbuiltin == 1 and not value.dtype.hasobject:
            buffers: list = []
            return _dumps(value, 5, buffer_callback=buffers.append), buffers, ()
    from trireme._pickler import pack_any

    return pack_any(value)


def pack_args(args: tuple, kwargs: dict, what: str) -> tuple[bytes, Any, Any, int]:
    """A call's arguments as (pickle, buffers, native references, how many of these are to be resolved first)."""
    if not kwargs:
        if not args:
            return b"", (), (), 0
        for arg in args:
            if type(arg) not in PLAIN and not is_plain(arg):
                break
        else:
            return _dumps(args, 5), (), (), 0
    from trireme._pickler import pack_call

    return pack_call(args, kwargs, what)


def unpack(value: Any) -> Any:
    """A native Value as a Python value. Arrays in it are read-only and lie where the value lies."""
    refs, data = value.refs, value.data
    if refs:
        return load_with_refs(data, value.buffers, refs)
    # The runtime's own values (the end of a stream, a group that is ready) have no pickle.
    return _loads(data, buffers=value.buffers) if data else None


def load_with_refs(data: Any, buffers: Any, refs: Any) -> Any:
    if refs and _state.worker is not None:
        _collecting.start()  # a worker that holds references may keep them in cycles
    if not buffers:
        values = load_references(data, refs)
        if values is not None:
            return values
    before = _set_loading(refs)
    try:
        return _loads(data, buffers=buffers)
    finally:
        _set_loading(before)


def unpack_args(task: Any, refs: Any) -> tuple[tuple, dict]:
    """The arguments of a native Task with references: (args, kwargs). `refs`: all of its arguments' references."""
    value = task.args
    deps = task.deps
    count = len(deps)
    call = load_with_refs(value.data, value.buffers, refs[count:])
    if type(call) is tuple:
        return call, {}
    args, kwargs, positions = call
    if count:
        args = list(args)
        for at, dep in zip(positions, deps):
            if type(at) is int:
                args[at] = unpack(dep)
            else:
                kwargs[at] = unpack(dep)
    return args, kwargs


#: Class to (serializer, deserializer), as given to register_serializer().
custom: dict[type, tuple[Callable[[Any], Any], Callable[[Any], Any]]] = {}


def register_serializer(
    cls: type, *, serializer: Callable[[Any], Any], deserializer: Callable[[Any], Any]
) -> None:
    """Sends instances of exactly this class as `serializer(instance)`; `deserializer` makes one of that again.

    Holds in this process; the deserializer travels with the values. Functions that return such values register it in
    the worker.
    """
    if not isinstance(cls, type):
        raise TypeError(f"register_serializer() needs a class, not {cls!r}")
    if cls in PLAIN:
        raise ValueError(f"{cls.__name__} is always sent as it is and cannot have a custom serializer")
    custom[cls] = (serializer, deserializer)


def deregister_serializer(cls: type) -> None:
    """Undoes register_serializer(). Nothing when there is none."""
    custom.pop(cls, None)
