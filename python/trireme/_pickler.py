"""The pickler for values that are more than plain: functions and classes of scripts, references, custom serializers,
buffers out of band. Imports cloudpickle, so it is itself imported late."""

from __future__ import annotations

import io
import pickle
from typing import Any

import cloudpickle

from trireme import _serialization
from trireme._serialization import PLAIN, is_plain


class Pickler(cloudpickle.CloudPickler):
    """cloudpickle, with references numbered in `refs` in the order in which they are found."""

    def __init__(self, file: Any, buffer_callback: Any, refs: list) -> None:
        super().__init__(file, protocol=5, buffer_callback=buffer_callback)
        self._refs = refs

    def reducer_override(self, obj: Any) -> Any:
        number_refs = getattr(type(obj), "_trireme_reduce", None)
        if number_refs is not None and not isinstance(obj, type):
            return number_refs(obj, self._refs)
        if _serialization.custom:
            pair = _serialization.custom.get(type(obj))
            if pair is not None:
                serializer, deserializer = pair
                return _restore, (deserializer, serializer(obj))
        return super().reducer_override(obj)


def _restore(deserializer: Any, state: Any) -> Any:
    return deserializer(state)


def dump(value: Any) -> tuple[bytes, list, list]:
    file = io.BytesIO()
    buffers: list = []
    refs: list = []
    Pickler(file, buffers.append, refs).dump(value)
    return file.getvalue(), buffers, refs


def pack_any(value: Any, what: str = "the value") -> tuple[bytes, list, list]:
    try:
        return dump(value)
    except Exception as error:
        raise explain(value, what, error) from error


def pack_call(args: tuple, kwargs: dict, what: str) -> tuple[bytes, Any, Any, int]:
    from trireme._object_ref import ObjectRef

    deps: list = []
    positions: list = []
    if ObjectRef in map(type, args):
        args = list(args)  # type: ignore[assignment]
        for i, arg in enumerate(args):
            if type(arg) is ObjectRef:
                deps.append(arg._ref)
                positions.append(i)
                args[i] = None  # type: ignore[index]
    if kwargs and ObjectRef in map(type, kwargs.values()):
        kwargs = dict(kwargs)
        for name, arg in kwargs.items():
            if type(arg) is ObjectRef:
                deps.append(arg._ref)
                positions.append(name)
                kwargs[name] = None
    call = [args, kwargs, positions] if kwargs or positions else args
    if all(map(is_plain, args)) and all(map(is_plain, kwargs.values())):
        return pickle.dumps(call, 5), (), deps, len(deps)
    try:
        data, buffers, refs = dump(call)
    except Exception as error:
        for i, arg in enumerate(args):
            fail_on(arg, f"argument {i + 1} of {what}")
        for name, arg in kwargs.items():
            fail_on(arg, f"argument {name!r} of {what}")
        raise explain(call, f"the arguments of {what}", error) from error
    return data, buffers, deps + refs if deps else refs, len(deps)


def dump_function(function: Any, what: str) -> tuple[bytes, list]:
    """A function or class by value where the workers cannot import it: (pickle, native references it closes over)."""
    try:
        file = io.BytesIO()
        refs: list = []
        Pickler(file, None, refs).dump(function)
        return file.getvalue(), refs
    except Exception as error:
        raise explain_function(function, what, error) from error


# What cannot be pickled, and where it is.


def fail_on(value: Any, what: str) -> None:
    if type(value) in PLAIN:
        return
    try:
        dump(value)
    except Exception as error:
        raise explain(value, what, error) from error


def explain(value: Any, what: str, error: Exception) -> TypeError:
    path, culprit, reason = find_unpicklable(value, error)
    return TypeError(
        f"{what} cannot be sent to another process: {what}{path} is a {_type_name(culprit)} ({_short(culprit)}), and "
        f"{reason}. Leave it out, make it inside the task or actor, or give its class a serializer with "
        f"trireme.util.register_serializer()."
    )


def explain_function(function: Any, what: str, error: Exception) -> TypeError:
    for name, value in _captured(function):
        if not _can_dump(value):
            path, culprit, reason = find_unpicklable(value, error)
            return TypeError(
                f"{what} cannot be sent to another process: it uses {name}{path}, a {_type_name(culprit)} "
                f"({_short(culprit)}), and {reason}. Make it inside the function, or pass what it is made from."
            )
    return TypeError(f"{what} cannot be sent to another process: {error}")


def find_unpicklable(value: Any, error: Exception) -> tuple[str, Any, str]:
    """The innermost thing that fails: (path to it, the thing, why)."""
    path = ""
    seen: set[int] = set()
    reason = str(error)
    while id(value) not in seen:
        seen.add(id(value))
        for step, part in _parts(value):
            try:
                dump(part)
            except Exception as inner:  # noqa: BLE001 - pickling runs user code
                path, value, reason = path + step, part, str(inner)
                break
        else:
            break
    return path, value, reason


def _parts(value: Any) -> list[tuple[str, Any]]:
    if isinstance(value, dict):
        return [(f"[{key!r}]", part) for key, part in value.items()] + [(" (a key)", key) for key in value]
    if isinstance(value, (list, tuple)):
        return [(f"[{i}]", part) for i, part in enumerate(value)]
    if isinstance(value, (set, frozenset)):
        return [(" (an element)", part) for part in value]
    if callable(value) and hasattr(value, "__code__"):
        return [(f" (its {name})", part) for name, part in _captured(value)]
    parts = [(f".{name}", part) for name, part in getattr(value, "__dict__", {}).items()]
    if not isinstance(value, type):
        return parts
    return [(step, part) for step, part in parts if not step.startswith(".__")]


def _captured(function: Any) -> list[tuple[str, Any]]:
    code = getattr(function, "__code__", None)
    if code is None:
        if isinstance(function, type):
            return [
                (f"{name} in {inner}", part)
                for name, method in vars(function).items()
                if hasattr(method, "__code__")
                for inner, part in _captured(method)
            ]
        return []
    found = [(f"the global {name!r}", function.__globals__[name]) for name in code.co_names if name in function.__globals__]
    for name, cell in zip(code.co_freevars, function.__closure__ or ()):
        try:
            found.append((f"the variable {name!r}", cell.cell_contents))
        except ValueError:  # not assigned yet
            continue
    found += [(f"the default {i + 1}", part) for i, part in enumerate(function.__defaults__ or ())]
    return found


def _can_dump(value: Any) -> bool:
    try:
        dump(value)
    except Exception:  # noqa: BLE001 - pickling runs user code
        return False
    return True


def _type_name(value: Any) -> str:
    kind = type(value)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _short(value: Any) -> str:
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001 - pickling runs user code
        text = object.__repr__(value)
    return text if len(text) <= 80 else text[:77] + "..."
