"""The choice of a backend: measured and kept, never a flag's, and never two kinds of vectors under one name."""

import json
import logging
import pickle
import warnings
from importlib.util import find_spec
from threading import Event, Thread

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression

from prmkit import PRMClassifier, PRMFeaturizer
from prmkit.data import load_processbench
from prmkit.features import available_backends
from prmkit.features.encoding import choice as _choice
from prmkit.features.encoding.backends import _torch, backend as _backend
from prmkit.features.encoding.choice import Measured, choose
from prmkit.features.encoding.encoder import TextEncoder
from prmkit.models import StepMLP, StepTransformer
from prmkit.models.heads.head import featurizer_for
from prmkit.utils import environment
from prmkit.utils.environment import fast_bfloat16, in_threads
from prmkit.utils.files import locked

INSTALLED = _backend._BACKENDS
FLOAT, HALF, OTHER = ("torch", "float32"), ("torch", "bfloat16"), ("onnx", "float32")


@pytest.fixture(autouse=True)
def nothing_known(monkeypatch, tmp_path):
    """Nothing is pinned, remembered or kept, and torch alone is installed."""
    monkeypatch.delenv("PRMKIT_BACKEND")
    monkeypatch.setenv("PRMKIT_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(_choice, "_known", {})
    only_torch = {"torch": _backend._BACKENDS["torch"]}
    monkeypatch.setattr(_backend, "_BACKENDS", only_torch)


def fakes(rates, failed=None, asked=None):
    """A measurement that finds what it is told to find."""

    def measure(*args):
        pairs = args[-1]
        if asked is not None:
            asked.append(list(pairs))
        names = ["-".join(pair) for pair in pairs]
        return Measured({n: rates[n] for n in names if n in rates}, dict(failed or {}))

    return measure


@pytest.mark.parametrize(
    ("rates", "expected"),
    [
        ({"torch-float32": 100.0, "torch-bfloat16": 50.0}, FLOAT),
        ({"torch-float32": 100.0, "torch-bfloat16": 300.0}, HALF),
        ({"torch-float32": 97.0, "torch-bfloat16": 100.0}, FLOAT),  # nearly as fast, and exact
        ({"torch-float32": 100.0, "torch-bfloat16": 300.0, "onnx-float32": 305.0}, OTHER),
    ],
)
def test_the_fastest_wins_unless_an_exact_one_is_nearly_as_fast(tmp_path, rates, expected):
    pairs = [FLOAT, HALF, OTHER][: len(rates)]
    found = choose(pairs, tmp_path, "digest", "a model", fakes(rates))
    assert (found.name, found.dtype) == expected
    assert found.rates == rates


@pytest.mark.parametrize("flag", [True, False])
def test_a_flag_of_the_processor_decides_nothing(tiny_model, texts, monkeypatch, flag):
    """Whatever the flags promise, what was measured counts."""
    import torch

    for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        monkeypatch.setattr(torch.cpu, name, lambda: flag, raising=False)
    measured = {"torch-float32": 200.0 if flag else 100.0, "torch-bfloat16": 100.0 if flag else 200.0}
    monkeypatch.setattr("prmkit.features.encoding.encoder.measure_pairs", fakes(measured))
    featurizer = PRMFeaturizer(model=str(tiny_model), device="cpu")
    featurizer.transform(texts[:4])
    assert featurizer.backend_["dtype"] == ("float32" if flag else "bfloat16")
    assert featurizer.precision == featurizer.backend_["dtype"]
    monkeypatch.setattr(environment, "matrix_product_seconds", lambda dtype: measured[f"torch-{dtype}"])
    fast_bfloat16.cache_clear()
    assert fast_bfloat16("cpu") == flag  # seconds here: fewer are faster
    fast_bfloat16.cache_clear()


def test_a_real_measurement_is_made_once_kept_and_said(tiny_model, texts, tmp_path, monkeypatch, caplog):
    caplog.set_level(logging.INFO, logger="prmkit")
    first = PRMFeaturizer(model=str(tiny_model), device="cpu", cache=False)
    rows = first.transform(texts)
    chosen = first.backend_
    assert set(chosen["rates"]) == {"torch-float32", "torch-bfloat16"}
    assert min(chosen["rates"].values()) > 0
    assert len([one for one in caplog.records if "tokens per second" in one.getMessage()]) == 1
    (file,) = (tmp_path / "backends").glob("*.json")
    assert json.loads(file.read_text())["rates"] == chosen["rates"]

    monkeypatch.setattr("prmkit.features.encoding.encoder.measure_pairs", lambda *args: pytest.fail("measured again"))
    again = PRMFeaturizer(model=str(tiny_model), device="cpu", cache=False, batch_size=64)
    np.testing.assert_array_equal(again.transform(texts), rows)
    monkeypatch.setattr(_choice, "_known", {})  # another process
    assert clone(first).fit(texts).transform(texts).shape == rows.shape
    assert len(caplog.records) == 1
    pinned = PRMFeaturizer(model=str(tiny_model), device="cpu", backend="torch", dtype=chosen["dtype"], cache=False)
    np.testing.assert_array_equal(pinned.transform(texts), rows)


@pytest.mark.parametrize(
    "damage", ["", "{", "[]", '{"rates": {"torch-float32": NaN, "torch-bfloat16": 1}, "failed": {}}']
)
def test_a_damaged_file_is_measured_again(tmp_path, monkeypatch, damage):
    rates, asked = {"torch-float32": 1.0, "torch-bfloat16": 2.0}, []
    for _ in range(2):
        monkeypatch.setattr(_choice, "_known", {})
        assert choose([FLOAT, HALF], tmp_path, "digest", "a model", fakes(rates, asked=asked)).dtype == "bfloat16"
        (file,) = (tmp_path / "backends").glob("*.json")
        file.write_text(damage)
    assert len(asked) == 2


def test_what_changes_the_speed_changes_the_key(tmp_path, monkeypatch):
    rates, asked = {"torch-float32": 1.0, "torch-bfloat16": 2.0}, []

    def choose_now(digest="digest"):
        choose([FLOAT, HALF], tmp_path, digest, "a model", fakes(rates, asked=asked))
        return len(asked)

    assert [choose_now(), choose_now(), choose_now("another model")] == [1, 1, 2]
    for name, value in (
        ("sharing_threads", lambda: 7),
        ("installed_version", lambda package: "99"),
        ("_processor", lambda: "another one"),
    ):
        with monkeypatch.context() as patch:
            before = len(asked)
            patch.setattr(_choice, name, value)
            assert choose_now() == before + 1
    assert choose_now() == 5


def test_where_nothing_can_be_written_the_process_remembers(tmp_path):
    (tmp_path / "backends").write_text("a file where the folder should be")
    rates, asked = {"torch-float32": 1.0, "torch-bfloat16": 2.0}, []
    for _ in range(2):
        choose([FLOAT, HALF], tmp_path, "digest", "a model", fakes(rates, asked=asked))
    assert len(asked) == 1


def test_a_process_waits_for_another_one_that_measures(tmp_path, monkeypatch):
    """Workers of a cross-validation start together, and must not choose differently."""
    rates, asked = {"torch-float32": 1.0, "torch-bfloat16": 2.0}, []
    choose([FLOAT, HALF], tmp_path, "digest", "a model", fakes(rates, asked=asked))
    (file,) = (tmp_path / "backends").glob("*.json")
    measured = file.read_text()
    file.unlink()
    monkeypatch.setattr(_choice, "_known", {})
    begun, done = Event(), Event()

    def other_process():
        with locked(file.with_suffix(".lock"), "busy"):
            begun.set()
            done.wait(30)
            file.write_text(measured.replace("2.0", "0.5"))

    other = Thread(target=other_process)
    other.start()
    begun.wait(30)
    monkeypatch.setattr(_choice.time, "sleep", lambda seconds: done.set())
    found = choose([FLOAT, HALF], tmp_path, "digest", "a model", fakes(rates, asked=asked))
    other.join()
    assert (found.dtype, len(asked)) == ("float32", 1)
    # One that hangs is waited for, but not for ever.
    monkeypatch.setattr(_choice, "_known", {})
    monkeypatch.setattr(_choice, "_MOST_WAIT", 0)
    file.unlink()
    with locked(file.with_suffix(".lock"), "busy"):
        choose([FLOAT, HALF], tmp_path, "digest", "a model", fakes(rates, asked=asked))
    assert len(asked) == 2


class Broken(_torch.TorchBackend):
    """A runtime that cannot run this model, in one of several ways."""

    name = "onnx"
    way = "loads"

    def __call__(self, tokens):
        if self.way == "computes":
            raise NotImplementedError("no kernel for this layer\nmore")
        return super().__call__(tokens) + (100 if self.way == "is right" else 0)


@pytest.mark.parametrize("way", ["loads", "computes", "is right"])
def test_a_backend_that_fails_is_left_out_with_a_warning_or_named_in_an_error(tiny_model, texts, monkeypatch, way):
    def load(name, dtype, model):
        if name == "torch":
            return _torch.load(model, dtype)
        if way == "loads":
            raise NotImplementedError("no kernel for this layer")
        return Broken(model, dtype)

    monkeypatch.setattr(Broken, "way", way)
    table = _backend._BACKENDS | {"onnx": _backend._Entry("_onnx", (), ("float32",))}
    monkeypatch.setattr(_backend, "_BACKENDS", table)
    for module in ("choice", "encoder"):
        monkeypatch.setattr(f"prmkit.features.encoding.{module}.load_backend", load)
    featurizer = PRMFeaturizer(model=str(tiny_model), device="cpu", dtype="float32", cache=False)
    with pytest.warns(UserWarning, match=r"do not compute .*model.*onnx-float32.*backend='torch'") as caught:
        rows = featurizer.transform(texts)
    assert len(caught) == 1
    assert featurizer.backend_["name"] == "torch"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(clone(featurizer).transform(texts), rows)
    if way != "is right":
        named = PRMFeaturizer(model=str(tiny_model), device="cpu", backend="onnx", cache=False)
        with pytest.raises(RuntimeError, match=rf"backend='onnx' cannot compute {tiny_model}.*no kernel"):
            named.transform(texts)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"backend": "tensorrt"}, r"backend is 'tensorrt', expected 'auto' or one of \['torch'"),
        ({"backend": "openvino"}, "expected 'auto' or one of"),
        ({"backend": "torch", "dtype": "int8"}, "dtype"),
        ({"backend": "auto", "dtype": None}, "dtype"),
    ],
)
def test_an_unknown_backend_or_precision_is_an_error(tiny_model, settings, message):
    with pytest.raises(ValueError, match=message):
        PRMFeaturizer(model=str(tiny_model), device="cpu", **settings).transform(["x"])


