"""The report page: what stands in the file, and what a browser does with it."""

import base64
import copy
import fcntl
import json
import os
import re
import select
import shutil
import subprocess
import time
import zlib
from html.parser import HTMLParser

import numpy as np
import pytest

from prmkit.evaluation import evaluate
from prmkit.evaluation._page._page import write_page
from prmkit.scoring.scored_solution import risk_rgb

NASTY = "a < b && c > d </script><!-- \"q' \u2028 \u2029 <img src=x onerror=alert(1)> ]]> $title ки 步 \ud83d \x00"


def interval(value, low, high):
    return {"value": value, "low": low, "high": high}


def row(system, values, **more):
    return {"system": system, "baseline": False, "quoted": False, "source": None, "values": values} | more


def series(name, x, y, spread=None, baseline=False):
    ends = ([max(0, v - spread) for v in y], [min(1, v + spread) for v in y]) if spread else (None, None)
    return {"name": name, "x": x, "y": y, "low": ends[0], "high": ends[1], "baseline": baseline}


def made_up_result(n_solutions=3400):
    """Two models, two data sets, two tables and the three kinds of curves."""
    tenths = [i / 10 for i in range(11)]
    many = np.linspace(0, 1, 900).tolist()
    names = ("f1_score", "accuracy on erroneous", "accuracy on correct", "threshold", "chosen on")
    nothing = interval(None, None, None)
    cells = (interval(0.612, 0.581, 0.643), interval(0.55, 0.51, 0.6), interval(0.69, 0.64, 0.73), 0.35, "MATH")
    table = {
        "title": "ProcessBench GSM8K", "benchmark": "ProcessBench GSM8K", "columns": list(names),
        "note": "Intervals: 95 %, 2,000 resamples of problems. Threshold: best F1 on the named subset.",
        "rows": [
            row("MiniLM encoder", dict(zip(names, cells, strict=True))),
            row("existing PRM 7B", {"f1_score": interval(0.55, 0.5, 0.59), "threshold": 0.5, "chosen on": "fixed"}),
            row("position", {"f1_score": interval(0.31, 0.28, 0.35), "accuracy on correct": nothing}, baseline=True),
            row("constant", {"f1_score": interval(0.0, 0.0, 0.0), "accuracy on correct": nothing}, baseline=True),
            row("Math-Shepherd-PRM-7B", {"f1_score": 0.479}, quoted=True, source="arXiv:2412.06559v4, Table 3"),
        ],
    }  # fmt: skip
    second = table | {"title": "Best of 4", "benchmark": "GSM8K candidates", "note": ""}
    curves = [
        {
            "title": "Reliability", "benchmark": "ProcessBench GSM8K", "kind": "reliability",
            "x_label": "predicted P(wrong)", "y_label": "share of wrong steps", "series": [
                series("MiniLM encoder", tenths, [min(1, 0.05 + 0.9 * v) for v in tenths], 0.04),
                series("existing PRM 7B", tenths, [v**2 for v in tenths], 0.05),
            ],
        },
        {
            "title": "Best of N", "benchmark": "GSM8K candidates", "kind": "best_of_n",
            "x_label": "candidates per problem (N)", "y_label": "accuracy", "series": [
                series("MiniLM encoder", [1, 2, 4, 8], [0.41, 0.47, 0.52, 0.55], 0.02),
                series("existing PRM 7B", [1, 2, 4, 8], [0.41, 0.5, 0.57, 0.61], 0.02),
                series("majority", [1, 2, 4, 8], [0.41, 0.41, 0.5, 0.58], None, True),
                series("oracle (pass@N)", [1, 2, 4, 8], [0.41, 0.55, 0.68, 0.77], None, True),
            ],
        },
        {
            "title": "Risk and coverage", "benchmark": "ProcessBench GSM8K", "kind": "risk_coverage",
            "x_label": "coverage", "y_label": "risk among kept", "series": [
                series("MiniLM encoder", many, [0.3 * v**2 for v in many], 0.01),
                series("random", [0, 1], [0.3, 0.3], None, True),
            ],
        },
    ]  # fmt: skip
    return {
        "models": [
            {"name": "MiniLM encoder", "kind": "prmkit model", "path": "models/minilm"},
            {"name": "existing PRM 7B", "kind": "scores", "path": "scores/existing.jsonl"},
        ],
        "benchmarks": [
            {"name": name, "kind": kind, "n_solutions": n_solutions, "n_problems": 900, "description": "made up"}
            for name, kind in (("ProcessBench GSM8K", "processbench"), ("PRMBench", "prmbench"))
        ],
        "left_out": [{"title": "ProcessBench F1", "benchmark": "ProcessBench", "why": "no correct solution"}],
        "tables": [table, second],
        "curves": curves,
    }


