"""Takes the samples: the systems of a measure in turn, and the statistics over the turns."""

from __future__ import annotations

import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from .spec import Command, Goal, Measure, Programs, core_count

SAMPLE_TIMEOUT_S = 120
SESSION_TIMEOUT_S = 600


class SampleError(Exception):
    """A program that did not give a figure; the text goes into the table. `output`: what it had printed by then."""

    def __init__(self, text: str, output: str = "") -> None:
        super().__init__(text)
        self.output = output


@dataclass
class Figures:
    """All samples of one system in one measure, in the order of the turns. `turns`: of each; without it the first ones."""

    unit: str = ""
    values: list[float] = field(default_factory=list)
    turns: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.turns = self.turns or list(range(len(self.values)))

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def spread(self) -> float:
        return spread_of(self.values)


@dataclass
class Comparison:
    """Trireme against one anchor. Either side may be missing; `note` says why."""

    measure: Measure
    anchor: str | None
    subject_figures: Figures | None
    anchor_figures: Figures | None
    goal: Goal | None
    note: str = ""

    @property
    def ratios(self) -> list[float]:
        if not (self.subject_figures and self.anchor_figures):
            return []
        theirs = dict(zip(self.anchor_figures.turns, self.anchor_figures.values))
        ours = zip(self.subject_figures.turns, self.subject_figures.values)
        return [value / theirs[turn] for turn, value in ours if theirs.get(turn)]

    def excess(self) -> float | None:
        """How many times worse than the goal; None where there is no goal or no figure."""
        if self.goal is None or self.subject_figures is None:
            return None
        ratios = self.ratios
        return self.goal.excess(self.subject_figures.median, statistics.median(ratios) if ratios else None)

    def verdict(self) -> str:
        """`met`, `missed by ...x`, or empty where there is no goal or no figure."""
        excess = self.excess()
        if excess is None:
            return ""
        return "met" if excess <= 1 else f"missed by {excess:.2f}x"

    def record(self) -> dict[str, object]:
        subject, anchor, ratios = self.subject_figures, self.anchor_figures, self.ratios
        leading = ratios or (subject or anchor or Figures()).values
        return {
            "name": self.measure.name, "unit": (subject or anchor or Figures()).unit,
            "value": subject.median if subject else None,
            "anchor": self.anchor, "anchor_value": anchor.median if anchor else None,
            "ratio": statistics.median(ratios) if ratios else None,
            "repeats": len(leading), "spread": spread_of(leading) if leading else None,
            "min": min(leading, default=None), "max": max(leading, default=None),
            "row": self.measure.row, "verdict": self.verdict(), "note": self.note,
        }


@dataclass
class _Trial:
    """A measure while it is sampled."""

    measure: Measure
    figures: dict[str, Figures] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)
    refused: str = ""

    def add(self, turn: int, name: str, unit: str, value: float) -> None:
        figures = self.figures[name]
        figures.unit = unit
        figures.values.append(value)
        figures.turns.append(turn)

    def fail(self, turn: int, name: str, why: str) -> None:
        """A peer that fails now and then keeps the figures of its other turns; Trireme does not."""
        taken = len(self.figures[name].values)
        failed = turn + 1 - taken
        if name != self.measure.subject.name and failed <= taken:
            self.notes[name] = f"{name} failed in {failed} of its turns: {why}"
            return
        self.notes[name] = why
        del self.figures[name]


def spread_of(values: list[float]) -> float:
    """The middle half of the samples, as a share of their median."""
    if len(values) < 2:
        return 0.0
    quarters = statistics.quantiles(values, n=4, method="inclusive")
    return (quarters[2] - quarters[0]) / quarters[1] if quarters[1] else 0.0


