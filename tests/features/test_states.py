"""``PRMFeaturizer(kind="states")``: what a frozen language model holds while it reads each step."""

from __future__ import annotations

import pickle
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline

from prmkit import PRMClassifier, PRMFeaturizer, Solution, StratifiedProblemKFold, flatten, problem_groups
from prmkit.data import make_arithmetic_solutions
from prmkit.features.encoding.cache import EmbeddingCache
from prmkit.features.states.causal_model import CausalModel
from prmkit.marking import MarkingScheme
from prmkit.marking.encoding import SolutionEncoder, token_records
from prmkit.models import StepProbe
from prmkit.utils.environment import UnscoredWarning
from prmkit.utils.estimator_checks import (
    check_no_lookahead,
    check_one_pass_per_solution,
    check_step_order_invariance,
    check_step_subset_invariance,
)

SOLUTIONS = [
    Solution("What is 2 + 3?", ["2 + 3 = 5.", "So the answer is 5."]),
    Solution("What is 2 + 3?", ["2 + 3 = 5.", "So 6.", ""]),
    Solution("Add one to seven", ["1 + 7 = 8"]),
    Solution("", ["y = 7", "z is two"]),
]


@pytest.fixture
def featurizer(language_model, tmp_path):
    """A featurizer of states in float32, whose cache is empty."""

    def make(**params):
        options = {"dtype": "float32", "device": "cpu", "cache_dir": tmp_path / "cache", **params}
        return PRMFeaturizer(kind="states", model=language_model, **options)

    return make


