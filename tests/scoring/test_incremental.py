"""IncrementalScorer: a growing solution has the scores of scoring afresh, at the cost of what is new."""

import copy
import pickle
import warnings
from contextlib import contextmanager
from itertools import pairwise

import numpy as np
import pytest
import torch
import transformers
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.tree import DecisionTreeClassifier

from prmkit import PRMClassifier, Solution, flatten, score_solutions
from prmkit.data import make_arithmetic_solutions
from prmkit.features import PRMFeaturizer, StepStatistics, StepWords
from prmkit.features.passes.past import Past
from prmkit.features.statistics import _step_statistics
from prmkit.marking import MarkingScheme
from prmkit.marking.encoding import encode_solution
from prmkit.models import StepBlend, StepMLP, StepTransformer, TokenPRM
from prmkit.models.tokens.incremental_pass import _block_start, advance
from prmkit.models.tokens.model_folder import adapt_model, make_readout, model_class
from prmkit.models.tokens.probabilities import ProbabilityMap
from prmkit.models.tokens.scoring_pass import TokenScorer
from prmkit.scoring import IncrementalScorer
from prmkit.uncertainty import CalibratedStepClassifier, MCDropout, StepEnsemble

PROBLEM = "Ann has 3 boxes of 14 pens. She gives 5 away. How many are left?"
TEXTS = [
    "3 boxes of 14 pens are 3 * 14 = 42 pens.",
    "",
    "She gives 5 away, so 42 - 5 = 37 are left.",
    "Wait, 3 * 14 = 44.\n\nSo 44 - 5 = 39.",
    "The answer is 37.",
    "Step 2: therefore x = 37 − 0",
]


@pytest.fixture(scope="module")
def data():
    return make_arithmetic_solutions(15, 2, random_state=0)


def plain(data):
    return PRMClassifier(StepStatistics()).fit(data.X, data.y)


def mlp(data):
    head = StepMLP(hidden_size=16, max_epochs=2, random_state=0)
    return PRMClassifier(StepStatistics(), head).fit(data.X, data.y)


def calibrated(data):
    other = make_arithmetic_solutions(10, 2, random_state=5)
    inner = PRMClassifier(StepStatistics(), DecisionTreeClassifier(max_depth=3)).fit(other.X, other.y)
    return CalibratedStepClassifier(inner, method="temperature").fit(data.X, data.y)


class Lengths(TransformerMixin, BaseEstimator):
    """The characters of a step and of those before. A step may break it."""

    def fit(self, X, y=None):
        return self

    def transform(self, X):
        if any(step.text == "fail" for step in X):
            raise RuntimeError("this one not")
        return np.array([[len(step.text), sum(map(len, step.prefix))] for step in X])


KINDS = {
    "rows": plain,
    "pipeline": lambda data: make_pipeline(StepWords(), LogisticRegression()).fit(data.X, data.y),
    "features in a pipeline": lambda data: PRMClassifier(make_pipeline(StepWords()), LogisticRegression()).fit(
        data.X, data.y
    ),
    "blend": lambda data: PRMClassifier(head=StepBlend(StepStatistics(), n_trees=2)).fit(data.X, data.y),
    "mlp": mlp,
    "transformer": lambda data: PRMClassifier(
        StepStatistics(), StepTransformer(hidden_size=16, n_layers=2, n_heads=2, max_epochs=1, random_state=0)
    ).fit(data.X, data.y),
    "calibrated": calibrated,
    "ensemble": lambda data: StepEnsemble(
        PRMClassifier(StepStatistics(), DecisionTreeClassifier(max_depth=3)), n_members=3, random_state=0
    ).fit(data.X, data.y),
    "dropout": lambda data: MCDropout(mlp(data), n_members=3),
}


@pytest.fixture(scope="module", params=KINDS)
def classifier(request, data):
    return KINDS[request.param](data)


@pytest.fixture(scope="module")
def fitted(data):
    return plain(data)


def afresh(classifier, scorer):
    (scored,) = score_solutions(classifier, [Solution(scorer.problem, scorer.steps)], scorer.label_order)
    return scored


