"""The benchmark driver keeps its promises: systems in turn, ratios turn by turn, absent peers named."""

from __future__ import annotations

import json
import sys
import tempfile
import unittest
from pathlib import Path

sys.dont_write_bytecode = True
BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

from driver import picture, report  # noqa: E402
from driver.measure import Comparison, Figures, Runner, spread_of  # noqa: E402
from driver.spec import Command, Goal, Measure, Programs, load_rows  # noqa: E402

FAKE = "open(r'{log}', 'a').write('{name} '); print('noise'); print('{{\"unit\": \"ns\", \"value\": {value}}}')"


def measure(**changes: object) -> Measure:
    usual: dict[str, object] = {
        "row": "row", "name": "m", "what": "", "subject": Command("Trireme", "ours"),
        "anchors": (Command("peer", "theirs"),), "goal": Goal(anchor="peer", at_most=1.5), "wall": False,
        "polls": 0, "full_only": False, "once": False}
    return Measure(**{**usual, **changes})  # type: ignore[arg-type]


class DriverTest(unittest.TestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.log = self.folder / "log"

    def runner(self, extra: dict[str, object] | None = None) -> Runner:
        def fake(name: str, value: float) -> dict[str, object]:
            return {"peer": name, "command": ["{python}", "-c", FAKE.format(log=self.log, name=name, value=value)]}

        manifest = self.folder / "programs.json"
        manifest.write_text(json.dumps({"ours": fake("A", 30), "theirs": fake("B", 10), **(extra or {})}))
        return Runner(Programs(manifest), self.folder, repeats=5)

    def test_systems_take_turns(self) -> None:
        (result,) = self.runner().compare(measure())
        self.assertEqual(self.log.read_text().split(), ["B", "A"] * 5)
        self.assertEqual(result.ratios, [3.0] * 5)
        self.assertEqual(result.verdict(), "missed by 2.00x")

    def test_absent_peer_is_named_and_the_other_side_still_runs(self) -> None:
        runner = self.runner({"theirs": {"peer": "CAF", "missing": "libcaf-dev"}})
        (result,) = runner.compare(measure())
        self.assertIn("CAF is not installed (libcaf-dev)", result.note)
        self.assertEqual(len(result.subject_figures.values), 5)
        self.assertEqual(result.verdict(), "")

    def test_failing_program_gives_its_last_words_and_no_figure(self) -> None:
        bad = {"peer": "x", "command": ["{python}", "-c", "raise SystemExit('out of luck')"]}
        (result,) = self.runner({"theirs": bad}).compare(measure())
        self.assertIsNone(result.anchor_figures)
        self.assertIn("out of luck", result.note)

    def test_too_many_busy_processes_are_refused(self) -> None:
        (result,) = self.runner().compare(measure(polls=10**6))
        self.assertFalse(self.log.exists())
        self.assertIn("cores", result.note)

    def test_ratio_is_the_median_of_turns_not_of_sides(self) -> None:
        result = Comparison(measure(), "peer", Figures("ns", [1, 20, 300]), Figures("ns", [1, 10, 100]), None)
        self.assertEqual(result.record()["ratio"], 2)

    def test_verdicts_on_both_kinds_of_bound(self) -> None:
        def verdict(goal: Goal, value: float) -> str:
            return Comparison(measure(), "peer", Figures("ns", [value]), Figures("ns", [10]), goal).verdict()

        self.assertEqual(verdict(Goal("peer", at_most=1.5), 15), "met")
        self.assertEqual(verdict(Goal("peer", at_least=0.9), 9), "met")
        self.assertEqual(verdict(Goal("peer", at_least=0.9), 4.5), "missed by 2.00x")
        self.assertEqual(verdict(Goal(value_at_most=5), 10), "missed by 2.00x")

    def test_spread_is_the_middle_half_over_the_median(self) -> None:
        self.assertAlmostEqual(spread_of([8, 9, 10, 11, 100]), 0.2)

    def test_docs_keep_everything_outside_the_markers(self) -> None:
        page = self.folder / "page.md"
        page.write_text(f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n")
        report.write_docs(page, "new")
        self.assertEqual(page.read_text(), f"before\n{report.BEGIN}\n\nnew\n\n{report.END}\nafter\n")

    def test_goals_file_is_whole(self) -> None:
        rows = load_rows(BENCHMARKS / "goals.json")
        measures = [m for row in rows for m in row.measures]
        self.assertEqual(len({m.name for m in measures}), len(measures))
        for m in measures:
            self.assertNotIn("{", m.name + m.what)
            if m.goal and m.goal.anchor:
                self.assertIn(m.goal.anchor, [anchor.name for anchor in m.anchors])
        self.assertIn("<svg", picture.draw([Comparison(measures[0], None, None, None, None)]))


if __name__ == "__main__":
    unittest.main()
