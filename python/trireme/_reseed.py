"""NumPy's global generator in a worker: seeded anew, or all workers would draw what the template process would.

`numpy.random.seed()` touches about 180 pages that a forked process does not have yet, a third of what a worker touches
before its first call. So the template process looks up where the generator keeps its state, and a worker writes that.
"""

from __future__ import annotations

import os
import sys
from typing import Any

_WORDS = 624
#: The position at which the generator makes new numbers from its words before it gives any.
_USED_UP = _WORDS.to_bytes(4, sys.byteorder)

#: The memory of the generator's state: its words, then the position. None: not known.
_state: Any = None


def prepare() -> None:
    """In the template process, once NumPy is there. Without effect when this NumPy keeps its state otherwise."""
    global _state
    numpy = sys.modules["numpy"]
    _seed(numpy)
    try:
        import ctypes

        generator = numpy.random.mtrand._rand._bit_generator
        memory = (ctypes.c_char * (4 * _WORDS + 4)).from_address(generator.ctypes.state_address)
        said = numpy.random.get_state(legacy=False)
        expected = said["state"]["key"].astype(numpy.uint32).tobytes() + said["state"]["pos"].to_bytes(4, sys.byteorder)
        known = said["bit_generator"] == "MT19937" and said["has_gauss"] == 0 and memory.raw == expected
    except Exception:  # noqa: BLE001 - none of it is promised
        known = False
    _state = (memory, generator) if known else None


def reseed() -> None:
    """In a worker."""
    numpy = sys.modules.get("numpy")
    if _state is not None:
        _state[0].raw = os.urandom(4 * _WORDS) + _USED_UP
    elif numpy is not None:
        _seed(numpy)


def _seed(numpy: Any) -> None:
    # 256 bits as an array: seed() alone imports and computes much more.
    numpy.random.seed(numpy.frombuffer(os.urandom(32), dtype=numpy.uint32))
