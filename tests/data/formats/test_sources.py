"""Where records may lie: every kind of file, compressed or not, alone, in folders, by patterns and by URL."""

import bz2
import csv
import gzip
import io
import json
import lzma
import pickle
import warnings
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib import import_module
from importlib.util import find_spec
from threading import Thread

import datasets
import fsspec
import numpy as np
import pandas as pd
import pytest

import prmkit.data.formats.sources as sources
from prmkit.data import StepDataset, load, load_candidates, load_stepwise
from prmkit.data.formats._rated import load_rated

ROWS = [{"prompt": f"{i} + 1?", "completions": [f"It is {i + 1}.", "So 9."], "labels": [True, False]} for i in range(3)]
COMPRESS = {"": bytes, ".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress}
if find_spec("zstandard"):
    COMPRESS[".zst"] = import_module("zstandard").compress


def lines(rows):
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def flat_csv():
    file = io.StringIO()
    table = csv.DictWriter(file, ["problem", "prefix", "step", "label"])
    table.writeheader()
    table.writerow({"problem": "2 + 3?", "prefix": '["We add."]', "step": "So 5.", "label": "+"})
    return file.getvalue().encode()


def parquet(rows, path):
    import pyarrow as pa
    from pyarrow.parquet import write_table

    write_table(pa.Table.from_pylist(rows), path)


@pytest.mark.parametrize("ending", COMPRESS)
@pytest.mark.parametrize("kind", ["lines", "array", "object", "csv"])
def test_every_kind_of_file_may_be_compressed(tmp_path, kind, ending):
    content = {
        "lines": lines(ROWS),
        "array": json.dumps(ROWS, indent=1).encode(),
        "object": json.dumps({"a": ROWS[:1], "b": ROWS[1:]}).encode(),
        "csv": flat_csv(),
    }[kind]
    name = {"lines": "rows.jsonl", "array": "rows.json", "object": "rows.json", "csv": "rows.csv"}[kind]
    path = tmp_path / (name + ending)
    path.write_bytes(COMPRESS[ending](content))
    dataset = load(path)
    assert len(dataset.X) == (1 if kind == "csv" else 6)
    first_id = {"lines": "rows:0", "array": "rows:0", "object": "rows:a:0", "csv": "rows:0"}[kind]
    # JSON lines are numbered as editors number them.
    assert dataset.solutions[0].id == ("rows:1" if kind == "lines" else first_id)


@pytest.mark.parametrize("ending", [".gz", ".bz2", ".xz"])
def test_damaged_compressed_data_are_named(tmp_path, ending):
    path = tmp_path / f"rows.jsonl{ending}"
    path.write_bytes(COMPRESS[ending](lines(ROWS * 2000))[:-40])
    with pytest.raises(ValueError, match="damaged or cut off"):
        load(path, "stepwise")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (lines(ROWS).decode().encode("utf-16"), "is text in UTF-16, expected UTF-8"),
        (lines(ROWS).decode().encode("utf-16-be"), "is text in UTF-16, .* iconv -f UTF-16BE"),
        (lines(ROWS).decode().encode("utf-16-le"), "is text in UTF-16, .* iconv -f UTF-16LE"),
        (lines(ROWS).decode().encode("utf-32"), "is text in UTF-32"),
        (b"<!DOCTYPE html><html>404</html>\n", "is an HTML page"),
        (b"\n<HTML lang='en'>\n", "is an HTML page"),
        (b"PK\x03\x04rows", "is a zip archive: unpack it"),
        (b"ARROW1\0\0", "is no Arrow file, or is damaged"),
        (b"PAR1 and no more", "is no Parquet file, or is damaged"),
        (b"<?xml version='1.0'?><Error/>", "is an XML page"),
        (b"%PDF-1.7", "is a PDF document"),
        (pickle.dumps(ROWS), "is a pickle, which could run code"),
        (b"\x93NUMPY\x01\0v\0{", "is an array of numpy"),
        (b"\x28\xb5\x2f\xfd\0\0", "is compressed by zstd: pip install zstandard|damaged"),
        ('{"prompt": "na\u00efve"}'.encode("latin-1"), "line 1: not JSON .* iconv -f LATIN1"),
        ('[{"prompt":\n"na\u00efve"}]'.encode("latin-1"), "starts like a JSON array .* iconv -f LATIN1"),
        (b"text\tlabel\nfoo\tpositive\n", "line 1: not JSON"),
        (b"\n \n", "holds no records"),
    ],
)
def test_a_file_that_cannot_be_read_is_not_called_empty(tmp_path, content, reason):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=reason):
        load(path)


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("rows.parquet", lines(ROWS), "is no Parquet file, or is damaged"),
        ("rows.parquet", b"", "is no Parquet file, or is damaged"),
        ("rows.arrow", b"rows", "is no Arrow file, or is damaged"),
        ("rows.tar.gz", gzip.compress(b"rows", mtime=0), "is a tar archive: unpack it"),
        ("rows.tgz", gzip.compress(b"rows", mtime=0), "is a tar archive"),
        ("rows.csv", b"problem;step;label\n1?;1.;+\n", "separates its columns by ';', expected ','"),
        ("rows.tsv", b"problem;step;label\n1?;1.;+\n", "separates its columns by ';', expected '"),
        ("rows.csv", "step,label\nna\u00efve,+\n".encode("latin-1"), "is not CSV in UTF-8 .* iconv -f LATIN1"),
        ("rows.csv", b"step,label\n", "holds no records"),
        ("rows.json", b"[]", "holds no records"),
    ],
)
def test_a_file_that_is_not_what_its_name_says(tmp_path, name, content, reason):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ValueError, match=reason):
        load(path)