def made_up_solutions(n=3400, seed=0):
    """Solutions with four types of error, some of them without labels."""
    rng = np.random.default_rng(seed)
    words = ["apples", "therefore", "twice", "$x^2 + 3x$", "and", "we", "add both sides", "half"]
    for i in range(n):
        n_steps = int(rng.integers(2, 12))
        steps = [f"Step {t}: " + " ".join(rng.choice(words, size=rng.integers(15, 45))) for t in range(n_steps)]
        gold = [-1, None][i % 31 == 0] if i % 3 == 0 else int(rng.integers(n_steps))
        base = 0.05 + 0.3 * rng.random(n_steps)
        if gold is not None and gold >= 0:
            base[gold:] += 0.5 * rng.random()
        risks = {"MiniLM encoder": base.tolist(), "existing PRM 7B": np.clip(base + 0.1, 0, 1).tolist()}
        yield {
            "benchmark": ("ProcessBench GSM8K", "PRMBench")[i % 2],
            "id": f"made-up-{i}",
            "problem": f"Problem {i}. How many " + " ".join(rng.choice(words, size=30)) + "?",
            "steps": steps,
            "risks": risks,
            "gold": gold,
            "ratings": [] if gold is None else [1 if gold < 0 or t < gold else -1 for t in range(n_steps)],
            "predicted": {name: next((t for t, risk in enumerate(of) if risk > 0.5), -1) for name, of in risks.items()},
            "error_type": None if gold in (None, -1) else ("arithmetic", "logic", "redundancy", "copying")[i % 4],
            "answer_correct": None if i % 5 == 0 else gold == -1,
        }


@pytest.fixture(scope="module")
def chromium():
    """Return the path of a Chromium, or skip: the page is then only checked as text."""
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None:
        pytest.skip("Chromium is not installed, so the page cannot be opened in a browser")
    return found


