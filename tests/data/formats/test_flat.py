"""Flat rows: what their labels mean is declared, never guessed."""

import gzip
import json
import warnings

import pandas as pd
import pytest

from prmkit.data import load, load_flat

ROWS = [{"problem": "p", "step": text, "label": label} for text, label in zip("abc", (0, 1, 2), strict=True)]


def test_text_and_label_warns_that_problems_are_unknown():
    rows = [{"text": "a", "label": "positive"}, {"text": "b", "label": " negative "}, {"text": "c", "label": "neutral"}]
    with pytest.warns(UserWarning, match="3 of 3 rows name no problem"):
        dataset = load_flat(rows)
    assert dataset.y.tolist() == [1, -1, 0]
    assert dataset.groups.tolist() == [0, 1, 2]


def test_prefix_and_problem_id():
    row = {"problem": "What is 2+3*4?", "prefix": ["3*4 = 12."], "step": "2+12 = 15.", "label": "-", "problem_id": "p1"}
    other = {**row, "problem": "What is  2+3*4?", "label": "+"}
    worded = {**other, "problem": "Compute 2+3*4."}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        dataset = load_flat([row, worded, {**row, "problem_id": "p2", "problem": "2+3*5?"}])
        copies = load_flat([row, {**other, "problem_id": "p2"}])
    assert dataset.X[0].prefix == ("3*4 = 12.",)
    assert dataset.y.tolist() == [-1, 1, -1]
    assert dataset.groups.tolist() == [0, 0, 1], "one id may have several wordings"
    assert copies.groups.tolist() == [0, 0], "copies of one text are one problem, whatever their ids"


@pytest.mark.parametrize(
    ("label_map", "worst", "expected"),
    [
        ({0: -1, 1: 0, 2: 1}, None, [-1, 0, 1]),
        ({0: "negative", 1: "neutral", 2: "positive"}, None, [-1, 0, 1]),
        ({0: "positive", 1: "neutral", 2: "negative"}, None, [1, 0, -1]),
        ({"0": 1, "1": 0, "2": -1}, None, [1, 0, -1]),
        ({0: 0, 1: 1, 2: 2}, 0, [-1, 0, 1]),
        ({0: 0, 1: 1, 2: 2}, 2, [1, 0, -1]),
        ({0: 5, 1: 9, 2: 9}, 0, [-1, 1, 1]),
    ],
)
def test_label_map_says_which_class_is_worst(label_map, worst, expected):
    assert load_flat(ROWS, label_map, worst=worst).y.tolist() == expected


@pytest.mark.parametrize(
    ("label_map", "worst", "reason"),
    [
        ({0: 0, 1: 1, 2: 2}, None, "which class is worst"),
        ({0: 0, 1: 1}, None, "which class is worst"),  # 0 wrong, or neutral?
        ({0: 0, 1: 1, 2: 2}, 1, "at one end"),
        ({0: 0, 1: 1, 2: 2}, 7, "at one end"),
        ({0: "worst", 1: "best"}, None, "expected ratings"),
        ({}, None, "expected a mapping"),
        (None, 0, "without label_map"),
        ({0: -1, 1: 1}, None, "unknown label: label is 2"),
    ],
)
def test_maps_that_leave_it_open(label_map, worst, reason):
    with pytest.raises(ValueError, match=reason):
        load_flat(ROWS, label_map, worst=worst)


@pytest.mark.parametrize("label", [0, 1, -1, 0.5, "good", None, ["+"], {"a": 1}])
def test_bare_numbers_and_unknown_names_are_no_labels(label):
    with pytest.raises(ValueError, match="record 0: unknown label"):
        load_flat([{"text": "a", "label": label}])


def test_true_is_not_one():
    rows = [{"problem": "p", "text": "a", "label": True}]
    assert load_flat(rows).y.tolist() == [1]
    with pytest.raises(ValueError, match="unknown label"):
        load_flat(rows, {1: -1, 0: 1})


def test_the_step_itself_decides_not_an_empty_text():
    with pytest.raises(ValueError, match="prefix is no list"):
        load_flat([{"problem": "p", "step": "a", "prefix": 3, "label": "+"}])
    with pytest.raises(ValueError, match="without text"):
        load_flat([{"problem": "p", "label": "+"}])


