"""Optuna's samplers as a searcher."""

from trireme.tune.search.optuna.optuna_search import OptunaSearch

__all__ = ["OptunaSearch"]