class Runner:
    def __init__(self, programs: Programs, work: Path, repeats: int, quick: bool = False) -> None:
        """`quick`: measures that say so take fewer turns than `repeats`."""
        self._programs = programs
        self._repeats = repeats
        self._quick = quick
        self.spent_s: dict[str, float] = {}  # by system
        self._mpirun = shutil.which("mpirun")
        self._env = dict(os.environ, STARPU_HOME=str(work), STARPU_SILENT="1", UCX_WARN_UNUSED_ENV_VARS="n",
                         TRIREME_BUILD_DIR=str(work), RAY_DEDUP_LOGS="0", RAY_USAGE_STATS_ENABLED="0")
        if os.geteuid() == 0:  # Open MPI refuses to run as root unless it is told twice.
            self._env.update(OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1")

    def compare(self, measures: list[Measure], with_subject: bool = True) -> list[Comparison]:
        """Runs A B A B ... and returns the comparisons of each measure: one for each anchor (or one, if there is none).

        Several measures are given when their systems take many cases in one process: then a turn runs each such process
        once, with all cases.
        """
        trials = [_Trial(measure) for measure in measures]
        for trial in trials:
            if trial.measure.polls > core_count():
                trial.refused = f"needs {trial.measure.polls} cores for its busy processes, there are {core_count()}"
                continue
            for command in trial.measure.systems(with_subject):
                why = self._why_not(command)
                if why:
                    trial.notes[command.name] = why
                else:
                    trial.figures[command.name] = Figures()
        for turn in range(max(self._turns(trial.measure) for trial in trials)):
            open_trials = [t for t in trials if not t.refused and turn < self._turns(t.measure)]
            names = dict.fromkeys(c.name for t in open_trials for c in t.measure.systems(with_subject))
            for name in names:
                self._turn(turn, open_trials, name, with_subject)
        return [comparison for trial in trials for comparison in self._pair(trial)]

    def _turns(self, measure: Measure) -> int:
        if measure.once:
            return 1
        return min(self._repeats, measure.quick_repeats or self._repeats) if self._quick else self._repeats

    def _turn(self, turn: int, trials: list[_Trial], name: str, with_subject: bool) -> None:
        """One sample of the system of that name in every trial that still has it."""
        together: dict[Command, list[tuple[_Trial, Command]]] = {}
        for trial in trials:
            for command in trial.measure.systems(with_subject):
                if command.name != name or name not in trial.figures:
                    continue
                if command.session:
                    whole = replace(command, args=("", *command.args[1:]), scale=1.0, unit="")
                    together.setdefault(whole, []).append((trial, command))
                    continue
                try:
                    trial.add(turn, name, *self._sample(command, trial.measure.wall))
                except SampleError as error:
                    trial.fail(turn, name, str(error))
        for members in together.values():
            self._sample_session(turn, name, members)

    def _sample_session(self, turn: int, name: str, members: list[tuple[_Trial, Command]]) -> None:
        cases = tuple(dict.fromkeys(command.args[0] for _, command in members))
        try:
            out, _ = self._run(members[0][1], cases)
            failure = "printed no sample of this case"
        except SampleError as error:
            out, failure = error.output, str(error)
        samples = {sample.get("case"): sample for sample in _samples_in(out)}
        for trial, command in members:
            sample = samples.get(command.args[0])
            if sample is None or "error" in sample:
                trial.fail(turn, name, sample["error"] if sample else failure)
            else:
                trial.add(turn, name, command.unit or sample["unit"], sample["value"] * command.scale)

    @staticmethod
    def _pair(trial: _Trial) -> list[Comparison]:
        measure, figures, notes = trial.measure, trial.figures, trial.notes
        if trial.refused:
            return [Comparison(measure, None, None, None, measure.goal, trial.refused)]
        subject = figures.get("Trireme")
        anchors: list[Command | None] = [*measure.anchors] or [None]
        pairs = []
        for anchor in anchors:
            name = anchor.name if anchor else None
            other = figures.get(name) if name else None
            note = "; ".join(notes[key] for key in ("Trireme", name) if key in notes)
            if subject and other and subject.unit != other.unit:
                raise SystemExit(f"{measure.name}: Trireme counts in {subject.unit}, {name} in {other.unit}")
            pairs.append(Comparison(measure, name, subject, other, measure.goal_against(name), note))
        return pairs

    def _why_not(self, command: Command) -> str | None:
        if command.ranks and self._mpirun is None:
            return "mpirun is not installed"
        return self._programs.why_missing(command)

    def _argv(self, command: Command, cases: tuple[str, ...]) -> list[str]:
        argv = self._programs.argv(command, sys.executable, cases)
        if not command.ranks:
            return argv
        few = command.ranks <= core_count()
        launch = [self._mpirun or "mpirun", "--bind-to", "core" if few else "none", *([] if few else ["--oversubscribe"]),
                  *command.launch]
        if not command.apart:
            return [*launch, "-n", str(command.ranks), *argv]
        for rank in range(command.ranks):  # One application context a rank, each with a node name of its own.
            launch += [*([":"] if rank else []), "-n", "1", "-x", f"TRIREME_NODE_ID=apart{rank}", *argv]
        return launch

    def _run(self, command: Command, cases: tuple[str, ...] = ()) -> tuple[str, float]:
        """What the program printed, and how long it lived in ms."""
        limit_s = SESSION_TIMEOUT_S if command.session else SAMPLE_TIMEOUT_S
        start = time.monotonic()
        process = subprocess.Popen(self._argv(command, cases), env={**self._env, **command.env}, text=True,
                                   stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                   start_new_session=True)
        try:
            out, err = process.communicate(timeout=limit_s)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            out, _ = process.communicate()
            raise SampleError(f"{command.program} did not end within {limit_s} s", out) from None
        except BaseException:  # whoever ends the driver means the program, too
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            raise
        elapsed_ms = (time.monotonic() - start) * 1e3
        self.spent_s[command.name] = self.spent_s.get(command.name, 0.0) + elapsed_ms / 1e3
        if process.returncode != 0:
            last = (err.strip() or out.strip() or "no output").splitlines()[-1]
            raise SampleError(f"{command.program} ended with status {process.returncode}: {last[:200]}", out)
        return out, elapsed_ms

    def _sample(self, command: Command, wall: bool) -> tuple[str, float]:
        out, elapsed_ms = self._run(command)
        if wall:
            return "ms", elapsed_ms
        for sample in _samples_in(out):
            if "error" in sample:
                raise SampleError(sample["error"])
            return command.unit or sample["unit"], sample["value"] * command.scale
        raise SampleError(f"{command.program} printed no sample")


def _samples_in(out: str) -> list[dict[str, Any]]:
    """The samples among the lines that a program, a launcher and workers printed."""
    samples = []
    for line in out.splitlines():
        if not line.startswith("{"):
            continue
        try:
            sample = json.loads(line)
        except ValueError:
            continue
        if "error" in sample or ("unit" in sample and "value" in sample):
            samples.append(sample)
    return samples
