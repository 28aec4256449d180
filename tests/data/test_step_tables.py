"""Tables of steps become data sets: rows are grouped into solutions, and each fault is named by its row."""

import traceback
import warnings

import datasets
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings, strategies as st

from prmkit.data import StepDataset, load, load_flat

MAP = {"good": 1, "bad": -1, "unsure": 0}
COLUMNS = {"order": "number", "label_map": MAP}


def table(*rows, names=("problem", "number", "step", "label")):
    return pd.DataFrame([dict(zip(names, row, strict=True)) for row in rows], dtype=object)


TWO = table(
    ("p", 1, "a", "good"),
    ("p", 2, "b", None),
    ("p", 3, "c", "bad"),
    ("p", 1, "d", "good"),
    ("p", 2, "e", "unsure"),
    ("q", 1, "f", "good"),
)


class NamedRows:
    """A frame that gives its rows as polars does."""

    def __init__(self, frame):
        self.columns, self._rows = list(frame), frame.to_dict("records")

    def __iter__(self):
        raise AssertionError("polars would yield columns")

    def iter_rows(self, *, named):
        assert named
        return iter(self._rows)


def rows_of(dataset):
    """Return problem, earlier steps, text and label of each row."""
    return [
        (step.problem, step.prefix, step.text, label) for step, label in zip(dataset.X, dataset.y.tolist(), strict=True)
    ]


ROWS_OF_TWO = [
    ("p", (), "a", 1),
    ("p", ("a", "b"), "c", -1),
    ("p", (), "d", 1),
    ("p", ("d",), "e", 0),
    ("q", (), "f", 1),
]


def big_table():
    """Return 3,000 rows: two solutions of every third problem, labels missing, one gap, one repeated row."""
    rng, rows = np.random.default_rng(0), []
    problem = 0
    while len(rows) < 2_999:
        for sample in range(1 + (problem % 3 == 0)):
            for number in range(1, 1 + int(rng.integers(3, 7))):
                label = rng.choice(["good", "bad", "unsure", None], p=[0.6, 0.2, 0.1, 0.1])
                rows.append((f"What is {problem} + 1?", number, f"{sample}: step {number} of {problem}.", label))
        problem += 1
    rows = rows[:2_999]
    gap = next(i for i in range(1_000, 2_000) if rows[i][1] == 2 and rows[i + 1][1] == 3 and rows[i + 2][1] == 4)
    twice = next(i for i in range(2_000, 2_500) if rows[i][1] == 2 and rows[i][3] is not None)
    kept = rows[:gap] + rows[gap + 1 : twice + 1] + rows[twice:]
    kept.append(("What is the last?", 1, "It is this.", "good"))
    return table(*kept), gap, twice


def test_a_large_table_becomes_x_and_y_in_one_call():
    frame, gap, twice = big_table()
    assert len(frame) == 3_000
    with pytest.raises(ValueError, match="rows of the table are not right") as raised:
        StepDataset.from_frame(frame, **COLUMNS)
    assert f"row {gap}," in str(raised.value), "the row after the gap"
    assert f"row {twice}: repeated row" in str(raised.value)
    with pytest.warns(UserWarning, match="gap in the order, 1 repeated row"):
        X, y = dataset = StepDataset.from_frame(frame, **COLUMNS, on_error="skip")
    assert f"skipped: row {gap}," in dataset.description
    assert f"skipped: row {twice}: repeated row" in dataset.description
    lost = dataset.counts["malformed: gap in the order"] + dataset.counts["malformed: repeated row"]
    assert 3 <= lost <= 7, "the rest of one solution, and one row"
    assert len(X) + dataset.counts["steps without a label"] == 3_000 - lost
    kept = dataset.rows["table_row"]
    assert [step.text for step in X] == frame["step"][kept].tolist()
    assert y.tolist() == [MAP[label] for label in frame["label"][kept]]
    assert all(step.index + 1 == number for step, number in zip(X, frame["number"][kept], strict=True))
    assert all(text.startswith(step.text[:2]) for step in X for text in step.prefix), "no step of the other solution"