class Browser:
    """A headless Chromium on one page, spoken to through a pipe (DevTools protocol)."""

    def __init__(self, program, profile):
        (to_read, self._to), (self._from, to_write) = os.pipe(), os.pipe()
        ours = [fcntl.fcntl(fd, fcntl.F_DUPFD, 20) for fd in (to_read, to_write)]
        options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe", "--no-first-run"]
        options += ["--disable-dev-shm-usage", f"--user-data-dir={profile}", "--disable-background-networking"]
        self._process = subprocess.Popen(
            ["bash", "-c", f'exec "$0" "$@" 3<&{ours[0]} 4>&{ours[1]}', program, *options, "about:blank"],
            pass_fds=ours,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for fd in (to_read, to_write, *ours):
            os.close(fd)
        self._last, self._rest, self.events, self._session = 0, b"", [], None
        target = next(t for t in self.ask("Target.getTargets")["targetInfos"] if t["type"] == "page")
        attached = self.ask("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.ask(f"{domain}.enable")

    def ask(self, method, **params):
        self._last += 1
        message = {"id": self._last, "method": method, "params": params}
        message |= {"sessionId": self._session} if self._session else {}
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while (answer := self._next()).get("id") != self._last:
            self.events.append(answer)
        assert "error" not in answer, answer
        return answer["result"]

    def _next(self):
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._from], [], [], 60)
            assert ready, "the browser said nothing for a minute"
            self._rest += os.read(self._from, 1 << 20)
        message, self._rest = self._rest.split(b"\0", 1)
        return json.loads(message)

    def run(self, code):
        """Value of an expression in the page; a promise is awaited."""
        out = self.ask("Runtime.evaluate", expression=code, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in out, out
        return out["result"].get("value")

    def wait(self, condition, seconds=15.0):
        start = time.monotonic()
        while not self.run(condition):
            assert time.monotonic() - start < seconds, f"{condition} did not come true"
            time.sleep(0.02)
        return time.monotonic() - start

    def open(self, path):
        self.events.clear()
        self.ask("Page.navigate", url=path.as_uri())
        return self.wait("document.documentElement?.dataset.ready === 'yes'")

    def press(self, key, text=""):
        key_down = {"type": "keyDown", "key": key, "text": text or (key if len(key) == 1 else "")}
        key_down |= {"windowsVirtualKeyCode": 13, "text": "\r"} if key == "Enter" else {}
        self.ask("Input.dispatchKeyEvent", **key_down)
        self.ask("Input.dispatchKeyEvent", type="keyUp", key=key)

    def complaints(self):
        """What the page logged or tried to load."""
        said = []
        for event in self.events:
            if event["method"] in ("Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded"):
                said.append(event["params"])
            if event["method"] == "Network.requestWillBeSent":
                url = event["params"]["request"]["url"]
                said += [] if url.startswith(("file:", "data:")) and not url.endswith("favicon.ico") else [url]
        return said

    def close(self):
        self._process.kill()
        self._process.wait()
        os.close(self._to)
        os.close(self._from)


@pytest.fixture(scope="module")
def browser(chromium, tmp_path_factory):
    one = Browser(chromium, tmp_path_factory.mktemp("profile"))
    yield one
    one.close()


def page_of(tmp_path, result, solutions, **more):
    write_page(tmp_path / "page.html", result, solutions, **more)
    return (tmp_path / "page.html").read_text(encoding="utf-8")


class Outline(HTMLParser):
    """What a browser would see: elements with attributes, and the text of those with an id."""

    def __init__(self, page):
        super().__init__()
        self.elements, self.text_of, self.text, self._open = [], {}, [], None
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        self._open = (tag, dict(attrs).get("id"))

    def handle_data(self, data):
        if self._open and self._open[0] not in ("script", "style"):
            self.text.append(data)
        if self._open and self._open[1]:
            self.text_of[self._open[1]] = self.text_of.get(self._open[1], "") + data


def embedded(page):
    """Return the index and all texts, read as the page's script does."""
    text_of = Outline(page).text_of
    index, texts = json.loads(text_of["index"]), []
    for number in range(-(-len(index["solutions"]["id"]) // index["perPack"])):
        texts += json.loads(zlib.decompress(base64.b64decode(json.loads(text_of[f"pack-{number}"]))))
    return index, texts


@pytest.mark.parametrize("n", [0, 1, 128, 129, 300])
def test_all_solutions_are_inside(tmp_path, n):
    given = list(made_up_solutions(n))
    index, texts = embedded(page_of(tmp_path, made_up_result(), iter(given)))
    columns = index["solutions"]
    assert columns["id"] == [s["id"] for s in given]
    assert columns["gold"] == [s["gold"] for s in given]
    assert [index["benchmarks"][b] for b in columns["benchmark"]] == [s["benchmark"] for s in given]
    assert columns["answer"] == [s["answer_correct"] for s in given]
    assert columns["predicted"] == [[s["predicted"][name] for name in index["models"]] for s in given]
    assert [text[:2] for text in texts] == [[s["problem"], s["steps"]] for s in given]
    assert columns["highest"] == [[max(of) for of in text[3]] for text in texts]
    for text, s in zip(texts, given, strict=True):
        assert text[2] == s["ratings"]
        np.testing.assert_allclose(text[3][0], s["risks"]["MiniLM encoder"], atol=5e-5)
    named = [None if e is None else index["errorTypes"][e] for e in columns["errorType"]]
    assert named == [s["error_type"] for s in given]
    assert [tuple(color) for color in index["scale"]] == [risk_rgb(0), risk_rgb(0.5), risk_rgb(1)]


def test_hostile_text_stays_text(tmp_path):
    """Texts that end scripts, start elements or are no characters at all come out as they went in."""
    result = json.loads(json.dumps(made_up_result()).replace("MiniLM encoder", "NAME"))
    solution = next(made_up_solutions(1))
    solution |= {"id": NASTY, "problem": NASTY, "steps": [NASTY], "ratings": [], "error_type": NASTY, "gold": 0}
    solution |= {"benchmark": NASTY, "risks": {NASTY: [0.5]}, "predicted": {NASTY: 0}}
    result = {
        "models": [{"name": NASTY, "kind": NASTY, "path": NASTY}],
        "benchmarks": [
            {"name": NASTY, "kind": NASTY, "n_solutions": 1, "n_problems": None, "description": NASTY}
        ],
        "tables": [
            {"title": NASTY, "benchmark": NASTY, "note": NASTY, "columns": [NASTY], "rows": [
                row(NASTY, {NASTY: NASTY}, quoted=True, source=NASTY)]}
        ],
        "left_out": [{"title": NASTY, "benchmark": NASTY, "why": NASTY}],
        "curves": [
            {"title": NASTY, "benchmark": NASTY, "kind": NASTY, "x_label": NASTY, "y_label": NASTY,
             "series": [series(NASTY, [1, 2], [1, 2])]}
        ],
    }  # fmt: skip
    run = {"command": NASTY, "prmkit": NASTY, "python": NASTY, "numpy": NASTY, "limit": None}
    run["inputs"] = [{"name": NASTY, "path": NASTY, "sha256": NASTY}]
    page = page_of(tmp_path, result, [solution], title=NASTY, run=run)
    tags = [tag for tag, _ in Outline(page).elements]
    assert "img" not in tags
    plain = page_of(tmp_path, made_up_result(), made_up_solutions(1))
    assert tags.count("script") == Outline(plain).elements.count(("script", {})) + 2
    index, texts = embedded(page)
    assert index["solutions"]["id"] == [NASTY]
    assert index["errorTypes"] == [NASTY]
    assert texts[0][:2] == [NASTY, [NASTY]]
    for number in re.findall(r'type="application/json"[^>]*>(.*?)</script>', page, re.DOTALL):
        assert not set("<>&\u2028\u2029") & set(number)
    assert "$title" in "".join(Outline(page).text), "a text that looks like a placeholder is not filled in"


def test_tables_show_numbers_with_intervals_baselines_and_sources(tmp_path):
    page = page_of(tmp_path, made_up_result(), [])
    assert '<b>0.612</b> <span class="interval">[0.581, 0.643]</span>' in page
    assert re.search(r'<tr class="baseline"><th scope="row">position <span class="tag">baseline</span>', page)
    quoted = re.search(r'<tr class="quoted">.*?</tr>', page).group()
    assert "arXiv:2412.06559v4, Table 3" in quoted
    assert "quoted</span>" in quoted
    assert 'aria-label="undefined">–</span>' in re.search(r'<tr class="baseline">.*?</tr>', page).group()
    assert "2,000 resamples" in page


def test_plots_say_what_they_show(tmp_path):
    page = page_of(tmp_path, made_up_result(), [])
    figures = re.findall(r"<figure>.*?</figure>", page, flags=re.DOTALL)
    assert len(figures) == 3
    for figure in figures:
        named = re.search(r'role="img" aria-labelledby="(\S+) (\S+)"', figure).groups()
        assert f'<title id="{named[0]}">' in figure
        assert f'<desc id="{named[1]}">' in figure
        assert 'class="legend"' in figure
        assert figure.count('class="label"') == 2
        drawn = [float(v) for pair in re.findall(r'points="([^"]+)"', figure) for v in re.split("[ ,]", pair)]
        assert all(0 <= v <= 440 for v in drawn)
    assert 'class="diagonal"' in figures[0]
    ticks = re.findall(r'text-anchor="middle">(\d+)</text>', figures[1])
    assert ticks == ["1", "2", "4", "8"]


def test_higher_values_are_drawn_higher(tmp_path):
    result = made_up_result() | {"tables": []}
    result["curves"] = [result["curves"][1] | {"series": [series("a", [1, 2, 4, 8], [0.1, 0.2, 0.15, 0.4])]}]
    points = re.search(r'<polyline[^>]*points="([^"]+)"', page_of(tmp_path, result, [])).group(1)
    xs, ys = zip(*[map(float, pair.split(",")) for pair in points.split()], strict=True)
    assert np.allclose(np.diff(xs), np.diff(xs)[0]), "each doubling is equally far"
    assert np.argsort(ys).tolist() == [3, 1, 2, 0]


@pytest.mark.parametrize(
    ("ns", "expected"), [([1, 2, 3], "123"), ([1, 2, 4, 5], "1245"), ([1, 2, 4, 8, 9], "1248"), ([1], "1")]
)
def test_the_largest_n_has_a_tick_where_there_is_room(tmp_path, ns, expected):
    result = made_up_result()
    curve = {"series": [series("m", ns, [0.5] * len(ns))], "kind": "best_of_n"}
    result["curves"] = [result["curves"][1] | curve]
    figure = re.search(r"<figure>.*?</figure>", page_of(tmp_path, result, []), flags=re.DOTALL).group()
    assert "".join(re.findall(r'text-anchor="middle">(\d+)</text>', figure)) == expected


@pytest.mark.parametrize(
    "curve",
    [
        {"series": []},
        {"series": [series("alone", [0.5], [0.5])]},
        {"series": [series("flat", [0, 1], [0.0, 0.0])]},
        {"series": [series("gap", [None, 1], [0.5, None])]},
        {"series": [series("zero", [0, 1], [0.5, 0.25])], "kind": "best_of_n"},
        {"series": [series("small", [0, 1], [-1e-7, 3e-7])], "kind": "other"},
    ],
)
def test_degenerate_curves_are_drawn_or_said_to_be_undefined(tmp_path, curve):
    result = made_up_result()
    result["curves"] = [result["curves"][2] | curve]
    page = page_of(tmp_path, result, [])
    assert "nan" not in re.search(r"<figure>.*?</figure>", page, flags=re.DOTALL).group()
    assert ("Undefined: no points" in page) == (not any(None not in (s["x"][0], s["y"][0]) for s in curve["series"]))


def test_the_file_needs_nothing_else(tmp_path):
    page = page_of(tmp_path, made_up_result(), made_up_solutions(50))
    own = re.sub(r"<script type=.application/json.*?</script>", "", page, flags=re.DOTALL)
    assert not re.search(r"(https?:)?//[a-z]|url\(|@import|\bfetch\(|XMLHttpRequest|innerHTML", own)
    for _, attributes in Outline(page).elements:
        assert "src" not in attributes
        assert attributes.get("href", "#").startswith(("#", "data:,"))
        assert not [name for name in attributes if name.startswith("on") or name == "style"]
    assert "default-src 'none'" in page


def test_same_input_same_bytes(tmp_path):
    page_of(tmp_path, made_up_result(), made_up_solutions(200))
    first = (tmp_path / "page.html").read_bytes()
    page_of(tmp_path, copy.deepcopy(made_up_result()), list(made_up_solutions(200)))
    assert (tmp_path / "page.html").read_bytes() == first
    assert [p.name for p in tmp_path.iterdir()] == ["page.html"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"risks": {"MiniLM encoder": [0.5, 1.2]}}, r"\[0, 1\], found 1.2"),
        ({"risks": {"MiniLM encoder": [0.5, float("nan")]}}, "NaN"),
        ({"risks": {"MiniLM encoder": [0.5]}}, "2 steps, but 1 risks"),
        ({"risks": {"who": [0.5, 0.5]}}, r"\['who'\]"),
        ({"gold": 2}, "first error 2"),
        ({"predicted": {"MiniLM encoder": -2}}, "first error -2"),
        ({"ratings": [1]}, "1 ratings"),
    ],
)
def test_wrong_solutions_raise_and_leave_the_old_page(tmp_path, change, said):
    (tmp_path / "page.html").write_text("old")
    solution = next(made_up_solutions(1)) | {"steps": ["a", "b"], "risks": {}, "predicted": {}, "ratings": []}
    with pytest.raises(ValueError, match=said):
        write_page(tmp_path / "page.html", made_up_result(), [solution | {"gold": -1} | change])
    assert (tmp_path / "page.html").read_text() == "old"


