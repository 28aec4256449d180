"""score_file, iter_scores, merge_scores: the rows and values of score_solutions, whatever happens on the way."""

import errno
import gzip
import json
import os
import random
import resource
import signal
import time

import numpy as np
import pytest

from prmkit import PRMClassifier, Solution, load_model
from prmkit.data import make_arithmetic_solutions, write
from prmkit.features import StepStatistics
from prmkit.scoring import iter_scores, merge_scores, score_file, score_solutions
from prmkit.uncertainty import LengthShift
from prmkit.utils.files import locked

pandas = pytest.importorskip("pandas")
parquet = pytest.importorskip("pyarrow.parquet")


@pytest.fixture(scope="module")
def data():
    return make_arithmetic_solutions(60, 2, random_state=1)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "model"
    PRMClassifier(StepStatistics()).fit(*make_arithmetic_solutions(20, 2, random_state=0)).save(path)
    return path


@pytest.fixture
def source(data, tmp_path):
    """A file of 120 solutions, each with an id of its own."""
    write(data, tmp_path / "source.jsonl", format="rated")
    return tmp_path / "source.jsonl"


@pytest.fixture
def clf(model):
    return load_model(model)


class Marks:
    """Scores a step by its length. Texts with "?" are beyond what it can read, as with models of a limited length."""

    classes_ = np.array([-1, 1])
    too_long = "nan"

    def __init__(self, fails_at=None):
        self.fails_at, self.n_calls = fails_at, 0

    def predict_proba(self, X):
        self.n_calls += 1
        if self.n_calls == self.fails_at:
            raise ValueError("stopped by the test")
        risk = np.array([np.nan if "?" in step.text else (len(step.text) % 10) / 10 for step in X])
        return np.column_stack([risk, 1 - risk])

    def __getstate__(self):
        return {}


def rows(n):
    return [{"id": f"r{i}", "problem": f"{i} + 1?", "steps": ["a" * (i % 7 + 1), "b" * (i % 5)]} for i in range(n)]


def lines(path, records):
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


def about(file):
    return json.loads(parquet.read_schema(file).metadata[b"prmkit"])


def the_same(file, other):
    return parquet.read_table(file).equals(parquet.read_table(other), check_metadata=False)


def test_a_row_says_what_score_solutions_says(clf, model, data, source, tmp_path):
    frame = pandas.read_parquet(score_file(model, source, tmp_path / "out.parquet", block_steps=50))
    scored = score_solutions(clf, data.solutions)
    assert frame.id.tolist() == [str(one.solution.id) for one in scored]
    for row, one in zip(frame.itertuples(), scored, strict=True):
        # The last bits depend on what is scored together.
        np.testing.assert_allclose(np.stack(row.proba), one.proba, rtol=1e-12)
        np.testing.assert_allclose(row.risks, one.risks, rtol=1e-12)
        np.testing.assert_allclose(row.rewards, one.rewards, rtol=1e-12)
        np.testing.assert_allclose(row.first_error_distribution, one.first_error_distribution, rtol=1e-12)
        for name in ("min", "product", "mean", "last"):
            assert getattr(row, name) == pytest.approx(one.aggregates[name], rel=1e-12)
        assert row.p_no_error == pytest.approx(one.p_no_error, rel=1e-12)
        assert row.n_cut == 0
    assert list(frame.columns) == [
        *("id", "proba", "rewards", "risks", "min", "product", "mean", "last", "p_no_error"),
        *("first_error_distribution", "n_cut"),
    ]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.parquet", "source.jsonl"]


def test_the_file_says_where_its_scores_come_from(model, source, tmp_path):
    out = score_file(model, source, tmp_path / "out.parquet", command="prmkit score …")
    told = about(out)
    assert told["classes"] == told["label_order"] == [-1, 0, 1]
    assert (told["model"], told["source"], told["command"]) == (str(model), str(source), "prmkit score …")
    assert told["counts"] == {"records": 120}
    assert {"version", "model", "source", "settings", "block_steps"} <= told["run"].keys()


def test_iter_scores_yields_the_solutions_themselves(clf, data, source):
    expected = score_solutions(clf, data.solutions)
    for given in (source, data, data.solutions, iter(data.solutions)):
        found = list(iter_scores(clf, given, block_steps=37))
        assert [one.solution for one in found] == [one.solution for one in expected]
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_allclose(one.risks, other.risks, rtol=1e-12)
    assert found[0].solution.meta is data.solutions[0].meta


