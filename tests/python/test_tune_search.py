"""Search spaces and searchers: what is drawn lies where it should, in the order that a seed fixes."""

# ctest: one rank
from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest

from trireme.tune.error import TuneError
from trireme.tune.search import BasicVariantGenerator, ConcurrencyLimiter, Repeater, Searcher
from trireme.tune.search import sample as s
from trireme.tune.search.variant_generator import RecursiveDependencyError, count_variants, generate_variants


def drawn(domain: s.Domain, count: int = 2000) -> list[Any]:
    return domain.sample(size=count, random_state=1)


def all_of(space: dict[str, Any], num_samples: int = 1, **options: Any) -> list[dict[str, Any]]:
    searcher = BasicVariantGenerator(random_state=3, **options)
    searcher.set_search_properties(None, None, space, num_samples=num_samples)
    configs = []
    for number in itertools.count():
        config = searcher.suggest(str(number))
        if config == Searcher.FINISHED:
            return configs
        searcher.on_trial_complete(str(number))
        configs.append(config)


def test_bounds_and_steps() -> None:
    assert all(0.5 <= value < 2 for value in drawn(s.uniform(0.5, 2)))
    assert {round(value, 6) for value in drawn(s.quniform(0, 1, 0.25))} == {0, 0.25, 0.5, 0.75, 1}
    assert set(drawn(s.randint(2, 5))) == {2, 3, 4}
    assert set(drawn(s.qrandint(0, 10, 5))) == {0, 5, 10}
    assert set(drawn(s.qrandint(1, 3))) == {1, 2, 3}
    assert set(drawn(s.lograndint(1, 9))) == set(range(1, 9))
    assert all(value % 4 == 0 and 4 <= value <= 64 for value in drawn(s.qlograndint(4, 64, 4)))
    assert all(type(value) is int for value in drawn(s.randint(2, 5)))
    assert set(drawn(s.choice(["a", "b", None]))) == {"a", "b", None}
    assert all(math.isclose(value / 0.5, round(value / 0.5)) for value in drawn(s.qrandn(0, 2, 0.5)))


def test_logarithmic_draws_are_even_over_the_orders_of_magnitude() -> None:
    values = np.log10(drawn(s.loguniform(1e-4, 1), 8000))
    counts, _ = np.histogram(values, bins=[-4, -3, -2, -1, 0])
    assert counts.sum() == 8000
    assert all(1800 < count < 2200 for count in counts)


def test_normal_draws_have_mean_and_deviation() -> None:
    values = drawn(s.randn(10, 2), 8000)
    assert abs(np.mean(values) - 10) < 0.1
    assert abs(np.std(values) - 2) < 0.1


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: s.uniform(2, 1), "lower bound comes first"),
        (lambda: s.loguniform(0, 1), "starts above 0"),
        (lambda: s.quniform(0.1, 1, 0.25), "no multiple of q"),
        (lambda: s.choice([]), "at least one"),
        (lambda: s.grid_search("abc"), "list"),
        (lambda: s.loguniform(1, 2, base=1), "base"),
    ],
)
def test_impossible_domains_say_why(make: Any, says: str) -> None:
    with pytest.raises((ValueError, TypeError), match=says):
        make()


def test_grids_are_crossed_and_repeated() -> None:
    space = {"a": s.grid_search([1, 2, 3]), "b": {"c": s.grid_search(["x", "y"])}, "d": s.uniform(0, 1), "e": 7}
    configs = all_of(space, num_samples=2)
    assert len(configs) == 12 == 2 * count_variants(space)
    for half in (configs[:6], configs[6:]):
        points = {(config["a"], config["b"]["c"]) for config in half}
        assert points == set(itertools.product([1, 2, 3], ["x", "y"]))
    assert len({config["d"] for config in configs}) == 12
    assert all(config["e"] == 7 for config in configs)


def test_constant_grid_search_draws_once_for_each_sweep() -> None:
    configs = all_of({"a": s.grid_search([1, 2, 3]), "d": s.uniform(0, 1)}, 2, constant_grid_search=True)
    draws = [config["d"] for config in configs]
    assert len(set(draws[:3])) == 1
    assert len(set(draws[3:])) == 1
    assert draws[0] != draws[3]


