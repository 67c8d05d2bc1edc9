"""Identities: of jobs, nodes, workers, actors, tasks, placement groups.

What an identity says is fixed where the thing is made; a class of its own for each kind keeps them apart. What the rest of
the package hands around are their hexadecimal texts.
"""

from __future__ import annotations

import os
from typing import Any, ClassVar, Self

from trireme import _state


class BaseID:
    """An identity. Equal to one of its own class with the same bytes; can be a key and be pickled.

    Threading: immutable.
    Errors: TypeError for what is not bytes (a text, for `from_hex`), ValueError for a wrong number of them.
    """

    __slots__ = ("_bytes",)
    _SIZE: ClassVar[int] = 0

    def __init__(self, id: bytes) -> None:
        if not isinstance(id, bytes):
            raise TypeError(f"{type(self).__name__} is made of bytes, not of a {type(id).__name__}; from_hex() takes a text")
        if len(id) != self._SIZE:
            raise ValueError(f"{type(self).__name__} has {self._SIZE} bytes; these are {len(id)}")
        self._bytes = id

    @classmethod
    def from_binary(cls, id_bytes: bytes) -> Self:
        """The identity with these bytes."""
        return cls(id_bytes)

    @classmethod
    def from_hex(cls, hex_id: str) -> Self:
        """The identity that `hex` gives this text of."""
        if not isinstance(hex_id, str):
            raise TypeError(f"{cls.__name__}.from_hex() takes a text, not a {type(hex_id).__name__}")
        return cls(bytes.fromhex(hex_id))

    @classmethod
    def from_random(cls) -> Self:
        """One that nothing has."""
        return cls(os.urandom(cls._SIZE))

    @classmethod
    def nil(cls) -> Self:
        """The identity of nothing."""
        return cls(b"\xff" * cls._SIZE)

    @classmethod
    def size(cls) -> int:
        """Its length in bytes."""
        return cls._SIZE

    def binary(self) -> bytes:
        """Its bytes."""
        return self._bytes

    def hex(self) -> str:
        """Its bytes as a text of hexadecimal digits, as the state API and the runtime context give it."""
        return self._bytes.hex()

    def is_nil(self) -> bool:
        """Whether it is the identity of nothing."""
        return self._bytes == b"\xff" * self._SIZE

    def __bytes__(self) -> bytes:
        return self._bytes

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self._bytes == other._bytes  # type: ignore[attr-defined]

    def __hash__(self) -> int:
        return hash(self._bytes)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.hex()})"

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._bytes,)


class UniqueID(BaseID):
    """28 bytes that nothing else has."""

    __slots__ = ()
    _SIZE = 28


class NodeID(UniqueID):
    """Of a rank, which is what Ray calls a node: `NodeID` in `nodes()`."""

    __slots__ = ()


class JobID(BaseID):
    """Of a job, from `init()` to `shutdown()`."""

    __slots__ = ()
    _SIZE = 4

    @classmethod
    def from_int(cls, value: int) -> Self:
        """The identity whose bytes are this number's, the most significant first."""
        return cls(value.to_bytes(cls._SIZE, "big"))

    def int(self) -> int:
        """Its bytes as a number."""
        return int.from_bytes(self._bytes, "big")


class _OfJob(BaseID):
    """An identity that is unique in its job."""

    __slots__ = ()

    def job_id(self) -> JobID:
        """The job in which this process is; no other job's identities are in it."""
        return job_id()


class WorkerID(_OfJob):
    """Of a process: its rank's number, and its own among those of the rank."""

    __slots__ = ()
    _SIZE = 12


class ActorID(_OfJob):
    """Of an actor: the rank where it was created, and a number."""

    __slots__ = ()
    _SIZE = 12


class TaskID(_OfJob):
    """Of a task or call: `RuntimeContext.get_task_id()` within it, and `task_id` of what the state API lists, name the process
    that runs it and a number; `ObjectRef.task_id()`, which may come before that is known, names it by its result."""

    __slots__ = ()
    _SIZE = 20


class PlacementGroupID(_OfJob):
    """Of a placement group: the rank where it was made, and a number."""

    __slots__ = ()
    _SIZE = 12


def job_id() -> JobID:
    """Of the job in which this process is; nil in none."""
    known = _state.job.get("job_id")
    return JobID.from_hex(known) if known else JobID.nil()
