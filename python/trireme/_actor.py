"""`@remote` on a class: actor classes, handles and their methods."""

from __future__ import annotations

import collections
import pickle
import time
from collections.abc import Callable
from typing import Any

from trireme import _init, _options, _state
from trireme._functions import Arity, Exported, Meta, arity_of, export, export_spec, imported, key_of
from trireme._ids import ActorID
from trireme._native import Caller, NativeError, _loading_ref
from trireme._remote_function import _placement, code_flags, count_returns, wrap_returns
from trireme._serialization import pack_args
from trireme.exceptions import PendingCallsLimitExceeded, RaySystemError

_ASYNC = 0x80 | 0x200

#: Methods that every actor has, for programs that know Ray.
BUILT_IN = ("__ray_ready__", "__ray_call__", "__ray_terminate__")


def method(*args: Any, **options: Any) -> Callable:
    """Gives a method of an actor class options: `num_returns`, `concurrency_group`, `max_task_retries`, `retry_exceptions`."""
    if len(args) == 1 and callable(args[0]) and not options:  # @method, with nothing to say
        return args[0]
    if args:
        raise TypeError("@trireme.method needs options by name, as in @trireme.method(num_returns=2)")

    def annotate(function: Callable) -> Callable:
        _options.check("method", options, f"the method {getattr(function, '__qualname__', function)}")
        function.__trireme_method__ = options  # type: ignore[attr-defined]
        return function

    return annotate


class MethodInfo:
    """What a caller must know of a method."""

    __slots__ = ("arity", "flags", "options")

    def __init__(self, options: dict[str, Any], arity: Arity | None, flags: int) -> None:
        self.options = options
        self.arity = arity
        self.flags = flags


class Descriptor:
    """What a handle must know of its actor's class. Sent to other processes once per class and options."""

    __slots__ = ("class_name", "max_pending_calls", "meta", "methods", "out_of_order", "session")

    def __init__(self, class_name: str, methods: dict[str, MethodInfo], max_pending_calls: int) -> None:
        self.class_name = class_name
        self.methods = methods
        self.max_pending_calls = max_pending_calls
        self.meta: Meta = b""
        self.session = 0

    def publish(self) -> None:
        fields = (self.class_name, self.methods, self.max_pending_calls)
        self.meta = export(pickle.dumps(fields, 5))
        self.session = _state.session
        _descriptors[self.meta] = self


_descriptors: dict[Meta, Descriptor] = {}


def descriptor_of(meta: Meta) -> Descriptor:
    known = _descriptors.get(meta)
    if known is None or known.session != _state.session:
        known = Descriptor(*pickle.loads(imported(meta)))
        known.meta = meta
        known.session = _state.session
        _descriptors[meta] = known
    return known


def methods_of(cls: type) -> dict[str, MethodInfo]:
    """The methods of a class by name, those of its bases included."""
    found: dict[str, MethodInfo] = {}
    for base in reversed(cls.__mro__):
        for name, member in vars(base).items():
            if base is object or name in ("__class__", "__init_subclass__", "__new__", "__weakref__", "__dict__"):
                continue
            skip = 1
            if isinstance(member, staticmethod):
                member, skip = member.__func__, 0
            elif isinstance(member, classmethod):
                member = member.__func__
            if isinstance(member, (property, type)) or not callable(member):
                found.pop(name, None)
                continue
            options = getattr(member, "__trireme_method__", {})
            found[name] = MethodInfo(options, arity_of(member, skip), code_flags(member))
    return found


