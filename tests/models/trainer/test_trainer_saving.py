"""What a trained model's folder holds, who can load it, and what would be uploaded."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

from prmkit import PRMClassifier, Solution, flatten
from prmkit.marking import MarkingScheme
from prmkit.marking.encoding import encode_solution
from prmkit.models import PRMTrainer
from prmkit.models.tokens.model_folder import write_description


@pytest.fixture
def base(tmp_path, make_tokenizer, make_language_model):
    """A folder with a small random language model and its tokenizer, as published."""

    def make(kind="AutoModelForCausalLM"):
        tokenizer = make_tokenizer()
        make_language_model(tokenizer, kind).save_pretrained(tmp_path / "base")
        tokenizer.save_pretrained(tmp_path / "base")
        return tmp_path / "base"

    return make


def as_steps(rows):
    return flatten([Solution(row["prompt"], row["completions"]) for row in rows])


def in_use(trainer, rows):
    """The trained model's probabilities for every step, worst class first."""
    predicted = trainer.predict(rows)
    outputs = torch.from_numpy(predicted.predictions[predicted.label_ids != -100])
    if outputs.ndim == 2:
        return outputs.softmax(-1).numpy()
    right = outputs.sigmoid().numpy()
    return np.stack([1 - right, right], axis=1)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"backbone": "bert"},
        {"loss": "bce", "n_outputs": 1},
        {"scheme": "special_token"},
        {"scheme": "special_token", "backbone": "bert", "step_separator": "[STEP]"},
        {"scheme": "prefix"},
        {"scheme": "prefix", "backbone": "bert"},
        {"scheme": "reward_tokens", "loss": "reward_token", "loss_options": {"full_vocabulary": True}},
        {"scheme": "reward_tokens", "loss": "mse"},
    ],
    ids=lambda options: "-".join(map(str, options.values())) or "default",
)
def test_a_saved_model_scores_as_the_trained_one(make_rows, make_trainer, options, tmp_path):
    rows = make_rows(5)
    trainer = make_trainer(rows, max_steps=3, learning_rate=1e-2, **options)
    trainer.train()
    trainer.save_model(tmp_path / "saved")
    clf = PRMClassifier.from_pretrained(tmp_path / "saved")
    assert clf.classes_.tolist() == [False, True]
    np.testing.assert_allclose(clf.predict_proba(as_steps(rows)), in_use(trainer, rows), atol=1e-5)


def test_the_row_of_a_new_token_is_learnt_and_saved(make_rows, make_trainer, tmp_path):
    rows = make_rows(5)
    trainer = make_trainer(rows, scheme="special_token", backbone="bert", max_steps=3, learning_rate=1e-2)
    tokenizer = trainer.processing_class
    marker = tokenizer.convert_tokens_to_ids("[PRM]")
    table = trainer.model.get_input_embeddings().weight
    assert table.shape[0] == len(tokenizer) == marker + 1
    mean = table[:marker].mean(dim=0)
    torch.testing.assert_close(table[marker], mean)
    before = table[marker].detach().clone()
    trainer.train()
    assert (trainer.model.get_input_embeddings().weight[marker] - before).abs().max() > 1e-3
    trainer.save_model(tmp_path / "saved")
    saved = transformers.AutoModelForTokenClassification.from_pretrained(tmp_path / "saved")
    assert torch.equal(saved.get_input_embeddings().weight, trainer.model.get_input_embeddings().weight)
    assert transformers.AutoTokenizer.from_pretrained(tmp_path / "saved").convert_tokens_to_ids("[PRM]") == marker


def test_the_folder_describes_the_model(make_rows, make_trainer, tmp_path):
    trainer = make_trainer(make_rows(4), step_separator="\n\n", max_length=300)
    trainer.save_model(tmp_path / "saved")
    fields = json.loads((tmp_path / "saved" / "prmkit.json").read_text())
    assert fields["scheme"]["name"] == "separator"
    assert fields["scheme"]["step_separator"] == "\n\n"
    assert (fields["classes"], fields["max_length"], fields["by_blocks"]) == ([False, True], 300, False)
    assert fields["versions"]["transformers"] == transformers.__version__
    assert len(fields["fingerprint"]) == 16
    config = json.loads((tmp_path / "saved" / "config.json").read_text())
    assert config["id2label"] == {"0": "False", "1": "True"}