def grow_and_compare(classifier, rng, *, texts=TEXTS, problems=(PROBLEM, ""), n_rounds=12, most_steps=8, atol=1e-5):
    """Extend and fork at random, two problems in turns, and compare every scorer with scoring afresh."""
    scorers = [IncrementalScorer(classifier, problem) for problem in problems]
    for _ in range(n_rounds):
        scorer = scorers[rng.integers(len(scorers))]
        if rng.random() < 0.4:
            scorer = scorer.fork()
            scorers.append(scorer)
        new = [texts[i] for i in rng.integers(len(texts), size=rng.integers(4))]
        if scorer.n_steps + len(new) > most_steps:
            continue
        before = scorer.steps
        rewards = scorer.extend(iter(new))
        assert scorer.steps == (*before, *new)
        assert rewards.shape == (len(new),)
        np.testing.assert_array_equal(rewards, scorer.rewards[len(before) :])
    for scorer in scorers:
        if scorer.n_steps:
            expected = afresh(classifier, scorer)
            np.testing.assert_allclose(scorer.proba, expected.proba, atol=atol)
            np.testing.assert_allclose(scorer.risks, expected.risks, atol=atol)
            assert scorer.scored().aggregates == pytest.approx(expected.aggregates, abs=10 * atol)
    assert sum(scorer.n_steps > 2 for scorer in scorers) >= 2


def test_random_growth_equals_scoring_afresh(classifier):
    grow_and_compare(classifier, np.random.default_rng(3))


def test_several_that_grow_together_are_those_that_grow_alone(classifier):
    start = IncrementalScorer(classifier, PROBLEM)
    start.extend(TEXTS[:2])
    together = [start.fork(), start.fork(), IncrementalScorer(classifier, "1 + 1?"), IncrementalScorer(classifier, "")]
    alone = [one.fork() for one in together]
    for new in ([TEXTS[2:4], TEXTS[3:4], TEXTS[:1], []], [TEXTS[4:5], TEXTS[5:], TEXTS[1:4], TEXTS[:2]]):
        found = IncrementalScorer.extend_together(together, new)
        expected = [one.extend(steps) for one, steps in zip(alone, new, strict=True)]
        assert [len(rewards) for rewards in found] == [len(steps) for steps in new]
        np.testing.assert_allclose(np.concatenate(found), np.concatenate(expected), atol=1e-5)
    for one, other in zip(together, alone, strict=True):
        assert one.steps == other.steps
        np.testing.assert_allclose(one.proba, other.proba, atol=1e-5)


class TestTogether:
    def test_an_error_leaves_all_of_them_where_they_stood(self, data):
        classifier = PRMClassifier(Lengths(), LogisticRegression()).fit(data.X, data.y)
        scorers = [classifier.incremental(PROBLEM) for _ in range(2)]
        IncrementalScorer.extend_together(scorers, [["a"], ["b", "c"]])
        with pytest.raises(RuntimeError, match="this one not"):
            IncrementalScorer.extend_together(scorers, [["d"], ["fail"]])
        assert [one.steps for one in scorers] == [("a",), ("b", "c")]
        IncrementalScorer.extend_together(scorers, [["d"], ["e"]])
        for one in scorers:
            np.testing.assert_allclose(one.proba, afresh(classifier, one).proba)

    def test_scorers_are_different_ones_of_one_classifier(self, data, fitted):
        one, other = fitted.incremental(PROBLEM), plain(data).incremental(PROBLEM)
        for scorers in ([one, one], [one, other]):
            with pytest.raises(ValueError, match="repeated or of different"):
                IncrementalScorer.extend_together(scorers, [["a"], ["b"]])
        with pytest.raises(ValueError, match="1 lists of steps"):
            IncrementalScorer.extend_together([one, one.fork()], [["a"]])
        assert IncrementalScorer.extend_together([], []) == []

    def test_new_texts_are_encoded_in_one_batch(self, data, monkeypatch):
        batches = []

        def encode(_, texts, place=None):
            batches.append(list(texts))
            return np.stack([np.random.default_rng(list(text.encode())).normal(size=8) for text in texts]).astype("f4")

        monkeypatch.setattr(PRMFeaturizer, "_encode", encode)
        classifier = PRMClassifier(PRMFeaturizer(context="prefix"), LogisticRegression()).fit(data.X, data.y)
        scorers = [classifier.incremental(PROBLEM) for _ in range(3)]
        batches.clear()
        IncrementalScorer.extend_together(scorers, [["a"], ["b"], ["a"]])
        IncrementalScorer.extend_together(scorers, [["c"], ["d"], ["e"]])
        assert batches == [[PROBLEM, "a", "b"], ["c", "d", "e"]]


