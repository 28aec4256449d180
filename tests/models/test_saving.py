"""Saving and loading: the same predictions, nothing but data in the folder, and clear words when it is not whole."""

import json
import pickle
import shutil
import signal
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier, VotingClassifier
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

import prmkit
from prmkit import PRMClassifier, PRMFeaturizer
from prmkit.data import make_arithmetic_solutions
from prmkit.features import StepStatistics, StepWords
from prmkit.marking import MarkingScheme
from prmkit.models import StepBlend, StepMLP, StepTransformer, TokenPRM
from prmkit.saving import load_model, save_model
from prmkit.uncertainty import CalibratedStepClassifier, LengthShift, MCDropout, PrefixCertifier, StepEnsemble

DATA = make_arithmetic_solutions(8, 2, error_rate=0.5, random_state=0)
SMALL = {"hidden_size": 16, "max_epochs": 2, "random_state": 0}


def on_statistics(head=None, **params):
    """A classifier that needs no sentence encoder."""
    return PRMClassifier(StepStatistics(), head, **params)


def round_trip(clf, folder, X=DATA.X):
    """Save, load, and check that the predictions are the same."""
    clf.save(folder / "model")
    loaded = PRMClassifier.load(folder / "model")
    np.testing.assert_array_equal(loaded.predict_proba(X), clf.predict_proba(X))
    np.testing.assert_array_equal(loaded.predict(X), clf.predict(X))
    assert loaded.predict(X).dtype == clf.predict(X).dtype
    assert loaded.label_order_ == clf.label_order_
    return loaded


@pytest.fixture
def saved(tmp_path):
    """A fitted classifier with a scikit-learn head and the folder it was saved to."""
    clf = on_statistics().fit(DATA.X, DATA.y)
    clf.save(tmp_path / "model")
    return clf, tmp_path / "model"


class TestRoundTrips:
    def test_default_head(self, tmp_path):
        clf = PRMClassifier(head=StepBlend(StepStatistics()), random_state=0).fit(DATA.X, DATA.y)
        loaded = round_trip(clf, tmp_path)
        np.testing.assert_array_equal(loaded.head_.decision_weights_, clf.head_.decision_weights_)
        one, other = (model.score_solutions(DATA.solutions[:2]) for model in (clf, loaded))
        assert [a.aggregates for a in one] == [b.aggregates for b in other]

    def test_default_of_everything(self, tmp_path, monkeypatch):
        monkeypatch.setattr("prmkit.models.heads.blend.PRMFeaturizer", lambda context: StepStatistics())
        loaded = round_trip(PRMClassifier(random_state=3).fit(DATA.X, DATA.y), tmp_path)
        assert loaded.get_params()["featurizer"] == "embeddings"
        assert loaded.head is None
        assert loaded.random_state == 3
        loaded.fit(DATA.X[:6], DATA.y[:6])  # a loaded model can learn anew

    def test_default_head_on_a_featurizer_of_ones_own(self, tmp_path, monkeypatch):
        monkeypatch.setattr(PRMFeaturizer, "transform", lambda self, X: StepStatistics().transform(X))
        clf = PRMClassifier(PRMFeaturizer(model=Path("models/mine"), context="problem")).fit(DATA.X, DATA.y)
        loaded = round_trip(clf, tmp_path)
        assert loaded.featurizer.context == "problem"
        assert loaded.featurizer.model == Path("models/mine")
        assert loaded.head is None

    def test_featurizer_of_ones_own_with_a_torch_head(self, tmp_path, monkeypatch):
        monkeypatch.setattr(PRMFeaturizer, "transform", lambda self, X: StepStatistics().transform(X))
        clf = PRMClassifier(PRMFeaturizer(model=Path("models/mine")), StepMLP(**SMALL)).fit(DATA.X, DATA.y)
        loaded = round_trip(clf, tmp_path)
        assert loaded.featurizer_.model == "models/mine"
        np.testing.assert_array_equal(loaded.training_problems_, clf.training_problems_)
        assert sorted(file.name for file in (tmp_path / "model").iterdir()) == [
            "arrays.safetensors",
            "config.json",
            "head.safetensors",
        ]

    @pytest.mark.parametrize(
        "head",
        [
            LogisticRegression(max_iter=500),
            make_pipeline(StandardScaler(), LogisticRegression()),
            HistGradientBoostingClassifier(max_iter=5),
            RandomForestClassifier(5),
            GaussianNB(),
            KNeighborsClassifier(3),
            MLPClassifier((4,), max_iter=3),
            CalibratedClassifierCV(SVC(), cv=2),
            VotingClassifier([("a", GaussianNB()), ("b", LogisticRegression())], voting="soft"),
        ],
        ids=lambda head: type(head).__name__,
    )
    @pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
    def test_scikit_learn_heads(self, tmp_path, head):
        round_trip(on_statistics(head, random_state=0).fit(DATA.X, DATA.y), tmp_path)

    @pytest.mark.parametrize(
        "head", [StepMLP(**SMALL), StepTransformer(**SMALL), StepTransformer(dtype="float64", **SMALL)]
    )
    def test_torch_heads(self, tmp_path, head):
        clf = PRMClassifier(StepStatistics(), head).fit(DATA.X, DATA.y)
        loaded = round_trip(clf, tmp_path)
        assert loaded.head_.loss_curve_ == clf.head_.loss_curve_
        assert loaded.head_.n_iter_ == clf.head_.n_iter_
        assert loaded.head_.get_params() == clf.head_.get_params()

    def test_featurizer_union(self, tmp_path):
        union = FeatureUnion([("words", StepWords(max_features=50)), ("counts", StepStatistics())])
        round_trip(PRMClassifier(union, random_state=0).fit(DATA.X, DATA.y), tmp_path)

    @pytest.mark.parametrize("head", [None, StepMLP(**SMALL), StepTransformer(**SMALL)])
    def test_precomputed(self, tmp_path, head):
        X = np.random.default_rng(0).normal(size=(40, 3))
        loaded = round_trip(PRMClassifier("precomputed", head).fit(X, X[:, 0] > 0), tmp_path, X)
        assert loaded.n_features_in_ == 3
        with pytest.raises(ValueError, match="2 features"):
            loaded.predict(X[:, :2])

    @pytest.mark.parametrize(
        ("labels", "order"),
        [
            ((-1, 0, 1), None),
            (("negative", "neutral", "positive"), None),
            ((False, True, True), None),
            ((0.0, 1.0, 2.0), None),
            (("bad", "fair", "good"), ["bad", "fair", "good"]),
            ((3, 2, 1), [3, 2, 1]),
        ],
    )
    @pytest.mark.parametrize("head", [None, StepMLP(**SMALL, class_weight="balanced")])
    def test_labels(self, tmp_path, labels, order, head):
        y = np.array([labels[rating + 1] for rating in DATA.y])
        loaded = round_trip(on_statistics(head, label_order=order).fit(DATA.X, y), tmp_path)
        assert loaded.classes_.dtype == y.dtype
        assert loaded.label_order == order
        assert loaded.score_solutions(DATA.solutions[:1])[0].rewards.shape == (DATA.solutions[0].n_steps,)

    def test_class_weight_keeps_the_kind_of_its_labels(self, tmp_path):
        weights = {-1: 3.0, 0: 2.0, 1: 1.0}
        loaded = round_trip(on_statistics(StepMLP(**SMALL, class_weight=weights)).fit(DATA.X, DATA.y), tmp_path)
        assert loaded.head.class_weight == weights

    def test_random_state_that_is_a_numpy_integer(self, tmp_path):
        clf = on_statistics(random_state=np.int64(5)).fit(DATA.X, DATA.y)
        assert round_trip(clf, tmp_path).random_state == 5


