"""The live table of a search."""

from __future__ import annotations

import math
import os
import sys
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TextIO

from trireme._progress import display
from trireme.tune.experiment.trial import FILLED_IN, Trial, flatten, short
from trireme.tune.progress.table import fitting, table
from trireme.tune.progress.terminal import Lines, columns, wrapped

if TYPE_CHECKING:
    Columns = Mapping[str, str] | Sequence[str]

_ORDER = (Trial.RUNNING, Trial.PAUSED, Trial.PENDING, Trial.ERROR, Trial.TERMINATED)
_TIMES = {"training_iteration": "iter", "time_total_s": "total time (s)"}


class ProgressReporter:
    """Shows how a search is doing; base of all reporters.

    Threading: the thread that runs the search.
    """

    interval_s = 5.0

    def __init__(self) -> None:
        self._next = 0.0
        self.metric: str | None = None
        self.mode: str | None = None
        self._title = ""

    def setup(self, title: str = "", metric: str | None = None, mode: str | None = None, **info: Any) -> None:
        """Tells what is searched for."""
        self._title = title
        self.metric, self.mode = self.metric or metric, self.mode or mode

    def tick(self, trials: Sequence[Trial], done: bool, *sys_info: str) -> None:
        """Reports when it is time; called by the search whenever something happened."""
        if done or self.due_in() == 0:
            self._next = time.monotonic() + self.interval_s
            if self.should_report(trials, done):
                self.report(trials, done, *sys_info)

    def due_in(self) -> float:
        """Seconds until the next table."""
        return max(0.0, self._next - time.monotonic())

    def should_report(self, trials: Sequence[Trial], done: bool = False) -> bool:
        """Whether to report; asked every `interval_s` seconds and at the end."""
        return True

    def report(self, trials: Sequence[Trial], done: bool, *sys_info: str) -> None:
        """Shows the trials."""
        raise NotImplementedError


class TableReporter(ProgressReporter):
    """A table with a row for each trial: status, parameters, metrics.

    Parameters
    ----------
    metric_columns, parameter_columns
        Which to show: names, or names with headings. None: the metric and what trials report; what was searched over.
    max_progress_rows, max_error_rows
        Rows of the tables at most.
    max_column_length
        Characters of a value at most.
    max_report_frequency
        Seconds between two tables.
    print_intermediate_tables
        False: only the last table; None: as `verbose` says.
    metric, mode
        By which the best trial is named and trials are sorted.
    sort_by_metric
        True: best first.
    total_samples
        How many trials there will be, for the heading.
    infer_limit
        Of what trials report, so many are shown at most where `metric_columns` does not say which.
    """

    def __init__(
        self,
        *,
        metric_columns: Columns | None = None,
        parameter_columns: Columns | None = None,
        max_progress_rows: int = 20,
        max_error_rows: int = 20,
        max_column_length: int = 20,
        max_report_frequency: float = 5,
        print_intermediate_tables: bool | None = None,
        metric: str | None = None,
        mode: str | None = None,
        sort_by_metric: bool = False,
        total_samples: int | None = None,
        infer_limit: int = 6,
    ) -> None:
        super().__init__()
        self._total, self._infer_limit = total_samples, infer_limit
        self._metric_columns, self._parameter_columns = _columns(metric_columns), _columns(parameter_columns)
        self._rows, self._error_rows, self._width = max_progress_rows, max_error_rows, max_column_length
        self.interval_s, self._intermediate = max_report_frequency, print_intermediate_tables
        self.metric, self.mode, self._sort = metric, mode, sort_by_metric
        self._start = time.time()

    def add_metric_column(self, metric: str, representation: str | None = None) -> None:
        """Shows one more metric."""
        self._metric_columns = {**(self._metric_columns or {}), metric: representation or metric}

    def add_parameter_column(self, parameter: str, representation: str | None = None) -> None:
        """Shows one more parameter."""
        self._parameter_columns = {**(self._parameter_columns or {}), parameter: representation or parameter}

    def text(self, trials: Sequence[Trial], lines: Sequence[str] = (), width: int | None = None) -> str:
        """The table as text. `width`: of a line; the columns that fit are shown, and the others named."""
        counts = Counter(trial.status for trial in trials)
        summary = ", ".join(f"{counts[status]} {status}" for status in _ORDER if counts[status])
        minutes, seconds = divmod(int(time.time() - self._start), 60)
        number = str(len(trials)) if self._total is None else f"{len(trials)} of {self._total}"
        out = [f"== {self._title or 'Search'}: {number} trials ({summary or 'none yet'}), {minutes}:{seconds:02d} =="]
        out += [line for line in lines if line]
        best = self.best(trials)
        if best is not None:
            names = self._parameter_columns or _headings(best.evaluated_params)
            values = ", ".join(
                f"{names.get(name, name)}={short(value)}" for name, value in best.evaluated_params.items()
            )
            out.append(
                f"Best: {best} with {self.metric}={short(flatten(best.last_result)[self.metric])}"
                + (f" ({values})" if values else "")
            )
        headings, rows = self.cells(trials)
        if rows:
            shown = fitting(headings, rows[: self._rows], width, first=[0, 1, *self._metric_at(headings)])
            out += table([headings[at] for at in shown], [[row[at] for at in shown] for row in rows[: self._rows]])
            if len(shown) < len(headings):
                left_out = ", ".join(heading for at, heading in enumerate(headings) if at not in shown)
                out.append(f"(no room for {left_out})")
            if len(rows) > self._rows:
                out.append(f"... {len(rows) - self._rows} more")
        failed = [trial for trial in trials if trial.num_failures]
        if failed:
            out.append(f"Failed: {len(failed)}")
            out += table(
                ["trial", "failures", "error file"],
                [
                    [str(trial), str(trial.num_failures), os.path.join(trial.path, "error.txt")]
                    for trial in failed[: self._error_rows]
                ],
            )
        return "\n".join(out)

    def cells(self, trials: Sequence[Trial]) -> tuple[list[str], list[list[str]]]:
        """Headings and rows, most interesting first."""
        parameters = self._parameter_columns
        if parameters is None:
            parameters = _headings(name for trial in trials for name in trial.evaluated_params)
        metrics = self._metric_columns
        if metrics is None:
            metrics = dict(_TIMES)
            reported = [
                name
                for trial in trials
                for name in flatten({key: value for key, value in trial.last_result.items() if key not in _HIDDEN})
            ]
            for name in ([self.metric] if self.metric else []) + list(dict.fromkeys(reported))[: self._infer_limit]:
                metrics[name] = name
        order = sorted(trials, key=lambda trial: _ORDER.index(trial.status))
        if self._sort and self.metric:
            sign = -1 if self.mode == "max" else 1
            order = sorted(order, key=lambda trial: _sortable(flatten(trial.last_result).get(self.metric), sign))
        rows = []
        for trial in order:
            config, result = flatten(trial.config), flatten(trial.last_result)
            rows.append(
                [str(trial), trial.status]
                + [self._cell(config.get(name)) for name in parameters]
                + [self._cell(result.get(name)) for name in metrics]
            )
        return ["trial", "status", *parameters.values(), *metrics.values()], rows

    def _metric_at(self, headings: Sequence[str]) -> list[int]:
        heading = (self._metric_columns or {}).get(self.metric or "", self.metric)
        return [at for at, name in enumerate(headings) if name == heading]

    def best(self, trials: Sequence[Trial]) -> Trial | None:
        """The best trial so far, by last report; None without a metric or a report."""
        if not self.metric or not self.mode:
            return None
        scored = [(flatten(trial.last_result).get(self.metric), trial) for trial in trials]
        known = [(value, trial) for value, trial in scored if isinstance(value, (int, float)) and not math.isnan(value)]
        pick = max if self.mode == "max" else min
        return pick(known, key=lambda pair: pair[0])[1] if known else None

    def _cell(self, value: Any) -> str:
        text = "" if value is None else short(value)
        return text if len(text) <= self._width else text[: self._width - 3] + "..."


