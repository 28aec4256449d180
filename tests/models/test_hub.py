"""Classifiers on the Hugging Face hub: what goes up comes down again, and one door opens all that is a model."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from huggingface_hub import ModelCard, ModelHubMixin
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from prmkit import PRMClassifier
from prmkit.data import make_arithmetic_solutions
from prmkit.features import StepStatistics
from prmkit.models import StepMLP, TokenPRM

DATA = make_arithmetic_solutions(8, 2, error_rate=0.5, random_state=0)


@pytest.fixture
def clf():
    return PRMClassifier(StepStatistics(), random_state=0).fit(DATA.X, DATA.y)


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A hub on the disk: repositories by name, and a list of what was asked of it."""
    asked = []

    class Created:
        def __init__(self, repo_id):
            self.repo_id = repo_id

    def create_repo(self, repo_id, **options):
        return Created(repo_id if "/" in repo_id else f"me/{repo_id}")

    def upload_folder(self, *, repo_id, folder_path, **options):
        asked.append(("upload", repo_id, options["commit_message"]))
        shutil.copytree(folder_path, tmp_path / "hub" / repo_id, dirs_exist_ok=True)
        return f"https://hub/{repo_id}/commit/1"

    def download(name, file=None, *, local_files_only=False, revision=None, **options):
        asked.append(("download", name, file or "all", local_files_only, revision))
        folder = tmp_path / "hub" / name
        if local_files_only or not folder.is_dir():
            raise FileNotFoundError(f"no {name}")
        return str(folder / file) if file else str(folder)

    monkeypatch.setattr("huggingface_hub.HfApi.create_repo", create_repo)
    monkeypatch.setattr("huggingface_hub.HfApi.upload_folder", upload_folder)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    return asked


def same(one, other):
    np.testing.assert_array_equal(one.predict_proba(DATA.X), other.predict_proba(DATA.X))


class TestCard:
    def test_save_pretrained_writes_a_model_and_a_card(self, clf, tmp_path):
        assert isinstance(clf, ModelHubMixin)
        assert clf.save_pretrained(tmp_path / "prm", repo_id="me/prm", push_to_hub=False) is None
        for load in (PRMClassifier.load, PRMClassifier.from_pretrained):
            same(load(tmp_path / "prm"), clf)
        card = ModelCard.load(tmp_path / "prm" / "README.md")
        assert card.data.library_name == "prmkit"
        assert {"prmkit", "process-reward-model"} <= set(card.data.tags)
        assert 'PRMClassifier.from_pretrained("me/prm")' in card.text
        assert "`-1`, `0`, `1` (worst first)" in card.text
        assert "8 problems" in card.text

    def test_a_card_of_ones_own_is_kept_and_may_be_changed_later(self, clf, tmp_path):
        clf.save_pretrained(tmp_path / "prm", model_card_kwargs={"title": "Sums"})
        card = tmp_path / "prm" / "README.md"
        assert "# Sums" in card.read_text()
        card.write_text("mine")
        same(PRMClassifier.load(tmp_path / "prm"), clf)
        PRMClassifier(StepStatistics(), StepMLP(max_epochs=1)).fit(DATA.X, DATA.y).save(tmp_path / "prm")
        assert card.read_text() == "mine"
        clf.save_pretrained(tmp_path / "prm")
        assert card.read_text() == "mine"

    def test_an_estimator_stays_an_estimator(self, clf):
        assert vars(PRMClassifier()).keys() == PRMClassifier().get_params().keys()
        assert vars(clone(clf)).keys() == clf.get_params(deep=False).keys()
        with pytest.raises(NotFittedError):
            PRMClassifier().generate_model_card()

    def test_nothing_is_written_over_other_files(self, clf, tmp_path):
        (tmp_path / "config.json").write_text("{}")
        with pytest.raises(FileExistsError, match="is no saved model"):
            clf.save_pretrained(tmp_path)
        assert [file.name for file in tmp_path.iterdir()] == ["config.json"]