@pytest.mark.parametrize(
    "make",
    [
        lambda frame: frame,
        lambda frame: frame.set_index(pd.Index([7, 7, 3, 3, 1, 1])),
        lambda frame: frame.set_index(pd.MultiIndex.from_arrays([list("aabbcc"), range(6)])),
        lambda frame: pytest.importorskip("polars").from_dicts(frame.to_dict("records")),
        NamedRows,
        lambda frame: pa.Table.from_pandas(frame.astype({"number": float})),
        datasets.Dataset.from_pandas,
        lambda frame: frame.to_dict("records"),
        lambda frame: frame.astype({"number": "Int64", "label": "category"}),
        lambda frame: frame.astype({"number": str}),
    ],
)
def test_every_kind_of_table(make):
    dataset = StepDataset.from_frame(make(TWO.assign(number=TWO["number"].astype(int))), **COLUMNS)
    assert rows_of(dataset) == ROWS_OF_TWO
    assert dataset.first_errors == [None, -1, -1]
    assert dataset.rows["table_row"].tolist() == [0, 2, 3, 4, 5]
    assert dataset.groups.tolist() == [0, 0, 0, 0, 1]


@pytest.mark.parametrize("name", ["steps.csv", "steps.csv.gz", "steps.parquet", "steps.jsonl"])
def test_files(tmp_path, name):
    path, frame = tmp_path / name, TWO.assign(number=TWO["number"].astype(int))
    if "csv" in name:
        frame.to_csv(path, index=False)
    elif "parquet" in name:
        frame.to_parquet(path)
    else:
        frame.to_json(path, orient="records", lines=True)
    assert rows_of(StepDataset.from_frame(path, **COLUMNS)) == ROWS_OF_TWO


def test_a_name_tells_solutions_apart_in_any_order():
    frame = TWO.assign(sample=[1, 1, 1, 2, 2, 1], time=pd.Timestamp("2026-01-01"), note="x")
    shuffled = frame.iloc[[4, 0, 5, 2, 3, 1]]
    dataset = StepDataset.from_frame(shuffled, **COLUMNS, solution="sample")
    assert rows_of(dataset) == [ROWS_OF_TWO[i] for i in (3, 0, 4, 1, 2)]
    assert dataset.rows["note"].tolist() == ["x"] * 5
    assert sorted(dataset.rows) == ["note", "table_row", "time"]
    assert [solution.id for solution in dataset.solutions][:2] == ["2", "1"]
    unnumbered = StepDataset.from_frame(frame.iloc[[0, 3, 5, 1, 4, 2]], label_map=MAP, solution="sample")
    assert sorted(rows_of(unnumbered)) == sorted(ROWS_OF_TWO)


def test_columns_of_the_table_replace_none_of_the_data_set():
    frame = TWO.assign(id="mine", y="why").rename(columns={"number": "index"})
    found = StepDataset.from_frame(frame, order="index", label_map=MAP).to_frame()
    assert found["y"].tolist() == [1, -1, 1, 0, 1]
    assert found["y_of_row"].tolist() == ["why"] * 5
    assert found["id_of_row"].tolist() == ["mine"] * 5


def test_without_numbers_the_order_is_that_of_the_rows():
    assert rows_of(StepDataset.from_frame(TWO, label_map=MAP))[-2] == ("p", ("a", "b", "c", "d"), "e", 0)
    with pytest.raises(ValueError, match=r"row 2: scattered rows: .*row 0, row 2.*solution='…'"):
        StepDataset.from_frame(TWO.iloc[[0, 5, 1]], label_map=MAP)