def test_iter_scores_reads_no_further_than_it_must():
    def endless():
        for i in range(10**9):
            assert i < 200, "it read on"
            yield {"problem": "1 + 1?", "steps": ["a"]}

    scores = iter_scores(Marks(), endless(), block_steps=10)
    assert [next(scores).risks.tolist() for _ in range(15)] == [[0.1]] * 15


def test_labels_are_not_needed(tmp_path):
    expected = [[0.3, 0.5]]
    steps = ["abc", "xbcde"]
    for given, settings in (
        ([{"problem": "p", "steps": steps}], {}),
        ([{"prompt": "p", "completions": steps}], {}),
        ([{"problem": "p", "steps": steps, "labels": [None, None]}], {}),
        # Nothing says what 0 means here, and nobody needs to know.
        ([{"problem": "p", "steps": steps, "labels": [0, 1]}], {}),
        ([{"q": "p", "a": [{"t": step} for step in steps]}], {"fields": {"problem": "q", "steps": "a.t"}}),
        ([{"q": "p", "a": steps, "l": "?"}], {"fields": {"problem": "q", "steps": "a", "labels": "l"}}),
        ([{"q": "p", "a": "abc\n\nxbcde"}], {"fields": {"problem": "q", "text": "a"}}),
        ([{"q": "p", "a": "abc\nxbcde"}], {"fields": {"problem": "q", "text": "a"}, "options": {"by": "line"}}),
        (
            [{"q": "p", "a": s, "n": n} for n, s in enumerate(steps)],
            {"fields": {"problem": "q", "step": "a", "order": "n"}},
        ),
        ([{"prompt": "p", "answers": ["abc\nxbcde"]}], {}),
        ([{"prompt": "p", "answers": ["abc\n\nxbcde"]}], {"format": "bon-paragraph"}),
    ):
        assert [one.risks.tolist() for one in iter_scores(Marks(), given, **settings)] == expected, given


def test_samples_are_rows_of_their_own(tmp_path):
    given = [{"prompt": "p", "answers": ["abc", "xbcde", " "]}, {"prompt": "q", "answers": ["a"]}]
    frame = pandas.read_parquet(score_file(Marks(), given, tmp_path / "out.parquet"))
    assert frame.id.tolist() == ["0/0", "0/1", "1/0"]
    assert about(tmp_path / "out.parquet")["counts"]["blank samples left out"] == 1


def test_a_step_that_the_model_cannot_read_is_null(tmp_path):
    given = [Solution("p", ["a", "b?", "c"]), Solution("p", ["abc"])]
    with pytest.warns(UserWarning, match="no score for 1 steps"):
        table = parquet.read_table(score_file(Marks(), given, tmp_path / "out.parquet"))
    row, other = table.to_pylist()
    assert row["risks"] == [0.1, None, 0.1]
    assert row["proba"][1] == [None, None]
    assert row["first_error_distribution"] == [0.1, None, None, None]
    assert [row[name] for name in ("min", "product", "mean", "last", "p_no_error")] == [None] * 5
    assert (row["n_cut"], other["n_cut"], other["min"]) == (1, 0, pytest.approx(0.7))
    assert table["min"].null_count == 1


@pytest.mark.parametrize("by", ["error", "skip"])
def test_a_broken_line_in_the_middle(by, tmp_path):
    good = [json.dumps(row) for row in rows(40)]
    path = tmp_path / "in.jsonl"
    path.write_text("\n".join([*good[:30], '{"id": "x", "problem": ', '{"problem": "p"}', *good[30:]]))
    out = tmp_path / "out.parquet"
    if by == "error":
        with pytest.raises(ValueError, match=r"in\.jsonl, line 31: not JSON"):
            score_file(Marks(), path, out, block_steps=8)
        assert not out.exists()
        assert len(list((tmp_path / "out.parquet.parts").glob("*.parquet"))) > 5  # what came before is kept
    with pytest.warns(UserWarning, match="2 malformed records were skipped"):
        score_file(Marks(), path, out, block_steps=8, on_error="skip")
    assert pandas.read_parquet(out).id.tolist() == [row["id"] for row in rows(40)]
    assert about(out)["counts"]["malformed: not JSON"] == 1


