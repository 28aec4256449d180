"""Converted models: the numbers of torch, whatever the company and the threads, and files that do no harm."""

import errno
import os
import pickle
import shutil
import subprocess
import sys
import warnings

import numpy as np
import pytest
from joblib import Parallel, delayed
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression

from prmkit import PRMClassifier
from prmkit.features import PRMFeaturizer
from prmkit.features.encoding.backends import converted, quantized
from prmkit.features.encoding.backends.backend import EncoderModel, load_backend
from prmkit.features.encoding.model_path import load_network
from prmkit.features.encoding.text_tokens import TextTokens
from prmkit.utils.ragged import fixed_batches

KINDS = [("openvino", "float32"), ("openvino", "bfloat16"), ("onnx", "float32")]


@pytest.fixture(scope="module")
def kept_folder(tmp_path_factory):
    return tmp_path_factory.mktemp("kept")


def described(path, folder, n_threads=1):
    network = load_network(path, None)
    extras = TextTokens.of(network, [""], network.max_seq_length).extras
    return EncoderModel(network, str(path), folder, "cpu", n_threads, extras)


def loaded(kind, dtype, model):
    pytest.importorskip("openvino" if kind == "openvino" else "onnxruntime")
    return load_backend(kind, dtype, model)


def encoded(backend, model, texts, n_threads=1):
    tokens = TextTokens.of(model.network, texts, model.network.max_seq_length)
    batches = list(fixed_batches(tokens.lengths, 64, model.network.max_seq_length))
    found = Parallel(n_threads, prefer="threads")(delayed(backend)(tokens.batch(*batch)) for batch in batches)
    rows = np.zeros((len(texts), found[0].shape[1]), dtype=np.float32)
    for (indices, *_), vectors in zip(batches, found, strict=True):
        rows[indices] = vectors[: len(indices)]
    return rows


@pytest.mark.parametrize(("kind", "dtype"), KINDS)
def test_the_vectors_are_those_of_torch(kind, dtype, tiny_model, kept_folder, texts):
    model = described(tiny_model, kept_folder)
    backend = loaded(kind, dtype, model)
    found = encoded(backend, model, texts)
    assert (backend.name, backend.dtype, found.dtype) == (kind, dtype, np.float32)
    tolerance = 1e-5 if dtype == "float32" else 0.03
    np.testing.assert_allclose(found, model.network.encode(texts), atol=tolerance)


@pytest.mark.parametrize(("kind", "dtype"), KINDS)
def test_neither_company_nor_threads_change_a_bit(kind, dtype, tiny_model, kept_folder, texts):
    model = described(tiny_model, kept_folder, n_threads=3)
    backend, rng = loaded(kind, dtype, model), np.random.default_rng(0)
    alone = load_backend(kind, dtype, described(tiny_model, kept_folder))
    whole = encoded(alone, model, texts)
    np.testing.assert_array_equal(encoded(backend, model, texts, n_threads=3), whole)
    for size in (1, 2, 7, 30):
        rows = rng.choice(len(texts), size, replace=False)
        np.testing.assert_array_equal(encoded(backend, model, [texts[i] for i in rows]), whole[rows])


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["openvino", "onnx"])
def test_a_kept_copy_saves_the_conversion_and_damage_only_the_copy(kind, tiny_model, tmp_path, texts, monkeypatch):
    model = described(tiny_model, tmp_path)
    expected = encoded(loaded(kind, "float32", model), model, texts)
    [file] = converted.converted_files(tmp_path)
    whole = file.read_bytes()
    conversions = []
    check = converted.check_conversion
    monkeypatch.setattr(converted, "check_conversion", lambda *args: (conversions.append(1), check(*args)))
    np.testing.assert_array_equal(encoded(load_backend(kind, "float32", model), model, texts), expected)
    assert not conversions
    for damaged in (whole[:-100], whole[:1000] + b"?" + whole[1001:], b""):
        file.write_bytes(damaged)
        np.testing.assert_array_equal(encoded(load_backend(kind, "float32", model), model, texts), expected)
        assert converted.converted_files(tmp_path) == [file]
        assert conversions.pop()
    load_backend(kind, "float32", described(tiny_model, tmp_path / "elsewhere"))
    assert conversions.pop()


def test_a_full_disk_costs_one_warning(tiny_model, tmp_path, texts, monkeypatch):
    def full(path):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(converted, "replacing", full)
    model = described(tiny_model, tmp_path)
    with pytest.warns(UserWarning, match="cannot be kept") as caught:
        backend = loaded("openvino", "float32", model)
    assert len(caught) == 1
    np.testing.assert_allclose(encoded(backend, model, texts), model.network.encode(texts), atol=1e-5)


def test_only_the_latest_used_copies_are_kept(tmp_path, tiny_model, monkeypatch):
    monkeypatch.setattr(converted, "_MOST_BYTES", 300)
    model = described(tiny_model, tmp_path)
    for kind in ("a", "b", "a", "c"):  # 132 bytes each
        assert converted.kept(model, kind, (), lambda kind=kind: kind.encode() * 100) == kind.encode() * 100
    assert [file.name[0] for file in converted.converted_files(tmp_path)] == ["a", "c"]