@pytest.fixture(scope="module")
def folder_of(language_model, tmp_path_factory):
    """The folder of a random model of an architecture, with the tokenizer of bytes."""

    def make(kind):
        from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

        if kind == "llama":
            return language_model
        folder = tmp_path_factory.mktemp(kind)
        tokenizer = AutoTokenizer.from_pretrained(language_model)
        tokenizer.save_pretrained(folder)
        sizes = {"hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 2, "initializer_range": 0.3}
        more = {} if kind == "gpt2" else {"num_key_value_heads": 1, "intermediate_size": 64}
        config = AutoConfig.for_model(kind, vocab_size=len(tokenizer), **sizes, **more)
        with torch.random.fork_rng():
            torch.manual_seed(1)
            AutoModelForCausalLM.from_config(config).save_pretrained(folder)
        return folder

    return make


@pytest.mark.parametrize(("kind", "budget"), [("llama", 16), ("llama", 1000), ("qwen2", 1000), ("gpt2", 1000)])
def test_states_and_predictions_are_those_of_the_model_on_the_solution_alone(folder_of, kind, budget):
    from transformers import AutoModelForCausalLM

    language_model = folder_of(kind)
    network = AutoModelForCausalLM.from_pretrained(language_model).eval()
    model = CausalModel(language_model, layer=[0, 2, -1], log_probs=True, dtype="float32", device="cpu")
    records = token_records(model.tokenizer, flatten(SOLUTIONS), MarkingScheme(), None)
    readings = dict(model.read(records, budget))
    assert sorted(readings) == [0, 1, 2, 3]
    for i, record in enumerate(records):
        ids = torch.tensor(record.input_ids)
        with torch.inference_mode():
            output = network(ids[None], output_hidden_states=True)
        is_step = record.blocks > 0
        states = torch.stack([output.hidden_states[layer][0] for layer in (0, 2, 4)], dim=1)[is_step]
        np.testing.assert_allclose(readings[i].states, states, atol=1e-5 * float(states.abs().max()))
        before = output.logits[0, :-1].log_softmax(-1)
        own = np.append(np.nan, before.gather(1, ids[1:, None])[:, 0])[is_step]
        entropies = np.append(np.nan, -(before.exp() * before).sum(-1))[is_step]
        np.testing.assert_allclose(readings[i].log_probs, own, atol=1e-4)
        np.testing.assert_allclose(readings[i].entropies, entropies, atol=1e-4)


def test_poolings_are_made_of_the_same_tokens(featurizer):
    X = flatten(SOLUTIONS)
    tokens = featurizer(pooling="tokens", layer=[1, 3]).fit_transform(X)
    rows = {pooling: featurizer(pooling=pooling, layer=[1, 3]).fit_transform(X) for pooling in ("mean", "last")}
    rows["statistics"] = featurizer(pooling="statistics", layer=[1, 3]).fit_transform(X)
    names = featurizer(pooling="statistics", layer=[1, 3]).get_feature_names_out()
    assert names[0] == "layer1_mean_0"
    assert names[-2:].tolist() == ["step_index", "step_tokens"]
    assert rows["statistics"].shape == (len(X), len(names))
    for t, start in enumerate(tokens.starts):
        own = tokens.values[start : start + tokens.lengths[t]].astype(np.float32).reshape(tokens.lengths[t], -1)
        expected = [one(own, axis=0) for one in (np.mean, np.std, np.min, np.max)] + [own[-1]]
        np.testing.assert_allclose(rows["statistics"][t, :-2], np.concatenate(expected), rtol=2e-3, atol=2e-2)
        np.testing.assert_allclose(rows["mean"][t, :-2], expected[0], rtol=2e-3, atol=1e-2)
        np.testing.assert_array_equal(rows["last"][t, :-2], own[-1])
        np.testing.assert_allclose(rows["mean"][t, -2:], np.log1p([X[t].index, len(own)]), rtol=1e-6)
    np.testing.assert_array_equal(tokens.columns, rows["mean"][:, -2:])
    assert tokens.problems.tolist() == [0, 0, 0, 0, 0, 1, 2, 2]


def test_the_cache_answers_without_the_model_and_with_the_same_numbers(featurizer, language_model):
    X = flatten(SOLUTIONS)
    computed = featurizer(log_probs=True).fit_transform(X)
    without = featurizer(log_probs=True, cache=False).fit_transform(X)
    again = pickle.loads(pickle.dumps(clone(featurizer(log_probs=True)).fit(X)))
    with mock.patch.object(CausalModel, "read", side_effect=AssertionError("computed again")):
        np.testing.assert_array_equal(again.transform(X), computed)
        # A step twice, in another order: its solution is the same.
        np.testing.assert_array_equal(again.transform([X[4], X[3], X[4]]), computed[[4, 3, 4]])
    np.testing.assert_array_equal(without, computed)


@pytest.mark.parametrize("scheme", [MarkingScheme(), MarkingScheme(step_separator="#", joint=True)])
def test_a_clone_that_reads_from_the_cache_tokenises_nothing_again(featurizer, scheme):
    X = flatten(SOLUTIONS)
    one = featurizer(scheme=scheme)
    computed = one.fit_transform(X)
    again = "_encode_at_once" if scheme.joint else "_encode_apart"
    with (
        mock.patch.object(SolutionEncoder, again, side_effect=AssertionError("tokenised again")),
        mock.patch("prmkit.features.states.causal_model.load_tokenizer", side_effect=AssertionError("loaded again")),
    ):
        np.testing.assert_array_equal(pickle.loads(pickle.dumps(clone(one))).transform(X), computed)
        with pytest.raises(AssertionError, match="tokenised again"):
            clone(one).transform([*X, *flatten([Solution("Another", ["one"])])])


def test_weights_that_changed_under_the_same_name_never_read_older_rows(featurizer, language_model, tmp_path):
    import shutil

    from safetensors.torch import load_file, save_file

    X, folder = flatten(SOLUTIONS[:1]), tmp_path / "copy"
    shutil.copytree(language_model, folder)
    before = featurizer().set_params(model=folder).fit_transform(X)
    weights = {name: value * 1.5 for name, value in load_file(folder / "model.safetensors").items()}
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    after = featurizer().set_params(model=folder).fit_transform(X)
    assert np.abs(before - after).max() > 0.1


def test_a_thousand_solutions_need_less_than_ten_mebibytes(tmp_path):
    """Eight steps, one layer of width 576, as in the smallest model that is of use."""
    cache = EmbeddingCache(tmp_path)
    blobs = [np.random.default_rng(i).bytes(8 * 576 * 2) for i in range(1000)]
    names = [i.to_bytes(2, "big") * 450 for i in range(1000)]
    cache.put_bytes("states", names, blobs)
    assert cache.path.stat().st_size <= 10 * 2**20
    assert cache.get_bytes("states", [names[7], b"unknown"], [9216] * 2) == [blobs[7], None]
    assert cache.get_bytes("other", names[:1], [9216]) == [None]


@pytest.mark.parametrize("params", [{}, pytest.param({"pooling": "last", "layer": -1}, marks=pytest.mark.slow)])
def test_guarantees_hold(featurizer, params):
    X, y = make_arithmetic_solutions(4, 2, random_state=0)
    one = featurizer(cache=False, **params)
    for check in (check_no_lookahead, check_step_subset_invariance, check_step_order_invariance):
        check(one, X, y, atol=2e-2)
    check_one_pass_per_solution(featurizer(**params), X, y)


def test_it_feeds_classifiers_pipelines_and_searches(featurizer):
    X, y = make_arithmetic_solutions(6, 2, random_state=0)
    classifier = PRMClassifier(featurizer(), LogisticRegression(max_iter=50)).fit(X, y)
    assert classifier.predict_proba(X).shape == (len(X), 3)
    pipeline = make_pipeline(featurizer(), LogisticRegression(max_iter=20))
    scores = cross_val_score(classifier, X, y, groups=problem_groups(X), cv=StratifiedProblemKFold(2))
    assert np.isfinite(scores).all()
    search = GridSearchCV(pipeline, {"prmfeaturizer__layer": [1, 2]}, cv=StratifiedProblemKFold(2)).fit(X, y)
    assert search.best_params_["prmfeaturizer__layer"] in (1, 2)
    grown = featurizer().grow(X[0].problem)
    rows = np.vstack([grown.extend([text]) for text in X[0].solution.steps])
    whole = featurizer(cache=False).transform(flatten([X[0].solution]))
    np.testing.assert_allclose(rows, whole, atol=2e-2)
    assert featurizer()(["2 + 2"]).shape == (1, whole.shape[1])


def test_steps_beyond_what_the_model_reads_are_nan_and_counted(featurizer):
    X = flatten([Solution("Which?", ["one two", "x" * 300, "three"]), SOLUTIONS[0]])
    with pytest.warns(UnscoredWarning, match=r"2 step\(s\) in .* have no states.*256 tokens"):
        rows = featurizer(max_length=256).fit_transform(X)
    assert np.isnan(rows).all(axis=1).tolist() == [False, True, True, False, False]
    with pytest.warns(UnscoredWarning):
        tokens = featurizer(pooling="tokens", max_length=256).fit_transform(X)
    assert tokens.lengths[1:3].tolist() == [0, 0]
    assert np.isnan(tokens.columns[1:3]).all()


def test_a_step_without_tokens_is_nan_and_the_others_keep_their_places(featurizer):
    X = flatten([Solution("Which?", ["one two", "", "three", "four"])])
    for params in ({}, {"pooling": "tokens"}):
        with pytest.warns(UnscoredWarning, match=r"1 step\(s\) in "):
            rows = featurizer(step_separator="", **params).fit_transform(X)
        columns = rows.columns if params else rows[:, -2:]
        np.testing.assert_allclose(columns[:, 0], np.log([1, np.nan, 3, 4]), rtol=1e-6)
        alone = featurizer(step_separator="").fit_transform(X[:1])
        np.testing.assert_array_equal(columns[:1], alone[:, -2:])


@pytest.mark.filterwarnings("error::UserWarning")
def test_records_that_are_read_only_are_read_without_a_warning(language_model):
    model = CausalModel(language_model, layer=[1], log_probs=True, dtype="float32", device="cpu")
    records = token_records(model.tokenizer, flatten(SOLUTIONS), MarkingScheme(), None)
    for record in records:
        for name in ("input_ids", "step_positions", "blocks"):
            getattr(record, name).flags.writeable = False
    assert len(dict(model.read(records, 1000))) == len(records)


def test_what_cannot_be_read_is_an_error_that_says_what_to_do(featurizer, language_model, tiny_model, tmp_path):
    X = flatten(SOLUTIONS[:1])
    with pytest.raises(ValueError, match=r"layer 5 does not exist: .* 0 \(the embeddings\) to 4, or -1"):
        featurizer(layer=[1, 5]).fit_transform(X)
    with pytest.raises(ValueError, match=r"is an encoder .*kind='embeddings'"):
        featurizer().set_params(model=tiny_model).fit_transform(X)
    bare = tmp_path / "bare"
    bare.mkdir()
    for name in ("config.json", "model.safetensors"):
        (bare / name).write_bytes((Path(language_model) / name).read_bytes())
    with pytest.raises(ValueError, match="holds no tokenizer"):
        featurizer().set_params(model=bare).fit_transform(X)
    with pytest.raises(ValueError, match="reads a solution once per step"):
        featurizer(scheme=MarkingScheme("prefix")).fit_transform(X)
    model = featurizer(dtype="float16", cache=False)
    network = model._language_model().network
    with torch.no_grad():
        network.embed_tokens.weight.fill_(6e4)
        network.layers[0].self_attn.o_proj.weight.fill_(6e4)
    with pytest.raises(FloatingPointError, match=r"in float16: .*dtype='float32' or 'bfloat16'"):
        model.fit_transform(X)


@pytest.mark.parametrize("pooling", ["mean", "statistics", "tokens"])
def test_a_state_beyond_float16_is_an_error_that_names_its_layer(featurizer, pooling):
    X = flatten(SOLUTIONS[:1])
    model = featurizer(layer=[0, 2], pooling=pooling, cache=False)
    with torch.no_grad():
        model._language_model().network.layers[1].mlp.down_proj.weight.mul_(1e6)
    with pytest.raises(ValueError, match=r"layer 2 of .* a state of .* ends at 65504: pass another layer"):
        model.fit_transform(X)
    assert np.isfinite(featurizer(layer=[0, 1], pooling="mean").fit_transform(X)).all()


@pytest.mark.slow
@pytest.mark.parametrize("scheme", [None, MarkingScheme(chat="answer")])
def test_a_real_language_model_gives_the_same_states_alone_and_together(scheme, smollm_folder):
    X = flatten([SOLUTIONS[0], Solution("What is 2 + 3?", ["2 + 3 = 5.", "So 6."]), SOLUTIONS[2]])
    options = {"kind": "states", "model": smollm_folder, "scheme": scheme, "dtype": "float32", "cache": False}
    together = PRMFeaturizer(log_probs=True, **options).fit_transform(X)
    alone = np.vstack([PRMFeaturizer(log_probs=True, **options).fit_transform([step]) for step in X])
    assert PRMFeaturizer(**options).get_feature_names_out()[576] == "layer20_mean_0"
    np.testing.assert_allclose(together, alone, rtol=2e-3, atol=2e-3)


def test_a_saved_probe_knows_its_language_model_and_refuses_another(language_model, tmp_path):
    import shutil

    from safetensors.torch import load_file, save_file

    data, folder = make_arithmetic_solutions(12, random_state=0), tmp_path / "copy"
    shutil.copytree(language_model, folder)
    states = PRMFeaturizer(
        kind="states",
        model=folder,
        layer=(1, 2),
        pooling="tokens",
        scheme=MarkingScheme(step_separator="\n"),
        dtype="float32",
        device="cpu",
        cache=False,
    )
    probe = PRMClassifier(states, StepProbe(n_seeds=1, max_epochs=2, random_state=0)).fit(data.X, data.y)
    probe.save(tmp_path / "model")
    assert not [*(tmp_path / "model").rglob("tokenizer*")]  # nor the model behind it
    loaded = PRMClassifier.load(tmp_path / "model")
    np.testing.assert_array_equal(loaded.predict_proba(data.X[:9]), probe.predict_proba(data.X[:9]))
    assert loaded.featurizer_.scheme == MarkingScheme(step_separator="\n")
    weights = {name: value * 1.5 for name, value in load_file(folder / "model.safetensors").items()}
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ValueError, match="copy holds other weights than those it was fitted with"):
        PRMClassifier.load(tmp_path / "model").predict(data.X)
    loaded.fit(data.X, data.y)