def test_an_interrupted_run_goes_on_where_it_was(tmp_path):
    path = lines(tmp_path / "in.jsonl", rows(100))
    whole = score_file(Marks(), path, tmp_path / "whole.parquet", block_steps=10)
    again, out = Marks(fails_at=12), tmp_path / "out.parquet"
    with pytest.raises(ValueError, match="stopped by the test"):
        score_file(again, path, out, block_steps=10)
    assert again.n_calls == 12
    rest = Marks()
    score_file(rest, path, out, block_steps=10)
    assert rest.n_calls == 20 - 11
    assert out.read_bytes() == whole.read_bytes()
    score_file(rest, path, out, block_steps=10)
    assert rest.n_calls == 20 - 11  # it was whole already


def test_what_a_killed_run_left_half_written_is_made_anew(tmp_path):
    path = lines(tmp_path / "in.jsonl", rows(60))
    whole = score_file(Marks(), path, tmp_path / "whole.parquet", block_steps=10)
    out, parts = tmp_path / "out.parquet", tmp_path / "out.parquet.parts"
    with pytest.raises(ValueError, match="stopped"):
        score_file(Marks(fails_at=9), path, out, block_steps=10)
    damaged = parts / "000000002.parquet"
    damaged.write_bytes(damaged.read_bytes()[:-3])
    for name in (".000000008.parquet-0a1b", "joined", "lock"):
        (parts / name).write_bytes(b"PAR1")
    rest = Marks()
    score_file(rest, path, out, block_steps=10)
    assert rest.n_calls == 12 - 8 + 1
    assert out.read_bytes() == whole.read_bytes()
    # It was killed after the file was whole, and before the parts were removed.
    parts.mkdir()
    (parts / "000000000.parquet").write_bytes(b"PAR1")
    score_file(rest, path, out, block_steps=10)
    assert rest.n_calls == 12 - 8 + 1
    assert sorted(file.name for file in tmp_path.iterdir()) == ["in.jsonl", "out.parquet", "whole.parquet"]


@pytest.mark.parametrize("change", ["model", "source", "settings"])
def test_parts_and_files_of_another_run_are_refused(change, model, tmp_path):
    path, out = lines(tmp_path / "in.jsonl", rows(60)), tmp_path / "out.parquet"
    with pytest.raises(ValueError, match="stopped"):
        score_file(Marks(fails_at=4), path, out, block_steps=10)
    if change == "source":
        lines(path, rows(61))
    other = (model if change == "model" else Marks(), path, out)
    settings = {"block_steps": 20 if change == "settings" else 10}
    with pytest.raises(FileExistsError, match=r"out\.parquet\.parts holds parts of another run.*resume=False"):
        score_file(*other, **settings)
    score_file(*other, **settings, resume=False)
    score_file(*other, **settings)
    with pytest.raises(FileExistsError, match=r"out\.parquet is there already, of another run"):
        score_file(*other, **settings, limit=3)


def test_a_file_that_is_no_file_of_scores_is_never_replaced(tmp_path):
    out = tmp_path / "out.parquet"
    pandas.DataFrame({"a": [1]}).to_parquet(out)
    before = out.read_bytes()
    for resume in (True, False):
        with pytest.raises(ValueError, match="was not written by score_file"):
            score_file(Marks(), rows(3), out, resume=resume)
    assert out.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["out.parquet"]


def test_two_runs_on_one_file(tmp_path):
    out = tmp_path / "out.parquet"
    folder = tmp_path / "out.parquet.parts"
    folder.mkdir()
    with (
        locked(folder / "lock", ""),
        pytest.raises(BlockingIOError, match=r"another process writes .*out\.parquet now"),
    ):
        score_file(Marks(), rows(3), out)
    score_file(Marks(), rows(3), out)
    assert not folder.exists()


def test_a_run_that_is_turned_away_leaves_the_other_as_it_is(tmp_path):
    """It took away the note of whose parts they are, and then a third run went on with the parts of another model."""
    out = tmp_path / "out.parquet"

    class Meets(Marks):
        def predict_proba(self, X):
            if not self.n_calls:
                with pytest.raises(BlockingIOError):
                    score_file(Marks(), rows(20), out, block_steps=10)
            return super().predict_proba(X)

    with pytest.raises(ValueError, match="stopped"):
        score_file(Meets(fails_at=3), rows(20), out, block_steps=10)
    with pytest.raises(FileExistsError, match="parts of another run"):
        score_file(Marks(), rows(20), out, block_steps=10)


