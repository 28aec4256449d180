"""Common beginnings of rows are computed once, and every row keeps the scores that it has alone."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
)

from prmkit import PRMClassifier, Solution, flatten
from prmkit.marking.encoding import MarkedTokens
from prmkit.models.pretrained._presets import PRESETS
from prmkit.models.pretrained._published import ValueHeadModel
from prmkit.models.tokens.scoring_pass import Readout, score_marked

SIZE = {
    "vocab_size": 60,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "initializer_range": 0.3,
    "pad_token_id": 0,
    "bos_token_id": None,
    "eos_token_id": None,
}
REWARDS = Readout("language_model", "classes", (3, 5))
BLOCKS = Readout("tokens", by_blocks=True)
# Positions of ALiBi come from the mask, the states of Mamba from the token before.
SHARING = ["llama", "qwen2", "mistral", "gpt2", "gemma2", "gemma3_text", "opt", "gpt_neox", "phi", "mixtral"]
ALONE = ["bloom", "mamba"]


def build(kind, auto=AutoModelForCausalLM, **options):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return auto.from_config(AutoConfig.for_model(kind, **SIZE | options)).eval()


def row(ids, generator):
    """A row of blocks of three tokens, marked at some tokens."""
    ids = np.asarray(ids, dtype=np.int64)
    marks = np.unique(generator.integers(len(ids), size=3))
    return MarkedTokens(ids, marks, np.arange(len(ids)) // 3)


def grown(seed=0, n=7):
    """Rows that begin like each other: a tree grown at random, with two equal rows, a cut one and a stranger."""
    generator = np.random.default_rng(seed)
    rows = [list(generator.integers(1, 59, 12))]
    for _ in range(n):
        begun = rows[generator.integers(len(rows))]
        cut = generator.integers(6, len(begun) + 1)
        rows.append([*begun[:cut], *generator.integers(1, 59, generator.integers(16))])
    rows += [rows[1], rows[2][:8], [59, *generator.integers(1, 59, 9)]]
    return [row(rows[i], generator) for i in generator.permutation(len(rows))]


def scores(model, rows, readout=REWARDS, **options):
    return score_marked(model, rows, readout, pad_token_id=0, device="cpu", **options)


def computed(model, rows, readout=REWARDS, **options):
    """The scores, and how many tokens the model embedded."""
    scores(model, rows, readout)  # the first call tries the model
    counts = []
    hook = model.get_input_embeddings().register_forward_hook(lambda _, ids, __: counts.append(ids[0].numel()))
    try:
        return scores(model, rows, readout, **options), sum(counts)
    finally:
        hook.remove()


def n_beginnings(rows):
    return len({tuple(one.input_ids[:end]) for one in rows for end in range(1, len(one.input_ids) + 1)})


def assert_same_as_alone(model, rows, found, readout=REWARDS, atol=2e-5):
    for one, scored in zip(rows, found, strict=True):
        np.testing.assert_allclose(scored, scores(model, [one], readout)[0], atol=atol)


@pytest.mark.parametrize(("kind", "budget"), [*((kind, 8192) for kind in SHARING), ("llama", 7), ("gpt2", 1)])
def test_each_distinct_beginning_is_computed_once(kind, budget):
    model, rows = build(kind), grown()
    found, n_tokens = computed(model, rows, tokens_per_batch=budget)
    assert n_tokens == n_beginnings(rows)
    assert_same_as_alone(model, rows, found)


@pytest.mark.parametrize("kind", ALONE)
def test_a_model_that_cannot_share_computes_padded_rows(kind):
    model, rows = build(kind), grown()
    found, n_tokens = computed(model, rows)
    assert n_tokens >= sum(len(one.input_ids) for one in rows)
    assert_same_as_alone(model, rows, found)


def test_rows_without_a_common_beginning_are_batched_as_before():
    generator = np.random.default_rng(0)
    rows = [row([first, *generator.integers(1, 60, 9)], generator) for first in range(1, 7)]
    model = build("llama")
    tried = []
    hook = model.get_input_embeddings().register_forward_hook(lambda _, ids, __: tried.append(ids[0].shape))
    found = scores(model, rows)
    hook.remove()
    assert tried == [(6, 10)]
    assert_same_as_alone(model, rows, found)
    assert scores(model, []) == []


@pytest.mark.parametrize("kind", ["mistral", "gemma2"])
def test_a_row_longer_than_a_window_is_computed_by_itself(kind):
    model, rows = build(kind, sliding_window=20, layer_types=["sliding_attention"] * 2), grown()
    found, n_tokens = computed(model, rows)
    assert n_beginnings(rows) < n_tokens < sum(len(one.input_ids) for one in rows)
    assert_same_as_alone(model, rows, found)


def test_half_precision_differs_by_its_rounding():
    model, rows = build("llama").to(torch.bfloat16), grown()
    found, n_tokens = computed(model, rows)
    assert n_tokens == n_beginnings(rows)
    exact = scores(build("llama"), rows)
    spread = np.concatenate(exact).std()
    assert max(np.abs(one - other).max() for one, other in zip(found, exact, strict=True)) < 0.1 * spread


def test_a_value_head_shares_too():
    backbone = build("qwen2").model
    backbone.config.value_head = {"widths": [32, 2], "bias": [True]}
    model, rows = ValueHeadModel(backbone.config, backbone).eval(), grown()
    readout = Readout("tokens", "reward")
    found, n_tokens = computed(model, rows, readout)
    assert n_tokens == n_beginnings(rows)
    assert_same_as_alone(model, rows, found, readout)


@pytest.mark.parametrize(("kind", "can_share"), [("llama", True), ("gpt2", True), ("bert", False)])
def test_growing_rows_of_a_sequence_classifier_take_one_pass(kind, can_share):
    model = build(kind, AutoModelForSequenceClassification, num_labels=3)
    readout, ids = Readout("sequence"), np.random.default_rng(0).integers(1, 60, 40)
    rows = [MarkedTokens(ids[:end], np.array([end - 1]), np.arange(end)) for end in (9, 14, 22, 31, 40)]
    found, n_tokens = computed(model, rows, readout)
    assert (n_tokens == 40) == can_share
    assert_same_as_alone(model, rows, found, readout)
    # The model takes padding for no token, wherever it stands.
    rows.append(MarkedTokens(np.append(ids[:30], 0), np.array([30]), np.arange(31)))
    assert_same_as_alone(model, rows, scores(model, rows, readout), readout)


@pytest.mark.parametrize("kind", ["bert", "roberta", "electra", "deberta-v2"])
def test_an_encoder_shares_whole_blocks(kind):
    options = {"type_vocab_size": 2, "embedding_size": 32} if kind != "deberta-v2" else {"relative_attention": True}
    model, rows = build(kind, AutoModelForTokenClassification, **options), grown()
    found, n_tokens = computed(model, rows, BLOCKS)
    assert_same_as_alone(model, rows, found, BLOCKS)
    whole = {
        (tuple(one.input_ids[:end]), (one.blocks[:end] == one.blocks[end - 1]).sum())
        for one in rows
        for end in np.append(np.flatnonzero(np.diff(one.blocks)) + 1, len(one.input_ids))
    }
    n_distinct = sum(size for _, size in whole)
    # Relative positions of DeBERTa are places in the batch, which a tree has not.
    assert n_tokens == n_distinct if kind != "deberta-v2" else n_tokens > n_distinct


def test_a_tree_leaves_the_model_as_it_was():
    model = build("qwen2")
    before = model.config._attn_implementation
    scores(model, grown())
    assert model.config._attn_implementation == before


def test_threads_that_share_a_model_do_not_disturb_each_other():
    model, batches = build("llama"), [grown(seed) for seed in range(3)]
    lonely = [[one] for one in batches[0][:6]]
    expected = [scores(model, rows) for rows in batches + lonely]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda rows: scores(model, rows), (batches + lonely) * 3))
    for one, other in zip(found, expected * 3, strict=True):
        np.testing.assert_allclose(np.concatenate(one), np.concatenate(other), atol=2e-5)


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_candidates_of_a_published_model_share_their_problem(published, name):
    classifier = PRMClassifier.from_pretrained(published(name)[0], name, too_long="nan", show_progress=False)
    problem, begun = "What is 2 + 3 * 4?", ["3 * 4 = 12.", "We add 2 + 12."]
    candidates = [Solution(problem, begun + last) for last in ([], ["So 14."], ["So 15."], ["So 15.", "No, 14."])]
    one_by_one = np.concatenate([classifier.predict_proba(flatten([one])) for one in candidates])
    model = classifier.head_.scorer_.model
    counts = []
    model.get_input_embeddings().register_forward_hook(lambda _, ids, __: counts.append(ids[0].numel()))
    classifier.predict_proba(flatten(candidates[:2]))  # tries the model
    counts.clear()
    found = classifier.predict_proba(flatten(candidates))
    shared = sum(counts)
    counts.clear()
    classifier.predict_proba(flatten(candidates[3:]))
    np.testing.assert_allclose(found, one_by_one, atol=1e-5)
    # Beside the longest candidate there are at most two short steps, where each candidate by itself has the problem.
    assert shared < 1.75 * sum(counts)