class ActorMethod(Caller):
    """One method of one actor: `handle.method.remote(...)` returns at once with a reference to its result (a list of
    `num_returns`, None for 0, or a generator of references).

    Calls of one caller run in the order in which they were made, one at a time unless the actor is async or threaded.
    """

    __slots__ = (
        "_arity", "_info", "_label", "_least", "_meta", "_most", "_name", "_num_returns", "_pending", "_ref", "_returns",
        "_session", "_streaming",
    )  # fmt: skip

    def __init__(self, ref: Any, label: str, name: str, info: MethodInfo, options: dict[str, Any], pending: Any) -> None:
        self._ref = ref
        self._label = label
        self._name = name
        self._info = info
        self._arity = info.arity
        self._least, self._most = (info.arity.least, info.arity.most) if info.arity else (0, 1 << 30)
        self._pending = pending
        self._num_returns, self._returns = count_returns(options.get("num_returns"), info.flags)
        limit = options.get("_generator_backpressure_num_objects")
        self._streaming = max(0, limit or 0) if self._num_returns == "streaming" else -1
        self._session = _state.session
        retry = options.get("retry_exceptions", False)
        special = {
            "num_returns": self._num_returns,
            "group": options.get("concurrency_group"),
            "retry": tuple(retry) if isinstance(retry, (list, tuple)) else retry,
            "max_task_retries": options.get("max_task_retries"),
        }
        if special == {"num_returns": 1, "group": None, "retry": False, "max_task_retries": None}:
            self._meta = name.encode()
        else:
            from trireme._pickler import dump

            self._meta = b"\0" + dump((name, special))[0]
        # remote() is Caller's: it makes calls with plain arguments itself and leaves others to _remote().
        if self._num_returns == 1 and pending is None:
            self._arm(_state.session, self._meta, label, None, ref, (), self._least, self._most)

    def _remote(self, args: tuple, kwargs: dict) -> Any:
        if self._session != _state.session:
            raise RaySystemError(f"{self._label}: this handle is of a session that was shut down; create the actor again")
        if self._arity is not None and (kwargs or not self._least <= len(args) <= self._most):
            self._arity.check(args, kwargs, self._label)
        if self._pending is not None:
            self._pending.make_room(self._label)
        data, buffers, refs, deps = pack_args(args, kwargs, self._label)
        made = _state.core.call(
            self._ref, self._meta, data, buffers, refs, deps, self._returns, self._label, self._streaming
        )
        if self._pending is not None:
            self._pending.add(made[0])
        return wrap_returns(made, self._num_returns)

    def options(self, **options: Any) -> ActorMethod:
        """The same method with these options in place of its own; they hold for the calls made through what is returned."""
        _options.check("call", options, f"the method {self._label}")
        label = options.get("name") or self._label
        return ActorMethod(self._ref, label, self._name, self._info, {**self._info.options, **options}, self._pending)

    def bind(self, *args: Any, **kwargs: Any) -> Any:
        """A node of a lazily built graph of calls."""
        try:
            from trireme.dag import ClassMethodNode
        except ImportError:
            raise AttributeError(f"{self._label}.bind() needs trireme.dag, which is not there") from None
        return ClassMethodNode(self, args, kwargs)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        raise TypeError(f"an actor's method cannot be called directly: call {self._label}.remote()")

    def __repr__(self) -> str:
        return f"ActorMethod({self._label})"


class _Pending:
    """The calls of one handle that are under way, for max_pending_calls."""

    __slots__ = ("_limit", "_refs")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._refs: collections.deque = collections.deque()

    def make_room(self, label: str) -> None:
        if len(self._refs) < self._limit:
            return
        self._refs = collections.deque(ref for ref in self._refs if not ref.ready)
        if len(self._refs) >= self._limit:
            raise PendingCallsLimitExceeded(
                f"{label}: {len(self._refs)} calls of this handle are under way and max_pending_calls is {self._limit}; "
                f"get() some results first"
            )

    def add(self, ref: Any) -> None:
        self._refs.append(ref)


class ActorHandle:
    """A handle on an actor: its methods are attributes with `.remote()`.

    Can be an argument or be returned. The actor ends when its last handle is gone and its calls are done, unless it is
    detached. Two handles on one actor are equal.
    """

    def __init__(self, ref: Any, descriptor: Descriptor | None, meta: Meta, class_name: str) -> None:
        fields = self.__dict__
        fields["_ref"] = ref
        fields["_descriptor"] = descriptor
        fields["_meta"] = meta
        fields["_class_name"] = class_name
        fields["_pending"] = None

    def __getattr__(self, name: str) -> ActorMethod:
        if name.startswith("__") and name not in BUILT_IN and name != "__call__":
            raise AttributeError(name)
        fields = self.__dict__
        descriptor = fields["_descriptor"]
        if descriptor is None:
            descriptor = fields["_descriptor"] = descriptor_of(self._meta)
        info = descriptor.methods.get(name)
        if info is None:
            if name not in BUILT_IN:
                import difflib

                nearest = difflib.get_close_matches(name, descriptor.methods, n=1)
                hint = f"; did you mean {nearest[0]!r}?" if nearest else ""
                raise AttributeError(f"the actor class {self._class_name} has no method {name!r}{hint}")
            info = MethodInfo({}, None, 0)
        if descriptor.max_pending_calls > 0 and self._pending is None:
            fields["_pending"] = _Pending(descriptor.max_pending_calls)
        made = ActorMethod(self._ref, f"{self._class_name}.{name}", name, info, info.options, self._pending)
        # The method knows the actor but not this handle, so keeping it here makes no cycle.
        fields[name] = made
        return made

    @property
    def _actor_id(self) -> ActorID:
        return ActorID.from_hex(self._ref.id)

    _ray_actor_id = _actor_id

    def __dir__(self) -> list[str]:
        descriptor = self._descriptor or descriptor_of(self._meta)
        return sorted({*object.__dir__(self), *descriptor.methods})

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ActorHandle) and self._ref == other._ref

    def __hash__(self) -> int:
        return hash(self._ref)

    def __repr__(self) -> str:
        return f"Actor({self._class_name}, {self._ref.id})"

    def __reduce__(self):
        raise TypeError(f"{self!r} can be sent in arguments, results and put() only: outside of them nobody would count it")

    def _trireme_reduce(self, refs: list):
        refs.append(self._ref)
        return load_handle, (len(refs) - 1, self._meta, self._class_name)