@pytest.mark.parametrize("name", ["rows.csv", "rows.csv.gz"])
def test_csv(tmp_path, name):
    text = 'problem,prefix,step,label\np,"[""a, b""]","c, ""d""\n e",negative\nq,,f,positive\n'
    path = tmp_path / name
    data = text.encode("utf-8-sig")
    path.write_bytes(gzip.compress(data) if name.endswith("gz") else data)
    dataset = load(path)
    assert [(step.problem, step.prefix, step.text) for step in dataset.X] == [
        ("p", ("a, b",), 'c, "d"\n e'),
        ("q", (), "f"),
    ]
    assert dataset.y.tolist() == [-1, 1]
    assert "recognised by its first records as flat" in dataset.description


def test_booleans_of_a_table(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("problem,step,label\n1?,1.,True\n2?,3.,FALSE\n3?,4.,\u2212\n")
    assert load_flat(path).y.tolist() == [1, -1, -1]
    path.write_text("problem,step,label\n1?,1.,1\n2?,3.,\u22121\n3?,4.,0\n")
    with pytest.raises(
        ValueError, match=r"label_map=\{0: -1, 1: 1\} if 0 is wrong, or \{-1: -1, 0: 0, 1: 1\} if it is"
    ):
        load_flat(path)
    assert load_flat(path, {-1: -1, 0: 0, 1: 1}).y.tolist() == [1, -1, 0]


def test_csv_with_numbers_and_a_short_row(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("problem,text,label\np,a,0\np,b\np,c,1\n")
    with pytest.raises(ValueError, match=r"rows.csv, row 1 \(line 3\): no object"):
        load_flat(path, {0: -1, 1: 1})
    with pytest.warns(UserWarning, match="1 malformed"):
        dataset = load_flat(path, {0: -1, 1: 1}, on_error="skip")
    assert dataset.y.tolist() == [-1, 1]


@pytest.mark.parametrize("content", [b'problem,text,label\np,"a,0\n', b"text,label\n\xff\xfe,+\n"])
def test_damaged_csv(tmp_path, content):
    path = tmp_path / "rows.csv"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="is not CSV"):
        load_flat(path)


def test_parquet(tmp_path):
    import pyarrow as pa
    from pyarrow import parquet

    path = tmp_path / "rows.parquet"
    parquet.write_table(pa.Table.from_pylist([{"problem": "p", "text": "a", "label": "-"}] * 3), path)
    assert load(path).y.tolist() == [-1, -1, -1]


def test_json_array_with_unknown_ids(tmp_path):
    path = tmp_path / "rows.json"
    path.write_text(json.dumps([{"text": "a", "problem": "", "label": "+", "problem_id": i // 2} for i in range(4)]))
    assert load(path).groups.tolist() == [0, 0, 1, 1]


STEPS = [
    {"problem": "p", "step_number": 1, "text": "a", "label": "positive"},
    {"problem": "p", "step_number": 2, "text": "b", "label": None},
    {"problem": "p", "step_number": 3, "text": "c", "label": "negative"},
    {"problem": "p", "step_number": 1, "text": "d", "label": "positive"},
    {"problem": "q", "step_number": 1, "text": "e", "label": "positive"},
]


def steps_of(dataset):
    return [(step.problem, step.prefix, step.text) for step in dataset.X]


def renamed(rows, **names):
    return [{names.get(name, name): value for name, value in row.items()} for row in rows]


@pytest.mark.parametrize(
    "rows",
    [
        STEPS,
        renamed(STEPS, step_number="step"),
        renamed(STEPS, step_number="step_index", text="step"),
        renamed(STEPS, step_number="index"),
        [{**row, "step_number": row["step_number"] - 1} for row in STEPS],
        [{**row, "step_number": float(row["step_number"])} for row in STEPS],
        [
            {**row, "problem_id": ord(row["problem"]), "problem": row["problem"] * (1 + i)}
            for i, row in enumerate(STEPS)
        ],
    ],
)
def test_numbered_rows_become_solutions(rows, tmp_path):
    dataset = load(rows)
    assert [(prefix, text) for _, prefix, text in steps_of(dataset)] == [
        ((), "a"),
        (("a", "b"), "c"),
        ((), "d"),
        ((), "e"),
    ]
    assert dataset.y.tolist() == [1, -1, 1, 1]
    assert dataset.first_errors == [None, -1, -1]
    assert dataset.groups.tolist() == [0, 0, 0, 1]
    pd.DataFrame(rows).to_csv(tmp_path / "rows.csv", index=False)
    assert steps_of(load(tmp_path / "rows.csv")) == steps_of(dataset)


def test_numbered_rows_in_any_order_and_by_name():
    rows = [{**row, "solution_id": i // 3} for i, row in enumerate(STEPS)]
    assert steps_of(load_flat([rows[i] for i in (4, 2, 3, 0, 1)])) == [
        ("q", (), "e"),
        ("p", (), "a"),
        ("p", ("a", "b"), "c"),
        ("p", (), "d"),
    ]


def test_faults_in_the_numbers_are_named():
    with pytest.raises(ValueError, match="row 1: gap in the order: step 3 comes after step 1"):
        load_flat([STEPS[0], STEPS[2], STEPS[4]])
    with pytest.warns(UserWarning, match="1 gap in the order"):
        dataset = load_flat([STEPS[0], STEPS[2], STEPS[4]], on_error="skip")
    assert [text for *_, text in steps_of(dataset)] == ["a", "e"]
    assert dataset.counts["labels left out: 'negative', of 1 (100%)"] == 1
    assert "skipped: row 1: gap in the order" in dataset.description


def test_a_limit_leaves_the_end_of_a_solution_unknown():
    assert load_flat(STEPS[:1]).first_errors == [-1]
    assert load_flat(STEPS, limit=1).first_errors == [None]


@pytest.mark.parametrize(
    ("labels", "options", "expected"),
    [
        ([1, 0, -1, 1, 1], {}, [1, 0, -1, 1, 1]),
        ([1, 0, 0, 1, 1], {"labels": "binary"}, [1, -1, -1, 1, 1]),
        (["True", "False", "", "True", "True"], {}, [1, -1, 1, 1]),
        ([2, 1, 0, 2, 2], {"label_map": {0: 0, 1: 1, 2: 2}, "worst": 0}, [1, 0, -1, 1, 1]),
        ([0.5, 0.25, 1, 1, 0], {}, [0.5, 0.25, 1, 1, 0]),
    ],
)
def test_labels_of_numbered_rows(labels, options, expected):
    rows = [{**row, "label": label} for row, label in zip(STEPS, labels, strict=True)]
    assert load_flat(rows, **options).y.tolist() == expected
    with pytest.raises(ValueError, match="nothing says what it means: pass labels='binary'"):
        load_flat([{**row, "label": i % 2} for i, row in enumerate(STEPS)])


def test_a_prefix_tells_more_than_a_number():
    rows = [{**STEPS[0], "prefix": []}, {**STEPS[2], "prefix": ["x"]}]
    assert steps_of(load_flat(rows)) == [("p", (), "a"), ("p", ("x",), "c")]
    assert steps_of(load_flat([STEPS[0], rows[1]])) == [("p", (), "a"), ("p", ("x",), "c")]


def test_numbers_of_the_rows_are_no_numbers_of_steps():
    rows = [{"index": i, "problem": "pq"[i // 2], "text": text, "label": "+"} for i, text in enumerate("abcd")]
    with pytest.warns(UserWarning, match="4 rows share 2 problems, and have neither a prefix nor the number of a step"):
        assert load_flat(rows).X[1].prefix == ()


def test_rows_of_one_problem_with_an_empty_prefix_stand_alone():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load_flat([{"problem": "p", "prefix": [], "step": text, "label": "+"} for text in "ab"]).X[1].index == 0


def test_labels_may_be_declared_in_place_of_a_map():
    rows = [{"problem": "p", "text": "a", "label": 0}, {"problem": "q", "text": "b", "label": 1}]
    assert load_flat(rows, labels="binary").y.tolist() == [-1, 1]
    assert load_flat(rows, labels="rating").y.tolist() == [0, 1]
    assert load_flat(rows, labels="soft").vocabulary == "soft"
    with pytest.raises(ValueError, match="exclude each other"):
        load_flat(rows, {0: -1, 1: 1}, labels="binary")
