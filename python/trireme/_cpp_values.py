"""What C++ names in the values that it sends."""

from __future__ import annotations

from typing import Any


def array(buffer: Any, dtype: str, shape: tuple[int, ...]) -> Any:
    """A read-only array over the memory where the value lies. `dtype`: kind and bytes, as in "f8"."""
    import numpy as np

    made = np.frombuffer(buffer, dtype) if len(buffer) else np.empty(0, dtype)
    return made.reshape(shape)