def test_numbers_that_begin_again_and_are_not_used_are_named():
    with pytest.warns(UserWarning, match="column 'number' counts .* pass order='number'") as warned:
        StepDataset.from_frame(TWO, label_map=MAP)
    assert len(warned) == 1
    assert warned[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        StepDataset.from_frame(TWO.assign(number=range(6), other=1, word=["1", "2", "x", "1", "2", "1"]), label_map=MAP)
        StepDataset.from_frame(TWO.iloc[[0, 1, 2, 5]], label_map=MAP)
        StepDataset.from_frame(TWO, **COLUMNS)


def test_numbers_may_begin_with_0():
    frame = TWO.assign(number=TWO["number"] - 1)
    assert rows_of(StepDataset.from_frame(frame, **COLUMNS)) == ROWS_OF_TWO


@pytest.mark.parametrize(
    ("rows", "message", "left"),
    [
        ([("p", 1, "a", "good"), ("p", 3, "c", "bad")], "row 1: gap in the order: step 3 comes after step 1", "a"),
        ([("p", 1, "a", "good"), ("q", 2, "c", "bad")], "row 1: gap in the order: step 2 comes, expected step 1", "a"),
        ([("p", 1, "a", "good"), ("p", 1, "a", "good"), ("p", 2, "c", "bad")], "row 1: repeated row", "ac"),
        ([("p", 1, "a", "good"), ("p", 2, "b", None), ("p", 2, "b", "bad")], "row 1: repeated row", "ab"),
        ([("p", 1, "a", "good"), ("p", 1, "a", "bad"), ("p", 2, "c", "bad")], "row 0, row 1: contradictory", "c"),
        ([("p", 1, "a", "good"), ("p", 2, "b", "bad"), ("p", 2, "c", "bad")], "row 1, row 2: several texts", "a"),
        ([("p", 1, "a", "good"), ("p", 2, None, "bad"), ("p", 3, "c", "bad")], "row 1: without a text", "a"),
        ([("p", 1, "a", "good"), ("p", 2, "b", "so-so"), ("p", 3, "c", "bad")], "row 1: unknown label", "ac"),
        ([("p", 1, "a", "good"), (None, 2, "b", "bad"), ("p", 2, "c", "bad")], "row 1: without a problem", "ac"),
        ([("p", 1, "a", "good"), ("p", None, "b", "bad"), ("q", 1, "c", "bad")], "row 1: without a number", "ac"),
        ([("p", 1, "a", "good"), ("p", 2, 7, "bad"), ("q", 1, "c", "bad")], "row 1: step is no text", "ac"),
        ([("p", 1, "a", "good"), ("p", 2.5, "b", "bad")], "row 1: without a number", "a"),
        (
            [("p", 1, "a", "good"), ("q", 1, "d", "good"), ("p", 2, "b", "bad"), ("p", 1, "c", "bad")],
            "row 2: gap in the order: .*solutions of the problem are mixed, name the column .*solution='…'",
            "adc",
        ),
    ],
)
def test_a_fault_is_named_and_costs_little(rows, message, left):
    frame = table(*rows)
    with pytest.raises(ValueError, match=message):
        StepDataset.from_frame(frame, **COLUMNS)
    with pytest.warns(UserWarning, match="left out or lost their label"):
        dataset = StepDataset.from_frame(frame, **COLUMNS, on_error="skip")
    assert "".join(step.text for step in dataset.X) == left
    assert f"skipped: {message.split(':')[0]}" in dataset.description


def test_a_solution_that_ends_early_has_no_known_end():
    frame = table(("p", 1, "a", "good"), ("p", 3, "c", "good"), ("q", 1, "a", "bad"), ("q", 3, "c", "good"))
    with pytest.warns(UserWarning, match="2 gap in the order"):
        assert StepDataset.from_frame(frame, **COLUMNS, on_error="skip").first_errors == [None, 0]


def test_a_broken_row_of_a_file_ends_its_solution(tmp_path):
    path = tmp_path / "steps.csv"
    path.write_text("problem,step,label\np,a,good\np,b\np,c,bad\nq,d,good\n")
    with pytest.warns(UserWarning, match="left out"):
        dataset = StepDataset.from_frame(path, label_map=MAP, on_error="skip")
    assert [step.text for step in dataset.X] == ["a", "d"]
    assert "row 1 (line 3): no row" in dataset.description


@pytest.mark.parametrize(
    ("labels", "declared", "expected"),
    [
        (["negative", "neutral", "positive"], None, [-1, 0, 1]),
        (["-", "+", "+"], None, [-1, 1, 1]),
        (["wrong", None, "Correct"], None, [-1, 1]),
        ([True, False, None], None, [1, -1]),
        (["True", "False", ""], None, [1, -1]),
        ([-1, 0, 1], None, [-1, 0, 1]),
        (["-1", " 0", "1.0"], None, [-1, 0, 1]),
        (["\u22121", "0", "1"], None, [-1, 0, 1]),
        ([-1.0, np.nan, 1.0], None, [-1, 1]),
        ([1, 1, np.nan], None, [1, 1]),
        ([0, 1, np.nan], "binary", [-1, 1]),
        (["0", "1", ""], "binary", [-1, 1]),
        ([0, 1, 1], "rating", [0, 1, 1]),
        ([0, 1, 1], "soft", [0.0, 1.0, 1.0]),
        ([0.25, 1, np.nan], None, [0.25, 1.0]),
    ],
)
def test_labels(labels, declared, expected):
    frame = pd.DataFrame({"problem": "p", "step": ["a", "b", "c"], "label": pd.Series(labels, dtype=object)})
    dataset = StepDataset.from_frame(frame, labels=declared)
    assert dataset.y.tolist() == expected
    assert dataset.vocabulary == ("soft" if isinstance(expected[0], float) else "rating")


def test_numbers_beside_minus_1_are_ratings():
    frame = pd.DataFrame({"problem": "p", "step": ["a", "b", "c"], "label": [-1, 0.5, 1]})
    with pytest.raises(ValueError, match=r"row 1: unknown label: label is 0\.5, expected -1, 0, 1 or a name"):
        StepDataset.from_frame(frame)


@pytest.mark.parametrize("labels", [[0, 1, 1], [0.0, 1.0, np.nan], ["0", "1", ""]])
def test_bare_0_and_1_are_declared(labels):
    frame = pd.DataFrame({"problem": "p", "step": ["a", "b", "c"], "label": labels})
    with pytest.raises(ValueError, match="label holds 0, and nothing says what it means: pass labels='binary'"):
        StepDataset.from_frame(frame, on_error="skip")


@pytest.mark.parametrize(
    ("label_map", "labels"),
    [
        ({True: 1, False: -1}, ["True", "False", "True"]),
        ({0: -1, 1: 1}, ["0", "1.0", "1"]),
        ({0: -1, 1: 1}, [0.0, 1.0, np.nan]),
        ({"0": -1, "1": 1}, [0, 1, 1]),
        ({"bad": "negative", "good": "positive", "unsure": None}, ["bad", "good", "unsure"]),
        ({np.int64(0): np.int64(-1), np.int64(1): np.int64(1)}, [0, 1, 1]),
    ],
)
def test_a_map_reads_labels_as_tables_write_them(label_map, labels):
    frame = pd.DataFrame({"problem": "p", "step": ["a", "b", "c"], "label": labels})
    assert StepDataset.from_frame(frame, label_map=label_map).y.tolist()[:2] in ([-1, 1], [1, -1])
    assert StepDataset.from_frame(frame, label_map=label_map).y[0] == (1 if labels[0] == "True" else -1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"step": "text"}, r"no column 'text'; its columns are 'problem', 'number', 'step', 'label': pass step='…'"),
        ({"order": "label"}, "the column 'label' is named for order and label"),
        ({"label_map": None}, "unknown label: label is 'unsure'"),
        ({"label_map": {"good": 1}}, "leaves open which class is worst"),
        ({"labels": "binary"}, "exclude each other"),
        ({"labels": "hard", "label_map": None}, "labels is 'hard'"),
        ({"on_error": "ignore"}, "on_error is 'ignore'"),
    ],
)
def test_what_is_asked_for_must_make_sense(changes, message):
    with pytest.raises(ValueError, match=message):
        StepDataset.from_frame(TWO, **{**COLUMNS, **changes})