def test_tabs_and_other_endings_of_lines(tmp_path):
    (tmp_path / "a.tsv").write_bytes(flat_csv().replace(b",", b"\t"))
    assert load(tmp_path / "a.tsv").X[0].prefix == ("We add.",)
    (tmp_path / "b.ndjson").write_bytes(lines(ROWS))
    assert len(load(tmp_path / "b.ndjson").X) == 6


class TestFoldersOfDatasets:
    """A copy of a repository of the hub, and what ``datasets`` saves."""

    def test_a_copy_of_the_hub(self, tmp_path):
        (tmp_path / "README.md").write_text("about")
        (tmp_path / "dataset_infos.json").write_text("{}")
        for folder in ("data", ".cache/data"):
            (tmp_path / folder).mkdir(parents=True)
            parquet(ROWS, tmp_path / folder / "train-00000-of-00001.parquet")
            parquet(ROWS[:1], tmp_path / folder / "test-00000-of-00001.parquet")
        assert len(load(tmp_path, split="train").X) == 6
        assert load(tmp_path, split="test").solutions[0].id == "data/test-00000-of-00001:0"
        with pytest.warns(UserWarning, match="4 records of several splits"):
            assert len(load(tmp_path).X) == 8

    def test_a_folder_for_each_split(self, tmp_path):
        for split in ("train", "test"):
            (tmp_path / "default" / split).mkdir(parents=True)
            parquet(ROWS, tmp_path / "default" / split / "0000.parquet")
        assert len(load(tmp_path, split="test").X) == 6
        with pytest.warns(UserWarning, match="6 records of several splits"):
            dataset = load(tmp_path)
        assert len({solution.id for solution in dataset.solutions}) == 6

    def test_save_to_disk(self, tmp_path):
        features = datasets.Features(
            {
                "problem": datasets.Value("string"),
                "step": datasets.Value("string"),
                "label": datasets.ClassLabel(names=["positive", "negative"]),
            }
        )
        rows = {"problem": ["1?", "2?"], "step": ["1.", "2."], "label": [0, 1]}
        saved = datasets.Dataset.from_dict(rows, features=features)
        saved.save_to_disk(str(tmp_path / "one"), num_shards=2)
        datasets.DatasetDict({"train": saved, "test": saved}).save_to_disk(str(tmp_path / "two"))
        assert load(tmp_path / "one").y.tolist() == [1, -1]
        assert load(tmp_path / "two", split="test").y.tolist() == [1, -1]
        assert load(tmp_path / "one" / "data-00000-of-00002.arrow").y.tolist() == [1]

    def test_arrow_of_both_kinds(self, tmp_path):
        import pyarrow as pa

        table = pa.Table.from_pylist(ROWS)
        for make, name in ((pa.ipc.new_file, "file.arrow"), (pa.ipc.new_stream, "stream.bin")):
            with make(str(tmp_path / name), table.schema) as writer:
                writer.write_table(table)
            assert len(load(tmp_path / name).X) == 6

    def test_several_configurations_are_not_mixed(self, tmp_path):
        for folder in ("main", "socratic"):
            (tmp_path / folder).mkdir()
            (tmp_path / folder / "train.jsonl").write_bytes(lines(ROWS))
        with pytest.raises(ValueError, match=r"files in several folders \('main', 'socratic'\): pass one of them"):
            load(tmp_path)
        (tmp_path / "rows.jsonl").write_bytes(lines(ROWS))
        assert len(load(tmp_path).X) == 6  # files in the folder itself come first