class TestTokenModels:
    """The model lies in a folder of its own inside, in transformers' layout."""

    TINY = {"num_hidden_layers": 1, "hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 64}

    def fitted(self, y=DATA.y, **params):
        head = TokenPRM(
            initialization="random",
            model_kwargs=self.TINY,
            num_train_epochs=1,
            show_progress=False,
            random_state=0,
            **params,
        )
        return PRMClassifier("tokens", head).fit(DATA.X, y)

    @pytest.fixture
    def tokens(self, tmp_path):
        clf = self.fitted()
        clf.save(tmp_path / "model")
        return clf, tmp_path / "model"

    @pytest.mark.filterwarnings("ignore:.*problems are too few")
    @pytest.mark.parametrize(
        ("params", "labels"),
        [
            ({}, (-1, 0, 1)),
            ({"scheme": "special_token", "loss": "rank"}, (-1, 1, 1)),
            pytest.param(
                {"loss": "bce", "loss_options": {}}, ("negative", "neutral", "positive"), marks=pytest.mark.slow
            ),
            ({"scheme": "prefix", "loss_options": {"class_weight": [2.0, 1.0]}}, ("-", "+", "+")),
            ({"scheme": MarkingScheme(step="Step {number}: {step}", max_prompt_length=20)}, (-1, 0, 1)),
            ({"label_order": ["zz", "mm", "aa"], "dtype": "bfloat16"}, ("zz", "mm", "aa")),
            pytest.param({}, (False, True, True), marks=pytest.mark.slow),
        ],
    )
    def test_round_trip(self, tmp_path, params, labels):
        y = np.array([labels[rating + 1] for rating in DATA.y])
        clf = self.fitted(y, **params)
        clf.label_order = params.get("label_order")
        clf.label_order_ = clf.label_order_ or tuple(params["label_order"])
        clf.save(tmp_path / "model")
        loaded = PRMClassifier.load(tmp_path / "model")
        np.testing.assert_allclose(loaded.predict_proba(DATA.X), clf.predict_proba(DATA.X), atol=1e-7)
        np.testing.assert_array_equal(loaded.predict(DATA.X), clf.predict(DATA.X))
        assert loaded.classes_.dtype == y.dtype
        assert loaded.label_order_ == clf.label_order_
        assert loaded.head_.get_params() == clf.head_.get_params()
        assert loaded.head_.loss_curve_ == clf.head_.loss_curve_
        assert loaded.head_.scheme_ == clf.head_.scheme_
        assert loaded.get_params()["featurizer"] == "tokens"
        np.testing.assert_allclose(loaded.head_.reward(DATA.X), clf.head_.reward(DATA.X), atol=1e-6)

    def test_folder_holds_data_alone_and_a_model_of_its_own(self, tokens):
        clf, folder = tokens
        config = json.loads((folder / "config.json").read_text())
        files = {file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()}
        assert set(config["files"]) == files - {"config.json"}
        assert {Path(name).suffix for name in files} <= {".json", ".safetensors", ".txt"}
        model = PRMClassifier.from_pretrained(folder / "head")
        assert model.classes_.tolist() == [-1, 0, 1]
        np.testing.assert_allclose(model.predict_proba(DATA.X), clf.predict_proba(DATA.X), atol=1e-7)

    def test_weights_are_read_at_once(self, tokens):
        """Later another model may stand there, or none."""
        clf, folder = tokens
        loaded = PRMClassifier.load(folder)
        self.fitted(-DATA.y).save(folder)
        np.testing.assert_allclose(loaded.predict_proba(DATA.X), clf.predict_proba(DATA.X), atol=1e-7)
        assert np.abs(PRMClassifier.load(folder).predict_proba(DATA.X) - clf.predict_proba(DATA.X)).max() > 1e-4
        assert [path.name for path in folder.parent.iterdir()] == ["model"]
        shutil.rmtree(folder)
        loaded.predict_proba(DATA.X)

    def test_moved_and_read_by_a_relative_path(self, tokens, monkeypatch, tmp_path):
        clf, folder = tokens
        moved = tmp_path / "deep" / "er"
        moved.parent.mkdir()
        shutil.move(folder, moved)
        monkeypatch.chdir(moved.parent)
        loaded = PRMClassifier.load("er")
        packed = pickle.dumps(loaded)
        monkeypatch.chdir("/")
        again = pickle.loads(packed)
        np.testing.assert_allclose(again.predict_proba(DATA.X), clf.predict_proba(DATA.X), atol=1e-7)
        loaded.save(tmp_path / "copy")  # a loaded model can be saved, and learn anew
        PRMClassifier.load(tmp_path / "copy").predict_proba(DATA.X[:2])
        loaded.fit(DATA.X, DATA.y)

    @pytest.mark.parametrize("name", ["model.safetensors", "prmkit.json", "tokenizer.json", "config.json"])
    def test_damaged_or_missing_file(self, tokens, name):
        file = tokens[1] / "head" / name
        content = file.read_bytes()
        file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        with pytest.raises(ValueError, match=rf"head/{name} is damaged \(its checksum differs\)"):
            PRMClassifier.load(tokens[1])
        file.unlink()
        with pytest.raises(ValueError, match=rf"head/{name} is missing"):
            PRMClassifier.load(tokens[1])

    def test_foreign_files_inside_are_not_deleted(self, tokens):
        clf, folder = tokens
        (folder / "head" / "notes.txt").write_text("mine")
        with pytest.raises(FileExistsError, match=r"\['head/notes.txt'\]"):
            clf.save(folder)
        assert (folder / "head" / "notes.txt").read_text() == "mine"

    @pytest.mark.parametrize("where", ["save_scorer", "write_description"])
    def test_interruption_leaves_the_old_model(self, tokens, monkeypatch, where):
        clf, folder = tokens

        def interrupt(*args, **kwargs):
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(f"prmkit.models.tokens.model_folder.{where}", interrupt)
            with pytest.raises(KeyboardInterrupt):
                clf.save(folder)
        assert [path.name for path in folder.parent.iterdir()] == ["model"]
        PRMClassifier.load(folder)


class TestNamedBackbone:
    @pytest.fixture
    def backbone(self, tmp_path):
        from transformers import BertConfig, BertModel

        config = BertConfig(
            vocab_size=10, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16
        )
        with torch.random.fork_rng():
            BertModel(config).save_pretrained(tmp_path / "backbone")
        return tmp_path / "backbone"

    @pytest.mark.parametrize("initialization", ["pretrained", "random"])
    def test_loads_after_the_backbone_is_gone_and_asks_nobody(self, tmp_path, backbone, monkeypatch, initialization):
        head = StepTransformer(backbone, initialization=initialization, max_epochs=1, random_state=0)
        clf = on_statistics(head).fit(DATA.X, DATA.y)
        expected = clf.predict_proba(DATA.X)
        clf.save(tmp_path / "model")
        shutil.rmtree(backbone)

        def refuse(*args, **kwargs):
            raise AssertionError("the hub was asked")

        monkeypatch.setattr("huggingface_hub.snapshot_download", refuse)
        monkeypatch.setattr("prmkit.features.encoding.model_path.resolve_model", refuse)
        monkeypatch.setattr("socket.socket.connect", refuse)
        generator = torch.random.get_rng_state()
        loaded = PRMClassifier.load(tmp_path / "model")
        assert torch.equal(torch.random.get_rng_state(), generator)
        np.testing.assert_array_equal(loaded.predict_proba(DATA.X), expected)
        assert loaded.head.backbone == str(backbone)

    def test_a_config_that_names_foreign_code_runs_none(self, tmp_path, backbone):
        on_statistics(StepTransformer(backbone, max_epochs=1)).fit(DATA.X, DATA.y).save(tmp_path / "model")
        file = tmp_path / "model" / "config.json"
        config = json.loads(file.read_text())
        config["parts"]["head"]["backbone"]["auto_map"] = {"AutoModel": "evil--modeling.Evil"}
        file.write_text(json.dumps(config))
        assert type(PRMClassifier.load(tmp_path / "model").head_.module_.backbone).__name__ == "BertModel"


class TestPlainArrays:
    """The default is numbers and names, so that no version of another library can lose it."""

    @staticmethod
    def no_archives(monkeypatch):
        for name in ("dump", "loads", "load", "get_untrusted_types"):
            monkeypatch.delattr(f"skops.io.{name}")

    @pytest.mark.parametrize("labels", [(-1, 0, 1), pytest.param(("wrong", "right", "right"), marks=pytest.mark.slow)])
    @pytest.mark.parametrize(
        "head",
        [
            None,
            pytest.param(StepBlend(StepStatistics()), marks=pytest.mark.slow),
            LogisticRegression(C=0.5, max_iter=500),
        ],
        ids=["logistic regression", "blend", "own logistic regression"],
    )
    def test_neither_skops_nor_a_private_class_is_needed(self, tmp_path, monkeypatch, head, labels):
        order = None if 0 in labels else ["wrong", "right"]
        y = np.array([labels[rating + 1] for rating in DATA.y])
        clf = PRMClassifier(
            "embeddings" if isinstance(head, StepBlend) else StepStatistics(), head, label_order=order, random_state=0
        )
        clf.fit(DATA.X, y)
        self.no_archives(monkeypatch)
        loaded = round_trip(clf, tmp_path, make_arithmetic_solutions(40, 2, random_state=5).X)
        assert {file.suffix for file in (tmp_path / "model").iterdir()} == {".json", ".safetensors"}
        assert "sklearn." not in (tmp_path / "model" / "config.json").read_text()
        again = round_trip(loaded, tmp_path / "again")
        np.testing.assert_array_equal(
            again.fit(DATA.X, y).predict_proba(DATA.X), clf.fit(DATA.X, y).predict_proba(DATA.X)
        )
        assert pickle.loads(pickle.dumps(loaded)).predict(DATA.X).tolist() == loaded.predict(DATA.X).tolist()

    @pytest.mark.parametrize("n_classes", [2, 3])
    @pytest.mark.parametrize(
        "params", [{}, {"max_leaf_nodes": None, "max_depth": 3}, {"max_iter": 1, "max_leaf_nodes": 2}]
    )
    def test_trees_with_missing_numbers(self, tmp_path, monkeypatch, n_classes, params):
        rng = np.random.default_rng(0)
        X = rng.normal(size=(300, 4)).round(1)
        y = rng.integers(n_classes, size=300)
        X[rng.random(X.shape) < 0.2] = np.nan
        head = HistGradientBoostingClassifier(random_state=0, class_weight="balanced", **params)
        fitted = on_statistics(head).fit(DATA.X, DATA.y)
        fitted.head_.fit(X, y)
        fitted.classes_ = fitted.head_.classes_
        self.no_archives(monkeypatch)
        fitted.save(tmp_path / "model")
        head_ = PRMClassifier.load(tmp_path / "model").head_
        new = np.concatenate([X, rng.normal(size=(500, 4)), np.full((1, 4), np.nan)])
        np.testing.assert_array_equal(head_.predict_proba(new), fitted.head_.predict_proba(new))
        np.testing.assert_array_equal(head_.predict(new), fitted.head_.predict(new))
        assert PRMClassifier.load(tmp_path / "model").head.get_params() == head.get_params()
        with pytest.raises(ValueError, match="fitted on 4 columns"):
            head_.predict_proba(X[:, :3])

    def test_trees_with_categories_are_refused_and_not_read_as_numbers(self, tmp_path):
        head = HistGradientBoostingClassifier(max_iter=3, categorical_features=[0])
        with pytest.raises(ValueError, match="could not be loaded again"):
            on_statistics(head).fit(DATA.X, DATA.y).save(tmp_path / "model")

    def test_a_default_of_format_2_loads(self, tmp_path, monkeypatch):
        """Prmkit before its first release wrote an archive of scikit-learn's own classes."""
        from prmkit.saving.arrays import NotPlainError

        def refuse(part):
            raise NotPlainError

        clf = PRMClassifier(head=StepBlend(StepStatistics()), random_state=0).fit(DATA.X, DATA.y)
        with monkeypatch.context() as patch:
            patch.setattr("prmkit.saving.parts.to_arrays", refuse)
            patch.setattr("prmkit.saving.folder._FORMAT", 2)
            clf.save(tmp_path / "model")
        assert json.loads((tmp_path / "model" / "config.json").read_text())["format"] == 2
        loaded = PRMClassifier.load(tmp_path / "model")
        np.testing.assert_array_equal(loaded.predict_proba(DATA.X), clf.predict_proba(DATA.X))
        loaded.save(tmp_path / "model")
        assert not (tmp_path / "model" / "head.skops").exists()

    def test_a_parameter_that_scikit_learn_has_dropped_is_named(self, tmp_path):
        on_statistics(LogisticRegression(C=0.5, max_iter=500)).fit(DATA.X, DATA.y).save(tmp_path / "model")
        file = tmp_path / "model" / "config.json"
        config = json.loads(file.read_text())
        config["parts"]["head"]["params"]["multi_klass"] = "ovr"
        config["versions"]["scikit-learn"] = "1.2.7"
        file.write_text(json.dumps(config))
        with pytest.raises(ValueError, match=r"under scikit-learn 1\.2\.7 with \['multi_klass'\], which scikit-learn"):
            PRMClassifier.load(tmp_path / "model")

    def test_a_path_that_python_3_13_saved(self, tmp_path, monkeypatch):
        """Paths live in pathlib._local there, which no other Python has."""
        monkeypatch.setattr(PRMFeaturizer, "transform", lambda self, X: StepStatistics().transform(X))
        union = FeatureUnion([("mine", PRMFeaturizer(model=Path("models/mine"))), ("counts", StepStatistics())])
        clf = PRMClassifier(union).fit(DATA.X, DATA.y)
        loaded = round_trip(clf, tmp_path)
        assert loaded.featurizer_.transformer_list[0][1].model == Path("models/mine")
        file = tmp_path / "model" / "featurizer.skops"
        with zipfile.ZipFile(file) as archive:
            content = {name: archive.read(name) for name in archive.namelist()}
        assert b'"pathlib"' in content["schema.json"] or b'"pathlib._local"' in content["schema.json"]
        content["schema.json"] = content["schema.json"].replace(b'"pathlib"', b'"pathlib._local"')
        with zipfile.ZipFile(file, "w") as archive:
            for name, kept in content.items():
                archive.writestr(name, kept)
        TestTrust.accept(tmp_path / "model", "featurizer.skops")
        again = PRMClassifier.load(tmp_path / "model")
        np.testing.assert_array_equal(again.predict_proba(DATA.X), clf.predict_proba(DATA.X))


class TestFolder:
    @pytest.mark.parametrize("head", [None, StepMLP(**SMALL), HistGradientBoostingClassifier(max_iter=3)])
    def test_holds_no_pickle(self, tmp_path, head):
        on_statistics(head).fit(DATA.X, DATA.y).save(tmp_path / "model")
        for file in (tmp_path / "model").iterdir():
            assert file.suffix in {".json", ".safetensors", ".skops"}
            if file.suffix == ".skops":
                with zipfile.ZipFile(file) as archive:
                    for name in archive.namelist():
                        assert Path(name).suffix in {".json", ".npy", ".npz"}
                        if name.endswith(".npy"):
                            np.load(archive.open(name), allow_pickle=False)

    def test_default_head_is_small_and_made_of_few_files(self, tmp_path):
        """A vocabulary of objects takes several hundred bytes a term."""
        clf = PRMClassifier(head=StepBlend(StepStatistics())).fit(DATA.X, DATA.y)
        clf.save(tmp_path / "model")
        assert len(clf.head_.views_["words"].get_feature_names_out()) > 500
        sizes = {file.name: file.stat().st_size for file in (tmp_path / "model").iterdir()}
        assert set(sizes) == {"config.json", "arrays.safetensors", "head.safetensors"}
        assert sizes["head.safetensors"] < 1_500_000
        assert sizes["config.json"] < 10_000

    def test_config_tells_versions(self, saved):
        config = json.loads((saved[1] / "config.json").read_text())
        assert set(config["versions"]) == {"prmkit", "numpy", "scikit-learn", "torch"}

    def test_saving_again_replaces_the_model_and_leaves_nothing_behind(self, saved):
        _, folder = saved
        other = on_statistics(StepMLP(**SMALL)).fit(DATA.X, DATA.y)
        other.save(folder)
        np.testing.assert_array_equal(PRMClassifier.load(folder).predict_proba(DATA.X), other.predict_proba(DATA.X))
        assert [path.name for path in folder.parent.iterdir()] == ["model"]
        assert not (folder / "head.skops").exists()

    @pytest.mark.parametrize("written", ["../models/prm", "../../side/models/./prm", "models/prm", "prm"])
    def test_reads_a_path_however_it_is_written(self, saved, tmp_path, monkeypatch, written):
        place = tmp_path / "side" / "models" / "prm"
        saved[0].save(place)
        (place.parents[1] / "work").mkdir()
        monkeypatch.chdir({"m": place.parents[1], "p": place.parent}.get(written[0], place.parents[1] / "work"))
        np.testing.assert_array_equal(PRMClassifier.load(written).predict(DATA.X), saved[0].predict(DATA.X))

    def test_makes_parent_folders_and_reads_home(self, saved, tmp_path, monkeypatch):
        monkeypatch.setenv("HOME", str(tmp_path))
        saved[0].save("~/deep/er/model")
        assert (tmp_path / "deep" / "er" / "model" / "config.json").is_file()
        PRMClassifier.load("~/deep/er/model")

    @pytest.mark.parametrize("content", [{"notes.txt": "mine"}, {"config.json": '{"model_type": "bert"}'}, {}])
    def test_another_folder_is_refused(self, saved, tmp_path, content):
        folder = tmp_path / "other"
        folder.mkdir()
        for name, text in content.items():
            (folder / name).write_text(text)
        with pytest.raises(FileExistsError, match="is no saved model: choose another folder"):
            saved[0].save(folder)
        assert {file.name: file.read_text() for file in folder.iterdir()} == content

    def test_a_saved_model_of_another_class_is_named(self, saved, tmp_path):
        LengthShift().fit(DATA.X).save(tmp_path / "detector")
        with pytest.raises(FileExistsError, match="holds a saved LengthShift, and this is a PRMClassifier: choose"):
            saved[0].save(tmp_path / "detector")
        assert LengthShift.load(tmp_path / "detector").usual_steps_

    def test_a_file_is_refused(self, saved, tmp_path):
        (tmp_path / "file").write_text("mine")
        with pytest.raises(FileExistsError, match="choose another folder"):
            saved[0].save(tmp_path / "file")

    def test_a_file_added_to_a_saved_model_is_not_deleted(self, saved):
        clf, folder = saved
        (folder / "NOTES.md").write_text("mine")
        with pytest.raises(FileExistsError, match=r"\['NOTES.md'\]"):
            clf.save(folder)
        PRMClassifier.load(folder)

    @pytest.mark.parametrize("where", ["prmkit.saving.model.write_part", "prmkit.saving.folder.json.dumps"])
    def test_interruption_leaves_the_old_model_and_no_rest(self, saved, monkeypatch, where):
        clf, folder = saved

        def interrupt(*args, **kwargs):
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(where, interrupt)
            with pytest.raises(KeyboardInterrupt):
                on_statistics(StepMLP(**SMALL)).fit(DATA.X, DATA.y).save(folder)
        self.is_whole(clf, folder)

    def test_failure_while_replacing_puts_the_old_model_back(self, saved, monkeypatch):
        clf, folder = saved
        replace = Path.replace

        def fail_on_arrival(self, target):
            if target == folder and not self.name.endswith("-old"):
                raise OSError("disk full")
            return replace(self, target)

        with monkeypatch.context() as patch:
            patch.setattr(Path, "replace", fail_on_arrival)
            with pytest.raises(OSError, match="disk full"):
                clf.save(folder)
        self.is_whole(clf, folder)

    @pytest.mark.slow
    @pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system cannot kill at once")
    @pytest.mark.parametrize("name", ["model", "[a] model*"])
    def test_a_process_killed_between_the_two_renames_loses_no_model(self, tmp_path, name, start_python):
        """Old and new model are both whole then, and none of them is in its place."""
        folder = tmp_path / name
        program = """
import os, signal, sys
from pathlib import Path
from prmkit.data import make_arithmetic_solutions
from prmkit.uncertainty import LengthShift

data = make_arithmetic_solutions(8, 2, random_state=0)
LengthShift().fit(data.X[:5]).save(sys.argv[1])
rename = Path.replace

def and_die(self, target):
    rename(self, target)
    if self == Path(sys.argv[1]):
        os.kill(os.getpid(), signal.SIGKILL)

Path.replace = and_die
LengthShift().fit(data.X).save(sys.argv[1])
"""
        process = start_python(program, str(folder), folder=tmp_path)
        process.join()
        assert process.exitcode == -signal.SIGKILL
        assert not folder.exists()
        newer = LengthShift().fit(make_arithmetic_solutions(8, 2, random_state=0).X)
        for load in (LengthShift.load, load_model):
            with pytest.warns(UserWarning, match="was interrupted at its end, and the model is read from"):
                assert load(folder).usual_steps_ == newer.usual_steps_
        newer.save(folder)
        assert [path.name for path in tmp_path.iterdir()] == [name], "a save in peace tidies up"
        assert LengthShift.load(folder).usual_steps_ == newer.usual_steps_

    @staticmethod
    def is_whole(clf, folder):
        np.testing.assert_array_equal(PRMClassifier.load(folder).predict_proba(DATA.X), clf.predict_proba(DATA.X))
        assert [path.name for path in folder.parent.iterdir()] == ["model"]


class TestBrokenModels:
    def test_wrong_folder(self, tmp_path):
        for folder in (tmp_path, tmp_path / "nowhere"):
            with pytest.raises(FileNotFoundError, match="holds no saved model"):
                PRMClassifier.load(folder)

    @pytest.mark.parametrize("keep", [0, 100, -1])
    @pytest.mark.parametrize(("head", "name"), [(None, "head.safetensors"), (GaussianNB(), "head.skops")])
    def test_truncated_or_missing_file(self, tmp_path, keep, head, name):
        on_statistics(head).fit(DATA.X, DATA.y).save(tmp_path / "model")
        file = tmp_path / "model" / name
        file.write_bytes(file.read_bytes()[:keep])
        with pytest.raises(ValueError, match=rf"{name} is damaged"):
            PRMClassifier.load(tmp_path / "model")
        file.unlink()
        with pytest.raises(ValueError, match=rf"{name} is missing"):
            PRMClassifier.load(tmp_path / "model")

    def test_tampered_safetensors(self, tmp_path):
        on_statistics(StepMLP(**SMALL)).fit(DATA.X, DATA.y).save(tmp_path / "model")
        file = tmp_path / "model" / "head.safetensors"
        content = bytearray(file.read_bytes())
        content[-1] ^= 1
        file.write_bytes(content)
        with pytest.raises(ValueError, match=r"head\.safetensors is damaged"):
            PRMClassifier.load(tmp_path / "model")

    @pytest.mark.parametrize("text", ["", "{", "[]", "\xff"])
    def test_damaged_config(self, saved, text):
        (saved[1] / "config.json").write_text(text, encoding="latin-1")
        with pytest.raises(ValueError, match=r"config\.json (is damaged|describes no PRMClassifier)"):
            PRMClassifier.load(saved[1])

    def test_config_of_another_model(self, saved):
        (saved[1] / "config.json").write_text('{"model_type": "bert"}')
        with pytest.raises(ValueError, match="describes no PRMClassifier"):
            PRMClassifier.load(saved[1])

    def test_config_without_a_key(self, saved):
        self.edit(saved[1], lambda config: config["settings"].pop("classes"))
        with pytest.raises(ValueError, match=r"without \['classes'\]"):
            PRMClassifier.load(saved[1])

    def test_future_format(self, saved):
        self.edit(saved[1], lambda config: config.update(format=99, versions={"prmkit": "9.0"}))
        with pytest.raises(ValueError, match=r"format 99, this prmkit reads 3: it was saved by prmkit 9\.0"):
            PRMClassifier.load(saved[1])

    def test_file_names_do_not_leave_the_folder(self, saved):
        self.edit(saved[1], lambda config: config["files"].update({"../../etc/passwd": "0"}))
        with pytest.raises(ValueError, match="which lies outside the model"):
            PRMClassifier.load(saved[1])

    @staticmethod
    def edit(folder, change):
        config = json.loads((folder / "config.json").read_text())
        change(config)
        (folder / "config.json").write_text(json.dumps(config))


class Foreign(ClassifierMixin, BaseEstimator):
    """A classifier that prmkit does not know."""

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        return self

    def predict_proba(self, X):
        return np.full((X.shape[0], len(self.classes_)), 1 / len(self.classes_))


class Altered(StepMLP):
    """A torch head that prmkit does not know."""


class TestTrust:
    @pytest.mark.parametrize("head", [Foreign(), Altered(**SMALL), make_pipeline(StandardScaler(), StepMLP(**SMALL))])
    def test_what_could_not_be_loaded_is_not_saved(self, tmp_path, head):
        clf = on_statistics(head).fit(DATA.X, DATA.y)
        with pytest.raises(ValueError, match=r"Foreign|Altered|StepMLP"):
            clf.save(tmp_path / "model")
        assert list(tmp_path.iterdir()) == []

    @pytest.fixture
    def foreign(self, tmp_path):
        """A saved model whose head somebody has replaced by a class of their own."""
        import skops.io

        folder = tmp_path / "model"
        on_statistics(GaussianNB()).fit(DATA.X, DATA.y).save(folder)
        skops.io.dump(Foreign().fit(None, DATA.y), folder / "head.skops")
        self.accept(folder, "head.skops")
        return folder

    def test_an_untrusted_type_is_named_and_not_loaded(self, foreign):
        with pytest.raises(ValueError, match=r"does not vouch for: \[.*Foreign'\].*skops\.io\.load"):
            PRMClassifier.load(foreign)

    @pytest.mark.parametrize("break_archive", [False, True])
    def test_another_version_of_scikit_learn_is_named_and_nobody_is_mistrusted(self, foreign, break_archive):
        config = json.loads((foreign / "config.json").read_text())
        config["versions"]["scikit-learn"] = "1.2.7"
        (foreign / "config.json").write_text(json.dumps(config))
        if break_archive:
            (foreign / "head.skops").write_bytes(b"no archive")
            self.accept(foreign, "head.skops")
        with pytest.raises(
            ValueError, match=r"saved under scikit-learn 1\.2\.7, and .*under scikit-learn 1\.2\.\*"
        ) as error:
            PRMClassifier.load(foreign)
        assert "vouch" not in str(error.value)

    @staticmethod
    def accept(folder, name):
        """What somebody who tampers does: write the checksum that fits."""
        import hashlib

        config = json.loads((folder / "config.json").read_text())
        config["files"][name] = hashlib.sha256((folder / name).read_bytes()).hexdigest()
        (folder / "config.json").write_text(json.dumps(config))


def test_not_fitted(tmp_path):
    with pytest.raises(NotFittedError):
        PRMClassifier().save(tmp_path / "model")


def test_a_classifier_that_knows_nothing_of_its_problems_is_saved(tmp_path):
    clf = PRMClassifier(StepStatistics()).fit(DATA.X, DATA.y)
    del clf.training_problems_  # as a pickle from before
    clf.save(tmp_path / "model")
    assert PRMClassifier.load(tmp_path / "model").training_problems_ is None


class TestOneDoor:
    """``save_model`` and ``load_model`` take every fitted model of prmkit."""

    @pytest.mark.parametrize("name", ["statistics", "calibrated"])
    def test_models_of_the_first_layout_load(self, name):
        """They were saved by commit 652d848, when the classes inside stood in other modules."""
        folder = Path(__file__).parent / "saved_before_0_1" / name
        expected = np.load(folder.parent / "statistics.npy")
        data = make_arithmetic_solutions(60, random_state=0)
        model = load_model(folder)
        proba = model.predict_proba(data.X[:20])
        if name == "statistics":
            np.testing.assert_allclose(proba, expected, atol=1e-9)
        else:
            np.testing.assert_allclose(model.classifier_.predict_proba(data.X[:20]), expected, atol=1e-9)
            assert model.temperature_ > 0
        assert model.score_solutions(data.solutions[:1])[0].rewards.shape == (data.solutions[0].n_steps,)

    def test_a_token_model_of_the_first_layout_loads_under_the_new_names_of_its_parameters(self, tmp_path):
        """Commit 652d848 fitted and saved it, with settings that have other names today."""
        folder = Path(__file__).parent / "saved_before_0_1" / "tokens"
        X = make_arithmetic_solutions(60, random_state=0).X[:20]
        old_names = json.loads((folder / "config.json").read_text())["head"]["params"]
        assert {"backbone", "backbone_options", "max_problem_length", "max_epochs", "warmup"} <= set(old_names)
        head = load_model(folder).head_
        expected = np.load(folder.parent / "tokens.npy")
        np.testing.assert_allclose(head.predict_proba(X), expected, atol=1e-6)
        params = {
            "model": "base",
            "model_kwargs": {"num_hidden_layers": 2},
            "max_prompt_length": 40,
            "num_train_epochs": 2,
            "warmup_steps": 0.2,
            "step_separator": " #",
        }
        assert {name: head.get_params()[name] for name in params} == params
        assert (head.scheme_.step_separator, head.scheme_.max_prompt_length) == (" #", 40)
        save_model(load_model(folder), tmp_path / "again")
        again = load_model(tmp_path / "again").head_
        assert again.get_params() == head.get_params()
        np.testing.assert_allclose(again.predict_proba(X), expected, atol=1e-6)

    def test_everything_comes_back_as_what_it_was(self, tmp_path):
        other = make_arithmetic_solutions(30, 2, error_rate=0.5, random_state=1)
        clf = on_statistics().fit(DATA.X, DATA.y)
        calibrated = CalibratedStepClassifier(clf).fit(other.X, other.y)
        models = [
            clf,
            calibrated,
            StepEnsemble(on_statistics(), 2, random_state=0).fit(other.X, other.y),
            MCDropout(on_statistics(StepMLP(**SMALL)).fit(DATA.X, DATA.y), 2),
            PrefixCertifier(calibrated, alpha=0.4).fit(
                make_arithmetic_solutions(20, random_state=2).solutions,
                make_arithmetic_solutions(20, random_state=2).first_errors,
            ),
            LengthShift().fit(DATA.X),
        ]
        for model in models:
            save_model(model, tmp_path / type(model).__name__)
            loaded = load_model(tmp_path / type(model).__name__)
            assert type(loaded) is type(model)
            if model.scores_steps:
                np.testing.assert_array_equal(loaded.predict_proba(DATA.X), model.predict_proba(DATA.X))
            config = json.loads((tmp_path / type(model).__name__ / "config.json").read_text())
            assert config["versions"]["prmkit"] == prmkit.__version__

    def test_what_is_no_model_is_refused(self, tmp_path):
        with pytest.raises(TypeError, match="the model is LogisticRegression, which cannot be saved"):
            save_model(LogisticRegression(), tmp_path / "model")
        with pytest.raises(FileNotFoundError, match="holds no saved model"):
            load_model(tmp_path)

    @pytest.mark.parametrize("name", ["NeighborShift", "os", "SavedModel", "path_uncertainty"])
    def test_a_class_of_another_version_is_named_and_nothing_is_imported(self, saved, name):
        file = saved[1] / "config.json"
        config = json.loads(file.read_text())
        file.write_text(json.dumps(config | {"class": name, "versions": {"prmkit": "0.0.7"}}))
        with pytest.raises(ValueError, match=f"'{name}', which this prmkit does not have.* by prmkit 0.0.7"):
            load_model(saved[1])

    def test_a_subclass_is_saved_as_what_prmkit_knows(self, tmp_path):
        class Mine(PRMClassifier):
            pass

        Mine(StepStatistics()).fit(DATA.X, DATA.y).save(tmp_path / "model")
        assert type(Mine.load(tmp_path / "model")) is Mine
        assert type(load_model(tmp_path / "model")) is PRMClassifier
