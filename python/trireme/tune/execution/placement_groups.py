"""What a trial reserves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

_NAMES = {"cpu": "CPU", "gpu": "GPU", "num_cpus": "CPU", "num_gpus": "GPU"}
STRATEGIES = ("PACK", "SPREAD", "STRICT_PACK", "STRICT_SPREAD")


class PlacementGroupFactory:
    """Bundles of resources that a trial reserves together: the first for the trial's own process, the others for the
    tasks and actors that it starts.

    Parameters
    ----------
    bundles
        Dicts of resource name to amount (``memory`` in bytes). An empty first one: the trial itself needs nothing.
    strategy
        As for placement groups.
    """

    def __init__(self, bundles: Sequence[Mapping[str, float]], strategy: str = "PACK") -> None:
        if not bundles:
            raise ValueError("PlacementGroupFactory needs at least one bundle, such as [{'CPU': 1}]")
        if strategy not in STRATEGIES:
            raise ValueError(f"strategy is {strategy!r}; choose one of {', '.join(STRATEGIES)}")
        self.bundles = [_clean(bundle) for bundle in bundles]
        self.strategy = strategy
        self.head_bundle_is_empty = not self.bundles[0]
        if self.head_bundle_is_empty and len(self.bundles) == 1:
            self.bundles = [{}]

    @property
    def head_cpus(self) -> float:
        """CPUs of the trial's own process."""
        return self.bundles[0].get("CPU", 0)

    @property
    def required_resources(self) -> dict[str, float]:
        """The sum over all bundles."""
        total: dict[str, float] = {}
        for bundle in self.bundles:
            for name, amount in bundle.items():
                total[name] = total.get(name, 0) + amount
        return total

    @property
    def key(self) -> tuple[Any, ...]:
        """Equal for equal requests."""
        return self.strategy, tuple(tuple(sorted(bundle.items())) for bundle in self.bundles)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PlacementGroupFactory) and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)

    def __repr__(self) -> str:
        return f"PlacementGroupFactory({self.bundles}, strategy={self.strategy!r})"


def _clean(bundle: Mapping[str, float]) -> dict[str, float]:
    cleaned = {_NAMES.get(name, name): amount for name, amount in bundle.items()}
    for name, amount in cleaned.items():
        if not isinstance(amount, (int, float)) or amount < 0:
            raise ValueError(f"a trial asks for {amount!r} of {name}; give a number from 0 on")
    return {name: amount for name, amount in cleaned.items() if amount}


def resource_dict_to_pg_factory(spec: Mapping[str, Any] | None = None) -> PlacementGroupFactory:
    """A request with one bundle from a dict such as ``{"cpu": 2, "gpu": 1, "custom": 1}``; 1 CPU from None."""
    spec = dict({"CPU": 1} if spec is None else spec)
    nested = spec.pop("custom_resources", None) or spec.pop("resources", None) or {}
    return PlacementGroupFactory([{**spec, **nested}])