def test_columns_that_cannot_be_meant():
    with pytest.raises(ValueError, match="holds numbers alone, expected the texts of the steps"):
        StepDataset.from_frame(TWO.astype({"number": str}), step="number", label_map=MAP)
    with pytest.raises(ValueError, match=r"number is int \(1\)\. Pass step='…'"):
        StepDataset.from_frame(TWO, step="number", label_map=MAP)
    with pytest.raises(ValueError, match=r"frame\.reset_index"):
        StepDataset.from_frame(TWO.set_index("problem"), **COLUMNS)
    twice = pd.concat([TWO, TWO[["label"]]], axis=1)
    with pytest.raises(ValueError, match="two columns 'label'"):
        StepDataset.from_frame(twice, **COLUMNS)
    with pytest.raises(ValueError, match="holds no rows"):
        StepDataset.from_frame(TWO.iloc[:0], **COLUMNS)
    with pytest.raises(ValueError, match="no labelled step is left"):
        StepDataset.from_frame(TWO.assign(label=None), **COLUMNS)


def test_ids_may_be_numbers():
    frame = TWO.assign(problem=[1, 1, 1, 1, 1, 2], sample=[0.0, 0.0, 0.0, 1.0, 1.0, 0.0])
    dataset = StepDataset.from_frame(frame, **COLUMNS, solution="sample")
    assert [step.problem for step in dataset.X] == list("11112")
    assert [solution.id for solution in dataset.solutions] == ["0", "1", "0"]