class TestTheScorer:
    def test_one_call_or_one_step_at_a_time(self, fitted):
        at_once, by_step = fitted.incremental(PROBLEM), fitted.incremental(PROBLEM)
        rewards = at_once.extend(TEXTS)
        assert [by_step.extend([text])[0] for text in TEXTS] == pytest.approx(rewards)
        assert by_step.steps == at_once.steps == tuple(TEXTS)
        assert by_step.problem == PROBLEM

    def test_no_steps(self, fitted):
        scorer = fitted.incremental(PROBLEM)
        assert scorer.extend([]).shape == (0,)
        assert (scorer.n_steps, scorer.proba.shape, scorer.rewards.shape) == (0, (0, 3), (0,))
        with pytest.raises(ValueError, match="no steps"):
            scorer.scored()

    def test_forks_do_not_see_each_other(self, fitted):
        scorer = fitted.incremental(PROBLEM)
        scorer.extend(TEXTS[:2])
        one = scorer.fork()
        two = one.fork()
        one.extend(["It is 1."])
        two.extend(["It is 2.", "It is 3."])
        assert [s.steps[2:] for s in (scorer, one, two)] == [(), ("It is 1.",), ("It is 2.", "It is 3.")]

    def test_what_it_gives_away_is_a_copy(self, fitted):
        scorer = fitted.incremental(PROBLEM)
        scorer.extend(TEXTS[:2])
        scorer.proba[:] = 0.0
        scorer.risks[:] = 0.0
        assert (scorer.proba > 0).all()
        assert (scorer.risks > 0).all()

    @pytest.mark.parametrize(("steps", "named"), [("3 + 4 = 7.", "one string"), (["fine", 3], r"steps\[1\]")])
    def test_steps_that_are_no_texts(self, fitted, steps, named):
        scorer = fitted.incremental(PROBLEM)
        with pytest.raises(TypeError, match=named):
            scorer.extend(steps)
        assert scorer.n_steps == 0

    def test_settings_are_checked(self, fitted):
        with pytest.raises(TypeError, match="problem"):
            fitted.incremental(None)
        with pytest.raises(ValueError, match="too_long"):
            fitted.incremental(PROBLEM, too_long="drop")
        with pytest.raises(ValueError, match="label_order"):
            fitted.incremental(PROBLEM, [0, 1])

    def test_unfitted_classifiers_are_refused(self):
        with pytest.raises(ValueError, match="not fitted"):
            PRMClassifier().incremental(PROBLEM)

    def test_the_order_of_labels_can_be_given(self, data):
        names = np.array(["x", "y", "z"])[np.asarray(data.y) + 1]
        classifier = PRMClassifier(StepStatistics()).fit(data.X, names)
        scorer = classifier.incremental(PROBLEM, ["y", "z", "x"])
        scorer.extend(TEXTS[:1])
        assert scorer.risks[0] == scorer.proba[0, 1]
        with pytest.raises(ValueError, match="order"):
            classifier.incremental(PROBLEM)

    def test_another_fit_is_noticed(self, data):
        classifier = calibrated(data)
        scorer = classifier.incremental(PROBLEM)
        scorer.extend(TEXTS[:1])
        fork = scorer.fork()
        classifier.classifier_.fit(data.X, data.y)
        for one in (scorer, fork):
            with pytest.raises(ValueError, match="fitted again"):
                one.extend(TEXTS[1:2])
            assert one.n_steps == 1

    def test_an_error_leaves_the_scorer_where_it_stood(self, data):
        classifier = PRMClassifier(Lengths(), LogisticRegression()).fit(data.X, data.y)
        scorer = classifier.incremental(PROBLEM)
        scorer.extend(TEXTS[:2])
        with pytest.raises(RuntimeError, match="this one not"):
            scorer.extend([TEXTS[2], "fail", TEXTS[3]])
        fork = scorer.fork()
        assert (scorer.n_steps, fork.n_steps) == (2, 2)
        for one in (scorer, fork):
            one.extend(TEXTS[3:5])
            np.testing.assert_allclose(one.proba, afresh(classifier, one).proba, atol=1e-8)

    @pytest.mark.parametrize("copied", [copy.deepcopy, lambda scorer: pickle.loads(pickle.dumps(scorer))])
    def test_copies_grow_too(self, classifier, copied):
        scorer = IncrementalScorer(classifier, PROBLEM)
        scorer.extend(TEXTS[:2])
        other = copied(scorer)
        other.extend(TEXTS[2:4])
        assert scorer.n_steps == 2
        np.testing.assert_allclose(other.proba, afresh(classifier, other).proba, atol=1e-5)


