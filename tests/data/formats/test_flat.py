"""Flat rows: what their labels mean is declared, never guessed."""

import gzip
import json
import warnings

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