def test_a_folder_a_pattern_and_several_paths(tmp_path):
    for name, row in zip("abc", ROWS, strict=True):
        (tmp_path / f"{name}.jsonl").write_bytes(lines([row]))
    (tmp_path / "notes.txt").write_text("no data")
    everything = load(tmp_path)
    assert [solution.problem for solution in everything.solutions] == ["0 + 1?", "1 + 1?", "2 + 1?"]
    assert load(tmp_path / "[ab].jsonl").solutions == everything.solutions[:2]
    assert load(str(tmp_path / "*.jsonl")).solutions == everything.solutions
    several = load([tmp_path / "c.jsonl", str(tmp_path / "a.jsonl")])
    assert [solution.problem for solution in several.solutions] == ["2 + 1?", "0 + 1?"]
    assert f"from {tmp_path / 'c.jsonl'}, {tmp_path / 'a.jsonl'}" in several.description


def test_a_url_is_opened_by_fsspec():
    with fsspec.open("memory://prmkit_sources/rows.jsonl.bz2", "wb") as file:
        file.write(bz2.compress(lines(ROWS)))
    for address in ("rows.jsonl.bz2", "*.bz2", ""):
        assert len(load(f"memory://prmkit_sources/{address}").solutions) == 3
    with pytest.raises(FileNotFoundError):
        load("memory://prmkit_sources/nothing.jsonl")


def test_a_web_address_is_read(tmp_path):
    pytest.importorskip("aiohttp")

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *arguments):
            """Keep the output of the tests clean."""

    (tmp_path / "rows.jsonl").write_bytes(lines(ROWS))
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(tmp_path))) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        for query in ("", "?download=true"):
            address = f"http://127.0.0.1:{server.server_port}/rows.jsonl{query}"
            dataset = load(address, "stepwise")
            assert (len(dataset.X), dataset.solutions[0].id) == (6, "rows:1")
        with pytest.raises(FileNotFoundError):
            load(f"http://127.0.0.1:{server.server_port}/nothing.jsonl")
        server.shutdown()


@pytest.mark.parametrize("name", ["rows.parquet", "rows.bin"])
def test_parquet_is_known_by_its_name_or_its_first_bytes(tmp_path, name):
    parquet(ROWS, tmp_path / name)
    assert load(tmp_path / name).y.tolist() == [1, -1] * 3