def attempt(read, records, **options):
    """Return what is read, or None for an error that prmkit itself raises."""
    try:
        return read(records, **options)
    except (ValueError, TypeError) as error:
        raised_in = traceback.extract_tb(error.__traceback__)[-1].filename
        if "prmkit" not in raised_in:
            raise AssertionError(f"an error from deep inside, {raised_in}") from error
        return None


@pytest.mark.parametrize(
    ("row", "call"),
    [
        (
            {"question": "q", "step_number": 1, "step_text": "a", "label": "good"},
            "load(…, fields=dict(problem='question', step='step_text', order='step_number', label='label'))",
        ),
        (
            {"problem": "q", "idx": "1", "text": "a", "is_correct": True},
            "load(…, fields=dict(problem='problem', step='text', order='idx', label='is_correct'))",
        ),
        (
            {"problem": "q", "step": "a", "rating": 1},
            "load(…, fields=dict(problem='problem', step='step', label='rating'), labels='binary')",
        ),
        (
            {"task": "q", "sentence": "a", "verdict": "sound"},
            "load(…, fields=dict(problem='task', step='sentence', label='verdict'), label_map={'sound': …})",
        ),
    ],
)
def test_a_table_of_no_known_format_is_told_how_to_be_read(row, call):
    with pytest.raises(ValueError, match="This is right if each record is one step") as raised:
        load([row])
    assert call in str(raised.value)
    options = eval(f"dict({call.partition('(…, ')[2].replace('…', '1, 0: -1')}", {"__builtins__": {"dict": dict}})
    assert load([row], **options).y.tolist() == [1]


RENAMED = {"problem": "task", "number": "nr", "step": "line", "label": "verdict"}
FIELDS = {"problem": "task", "step": "line", "order": "nr", "label": "verdict"}