def test_a_model_that_cannot_be_converted_is_named(tiny_model, tmp_path, monkeypatch):
    from sentence_transformers import SentenceTransformer

    pytest.importorskip("openvino")
    model = described(tiny_model, tmp_path)
    monkeypatch.setattr(converted, "_LEAST_COSINE", 1.1)  # as if the tracer had frozen something
    with pytest.raises(converted.CannotConvertError, match=r"BertModel cannot be converted: .*cosine"):
        load_backend("openvino", "float32", model)
    assert not converted.converted_files(tmp_path)
    modules = [model.network[1]]
    bare = EncoderModel(SentenceTransformer(modules=modules, device="cpu"), "x", tmp_path, "cpu", 1, {})
    with pytest.raises(converted.CannotConvertError, match="Pooling"):
        load_backend("openvino", "float32", bare)


def test_a_backend_that_is_not_installed_is_named(tiny_model, tmp_path, monkeypatch):
    from prmkit.features.encoding.backends import backend

    monkeypatch.setattr(backend, "find_spec", lambda name: None)
    for name in ("openvino", "onnx"):
        with pytest.raises(ImportError, match=rf"backend='{name}' needs {name}.*: pip install {name}"):
            load_backend(name, "float32", described(tiny_model, tmp_path))


def featurizer(tiny_model, kind, **options):
    pytest.importorskip("nncf")
    pytest.importorskip("openvino" if kind == "openvino-int8" else "onnxruntime")
    return PRMFeaturizer(model=tiny_model, backend=kind, show_progress=False, **options)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["openvino-int8", "onnx-int8"])
class TestEightBits:
    def test_the_copy_is_calibrated_once_and_is_part_of_what_is_fitted(self, kind, tiny_model, texts, monkeypatch):
        exact = PRMFeaturizer(model=tiny_model, backend="torch", dtype="float32", show_progress=False)
        made = featurizer(tiny_model, kind).fit(texts[:40])
        found = made.transform(texts[40:])
        cosines = converted.cosines(found, exact.transform(texts[40:]))
        assert 0.99 <= made.backend_["cosine"] <= 1
        assert cosines.mean() > 0.99
        assert (cosines < 1 - 1e-7).any()  # it is not float32 under another name
        assert (made.backend_["name"], made.backend_["dtype"]) == (kind, "int8")
        # From here on nothing can be calibrated.
        monkeypatch.setattr(quantized, "_nncf", lambda: pytest.fail("calibrated again"))
        monkeypatch.setattr(converted, "_read", lambda path: None)
        for again in (made, pickle.loads(pickle.dumps(made))):
            np.testing.assert_array_equal(again.set_params(cache=False).transform(texts[40:]), found)
        assert not hasattr(clone(made), "quantized_")

    def test_a_saved_model_has_the_copy_inside(self, kind, tiny_model, texts, tmp_path):
        X, y = [step for text in texts[:30] for step in [f"{text} 1", f"{text} 2"]], [0, 1] * 30
        kwargs = {"featurizer": featurizer(tiny_model, kind, cache=False), "head": LogisticRegression()}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # plain strings
            fitted = PRMClassifier(**kwargs).fit(X, y)
        fitted.save(tmp_path / "model")
        program = (
            "import sys; from importlib.util import find_spec as find; import importlib.util\n"
            "importlib.util.find_spec = lambda name, package=None: None if name == 'nncf' else find(name, package)\n"
            "import numpy as np; from prmkit import PRMClassifier\n"
            "np.save(sys.argv[2], PRMClassifier.load(sys.argv[1]).predict_proba(sys.argv[3:]))"
        )
        environment = {**os.environ, "PRMKIT_CACHE_DIR": str(tmp_path / "empty")}
        arguments = [sys.executable, "-c", program, str(tmp_path / "model"), str(tmp_path / "p.npy"), *texts[40:50]]
        subprocess.run(arguments, check=True, env=environment)
        np.testing.assert_allclose(np.load(tmp_path / "p.npy"), fitted.predict_proba(texts[40:50]), rtol=0, atol=1e-12)

    def test_a_copy_that_loses_too_much_is_refused(self, kind, tiny_model, texts, monkeypatch):
        monkeypatch.setattr(quantized, "LEAST_COSINE", 1.1)
        words = rf"'{kind}' gives vectors with a mean cosine of [01]\.\d+ .*at least 1\.1"
        with pytest.raises(ValueError, match=words):
            featurizer(tiny_model, kind).fit(texts)

    def test_each_model_and_each_calibration_has_its_own_vectors(self, kind, tiny_model, texts, tmp_path):
        one, two = (featurizer(tiny_model, kind).fit(part) for part in (texts[:20], texts[20:]))
        assert one._loaded_encoder().fingerprint != two._loaded_encoder().fingerprint
        other = shutil.copytree(tiny_model, tmp_path / "other")
        (other / "note.json").write_text("{}")  # another hash of its files
        moved = pickle.loads(pickle.dumps(one)).set_params(model=other)
        moved.transform(texts[20:])
        assert moved.quantized_.tobytes()[12:] != one.quantized_.tobytes()[12:]  # calibrated on these texts


def test_eight_bits_without_the_package_that_makes_them(tiny_model, monkeypatch):
    from prmkit.features.encoding.backends import backend

    pytest.importorskip("openvino")
    find = backend.find_spec
    monkeypatch.setattr(backend, "find_spec", lambda name: None if name == "nncf" else find(name))
    assert not any("int8" in name for name in backend.available_backends())
    with pytest.raises(ImportError, match="backend='openvino-int8' needs nncf: pip install nncf"):
        PRMFeaturizer(model=tiny_model, backend="openvino-int8").transform(["one text"])