def test_a_folder_may_be_named_like_a_file(tmp_path):
    """Spark writes a folder of parts under the name of one file."""
    folder = tmp_path / "rows.parquet"
    folder.mkdir()
    parquet(ROWS[:1], folder / "part-0.parquet")
    parquet(ROWS[1:], folder / "part-1.parquet")
    assert [solution.problem for solution in load(folder).solutions] == ["0 + 1?", "1 + 1?", "2 + 1?"]


def test_what_is_not_there(tmp_path):
    for source in (tmp_path / "no.jsonl", "no.jsonl", tmp_path / "*.jsonl", str(tmp_path / "no")):
        with pytest.raises(FileNotFoundError, match=r"does not exist .*a pattern that matches some, a URL, or"):
            load(source)
    with pytest.raises(FileNotFoundError, match="holds no file that ends in"):
        load(tmp_path)
    with pytest.raises(TypeError, match="expected a path, a list of records or one Dataset"):
        load({"train": ROWS})


def test_a_name_of_the_hub_is_streamed(monkeypatch):
    asked = []

    def hub(name, split):
        asked.append((name, split))
        return iter(ROWS)

    monkeypatch.setattr(sources, "iter_hub_records", hub)
    dataset = load("trl-lib/prm800k", split="test")
    assert dataset.solutions[1].id == "trl-lib/prm800k:1"
    assert set(asked) == {("trl-lib/prm800k", "test")}


def test_all_that_training_reads_is_read_by_load():
    """What ``prmkit train --data`` takes: TRL's rows with classes or probabilities, and rows of one step."""
    soft = [{**row, "labels": [0.75, 0.25]} for row in ROWS]
    assert load(soft).y.tolist() == [0.75, 0.25] * 3
    assert load([{**row, "labels": [1, None]} for row in ROWS]).y.tolist() == [1, 1, 1]
    ratings = [{**row, "labels": [0, -1]} for row in ROWS]
    with pytest.raises(ValueError, match="pass labels='rating'"):
        load(ratings)
    assert load(ratings, labels="rating").y.tolist() == [0, -1] * 3
    flat = [{"problem": "2 + 3?", "prefix": [], "step": "So 5.", "label": "positive"}]
    assert load(flat).y.tolist() == [1]


def test_conversational_rows_are_read_as_their_texts():
    """TRL's other way of writing a prompt: the turns that lead to the completions."""
    row = {
        "prompt": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "2 + 3?"}],
        "completions": ["So 5.", [{"role": "assistant", "content": "So 6."}]],
        "labels": [True, False],
    }
    dataset = load_stepwise([row])
    assert dataset.X[0].problem == "Be brief.\n\n2 + 3?"
    assert [step.text for step in dataset.X] == ["So 5.", "So 6."]
    row["prompt"].append({"role": "assistant", "content": "Well."})
    with pytest.raises(ValueError, match="conversational: turn 2 of prompt is of 'assistant'"):
        load_stepwise([row])


def test_to_hf_and_the_format_rated_have_one_set_of_columns():
    dataset = load(ROWS)
    table = dataset.to_hf()
    read = load(table)
    assert read.description.startswith("recognised by its first records as rated")
    assert (read.X, read.y.tolist(), read.first_errors) == (dataset.X, dataset.y.tolist(), dataset.first_errors)
    assert [solution.id for solution in read.solutions] == [solution.id for solution in dataset.solutions]
    assert load_rated(table).solutions == StepDataset.from_hf(table).solutions