def test_parts_of_which_nothing_says_whose_they_are_are_made_anew(tmp_path):
    out = tmp_path / "out.parquet"
    with pytest.raises(ValueError, match="stopped"):
        score_file(Marks(fails_at=3), rows(20), out, block_steps=10)
    (tmp_path / "out.parquet.parts" / "run.json").unlink()
    again = Marks()
    score_file(again, rows(20), out, block_steps=10)
    assert again.n_calls == 4


@pytest.mark.parametrize("n_shards", [2, 3])
def test_shards_are_disjoint_and_join_in_the_order_of_the_source(n_shards, model, source, tmp_path):
    whole = score_file(model, source, tmp_path / "whole.parquet", block_steps=30)
    out = tmp_path / "out.parquet"
    for number in range(n_shards, 0, -1):
        file = score_file(model, source, out, shard=f"{number}/{n_shards}", block_steps=30)
        assert file.name == f"out-{number}-of-{n_shards}.parquet"
    assert sum(parquet.read_metadata(file).num_rows for file in tmp_path.glob("out-*")) == 120
    assert the_same(merge_scores(out), whole)
    assert about(out)["classes"] == [-1, 0, 1]
    with pytest.raises(FileExistsError, match="overwrite=True"):
        merge_scores(out)
    assert the_same(merge_scores(out, overwrite=True), whole)


def test_a_merge_refuses_what_does_not_belong_together(tmp_path):
    path, out = lines(tmp_path / "in.jsonl", rows(30)), tmp_path / "out.parquet"
    one, two = (score_file(Marks(), path, out, shard=(number, 2), block_steps=10) for number in (1, 2))
    for files, message in (
        ([one], r"1 of 2 shards are missing: 2/2 \(out-2-of-2\.parquet\)"),
        ([one, two, two], "shard 2 of 2 comes twice"),
        ([one, tmp_path / "no.parquet"], "does not exist"),
        ([score_file(Marks(), path, tmp_path / "all.parquet")], "of a whole source"),
        (
            [one, score_file(Marks(), path, tmp_path / "b.parquet", shard=(2, 2), block_steps=12)],
            r"of another run than .*: they differ in block_steps \(10 and 12\)",
        ),
        ([one, score_file(Marks(), path, tmp_path / "c.parquet", shard=(3, 3), block_steps=10)], "number of shards"),
    ):
        with pytest.raises((ValueError, FileNotFoundError), match=message):
            merge_scores(out, files)
    assert not out.exists()
    with pytest.raises(FileNotFoundError, match="no file of a shard such as none-1-of-2"):
        merge_scores(tmp_path / "none.parquet")


def test_the_shards_of_copies_belong_together(tmp_path):
    """Two machines have copies of one file, in other folders and of another time."""
    out = tmp_path / "out.parquet"
    for number in (1, 2):
        folder = tmp_path / str(number)
        folder.mkdir()
        path = lines(folder / "in.jsonl", rows(30))
        os.utime(path, (number, number))
        score_file(Marks(), path, out, shard=(number, 2), block_steps=10)
    assert pandas.read_parquet(merge_scores(out)).id.tolist() == [row["id"] for row in rows(30)]


def test_a_shard_may_be_empty(tmp_path):
    out = tmp_path / "out.parquet"
    for number in (1, 2, 3):
        score_file(Marks(), rows(3), out, shard=(number, 3), block_steps=100)
    assert pandas.read_parquet(merge_scores(out)).id.tolist() == ["r0", "r1", "r2"]
    assert about(out)["classes"] == [-1, 1]


@pytest.mark.slow
def test_several_processes_give_the_file_of_one(model, source, tmp_path):
    one = score_file(model, source, tmp_path / "one.parquet", block_steps=60)
    two = score_file(model, source, tmp_path / "two.parquet", block_steps=60, n_workers=2)
    assert one.read_bytes() == two.read_bytes()


