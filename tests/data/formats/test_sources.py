"""Where records may lie: every kind of file, compressed or not, alone, in folders, by patterns and by URL."""

import bz2
import csv
import gzip
import io
import json
import lzma
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import datasets
import fsspec
import pytest

import prmkit.data.formats.sources as sources
from prmkit.data import StepDataset, load, load_stepwise
from prmkit.data.formats._rated import load_rated

ROWS = [{"prompt": f"{i} + 1?", "completions": [f"It is {i + 1}.", "So 9."], "labels": [True, False]} for i in range(3)]
COMPRESS = {"": bytes, ".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress}


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
        (lines(ROWS).decode().encode("utf-16"), "line 1: not JSON"),
        (b"<!DOCTYPE html><html>404</html>\n", "line 1: not JSON"),
        (b"text\tlabel\nfoo\tpositive\n", "line 1: not JSON"),
        (b"\n \n", "holds no records"),
    ],
)
def test_a_file_that_cannot_be_read_is_not_called_empty(tmp_path, content, reason):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=reason):
        load(path)


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