def test_nan_in_tables_and_curves_raises(tmp_path):
    for wrong in ("tables", "curves"):
        result = made_up_result()
        if wrong == "tables":
            result["tables"][0]["rows"][0]["values"]["f1_score"] = interval(float("nan"), None, None)
        else:
            result["curves"][0]["series"][0]["y"][0] = float("inf")
        with pytest.raises(ValueError, match="undefined numbers are None"):
            write_page(tmp_path / "page.html", result, [])


def test_a_model_may_leave_solutions_and_steps_unscored(tmp_path):
    solution = next(made_up_solutions(1)) | {"steps": ["a", "b"], "ratings": None, "gold": None, "problem": None}
    solution |= {"risks": {"MiniLM encoder": [None, 0.25]}, "predicted": {}}
    index, texts = embedded(page_of(tmp_path, made_up_result(), [solution]))
    assert index["solutions"]["highest"] == [[0.25, None]]
    assert texts == [["", ["a", "b"], [], [[None, 0.25], None]]]


@pytest.fixture(scope="module")
def large_page(tmp_path_factory):
    path = tmp_path_factory.mktemp("large") / "page.html"
    solutions = list(made_up_solutions(3400))
    write_page(path, made_up_result(), solutions)
    return path, solutions


CHOSEN = "document.querySelector('#list [aria-selected=true] b').textContent"
SHOWN = "document.querySelector('#solution h3 bdi')?.textContent"
STATUS = "document.getElementById('status').textContent"
FOCUS = "document.activeElement.id"