def test_a_pipeline_gives_the_same_scores(make_rows, settings, base, tmp_path):
    rows = make_rows(5)
    args = settings(max_steps=5, learning_rate=1e-2)
    trainer = PRMTrainer(base(), args, train_dataset=rows)
    trainer.train()
    trainer.save_model(tmp_path / "saved")
    # By itself it would take the usual tokenizer of a Qwen2, which is not the saved one.
    saved = transformers.PreTrainedTokenizerFast.from_pretrained(tmp_path / "saved")
    classify = transformers.pipeline("token-classification", model=str(tmp_path / "saved"), tokenizer=saved)
    clf = PRMClassifier.from_pretrained(tmp_path / "saved")
    compared = 0
    for row in rows:
        solution = Solution(row["prompt"], row["completions"])
        marked = encode_solution(trainer.processing_class, solution, solution.n_steps, trainer.scheme)
        text = "".join([solution.problem, *(f"{step}\n" for step in solution.steps)])
        if classify.tokenizer(text)["input_ids"] != marked.input_ids.tolist():
            continue  # tokenised at once, the problem may merge with the first step
        answers = {answer["index"]: answer for answer in classify(text, ignore_labels=[])}
        right = clf.predict_proba(flatten([solution]))[:, 1]
        for place, value in zip(marked.step_positions, right, strict=True):
            answer = answers[place]
            assert answer["entity"] == str(value > 0.5)
            assert answer["score"] == pytest.approx(max(value, 1 - value), abs=1e-5)
            compared += 1
    assert compared > 5


# ---- what cannot be loaded


def test_a_changed_tokenizer_is_noticed(make_rows, make_trainer, make_tokenizer, tmp_path):
    make_trainer(make_rows(4)).save_model(tmp_path / "saved")
    make_tokenizer(bos="<bos>").save_pretrained(tmp_path / "saved")
    with pytest.raises(ValueError, match="encodes a text otherwise than when the model was saved"):
        PRMClassifier.from_pretrained(tmp_path / "saved")


def test_another_scheme_is_noticed(make_rows, make_trainer, tmp_path):
    make_trainer(make_rows(4)).save_model(tmp_path / "saved")
    file = tmp_path / "saved" / "prmkit.json"
    fields = json.loads(file.read_text())
    reward_tokens = {**fields["scheme"], "name": "reward_tokens", "reward_tokens": ["-", "+"]}
    for scheme, message in (
        ({"name": "colours"}, "prmkit.json cannot be read"),
        (reward_tokens, "encodes a text otherwise"),
    ):
        file.write_text(json.dumps({**fields, "scheme": scheme}))
        with pytest.raises(ValueError, match=message):
            PRMClassifier.from_pretrained(tmp_path / "saved")
    file.unlink()
    with pytest.raises(ValueError, match=r"no prmkit.json\)\. For a published model pass layout="):
        PRMClassifier.from_pretrained(tmp_path / "saved")


def test_an_interrupted_save_leaves_no_broken_file(make_rows, make_trainer, tmp_path, monkeypatch):
    trainer = make_trainer(make_rows(4))
    trainer.save_model(tmp_path / "saved")
    names = sorted(path.name for path in (tmp_path / "saved").iterdir())
    before = (tmp_path / "saved" / "prmkit.json").read_text()

    def interrupt(path, target):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", interrupt)
        with pytest.raises(KeyboardInterrupt):
            write_description(tmp_path / "saved", trainer.describe())
    assert sorted(path.name for path in (tmp_path / "saved").iterdir()) == names
    assert (tmp_path / "saved" / "prmkit.json").read_text() == before


# ---- model card, hub, loggers


def test_model_card(make_rows, make_trainer):
    trainer = make_trainer(make_rows(4), loss="rank", n_outputs=1)
    trainer.create_model_card("my-prm", dataset_name="me/sums", tags=["maths", "prm"], license="mit", language="en")
    from huggingface_hub import ModelCard

    card = ModelCard.load(trainer.args.output_dir + "/README.md")
    assert card.data.tags == ["prm", "process-reward-model", "prmkit", "maths"]
    assert (card.data.license, card.data.language, card.data.datasets) == ("mit", "en", "me/sums")
    assert "loss `rank`" in card.text
    assert 'PRMClassifier.from_pretrained("my-prm")' in card.text
    assert "pipeline" not in card.text  # rewards are no classes


