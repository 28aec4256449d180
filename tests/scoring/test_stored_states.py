"""``extract_states`` and ``PRMFeaturizer(states=FOLDER)``: states are computed once, and read without the model."""

import json
import shutil
import signal
import subprocess
import sys
import time
from unittest import mock

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from typer.testing import CliRunner

from prmkit import PRMClassifier, PRMFeaturizer, Solution, flatten
from prmkit.cli import app
from prmkit.data import make_arithmetic_solutions
from prmkit.features.states.causal_model import CausalModel
from prmkit.marking import MarkingScheme
from prmkit.scoring import extract_states
from prmkit.utils.environment import UnscoredWarning

parquet = pytest.importorskip("pyarrow.parquet")

SOLUTIONS = [
    Solution("What is 2 + 3?", ["2 + 3 = 5.", "So the answer is 5."], id="right"),
    Solution("What is 2 + 3?", ["2 + 3 = 5.", "So 6.", "", "Done"], id="wrong"),
    Solution("Add one to seven", ["1 + 7 = 8"], id="short"),
    Solution("", ["y = 7", "z is two"], id="bare"),
    Solution("What is 2 + 3?", ["2 + 3 = 5.", "So 6.", "", "Done"], id="again"),
]
PLACES = {"dtype": "float32", "device": "cpu", "cache": False}


