"""Tasks and actors of C++ libraries, by name."""

from __future__ import annotations

from typing import Any


def cpp_function(function_name: str) -> Any:
    """The C++ function of that name as a remote function. Errors: AttributeError when the runtime cannot call C++."""
    return _native("cpp_function", "C++ functions")(function_name)


def cpp_actor_class(create_function_name: str, class_name: str) -> Any:
    """The C++ class of that name as an actor class. Errors: AttributeError when the runtime cannot call C++."""
    return _native("cpp_actor_class", "C++ actors")(create_function_name, class_name)


def _native(name: str, what: str) -> Any:
    from trireme import _native as native

    found = getattr(native, name, None)
    if found is None:
        raise AttributeError(f"this build of trireme cannot call {what} from Python")
    return found