class TestClassNames:
    """A data set that numbers its classes is read by their names, which stand in any order."""

    TYPES = datasets.Features(
        {"prompt": datasets.Value("string"), "completions": datasets.List(datasets.Value("string"))}
    )

    def numbered(self, names, labels):
        types = {**self.TYPES, "labels": datasets.List(datasets.ClassLabel(names=names))}
        row = {"prompt": ["6 - 4?"], "completions": [["6 - 4 = 2.", "So 3."]], "labels": [labels]}
        return datasets.Dataset.from_dict(row, features=datasets.Features(types))

    @pytest.mark.parametrize(
        ("names", "labels", "expected"),
        [
            (["right", "wrong"], [0, 1], [1, -1]),
            (["wrong", "right"], [0, 1], [-1, 1]),
            (["positive", "negative", "neutral"], [2, 1], [0, -1]),
            (["+", "-"], [1, 0], [-1, 1]),
            (["good", "bad"], [-1, 0], [1]),
        ],
    )
    @pytest.mark.parametrize("kind", ["dataset", "stream", "parquet"])
    def test_names_decide(self, tmp_path, names, labels, expected, kind):
        source = self.numbered(names, labels)
        if kind == "stream":
            source = source.to_iterable_dataset()
        elif kind == "parquet":
            source.to_parquet(tmp_path / "rows.parquet")
            source = tmp_path / "rows.parquet"
        assert load(source).y.tolist() == expected

    def test_an_unknown_name_is_an_error(self):
        with pytest.raises(ValueError, match="'fine'"):
            load(self.numbered(["fine", "poor"], [0, 1]))


class TestTables:
    """Records from a table, and arrays and tuples in records, are read as if they were lists of Python."""

    @pytest.fixture
    def expected(self):
        return load(ROWS)

    def same(self, source, expected):
        dataset = load(source)
        assert (dataset.X, dataset.y.tolist()) == (expected.X, expected.y.tolist())

    def test_pandas(self, expected, tmp_path):
        frame = pd.DataFrame(ROWS)
        self.same(frame, expected)
        frame.to_parquet(tmp_path / "rows.parquet")
        arrays = pd.read_parquet(tmp_path / "rows.parquet")
        self.same(arrays, expected)
        self.same(arrays.to_dict("records"), expected)

    def test_rows_of_a_frame(self, expected):
        self.same([row for _, row in pd.DataFrame(ROWS).iterrows()], expected)

    def test_a_missing_cell_is_null(self):
        frame = pd.DataFrame([{"problem": "1?", "steps": ["1."], "label": -1, "generator": "M", "id": "a"}] * 2)
        frame.loc[1, "generator"] = np.nan
        dataset = load(frame)
        assert [solution.meta for solution in dataset.solutions] == [{"generator": "M"}, {}]

    def test_arrow(self, expected):
        import pyarrow as pa

        table = pa.Table.from_pylist(ROWS)
        self.same(table, expected)
        self.same(list(table.to_batches()[0].to_struct_array()), expected)

    def test_arrow_with_names_of_classes(self):
        types = datasets.Features(
            {
                "prompt": datasets.Value("string"),
                "completions": datasets.List(datasets.Value("string")),
                "labels": datasets.List(datasets.ClassLabel(names=["correct", "incorrect"])),
            }
        )
        row = {"prompt": ["1?"], "completions": [["1.", "2."]], "labels": [[0, 1]]}
        table = datasets.Dataset.from_dict(row, features=types).data.table
        assert load(table).y.tolist() == [1, -1]

    def test_polars(self, expected):
        class Frame:
            """What prmkit uses of a polars frame, which is not installed here."""

            def iter_rows(self, *, named):
                assert named
                return iter(ROWS)

            def __iter__(self):
                raise AssertionError("a polars frame yields its columns")

        self.same(Frame(), expected)

    @pytest.mark.parametrize("labels", [np.array([True, False]), (True, False), [np.True_, np.False_], [np.int8(1), 0]])
    def test_numpy_and_tuples_in_records(self, expected, labels):
        rows = [{**row, "completions": np.array(row["completions"]), "labels": labels} for row in ROWS]
        self.same(tuple(rows), expected)

    def test_numpy_scalars_in_other_formats(self):
        row = {"problem": "1?", "steps": ("1.", "2."), "label": np.int64(1), "final_answer_correct": np.False_}
        assert load([row]).first_errors == [1]
        flat = {"step": np.str_("1."), "label": np.str_("positive"), "problem": "1?"}
        assert load([flat]).y.tolist() == [1]
        candidates = {"prompt": "1?", "answers": np.array(["a\nb", "c\nd"]), "label": np.array([1, 0])}
        assert load_candidates(pd.DataFrame([candidates]))[0].is_correct == (True, False)