def test_further_objectives_of_a_probe_are_saved(featurizer, tmp_path):
    solutions = [
        Solution(f"Is {i} even?", [f"{i} it is"], meta={"final_answer_correct": i % 2 == 0, "kind": ["ab"[i % 2]]})
        for i in range(12)
    ]
    X, y = flatten(solutions), [1, 0, 1] * 4
    head = StepProbe(n_seeds=2, max_epochs=3, outcome_weight=0.5, extra_targets={"kind": 0.1}, random_state=0)
    fitted = PRMClassifier(featurizer(layer=2, pooling="tokens"), head).fit(X, y)
    fitted.save(tmp_path / "model")
    loaded = PRMClassifier.load(tmp_path / "model")
    assert loaded.head_.objectives_ == fitted.head_.objectives_ == {"outcome": (False, True), "kind": ("a", "b")}
    np.testing.assert_array_equal(loaded.predict_proba(X), fitted.predict_proba(X))
    for name in fitted.head_.objectives_:
        expected = fitted.head_.predict_objective(fitted.read(X), name)
        np.testing.assert_array_equal(loaded.head_.predict_objective(loaded.read(X), name), expected)


@pytest.mark.parametrize(
    ("kind", "options"), [("llama", {}), ("gpt2", {"pooling": "statistics"}), ("qwen2", {"layer": [1, -1]})]
)
@pytest.mark.parametrize("log_probs", [False, True])
def test_a_growing_solution_has_the_states_of_the_whole_one(folder_of, kind, options, log_probs):
    solution = Solution("What is 2 + 3?", ["2 + 3 = 5.", "", "Is it?", "So the answer is 5."])
    featurizer = PRMFeaturizer(
        kind="states", model=folder_of(kind), log_probs=log_probs, dtype="float32", device="cpu", cache=False, **options
    )
    whole = featurizer.transform(flatten([solution]))
    growing = featurizer.grow(solution.problem)
    first = growing.extend(solution.steps[:2])
    other = growing.fork()
    other.extend(["Another end."])
    np.testing.assert_allclose(np.vstack([first, growing.extend(solution.steps[2:])]), whole, atol=2e-3, rtol=2e-3)