def test_one_seed_gives_one_sequence() -> None:
    space = {"a": s.loguniform(1e-3, 1), "b": [s.choice([1, 2]), {"c": s.randn()}]}
    assert all_of(space, 5) == all_of(space, 5)
    np.random.seed(5)
    first = BasicVariantGenerator()._seed
    np.random.seed(5)
    assert BasicVariantGenerator()._seed == first


def test_functions_see_values_that_are_drawn() -> None:
    space = {
        "lr": s.uniform(1, 2),
        "model": {"width": s.choice([8, 16])},
        "by_key": s.sample_from(lambda config: config["lr"] * 2),
        "by_spec": s.sample_from(lambda spec: spec.config.model.width + 1),
        "of_function": s.sample_from(lambda config: config.by_key + 1),
        "alone": s.sample_from(lambda: 5),
    }
    for config in all_of(space, 4):
        assert config["by_key"] == config["lr"] * 2
        assert config["by_spec"] == config["model"]["width"] + 1
        assert config["of_function"] == config["by_key"] + 1
        assert config["alone"] == 5


def test_conditional_space() -> None:
    space = {
        "kind": s.choice(["adam", "sgd"]),
        "momentum": s.sample_from(lambda config: 0.9 if config["kind"] == "sgd" else None),
    }
    for config in all_of(space, 20):
        assert (config["momentum"] is None) == (config["kind"] == "adam")


def test_domain_inside_a_choice_is_drawn() -> None:
    values = {config["a"] for config in all_of({"a": s.choice([s.randint(10, 12), 0])}, 60)}
    assert values == {0, 10, 11}


def test_functions_in_a_circle_are_an_error() -> None:
    space = {"a": s.sample_from(lambda c: c["b"]), "b": s.sample_from(lambda c: c["a"])}
    with pytest.raises(RecursiveDependencyError, match="wait for each other"):
        list(generate_variants(space))


def test_a_function_that_reads_what_is_not_there_names_what_is() -> None:
    with pytest.raises(AttributeError, match="no value 'lrr'.*'lr'"):
        list(generate_variants({"lr": 1, "a": s.sample_from(lambda spec: spec.config.lrr)}))


def test_points_to_evaluate_come_first() -> None:
    configs = all_of(
        {"a": s.uniform(0, 1), "b": {"c": s.randint(0, 9)}}, 3, points_to_evaluate=[{"a": 0.5, "b": {"c": 4}}]
    )
    assert len(configs) == 3
    assert configs[0] == {"a": 0.5, "b": {"c": 4}}


def test_state_goes_on_where_it_was() -> None:
    space = {"a": s.uniform(0, 1)}
    wanted = [config["a"] for config in all_of(space, 6)]
    first = BasicVariantGenerator(random_state=3)
    first.set_search_properties(None, None, space, num_samples=6)
    got = [first.suggest(str(number))["a"] for number in range(4)]
    second = BasicVariantGenerator(random_state=99)
    second.set_search_properties(None, None, space, num_samples=6)
    second.set_state(first.get_state())
    got += [second.suggest(str(number))["a"] for number in range(4, 6)]
    assert got == wanted
    assert second.suggest("7") == Searcher.FINISHED


class Counting(Searcher):
    """Proposes 0, 1, 2, ... and writes down what it learns."""

    def __init__(self) -> None:
        super().__init__("score", "max")
        self.asked = 0
        self.ended: list[tuple[str, Any, bool]] = []

    def suggest(self, trial_id: str) -> dict[str, Any]:
        self.asked += 1
        return {"x": self.asked - 1}

    def on_trial_complete(self, trial_id: str, result: Any = None, error: bool = False) -> None:
        self.ended.append((trial_id, result and result["score"], error))


def test_concurrency_limiter() -> None:
    inner = Counting()
    limiter = ConcurrencyLimiter(inner, 2)
    assert [limiter.suggest(trial) for trial in "abc"] == [{"x": 0}, {"x": 1}, None]
    limiter.on_trial_complete("a", {"score": 1})
    assert limiter.suggest("c") == {"x": 2}
    assert inner.ended == [("a", 1, False)]


def test_concurrency_limiter_in_batches() -> None:
    inner = Counting()
    limiter = ConcurrencyLimiter(inner, 2, batch=True)
    assert limiter.suggest("a")
    assert limiter.suggest("b")
    limiter.on_trial_complete("b", {"score": 2})
    assert limiter.suggest("c") is None
    assert inner.ended == []
    limiter.on_trial_complete("a", error=True)
    assert inner.ended == [("b", 2, False), ("a", None, True)]
    assert limiter.suggest("c") == {"x": 2}