class TestFeatures:
    @pytest.mark.parametrize("context", ["none", "problem", "prefix"])
    @pytest.mark.parametrize("problem", [PROBLEM, ""])
    def test_each_text_is_encoded_once(self, monkeypatch, context, problem):
        """Forks share the embeddings of the steps so far. The texts are many, since long solutions go by blocks."""
        encoded = []

        def encode(_, texts, place=None):
            encoded.extend(texts)
            return np.stack([np.random.default_rng(list(text.encode())).normal(size=24) for text in texts]).astype("f4")

        monkeypatch.setattr(PRMFeaturizer, "_encode", encode)
        featurizer = PRMFeaturizer(context=context)
        texts = [f"{text} ({i})" for i, text in enumerate(TEXTS * 25)]
        expected = featurizer.transform(flatten([Solution(problem, texts)]))
        encoded.clear()
        grown = featurizer.grow(problem)
        for start, end in pairwise([0, 3, 4, 60, 66, 129, 130, 150]):
            fork = grown.fork()
            for one in (grown, fork):
                np.testing.assert_allclose(one.extend(texts[start:end]), expected[start:end], rtol=1e-5, atol=1e-5)
        # One fork of each state has encoded the new texts too.
        read_first = 2 if context != "none" and problem else 0
        assert len(encoded) == 2 * len(texts) + read_first

    def test_statistics_go_on_where_they_stopped(self, monkeypatch):
        expected = StepStatistics().transform(flatten([Solution(PROBLEM, TEXTS * 3)]))
        read = []
        text_of = _step_statistics._Text.of
        monkeypatch.setattr(_step_statistics._Text, "of", lambda raw: read.append(raw) or text_of(raw))
        grown = StepStatistics().grow(PROBLEM)
        rows = [grown.extend([text]) for text in TEXTS * 2]
        assert len(read) == 1 + 2 * len(TEXTS)
        fork = grown.fork()
        for one in (grown, fork):
            np.testing.assert_array_equal(np.concatenate([*rows, one.extend(TEXTS)]), expected)

    def test_frames_stay_frames(self, data):
        head = DecisionTreeClassifier(max_depth=3)
        classifier = PRMClassifier(StepStatistics().set_output(transform="pandas"), head).fit(data.X, data.y)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            scorer = classifier.incremental(PROBLEM)
            scorer.extend(TEXTS[:3])
        np.testing.assert_allclose(scorer.proba, afresh(classifier, scorer).proba, atol=1e-12)

    def test_precomputed_features_cannot_grow(self, data):
        rows = StepStatistics().transform(data.X)
        classifier = PRMClassifier("precomputed", DecisionTreeClassifier(max_depth=3)).fit(rows, data.y)
        with pytest.raises(TypeError, match="precomputed"):
            classifier.incremental(PROBLEM)

    def test_a_step_is_one_position_of_the_transformer(self, data):
        classifier = KINDS["transformer"](data)
        scorer = classifier.incremental(PROBLEM)
        positions = []
        scorer.extend(TEXTS[:2])
        hook = classifier.head_.module_.backbone.register_forward_hook(
            lambda _, args, output: positions.append(output.last_hidden_state.shape[1])
        )
        for text in TEXTS:
            scorer.extend([text])
        hook.remove()
        assert positions == [1] * len(TEXTS)

    def test_members_of_an_ensemble_share_what_is_read(self, data, monkeypatch):
        ensemble = KINDS["ensemble"](data)
        scorer = ensemble.incremental(PROBLEM)
        scorer.extend(TEXTS[:2])
        read = []
        reading = _step_statistics._Reading.read
        monkeypatch.setattr(
            _step_statistics._Reading, "read", lambda self, steps: read.append(len(steps)) or reading(self, steps)
        )
        scorer.extend(TEXTS[2:3])
        assert read == [1]