def set_filter(browser, **values):
    """Fill in fields of the filter form as a user would."""
    for name, value in values.items():
        field = f"document.getElementById('{name.replace('_', '-')}')"
        browser.run(f"{field}.value = {json.dumps(value)}")
        browser.run(f"{field}.dispatchEvent(new Event('input', {{bubbles: true}}))")


def test_a_large_report_opens_at_once_and_obeys_the_keyboard(browser, large_page):
    path, _ = large_page
    assert browser.open(path) < 5
    assert browser.run(STATUS).startswith("3,400 of 3,400 solutions")
    assert browser.run("document.querySelectorAll('#list li').length") == 50
    browser.wait(f"{SHOWN} === 'made-up-0'")
    for key in "jjjk":
        browser.press(key)
    assert browser.run(CHOSEN) == "made-up-2"
    browser.wait(f"{SHOWN} === 'made-up-2'")
    browser.press("n")
    assert browser.run(CHOSEN) == "made-up-50"
    browser.press("k")
    assert browser.run(CHOSEN) == "made-up-49", "going back over the edge turns the page"
    browser.run("document.getElementById('list').focus()")
    browser.press("End")
    assert browser.run(CHOSEN) == "made-up-3399"
    browser.press("ArrowDown")
    browser.press("ArrowUp")
    assert browser.run(CHOSEN) == "made-up-3398"
    active = browser.run("document.getElementById('list').getAttribute('aria-activedescendant')")
    assert browser.run(f"document.getElementById('{active}').ariaSelected") == "true"
    browser.press("Enter")
    assert browser.run(FOCUS) == "solution"
    browser.press("?")
    assert browser.run("!document.getElementById('help').hidden")
    browser.press("Escape")
    assert browser.run("document.getElementById('help').hidden && " + FOCUS) == "list"
    assert browser.complaints() == []


def test_keys_typed_into_the_search_field_are_text(browser, large_page):
    path, solutions = large_page
    browser.open(path)
    browser.press("/")
    assert browser.run(FOCUS) == "search"
    for key in "PROBLEM 12":
        browser.press(key)
    expected = [s["id"] for s in solutions if "problem 12" in s["problem"].lower()]
    browser.wait(STATUS + f".startsWith('{len(expected)} of')")
    assert browser.run("document.querySelector('#solution mark').textContent") == "Problem 12"
    browser.press("Enter")
    assert browser.run(FOCUS) == "list"
    assert browser.run(CHOSEN) == expected[0]
    browser.press("j")
    assert browser.run(CHOSEN) == expected[1]
    assert browser.complaints() == []


def outcome_of(solution, model="MiniLM encoder"):
    gold, predicted = solution["gold"], solution["predicted"][model]
    if gold is None:
        return "unlabelled"
    if gold == predicted:
        return "accepted" if gold == -1 else "found"
    return "alarm" if gold == -1 else "missed" if predicted == -1 else "place"


