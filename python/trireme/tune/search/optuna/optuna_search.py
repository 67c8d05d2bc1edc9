"""Proposals by Optuna. Optuna is imported when the searcher is made, not before."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from trireme.tune.error import TuneError
from trireme.tune.search.sample import Categorical, Domain, Float, Integer
from trireme.tune.search.searcher import Searcher
from trireme.tune.search.variant_generator import assign, copy_space, draw_domains, find_unresolved

_PLAIN = (type(None), bool, int, float, str)  # what Optuna stores as a category


class OptunaSearch(Searcher):
    """Optuna proposes the configurations (TPE unless another sampler is given).

    Parameters
    ----------
    space
        Search space: a dict as for ``param_space`` (which is used when None), also with Optuna's distributions, or a
        function that gets an Optuna trial, calls its ``suggest_*`` and returns a dict of further constants.
    metric, mode
        What is optimised; lists of both for several objectives.
    points_to_evaluate
        Configurations to try first, flat or nested.
    sampler
        An Optuna sampler.
    study_name, storage
        As in ``optuna.create_study``.
    seed
        Of the default sampler.
    evaluated_rewards
        The results of `points_to_evaluate`, if known: they are then not run.

    Raises
    ------
    ImportError
        Optuna is not installed; says how to get it.
    """

    def __init__(
        self,
        space: Mapping[str, Any] | Callable[[Any], Mapping[str, Any] | None] | None = None,
        metric: str | Sequence[str] | None = None,
        mode: str | Sequence[str] | None = None,
        points_to_evaluate: Sequence[Mapping[str, Any]] | None = None,
        sampler: Any = None,
        study_name: str | None = None,
        storage: Any = None,
        seed: int | None = None,
        evaluated_rewards: Sequence[float] | None = None,
    ) -> None:
        self._optuna = _import_optuna()
        super().__init__(metric, mode)
        if sampler is not None and seed is not None:
            raise ValueError("OptunaSearch: give the seed to your sampler; `seed` is for the default one")
        if evaluated_rewards is not None and len(evaluated_rewards) != len(points_to_evaluate or ()):
            raise ValueError("OptunaSearch: evaluated_rewards needs one result for each of points_to_evaluate")
        self._space = space
        self._points = [dict(point) for point in points_to_evaluate or ()]
        self._rewards = list(evaluated_rewards) if evaluated_rewards is not None else None
        self._sampler = sampler if sampler is not None else self._optuna.samplers.TPESampler(seed=seed)
        self._study_name, self._storage = study_name, storage
        self._study: Any = None
        self._trials: dict[str, Any] = {}
        self._steps: dict[str, int] = {}
        self._categories: dict[str, list[Any]] = {}
        self._distributions: dict[str, Any] = {}
        self._own: dict[tuple[Any, ...], Any] = {}
        if space is not None and metric is not None and mode is not None:
            self._start()

    def set_search_properties(self, metric: Any, mode: Any, config: Mapping[str, Any], **spec: Any) -> bool:
        if self._space is not None and config and find_unresolved(config) != ([], []):
            raise TuneError("OptunaSearch was given a space, and param_space holds search values too; give one of them")
        self._constants = dict(config)
        if self._space is None:
            self._space = dict(config)
        self._metric, self._mode = self._metric or metric, self._mode or mode
        if self._metric is None or self._mode is None:
            raise TuneError("OptunaSearch needs a metric and a mode; give them to TuneConfig or to OptunaSearch")
        if self._study is None:
            self._start()
        return True

    def _start(self) -> None:
        optuna = self._optuna
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        modes = self._mode if isinstance(self._mode, (list, tuple)) else [self._mode]
        directions = ["minimize" if mode == "min" else "maximize" for mode in modes]
        self._study = optuna.create_study(
            storage=self._storage,
            sampler=self._sampler,
            study_name=self._study_name,
            directions=directions,
            load_if_exists=True,
        )
        if not callable(self._space):
            domains, grids = find_unresolved(self._space)
            if grids:
                raise TuneError("OptunaSearch takes no grid_search; use choice(), or BasicVariantGenerator")
            self._distributions = {
                "/".join(map(str, path)): self._distribution("/".join(map(str, path)), domain)
                for path, domain in domains
                if not domain.is_function()
            }
            self._own = self._own_distributions(self._space)
            self._distributions |= {"/".join(map(str, path)): value for path, value in self._own.items()}
        for index, point in enumerate(self._points):
            if self._rewards is not None:
                self.add_evaluated_point(point, self._rewards[index])
            else:
                self._study.enqueue_trial(self._to_optuna(_flat(point)))

    def _own_distributions(self, space: Mapping[str, Any], inside: tuple[Any, ...] = ()) -> dict[tuple[Any, ...], Any]:
        """Those that the space holds as Optuna's own, by path."""
        found: dict[tuple[Any, ...], Any] = {}
        for key, value in space.items():
            if isinstance(value, self._optuna.distributions.BaseDistribution):
                found[(*inside, key)] = value
            elif isinstance(value, Mapping):
                found |= self._own_distributions(value, (*inside, key))
        return found

    def _distribution(self, name: str, domain: Domain) -> Any:
        kinds = self._optuna.distributions
        if isinstance(domain, Categorical):
            if all(isinstance(value, _PLAIN) for value in domain.categories):
                return kinds.CategoricalDistribution(domain.categories)
            self._categories[name] = domain.categories  # Optuna sees the index
            return kinds.CategoricalDistribution(list(range(len(domain.categories))))
        if isinstance(domain, Integer):
            high = domain.upper if domain.q else domain.upper - 1
            if domain.scale == "log" and domain.q and domain.q > 1:
                raise TuneError(f"Optuna has no logarithmic range with a step; use lograndint for {name!r}")
            return kinds.IntDistribution(domain.lower, high, log=domain.scale == "log", step=domain.q or 1)
        if isinstance(domain, Float) and domain.scale != "normal":
            if domain.scale == "log" and domain.q:
                raise TuneError(f"Optuna has no logarithmic range with a step; use loguniform for {name!r}")
            return kinds.FloatDistribution(domain.lower, domain.upper, log=domain.scale == "log", step=domain.q)
        raise TuneError(f"Optuna cannot draw {name!r} from {domain!r}; use uniform, loguniform, randint or choice")

    def _to_optuna(self, params: Mapping[str, Any]) -> dict[str, Any]:
        return {
            name: self._categories[name].index(value) if name in self._categories else value
            for name, value in params.items()
        }

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        if self._study is None:
            raise TuneError("OptunaSearch has no search space; give `space`, or param_space to Tuner")
        if callable(self._space):
            trial = self._study.ask()
            constants = self._space(trial)
            if constants is not None and not isinstance(constants, Mapping):
                raise TuneError(
                    f"OptunaSearch: the space function returned {constants!r}; return a dict of constants or None"
                )
            config = _nested({**getattr(self, "_constants", {}), **(constants or {}), **trial.params})
        else:
            trial = self._study.ask(fixed_distributions=self._distributions)
            config = copy_space(dict(self._space))
            for path, domain in find_unresolved(config)[0]:
                if not domain.is_function():
                    name = "/".join(map(str, path))
                    value = trial.params[name]
                    assign(config, path, self._categories[name][value] if name in self._categories else value)
            for path in self._own:
                assign(config, path, trial.params["/".join(map(str, path))])
            draw_domains(config, _no_generator())
            config = {**copy_space(getattr(self, "_constants", {})), **config}
        self._trials[trial_id], self._steps[trial_id] = trial, 0
        return config

    def on_trial_result(self, trial_id: str, result: Mapping[str, Any]) -> None:
        trial = self._trials.get(trial_id)
        if trial is None or isinstance(self._metric, (list, tuple)) or self._metric not in result:
            return
        self._steps[trial_id] = int(result.get("training_iteration", self._steps[trial_id] + 1))
        trial.report(float(result[self._metric]), self._steps[trial_id])

    def on_trial_complete(self, trial_id: str, result: Mapping[str, Any] | None = None, error: bool = False) -> None:
        trial = self._trials.pop(trial_id, None)
        self._steps.pop(trial_id, None)
        if trial is None:
            return
        names = self._metric if isinstance(self._metric, (list, tuple)) else [self._metric]
        values = [result.get(name) if result else None for name in names]
        states = self._optuna.trial.TrialState
        failed = error or any(value is None or math.isnan(value) for value in values)
        self._study.tell(
            trial,
            None if failed else [float(value) for value in values],
            state=states.FAIL if failed else states.COMPLETE,
        )

    def add_evaluated_point(
        self,
        parameters: Mapping[str, Any],
        value: float,
        error: bool = False,
        pruned: bool = False,
        intermediate_values: Sequence[float] | None = None,
    ) -> None:
        states = self._optuna.trial.TrialState
        params = self._to_optuna(_flat(parameters))
        state = states.FAIL if error else states.PRUNED if pruned else states.COMPLETE
        values = list(value) if isinstance(value, (list, tuple)) else [value]
        self._study.add_trial(
            self._optuna.trial.create_trial(
                state=state,
                params=params,
                distributions={name: self._distributions[name] for name in params},
                values=values if state == states.COMPLETE else None,
                intermediate_values=dict(enumerate(intermediate_values)) if intermediate_values else None,
            )
        )

    def get_state(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key not in ("_optuna", "_space")}

    def set_state(self, state: Mapping[str, Any]) -> None:
        self.__dict__.update(copy.copy(dict(state)))


def _import_optuna() -> Any:
    try:
        import optuna
    except ImportError:
        raise ImportError(
            "OptunaSearch needs Optuna: install it (Debian: apt install python3-optuna; else: pip install optuna), or "
            "leave search_alg out for random and grid search"
        ) from None
    return optuna


def _no_generator() -> Any:
    from trireme.tune.search.sample import generator

    return generator(0)  # only functions are left, which draw nothing from it


def _flat(point: Mapping[str, Any], at: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in point.items():
        if isinstance(value, Mapping):
            flat.update(_flat(value, f"{at}{key}/"))
        else:
            flat[f"{at}{key}"] = value
    return flat


def _nested(flat: Mapping[str, Any]) -> dict[str, Any]:
    config: dict[str, Any] = {}
    for key, value in flat.items():
        *path, last = key.split("/")
        where = config
        for part in path:
            where = where.setdefault(part, {})
        where[last] = value
    return config