CHAT = (
    "{% for message in messages %}<|{{ message['role'] }}|>{{ message['content'] }}<eos>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
SIZES = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 512,
    "initializer_range": 0.3,
    "pad_token_id": 0,
    "bos_token_id": None,
    "eos_token_id": None,
}
# Whether keys and values are kept, and what the sizes above do not say.
ARCHITECTURES = {
    "Llama": (True, {"num_key_value_heads": 2}),
    "Mistral": (True, {"num_key_value_heads": 2, "sliding_window": 5}),
    "Gemma2": (True, {"num_key_value_heads": 2, "sliding_window": 6, "head_dim": 8}),
    "GPT2": (True, {}),
    "OPT": (True, {"ffn_dim": 64, "word_embed_proj_dim": 32}),
    "Bert": (True, {}),
    "Roberta": (True, {}),
    "DistilBert": (False, {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 64}),
    "Mamba": (False, {}),
}
# The others run with the slow tests.
BY_DEFAULT = ("Llama", "Mistral", "Bert", "Mamba")
SOME_BY_DEFAULT = [
    pytest.param(name, marks=() if name in BY_DEFAULT else pytest.mark.slow, id=name) for name in ARCHITECTURES
]
SCHEMES = {
    "separator": MarkingScheme(),
    "several tokens close a step": MarkingScheme(step_separator=" so the\n", between=" "),
    "nothing closes a step": MarkingScheme(step_separator="", step="Step {number}: {step}"),
    "special token": MarkingScheme("special_token"),
    "reward tokens": MarkingScheme("reward_tokens", reward_tokens=("-", "+")),
    "at once": MarkingScheme("reward_tokens", reward_tokens=("-", "+"), step_separator="\n", joint=True),
    "a chat": MarkingScheme("special_token", chat="answer", system="Think."),
    "turns": MarkingScheme("reward_tokens", reward_tokens=("-", "+"), step_separator="", chat="turns"),
    "short problems": MarkingScheme(max_prompt_length=7),
    "a row per step": MarkingScheme("prefix"),
}


@pytest.fixture(scope="module")
def make_head(make_tokenizer):
    """Build a token head around a small random model, fitted without a training."""

    def make(name="Llama", scheme=None, *, max_length=512, too_long="drop", **options):
        scheme = scheme or MarkingScheme()
        tokenizer = make_tokenizer(bos="<s>", extra=("<|user|>", "<|assistant|>", "<|system|>"))
        tokenizer.chat_template = CHAT
        config = getattr(transformers, f"{name}Config")(
            vocab_size=len(tokenizer) + 3, **{**SIZES, **ARCHITECTURES[name][1], **options}
        )
        kind = model_class(config, scheme)
        with torch.random.fork_rng():
            torch.manual_seed(1)
            model = (getattr(kind, "from_config", None) or kind._from_config)(config).eval()
        adapt_model(model, tokenizer, scheme)
        readout = make_readout(model, tokenizer, scheme, "classes")
        scorer = TokenScorer(model, tokenizer, scheme, readout, max_length, (0, 1))
        head = TokenPRM(label_order=[0, 1], too_long=too_long, show_progress=False)
        return head.restore(scorer, ProbabilityMap.uncalibrated("classes"), np.array([0, 1]))

    return make


def tokens_of(head, scorer):
    scheme, tokenizer = head.scorer_.scheme, head.scorer_.tokenizer
    return len(encode_solution(tokenizer, Solution(scorer.problem, scorer.steps), scorer.n_steps, scheme).input_ids)


@contextmanager
def embedded(head):
    """Count the tokens that the model reads."""
    counts = []
    layer = head.module_.get_input_embeddings()
    hook = layer.register_forward_hook(lambda _, args, output: counts.append(output.shape[0] * output.shape[1]))
    try:
        yield counts
    finally:
        hook.remove()


