"""Search spaces and searchers."""

from trireme._lazy import attach
from trireme.tune.search.basic_variant import BasicVariantGenerator
from trireme.tune.search.concurrency_limiter import ConcurrencyLimiter
from trireme.tune.search.repeater import Repeater
from trireme.tune.search.searcher import Searcher

__getattr__, _ = attach(__name__, {"create_searcher": "create", "OptunaSearch": "optuna"})

__all__ = ["BasicVariantGenerator", "ConcurrencyLimiter", "Repeater", "Searcher", "create_searcher"]