def load_handle(index: int, meta: Meta, class_name: str) -> ActorHandle:
    return ActorHandle(_loading_ref(index), None, meta, class_name)


class ActorClass:
    """A class whose instances are actors: `A.remote(...)` creates one and returns a handle at once.

    `A.options(...)` gives the same class with other options. Threading: any thread.
    """

    def __init__(self, cls: type, options: dict[str, Any], _shared: list | None = None) -> None:
        self.__name__ = cls.__name__
        self.__qualname__ = cls.__qualname__
        self.__module__ = cls.__module__
        self.__doc__ = cls.__doc__
        self._class = cls
        self._options = options
        # One pickle of the class for all of its options: [session, Exported].
        self._shared = _shared if _shared is not None else [0, None]
        self._methods = methods_of(cls)
        constructor = cls.__init__ if cls.__init__ is not object.__init__ else None
        self._arity = arity_of(constructor, 1) if constructor is not None else None
        self._descriptor = Descriptor(cls.__name__, self._methods, options.get("max_pending_calls", -1))
        self._session = -1
        self._meta = b""
        self._groups = _group_sizes(options.get("concurrency_groups"))
        for name, info in self._methods.items():
            group = info.options.get("concurrency_group")
            if group is not None and group not in self._groups and options.get("concurrency_groups") is not None:
                raise ValueError(
                    f"{cls.__name__}.{name} is in the concurrency group {group!r}, which concurrency_groups does not name; "
                    f"it names {', '.join(self._groups) or 'none'}"
                )

    @property
    def _is_async(self) -> bool:
        return any(info.flags & _ASYNC for info in self._methods.values())

    def remote(self, *args: Any, **kwargs: Any) -> ActorHandle:
        """Creates an actor. An exception of the constructor is what the first call fails with."""
        name = self._cls_name()
        if self._arity is not None:
            self._arity.check(args, kwargs, name)
        core = _init.core()
        if _state.local:
            from trireme import _local

            return _local.create(self, args, kwargs)
        options = self._options
        group = _state.captured_group
        if group is not None and _options.strategy_of(options) is None:
            options = {**options, "placement_group": group, "placement_group_capture_child_tasks": True}
            return ActorClass(self._class, options, self._shared).remote(*args, **kwargs)
        actor_name = options.get("name")
        if actor_name:
            full = full_name(actor_name, options.get("namespace"))
            found = core.find_actor(full)
            if found is not None:
                if options.get("get_if_exists"):
                    return handle_of(found)
                from trireme.exceptions import ActorAlreadyExistsError

                raise ActorAlreadyExistsError(
                    f"there is an actor named {actor_name!r} already; get it with trireme.get_actor({actor_name!r}) or use "
                    f"get_if_exists=True"
                )
        if self._session != _state.session:
            self._prepare()
        native = self._native_options()
        data, buffers, refs, deps = pack_args(args, kwargs, name)
        closed_over = self._shared[1].refs
        if closed_over:
            refs = [*refs, *closed_over]
        try:
            ref = core.create_actor(self._meta, data, buffers, refs, deps, native, name)
        except NativeError as error:
            if error.code != "already_exists":
                raise
            found = core.find_actor(full)
            if options.get("get_if_exists") and found is not None:
                return handle_of(found)
            from trireme.exceptions import ActorAlreadyExistsError

            raise ActorAlreadyExistsError(f"there is an actor named {actor_name!r} already") from error
        if actor_name:
            core.export(_class_key(ref), self._descriptor.meta + self._class.__name__.encode())
        return ActorHandle(ref, self._descriptor, self._descriptor.meta, self._class.__name__)

    def _cls_name(self) -> str:
        return self._class.__name__

    def _prepare(self) -> None:
        session = _state.session
        if self._shared[0] != session:
            self._shared[1] = Exported(self._class, f"the actor class {self._class.__name__}")
            self._shared[0] = session
        exported = self._shared[1]
        options = self._options
        self._descriptor.publish()
        is_async = self._is_async
        group, capture = _placement(options)
        self._meta = export_spec(
            {
                "class": exported.meta,
                "refs": len(exported.refs),
                "name": self._class.__name__,
                "descriptor": self._descriptor.meta,
                "actor_name": options.get("name") or "",
                "namespace": options.get("namespace") or _state.job.get("namespace", ""),
                "async": is_async,
                "max_concurrency": options.get("max_concurrency") or (1000 if is_async else 1),
                "groups": self._groups,
                "max_task_retries": options.get("max_task_retries", 0),
                "resources": _options.resources_of(options, 0),
                "group": group,
                "capture": capture,
            }
        )
        self._session = session

    def _native_options(self) -> Any:
        from trireme import _runtime_env

        options = self._options
        native = _options.native_options(options, 0)
        native.env_key, native.env = _runtime_env.for_process(options.get("runtime_env"))
        native.max_restarts = options.get("max_restarts", 0)
        native.max_task_retries = options.get("max_task_retries", 0)
        native.detached = (options.get("lifetime") or _state.job.get("default_actor_lifetime")) == "detached"
        if options.get("name"):
            native.name = full_name(options["name"], options.get("namespace"))
        return native

    def options(self, **options: Any) -> ActorClass:
        """The same class with these options in place of its own."""
        _options.check("actor", options, f"the actor class {self._class.__name__}")
        merged = _options.check("actor", {**self._options, **options}, f"the actor class {self._class.__name__}")
        return ActorClass(self._class, merged, self._shared)

    def bind(self, *args: Any, **kwargs: Any) -> Any:
        """A node of a lazily built graph of calls."""
        try:
            from trireme.dag import ClassNode
        except ImportError:
            raise AttributeError(f"{self._class.__name__}.bind() needs trireme.dag, which is not there") from None
        return ClassNode(self, args, kwargs)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        raise TypeError(
            f"the actor class {self._class.__name__} cannot be instantiated directly: use {self._class.__name__}.remote()"
        )

    def __mro_entries__(self, bases: tuple) -> tuple:
        raise TypeError(
            f"{self._class.__name__} is an actor class and cannot be a base class; derive from the plain class and make "
            f"the derived one remote"
        )

    def __reduce__(self):
        return ActorClass, (self._class, self._options)

    def __repr__(self) -> str:
        return f"ActorClass({self._class.__name__})"


