"""Searchers by name."""

from __future__ import annotations

import importlib
from typing import Any

from trireme.tune.search.searcher import Searcher

_KNOWN = {
    "variant_generator": ("trireme.tune.search.basic_variant", "BasicVariantGenerator"),
    "random": ("trireme.tune.search.basic_variant", "BasicVariantGenerator"),
    "optuna": ("trireme.tune.search.optuna", "OptunaSearch"),
}


def create_searcher(search_alg: str, **kwargs: Any) -> Searcher:
    """Makes a searcher from its name (``"random"``, ``"optuna"``).

    Raises
    ------
    ValueError
        There is none of that name; says which there are.
    """
    if search_alg not in _KNOWN:
        raise ValueError(f"there is no searcher {search_alg!r}; choose one of {', '.join(_KNOWN)}")
    module, name = _KNOWN[search_alg]
    return getattr(importlib.import_module(module), name)(**kwargs)
