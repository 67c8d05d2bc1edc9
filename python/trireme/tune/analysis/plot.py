"""Pictures of a search. Matplotlib is imported here, so this module is imported only when something is drawn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from trireme.tune.experiment.trial import Trial, flatten

_PARAMETERS = 5  # at most so many panels


def draw(trials: Sequence[tuple[Trial, Sequence[dict[str, Any]]]], metric: str, mode: str | None, title: str) -> Figure:
    """A figure with the metric over the iterations, and over each parameter.

    Parameters
    ----------
    trials
        With all reports of each.
    metric, mode
        What is drawn, and which trial is highlighted.
    title
        Above.

    Raises
    ------
    ValueError
        No trial reported the metric.
    """
    curves = [(trial, *_curve(reports, metric)) for trial, reports in trials]
    curves = [curve for curve in curves if len(curve[1])]
    if not curves:
        raise ValueError(f"no trial reported a number {metric!r}; there is nothing to draw")
    best = (min if mode == "min" else max)(curves, key=lambda curve: curve[2][-1])[0]
    names = [name for name in curves[0][0].evaluated_params][:_PARAMETERS]
    figure = Figure(figsize=(6 + 2.6 * len(names), 4.2), constrained_layout=True)
    FigureCanvasAgg(figure)  # needs no display
    axes = figure.subplots(1, 1 + len(names), squeeze=False, gridspec_kw={"width_ratios": [2] + [1] * len(names)})[0]
    for trial, steps, values in sorted(curves, key=lambda curve: curve[0] is best):
        style = (
            {"color": "tab:red", "linewidth": 2, "label": f"best: {trial}"}
            if trial is best
            else {"color": "tab:blue", "linewidth": 0.9, "alpha": 0.5}
        )
        axes[0].plot(steps, values, marker="." if len(steps) < 30 else None, **style)
    axes[0].set(xlabel="training iteration", ylabel=metric, title=title)
    axes[0].legend(loc="best", fontsize="small")
    for axis, name in zip(axes[1:], names):
        _parameter(
            axis, name, [(flatten(trial.config).get(name), values[-1], trial is best) for trial, _, values in curves]
        )
    return figure


def _curve(reports: Sequence[dict[str, Any]], metric: str) -> tuple[list[float], list[float]]:
    points = [
        (report.get("training_iteration", number + 1), flatten(report).get(metric))
        for number, report in enumerate(reports)
    ]
    known = [
        (step, float(value))
        for step, value in points
        if isinstance(value, (int, float)) and not isinstance(value, bool)
    ]
    return [step for step, _ in known], [value for _, value in known]


def _parameter(axis: Any, name: str, points: Sequence[tuple[Any, float, bool]]) -> None:
    values = [value for value, _, _ in points]
    numbers = all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values)
    labels = sorted({str(value) for value in values})
    xs = (
        np.array(values, dtype=float)
        if numbers
        else np.array([labels.index(str(value)) for value in values], dtype=float)
    )
    axis.scatter(
        xs, [score for _, score, _ in points], c=["tab:red" if best else "tab:blue" for _, _, best in points], s=18
    )
    axis.set_xlabel(name)
    if not numbers:
        axis.set_xticks(range(len(labels)), labels, rotation=30)
    elif xs.min() > 0 and xs.max() / xs.min() > 50:
        axis.set_xscale("log")