def _group_sizes(groups: Any) -> dict[str, int]:
    if not groups:
        return {}
    if isinstance(groups, dict):
        return dict(groups)
    return {group["name"]: group.get("max_concurrency", 1) for group in groups}


def full_name(name: str, namespace: str | None) -> str:
    return f"{namespace or _state.job.get('namespace', '')}/{name}"


def _class_key(ref: Any) -> bytes:
    return key_of(f"class of actor {ref.id}".encode())


def handle_of(ref: Any) -> ActorHandle:
    """A handle on a named actor that was found. What its class is, is known on the rank where it was created."""
    core = _state.core
    key = _class_key(ref)
    deadline = time.monotonic() + 10
    while True:
        try:
            known = bytes(core.imported(ref.owner, key))
            break
        except NativeError as error:
            # Its creator tells the name first and the class right after.
            if error.code != "not_found" or time.monotonic() > deadline:
                raise
            time.sleep(0.001)
    return ActorHandle(ref, None, known[:20], known[20:].decode())


def get_actor(name: str, namespace: str | None = None) -> ActorHandle:
    """A handle on the living actor of that name.

    Errors: ValueError when there is none (or it ended).
    """
    if not isinstance(name, str) or not name:
        raise ValueError(f"get_actor() needs the name of an actor, not {name!r}")
    if namespace is not None and (not isinstance(namespace, str) or not namespace):
        raise ValueError(f"namespace must be None or a text that is not empty, not {namespace!r}")
    core = _init.core()
    full = full_name(name, namespace)
    if _state.local:
        from trireme import _local

        local = _local.find(full)
        if local is not None:
            return local
    found = core.find_actor(full)
    if found is None:
        where = full.partition("/")[0]
        raise ValueError(
            f"there is no actor named {name!r} in the namespace {where!r}: it was not created yet, it ended, or its last "
            f"handle is gone (use lifetime='detached' to keep it)"
        )
    return handle_of(found)


class ActorExit(BaseException):
    """Ends the actor after the present call. Not an Exception, so that `except Exception` lets it pass."""


def exit_actor() -> None:
    """Ends the actor in whose method it is called; it is not started again. The present call fails with ActorDiedError.

    Errors: TypeError outside of an actor.
    """
    worker = _state.worker
    if not _state.local and (worker is None or not worker.is_actor):
        raise TypeError("exit_actor() ends the actor in which it is called; this is none")
    raise ActorExit