def test_a_language_model_that_is_nowhere_is_not_replaced_by_an_encoder(tmp_path):
    with pytest.raises(OSError, match="local folder with a language model") as caught:
        PRMFeaturizer(kind="states", model=tmp_path / "nowhere").fit(flatten(SOLUTIONS)).transform(flatten(SOLUTIONS))
    assert "pip install" not in str(caught.value)


def test_new_steps_of_a_growing_solution_are_read_alone(featurizer):
    reader = featurizer(log_probs=True, cache=False).fit(flatten(SOLUTIONS))
    growing = reader.grow("What is 2 + 3?")
    lengths = []
    network = reader._language_model().network
    base = getattr(network, network.base_model_prefix)
    growing.extend(["2 + 3 = 5."])
    hook = base.register_forward_pre_hook(
        lambda _, args, options: lengths.append(options["input_ids"].shape[1]), with_kwargs=True
    )
    growing.extend(["So 6."])
    hook.remove()
    assert len(lengths) == 1
    assert lengths[0] <= len("So 6.") + 3  # a token is a byte, and one is read again


def test_forks_of_a_solution_without_steps_read_the_problem_once(featurizer):
    problem = "What is 2 + 3?"
    reader = featurizer(log_probs=True, cache=False).fit(flatten(SOLUTIONS))
    start = reader.grow(problem)
    forks = [start.fork(), start.fork()]
    lengths = []
    network = reader._language_model().network
    hook = getattr(network, network.base_model_prefix).register_forward_pre_hook(
        lambda _, args, options: lengths.append(options["input_ids"].shape[1]), with_kwargs=True
    )
    forks[0].extend(["2 + 3 = 6."])
    n_passes = len(lengths)
    rows = forks[1].extend(["2 + 3 = 5."])
    hook.remove()
    assert len(lengths) == n_passes + 1
    assert lengths[-1] <= len("2 + 3 = 5.") + 3  # a token is a byte, and one is read again
    whole = reader.transform(flatten([Solution(problem, ["2 + 3 = 5."])]))
    np.testing.assert_allclose(rows, whole, atol=2e-3, rtol=2e-3)