def test_filters_show_exactly_what_was_asked(browser, large_page):
    path, solutions = large_page
    browser.open(path)

    def expect(keep):
        wanted = [s["id"] for s in solutions if keep(s)]
        browser.wait(STATUS + f".startsWith('{len(wanted):,} of 3,400')")
        rows = browser.run("[...document.querySelectorAll('#list b')].map((b) => b.textContent)")
        assert rows == wanted[:50]

    for outcome in ("found", "accepted", "missed", "alarm", "place", "unlabelled"):
        set_filter(browser, outcome=outcome)
        expect(lambda s, outcome=outcome: outcome_of(s) == outcome)
    set_filter(browser, outcome="mistake", benchmark="1")
    expect(lambda s: outcome_of(s) in ("missed", "alarm", "place") and s["benchmark"] == "PRMBench")
    types = list(dict.fromkeys(s["error_type"] for s in solutions if s["error_type"]))
    set_filter(browser, outcome="", benchmark="", error_type=str(types.index("logic")))
    expect(lambda s: s["error_type"] == "logic")
    set_filter(browser, error_type="none", model="1")
    expect(lambda s: s["error_type"] is None)
    browser.run("document.querySelector('#filters [type=reset]').click()")
    expect(lambda s: True)
    set_filter(browser, **{"from": "0.6", "to": "0.7"})
    expect(lambda s: 0.6 <= round(max(s["risks"]["MiniLM encoder"]), 4) <= 0.7)
    set_filter(browser, **{"from": "0.99", "to": "1"}, search="no such text")
    browser.wait("document.getElementById('solution').textContent.startsWith('No solution')")
    assert browser.complaints() == []


def test_order_by_risk(browser, large_page):
    path, solutions = large_page
    browser.open(path)
    set_filter(browser, order="high", model="1")
    top = max(solutions, key=lambda s: round(max(s["risks"]["existing PRM 7B"]), 4))["id"]
    browser.wait(f"document.querySelector('#list b').textContent === '{top}' && {SHOWN} === '{top}'")
    set_filter(browser, model="0")
    lower = f"{max(next(s for s in solutions if s['id'] == top)['risks']['MiniLM encoder']):.2f}"
    browser.wait(f"document.querySelector('#list [aria-selected=true] .chip').textContent === '{lower}'")
    assert browser.run(CHOSEN) == top, "another model is asked about the same solution"


def test_a_solution_shows_risks_label_and_prediction(browser, large_page):
    path, solutions = large_page
    at, one = next((i, s) for i, s in enumerate(solutions) if i > 500 and outcome_of(s) == "place")
    browser.open(path)
    browser.run(f"location.hash = '#solution={at}'")
    browser.wait(f"{SHOWN} === '{one['id']}'")
    steps = "[...document.querySelectorAll('#solution .steps > li')]"
    texts = browser.run(steps + ".map((li) => li.querySelector('.text').textContent)")
    assert texts == one["steps"]
    colors = browser.run(steps + ".map((li) => getComputedStyle(li).borderLeftColor)")
    risks = [round(r, 4) for r in one["risks"]["MiniLM encoder"]]
    assert colors == ["rgb({}, {}, {})".format(*risk_rgb(risk)) for risk in risks]
    gold = browser.run(steps + ".findIndex((li) => li.textContent.includes('first error (label)'))")
    assert gold == one["gold"]
    said = browser.run(steps + ".findIndex((li) => /predicted first error: [^:]*MiniLM/.test(li.textContent))")
    assert said == one["predicted"]["MiniLM encoder"]
    tip = browser.run(f"{steps}[0].querySelector('[role=tooltip]').textContent")
    assert all(f"{name} {round(of[0], 4):.3f}" in tip for name, of in one["risks"].items())
    assert browser.complaints() == []


def test_hostile_text_in_the_browser(browser, tmp_path):
    solution = next(made_up_solutions(1)) | {"id": NASTY, "problem": NASTY, "steps": [NASTY], "ratings": []}
    solution |= {"risks": {"MiniLM encoder": [0.5]}, "predicted": {}, "error_type": NASTY, "gold": 0}
    write_page(tmp_path / "page.html", made_up_result(), [solution], title=NASTY)
    browser.open(tmp_path / "page.html")
    browser.wait("document.querySelectorAll('#solution .step').length === 1")
    text = browser.run("JSON.stringify(document.querySelector('#solution .step .text').textContent)")
    assert json.loads(text) == NASTY
    assert browser.run("document.images.length") == 0
    assert browser.complaints() == []