class CLIReporter(TableReporter):
    """The table on a terminal, in place; printed anew each time when the output is a file or a pipe.

    On a terminal as many columns are shown as fit, other lines are wrapped, and what workers of this rank print comes
    above the table.
    """

    def __init__(self, *, file: TextIO | None = None, **options: Any) -> None:
        super().__init__(**options)
        self._file = file
        self._shown: Lines | None = None  # on a terminal

    def report(self, trials: Sequence[Trial], done: bool, *sys_info: str) -> None:
        if self._intermediate is False and not done:
            return
        file = self._file or sys.stdout
        width = columns(file)
        if width is None:
            file.write(self.text(trials, sys_info) + "\n")
            file.flush()
            return
        if self._shown is None:
            self._shown = Lines(file)
            display().attach(self._shown)
        room = max(1, width - 1)  # a full line would make some terminals begin the next
        lines = wrapped(self.text(trials, sys_info, room).split("\n"), room)
        with display().aside():
            self._shown.lines = lines
        if done:
            display().detach(self._shown)
            self._shown = None


class JupyterNotebookReporter(TableReporter):
    """The table in a notebook's cell, in place."""

    def __init__(self, overwrite: bool = True, **options: Any) -> None:
        super().__init__(**options)
        self._overwrite = overwrite

    def report(self, trials: Sequence[Trial], done: bool, *sys_info: str) -> None:
        if self._intermediate is False and not done:
            return
        from IPython.display import HTML, clear_output, display

        if self._overwrite:
            clear_output(wait=True)
        headings, rows = self.cells(trials)
        head, *_ = self.text(trials, sys_info).split("\n")
        display(HTML(html(head, headings, rows[: self._rows])))


def html(title: str, headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table for a notebook."""
    from html import escape

    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    top = "".join(f"<th>{escape(heading)}</th>" for heading in headings)
    return f"<p>{escape(title)}</p><table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>"


def default_reporter(**options: Any) -> TableReporter:
    """The reporter for where the program runs: notebook or terminal."""
    shell = sys.modules.get("IPython")
    if shell is not None and type(shell.get_ipython()).__name__ == "ZMQInteractiveShell":
        return JupyterNotebookReporter(**options)
    return CLIReporter(**options)


_HIDDEN = FILLED_IN | {
    "time_this_iter_s",
    "time_since_restore",
    "iterations_since_restore",
    "training_iteration",
    "time_total_s",
}


def _columns(columns: Columns | None) -> dict[str, str] | None:
    if columns is None:
        return None
    return dict(columns) if isinstance(columns, Mapping) else {name: name for name in columns}


def _headings(names: Iterable[str]) -> dict[str, str]:
    """The last part of each name, or the whole where that says too little."""
    last = {name: name.rsplit("/", 1)[-1] for name in names}
    often = Counter(last.values())
    return {name: heading if often[heading] == 1 else name for name, heading in last.items()}


def _sortable(value: Any, sign: int) -> tuple[bool, float]:
    known = isinstance(value, (int, float)) and not math.isnan(value)
    return not known, sign * value if known else 0.0