@pytest.mark.parametrize(
    ("backbone", "usual", "words"),
    [
        ("qwen2", True, "the same scores"),
        ("qwen2", False, "has other tokens for this tokenizer"),
        ("bert", False, "sees the later ones"),
    ],
)
def test_model_card_says_what_a_pipeline_does(make_rows, make_trainer, base, backbone, usual, words):
    tokenizer = {"tokenizer": transformers.AutoTokenizer.from_pretrained(base())} if usual else {}
    trainer = make_trainer(make_rows(4), backbone=backbone, **tokenizer)
    trainer.create_model_card()
    card = (Path(trainer.args.output_dir) / "README.md").read_text()
    assert words in " ".join(card.split())
    assert ("text = " in card) == usual


@pytest.mark.parametrize("scheme", ["separator", "special_token", MarkingScheme(opening="Q: {problem}\n")])
def test_the_text_on_the_card_gives_a_pipeline_the_scores_of_prmkit(make_rows, make_trainer, base, scheme):
    tokenizer = transformers.AutoTokenizer.from_pretrained(base())
    trainer = make_trainer(make_rows(4), tokenizer=tokenizer, scheme=scheme)
    folder = trainer.args.output_dir
    trainer.save_model(folder)
    trainer.create_model_card()
    shown = re.findall(r"```python\n(.*?)```", (Path(folder) / "README.md").read_text(), re.DOTALL)
    assert len(shown) == 2
    own, tokens = {}, {}
    exec(shown[0].replace(f'"{Path(folder).name}"', repr(folder)), own)
    exec(shown[1].replace(f'"{Path(folder).name}"', repr(folder)), tokens)
    read = [token for token in tokens["tokens"] if token["end"] in tokens["ends"]]
    assert len(read) == 2
    np.testing.assert_allclose([token["score"] for token in read], own["scored"].proba.max(axis=1), atol=1e-5)


class Hub:
    """Stands in for the hub: notes what would be uploaded, opens no connection."""

    def __init__(self):
        self.uploads = []

    def create_repo(self, name, **options):
        return type("Url", (), {"repo_id": f"me/{name}"})()

    def upload_folder(self, *, folder_path, repo_id, ignore_patterns=(), run_as_future=False, **options):
        from concurrent.futures import Future

        from huggingface_hub.utils import filter_repo_objects

        files = [path for path in Path(folder_path).rglob("*") if path.is_file()]
        names = (str(path.relative_to(folder_path)) for path in files)
        kept = set(
            filter_repo_objects(names, ignore_patterns=[f"{p}*" if p.endswith("-*") else p for p in ignore_patterns])
        )
        self.uploads.append((repo_id, kept, (Path(folder_path) / "README.md").read_text()))
        done = Future()
        done.set_result("https://example.invalid")
        return done if run_as_future else "https://example.invalid"


@pytest.mark.parametrize("strategy", ["end", "every_save"])
def test_push_to_hub(make_rows, make_trainer, monkeypatch, strategy):
    hub = Hub()
    monkeypatch.setattr(transformers.trainer, "hf_api", lambda: hub)
    trainer = make_trainer(
        make_rows(4), push_to_hub=True, hub_strategy=strategy, save_strategy="steps", save_steps=1, hub_always_push=True
    )
    trainer.train()
    if strategy == "end":
        assert not hub.uploads
        trainer.push_to_hub(dataset_name="me/sums")
    assert hub.uploads
    for repo, names, card in hub.uploads:
        assert repo == "me/run"
        assert {"prmkit.json", "model.safetensors", "config.json", "README.md", "tokenizer.json"} <= names
        assert not [name for name in names if name.startswith("checkpoint-")]
        assert 'PRMClassifier.from_pretrained("me/run")' in card
    assert ("datasets: me/sums" in hub.uploads[-1][2]) is (strategy == "end")


def test_tensorboard(make_rows, make_trainer, tmp_path, monkeypatch):
    pytest.importorskip("tensorboard")
    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(tmp_path / "logs"))
    trainer = make_trainer(make_rows(4), report_to="tensorboard")
    trainer.train()
    assert list((tmp_path / "logs").rglob("events.out.tfevents*"))