@pytest.mark.parametrize(("width", "scheme"), [(1366, "light"), (1366, "dark"), (390, "light"), (390, "dark")])
def test_windows_and_schemes(browser, large_page, tmp_path, width, scheme):
    """Nothing sticks out sideways, and text stands out from the ground; the pictures are kept in tmp_path."""
    size = {"width": width, "height": 850, "deviceScaleFactor": 1, "mobile": False}
    browser.ask("Emulation.setDeviceMetricsOverride", **size)
    browser.ask("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
    browser.open(large_page[0])
    browser.run("location.hash = '#solution=7'")
    browser.wait(f"{SHOWN} === 'made-up-7'")
    assert browser.run("document.documentElement.scrollWidth") <= width
    soft = "'.note', '#status', '.badge', '.row-text', '.tag', '.source', '.step .text', '.step-number', '.flag', 'a'"
    for selector in [None, *re.findall(r"'([^']+)'", soft)]:
        element = f"document.querySelector({json.dumps(selector)})" if selector else "document.body"
        ink = browser.run(f"getComputedStyle({element}).color")
        ground = browser.run("getComputedStyle(document.body).backgroundColor")
        assert contrast(ink, ground) >= 4.5, (selector, ink, ground)
    picture = base64.b64decode(browser.ask("Page.captureScreenshot", format="png")["data"])
    (tmp_path / f"{width}-{scheme}.png").write_bytes(picture)
    assert len(picture) > 20_000, "the picture is almost empty"


def contrast(first, second):
    """Contrast of two CSS colours as WCAG defines it."""
    bright = []
    for color in (first, second):
        parts = np.array([int(v) for v in re.findall(r"\d+", color)[:3]]) / 255
        linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
        bright.append(linear @ [0.2126, 0.7152, 0.0722] + 0.05)
    return max(bright) / min(bright)


# ---- best of N by problem


@pytest.fixture(scope="module")
def sampled(classifier, tmp_path_factory):
    """A report of sampled solutions, and what it was made of: problems with three or four candidates."""
    folder = tmp_path_factory.mktemp("sampled")
    rng = np.random.default_rng(3)
    rows = []
    for i in range(70):
        answers = [i + 1 + int(e) for e in rng.integers(0, 3, 3 + i % 2)]
        texts = [f"We add: {i} + 1 = {a}.\nSo there are {a} of them.\nThe answer is {a}" for a in answers]
        rows.append({"question": f"What is {i} + 1?", "answer": str(i + 1), "responses": [{"text": t} for t in texts]})
    (folder / "samples.jsonl").write_text("\n".join(map(json.dumps, rows)))
    found = evaluate({"m": classifier}, f"bon={folder / 'samples.jsonl'}", out=folder / "out", n_resamples=5)
    return folder / "out" / "report.html", rows, found


def test_candidates_stand_together_by_problem(sampled):
    path, rows, found = sampled
    index, texts = embedded(path.read_text())
    problems, columns, rules = index["problems"], index["solutions"], index["rules"]
    assert [one["reference"] for one in problems] == [row["answer"] for row in rows]
    assert [i for one in problems for i in one["members"]] == list(range(len(columns["id"])))
    scores = [1 - np.array(text[3][0], dtype=float) for text in texts]
    rights = {rule: [] for rule in rules}
    for one, row in zip(problems, rows, strict=True):
        answers = [re.findall(r"is (\d+)", response["text"])[-1] for response in row["responses"]]
        assert [texts[i][4][0] for i in one["members"]] == answers
        right = [answer == row["answer"] for answer in answers]
        assert [columns["answer"][i] for i in one["members"]] == right
        expected = {
            "m, min": int(np.argmax([texts[i][4][1][str(rules.index("m, min"))] for i in one["members"]])),
            "longest candidate": int(np.argmax([sum(map(len, texts[i][1])) for i in one["members"]])),
            "majority": answers.index(max(answers, key=answers.count)),
        }
        for rule, place in expected.items():
            assert one["chosen"][rules.index(rule)] == place, rule
        for rule, place in zip(rules, one["chosen"], strict=True):
            rights[rule].append(right[place])
    # The scores are those of the steps, and no baseline has any.
    for text, of_steps in zip(texts, scores, strict=True):
        assert text[4][1][str(rules.index("m, min"))] == pytest.approx(of_steps.min(), abs=2e-4)
        assert str(rules.index("majority")) not in text[4][1]
    assert set(rules) == {row.system for row in found.tables[0].rows} - {"random candidate", "pass@N (oracle)"}


def test_the_share_of_right_choices_is_the_one_of_the_table(classifier, candidates, tmp_path):
    found = evaluate({"m": classifier}, f"bon={candidates}", out=tmp_path, n_resamples=0)
    index, _ = embedded((tmp_path / "report.html").read_text())
    for row in found.tables[0].rows:
        if row.system in index["rules"] and row.system != "majority":  # three answers with a vote each share them
            rule = index["rules"].index(row.system)
            right = [index["solutions"]["answer"][one["members"][one["chosen"][rule]]] for one in index["problems"]]
            assert row.values["best of 3"].value == pytest.approx(np.mean(right)), row.system


def test_a_page_without_candidates_has_no_such_part(tmp_path):
    page = page_of(tmp_path, made_up_result(), made_up_solutions(3))
    assert ("section", {"id": "problems", "aria-labelledby": "problems-title"}) not in Outline(page).elements
    assert embedded(page)[0]["problems"] == []


def test_a_problem_shows_who_chose_what(browser, sampled):
    path, _, _ = sampled
    browser.open(path)
    index, _ = embedded(path.read_text())
    problems, rules, right = index["problems"], index["rules"], index["solutions"]["answer"]

    def status():
        return browser.run("document.getElementById('problem-status').textContent")

    chosen = {rule: [one["members"][one["chosen"][r]] for one in problems] for r, rule in enumerate(rules)}
    n_right = sum(right[i] for i in chosen["m, min"])
    assert f"70 of 70 problems · chosen right {n_right}" in status()
    set_filter(browser, rule=str(rules.index("m, max")), choice="missed")
    expected = [
        p for p, i in enumerate(chosen["m, max"]) if not right[i] and any(right[k] for k in problems[p]["members"])
    ]
    assert len(expected) > 3
    assert status() == f"{len(expected)} of 70 problems · chosen wrong, a right one was there {len(expected)}"
    browser.run("document.getElementById('problem-list').focus()")
    browser.press("ArrowDown")
    browser.press("j")
    p = expected[2]
    browser.wait(f"document.querySelector('#problem .problem .text')?.textContent === 'What is {p} + 1?'")
    rows_of = "[...document.querySelectorAll('#problem table')[{}].tBodies[0].rows]"
    table = rows_of + ".map((r) => [...r.cells].map((c) => c.textContent))"
    cells = browser.run(table.format(0))
    place = problems[p]["chosen"][rules.index("m, max")]
    assert [row[0] for row in cells] == [f"{k + 1}{' ◆ chosen' if k == place else ''}" for k in range(len(cells))]
    assert [row[1] == "✓ right" for row in cells] == [right[i] for i in problems[p]["members"]]
    assert [[row[0], row[1]] for row in browser.run(table.format(1))] == [
        [rule, str(problems[p]["chosen"][r] + 1)] for r, rule in enumerate(rules)
    ]
    browser.run(f"document.querySelectorAll('#problem table')[0].tBodies[0].rows[{place}].querySelector('a').click()")
    wanted = index["solutions"]["id"][problems[p]["members"][place]]
    browser.wait(f"{SHOWN} === {json.dumps(wanted)}")
    assert browser.run("document.querySelector('#solution .badge').textContent") == "✗ wrong candidate"
    set_filter(browser, outcome="right")
    browser.wait(f"{STATUS}.startsWith('{sum(right)} of')")
    assert browser.complaints() == []


def test_wide_tables_scroll_inside_their_box_and_keep_the_first_column(browser, tmp_path):
    result = made_up_result(1)
    names = [f"column {i}" for i in range(40)]
    result["tables"][0] |= {
        "columns": names,
        "rows": [row("the system", {name: interval(0.5, 0.4, 0.6) for name in names})],
    }
    write_page(tmp_path / "page.html", result, made_up_solutions(1))
    size = {"width": 800, "height": 700, "deviceScaleFactor": 1, "mobile": False}
    browser.ask("Emulation.setDeviceMetricsOverride", **size)
    browser.open(tmp_path / "page.html")
    assert browser.run("document.documentElement.scrollWidth") <= 800
    box = "document.querySelector('#results .frame')"
    left = (
        f"Math.round({box}.querySelector('tbody th').getBoundingClientRect().left - {box}.getBoundingClientRect().left)"
    )
    assert browser.run(f"{box}.scrollWidth > 3000 && {box}.clientWidth < 800")
    browser.run(f"{box}.scrollLeft = 1500")
    assert browser.run(f"{box}.scrollLeft") == 1500
    assert browser.run(left) == 0


def test_the_names_of_lines_stand_beside_them_and_apart(tmp_path):
    result = made_up_result()
    curve = result["curves"][1]
    curve["series"] += [series("a name that is " + "much " * 12 + "too long", [1, 2, 4, 8], [0.41, 0.47, 0.52, 0.551])]
    page = page_of(tmp_path, result, [])
    [drawn] = re.findall(r'<svg class="wide"(.*?)</figure>', page, re.DOTALL)
    names = re.findall(r'<text class="name" x="([\d.]+)" y="([\d.]+)">([^<]*)<', drawn)
    assert [name for *_, name in names[:4]] == ["MiniLM encoder", "existing PRM 7B", "majority", "oracle (pass@N)"]
    assert names[4][2].startswith("a name that is much")
    assert names[4][2].endswith("…")
    heights = sorted(float(y) for _, y, _ in names)
    assert min(np.diff(heights)) >= 12.9
    by_name = {name: float(y) for _, y, name in names}
    assert by_name["oracle (pass@N)"] < by_name["existing PRM 7B"] < by_name["MiniLM encoder"]
    assert "Shaded: 95% interval" in drawn
    ticks = re.findall(r'text-anchor="middle">(\d+)</text>', drawn)
    assert ticks == ["1", "2", "4", "8"]
    assert {"candidates per problem (N)", "accuracy"} <= set(re.findall(r'class="label"[^>]*>([^<]*)<', drawn))