DEEP = "[" * 100_000 + "]" * 100_000


class TestDepth:
    """A record that is nested too deeply costs itself, with its place and reason."""

    def test_lines(self, tmp_path):
        path = tmp_path / "rows.jsonl"
        for deep in (DEEP, DEEP[99_800:100_200]):
            path.write_bytes(lines(ROWS[:1]) + f'{{"prompt": {deep}}}\n'.encode() + lines(ROWS[1:]))
            for name in (None, "stepwise"):
                with pytest.raises(ValueError, match="line 2: nested too deeply"):
                    load(path, name)
            with pytest.warns(UserWarning, match="1 nested too deeply"):
                assert len(load(path, on_error="skip").X) == 6
            with pytest.warns(UserWarning, match="1 nested too deeply"):
                assert load_candidates(self.candidates(tmp_path, deep), on_error="skip")[0].problem == "1?"

    def candidates(self, folder, deep):
        path = folder / "candidates.jsonl"
        row = json.dumps({"prompt": "1?", "answers": ["a\nb"]})
        path.write_text(f'{row}\n{{"prompt": "2?", "answers": {deep}}}\n')
        return path

    def test_arrays(self, tmp_path):
        path = tmp_path / "rows.json"
        path.write_text(json.dumps([*ROWS[:1], {"prompt": "?", "labels": json.loads(DEEP[99_800:100_200])}], indent=1))
        with pytest.raises(ValueError, match="record 1: nested too deeply"):
            load(path)
        with pytest.warns(UserWarning, match="1 nested too deeply"):
            assert len(load(path, on_error="skip").X) == 2
        path.write_text(f"[\n {DEEP}\n]")
        with pytest.raises(ValueError, match="nested too deeply"):
            load(path)

    def test_values(self):
        loop = {"prompt": "?"}
        loop["labels"] = [loop]
        with pytest.raises(ValueError, match="record 1: nested too deeply"):
            load([*ROWS[:1], loop])
        with pytest.warns(UserWarning, match="1 nested too deeply"):
            assert len(load([*ROWS[:1], loop], on_error="skip").X) == 2

    @pytest.mark.parametrize("row", [
        {"step": "1.", "label": "+", "prefix": DEEP}, {"problem": "?", "steps": ["1."], "labels": ["+"], "meta": DEEP},
        {"problem": "?", "steps": ["1."], "labels": ["+"], "vocabulary": DEEP},
    ])  # fmt: skip
    def test_cells(self, row):
        with pytest.raises(ValueError, match="record 0: "):
            load([row])


