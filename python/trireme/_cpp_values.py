"""What C++ names in the values that it sends."""

from __future__ import annotations

from typing import Any


def array(buffer: Any, dtype: str, shape: tuple[int, ...]) -> Any:
    """A read-only array over the memory where the value lies. `dtype`: kind and bytes, as in "f8"."""
    import numpy as np

    made = np.frombuffer(buffer, dtype) if len(buffer) else np.empty(0, dtype)
    return made.reshape(shape)


# C++ programs name what they call as "module:name"; in the worker:


def function(module: str, name: str) -> Any:
    """The plain function. Errors: AttributeError and ImportError that name it; TypeError when it cannot be called."""
    found = _find(module, name)
    found = getattr(found, "_function", found)
    if not callable(found):
        raise TypeError(f"{module}:{name} is a {type(found).__name__}, no function")
    return found


def actor_class(module: str, name: str) -> type:
    """The plain class. Errors: as function()."""
    found = _find(module, name)
    found = getattr(found, "_class", found)
    if not isinstance(found, type):
        raise TypeError(f"{module}:{name} is a {type(found).__name__}, no class")
    return found


def _find(module: str, name: str) -> Any:
    import importlib

    found: Any = importlib.import_module(module)
    for part in name.split("."):
        found = getattr(found, part)
    return found