def test_doubled_ids_are_told(tmp_path):
    given = [{"id": name, "problem": "p", "steps": ["a"]} for name in "abcab"]
    with pytest.warns(UserWarning, match="2 of 5 rows of .* have the id of a row before them, such as '[ab]'"):
        score_file(Marks(), given, tmp_path / "out.parquet")
    assert pandas.read_parquet(tmp_path / "out.parquet").id.tolist() == list("abcab")


def test_the_model_is_checked_before_anything_is_written(model, tmp_path):
    LengthShift().fit(make_arithmetic_solutions(20, random_state=0).X).save(tmp_path / "detector")
    for bad, error, message in (
        (tmp_path / "detector", ValueError, "gives no probabilities of steps"),
        ("nowhere", FileNotFoundError, "the model nowhere does not exist, expected a folder that prmkit saved"),
        (3, TypeError, "the model is int"),
    ):
        with pytest.raises(error, match=message):
            score_file(bad, rows(3), tmp_path / "out.parquet")
    assert [path.name for path in tmp_path.iterdir()] == ["detector"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"shard": "0/4"}, "shard is '0/4', expected i/n with i from 1 to n"),
        ({"shard": (5, 4)}, "expected i/n"),
        ({"shard": "a/b"}, "expected i/n"),
        ({"engine": "spark"}, "engine is 'spark', expected one of 'local', 'ray'"),
        ({"n_workers": 0}, "n_workers is 0, expected a positive number"),
        ({"block_steps": True}, "block_steps is True"),
        ({"format": "csv"}, "format is 'csv', expected one of prm800k"),
        ({"fields": {"problem": "q"}}, "at least steps"),
        ({"limit": 0}, "limit is 0"),
        ({"options": {"colour": 1}}, "has no option colour"),
        ({"batch_tokens": -1}, "batch_tokens is -1, expected a positive number"),
        ({"block_steps": 2.5}, r"block_steps is 2\.5"),
    ],
)
def test_senseless_settings(settings, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        score_file(Marks(), rows(3), tmp_path / "out.parquet", **settings)
    assert list(tmp_path.iterdir()) == []
    if not settings.keys() & {"shard", "engine", "n_workers"}:
        with pytest.raises(ValueError, match=message):
            list(iter_scores(Marks(), rows(3), **settings))


def test_senseless_places(tmp_path):
    for out, error, message in (
        (tmp_path / "no" / "out.parquet", FileNotFoundError, "make it first"),
        (tmp_path / "out.csv", ValueError, "does not end in .parquet"),
        (tmp_path, IsADirectoryError, "is a folder"),
    ):
        with pytest.raises(error, match=message):
            score_file(Marks(), rows(3), out)
    with pytest.raises(ValueError, match=r"fits no known format.*To score, no labels are needed"):
        score_file(Marks(), [{"q": "a b", "x": 3}], tmp_path / "out.parquet")
    for empty in ([], iter(())):
        with pytest.raises(ValueError, match="holds no"):
            score_file(Marks(), empty, tmp_path / "out.parquet")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("on_error", ["raise", "skip"])
@pytest.mark.parametrize("settings", [{}, {"fields": {"problem": "q", "steps": "s"}}, {"format": "rated"}])
@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("in.jsonl", "\n  \n", "no solution to score in .*in.jsonl: it holds no records"),
        ("in.json", "[]", "no solution to score in .*in.json: it holds no records"),
        ("in.csv", "problem,steps\n", "no solution to score in .*in.csv: it holds no records"),
        (
            "in.jsonl",
            "{\nx\n",
            r"each of its 2 lines or rows is malformed \(2 not JSON\), first .*in.jsonl, line 1: not",
        ),
    ],
)
def test_where_nothing_can_be_scored(name, content, message, settings, on_error, tmp_path):
    (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=message) as caught:
        score_file(Marks(), tmp_path / name, tmp_path / "out.parquet", on_error=on_error, **settings)
    assert "on_error" not in str(caught.value)  # to skip the lines would leave nothing
    assert "labels" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_where_every_record_is_skipped_the_error_says_why(tmp_path):
    given = [{"problem": "p", "steps": []}, {"problem": "p", "steps": ["a", 3]}]
    with (
        pytest.warns(UserWarning, match="2 malformed records were skipped"),
        pytest.raises(
            ValueError, match=r"no solution that can be scored.*: 2 records were skipped \(1 .*, 1 .*\), and"
        ),
    ):
        score_file(Marks(), given, tmp_path / "out.parquet", format="rated", on_error="skip")


