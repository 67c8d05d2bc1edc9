"""Functions and actor classes of C++ libraries, by name.

A library made with `<trireme/python.hpp>` exports them; `load_library()` makes them known. They run inside a rank, as C++
tasks and actors do. What may cross: None, bool, int (64 bits), float, str, bytes, tuple, list, dict and NumPy arrays of
numbers. An array that is large, or that a reference names, is read where it lies; results are read-only arrays.
"""

from __future__ import annotations

import hashlib
import os
import sys
from typing import Any

from trireme import _init, _native, _options, _state
from trireme._object_ref import ObjectRef
from trireme._serialization import pack_args

#: The options of a process mean nothing for what runs inside a rank.
_FUNCTION_OPTIONS = (
    "num_cpus", "num_gpus", "memory", "resources", "scheduling_strategy", "placement_group",
    "placement_group_bundle_index", "label_selector", "max_retries",
)  # fmt: skip
_ACTOR_OPTIONS = (*(name for name in _FUNCTION_OPTIONS if name != "max_retries"), "max_concurrency")


def load_library(path: str | os.PathLike[str]) -> list[str]:
    """Loads a C++ library, and makes what it exports callable by name; twice is once.

    Other ranks load it from the same path when something of it first runs there. What the program (rank 0) loads is known by
    name in tasks and actors too.

    Returns
    -------
    The names of all functions and actor classes that are loaded.

    Errors: FileNotFoundError; RuntimeError when it cannot be loaded, exports nothing, or exports a name that is taken.
    """
    place = os.path.realpath(os.fspath(path))
    if not os.path.exists(place):
        raise FileNotFoundError(f"load_library({os.fspath(path)!r}): there is no file {place}")
    _native.cpp_load(place)
    if place not in _loaded:
        _loaded.append(place)
        _tell(place)
    return [*_native.cpp_functions(), *_native.cpp_actors()]


#: What this process loaded.
_loaded: list[str] = []
#: The session in which the driver told of libraries, and of how many it told.
_told = (0, 0)


def loaded() -> list[str]:
    """The libraries that this process loaded."""
    return list(_loaded)


def _key(number: int) -> bytes:
    return hashlib.blake2b(f"C++ library {number}".encode(), digest_size=16).digest()


def _tell(path: str) -> None:
    """The driver: makes it known to the job's processes. What was loaded before init() is in the job's settings."""
    global _told
    if _state.core is None or _state.worker is not None or _state.local:
        return
    number = _told[1] if _told[0] == _state.session else 0
    _state.core.export(_key(number), path.encode())
    _told = (_state.session, number + 1)


def _load_the_drivers() -> bool:
    """A worker: loads what the driver had loaded by now. True when that was more than before."""
    before = len(_loaded)
    for path in _state.job.get("cpp_libraries", ()):
        load_library(path)
    number = 0
    while True:
        try:
            load_library(bytes(_state.core.imported(0, _key(number))).decode())
        except _native.NativeError as error:
            if error.code != "not_found":
                raise
            return len(_loaded) > before
        number += 1


def _known(ask: Any, name: str) -> Any:
    try:
        return ask(name)
    except ValueError:
        if _state.worker is None or not _load_the_drivers():
            raise
        return ask(name)


def cpp_function(function_name: str) -> CppFunction:
    """The C++ function of that name as a remote function. Errors: ValueError, with the names that there are."""
    return CppFunction(function_name, {}, _known(_native.cpp_signature, function_name))


def cpp_actor_class(class_name: str, *others: str) -> CppActorClass:
    """The C++ class of that name as an actor class. Errors: ValueError, with the names that there are.

    Ray gives a factory function first and the class's name second; here the class alone has a name, the last one.
    """
    name = others[-1] if others else class_name
    return CppActorClass(name, {}, _known(_native.cpp_class, name))


class CppFunction:
    """A C++ function: `f.remote(...)` runs it as a task of a rank and returns a reference to its result.

    It can be sent: whoever has it can call it.
    """

    def __init__(self, name: str, options: dict[str, Any], known: tuple[str, str, int]) -> None:
        self._name = name
        self._known = known
        self._library, self._signature, self._count = known
        self._options = options
        self._placed = any(value is not None for value in options.values())

    def remote(self, *args: Any, **kwargs: Any) -> ObjectRef:
        """Submits a task. Arguments that are references arrive as their values. Errors: TypeError."""
        data, buffers, refs = _pack(args, kwargs, self._signature, self._count)
        return ObjectRef(_native.cpp_submit(_init.core(), self._library, self._name, data, buffers, refs, self._native_options()))

    def _native_options(self) -> Any:
        if not self._placed:
            return None
        native = _options.native_options(self._options, 1)
        native.max_retries = self._options.get("max_retries", 3)
        return native

    def options(self, **options: Any) -> CppFunction:
        """The same function with these options: those of tasks that say what it needs, where it runs and max_retries."""
        _check(options, "task", f"the C++ function {self._name}", _FUNCTION_OPTIONS)
        return CppFunction(self._name, {**self._options, **options}, self._known)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        raise TypeError(f"the C++ function {self._name} cannot be called directly: call {self._name}.remote()")

    def __reduce__(self):
        return CppFunction, (self._name, self._options, self._known)

    def __repr__(self) -> str:
        return f"CppFunction({self._signature})"