def test_a_backend_that_is_not_installed_names_what_to_install(tiny_model, monkeypatch):
    table = _backend._BACKENDS | {"fast": _backend._Entry("_fast", ("no_such_package",), ("float32",))}
    monkeypatch.setattr(_backend, "_BACKENDS", table)
    assert available_backends() == ["torch"]
    with pytest.raises(ImportError, match="backend='fast' needs no_such_package: pip install no_such_package"):
        PRMFeaturizer(model=str(tiny_model), device="cpu", backend="fast").transform(["x"])


def test_the_cache_does_not_mix_backends(tiny_model):
    names = {
        TextEncoder(tiny_model, device="cpu", backend="torch", dtype=dtype).fingerprint
        for dtype in ("float32", "bfloat16", "float16")
    }
    assert len(names) == 3
    assert all("torch" in name for name in names)


def the_choice_of(clf):
    part = clf.featurizer_ if clf.featurizer_ is not None else clf.head_.views_["embeddings"]
    return part.backend_


@pytest.mark.parametrize("head", [None, StepMLP(max_epochs=2)])
def test_a_saved_model_is_used_by_precisions_at_least_as_exact(head, tiny_model, texts, tmp_path, monkeypatch):
    """Fitted in float32 here, it is not read in bfloat16 there. A clone and a new fit choose freely."""
    here = fakes({"torch-float32": 2.0, "torch-bfloat16": 1.0})
    there = fakes({"torch-float32": 1.0, "torch-bfloat16": 2.0})
    measure = "prmkit.features.encoding.encoder.measure_pairs"
    monkeypatch.setattr(measure, here)
    y = [i % 2 for i in range(len(texts))]
    clf = PRMClassifier(PRMFeaturizer(model=str(tiny_model), device="cpu", context="none"), head)
    clf.fit(texts, y)
    clf.save(tmp_path / "saved")
    kept = pickle.dumps(clf)

    monkeypatch.setattr(_choice, "_known", {})
    monkeypatch.setattr(_choice, "_processor", lambda: "another machine")
    monkeypatch.setattr(measure, there)
    for loaded in (PRMClassifier.load(tmp_path / "saved"), pickle.loads(kept)):
        assert the_choice_of(loaded)["dtype"] == "float32"
        loaded.predict_proba(texts)
        assert the_choice_of(loaded)["dtype"] == "float32"
        assert the_choice_of(loaded)["reason"] == "it is the only one that is left open here"
    fresh = clone(clf).fit(texts, y)
    assert the_choice_of(fresh)["dtype"] == "bfloat16"
    fresh.save(tmp_path / "half")
    assert the_choice_of(PRMClassifier.load(tmp_path / "half"))["dtype"] == "bfloat16"