def test_a_file_for_which_records_were_skipped_is_not_taken_for_a_whole_one(tmp_path):
    """The parts are, since their source is read anew: only blocks without broken records come before an error."""
    path = lines(tmp_path / "in.jsonl", [*rows(20), {"id": "x"}, *rows(40)[20:]])
    out = tmp_path / "out.parquet"
    with pytest.raises(ValueError, match=r"in\.jsonl, line 21"):
        score_file(Marks(), path, out, block_steps=8)
    rest = Marks()
    with pytest.warns(UserWarning, match="1 malformed records"):
        score_file(rest, path, out, block_steps=8, on_error="skip")
    assert rest.n_calls == 10 - 5
    with pytest.raises(FileExistsError, match=r"1 malformed records were skipped \(1 .*\)\. Pass on_error='skip'"):
        score_file(rest, path, out, block_steps=8)
    assert score_file(rest, path, out, block_steps=8, on_error="skip") == out
    assert rest.n_calls == 10 - 5
    with pytest.raises(ValueError, match=r"in\.jsonl, line 21"):
        score_file(rest, path, out, block_steps=8, resume=False)


def test_a_file_in_the_place_of_the_parts(tmp_path):
    (tmp_path / "out.parquet.parts").write_text("notes")
    with pytest.raises(FileExistsError, match=r"out\.parquet\.parts is a file, and a folder .* choose another name"):
        score_file(Marks(), rows(3), tmp_path / "out.parquet")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["notes"]