class CppActorClass:
    """A C++ class: `A.remote(...)` makes an instance inside a rank and returns a handle at once. It can be sent."""

    def __init__(self, name: str, options: dict[str, Any], known: tuple[str, str, int, dict[str, tuple[str, int]]]) -> None:
        self._name = name
        self._known = known
        self._library, self._signature, self._count, self._methods = known
        self._options = options

    def remote(self, *args: Any, **kwargs: Any) -> CppActorHandle:
        """Creates an actor. An exception of the constructor is what its calls fail with."""
        data, buffers, refs = _pack(args, kwargs, self._signature, self._count)
        native = _options.native_options(self._options, 0)
        concurrency = self._options.get("max_concurrency") or 1
        ref = _native.cpp_create(_init.core(), self._library, self._name, data, buffers, refs, native, concurrency)
        return CppActorHandle(ref, self._name, self._methods)

    def options(self, **options: Any) -> CppActorClass:
        """The same class with these options: those of actors that say what it needs and where, and max_concurrency.

        More than one call at a time is for classes that are safe in several threads.
        """
        _check(options, "actor", f"the C++ class {self._name}", _ACTOR_OPTIONS)
        return CppActorClass(self._name, {**self._options, **options}, self._known)

    def __reduce__(self):
        return CppActorClass, (self._name, self._options, self._known)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        raise TypeError(f"the C++ class {self._name} cannot be instantiated directly: use {self._name}.remote()")

    def __repr__(self) -> str:
        return f"CppActorClass({self._signature})"


class CppActorHandle:
    """A handle on a C++ actor: its methods are attributes with `.remote()`. The actor ends with its last handle.

    It can be sent in arguments, results and put(). `trireme.kill(handle)` ends the actor.
    """

    def __init__(self, ref: Any, class_name: str, methods: dict[str, tuple[str, int]]) -> None:
        self._ref = ref
        self._class_name = class_name
        self._methods = methods
        self._session = _state.session

    def __getattr__(self, name: str) -> CppActorMethod:
        if name.startswith("__"):
            raise AttributeError(name)
        if name not in self._methods:
            raise AttributeError(
                f"the C++ class {self._class_name} exports no method {name!r}; it exports "
                f"{', '.join(self._methods) or 'none'}"
            )
        return CppActorMethod(self, name, *self._methods[name])

    def _trireme_end(self) -> None:
        _init.core().kill(self._ref, True)

    def __dir__(self) -> list[str]:
        return sorted({*object.__dir__(self), *self._methods})

    def __reduce__(self):
        raise TypeError(f"{self!r} can be sent in arguments, results and put() only: outside of them nobody would count it")

    def _trireme_reduce(self, refs: list):
        refs.append(self._ref)
        return load_handle, (len(refs) - 1, self._class_name, self._methods)

    def __repr__(self) -> str:
        return f"CppActor({self._class_name}, {self._ref.id})"


def load_handle(index: int, class_name: str, methods: dict[str, tuple[str, int]]) -> CppActorHandle:
    """The handle that _trireme_reduce() packed."""
    return CppActorHandle(_native._loading_ref(index), class_name, methods)


class CppActorMethod:
    """One method of a C++ actor: calls of one caller run in the order in which they were made."""

    __slots__ = ("_actor", "_count", "_name", "_signature")

    def __init__(self, actor: CppActorHandle, name: str, signature: str, count: int) -> None:
        self._actor = actor
        self._name = name
        self._signature = signature
        self._count = count

    def remote(self, *args: Any, **kwargs: Any) -> ObjectRef:
        """Calls the method; returns a reference to its result. Errors: TypeError."""
        data, buffers, refs = _pack(args, kwargs, self._signature, self._count)
        if self._actor._session != _state.session:
            from trireme.exceptions import RaySystemError

            raise RaySystemError(f"{self._actor!r} is of a session that was shut down; create the actor again")
        return ObjectRef(_native.cpp_call(_state.core, self._actor._ref, self._name, data, buffers, refs))

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        raise TypeError(f"an actor's method cannot be called directly: call {self._name}.remote()")

    def __repr__(self) -> str:
        return f"CppActorMethod({self._signature})"


def _pack(args: tuple, kwargs: dict[str, Any], signature: str, count: int) -> tuple[bytes, Any, Any]:
    """Pickle, buffers and references of a call."""
    if kwargs:
        raise TypeError(f"{signature}: C++ functions have no keyword arguments; {', '.join(kwargs)} must go by position")
    if len(args) != count:
        raise TypeError(f"{signature}: takes {count} arguments, and {len(args)} were given")
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        # C++ reads rows one after the other; only what lies otherwise is copied.
        args = tuple(
            numpy.ascontiguousarray(arg) if type(arg) is numpy.ndarray and not arg.flags.c_contiguous else arg
            for arg in args
        )
    data, buffers, refs, deps = pack_args(args, {}, signature)
    if len(refs) != deps:
        raise TypeError(
            f"{signature}: a reference inside another argument cannot cross to C++; give it as an argument of its own, and "
            f"its value arrives"
        )
    return data, buffers, refs


def _check(options: dict[str, Any], kind: str, what: str, known: tuple[str, ...]) -> None:
    _options.check(kind, options, what)
    for name in options:
        if name not in known:
            raise ValueError(f"{what} has no option {name!r}: it runs inside a rank; there are: {', '.join(known)}")