@pytest.fixture(scope="module")
def language_model(tmp_path_factory):
    """Folder of a random Llama of two layers, width 16, and a tokenizer of bytes."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("model") / "llama"
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Tokenizer(models.BPE({sign: i for i, sign in enumerate(["<pad>", *alphabet])}, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="<pad>").save_pretrained(folder)
    sizes = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 32}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        LlamaForCausalLM(LlamaConfig(vocab_size=len(alphabet) + 1, **sizes)).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def featurizer(language_model):
    def make(**params):
        return PRMFeaturizer(kind="states", **{"model": language_model, **PLACES, **params})

    return make


@pytest.fixture(scope="module")
def stored(featurizer, tmp_path_factory):
    """Folders of states of SOLUTIONS: pooled in five ways with log-probabilities, and of tokens."""
    place = tmp_path_factory.mktemp("stored")
    wide = extract_states(featurizer(layer=[1, 2, 3], pooling="statistics", log_probs=True), SOLUTIONS, place / "wide")
    tokens = extract_states(featurizer(layer=[1, 3], pooling="tokens"), SOLUTIONS, place / "tokens")
    return {"wide": wide, "tokens": tokens}


def test_a_folder_gives_the_rows_that_the_model_gives(featurizer, stored):
    X = flatten(SOLUTIONS)
    order = np.random.default_rng(0).permutation(len(X))[:9]
    some = [X[i] for i in order]
    with mock.patch.object(CausalModel, "read", side_effect=AssertionError("computed")):
        reads = {
            settings: featurizer(
                states=stored["wide"], layer=list(settings[0]), pooling=settings[1], log_probs=settings[2]
            )
            for settings in [((1, 2, 3), "statistics", True), ((3, 1), "mean", False), ((2,), "last", True)]
        }
        found = {settings: (one.transform(X), one.transform(some)) for settings, one in reads.items()}
    for settings, (rows, part) in found.items():
        layer, pooling, log_probs = settings
        computing = featurizer(layer=list(layer), pooling=pooling, log_probs=log_probs)
        assert reads[settings].get_feature_names_out().tolist() == computing.get_feature_names_out().tolist()
        np.testing.assert_allclose(rows, computing.transform(X), rtol=2e-3, atol=1e-4)
        np.testing.assert_array_equal(part, rows[order])


def test_tokens_beginnings_and_a_head_on_top(featurizer, stored, language_model, tmp_path):
    X = flatten(SOLUTIONS)
    reading = featurizer(states=stored["tokens"], layer=3, pooling="tokens")
    found, computed = reading.transform(X), featurizer(layer=3, pooling="tokens").transform(X)
    np.testing.assert_array_equal(found.lengths, computed.lengths)
    np.testing.assert_allclose(found.values, computed.values, rtol=2e-3, atol=1e-4)
    np.testing.assert_array_equal(found.columns, computed.columns)
    # Nothing looks ahead, so the beginning of a solution is stored with it.
    cut = flatten([Solution("What is 2 + 3?", ["2 + 3 = 5.", "So 6."])])
    np.testing.assert_array_equal(reading.transform(cut).values, found[[2, 3]].values)
    mean = featurizer(states=stored["wide"], layer=2, dtype="auto")
    clf = PRMClassifier(mean, LogisticRegression()).fit(X, np.tile([1, -1], 7)[: len(X)])
    proba = clf.predict_proba(X)
    # The model reads new solutions, if it is the one whose states were learnt from.
    clf.featurizer_.set_params(states=None, dtype="float32")
    np.testing.assert_allclose(clf.predict_proba(X), proba, atol=1e-3)
    (other := shutil.copytree(language_model, tmp_path / "other")).joinpath("generation_config.json").write_text("{}")
    clf.featurizer_.set_params(states=stored["wide"]).transform(X)
    with pytest.raises(ValueError, match="holds other weights than those it was fitted with"):
        clf.featurizer_.set_params(states=None, model=other).transform(X)


def test_steps_that_the_model_cannot_read_are_told_of(featurizer, tmp_path):
    solutions = [Solution("1 + 1?", ["2", "x" * 80, "so 2"], id="long"), Solution("?" * 90, ["a"]), SOLUTIONS[0]]
    with pytest.warns(UserWarning, match="no states for 3 steps"):
        folder = extract_states(featurizer(max_length=60), solutions, tmp_path / "states")
    assert parquet.read_table(folder / "states.parquet")["n_cut"].to_pylist() == [2, 1, 0]
    with pytest.warns(UnscoredWarning, match=r"3 step\(s\) in .*'long'.* beyond the 60 tokens"):
        rows = featurizer(max_length=60, states=folder).transform(flatten(solutions))
    assert np.isnan(rows).any(axis=1).tolist() == [False, True, True, True, False, False]


def test_missing_solutions_are_named(featurizer, stored, tmp_path):
    reading = featurizer(states=stored["wide"], layer=1)
    others = [Solution("p", ["a"], id="new"), SOLUTIONS[0], Solution("What is 2 + 3?", ["2 + 3 = 5.", "So 7."])]
    with pytest.raises(
        ValueError, match=r"lacks the states of 2 of 3 solutions \('new', that of X\[3\]\)\. Extract them"
    ):
        reading.transform(flatten(others))
    # What a folder inside the folder holds is there too, and shards need no merge.
    folder = tmp_path / "states"
    shutil.copytree(stored["wide"], folder / "first")
    make = featurizer(layer=[1, 2, 3], pooling="statistics", log_probs=True)
    for i in (2, 1):
        extract_states(make, others, folder / "second", shard=f"{i}/2", block_steps=1)
        reading = reading.set_params(states=folder)
        if i == 2:
            with pytest.raises(ValueError, match=r"2 of 3 solutions \(.*\): it holds 1 of 2 shards"):
                reading.transform(flatten(others))
    assert np.isfinite(reading.transform(flatten([*others, *SOLUTIONS]))).all()


def test_other_settings_and_other_models_are_refused(featurizer, stored, language_model, tmp_path):
    X = flatten(SOLUTIONS)
    for params, message in [
        ({"layer": [0, 2]}, r"layer: found \[1, 2, 3\], expected \[0, 2\]\). Pass layer=\[1, 2, 3\] to read"),
        ({"layer": 1, "pooling": "tokens"}, "pooling: found 'statistics', expected 'tokens'"),
        ({"layer": 1, "dtype": "bfloat16"}, "dtype: found 'float32', expected 'bfloat16'"),
        ({"layer": 1, "max_length": 7}, "max_length: found None, expected 7"),
        ({"layer": 1, "scheme": MarkingScheme(step_separator="!")}, r"scheme: found .*step_separator=None.*'!'"),
        (
            {"layer": 1, "model": "owner/other"},
            rf"model: found '{language_model}', expected 'owner/other'.*Pass model=",
        ),
    ]:
        with pytest.raises(ValueError, match=message):
            featurizer(states=stored["wide"], **params).transform(X)
    with pytest.raises(ValueError, match=r"log_probs: found False, expected True"):
        featurizer(states=stored["tokens"], layer=1, pooling="tokens", log_probs=True).transform(X)
    with pytest.raises(ValueError, match="layer 4 does not exist"):
        featurizer(states=stored["wide"], layer=4).transform(X)
    # The same files under another name are the same model. One more word is another one.
    copy = shutil.copytree(language_model, tmp_path / "copy")
    reading = featurizer(states=stored["wide"], layer=1, model=copy)
    assert reading.transform(X).shape == (len(X), 16 + 2)
    (copy / "generation_config.json").write_text("{}")
    with pytest.raises(ValueError, match=r"other weights or another tokenizer.*found fingerprint .*, expected"):
        reading.set_params(pooling="last").transform(X)
    both = tmp_path / "both"
    both.mkdir()
    for name, folder in stored.items():
        shutil.copytree(folder, both / name)
    with pytest.raises(ValueError, match=r"different extractions: they differ in layer \(\[1, 3\] and \[1, 2, 3\]\)"):
        featurizer(states=both, layer=1).transform(X)


def test_places_and_arguments_that_make_no_sense(featurizer, stored, tmp_path):
    with pytest.raises(ValueError, match="kind='embeddings' makes no states"):
        extract_states(PRMFeaturizer(), SOLUTIONS, tmp_path / "out")
    with pytest.raises(TypeError, match=r"featurizer is str, expected PRMFeaturizer\(kind='states'"):
        extract_states("model", SOLUTIONS, tmp_path / "out")
    with pytest.raises(ValueError, match="layer 9 does not exist"):
        extract_states(featurizer(layer=9), SOLUTIONS, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(FileNotFoundError, match="does not exist: make it first"):
        extract_states(featurizer(), SOLUTIONS, tmp_path / "no" / "out")
    (tmp_path / "file").write_text("x")
    with pytest.raises(NotADirectoryError, match="is a file, expected a folder"):
        extract_states(featurizer(), SOLUTIONS, tmp_path / "file")
    with pytest.raises(FileExistsError, match=r"is there already, of another run: it differs in states"):
        extract_states(featurizer(), SOLUTIONS, stored["wide"])
    with pytest.raises(FileNotFoundError, match="does not exist: make it by prmkit states"):
        featurizer(states=tmp_path / "no").transform(flatten(SOLUTIONS))
    with pytest.raises(FileNotFoundError, match="holds no file of states"):
        featurizer(states=tmp_path).transform(flatten(SOLUTIONS))
    parquet.write_table(parquet.read_table(stored["wide"]).replace_schema_metadata(None), tmp_path / "x.parquet")
    with pytest.raises(ValueError, match="is no file of states"):
        featurizer(states=tmp_path).transform(flatten(SOLUTIONS))


def test_a_run_that_stops_goes_on_where_it_was(featurizer, tmp_path):
    solutions = make_arithmetic_solutions(6, 2, random_state=0).solutions
    make = featurizer(layer=[1, 2])
    whole = extract_states(make, solutions, tmp_path / "whole", block_steps=4)
    read, n_calls = CausalModel.read, []

    def stops(self, *args):
        n_calls.append(1)
        if len(n_calls) == 3:
            raise MemoryError
        return read(self, *args)

    with mock.patch.object(CausalModel, "read", stops), pytest.raises(MemoryError):
        extract_states(make, solutions, tmp_path / "out", block_steps=4)
    with pytest.raises(FileNotFoundError, match="is not finished: do the same again"):
        featurizer(states=tmp_path / "out", layer=1).transform(flatten(solutions))
    before = len(n_calls)
    with mock.patch.object(CausalModel, "read", stops):
        extract_states(make, solutions, tmp_path / "out", block_steps=4)
    n_blocks = len(n_calls) - before + 2
    assert n_blocks > 3
    files = [folder / "states.parquet" for folder in (whole, tmp_path / "out")]
    assert files[0].read_bytes() == files[1].read_bytes()
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["states.parquet"]
    about = json.loads(parquet.read_schema(files[0]).metadata[b"prmkit"])
    assert about["run"]["states"]["layer"] == [1, 2]


def test_a_folder_of_other_states_is_refused_before_a_pass(featurizer, tmp_path):
    out = tmp_path / "out"
    extract_states(featurizer(layer=1), SOLUTIONS, out, shard="1/2")
    with mock.patch.object(CausalModel, "read", side_effect=AssertionError("a pass was made")):
        with pytest.raises(FileExistsError, match=r"states-1-of-2\.parquet holds states of other settings.*layer"):
            extract_states(featurizer(layer=2), SOLUTIONS, out)
        with pytest.raises(FileExistsError, match="Choose another folder, or delete that file"):
            extract_states(featurizer(layer=2), SOLUTIONS, out, shard="2/2")
    extract_states(featurizer(layer=1), SOLUTIONS, out, shard="2/2")
    assert featurizer(layer=1, states=out).transform(flatten(SOLUTIONS)).shape == (13, 18)


def test_the_command_and_its_help(featurizer, language_model, tmp_path):
    source = tmp_path / "in.jsonl"
    rows = [{"problem": one.problem, "steps": list(one.steps), "id": one.id} for one in SOLUTIONS]
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    out = tmp_path / "states"
    places = ["states", str(language_model), str(source), str(out)]
    done = CliRunner().invoke(app, [*places, "--layer", "1,-1", "--dtype", "float32", "--device", "cpu"])
    assert done.exit_code == 0, done.output
    assert f"written: {out}, to be read by PRMFeaturizer(kind='states'" in done.output
    X = flatten(SOLUTIONS)
    rows = featurizer(layer=3, states=out).transform(X)
    np.testing.assert_allclose(rows, featurizer(layer=3).transform(X), rtol=2e-3, atol=1e-4)
    other = CliRunner().invoke(app, [*places, "--layer", "2"])
    assert other.exit_code == 2
    assert "or pass --no-resume to replace it" in other.output
    chat = CliRunner().invoke(app, [*places[:-1], str(tmp_path / "chat"), "--chat", "answer"])
    assert "no chat template" in chat.output
    assert "leave --chat out" in chat.output
    wrong = CliRunner().invoke(app, [*places, "--layer", "two"])
    assert "--layer is 'two', expected a number" in wrong.output or "layer is 'two', expected a number" in wrong.output
    words = " ".join(CliRunner().invoke(app, ["states", "--help"], env={"COLUMNS": "200"}).output.split())
    for taught in ("big.jsonl states --shard 2/2", 'layer=12, states="states")', "prm800k:", "type the same again"):
        assert taught in words


@pytest.mark.slow
def test_killed_runs_lose_nothing_and_reading_loads_no_torch(language_model, tmp_path, start_python):
    source = tmp_path / "in.jsonl"
    solutions = make_arithmetic_solutions(40, 2, random_state=3).solutions
    source.write_text("".join(json.dumps({"problem": o.problem, "steps": list(o.steps)}) + "\n" for o in solutions))
    out, parts = tmp_path / "states", tmp_path / "states" / "states.parquet.parts"
    command = ["states", str(language_model), str(source), str(out)]
    command += ["--layer", "1,2", "--device", "cpu", "--dtype", "float32", "--block-steps", "8"]
    process = start_python("from prmkit.cli import main; main()", *command, folder=tmp_path)
    while process.is_alive() and len(list(parts.glob("0*.parquet"))) < 3:
        time.sleep(0.005)
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL, "the source is too small for a kill"
    n_kept = len(list(parts.glob("0*.parquet")))
    assert n_kept >= 3
    assert not (out / "states.parquet").exists()
    make = PRMFeaturizer(kind="states", model=language_model, layer=[1, 2], **PLACES)
    extract_states(make, source, out, block_steps=8)
    assert [file.name for file in out.iterdir()] == ["states.parquet"]
    whole = extract_states(make, source, tmp_path / "whole", block_steps=8)
    tables = [parquet.read_table(folder / "states.parquet").replace_schema_metadata(None) for folder in (out, whole)]
    assert tables[0].equals(tables[1])
    moved = out.rename(tmp_path / "moved")
    code = (
        "import sys; from prmkit import PRMFeaturizer, flatten; from prmkit.data import make_arithmetic_solutions\n"
        "X = flatten(make_arithmetic_solutions(40, 2, random_state=3).solutions)\n"
        f"rows = PRMFeaturizer(kind='states', model='owner/elsewhere', layer=2, states={str(moved)!r})\n"
        "try:\n    rows.transform(X)\nexcept ValueError as error:\n    name = str(error).split(chr(39))[1]\n"
        "print(rows.set_params(model=name).transform(X).shape, 'torch' in sys.modules)"
    )
    shutil.move(language_model, tmp_path / "gone")
    try:
        done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    finally:
        shutil.move(tmp_path / "gone", language_model)
    assert done.stdout.split() == [f"({len(flatten(solutions))},", "18)", "False"]