@pytest.mark.parametrize(
    ("head", "dtype"),
    [
        (StepMLP(), "auto"),
        (StepTransformer(), "auto"),
        (LogisticRegression(), "float32"),
        (HistGradientBoostingClassifier(), "float32"),
        (RandomForestClassifier(), "float32"),
    ],
)
def test_a_head_that_may_jump_gets_vectors_in_float32(head, dtype):
    """In bfloat16 a tree moved a probability by .19 on real steps, so this is nobody's default."""
    assert featurizer_for(head).dtype == dtype
    assert featurizer_for(head, PRMFeaturizer(dtype="bfloat16")).dtype == "bfloat16"  # as the user says
    assert featurizer_for(head, PRMFeaturizer(backend="onnx-int8")).dtype == "auto"


@pytest.mark.slow
def test_no_exact_pair_moves_a_probability_of_a_default_by_more_than_two_hundredths(
    offline_model, data_folder, monkeypatch, subtests
):
    """One test, so that several processes of pytest do not each encode the steps by all pairs."""
    data = load_processbench(data_folder / "processbench" / "gsm8k.json")
    X, y = list(data.X), np.asarray(data.y)
    monkeypatch.setattr(_backend, "_BACKENDS", INSTALLED)
    for head in (None, StepMLP(random_state=0), StepTransformer(random_state=0)):
        featurizer = PRMFeaturizer(model=offline_model, device="cpu", backend="torch", dtype="float32")
        clf = PRMClassifier(featurizer, head).fit(X[:300], y[:300])
        exact = clf.predict_proba(X[300:600])
        part = clf.featurizer_ if clf.featurizer_ is not None else clf.head_.views_["embeddings"]
        for backend, dtype in (HALF, ("openvino", "float32"), ("openvino", "bfloat16"), OTHER):
            with subtests.test(f"{head}, {backend}, {dtype}"):
                if not all(map(find_spec, INSTALLED[backend].packages)):
                    pytest.skip(f"{backend} is not installed")
                part.set_params(backend=backend, dtype=dtype)
                moved = np.abs(exact - clf.predict_proba(X[300:600])).max()
                assert 0 < moved <= (0.02 if dtype == "bfloat16" else 1e-3)