def test_load_reads_a_table_whose_columns_are_named(tmp_path):
    path = tmp_path / "steps.csv"
    TWO.rename(columns=RENAMED).to_csv(path)
    found, expected = load(path, fields=FIELDS, label_map=MAP), StepDataset.from_frame(TWO, **COLUMNS)
    assert rows_of(found) == rows_of(expected)
    assert found.first_errors == expected.first_errors
    with pytest.warns(UserWarning, match="pass order='nr'"):
        load(path, fields={part: name for part, name in FIELDS.items() if part != "order"}, label_map=MAP)
    with pytest.raises(ValueError, match=r"no column 'text', 'mark'; .*: pass step='…', label='…'$"):
        load(path, fields={**FIELDS, "step": "text", "label": "mark"})
    with pytest.raises(ValueError, match="'problem': '…', 'step': '…', 'order': '…', 'label': '…', 'solution': '…'"):
        load(path, fields={**FIELDS, "row": "line"})
    with pytest.raises(ValueError, match="expected one of labels and first_error"):
        load(path, fields={**FIELDS, "steps": "line"})
    with pytest.raises(ValueError, match="at least steps"):
        load(path, fields={"problem": "task", "step": "line", "labels": "verdict"})


def test_a_table_whose_columns_are_named_loses_its_faults_alone():
    rows = TWO.rename(columns=RENAMED).to_dict("records")
    rows.insert(1, rows[0])
    with pytest.raises(ValueError, match="repeated row"):
        load(rows, fields=FIELDS, label_map=MAP)
    with pytest.warns(UserWarning, match="repeated row"):
        found = load(rows, fields=FIELDS, label_map=MAP, on_error="skip")
    assert rows_of(found) == rows_of(StepDataset.from_frame(TWO, **COLUMNS))


def test_equal_faults_share_a_line():
    frame = table(*((f"p{i}", 1, "a", "dubious" if i % 3 else "good") for i in range(30)))
    with pytest.raises(ValueError, match="20 rows of the table are not right") as raised:
        StepDataset.from_frame(frame, order="number")
    lines = [line for line in str(raised.value).splitlines() if "dubious" in line]
    assert len(lines) == 1
    assert lines[0].startswith("row 1, row 2, row 4, row 5, row 7, row 8, row 10, row 11 and 12 more: unknown label")
    assert lines[0].endswith("Pass label_map={'good': …, 'dubious': …} with -1, 0, 1 or None for each.")


@pytest.mark.parametrize(
    ("label_map", "proposed"),
    [
        ({"fine": 1, "flawed": 0}, {"fine": 1, "flawed": -1}),
        ({"a": 2, "b": 1, "c": 0, "?": None}, {"a": 1, "b": 0, "c": -1, "?": None}),
    ],
)
def test_a_map_to_class_numbers_is_shown_as_ratings(label_map, proposed):
    frame = table(*(("p", number, "a", label) for number, label in enumerate(label_map)))
    with pytest.raises(ValueError, match="leaves open which class is worst") as raised:
        StepDataset.from_frame(frame, label_map=label_map)
    shown = str(raised.value).partition("is the worst, pass label_map=")[2]
    assert eval(shown, {"__builtins__": {}}) == proposed


def test_a_frame_that_was_read_by_the_wrong_mark():
    with pytest.raises(ValueError, match=r"pandas\.read_csv\(…, sep=';'\)"):
        StepDataset.from_frame(pd.DataFrame({"problem;step;label": ["p;a;good"]}))


# Without a slash: alone in a list, "0/0" is the name of a data set on the hub, which would be asked for it.
TEXTS = st.text(st.characters(exclude_characters="/"), max_size=3)
CELLS = st.one_of(st.none(), st.booleans(), st.integers(-2, 4), st.floats(), TEXTS, st.lists(st.integers(), max_size=1))
RECORDS = st.lists(
    st.fixed_dictionaries(
        {
            "problem": st.sampled_from(["p", "q"]) | CELLS,
            "number": st.integers(0, 4) | CELLS,
            "step": st.sampled_from(["a", "b"]) | CELLS,
            "label": st.sampled_from(["good", "bad"]) | CELLS,
        },
        optional={"sample": st.sampled_from(["x", 1])},
    )
    | CELLS,
    max_size=8,
)


