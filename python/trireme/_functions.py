"""Functions and classes on their way to the workers.

Each is pickled once per session and stays on the rank that sent it, under the hash of its pickle. What travels with a call
is 20 bytes, `meta`: rank and hash of a "spec", a small dict that names the function and says what the worker must know to
run it. Workers fetch and keep both.

References that a function closes over travel behind those of every call's arguments.
"""

from __future__ import annotations

import hashlib
import pickle
import struct
from typing import Any

from trireme import _state

Meta = bytes
_META = struct.Struct("<I16s")
KEY_BYTES = 16


def key_of(blob: bytes) -> bytes:
    return hashlib.blake2b(blob, digest_size=KEY_BYTES).digest()


def export(blob: bytes) -> Meta:
    """Makes the bytes known to the job; the name under which imported() gives them anywhere."""
    key = key_of(blob)
    core = _state.core
    core.export(key, blob)
    return _META.pack(core.rank, key)


def imported(meta: Meta) -> bytes:
    """What export() gave that name to. Blocks. Errors: RaySystemError when its rank is gone."""
    rank, key = _META.unpack(meta)
    try:
        return _state.core.imported(rank, key)
    except RuntimeError as error:
        from trireme.exceptions import RaySystemError

        raise RaySystemError(f"a function or class that rank {rank} sent cannot be fetched: {error}") from error


class Exported:
    """A function or class as the present session knows it: `meta`, and the native references it closes over."""

    __slots__ = ("meta", "refs")

    def __init__(self, definition: Any, what: str) -> None:
        from trireme._pickler import dump_function

        blob, self.refs = dump_function(definition, what)
        if len(blob) > (16 << 20):
            import warnings

            warnings.warn(
                f"{what} is {len(blob) >> 20} MiB with what it captures; put() large values and pass the references",
                stacklevel=4,
            )
        self.meta = export(blob)


def export_spec(spec: dict[str, Any]) -> Meta:
    try:
        blob = pickle.dumps(spec, 5)
    except Exception:  # noqa: BLE001 - whatever pickle cannot do, the other can
        from trireme._pickler import dump

        blob, _, _ = dump(spec)
    return export(blob)


class Arity:
    """How many arguments a function takes, so that a wrong call fails where it is made.

    A call without keywords is right when `least <= len(args) <= most`; check() tells for the others.
    """

    __slots__ = ("least", "most", "names", "needed", "open_names", "positional_only", "required")

    def __init__(self, function: Any, skip: int = 0) -> None:
        code = function.__code__
        positional = code.co_varnames[: code.co_argcount]
        keyword_only = code.co_varnames[code.co_argcount : code.co_argcount + code.co_kwonlyargcount]
        many, any_name = code.co_flags & 0x04, code.co_flags & 0x08
        self.names = positional[skip:]
        self.most = (1 << 30) if many else len(self.names)
        self.required = max(0, len(self.names) - len(function.__defaults__ or ()))
        self.positional_only = max(0, code.co_posonlyargcount - skip)
        self.open_names = None if any_name else frozenset(self.names[self.positional_only :] + keyword_only)
        self.needed = frozenset(keyword_only) - frozenset(function.__kwdefaults__ or ())
        self.least = (1 << 30) if self.needed else self.required

    def check(self, args: tuple, kwargs: dict, what: str) -> None:
        """Errors: TypeError, worded as Python does."""
        if len(args) > self.most:
            takes = f"{self.most}" if self.required == self.most else f"from {self.required} to {self.most}"
            raise TypeError(f"{what}() takes {takes} positional arguments but {len(args)} were given")
        for name in kwargs:
            if name in self.names[self.positional_only : len(args)]:
                raise TypeError(f"{what}() got multiple values for argument {name!r}")
            if self.open_names is not None and name not in self.open_names:
                raise TypeError(f"{what}() got an unexpected keyword argument {name!r}")
        missing = [name for name in self.names[len(args) : self.required] if name not in kwargs]
        missing += sorted(self.needed - kwargs.keys())
        if missing:
            raise TypeError(f"{what}() missing required arguments: {', '.join(map(repr, missing))}")


def arity_of(function: Any, skip: int = 0) -> Arity | None:
    """None when it cannot be told: not a Python function, or one that wraps another."""
    if not hasattr(function, "__code__") or hasattr(function, "__wrapped__"):
        return None
    return Arity(function, skip)
