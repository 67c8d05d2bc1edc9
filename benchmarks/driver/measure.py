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
from dataclasses import dataclass, field
from pathlib import Path

from .spec import Command, Goal, Measure, Programs, core_count

SAMPLE_TIMEOUT_S = 120


class SampleError(Exception):
    """A program that did not give a figure; the text goes into the table."""


@dataclass
class Figures:
    """All samples of one system in one measure, in the order of the turns."""

    unit: str = ""
    values: list[float] = field(default_factory=list)

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
        return [s / a for s, a in zip(self.subject_figures.values, self.anchor_figures.values) if a]

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


def spread_of(values: list[float]) -> float:
    """The middle half of the samples, as a share of their median."""
    if len(values) < 2:
        return 0.0
    quarters = statistics.quantiles(values, n=4, method="inclusive")
    return (quarters[2] - quarters[0]) / quarters[1] if quarters[1] else 0.0


class Runner:
    def __init__(self, programs: Programs, work: Path, repeats: int) -> None:
        self._programs = programs
        self._repeats = repeats
        self._mpirun = shutil.which("mpirun")
        self._env = dict(os.environ, STARPU_HOME=str(work), STARPU_SILENT="1", UCX_WARN_UNUSED_ENV_VARS="n")
        if os.geteuid() == 0:  # Open MPI refuses to run as root unless it is told twice.
            self._env.update(OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1")

    def compare(self, measure: Measure, with_subject: bool = True) -> list[Comparison]:
        """Runs A B A B ... and returns one comparison for each anchor (or one, if there is none)."""
        if measure.polls > core_count():
            note = f"needs {measure.polls} cores for its busy processes, there are {core_count()}"
            return [Comparison(measure, None, None, None, measure.goal, note)]
        figures: dict[str, Figures] = {}
        notes: dict[str, str] = {}
        systems = [*measure.anchors, *([measure.subject] if measure.subject and with_subject else [])]
        for command in systems:
            why = self._why_not(command)
            if why:
                notes[command.name] = why
            else:
                figures[command.name] = Figures()
        for _ in range(1 if measure.once else self._repeats):
            for command in systems:
                if command.name not in figures:
                    continue
                try:
                    unit, value = self._sample(command, measure.wall)
                except SampleError as error:
                    notes[command.name] = str(error)
                    del figures[command.name]
                    continue
                figures[command.name].unit = unit
                figures[command.name].values.append(value)
        return self._pair(measure, figures, notes)

    @staticmethod
    def _pair(measure: Measure, figures: dict[str, Figures], notes: dict[str, str]) -> list[Comparison]:
        subject = figures.get("Trireme")
        anchors: list[Command | None] = [*measure.anchors] or [None]
        pairs = []
        for anchor in anchors:
            name = anchor.name if anchor else None
            other = figures.get(name) if name else None
            note = "; ".join(notes[key] for key in ("Trireme", name) if key in notes)
            if subject and other and subject.unit != other.unit:
                raise SystemExit(f"{measure.name}: Trireme counts in {subject.unit}, {name} in {other.unit}")
            goal = measure.goal if measure.goal and measure.goal.anchor == (name or "") else None
            pairs.append(Comparison(measure, name, subject, other, goal, note))
        return pairs

    def _why_not(self, command: Command) -> str | None:
        if command.ranks and self._mpirun is None:
            return "mpirun is not installed"
        return self._programs.why_missing(command)

    def _argv(self, command: Command) -> list[str]:
        argv = self._programs.argv(command, sys.executable)
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

    def _sample(self, command: Command, wall: bool) -> tuple[str, float]:
        start = time.monotonic()
        process = subprocess.Popen(self._argv(command), env={**self._env, **command.env}, text=True,
                                   stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                   start_new_session=True)
        try:
            out, err = process.communicate(timeout=SAMPLE_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            raise SampleError(f"{command.program} did not end within {SAMPLE_TIMEOUT_S} s") from None
        elapsed_ms = (time.monotonic() - start) * 1e3
        if process.returncode != 0:
            last = (err.strip() or out.strip() or "no output").splitlines()[-1]
            raise SampleError(f"{command.program} ended with status {process.returncode}: {last[:200]}")
        if wall:
            return "ms", elapsed_ms
        for line in out.splitlines():
            if line.startswith("{"):
                sample = json.loads(line)
                return sample["unit"], sample["value"] * command.scale
        raise SampleError(f"{command.program} printed no sample")
