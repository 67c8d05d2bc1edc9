"""`@remote` on a function."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from trireme import _collecting, _init, _options, _state
from trireme._functions import Exported, arity_of, export_spec
from trireme._native import Caller
from trireme._object_ref import ObjectRef, ObjectRefGenerator
from trireme._serialization import pack_args

_GENERATOR = 0x20
_COROUTINE = 0x80
_ASYNC_GENERATOR = 0x200


def code_flags(function: Any) -> int:
    while isinstance(function, functools.partial):
        function = function.func
    code = getattr(function, "__code__", None)
    return code.co_flags if code is not None else 0


def count_returns(num_returns: Any, flags: int) -> tuple[Any, int]:
    """What the worker makes of the result, and how many references the runtime makes: ("streaming", 1), (0, 1), (3, 3)."""
    if num_returns is None:
        num_returns = "streaming" if flags & (_GENERATOR | _ASYNC_GENERATOR) else 1
    return num_returns, max(1, num_returns) if isinstance(num_returns, int) else 1


class RemoteFunction(Caller):
    """A function that runs as a task: `f.remote(...)` returns at once with a reference to its result (a list of
    `num_returns`, None for 0, or a generator of references).

    `f.options(...)` gives the same function with other options. Threading: any thread.
    """

    def __init__(self, function: Callable, options: dict[str, Any], _exported: list | None = None) -> None:
        functools.update_wrapper(self, function, updated=())
        self._function = function
        self._options = options
        self._name = options.get("name") or getattr(function, "__qualname__", None) or repr(function)
        self._arity = arity_of(function)
        # One pickle of the function for all of its options: [session, Exported].
        self._exported = _exported if _exported is not None else [0, None]
        self._session = -1  # in which the following hold
        self._meta = b""
        self._native: Any = None
        self._refs: list = []
        self._least, self._most = (self._arity.least, self._arity.most) if self._arity else (0, 1 << 30)
        self._num_returns, self._returns = count_returns(options.get("num_returns"), code_flags(function))
        limit = options.get("_generator_backpressure_num_objects")
        self._streaming = -1 if self._num_returns != "streaming" else max(0, limit or 0)
        self._strategy = _options.strategy_of(options)
        self._by_group: dict[Any, RemoteFunction] = {}
        self._dynamic = _options.is_dynamic_place(options)
        self._plain_call = self._returns == 1 and self._num_returns == 1 and not self._dynamic

    # remote() is Caller's: it makes calls with plain arguments itself, as armed by _prepare(), and leaves others to this.
    def _remote(self, args: tuple, kwargs: dict) -> Any:
        if self._arity is not None and (kwargs or not self._least <= len(args) <= self._most):
            self._arity.check(args, kwargs, self._name)
        core = _init.core()
        if _state.local:
            from trireme import _local

            return _local.submit(self, args, kwargs)
        group = _state.captured_group
        if group is not None and self._strategy is None:
            return self._in_group(group)._submit(core, args, kwargs)
        return self._submit(core, args, kwargs)

    def _submit(self, core: Any, args: tuple, kwargs: dict) -> Any:
        if self._session != _state.session:
            self._prepare()
        native = self._native if not self._dynamic else self._native_options()
        data, buffers, refs, deps = pack_args(args, kwargs, self._name)
        if self._refs:
            refs = [*refs, *self._refs]
        made = core.submit(
            self._meta, data, buffers, refs, deps, self._returns, native, self._name, self._streaming
        )
        return wrap_returns(made, self._num_returns)

    def _prepare(self) -> None:
        """Makes function and options known to the session."""
        session = _state.session
        _collecting.start()
        if self._exported[0] != session:
            self._exported[1] = Exported(self._function, f"the function {self._name}")
            self._exported[0] = session
        exported = self._exported[1]
        options = self._options
        retry = options.get("retry_exceptions", False)
        max_calls = options.get("max_calls", 1 if options.get("num_gpus") else 0)
        group, capture = _placement(options)
        self._meta = export_spec(
            {
                "function": exported.meta,
                "refs": len(exported.refs),
                "name": self._name,
                "num_returns": self._num_returns,
                "retry": tuple(retry) if isinstance(retry, (list, tuple)) else retry,
                "max_retries": options.get("max_retries", 3),
                "max_calls": max_calls,
                "resources": _options.resources_of(options, 1),
                "group": group,
                "capture": capture,
            }
        )
        self._refs = exported.refs
        self._native = None if self._dynamic else self._native_options()
        self._session = session
        if self._plain_call:
            self._arm(session, self._meta, self._name, self._native, None, self._refs, self._least, self._most)

    def _native_options(self) -> Any:
        options = self._options
        from trireme import _runtime_env

        env_key, env = _runtime_env.for_process(options.get("runtime_env"))
        placed = ("num_cpus", "num_gpus", "memory", "resources", "accelerator_type", "label_selector", "max_retries")
        if not env_key and self._strategy is None and all(options.get(name) is None for name in placed):
            return None  # the runtime's defaults
        native = _options.native_options(options, 1)
        native.max_retries = options.get("max_retries", 3)
        native.env_key = env_key
        native.env = env
        return native

    def _in_group(self, group: Any) -> RemoteFunction:
        """This function with the options that a task of that group gives to its children."""
        inside = self._by_group.get(group)
        if inside is None:
            options = {**self._options, "placement_group": group, "placement_group_capture_child_tasks": True}
            inside = self._by_group[group] = RemoteFunction(self._function, options, self._exported)
        return inside

    def options(self, **options: Any) -> RemoteFunction:
        """The same function with these options in place of its own."""
        _options.check("task", options, f"the task {self._name}")
        return RemoteFunction(self._function, {**self._options, **options}, self._exported)

    def bind(self, *args: Any, **kwargs: Any) -> Any:
        """A node of a lazily built graph of calls."""
        try:
            from trireme.dag import FunctionNode
        except ImportError:
            raise AttributeError(f"{self._name}.bind() needs trireme.dag, which is not there") from None
        return FunctionNode(self, args, kwargs)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        raise TypeError(
            f"the remote function {self._name} cannot be called directly: call {self._name}.remote() for a task, or "
            f"{self._name}._function() for a plain call"
        )

    def __reduce__(self):
        return RemoteFunction, (self._function, self._options)

    def __repr__(self) -> str:
        return f"RemoteFunction({self._name})"


def _placement(options: dict[str, Any]) -> tuple[Any, bool]:
    """The placement group (None: none) and whether it captures children."""
    strategy = options.get("scheduling_strategy")
    group = getattr(strategy, "placement_group", None)
    if group is not None:
        return group, bool(strategy.placement_group_capture_child_tasks)
    group = options.get("placement_group")
    if group in (None, "default"):
        return None, False
    return group, bool(options.get("placement_group_capture_child_tasks"))


def wrap_returns(made: list, num_returns: Any) -> Any:
    if num_returns == 1 or num_returns == "dynamic":
        return ObjectRef(made[0])
    if num_returns == "streaming":
        return ObjectRefGenerator(made[0], made[1])
    if num_returns == 0:
        return None
    return [ObjectRef(ref) for ref in made]