@pytest.mark.parametrize(
    "named", ["in/all.parquet", "in", "in/*.parquet", "linked", ["in/all.parquet", "in/b.parquet"]]
)
def test_the_source_is_never_written_to(named, tmp_path, monkeypatch):
    """In a folder that is the source, the parts and the files of other shards would be read."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in").mkdir()
    (tmp_path / "linked").symlink_to("in")
    for name in ("all.parquet", "b.parquet"):
        pandas.DataFrame(rows(6)).to_parquet(tmp_path / "in" / name)
    before = (tmp_path / "in" / "all.parquet").read_bytes()
    for resume in (True, False):
        with pytest.raises(ValueError, match=r"all.parquet is to be written, and is a part of the source"):
            score_file(Marks(), named, "in/all.parquet", resume=resume)
    assert (tmp_path / "in" / "all.parquet").read_bytes() == before
    assert sorted(path.name for path in (tmp_path / "in").iterdir()) == ["all.parquet", "b.parquet"]


@pytest.mark.parametrize("ending", ["jsonl", "jsonl.gz"])
def test_names_may_have_spaces_signs_and_other_letters(ending, tmp_path):
    folder = tmp_path / "für 数学 [1]"
    folder.mkdir()
    path = folder / f"zwei Äpfel #1.{ending}"
    text = "".join(json.dumps(row) + "\n" for row in rows(5)).encode()
    path.write_bytes(gzip.compress(text) if ending.endswith("gz") else text)
    out = score_file(Marks(), path, folder / " out [é].parquet", shard="1/1")
    assert pandas.read_parquet(merge_scores(folder / " out [é].parquet")).id.tolist() == [f"r{i}" for i in range(5)]
    if ending.endswith("gz"):
        path.write_bytes(path.read_bytes()[:-9])
        for on_error in ("raise", "skip"):
            with pytest.raises(ValueError, match=r"#1\.jsonl\.gz: the data are damaged or cut off after line 5"):
                score_file(Marks(), path, folder / "cut.parquet", on_error=on_error)
    assert out.parent == folder


def test_a_data_set_of_the_hub_is_read_by_its_name(tmp_path, monkeypatch):
    """Without a network: what stands for the hub are the functions of its packages that ask it."""
    import datasets
    import huggingface_hub

    asked, state = [], ["1f"]

    def load_dataset(name, *, split, streaming):
        asked.append((name, split, streaming))
        return datasets.Dataset.from_list(rows(9)).to_iterable_dataset()

    def dataset_info(self, name):
        return huggingface_hub.hf_api.DatasetInfo(id=name, sha=state[0], tags=[])

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", dataset_info)
    out = score_file(Marks(), "someone/solutions", "out.parquet", split="test")
    assert pandas.read_parquet(out).id.tolist() == [f"r{i}" for i in range(9)]
    assert set(asked) == {("someone/solutions", "test", True)}
    assert score_file(Marks(), "someone/solutions", "out.parquet", split="test") == out
    state[0] = "2e"
    with pytest.raises(FileExistsError, match="of another run: it differs in source"):
        score_file(Marks(), "someone/solutions", "out.parquet", split="test")
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: 1 / 0)
    with pytest.raises(ConnectionError, match=r"'someone/others' is no local file.*'hf download someone/others"):
        score_file(Marks(), "someone/others", "others.parquet")


def test_a_disk_that_is_full_in_the_middle_of_a_part_leaves_no_half_of_it(tmp_path, monkeypatch):
    write_table, written = parquet.write_table, []

    def full(table, stream):
        if len(written) == 2:
            stream.write(b"PAR1")
            raise OSError(errno.ENOSPC, "No space left on device")
        written.append(table.num_rows)
        write_table(table, stream)

    out = tmp_path / "out.parquet"
    with monkeypatch.context() as patch:
        patch.setattr(parquet, "write_table", full)
        with pytest.raises(OSError, match=r"the disk is full.*do the same again: it goes on from there") as caught:
            score_file(Marks(), rows(30), out, block_steps=10)
    assert caught.value.errno == errno.ENOSPC
    assert sorted(part.name for part in (tmp_path / "out.parquet.parts").glob("*")) == [
        *("000000000.parquet", "000000001.parquet", "run.json")
    ]
    rest = Marks()
    score_file(rest, rows(30), out, block_steps=10)
    assert rest.n_calls == 6 - 2
    assert [path.name for path in tmp_path.iterdir()] == ["out.parquet"]


def test_a_full_disk_keeps_what_is_scored(tmp_path):
    """A limit on the size of files stands for the end of the disk: the parts fit, and the whole file does not."""
    path, out = lines(tmp_path / "in.jsonl", rows(400)), tmp_path / "out.parquet"
    size = score_file(Marks(), path, tmp_path / "whole.parquet", block_steps=100).stat().st_size
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size - 1, limits[1]))
    try:
        with pytest.raises(OSError, match=r"the disk is full.*kept in .*out\.parquet\.parts"):
            score_file(Marks(), path, out, block_steps=100)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert not out.exists()
    rest = Marks()
    score_file(rest, path, out, block_steps=100)
    assert rest.n_calls == 0
    assert len(pandas.read_parquet(out)) == 400


@pytest.mark.slow
def test_shards_of_two_processes_at_once_join_to_the_file_of_one(model, source, start, tmp_path):
    whole, out = score_file(model, source, tmp_path / "whole.parquet", block_steps=30), tmp_path / "out.parquet"
    settings = {"block_steps": 30, "show_progress": False}
    processes = [
        start.Process(target=score_file, args=(model, source, out), kwargs={**settings, "shard": (number, 2)})
        for number in (1, 2)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    assert the_same(merge_scores(out), whole)


@pytest.mark.slow
def test_ten_kills_lose_and_double_nothing(model, start, tmp_path):
    path = tmp_path / "source.jsonl"
    write(make_arithmetic_solutions(1500, 2, random_state=3), path, format="rated")
    whole = score_file(model, path, tmp_path / "whole.parquet", block_steps=64)
    out = tmp_path / "out.parquet"
    arguments = {"args": (model, path, out), "kwargs": {"block_steps": 64, "show_progress": False}}
    draw = random.Random(0)
    n_parts = []
    for _ in range(10):
        process = start.Process(target=score_file, **arguments)
        process.start()
        parts = tmp_path / "out.parquet.parts"
        before = len(list(parts.glob("*.parquet")))
        # Not before it has begun to score: the kill is to hit the work.
        while process.is_alive() and len(list(parts.glob("*.parquet"))) <= before:
            time.sleep(0.005)
        time.sleep(draw.uniform(0, 0.15))
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL, "the source is too small for ten kills"
        n_parts.append(len(list(parts.glob("*.parquet"))))
    assert sorted(n_parts) == n_parts
    assert not out.exists()
    last = start.Process(target=score_file, **arguments)
    last.start()
    last.join()
    assert last.exitcode == 0
    assert out.read_bytes() == whole.read_bytes()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["out.parquet", "source.jsonl", "whole.parquet"]
