"""from_pretrained: published layouts and own folders score as they should, and what cannot be read is said."""

import json
import pickle
import shutil
import warnings
from functools import cache

import numpy as np
import pytest
import torch
import transformers
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from prmkit import PRMClassifier, Solution, flatten
from prmkit.data import make_arithmetic_solutions
from prmkit.features.passes.model_files import load_tokenizer
from prmkit.marking.scheme import MarkingScheme
from prmkit.models import PRMTrainer, PRMTrainingConfig, TokenPRM
from prmkit.models.pretrained._presets import PRESETS, get_preset
from prmkit.models.tokens.model_folder import load_token_model
from prmkit.models.tokens.scoring_pass import NotFiniteError
from prmkit.utils import estimator_checks

SOLUTIONS = [
    Solution("What is 2 + 3 * 4?", ["3 * 4 = 12.", "We add 2 + 12 = 14.", "So the answer is 14."]),
    Solution("What is 2 + 3 * 4?", ["2 + 3 = 5.", "So the answer is 5 * 4."]),
    Solution("What is 1 + 1?", ["1 + 1 = 3."]),
]
DATA = make_arithmetic_solutions(8, 2, error_rate=0.5, random_state=0)
TINY = {"num_hidden_layers": 1, "hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 64}
TINY["initializer_range"] = 0.1


def saved_tokenizer(folder):
    """The tokenizer of ``tokenizer.json``. AutoTokenizer would take the usual one of the architecture."""
    return transformers.PreTrainedTokenizerFast.from_pretrained(folder)


def expected_of(recipe, folder, solution):
    """The published scores of a solution's steps, as probabilities of the worst and the best class."""
    with torch.no_grad():
        scores = recipe(saved_tokenizer(folder), solution).double().numpy()
    if scores.ndim == 2:
        return scores[:, 0], scores[:, -1]
    return 1 - scores, scores


class TestPublished:
    @pytest.mark.parametrize("name", sorted(PRESETS))
    def test_scores_solutions_as_published(self, published, name):
        folder, recipe = published(name)
        classifier = PRMClassifier.from_pretrained(folder, layout=name)
        preset = get_preset(name)
        assert classifier.label_order_ == preset.classes
        assert classifier.classes_.tolist() == sorted(preset.classes)
        scored = classifier.score_solutions(SOLUTIONS)
        for one, solution in zip(scored, SOLUTIONS, strict=True):
            worst, best = expected_of(recipe, folder, solution)
            if preset.activation == "none":  # a raw reward: its sigmoid by convention
                np.testing.assert_allclose(classifier.head_.reward(flatten([solution])), best, atol=1e-5)
                best = 1 / (1 + np.exp(-best))
                worst = 1 - best
            np.testing.assert_allclose(one.risks, worst, atol=1e-5)
            np.testing.assert_allclose(one.rewards, 1 - worst, atol=1e-5)
            np.testing.assert_allclose(one.proba[:, one.classes.index(preset.classes[-1])], best, atol=1e-5)
        rewards = classifier.head_.reward(flatten(SOLUTIONS))
        odds = np.concatenate([one.proba for one in scored])
        odds = odds[:, one.classes.index(preset.classes[-1])] / odds[:, one.classes.index(preset.classes[0])]
        assert (np.argsort(rewards) == np.argsort(odds)).all(), "a higher reward is a better step"

    @pytest.mark.parametrize("name", sorted(PRESETS))
    def test_keeps_the_guarantees(self, published, name):
        folder, _ = published(name)
        head = TokenPRM.from_pretrained(folder, name)

        class Fitted(TokenPRM):  # the checks fit a copy: here nothing is to be learnt
            def fit(self, X, y):
                vars(self).update(vars(head))
                return self

        X = flatten(SOLUTIONS)
        for name in estimator_checks.__all__:
            if name.startswith("check_"):
                getattr(estimator_checks, name)(Fitted(), X, [0] * len(X))

    @pytest.mark.parametrize("scheme", ["tokens", "language model"])
    def test_an_overflow_is_named_and_not_called_too_long(self, tmp_path, make_tokenizer, make_language_model, scheme):
        tokenizer = make_tokenizer()
        kinds = {"tokens": ("AutoModelForTokenClassification", "trl"), "language model": ("AutoModelForCausalLM", None)}
        kind, layout = kinds[scheme]
        model = make_language_model(tokenizer, kind, num_labels=2)
        with torch.no_grad():
            for name, value in model.named_parameters():
                value *= 1 if "norm" in name else 3000
        model.half().save_pretrained(tmp_path)
        tokenizer.save_pretrained(tmp_path)
        layout = layout or MarkingScheme("reward_tokens", step_separator=" #", reward_tokens=("-", "+"))
        X = flatten(SOLUTIONS)
        for too_long in ("drop", "nan"):
            classifier = PRMClassifier.from_pretrained(tmp_path, layout, too_long=too_long)
            for method in (classifier.predict_proba, classifier.predict, classifier.head_.reward):
                with pytest.raises(NotFiniteError, match=r"6 of 6 steps: its activations overflow in float16"):
                    method(X)
        assert np.isfinite(PRMClassifier.from_pretrained(tmp_path, layout, dtype="float32").predict_proba(X)).all()
        with torch.no_grad():
            classifier.head_.scorer_.model.get_input_embeddings().weight.fill_(torch.nan)
        with pytest.raises(NotFiniteError, match="because its weights are not finite"):
            classifier.predict(X)

    def test_wrong_or_missing_preset(self, published):
        folder, _ = published("skywork")
        with pytest.raises(ValueError, match=r"no prmkit.json.* layout=, one of math-shepherd, pqm"):
            PRMClassifier.from_pretrained(folder)
        with pytest.raises(ValueError, match="looks like pqm or skywork"):
            PRMClassifier.from_pretrained(folder, layout="trl")
        with pytest.raises(ValueError, match="no layout 'sky': choose one of"):
            PRMClassifier.from_pretrained(folder, layout="sky")
        with pytest.raises(FileNotFoundError, match="no folder at"):
            PRMClassifier.from_pretrained(folder / "nowhere", layout="trl")

    def test_own_names_for_the_classes(self, published):
        folder, _ = published("trl")
        plain = PRMClassifier.from_pretrained(folder, layout="trl")
        named = PRMClassifier.from_pretrained(folder, layout="trl", classes=["-", "+"])
        assert named.classes_.tolist() == ["+", "-"]
        X = flatten(SOLUTIONS)
        np.testing.assert_array_equal(named.predict_proba(X), plain.predict_proba(X)[:, ::-1])
        assert set(named.predict(X)) <= {"-", "+"}
        one, other = (c.score_solutions(SOLUTIONS)[0].rewards for c in (plain, named))
        np.testing.assert_array_equal(one, other)
        for classes in (["a", "b", "c"], ["a", "a"]):
            with pytest.raises(ValueError, match=r"tells 2 classes apart, worst first: \[0, 1\]"):
                PRMClassifier.from_pretrained(folder, layout="trl", classes=classes)

    def test_options(self, published):
        folder, _ = published("trl")
        head = TokenPRM.from_pretrained(
            folder, "trl", max_length=20, too_long="nan", device="cpu", dtype="bfloat16", show_progress=False
        )
        assert (head.max_length, head.too_long, head.device) == (20, "nan", "cpu")
        assert head.scorer_.model.dtype == torch.bfloat16
        with pytest.warns(UserWarning, match="do not fit"):
            assert np.isnan(head.predict_proba(flatten(SOLUTIONS))).any()
        longest = TokenPRM.from_pretrained(folder, "trl", max_length=9999).scorer_.max_length
        assert longest == 2048, "as many as the model has positions for"
        with pytest.raises(TypeError, match="no option lenght, weights: expected dtype, or a parameter"):
            PRMClassifier.from_pretrained(folder, layout="trl", lenght=1, weights="main")
        with pytest.raises(ValueError, match="'too_long' parameter"):
            PRMClassifier.from_pretrained(folder, layout="trl", too_long="cut")

    def test_parameters_say_how_it_marks(self, published):
        folder, _ = published("qwen2.5-math-prm")
        head = TokenPRM.from_pretrained(folder, "qwen2.5-math-prm")
        assert head.scheme == head.scheme_ == get_preset("qwen2.5-math-prm").scheme
        assert head.step_separator is None
        head = TokenPRM.from_pretrained(published("trl")[0], "trl")
        assert (head.scheme, head.step_separator, head.max_prompt_length) == ("separator", "\n", None)

    @pytest.mark.parametrize("name", ["math-shepherd", "qwen2.5-math-prm", "reasoneval"])
    def test_a_layout_beyond_the_names_is_trained_as_itself(self, published, name):
        folder, _ = published(name)
        classifier = PRMClassifier.from_pretrained(folder, layout=name, num_train_epochs=1, random_state=0)
        again = clone(classifier)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the head is new
            again.fit(flatten(SOLUTIONS), [get_preset(name).classes[i] for i in [0, -1] * 3])
        assert again.head_.scheme_ == classifier.head_.scheme_ == get_preset(name).scheme

    def test_training_goes_on_in_the_layout(self, published):
        folder, _ = published("trl")
        classifier = PRMClassifier.from_pretrained(
            folder, layout="trl", step_separator="\n\n", max_prompt_length=5, num_train_epochs=1, random_state=0
        )
        before = classifier.head_.scheme_
        again = clone(classifier).fit(DATA.X, (np.array(DATA.y) > 0).astype(int))
        assert again.head_.scheme_ == before

    def test_what_no_file_records_can_be_said(self, published):
        folder, _ = published("trl")
        X = flatten(SOLUTIONS)
        plain = TokenPRM.from_pretrained(folder, "trl").reward(X)
        head = TokenPRM.from_pretrained(folder, "trl", step_separator="\n\n", max_prompt_length=3)
        assert (head.scheme_.step_separator, head.scheme_.max_prompt_length) == ("\n\n", 3)
        assert np.abs(head.reward(X) - plain).max() > 1e-3
        again = pickle.loads(pickle.dumps(head))
        np.testing.assert_array_equal(again.predict_proba(X), head.predict_proba(X))
        assert again.scheme_ == head.scheme_

    def test_what_the_model_fixes_cannot_be_changed(self, published):
        folder, _ = published("math-shepherd")
        for option, value in [("step_separator", "\n"), ("reward_tokens", ["no", "yes"]), ("max_prompt_length", 9)]:
            with pytest.raises(ValueError, match=f"{option}=.* which was trained with .*: leave {option} out"):
                PRMClassifier.from_pretrained(folder, layout="math-shepherd", **{option: value})
        same = {"step_separator": " ки", "reward_tokens": [" -", " +"], "max_prompt_length": None}
        PRMClassifier.from_pretrained(folder, layout="math-shepherd", **same)
        with pytest.raises(ValueError, match=r"reward_tokens=.* trained with None"):
            PRMClassifier.from_pretrained(published("trl")[0], layout="trl", reward_tokens=["-", "+"])

    def test_raw_rewards_are_said_to_be_no_probabilities(self):
        assert "PQM" in PRMClassifier.from_pretrained.__doc__
        assert "convention" in PRMClassifier.from_pretrained.__doc__

    @pytest.mark.parametrize("name", sorted(PRESETS))
    def test_a_pickle_holds_the_weights(self, published, name):
        folder, _ = published(name)
        classifier = PRMClassifier.from_pretrained(folder, layout=name)
        X = flatten(SOLUTIONS)
        expected, packed = classifier.predict_proba(X), pickle.dumps(classifier)
        shutil.rmtree(folder)
        np.testing.assert_array_equal(pickle.loads(packed).predict_proba(X), expected)
        np.testing.assert_array_equal(classifier.predict_proba(X), expected)

    def test_layouts_without_a_class_are_not_copied(self, published, tmp_path):
        folder, _ = published("pqm")
        classifier = PRMClassifier.from_pretrained(folder, layout="pqm")
        with pytest.raises(ValueError, match=r"its weights are not copied: keep its folder"):
            classifier.save(tmp_path / "model")
        assert not (tmp_path / "model").exists()

    def test_the_scheme_is_no_option(self, published):
        folder, _ = published("trl")
        with pytest.raises(TypeError, match=r"no option scheme: .* Pass layout="):
            PRMClassifier.from_pretrained(folder, scheme="trl")

    @pytest.mark.parametrize("name", ["trl", "math-shepherd"])
    def test_others_can_be_saved_as_own(self, published, tmp_path, name):
        folder, _ = published(name)
        classifier = PRMClassifier.from_pretrained(folder, layout=name)
        classifier.save(tmp_path / "model")
        expected = classifier.predict_proba(flatten(SOLUTIONS))
        shutil.rmtree(folder)
        loaded = PRMClassifier.load(tmp_path / "model")
        np.testing.assert_allclose(loaded.predict_proba(flatten(SOLUTIONS)), expected, atol=1e-6)
        assert loaded.label_order_ == (0, 1)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Train and save a tiny encoder, once for the same options; return the trainer and a copy of the folder."""

    @cache
    def once(**options):
        folder = tmp_path_factory.mktemp("trained")
        args = PRMTrainingConfig(
            output_dir=folder,
            initialization="random",
            max_steps=2,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            use_cpu=True,
            model_kwargs=TINY,
            **options,
        )
        trainer = PRMTrainer("all-MiniLM-L6-v2", args, train_dataset=DATA)
        trainer.train()
        trainer.save_model()
        return trainer, folder

    def make(**options):
        trainer, folder = once(**options)
        return trainer, shutil.copytree(folder, tmp_path_factory.mktemp("copies") / "trained")

    return make


class TestOwn:
    @pytest.mark.parametrize(
        ("options", "reads_reward"),
        [
            pytest.param({}, False, marks=pytest.mark.slow),
            ({"scheme": "special_token", "loss": "rank"}, True),
            pytest.param({"scheme": "prefix"}, False, marks=pytest.mark.slow),
        ],
    )
    def test_as_the_trainer_evaluates(self, trained, options, reads_reward):
        trainer, folder = trained(**options)
        head = TokenPRM.from_pretrained(folder, show_progress=False)
        classifier = PRMClassifier.from_pretrained(folder)
        assert classifier.label_order_ == ((-1, 1) if reads_reward else (-1, 0, 1))
        assert head.scheme_ == trainer.scheme
        assert (head.scheme, head.max_length) == (trainer.scheme.name, trainer.max_tokens)
        X = flatten(DATA.solutions[:1])
        outputs = trainer.predict(trainer.train_dataset.select([0])).predictions
        outputs = outputs[0][: len(X)]
        proba = classifier.predict_proba(X)[: len(outputs)]
        if reads_reward:
            np.testing.assert_allclose(proba[:, 1], 1 / (1 + np.exp(-outputs)), atol=1e-5)
            np.testing.assert_allclose(head.reward(X), outputs, atol=1e-5)
        else:
            exp = np.exp(outputs - outputs.max(axis=-1, keepdims=True))
            np.testing.assert_allclose(proba, exp / exp.sum(axis=-1, keepdims=True), atol=1e-5)

    @pytest.mark.slow
    def test_refit_goes_on_from_the_weights(self, trained):
        _, folder = trained()
        classifier = PRMClassifier.from_pretrained(folder, num_train_epochs=1, random_state=0)
        expected = classifier.fit(DATA.X, DATA.y).predict_proba(DATA.X[:6])
        again = pickle.loads(pickle.dumps(classifier))
        np.testing.assert_array_equal(again.predict_proba(DATA.X[:6]), expected)

    def test_settings_come_from_the_folder(self, trained):
        _, folder = trained(max_prompt_length=6, loss="rank")
        head = TokenPRM.from_pretrained(folder)
        assert (head.max_prompt_length, head.loss) == (6, "rank")
        with pytest.raises(ValueError, match=r"max_prompt_length=7 .* trained with 6: leave"):
            TokenPRM.from_pretrained(folder, max_prompt_length=7)
        with pytest.raises(ValueError, match=r"step_separator=.*: leave step_separator out"):
            PRMClassifier.from_pretrained(folder, step_separator="###")
        with pytest.raises(TypeError, match="no option label_order"):
            PRMClassifier.from_pretrained(folder, label_order=[1, -1])

    @pytest.mark.slow
    def test_another_head_is_drawn_anew_and_said(self, trained):
        _, folder = trained(loss="rank")
        head = TokenPRM(folder, loss="cross_entropy", num_train_epochs=1, random_state=0, show_progress=False)
        with pytest.warns(UserWarning, match="the head of .* drawn anew: found 1 outputs, .* need 3"):
            head.fit(DATA.X, DATA.y)
        assert head.predict_proba(DATA.X[:2]).shape == (2, 3)
        scheme = MarkingScheme()
        with pytest.raises(ValueError, match=r"classifier.* of .* has shape \(1,.*needs \(3,"):
            load_token_model(folder, scheme, 3, whole=True)
        config = transformers.AutoConfig.from_pretrained(folder)
        config.intermediate_size = 48
        config.save_pretrained(folder)
        with pytest.raises(ValueError, match=r"intermediate.* has shape \(64.* needs \(48"):
            load_token_model(folder, scheme, 1)

    def test_a_folder_with_the_first_names_of_the_settings(self, trained):
        _, folder = trained()
        expected = PRMClassifier.from_pretrained(folder).predict_proba(DATA.X[:6])
        description = folder / "prmkit.json"
        fields = json.loads(description.read_text())
        scheme = fields["scheme"]
        scheme["marker"] = scheme.pop("step_separator")
        scheme["max_problem_length"] = scheme.pop("max_prompt_length")
        description.write_text(json.dumps({**fields, "format": 1}))
        found = PRMClassifier.from_pretrained(folder).predict_proba(DATA.X[:6])
        np.testing.assert_array_equal(found, expected)
        description.write_text(json.dumps({**fields, "format": 9}))
        with pytest.raises(ValueError, match="format 9, this prmkit reads 1 to 2"):
            PRMClassifier.from_pretrained(folder)

    def test_damaged_weights_are_named(self, trained):
        _, folder = trained()
        file = folder / "model.safetensors"
        file.write_bytes(file.read_bytes()[:-1000])
        with pytest.raises(ValueError, match=r"model\.safetensors is damaged or was cut off"):
            PRMClassifier.from_pretrained(folder)

    def test_a_missing_tokenizer(self, trained):
        _, folder = trained()
        (folder / "tokenizer.json").unlink()
        with pytest.raises(ValueError, match=r"holds no tokenizer: expected tokenizer\.json"):
            PRMClassifier.from_pretrained(folder)

    def test_a_damaged_description_or_other_tokenizer(self, trained):
        _, folder = trained()
        description = folder / "prmkit.json"
        text = description.read_text()
        description.write_text(text.replace('"fingerprint": "', '"fingerprint": "0'))
        with pytest.raises(ValueError, match="encodes a text otherwise than when the model was saved"):
            PRMClassifier.from_pretrained(folder)
        description.write_text(text[:50])
        with pytest.raises(ValueError, match=r"prmkit\.json cannot be read"):
            PRMClassifier.from_pretrained(folder)
        description.write_text(text)
        (folder / "model.safetensors").unlink()
        with pytest.raises((OSError, ValueError), match="safetensors"):
            PRMClassifier.from_pretrained(folder)

    @pytest.mark.parametrize("scheme", ["separator", pytest.param("special_token", marks=pytest.mark.slow)])
    def test_adapters(self, tmp_path, scheme):
        peft = pytest.importorskip("peft")
        base = tmp_path / "base"
        config = transformers.BertConfig(vocab_size=30522, **TINY)
        with torch.random.fork_rng():
            transformers.BertModel(config).save_pretrained(base)
        load_tokenizer("all-MiniLM-L6-v2").save_pretrained(base)
        args = PRMTrainingConfig(
            output_dir=tmp_path / "adapter",
            scheme=scheme,
            max_steps=3,
            learning_rate=1e-2,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            use_cpu=True,
        )
        adapter = peft.LoraConfig(task_type="TOKEN_CLS", target_modules=["query"], r=2)
        trainer = PRMTrainer(str(base), args, train_dataset=DATA, peft_config=adapter)
        trainer.train()
        trainer.save_model()
        outputs = trainer.predict(trainer.train_dataset.select([0])).predictions[0]
        rewards = TokenPRM.from_pretrained(tmp_path / "adapter").reward(flatten(DATA.solutions[:1]))
        np.testing.assert_allclose(rewards, (outputs[:, -1] - outputs[:, 0])[: len(rewards)], atol=1e-5)


def test_random_weights_need_none_on_disk(tmp_path, make_tokenizer):
    tokenizer = make_tokenizer()
    tokenizer.save_pretrained(tmp_path)
    transformers.BertConfig(vocab_size=len(tokenizer), **TINY).save_pretrained(tmp_path)
    head = TokenPRM(tmp_path, initialization="random", num_train_epochs=1, random_state=0, show_progress=False)
    assert head.fit(DATA.X, DATA.y).predict_proba(DATA.X[:2]).shape == (2, 3)
    with pytest.raises(ValueError, match="weights as"):
        clone(head).set_params(initialization="pretrained").fit(DATA.X, DATA.y)


def test_random_weights_fetch_none_from_the_hub(tmp_path, make_tokenizer, monkeypatch):
    import huggingface_hub

    tokenizer = make_tokenizer()
    tokenizer.save_pretrained(tmp_path)
    transformers.BertConfig(vocab_size=len(tokenizer), **TINY).save_pretrained(tmp_path)
    asked = []

    def fetch(repo, *, allow_patterns, local_files_only, **_):
        asked.append((repo, *allow_patterns))
        if local_files_only:
            raise FileNotFoundError(repo)
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetch)
    load_tokenizer("org/name")
    load_token_model("org/name", MarkingScheme(), 2, initialization="random")
    assert {repo for repo, *_ in asked} == {"org/name"}
    assert not any("safetensors" in pattern or "bin" in pattern for _, *patterns in asked for pattern in patterns)


def test_an_architecture_without_the_head(tmp_path):
    transformers.BartConfig(vocab_size=50, d_model=8, encoder_layers=1, decoder_layers=1).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"none for a bart: choose scheme='reward_tokens' or .*another model"):
        load_token_model(tmp_path, MarkingScheme(), 2, initialization="random")


@pytest.fixture
def classifier_of(tmp_path, make_tokenizer, make_language_model):
    """A published token classifier whose outputs have these names."""

    def make(names):
        tokenizer = make_tokenizer()
        labels = {"id2label": dict(enumerate(names)), "label2id": {name: i for i, name in enumerate(names)}}
        model = make_language_model(tokenizer, "AutoModelForTokenClassification", **labels)
        for item in (model, tokenizer):
            item.save_pretrained(tmp_path)
        return tmp_path

    return make


@pytest.mark.parametrize("layout", ["trl", MarkingScheme(step_separator="\n")], ids=["trl", "own marking"])
def test_names_of_outputs_tell_their_order(classifier_of, layout):
    X, names = flatten(SOLUTIONS), ["negative", "neutral", "positive"]
    worst_first = PRMClassifier.from_pretrained(classifier_of(names), layout)
    assert worst_first.label_order_ == tuple(names)
    expected = worst_first.predict_proba(X)
    assert np.ptp(expected, axis=0).min() > 0.01, "a comparison of constants would prove nothing"
    # The same weights under other names are another model: its column of "negative" is the last output.
    turned = PRMClassifier.from_pretrained(classifier_of(names[::-1]), layout)
    assert turned.label_order_ == tuple(names)
    np.testing.assert_allclose(turned.predict_proba(X), expected[:, ::-1], atol=1e-6)
    np.testing.assert_allclose(turned.score_solutions(SOLUTIONS[:1])[0].risks, expected[:3, 2], atol=1e-6)
    mixed = PRMClassifier.from_pretrained(classifier_of(["Neutral", "Right", "Wrong"]), layout, classes=[-1, 0, 1])
    np.testing.assert_allclose(mixed.predict_proba(X), expected[:, [2, 0, 1]], atol=1e-6)
    own = PRMClassifier.from_pretrained(classifier_of(["fair", "poor"]), layout, classes=["poor", "fair"])
    assert own.label_order_ == ("poor", "fair")
    assert own.head_.module_.config.id2label == {0: "poor", 1: "fair"}


def test_outputs_without_an_order_are_refused(classifier_of):
    own = MarkingScheme(step_separator="\n")
    with pytest.raises(ValueError, match=r"named \['fair', 'poor'\], which does not tell their order: pass classes="):
        PRMClassifier.from_pretrained(classifier_of(["fair", "poor"]), "trl")
    for names, layout in ((["LABEL_0", "LABEL_1", "LABEL_2"], "trl"), (["LABEL_0", "LABEL_1"], own)):
        folder = classifier_of(names)
        with pytest.raises(ValueError, match=r"outputs without names .*classes=\[worst"):
            PRMClassifier.from_pretrained(folder, layout)
        classes = ["a", "b", "c"][: len(names)]
        assert PRMClassifier.from_pretrained(folder, layout, classes=classes).label_order_ == tuple(classes)


def test_not_fitted():
    with pytest.raises(NotFittedError):
        PRMClassifier("tokens").predict_proba(flatten(SOLUTIONS))


@pytest.mark.parametrize("digits", [1, 3])
@pytest.mark.parametrize("family", ["Qwen2", "Llama", "Mistral"])
def test_the_tokenizer_is_that_of_its_file(tmp_path, family, digits):
    """``AutoTokenizer`` builds the usual tokenizer of an architecture over the vocabulary, and forgets the rest."""
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers

    inner = Tokenizer(models.BPE(unk_token="<unk>"))
    parts = [pre_tokenizers.Split(Regex(rf"\d{{1,{digits}}}| ?[^\s\d]+|\s+"), "isolated")]
    inner.pre_tokenizer = pre_tokenizers.Sequence([*parts, pre_tokenizers.ByteLevel(False, use_regex=False)])
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=320, special_tokens=["<unk>", "<pad>"], initial_alphabet=alphabet, show_progress=False
    )
    inner.train_from_iterator(["We add 123 + 4567 = 4690.\n", "2 + 123 = 125 .\n"] * 5, trainer)
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="<unk>", pad_token="<pad>")
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 4}
    sizes |= {"num_key_value_heads": 2, "vocab_size": len(tokenizer), "pad_token_id": 1, "initializer_range": 0.3}
    config = getattr(transformers, f"{family}Config")(**sizes, num_labels=2)
    transformers.AutoModelForTokenClassification.from_config(config).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    text = "We add 123 + 4567 = 4690.\n"
    read = PRMClassifier.from_pretrained(tmp_path, "trl").head_.scorer_.tokenizer
    assert read(text)["input_ids"] == tokenizer(text)["input_ids"]
    assert (read.unk_token, read.pad_token_id) == ("<unk>", 1)