class TestHub:
    @pytest.mark.parametrize(
        "head", [None, pytest.param(TokenPRM(initialization="random", num_train_epochs=1), marks=pytest.mark.slow)]
    )
    def test_up_and_down(self, hub, head, monkeypatch):
        if head is not None:
            small = {"num_hidden_layers": 1, "hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 64}
            head.set_params(model_kwargs=small, show_progress=False)
        clf = PRMClassifier("embeddings" if head else StepStatistics(), head, random_state=0).fit(DATA.X, DATA.y)
        address = clf.push_to_hub("me/prm", commit_message="first")
        assert address == "https://hub/me/prm/commit/1"
        for load in (PRMClassifier.load, PRMClassifier.from_pretrained):
            np.testing.assert_allclose(load("me/prm").predict_proba(DATA.X), clf.predict_proba(DATA.X), atol=1e-7)
        assert hub[0] == ("upload", "me/prm", "first")
        hub.clear()
        PRMClassifier.from_pretrained("me/prm", revision="v1")
        assert hub[-1] == ("download", "me/prm", "all", False, "v1")

    def test_save_pretrained_uploads_under_the_name_of_the_folder(self, clf, hub, tmp_path):
        assert clf.save_pretrained(tmp_path / "prm", push_to_hub=True) == "https://hub/me/prm/commit/1"
        card = (tmp_path / "hub" / "me" / "prm" / "README.md").read_text()
        assert 'from_pretrained("prm")' in card
        same(PRMClassifier.load("me/prm"), clf)

    def test_files_that_the_hub_adds_do_not_matter(self, clf, hub, tmp_path):
        clf.push_to_hub("me/prm")
        (tmp_path / "hub" / "me" / "prm" / ".gitattributes").write_text("*.safetensors filter=lfs")
        loaded = PRMClassifier.load("me/prm")
        loaded.save(tmp_path / "hub" / "me" / "prm")
        assert (tmp_path / "hub" / "me" / "prm" / ".gitattributes").is_file()

    def test_only_a_small_file_of_another_model_is_fetched(self, hub, tmp_path, monkeypatch):
        other = tmp_path / "hub" / "you" / "bert"
        other.mkdir(parents=True)
        (other / "config.json").write_text(json.dumps({"model_type": "bert"}))
        taken = []
        monkeypatch.setattr("prmkit.models.TokenPRM.from_pretrained", lambda name, *args, **options: taken.append(name))
        with pytest.raises(AttributeError):  # the stand-in gives nothing
            PRMClassifier.load("you/bert", "trl")
        assert taken == ["you/bert"]
        assert {request[2] for request in hub} == {"config.json"}

    def test_a_name_that_nobody_knows(self, hub):
        with pytest.raises(OSError, match="'me/nothing' is neither a local folder nor installed"):
            PRMClassifier.load("me/nothing")


class TestOneDoor:
    def test_a_language_model_opens_by_load_too(self, tmp_path):
        small = {"num_hidden_layers": 1, "hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 64}
        head = TokenPRM(initialization="random", model_kwargs=small, num_train_epochs=1, show_progress=False)
        clf = PRMClassifier(head=head, random_state=0).fit(DATA.X, DATA.y)
        clf.save(tmp_path / "prm")
        # The folder of the head is one as PRMTrainer saves it.
        loaded = PRMClassifier.load(tmp_path / "prm" / "head", max_length=64)
        assert loaded.head_.max_length == 64
        np.testing.assert_allclose(
            PRMClassifier.load(tmp_path / "prm" / "head").predict_proba(DATA.X), clf.predict_proba(DATA.X), atol=1e-7
        )

    def test_a_saved_classifier_takes_no_layout(self, clf, tmp_path):
        clf.save(tmp_path / "prm")
        with pytest.raises(TypeError, match=r"is read as it is: leave \['layout', 'device'\] out"):
            PRMClassifier.load(tmp_path / "prm", "trl", device="cpu")

    def test_a_published_model_without_a_layout_is_told_what_to_type(self, tmp_path):
        (tmp_path / "config.json").write_text('{"model_type": "bert"}')
        with pytest.raises(ValueError, match=r"describes no PRMClassifier\. For a published language model .*layout=…"):
            PRMClassifier.load(tmp_path)

    @pytest.mark.parametrize("path", ["nowhere", "./some/where", "a/b/c", Path("owner/name")])
    def test_a_folder_that_is_missing(self, tmp_path, monkeypatch, path):
        monkeypatch.chdir(tmp_path)
        with pytest.raises(FileNotFoundError, match="holds no saved model"):
            PRMClassifier.load(path)