@settings(max_examples=150, deadline=None)
@given(
    RECORDS,
    st.sampled_from([None, "number"]),
    st.sampled_from([None, "sample"]),
    st.sampled_from([None, MAP]),
    st.sampled_from(["raise", "skip"]),
)
@pytest.mark.filterwarnings("ignore:.*rows")
def test_any_table_is_read_truly_or_refused_in_words(records, order, solution, label_map, on_error):
    """A row is a labelled step, a context step, or named. A label is never another one's."""
    options = {"order": order, "solution": solution, "label_map": label_map, "on_error": on_error}
    dataset = attempt(StepDataset.from_frame, records, **options)
    if dataset is None:
        return
    known = MAP if label_map else {"good": 1, "bad": -1, True: 1, False: -1, -1: -1, 2: None}
    for step, label, row in zip(dataset.X, dataset.y.tolist(), dataset.rows["table_row"], strict=True):
        record = records[row]
        assert step.text == record["step"]
        assert isinstance(record["label"], float) or known.get(record["label"], label) == label
        if order is not None:
            same = [one for one in records if isinstance(one, dict)]
            assert all(any(one["step"] == text for one in same) for text in step.prefix)
    accounted = len(dataset.X) + dataset.counts["steps without a label"]
    named = sum(n for reason, n in dataset.counts.items() if reason.startswith("malformed"))
    assert accounted <= dataset.counts["rows"] <= accounted + named


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.fixed_dictionaries(
            {
                "problem": st.sampled_from("pq") | CELLS,
                "text": st.text(max_size=2),
                "label": st.sampled_from("+-") | CELLS,
            },
            optional={
                "step_number": st.integers(0, 3) | CELLS,
                "index": st.integers(0, 9),
                "prefix": st.just([]) | CELLS,
                "problem_id": CELLS,
                "sample_id": CELLS,
            },
        ),
        max_size=6,
    ),
    st.sampled_from(["raise", "skip"]),
)
@pytest.mark.filterwarnings("ignore:.*")
def test_any_flat_rows_are_read_truly_or_refused_in_words(records, on_error):
    dataset = attempt(load_flat, records, on_error=on_error)
    if dataset is None:
        return
    read_as = {(record["text"], str(record["label"])) for record in records}
    ways = {-1: {"-", "False", "-1", "-1.0"}, 0: {"0", "0.0"}, 1: {"+", "True", "1", "1.0"}}
    for step, label in zip(dataset.X, dataset.y.tolist(), strict=True):
        is_soft = isinstance(label, float)
        assert is_soft or any((step.text, way) in read_as for way in ways[label])


def test_a_long_frame_is_read_like_its_records():
    n = 10_050  # more than become records at once
    frame = pd.DataFrame(
        {
            "problem": [f"p{i // 7}" for i in range(n)],
            "step": pd.array([f"step {i}" for i in range(n)], dtype="string"),
            "label": pd.array([(1, -1, None)[i % 3] for i in range(n)], dtype="Int64"),
            "weight": [float("nan") if i % 5 else i / 2 for i in range(n)],
            "when": pd.to_datetime(["2026-01-01" if i % 2 else None for i in range(n)]),
        }
    )
    records = [
        {name: None if pd.isna(cell) else cell for name, cell in record.items()} for record in frame.to_dict("records")
    ]
    ours, theirs = StepDataset.from_frame(frame), StepDataset.from_frame(records)
    assert rows_of(ours) == rows_of(theirs)
    assert ours.counts == theirs.counts
    assert {name: column.tolist() for name, column in ours.rows.items()} == {
        name: column.tolist() for name, column in theirs.rows.items()
    }


def test_labels_of_different_types_are_told_apart_however_often_they_occur():
    labels = pd.Series([True, 1, False, 0, -1, True, 1, "1", 0, False] * 2, dtype=object)
    frame = pd.DataFrame({"problem": "p", "step": [f"s{i}" for i in range(20)], "label": labels})
    with pytest.warns(UserWarning, match="unknown label"):
        data = StepDataset.from_frame(frame, labels="rating", on_error="skip")
    # A boolean is no rating: it is left out each time, and 1 stays.
    assert data.y.tolist() == [1, 0, -1, 1, 1, 0] * 2