def test_repeater_tells_the_mean() -> None:
    inner = Counting()
    repeater = Repeater(inner, repeat=3)
    configs = [repeater.suggest(trial) for trial in "abcd"]
    assert [config["x"] for config in configs] == [0, 0, 0, 1]
    assert [config["__trial_index__"] for config in configs] == [0, 1, 2, 0]
    for trial, score in zip("bca", (1.0, 3.0, 5.0)):
        assert inner.ended == []
        repeater.on_trial_complete(trial, {"score": score})
    assert inner.ended == [("a", 3.0, False)]


def test_optuna_missing_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    from trireme.tune.search.optuna import OptunaSearch

    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ImportError, match="apt install python3-optuna"):
        OptunaSearch()


class TestOptuna:
    """Only where Optuna is installed."""

    @pytest.fixture(autouse=True)
    def _optuna(self) -> None:
        pytest.importorskip("optuna")

    def searched(self, count: int, **options: Any) -> list[dict[str, Any]]:
        from trireme.tune.search.optuna import OptunaSearch

        searcher = OptunaSearch(seed=4, **options)
        space = {"x": s.uniform(-5, 5), "deep": {"n": s.randint(1, 5), "kind": s.choice([(1, 2), (3, 4)])}, "c": 3}
        assert searcher.set_search_properties("loss", "min", space)
        configs = []
        for number in range(count):
            config = searcher.suggest(str(number))
            searcher.on_trial_result(str(number), {"loss": config["x"] ** 2, "training_iteration": 1})
            searcher.on_trial_complete(str(number), {"loss": config["x"] ** 2})
            configs.append(config)
        return configs

    def test_learns_and_is_reproducible(self) -> None:
        configs = self.searched(40)
        assert configs == self.searched(40)
        assert all(
            c["deep"]["n"] in (1, 2, 3, 4) and c["deep"]["kind"] in ((1, 2), (3, 4)) and c["c"] == 3 for c in configs
        )
        early, late = configs[:10], configs[-10:]
        assert np.mean([abs(c["x"]) for c in late]) < np.mean([abs(c["x"]) for c in early]) / 2

    def test_distributions_of_optuna_are_a_space(self) -> None:
        from optuna.distributions import CategoricalDistribution, FloatDistribution
        from trireme.tune.search.optuna import OptunaSearch

        space = {"x": FloatDistribution(2, 3), "deep": {"kind": CategoricalDistribution(["a"])}, "n": s.randint(4, 5)}
        searcher = OptunaSearch(space=space, metric="loss", mode="min")
        config = searcher.suggest("1")
        assert isinstance(config, dict)
        assert 2 <= config.pop("x") <= 3
        assert config == {"deep": {"kind": "a"}, "n": 4}

    def test_points_come_first(self) -> None:
        point = {"x": 1.5, "deep": {"n": 2, "kind": (3, 4)}}
        assert self.searched(2, points_to_evaluate=[point])[0] == {**point, "c": 3}

    def test_space_by_a_function(self) -> None:
        from trireme.tune.search.optuna import OptunaSearch

        def space(trial: Any) -> dict[str, Any]:
            if trial.suggest_categorical("kind", ["a", "b"]) == "a":
                trial.suggest_float("only_a", 0, 1)
            return {"constant": 1}

        searcher = OptunaSearch(space, metric="loss", mode="min", seed=1)
        configs = [searcher.suggest(str(number)) for number in range(20)]
        assert all(("only_a" in config) == (config["kind"] == "a") and config["constant"] == 1 for config in configs)
        assert {config["kind"] for config in configs} == {"a", "b"}

    def test_what_optuna_cannot_draw_is_said(self) -> None:
        from trireme.tune.search.optuna import OptunaSearch

        with pytest.raises(TuneError, match="grid_search"):
            OptunaSearch().set_search_properties("loss", "min", {"a": s.grid_search([1])})
        with pytest.raises(TuneError, match="cannot draw 'a'"):
            OptunaSearch().set_search_properties("loss", "min", {"a": s.randn()})
        with pytest.raises(TuneError, match="needs a metric"):
            OptunaSearch().set_search_properties(None, None, {"a": s.uniform(0, 1)})