def test_a_pinned_process_measures_nothing(tiny_model, texts, monkeypatch):
    monkeypatch.setattr("prmkit.features.encoding.encoder.measure_pairs", lambda *args: pytest.fail("measured"))
    for pin, dtype in (("torch-float32", "float32"), ("torch-bfloat16", "bfloat16")):
        monkeypatch.setenv("PRMKIT_BACKEND", pin)
        featurizer = PRMFeaturizer(model=str(tiny_model), device="cpu")
        featurizer.transform(texts[:3])
        assert featurizer.backend_["dtype"] == dtype


@pytest.mark.parametrize("backend", [name for name in available_backends() if "int8" not in name])
def test_company_and_threads_change_no_bit(backend, tiny_model, texts, monkeypatch):
    """Of any backend: the vectors of a text alone, among others, and on two threads."""
    import torch

    monkeypatch.setattr(_backend, "_BACKENDS", INSTALLED)
    encoder = TextEncoder(tiny_model, device="cpu", backend=backend)
    whole, rng = encoder.encode(texts), np.random.default_rng(0)
    for size in (1, 2, 5, 30):
        rows = rng.choice(len(texts), size, replace=False)
        np.testing.assert_array_equal(encoder.encode([texts[i] for i in rows]), whole[rows])
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        np.testing.assert_array_equal(encoder.encode(texts), whole)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_threads_of_one_core_share_the_work_and_leave_nothing_behind():
    import threading

    import torch

    before, running = torch.get_num_threads(), threading.active_count()
    try:
        torch.set_num_threads(2)
        seen = list(in_threads(lambda i: (i, torch.get_num_threads(), threading.get_ident()), range(20)))
        assert [i for i, _, _ in seen] == list(range(20))
        assert {n for _, n, _ in seen} == {1}
        assert threading.get_ident() not in {ident for _, _, ident in seen}
        results = in_threads(lambda i: 1 // (3 - i), range(20))
        with pytest.raises(ZeroDivisionError):
            list(results)
        started = in_threads(lambda i: i, range(100))
        next(started)
        started.close()
        assert threading.active_count() == running
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
