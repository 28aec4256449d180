"""Converted models: the numbers of torch, whatever the company and the threads, and files that do no harm."""

import errno
import multiprocessing
import os
import pickle
import shutil
import warnings
from importlib.util import find_spec

import numpy as np
import pytest
from joblib import Parallel, delayed
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression

from prmkit import PRMClassifier
from prmkit.features import PRMFeaturizer
from prmkit.features.encoding import choice
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


LAYOUTS = {
    # The architecture, the side of the padding, the pooling, and the modules after it.
    "mpnet": ("MPNetConfig", "left", "mean", ("Dense", "Normalize")),
    "distilbert": ("DistilBertConfig", "right", "cls", ()),
    "roberta": ("RobertaConfig", "left", "max", ("Normalize",)),
    "modernbert": ("ModernBertConfig", "right", "mean", ("Dense",)),
    "deberta": ("DebertaV2Config", "left", "cls", ("Normalize",)),
    "causal": ("Qwen2Config", "right", "lasttoken", ("Normalize",)),
    "causal, padded on the left": ("Qwen2Config", "left", "lasttoken", ()),
}


@pytest.fixture(scope="module")
def of_layout(tmp_path_factory, make_tokenizer):
    """Return a function that makes the folder of a small random model of a layout, with large weights."""
    import torch
    import transformers
    from sentence_transformers import SentenceTransformer, models
    from tokenizers.processors import TemplateProcessing

    def make(layout):
        kind, side, pooling, after = LAYOUTS[layout]
        folder = tmp_path_factory.mktemp("layout")
        tokenizer = make_tokenizer(bos="<bos>")
        tokenizer.padding_side, tokenizer.model_max_length = side, 64
        ends = [(token, tokenizer.convert_tokens_to_ids(token)) for token in ("<bos>", "<eos>")]
        tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single="<bos> $A <eos>", special_tokens=ends)
        sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
        if kind == "DistilBertConfig":
            sizes = {"dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 64}
        if kind == "Qwen2Config":
            sizes["num_key_value_heads"] = 1
        if kind == "DebertaV2Config":
            sizes |= {"relative_attention": True, "pos_att_type": ["c2p", "p2c"]}
        special = dict.fromkeys(("cls_token_id", "bos_token_id"), tokenizer.bos_token_id)
        special |= dict.fromkeys(("sep_token_id", "eos_token_id"), tokenizer.eos_token_id)
        config = getattr(transformers, kind)(
            vocab_size=len(tokenizer),
            max_position_embeddings=80,
            initializer_range=0.3,
            pad_token_id=tokenizer.pad_token_id,
            **sizes,
            **special,
        )
        with torch.random.fork_rng():
            torch.manual_seed(0)
            transformers.AutoModel.from_config(config).save_pretrained(folder / "plain")
            tokenizer.save_pretrained(folder / "plain")
            modules = [models.Transformer(str(folder / "plain")), models.Pooling(32, pooling_mode=pooling)]
            modules += [models.Dense(32, 16) if name == "Dense" else models.Normalize() for name in after]
        SentenceTransformer(modules=modules, device="cpu").save(str(folder / "model"))
        return folder / "model"

    return make


STEPS = ["", "x", "3 * 4 = 12.", "So the answer is 14.", "We add 2 and 12, " * 3, "What is 2 + 3 * 4? It is 14. " * 9]


def check_layout(kind, layout, of_layout, folder):
    model = described(of_layout(layout), folder)
    expected = model.network.encode(STEPS)
    assert converted.cosines(expected[1:], expected[:-1]).max() < 0.99  # so the texts can be told apart
    cosines = converted.cosines(encoded(loaded(kind, "float32", model), model, STEPS), expected)
    assert cosines.min() >= 0.9999


def test_an_architecture_and_its_pooling_are_converted(of_layout, kept_folder):
    check_layout("onnx", "distilbert", of_layout, kept_folder)


@pytest.mark.slow
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kind", ["openvino", "onnx"])
def test_architectures_poolings_and_paddings_are_converted(kind, layout, of_layout, kept_folder):
    check_layout(kind, layout, of_layout, kept_folder)


@pytest.fixture
def unpinned(monkeypatch, tmp_path):
    """Nothing is pinned, kept or remembered."""
    monkeypatch.delenv("PRMKIT_BACKEND")
    monkeypatch.setenv("PRMKIT_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(choice, "_known", {})


@pytest.mark.slow
def test_a_model_that_no_runtime_takes_leaves_torch_with_one_warning_and_is_an_error_by_name(
    unpinned, tiny_model, texts, monkeypatch
):
    kinds = [kind for kind, package in (("openvino", "openvino"), ("onnx", "onnxruntime")) if find_spec(package)]
    if not kinds:
        pytest.skip("torch alone is installed")
    monkeypatch.setattr(converted, "_LEAST_COSINE", 1.1)  # as if the tracer had frozen something
    auto = PRMFeaturizer(model=tiny_model, device="cpu", dtype="float32", context="none", show_progress=False)
    with pytest.warns(UserWarning, match=rf"do not compute .*{'-float32.*'.join(kinds)}-float32") as caught:
        auto.transform(texts)
    assert len(caught) == 1
    assert auto.backend_["name"] == "torch"
    for kind in kinds:
        with pytest.raises(RuntimeError, match=rf"backend='{kind}' cannot compute .*BertModel.*pass backend='torch'"):
            clone(auto).set_params(backend=kind).transform(texts)


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are not forked here")
def test_two_processes_that_convert_at_once_do_no_harm(unpinned, tiny_model, texts, tmp_path, monkeypatch):
    pytest.importorskip("onnxruntime")
    fork = multiprocessing.get_context("fork")
    together, check = fork.Barrier(2), converted.check_conversion

    def check_together(*args):
        together.wait(60)  # both have found no copy, and have made one
        check(*args)

    def convert(number):
        rows = PRMFeaturizer(model=tiny_model, device="cpu", backend="onnx", context="none", cache=False).transform(
            texts
        )
        np.save(tmp_path / f"{number}.npy", rows)

    monkeypatch.setattr(converted, "check_conversion", check_together)
    processes = [fork.Process(target=convert, args=(number,)) for number in (1, 2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    one, two = (np.load(tmp_path / f"{number}.npy") for number in (1, 2))
    np.testing.assert_array_equal(one, two)
    [file] = converted.converted_files(tmp_path / "cache")
    assert [path for path in file.parent.iterdir() if path != file] == []
    monkeypatch.setattr(converted, "check_conversion", lambda *args: pytest.fail("converted again"))
    convert(3)
    np.testing.assert_array_equal(np.load(tmp_path / "3.npy"), one)


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

    def test_a_saved_model_has_the_copy_inside(self, kind, tiny_model, texts, tmp_path, run_python):
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
        arguments = [str(tmp_path / "model"), str(tmp_path / "p.npy"), *texts[40:50]]
        run_python(program, *arguments, folder=tmp_path, PRMKIT_CACHE_DIR=str(tmp_path / "empty"))
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
