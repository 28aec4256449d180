"""Objectives beside the steps: exact losses and gradients, solutions with an outcome alone, heads that are saved."""

import pickle

import datasets
import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy
from transformers import AutoModelForTokenClassification

from prmkit import PRMClassifier, Solution, StepDataset, TokenPRM, flatten
from prmkit.models import PRMTrainer
from prmkit.models.losses import get_loss

BOTH = {"outcome_weight": 0.5, "extra_targets": {"kind": 0.25}}
SGD = {"optim": "sgd", "learning_rate": 0.1, "max_steps": 1, "max_grad_norm": 0.0, "lr_scheduler_type": "constant"}
TINY = {"num_hidden_layers": 1, "hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 64}


@pytest.fixture(scope="module")
def rows(make_rows):
    """Rows with all kinds of gaps: no outcome, no kind of a step, no labelled step, nothing but an outcome."""
    rows = make_rows(10, max_steps=5)
    for i, row in enumerate(rows):
        n = len(row["completions"])
        row["final_answer_correct"] = (True, False, None)[i % 3]
        row["kind"] = [("slip", "copy", None)[(i + k) % 3] for k in range(n)] if i % 4 else None
        if i in (3, 7):
            row["labels"] = [None] * n
        if i == 7:
            row["kind"] = None
    return rows


def solutions_of(rows):
    metas = [{name: row[name] for name in ("final_answer_correct", "kind")} for row in rows]
    return [Solution(row["prompt"], row["completions"], meta=meta) for row, meta in zip(rows, metas, strict=True)]


def as_dataset(rows):
    solutions = solutions_of(rows)
    labelled = [
        (solution, index, label)
        for solution, row in zip(solutions, rows, strict=True)
        for index, label in enumerate(row["labels"])
        if label is not None
    ]
    X = [flatten([solution])[index] for solution, index, _ in labelled]
    return StepDataset(X, [label for _, _, label in labelled], solutions=solutions)


def draw_head(trainer):
    """Weights other than zero, so that the further losses reach the whole model."""
    head = trainer.model.objectives
    with torch.no_grad():
        for weight in head.parameters():
            weight.copy_(torch.randn(weight.shape, generator=torch.Generator().manual_seed(0)) * 0.3)
    return trainer


def by_hand(trainer, rows):
    """The joint loss written anew: a pass per solution, states and heads by hand, means over all targets."""
    model, tokenizer = trainer.model, trainer.processing_class
    terms = {"labels": [], "outcome": [], "kind": []}
    kinds = ["copy", "slip"]
    for row in rows:
        ids, ends = tokenizer(row["prompt"], add_special_tokens=False)["input_ids"], []
        for step in row["completions"]:
            ids = ids + tokenizer(step, add_special_tokens=False)["input_ids"]
            ids = ids + tokenizer("\n", add_special_tokens=False)["input_ids"]
            ends.append(len(ids) - 1)
        states = model.model(torch.tensor([ids])).last_hidden_state[0, ends]
        further = states @ model.objectives.weight.T + model.objectives.bias
        for logits, label in zip(model.score(states), row["labels"], strict=True):
            if label is not None:
                terms["labels"].append(cross_entropy(logits, torch.tensor(int(label))))
        if row["final_answer_correct"] is not None:
            target = torch.tensor(int(row["final_answer_correct"]))
            terms["outcome"].append(cross_entropy(further[-1, :2], target))
        for logits, kind in zip(further[:, 2:], row["kind"] or [], strict=row["kind"] is not None):
            if kind is not None:
                terms["kind"].append(cross_entropy(logits, torch.tensor(kinds.index(kind))))
    return {name: torch.stack(values).mean() for name, values in terms.items()}


def test_loss_and_gradient_are_those_of_a_computation_by_hand(rows, make_trainer):
    trainer = draw_head(make_trainer(rows, gradient_checkpointing=False, **BOTH))
    assert [(one.name, one.weight, one.classes) for one in trainer.objectives] == [
        ("outcome", 0.5, (False, True)),
        ("kind", 0.25, ("copy", "slip")),
    ]
    means = by_hand(trainer, rows)
    expected = means["labels"] + 0.5 * means["outcome"] + 0.25 * means["kind"]
    expected.backward()
    gradients = {name: weight.grad.clone() for name, weight in trainer.model.named_parameters()}
    trainer.model.zero_grad()
    loss = trainer.compute_loss(trainer.model, trainer.data_collator(list(trainer.train_dataset)))
    loss.backward()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    for name, weight in trainer.model.named_parameters():
        torch.testing.assert_close(weight.grad, gradients[name], rtol=1e-4, atol=1e-6)
    # An evaluation says each mean by itself.
    metrics = trainer.evaluate(rows)
    found = [metrics[f"eval_{name}"] for name in ("loss", "outcome_loss", "kind_loss")]
    assert found == pytest.approx([means[name].item() for name in ("labels", "outcome", "kind")], rel=1e-5)


@pytest.mark.parametrize("options", [{}, pytest.param({"scheme": "reward_tokens"}, marks=pytest.mark.slow)])
def test_accumulated_batches_are_one_large_batch(rows, make_trainer, options):
    whole = draw_head(make_trainer(rows, tokens_per_batch=100_000, **SGD, **BOTH, **options))
    n_batches = len(make_trainer(rows, tokens_per_batch=110).get_train_dataloader())
    assert n_batches > 3
    accumulated = {"tokens_per_batch": 110, "gradient_accumulation_steps": n_batches}
    parts = draw_head(make_trainer(rows, **accumulated, **SGD, **BOTH, **options))
    for trainer in (whole, parts):
        trainer.train()
    first, second = ([log["loss"] for log in one.state.log_history if "loss" in log] for one in (whole, parts))
    assert second == pytest.approx(first, rel=1e-6)
    for (name, one), (_, other) in zip(whole.model.named_parameters(), parts.model.named_parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-6, msg=name)


def test_without_weights_nothing_changes(rows, make_rows, make_trainer):
    plain = [{name: row[name] for name in ("prompt", "completions", "labels")} for row in rows]
    trainers = [make_trainer(plain), make_trainer(rows, outcome_weight=0.0, extra_targets={"kind": 0})]
    for trainer in trainers:
        trainer.train()
    first, second = (trainer.model.state_dict() for trainer in trainers)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_new_head_changes_no_other_weight_before_training(rows, settings):
    bert = {"initialization": "random", "model_kwargs": TINY}
    first, second = (
        PRMTrainer("all-MiniLM-L6-v2", settings(**bert, **more), train_dataset=rows).model.state_dict()
        for more in ({}, BOTH)
    )
    assert second.keys() - first.keys() == {"objectives.weight", "objectives.bias"}
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_every_kind_of_data_set_gives_the_same_rows(rows, make_trainer):
    kinds = [rows, as_dataset(rows), datasets.Dataset.from_list(rows)]
    stream = datasets.Dataset.from_list(rows).to_iterable_dataset()
    found = [make_trainer(kind, **BOTH).train_dataset.to_list() for kind in kinds]
    found.append(list(make_trainer(stream, **BOTH).train_dataset))
    unordered = [sorted(map(repr, map(dict.items, part))) for part in found]
    assert len(found[0]) == 10
    assert all(part == unordered[0] for part in unordered)


def test_a_solution_with_an_outcome_alone_adds_no_loss_of_steps(rows, make_trainer):
    trainer = draw_head(make_trainer([rows[0], rows[7]], outcome_weight=2.0))
    assert trainer.row_report.n_further == 2
    batch = trainer.data_collator([trainer.train_dataset[1]])
    assert batch["labels"].tolist() == [[-100]]
    assert batch["objectives"].tolist() == [[[int(rows[7]["final_answer_correct"])]]]
    loss = trainer.compute_loss(trainer.model, batch)
    loss.backward()
    outputs, (outcome,) = trainer._outputs(trainer.model, batch)
    assert trainer._totals(outputs, [outcome], batch)[0].item() == 0
    assert loss.item() == pytest.approx(2 * get_loss("cross_entropy")(outcome, batch["objectives"][..., 0]).item())
    assert float(trainer.model.score.weight.grad.abs().max()) == 0
    assert float(trainer.model.model.embed_tokens.weight.grad.abs().max()) > 0


def test_an_outcome_is_lost_with_the_end_of_its_solution_and_counted(rows, make_trainer):
    row = max(rows, key=lambda row: len(row["completions"])) | {"final_answer_correct": True}
    whole = make_trainer([row], outcome_weight=1.0)
    length = len(whole.train_dataset[0]["input_ids"])
    with pytest.warns(UserWarning, match="so are 1 of 2 outcomes and extra targets"):
        cut = make_trainer([row, rows[0]], outcome_weight=1.0, max_length=length - 1)
    assert set(cut.train_dataset[0]["target_outcome"]) == {-100}
    assert cut.row_report.n_lost_further == 1


@pytest.mark.slow
@pytest.mark.parametrize("lora", [False, True])
def test_heads_are_saved_and_read_back(rows, settings, make_tokenizer, make_language_model, tmp_path, lora):
    tokenizer = make_tokenizer()
    for part in (make_language_model(tokenizer), tokenizer):
        part.save_pretrained(tmp_path / "base")
    peft_config = None
    if lora:
        peft_config = pytest.importorskip("peft").LoraConfig(r=4, target_modules="all-linear", task_type="TOKEN_CLS")
    args = settings(max_steps=3, learning_rate=1e-2, save_strategy="steps", save_steps=2, **BOTH)
    trainer = PRMTrainer(tmp_path / "base", args, train_dataset=rows, peft_config=peft_config)
    trainer.train()
    trainer.save_model(tmp_path / "saved")
    read = TokenPRM.from_pretrained(tmp_path / "saved", show_progress=False)
    assert read.objectives_ == {"outcome": (False, True), "kind": ("copy", "slip")}
    X = flatten(solutions_of(rows))
    batch = trainer.data_collator(list(trainer.train_dataset))
    with torch.no_grad():
        _, (outcome, _) = trainer._outputs(trainer.model.eval(), batch)
    codes = batch["objectives"]
    at_ends = outcome.softmax(-1)[codes[..., 0] != -100].numpy()
    known = [one for one in solutions_of(rows) if one.meta["final_answer_correct"] is not None]
    assert np.ptp(at_ends[:, 1]) > 1e-4
    ends = [flatten([one])[-1] for one in known]
    np.testing.assert_allclose(read.predict_objective(ends), at_ends, atol=1e-5)
    for copy in (read, pickle.loads(pickle.dumps(read)), saved_again(tmp_path)):
        assert copy.predict_objective(X, "kind").shape == (len(X), 2)
        np.testing.assert_array_equal(copy.predict_objective(X, "kind"), read.predict_objective(X, "kind"))
        np.testing.assert_array_equal(copy.predict_proba(X), read.predict_proba(X))
    if not lora:
        plain = AutoModelForTokenClassification.from_pretrained(tmp_path / "saved")
        assert torch.equal(plain.score.weight, trainer.model.score.weight)
        # A run that starts from the folder keeps the heads, as it keeps the head of the steps.
        again = PRMTrainer(tmp_path / "saved", args, train_dataset=rows)
        assert torch.equal(again.model.objectives.weight, trainer.model.objectives.weight)
        with pytest.raises(ValueError, match="was trained with objectives"):
            PRMTrainer(tmp_path / "base", settings(), train_dataset=rows).train(f"{args.output_dir}/checkpoint-2")
    resumed = PRMTrainer(tmp_path / "base", args, train_dataset=rows, peft_config=peft_config)
    resumed.train(resume_from_checkpoint=f"{args.output_dir}/checkpoint-2")
    for name, weight in trainer.model.named_parameters():
        torch.testing.assert_close(dict(resumed.model.named_parameters())[name], weight, rtol=0, atol=1e-6)


def saved_again(tmp_path):
    clf = PRMClassifier.from_pretrained(tmp_path / "saved", show_progress=False)
    clf.save(tmp_path / "clf")
    return PRMClassifier.load(tmp_path / "clf").head_


@pytest.fixture(scope="module")
def fitted(rows):
    data = as_dataset(rows)
    others = [solution for solution, row in zip(solutions_of(rows), rows, strict=True) if set(row["labels"]) == {None}]
    head = TokenPRM(
        initialization="random", model_kwargs=TINY, num_train_epochs=2, random_state=0, show_progress=False, **BOTH
    )
    return head.fit(data.X, data.y, unlabelled=others), data


def test_token_prm_reads_outcomes_from_the_solutions(fitted):
    head, data = fitted
    proba = head.predict_objective(data.X)
    assert proba.shape == (len(data.X), 2)
    np.testing.assert_allclose(proba.sum(axis=1), 1)
    # No look-ahead: an objective is read as a step is.
    cut = Solution(data.X[0].problem, data.X[0].solution.steps[:1])
    np.testing.assert_allclose(head.predict_objective(flatten([cut])), proba[:1], atol=1e-6)
    with pytest.raises(ValueError, match=r"no objective 'style', expected one of \['outcome', 'kind'\]"):
        head.predict_objective(data.X, "style")


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (
            {"final_answer_correct": "yes"},
            {"outcome_weight": 1},
            "row 0: final_answer_correct is 'yes', expected one of",
        ),
        ({"final_answer_correct": 2}, {"outcome_weight": 1}, "is 2, expected one of False, True, or None"),
        ({}, {"outcome_weight": -0.5}, "outcome_weight has the weight -0.5, expected a finite number of at least 0"),
        ({}, {"extra_targets": {"kind": float("nan")}}, "kind has the weight nan"),
        ({}, {"extra_targets": {"kind": "much"}}, "kind has the weight 'much'"),
        ({"kind": [{"slip": 1}]}, {"extra_targets": {"kind": 1}}, "kind of a step is {'slip': 1}, expected a text"),
        ({}, {"extra_targets": {"outcome": 1}}, "outcome_weight is the weight of outcomes"),
        ({}, {"extra_targets": {"style": 1}}, "'style', and its values are .., expected two classes"),
        ({"kind": "slip"}, {"extra_targets": {"kind": 1}}, "row 0: kind is 'slip', expected a list of"),
        ({"kind": ["slip"] * 9}, {"extra_targets": {"kind": 1}}, "row 0: kind is 9 values, expected a list of"),
        ({"kind": [0.5]}, {"extra_targets": {"kind": 1}}, "kind of a step is 0.5, expected a text"),
        ({}, {"outcome_weight": 1, "scheme": "prefix"}, "need the solution as a whole: choose scheme='separator'"),
    ],
)
def test_what_cannot_be_learnt_is_named(rows, make_trainer, change, options, message):
    with pytest.raises(ValueError, match=message):
        make_trainer([rows[0] | change, *rows[1:]], **options)


