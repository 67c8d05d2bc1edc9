"""Progress bars of tasks are drawn by the driver, each once, and stay out of the workers' own output."""

import io

from conftest import eventually
from trireme import _progress
from trireme.experimental import tqdm_ray
from trireme.util.tqdm import safe_print, tqdm, trange


class Terminal(io.StringIO):
    def isatty(self):
        return True


def shown(monkeypatch, out):
    monkeypatch.setattr(_progress, "_display", _progress.Display(out))
    return out


def test_names_of_ray():
    assert tqdm_ray.tqdm is tqdm
    assert tqdm_ray.safe_print is safe_print


def test_a_bar_counts_what_is_iterated(monkeypatch):
    out = shown(monkeypatch, io.StringIO())
    assert list(tqdm([1, 2, 3], desc="three")) == [1, 2, 3]
    last = out.getvalue().splitlines()[-1]
    assert last.startswith("three: 100% |")
    assert " 3/3 " in last


def test_trange(monkeypatch):
    shown(monkeypatch, io.StringIO())
    assert list(trange(2, 5)) == [2, 3, 4]


def test_a_terminal_shows_bars_by_position_and_keeps_them_at_the_bottom(monkeypatch):
    out = shown(monkeypatch, Terminal())
    low = tqdm(desc="low", total=4, position=1)
    high = tqdm(desc="high", total=4, position=0)
    low.update(2)
    low.refresh()
    drawn = out.getvalue().split("\x1b[J")[-1].splitlines()
    assert [line.partition(":")[0] for line in drawn] == ["high", "low"]
    assert " 2/4 " in drawn[1]
    with _progress.display().aside():
        out.write("a message\n")
    parts = out.getvalue().split("\x1b[J")[-1].splitlines()
    assert parts[0] == "a message"
    assert len(parts) == 3
    high.close()
    low.close()
    assert not _progress.display()._bars


def test_an_unknown_total_shows_a_count(monkeypatch):
    out = shown(monkeypatch, io.StringIO())
    bar = tqdm(desc="open", unit="rows")
    bar.update(5)
    bar.close()
    assert "open: 5 rows" in out.getvalue().splitlines()[-1]


def test_states_that_overtake_each_other_give_one_last_line():
    out = io.StringIO()
    display = _progress.Display(out)
    state = {"id": "a", "pid": 1, "desc": "late", "total": 4, "unit": "it", "position": 0, "closed": False}
    display.update(state | {"number": 5, "n": 4})
    display.update(state | {"number": 1, "n": 0})
    display.update(state | {"number": 6, "n": 4, "closed": True})
    display.update(state | {"number": 4, "n": 3})
    assert [line.partition(" |")[0] for line in out.getvalue().splitlines()] == ["late: 100%"]


def test_lines_that_are_no_bars_are_not_taken():
    display = _progress.Display(io.StringIO())
    assert not display.take("just a line")
    assert not display.take(_progress.MARK + "{not json")
    assert not display.take(_progress.MARK + '{"id": 3}')


def test_a_task_advances_a_bar_of_the_driver(runtime, monkeypatch):
    out = shown(monkeypatch, io.StringIO())

    @runtime.remote
    def work(count):
        for _ in tqdm(range(count), desc="remote", flush_interval_s=0):
            pass
        return count

    assert sum(runtime.get([work.remote(10), work.remote(20)])) == 30
    eventually(lambda: out.getvalue().count("remote: 100%") == 2 and out.getvalue())
    assert " 10/10 " in out.getvalue()
    assert " 20/20 " in out.getvalue()