class TestSplits:
    @pytest.fixture
    def parts(self):
        return {name: [{**row, "prompt": f"{name} {i}?"} for i, row in enumerate(ROWS)] for name in ("train", "test")}

    def test_a_folder_of_splits(self, tmp_path, parts):
        shards = ("-00000-of-00002.jsonl", "-00001-of-00002.jsonl")
        layouts = (("{}.jsonl",), [f"{{}}{s}" for s in shards], [f"a_{{}}{s}" for s in shards], ("gsm8k_{}.jsonl.gz",))
        for names in layouts:
            folder = tmp_path / names[0].replace("{}", "")
            folder.mkdir()
            for part, rows in parts.items():
                for i, name in enumerate(names):
                    share = rows if len(names) == 1 else rows[i::2]
                    content = lines(share)
                    (folder / name.format(part)).write_bytes(gzip.compress(content) if "gz" in name else content)
            assert {step.problem[:4] for step in load(folder, split="test").X} == {"test"}
            assert len(load(folder, split="train").solutions) == 3
            with pytest.warns(UserWarning, match="6 records of several splits were read as one: pass split='train'"):
                assert len(load(folder).solutions) == 6
            with pytest.raises(ValueError, match="no file of the split 'validation'; its files are '"):
                load(folder, split="validation")

    def test_an_object_of_splits(self, tmp_path, parts):
        path = tmp_path / "splits.json"
        path.write_text(json.dumps(parts))
        assert [solution.problem for solution in load(path, split="test").solutions] == [
            "test 0?",
            "test 1?",
            "test 2?",
        ]
        with pytest.warns(UserWarning, match="6 records of several splits"):
            assert len(load(path).solutions) == 6
        with pytest.raises(ValueError, match="no split 'dev'; its parts are 'train', 'test'"):
            load(path, split="dev")

    def test_a_mapping_of_splits(self, parts):
        for source in (parts, datasets.DatasetDict({k: datasets.Dataset.from_list(v) for k, v in parts.items()})):
            assert len(load(source, split="test").solutions) == 3
            with pytest.raises(ValueError, match="no split 'dev'; the parts are 'train', 'test'"):
                load(source, split="dev")
            with pytest.raises(TypeError, match=r"a mapping of 'train', 'test', .*split="):
                load(source)

    def test_what_has_no_splits_is_not_read_as_one(self, tmp_path, parts):
        for name in ("rows.jsonl", "train.jsonl", "rows.json"):
            (tmp_path / name).write_bytes(lines(parts["train"]) if name[-1] == "l" else json.dumps(ROWS).encode())
            with pytest.raises(ValueError, match=r"has no splits, and split='test' was asked for"):
                load(tmp_path / name, split="test")
        assert len(load(tmp_path / "train.jsonl", split="train").X) == 6
        with pytest.raises(ValueError, match="the records of a list are no splits"):
            load(ROWS, split="test")

    def test_other_names_and_objects_are_no_splits(self, tmp_path):
        """Ids as the fields of an object, and words that hold the name of a split."""
        (tmp_path / "ids.json").write_text(json.dumps({"q1": ROWS[:1], "q2": ROWS[1:]}))
        (tmp_path / "strain.jsonl").write_bytes(lines(ROWS))
        (tmp_path / "latest.jsonl").write_bytes(lines(ROWS))
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert len(load(tmp_path).X) == 18


def test_lines_that_begin_with_a_bracket_lose_that_line_alone(tmp_path):
    path = tmp_path / "rows.jsonl"
    for first in (b"[1]", b"[", b"[oops", b'[{"prompt": "?"}]', b"[[1]]", b"[]"):
        path.write_bytes(first + b"\n" + lines(ROWS))
        with pytest.warns(UserWarning, match="1 malformed"):
            assert len(load(path, on_error="skip").X) == 6
        with pytest.raises(ValueError, match=r"line 1: (not JSON|no object)"):
            load(path, "stepwise")
    path.write_bytes(b"[oops\n[too\n" + lines(ROWS))
    with pytest.warns(UserWarning, match="2 malformed"):
        assert len(load(path, on_error="skip").X) == 6
    path.write_bytes(b'[\n{"prompt": 1},\n{"prompt": 2}\n')
    with pytest.raises(ValueError, match="starts like a JSON array and is none"):
        load(path)


def test_shards_of_one_split_are_one(tmp_path):
    for i in range(2):
        (tmp_path / f"a_test-0000{i}-of-00002.jsonl").write_bytes(lines(ROWS))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(load(tmp_path).X) == 12


def test_an_empty_path_is_no_folder(tmp_path, monkeypatch):
    (tmp_path / "steps.jsonl").write_text('{"text": "a", "label": "positive"}\n')
    monkeypatch.chdir(tmp_path)
    assert len(load(".").X) == 1
    with pytest.raises(ValueError, match="an empty path"):
        load("")