def test_missing_outcomes_are_named(rows, make_rows, make_trainer, tiny_tokenizer):
    with pytest.raises(ValueError, match="no solution says whether its final answer is right"):
        make_trainer(make_rows(3), outcome_weight=1.0)
    tokens = [{"input_ids": [1, 2], "labels": [-100, 1]}, {"input_ids": [1, 2], "labels": [-100, 0]}]
    with pytest.raises(ValueError, match="pre-tokenised rows hold no outcome"):
        make_trainer(tokens, outcome_weight=1.0)
    twice = as_dataset(rows[:2])
    other = Solution(twice.solutions[0].problem, twice.solutions[0].steps, meta={"final_answer_correct": False})
    with pytest.raises(ValueError, match="occurs twice, with final_answer_correct True and False"):
        make_trainer(StepDataset(twice.X, twice.y, solutions=[*twice.solutions, other]), outcome_weight=1.0)
    with pytest.raises(ValueError, match="unlabelled holds 1 solutions: set outcome_weight"):
        TokenPRM().fit(twice.X, twice.y, unlabelled=[other])
    with pytest.raises(TypeError, match="Solution"):
        TokenPRM(outcome_weight=1.0).fit(twice.X, twice.y, unlabelled=flatten([other]))


def test_a_class_beyond_the_training_data_is_named(rows, make_trainer):
    trainer = make_trainer(rows, extra_targets={"kind": 1.0})
    strange = rows[1] | {"kind": ["slope"] * len(rows[1]["completions"])}
    with pytest.raises(ValueError, match="row 0: kind is 'slope', expected one of 'copy', 'slip'"):
        trainer.evaluate([strange])