class TestTokenModels:
    @pytest.mark.parametrize("name", SOME_BY_DEFAULT)
    def test_random_growth(self, make_head, name):
        grow_and_compare(make_head(name), np.random.default_rng(1), n_rounds=8, most_steps=6)

    @pytest.mark.parametrize("name", SCHEMES)
    def test_schemes(self, make_head, name):
        head = make_head("Llama", SCHEMES[name])
        texts = [text for text in TEXTS if text or name != "nothing closes a step"]
        grow_and_compare(head, np.random.default_rng(2), texts=texts, n_rounds=6, most_steps=5)

    @pytest.mark.parametrize("name", SOME_BY_DEFAULT)
    def test_only_new_tokens_are_read(self, make_head, name):
        """The first steps bring the problem. Every later one costs its own tokens, however many came before."""
        head, (is_kept, _) = make_head(name), ARCHITECTURES[name]
        scorer = IncrementalScorer(head, PROBLEM)
        scorer.extend([TEXTS[0]])
        for t in range(1, 7):
            known = tokens_of(head, scorer)
            with embedded(head) as counts:
                scorer.extend([TEXTS[t % len(TEXTS)]])
            total = tokens_of(head, scorer)
            assert sum(counts) == (total - known if is_kept else total)

    def test_forks_and_other_problems_cost_nothing(self, make_head):
        head = make_head()
        scorer, other = IncrementalScorer(head, PROBLEM), IncrementalScorer(head, "What is 2 + 2?")
        scorer.extend(TEXTS)
        other.extend(TEXTS[:1])
        before = tokens_of(head, scorer)
        forks = [scorer.fork() for _ in range(3)]
        with embedded(head) as counts:
            for fork in forks:
                fork.extend(["It is 37."])
                other.extend(["It is 4."])
        assert sum(counts[::2]) == 3 * (tokens_of(head, forks[0]) - before)
        assert len(set(counts[1::2])) == 1

    @pytest.mark.parametrize("name", SOME_BY_DEFAULT)
    def test_forks_without_steps_read_the_problem_once(self, make_head, name):
        head, (is_kept, _) = make_head(name), ARCHITECTURES[name]
        start = IncrementalScorer(head, PROBLEM)
        forks = [start.fork() for _ in range(3)]
        with embedded(head) as counts:
            for fork, text in zip(forks, TEXTS, strict=False):
                fork.extend([text])
        first, *others = (tokens_of(head, fork) for fork in forks)
        n_problem = tokens_of(head, start)
        assert sum(counts) == first + sum(total - n_problem * is_kept for total in others)
        for fork in forks:
            np.testing.assert_allclose(fork.proba, afresh(head, fork).proba, atol=1e-5)

    def test_a_fork_that_is_gone_leaves_the_problem_alone(self, make_head):
        head = make_head()
        start = IncrementalScorer(head, PROBLEM)
        start.fork().extend(TEXTS)
        fork = start.fork()
        fork.extend(["It is 3."])
        layers = [pair for _, piece in fork._growing.inner._past._pieces for pair in piece]
        n_bytes = sum(one.untyped_storage().nbytes() for pair in layers for one in pair)
        assert n_bytes == tokens_of(head, fork) * 2 * 2 * 2 * 8 * 4

    def test_forks_keep_one_copy_of_what_they_share(self, make_head):
        head = make_head()
        scorer = IncrementalScorer(head, PROBLEM)
        scorer.extend(TEXTS)
        n_shared = tokens_of(head, scorer)
        forks = [scorer.fork() for _ in range(4)]
        for number, fork in enumerate(forks):
            fork.extend([f"It is {number}."])
        n_new = sum(tokens_of(head, fork) - n_shared for fork in forks)
        pasts = [fork._growing.inner._past for fork in forks]
        layers = [pair for past in pasts for _, piece in past._pieces for pair in piece]
        storages = {one.untyped_storage().data_ptr(): one.untyped_storage().nbytes() for pair in layers for one in pair}
        # Keys and values of two layers, two heads and eight numbers of four bytes.
        assert sum(storages.values()) == (n_shared + n_new) * 2 * 2 * 2 * 8 * 4
        assert pasts[0].n_bytes == tokens_of(head, forks[0]) * 2 * 2 * 2 * 8 * 4

    @pytest.mark.parametrize("by_blocks", [False, True])
    def test_the_model_stays_as_it_was(self, make_head, by_blocks):
        head = make_head("Bert" if by_blocks else "Llama")
        head.module_.train()
        weights = {name: weight.clone() for name, weight in head.module_.state_dict().items()}
        scorer = IncrementalScorer(head, PROBLEM)
        scorer.extend(TEXTS[:2])
        scorer.extend(TEXTS[2:3])
        assert head.module_.training
        assert next(head.module_.parameters()).device.type == "cpu"
        for name, weight in head.module_.state_dict().items():
            assert torch.equal(weight, weights[name])
        np.testing.assert_allclose(scorer.proba, afresh(head, scorer).proba, atol=1e-5)

    @pytest.mark.parametrize("too_long", ["drop", "raise"])
    def test_steps_beyond_the_length_are_an_error(self, make_head, too_long):
        head = make_head(max_length=60, too_long=too_long)
        scorer = IncrementalScorer(head, "2 + 2?")
        scorer.extend(["It is 4."])
        with pytest.raises(ValueError, match="max_length"):
            scorer.extend(["It is 4." * 20])
        assert scorer.steps == ("It is 4.",)
        scorer.extend(["So 4."])
        np.testing.assert_allclose(scorer.proba, afresh(head, scorer).proba, atol=1e-5)

    def test_steps_beyond_the_length_are_nan_if_asked(self, make_head):
        head = make_head(max_length=60)
        scorer = IncrementalScorer(head, "2 + 2?", too_long="nan")
        scorer.extend(["It is 4."])
        fork = scorer.fork()
        with pytest.warns(UserWarning, match="no score"):
            rewards = scorer.extend(["So 4.", "It is 4." * 20, "4"])
        assert np.isnan(rewards).tolist() == [False, True, True]
        with pytest.warns(UserWarning, match="no score"):
            assert np.isnan(scorer.extend(["5"])).all()
        with pytest.warns(UserWarning, match="no score"):
            (expected,) = head_scores(head, scorer, too_long="nan")
        np.testing.assert_allclose(scorer.proba, expected.proba, atol=1e-5)
        assert not np.isnan(fork.extend(["So 4."])).any()

    def test_steps_without_a_token_are_nan_if_asked(self, make_head):
        head = make_head(scheme=MarkingScheme(step_separator=""), too_long="nan")
        scorer = IncrementalScorer(head, "2 + 2?")
        with pytest.warns(UserWarning, match="no score"):
            scorer.extend(["It is 4.", ""])
        scorer.extend(["So 4."])
        with pytest.warns(UserWarning, match="no score"):
            expected = afresh(head, scorer)
        np.testing.assert_allclose(scorer.proba, expected.proba, atol=1e-5)
        assert np.isnan(scorer.risks).tolist() == [False, True, False]

    @pytest.mark.parametrize("rope", ["dynamic", "longrope"])
    def test_positions_that_depend_on_the_length_are_read_afresh(self, make_head, rope):
        factors = {"short_factor": [1.0] * 4, "long_factor": [2.0] * 4} if rope == "longrope" else {"factor": 2.0}
        head = make_head(rope_parameters={"rope_type": rope, "rope_theta": 10_000.0, **factors})
        scorer = IncrementalScorer(head, PROBLEM)
        scorer.extend(TEXTS[:1])
        with embedded(head) as counts:
            scorer.extend(TEXTS[1:2])
        assert sum(counts) == tokens_of(head, scorer)

    @pytest.mark.parametrize("name", ["Mistral", "GPT2"])
    def test_tokens_can_be_taken_back(self, make_head, name):
        head = make_head(name)
        ids = torch.arange(5, 45)
        model, readout = head.module_, head.scorer_.readout
        past = Past()
        for part in (ids[:7], ids[7:20], ids[20:33]):
            _, past = advance(model, past, part, torch.tensor([len(part) - 1]), readout)
        for n_kept in (0, 3, 7, 12, 33):
            other = torch.cat([ids[:n_kept], ids.flip(0)[:9]])
            found, whole = advance(model, past.cut(n_kept), other[n_kept:], torch.tensor([8]), readout)
            expected, _ = advance(model, Past(), other, torch.tensor([n_kept + 8]), readout)
            torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
            assert len(whole) == n_kept + 9
        assert len(past) == 33

    def test_a_tokenizer_that_reads_on_over_the_end(self):
        """A cut goes back to where a block begins, since tokens of a block see the later ones of it."""
        old, new = np.array([0, 0, 1, 1, 1]), np.array([0, 0, 1, 1, 2, 2])
        assert [_block_start((old, new), at) for at in (5, 4, 3, 2, 1, 0)] == [2, 2, 2, 2, 0, 0]
        assert _block_start((old, np.array([0, 0, 1, 1, 1, 2])), 5) == 5


def head_scores(head, scorer, **options):
    return score_solutions(head, [Solution(scorer.problem, scorer.steps)], **options)