def test_a_probe_scores_a_growing_solution_as_the_whole_one(featurizer):
    data = make_arithmetic_solutions(12, 2, random_state=0)
    clf = PRMClassifier(featurizer(pooling="tokens"), StepProbe(max_epochs=2, random_state=0)).fit(data.X, data.y)
    solution = data.solutions[0]
    scorer = clf.incremental(solution.problem)
    rewards = [reward for step in solution.steps for reward in scorer.extend([step])]
    np.testing.assert_allclose(rewards, clf.score_solutions([solution])[0].rewards, atol=2e-3)


def test_the_warning_of_lost_steps_counts_all_solutions(featurizer):
    X = flatten([SOLUTIONS[0], Solution("Which?", ["x" * 300], id="long"), SOLUTIONS[2]])
    with pytest.warns(UnscoredWarning, match=r"1 step\(s\) in 1 of 3 solutions \('long'\).*HistGradientBoosting"):
        featurizer(max_length=256).fit_transform(X)


@pytest.mark.parametrize(
    "setting", [{"layer": 2}, {"pooling": "last"}, {"log_probs": True}, {"states": "folder"}, {"layer": [0, 1]}]
)
def test_settings_of_states_need_their_kind(setting):
    for kind in ("embeddings", "tokens"):
        with pytest.raises(ValueError, match=f"{next(iter(setting))}=.* kind is '{kind}': pass kind='states'"):
            PRMFeaturizer(kind, **setting).fit(["2 + 2 = 4"])
    with pytest.raises(ValueError, match="pass kind='states'"):
        PRMFeaturizer(**setting).transform(["2 + 2 = 4"])
