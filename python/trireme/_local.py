"""init(local_mode=True): tasks and actors run in the driver's process, one after the other, where they are called.

For debuggers and profilers. A call has ended when `.remote()` returns. Arguments and results are packed and stored as they
otherwise are, so that what works here works in workers; what a call raises is raised by get(). Options that say where
something runs, in how many processes, or how often it is tried again have no effect. Code sees itself in the driver.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

from trireme import _errors, _state
from trireme._actor import BUILT_IN, ActorClass, ActorExit, ActorHandle, MethodInfo, full_name
from trireme._ids import ActorID
from trireme._object_ref import ObjectRef
from trireme._remote_function import RemoteFunction, count_returns, wrap_returns
from trireme._worker import _ASYNC_GENERATOR, _COROUTINE, Work, Worker, _iterable, _run_coroutine

Told = tuple[str, str, bytes]

_actors: dict[str, LocalActor] = {}
_names: dict[str, str] = {}
_numbers = itertools.count(1)


class Failed(BaseException):
    """How a call failed in the driver; a worker passes it on as if it had failed there."""


def _fail(told: Told) -> None:
    raise Failed(*told)


def _replay(items: list, told: Told | None) -> Any:
    for item in items:
        yield _get(item)
    if told is not None:
        raise Failed(*told)


def _get(ref: Any) -> Any:
    from trireme._api import get

    return get(ref)


# Results and failures become references through the runtime: a failure is that of a task which does nothing else.
_failing = RemoteFunction(_fail, {"num_cpus": 0, "max_retries": 0})
_replaying = RemoteFunction(_replay, {"num_cpus": 0, "max_retries": 0, "num_returns": "streaming"})


def _failed(told: Told, returns: int, num_returns: Any) -> Any:
    core = _state.core
    function = _failing.options(num_returns=returns) if returns > 1 else _failing
    made = function._submit(core, (told,), {})
    refs = made if isinstance(made, list) else [made]
    return wrap_returns([ref._ref for ref in refs], num_returns)


def run(call: Callable[..., Any], name: str, num_returns: Any, args: tuple, kwargs: dict) -> Any:
    """Call it, and return references as `.remote()` does."""
    core = _state.core
    work = Work(call, name, num_returns, False, 0)
    num_returns, returns = count_returns(num_returns, work.flags)
    work.num_returns = num_returns
    items: list[ObjectRef] = []
    told: Told | None = None
    try:
        args, kwargs = _as_received(args, kwargs)
        result = call(*args, **kwargs)
        if work.flags & (_COROUTINE | _ASYNC_GENERATOR):
            result = _run_coroutine(result, work.flags)
        if num_returns == "streaming":
            from trireme._api import put

            items.extend(put(item) for item in _iterable(result, work))
        else:
            packed = Worker.results(None, work, result)  # type: ignore[arg-type]
            return wrap_returns([core.put(*each) for each in packed], num_returns)
    except ActorExit:
        raise
    except Exception as error:  # noqa: BLE001 - user code raises anything
        told = _errors.describe(error, name, core.rank)
    if num_returns == "streaming":
        return _replaying._submit(core, (items, told), {})
    assert told is not None
    return _failed(told, returns, num_returns)


def _as_received(args: tuple, kwargs: dict) -> tuple[tuple, dict]:
    """The arguments as a worker would get them: references that are arguments resolved, the rest copied."""
    from trireme._api import put

    def value(arg: Any) -> Any:
        return _get(arg if type(arg) is ObjectRef else put(arg))

    return tuple(value(arg) for arg in args), {name: value(arg) for name, arg in kwargs.items()}


def submit(function: RemoteFunction, args: tuple, kwargs: dict) -> Any:
    """`function.remote(*args, **kwargs)`."""
    return run(function._function, function._name, function._options.get("num_returns"), args, kwargs)


class LocalActor:
    """An actor in this process. It lives until kill() or shutdown(): handles are not counted."""

    def __init__(self, cls: ActorClass, name: str) -> None:
        self.id = f"{_state.core.rank:08x}{next(_numbers):016x}"
        self.class_name = cls._class.__name__
        self.methods = cls._methods
        self.name = name
        self.instance: Any = None
        self.dead: Told | None = None
        _actors[self.id] = self
        if name:
            _names[name] = self.id

    def construct(self, cls: type, args: tuple, kwargs: dict) -> None:
        try:
            args, kwargs = _as_received(args, kwargs)
            self.instance = cls(*args, **kwargs)
        except Exception as error:  # noqa: BLE001 - user code raises anything
            self.end(_errors.describe(error, self.class_name, _state.core.rank, creation=True))

    def end(self, told: Told) -> None:
        self.dead = self.dead or told
        self.instance = None
        if _names.get(self.name) == self.id:
            del _names[self.name]

    def call(self, method: str, num_returns: Any, args: tuple, kwargs: dict) -> Any:
        label = f"{self.class_name}.{method}"
        if self.dead is not None:
            return _failed(self.dead, count_returns(num_returns, 0)[1], num_returns or 1)
        if method == "__ray_call__":
            call: Callable = lambda function, *rest, **named: function(self.instance, *rest, **named)  # noqa: E731
        elif method in BUILT_IN:
            call = self._leave if method == "__ray_terminate__" else bool
        else:
            call = getattr(self.instance, method)
        try:
            return run(call, label, num_returns, args, kwargs)
        except ActorExit:
            self.end(("the actor left by exit_actor()", "ActorDiedError", b""))
            return _failed(self.dead, 1, 1)  # type: ignore[arg-type]

    def _leave(self) -> None:
        raise ActorExit


class LocalHandle(ActorHandle):
    """A handle on an actor in this process."""

    def __init__(self, actor: LocalActor) -> None:
        super().__init__(None, None, b"", actor.class_name)
        self.__dict__["_actor"] = actor

    def __getattr__(self, name: str) -> Any:
        info = self._actor.methods.get(name)
        if info is None:
            if name not in BUILT_IN:
                raise AttributeError(f"the actor class {self._class_name} has no method {name!r}")
            info = MethodInfo({}, None, 0)
        return LocalMethod(self._actor, name, info, info.options)

    def _trireme_end(self) -> None:
        self._actor.end((f"the actor {self._class_name} was killed", "ActorDiedError", b""))

    def _trireme_reduce(self, refs: list) -> Any:
        return _handle, (self._actor.id,)

    @property
    def _actor_id(self) -> ActorID:
        return ActorID.from_hex(self._actor.id)

    _ray_actor_id = _actor_id

    def __dir__(self) -> list[str]:
        return sorted({*object.__dir__(self), *self._actor.methods})

    def __eq__(self, other: object) -> bool:
        return isinstance(other, LocalHandle) and self._actor is other._actor

    def __hash__(self) -> int:
        return hash(self._actor.id)

    def __repr__(self) -> str:
        return f"Actor({self._class_name}, {self._actor.id})"


class LocalMethod:
    """One method of an actor in this process."""

    def __init__(self, actor: LocalActor, name: str, info: MethodInfo, options: dict[str, Any]) -> None:
        self._actor, self._name, self._info, self._options = actor, name, info, options

    def remote(self, *args: Any, **kwargs: Any) -> Any:
        """Call the method now; returns as `ActorMethod.remote` does."""
        if self._info.arity is not None:
            self._info.arity.check(args, kwargs, f"{self._actor.class_name}.{self._name}")
        return self._actor.call(self._name, self._options.get("num_returns"), args, kwargs)

    def options(self, **options: Any) -> LocalMethod:
        """Return the method with these options; only `num_returns` counts."""
        return LocalMethod(self._actor, self._name, self._info, {**self._options, **options})

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        raise TypeError(f"an actor's method cannot be called directly: call {self._actor.class_name}.{self._name}.remote()")


def _handle(actor_id: str) -> LocalHandle:
    if actor_id not in _actors:
        raise RuntimeError("an actor of init(local_mode=True) exists in the driver's process only")
    return LocalHandle(_actors[actor_id])


def create(cls: ActorClass, args: tuple, kwargs: dict) -> LocalHandle:
    """`cls.remote(*args, **kwargs)`."""
    options = cls._options
    name = full_name(options["name"], options.get("namespace")) if options.get("name") else ""
    if name in _names:
        if options.get("get_if_exists"):
            return _handle(_names[name])
        from trireme.exceptions import ActorAlreadyExistsError

        raise ActorAlreadyExistsError(f"there is an actor named {options['name']!r} already")
    actor = LocalActor(cls, name)
    actor.construct(cls._class, args, kwargs)
    return LocalHandle(actor)


def find(name: str) -> LocalHandle | None:
    """Return a handle on the actor of that full name."""
    return _handle(_names[name]) if name in _names else None


def close() -> None:
    """Forget all actors: the session ends."""
    _actors.clear()
    _names.clear()
