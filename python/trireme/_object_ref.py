"""References to results, and generators of them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Generator, Iterator
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from trireme import _state
from trireme._ids import JobID, TaskID, job_id
from trireme._native import Ref, load_ref

if TYPE_CHECKING:
    import concurrent.futures

T = TypeVar("T")


class ObjectRef(Ref, Generic[T]):
    """A reference to an object that exists or will: the result of a task or call, or what `put` stored.

    Two are equal when they refer to the same object. As an argument of its own it is resolved before the task runs; within
    another value it arrives as a reference. `await ref` gives its value, `ref.future()` a `concurrent.futures.Future`.
    The object lives until its last reference, in whichever process, is gone.

    Threading: immutable.
    """

    # A Ref of the compiled runtime with more methods. `_ref` is the reference itself, `ObjectRef(ref)` another one like it.
    __slots__ = ()

    def hex(self) -> str:
        """Which object, unique in the job."""
        return self.id

    def binary(self) -> bytes:
        """The same as bytes."""
        return bytes.fromhex(self._ref.id)

    @classmethod
    def size(cls) -> int:
        """The length of `binary()`."""
        return 12

    def is_nil(self) -> bool:
        """False: a reference is always one to an object."""
        return False

    def task_id(self) -> TaskID:
        """Of the task that makes the object, which is named by it."""
        return TaskID(self.binary() + bytes(TaskID.size() - self.size()))

    def job_id(self) -> JobID:
        """Of the job to which the object belongs."""
        return job_id()

    def future(self) -> concurrent.futures.Future:
        """A future with the value or the error. Cancelling it does not cancel the task."""
        from trireme._watching import future_of

        return future_of(self)

    def as_future(self):
        """An asyncio future of the running loop."""
        import asyncio

        return asyncio.wrap_future(self.future())

    def __await__(self) -> Generator[Any, None, T]:
        if self._ref.ready:
            from trireme._api import get

            return get(self)
            yield  # makes this a generator
        return (yield from self.as_future().__await__())

    def __repr__(self) -> str:
        return f"ObjectRef({self._ref.id})"

    def __reduce__(self):
        raise TypeError(
            f"{self!r} can be sent in arguments, results and put() only: outside of them nobody would count it"
        )

    def _trireme_reduce(self, refs: list):
        refs.append(self._ref)
        return load_ref, (len(refs) - 1,)

    def __iter__(self):
        raise TypeError(
            f"{self!r} is a reference, not its value; call trireme.get() on it first, or give num_returns to the task"
        )


class ObjectRefGenerator:
    """The values of a streaming task or call as references, in the order in which they are yielded.

    `next(gen)` waits until the next value is there and gives a reference to it. An exception of the task is what the
    last reference holds. Iterable by `async for` too. One consumer; it cannot be sent to another process.
    """

    __slots__ = ("__weakref__", "_end", "_next", "_over", "_stream")

    def __init__(self, end: Any, stream: Any) -> None:
        self._end = ObjectRef(end)
        self._stream = stream
        self._next: Any = None
        self._over = False

    def completed(self) -> ObjectRef:
        """Ready (with None) or failed with the task."""
        return self._end

    def next_ready(self) -> bool:
        """True when the next item, or the end, is there."""
        return self._over or self._peek().ready

    def is_finished(self) -> bool:
        return self._over

    def _peek(self) -> Any:
        if self._next is None:
            self._next = _state.core.stream_next(self._stream)
        return self._next

    def _take(self) -> ObjectRef | None:
        """The next item, which is ready; None at the end."""
        ref = self._next
        self._next = None
        error = ref.error
        if error is not None:
            self._over = True
            if error.code == "stream_end":
                return None
        return ObjectRef(ref)

    def _next_sync(self, timeout_s: float | None = None) -> ObjectRef | None:
        """The next item; None when the time is up."""
        if self._over:
            raise StopIteration
        ref = self._peek()
        if not ref.ready and not _state.core.wait((ref,), 1, timeout_s)[0]:
            return None
        item = self._take()
        if item is None:
            raise StopIteration
        return item

    def __iter__(self) -> Iterator[ObjectRef]:
        return self

    def __next__(self) -> ObjectRef:
        item = self._next_sync()
        assert item is not None
        return item

    def __aiter__(self) -> AsyncIterator[ObjectRef]:
        return self

    async def __anext__(self) -> ObjectRef:
        if self._over:
            raise StopAsyncIteration
        ref = self._peek()
        if not ref.ready:
            import asyncio

            from trireme._watching import ready_future

            await asyncio.wrap_future(ready_future(ref))
        item = self._take()
        if item is None:
            raise StopAsyncIteration
        return item

    def close(self) -> None:
        """Cancels the task when it still yields."""
        if not self._over:
            self._over = True
            _state.core.cancel(self._end._ref, False, True)

    def __repr__(self) -> str:
        return f"ObjectRefGenerator({self._end._ref.id})"

    def __reduce__(self):
        raise TypeError("an ObjectRefGenerator has one consumer and cannot be sent; send the references that it gives")


class DynamicObjectRefGenerator:
    """What a task with `num_returns="dynamic"` gives: references to all that its generator yielded."""

    __slots__ = ("_refs",)

    def __init__(self, refs: list[ObjectRef]) -> None:
        self._refs = refs

    def __iter__(self) -> Iterator[ObjectRef]:
        return iter(self._refs)

    def __len__(self) -> int:
        return len(self._refs)

    def __getitem__(self, index: int) -> ObjectRef:
        return self._refs[index]

    def __repr__(self) -> str:
        return f"DynamicObjectRefGenerator({len(self._refs)} references)"


StreamingObjectRefGenerator = ObjectRefGenerator

#: Ray's older name.
ObjectID = ObjectRef
