"""The cache: every text once, whoever asks; never in the way, whatever happens to its file."""

import os
import pickle
import signal
import subprocess
import sys
import time
import warnings

import numpy as np
import pytest

from prmkit.features.encoding.cache import EmbeddingCache, encode_cached

WRITER = """
import sys, numpy as np
from prmkit.features.encoding.cache import EmbeddingCache
cache, name = EmbeddingCache(sys.argv[1]), sys.argv[2]
for start in range(0, int(sys.argv[3]), 50):
    numbers = range(start, start + 50)
    texts = [f"{name} {i}" for i in numbers] + [f"both {i}" for i in numbers]
    cache.put_many("n", texts, np.array([[i, i + 0.5] for i in numbers] * 2))
    print(start, flush=True)
"""


class CountingEncoder:
    """Gives the length of a text as its vector, and keeps what it was asked."""

    fingerprint, dimension, token_limit = "counting", 3, 16

    def __init__(self, fail_after=None):
        self.asked, self.fail_after = [], fail_after

    def iter_encode(self, texts):
        order = sorted(range(len(texts)), key=lambda i: -len(texts[i]))
        for start in range(0, len(order), 4):
            if self.fail_after is not None and len(self.asked) >= self.fail_after:
                raise KeyboardInterrupt
            rows = np.array(order[start : start + 4])
            self.asked += [texts[i] for i in rows]
            lengths = np.array([len(texts[i]) for i in rows])
            yield rows, expected([texts[i] for i in rows]), lengths > self.token_limit


def expected(texts):
    return np.array([[len(text)] * 3 for text in texts], dtype=np.float32).reshape(-1, 3)


@pytest.fixture
def cache(tmp_path):
    return EmbeddingCache(tmp_path / "cache")


def test_every_distinct_text_is_encoded_once_ever(cache):
    texts = ["b", "", "aaa", "b", "cc"]
    encoder = CountingEncoder()
    np.testing.assert_array_equal(encode_cached(encoder, texts, cache), expected(texts))
    assert sorted(encoder.asked) == sorted(set(texts))
    later = CountingEncoder()
    more = [*texts, "dddd", "\ud800 lone surrogate"[:9]]
    np.testing.assert_array_equal(encode_cached(later, more, EmbeddingCache(cache.directory)), expected(more))
    assert sorted(later.asked) == sorted(["dddd", "\ud800 lone surrogate"[:9]])


def test_without_a_cache_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.setenv("PRMKIT_CACHE_DIR", str(tmp_path / "cache"))
    encoder = CountingEncoder()
    for _ in range(2):
        np.testing.assert_array_equal(encode_cached(encoder, ["a", "bb", "a"], None), expected(["a", "bb", "a"]))
    assert sorted(encoder.asked) == ["a", "a", "bb", "bb"]
    assert not (tmp_path / "cache").exists()


def test_no_text_at_all(cache):
    assert encode_cached(CountingEncoder(), [], cache).shape == (0, 3)


def test_encoders_do_not_share_vectors(cache):
    encode_cached(CountingEncoder(), ["a"], cache)
    other = CountingEncoder()
    other.fingerprint = "another"
    encode_cached(other, ["a"], cache)
    assert other.asked == ["a"]


def test_truncation_is_still_told_when_the_vector_comes_from_the_cache(cache):
    for _ in range(2):
        with pytest.warns(UserWarning, match="1 distinct text.* longer than 16 tokens"):
            encode_cached(CountingEncoder(), ["x" * 20, "x"], cache)


def test_an_interrupted_run_keeps_what_it_had(cache, monkeypatch):
    monkeypatch.setattr("prmkit.features.encoding.cache._ROWS_PER_WRITE", 4)
    texts = [f"{i:03d}" for i in range(40)]
    with pytest.raises(KeyboardInterrupt):
        encode_cached(CountingEncoder(fail_after=20), texts, cache)
    later = CountingEncoder()
    np.testing.assert_array_equal(encode_cached(later, texts, cache), expected(texts))
    assert len(later.asked) == 20


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"not a database at all" * 100,
        lambda content: content[: len(content) // 2],
        lambda content: content[:100] + os.urandom(len(content) - 100),
        lambda content: content[:20000] + b"\xff" * 20000 + content[40000:],
        lambda content: content[:-30000] + bytes(byte ^ 1 for byte in content[-30000:]),
    ],
    ids=["text", "half", "random", "hole", "flipped bits"],
)
def test_a_corrupt_file_costs_time_alone(cache, damage):
    texts = ["x" * i for i in range(10)] + [f"{i}" for i in range(5000)]
    encode = CountingEncoder()
    encode.token_limit = 10**6
    encode_cached(encode, texts, cache)
    cache.path.write_bytes(damage(cache.path.read_bytes()))
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        for _ in range(3):
            np.testing.assert_array_equal(encode_cached(encode, texts, cache), expected(texts))
    assert len(seen) <= 1, [str(w.message) for w in seen]
    assert all("corrupt" in str(w.message) for w in seen)
    encode.asked.clear()
    np.testing.assert_array_equal(encode_cached(encode, texts, EmbeddingCache(cache.directory)), expected(texts))
    assert encode.asked == [], "the rebuilt cache must hold everything again"


@pytest.mark.parametrize("asked_alone", [True, False])
def test_no_damaged_byte_gives_a_text_the_vector_of_another(cache, asked_alone):
    """An index leads to rows: where it is damaged, it leads to the whole row of another text."""
    texts = [f"step {i}" for i in range(40)]
    vectors = np.random.default_rng(0).standard_normal((40, 6)).astype(np.float32)
    cache.put_many("n", texts, vectors, np.arange(40) % 2 == 0)
    whole = cache.path.read_bytes()
    written = np.flatnonzero(np.frombuffer(whole, dtype=np.uint8))
    lost = 0
    for place in [*np.random.default_rng(1).choice(written, 500, replace=False), *written[-300:]]:
        damaged = bytearray(whole)
        damaged[place] ^= 4
        cache.path.write_bytes(damaged)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it may say that the file is corrupt
            for part in [[i] for i in range(0, 40, 13)] if asked_alone else [range(40)]:
                got = EmbeddingCache(cache.directory).get_many("n", [texts[i] for i in part])
                found = np.flatnonzero(got.found)
                lost += len(part) - len(found)
                if len(found):
                    np.testing.assert_array_equal(got.vectors[found], vectors[np.array(part)[found]])
                np.testing.assert_array_equal(got.truncated[found], np.array(part)[found] % 2 == 0)
    assert lost, "some of these bytes must matter"


def test_a_vector_that_is_not_finite_is_not_kept(cache):
    cache.put_many("n", ["good", "bad"], np.array([[1.0, 2.0], [np.nan, 0.0]]))
    assert cache.get_many("n", ["good", "bad"]).found.tolist() == [True, False]


def test_a_folder_that_cannot_be_written_warns_once(tmp_path):
    (tmp_path / "file").write_text("in the way")
    cache = EmbeddingCache(tmp_path / "file" / "cache")
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        for _ in range(3):
            vectors = encode_cached(CountingEncoder(), ["a", "bb"], cache)
            np.testing.assert_array_equal(vectors, expected(["a", "bb"]))
    assert len(seen) == 1
    assert "cannot be used" in str(seen[0].message)
    assert "PRMKIT_CACHE_DIR" in str(seen[0].message)


def test_writers_at_once_lose_nothing(cache):
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, cache.directory, name, "500"], stdout=subprocess.DEVNULL)
        for name in ("one", "two")
    ]
    assert [writer.wait(timeout=60) for writer in writers] == [0, 0]
    for name in ("one", "two", "both"):
        vectors, found, _ = cache.get_many("n", [f"{name} {i}" for i in range(500)])
        assert found.all()
        np.testing.assert_array_equal(vectors, [[i, i + 0.5] for i in range(500)])
    assert cache.info()["entries"] == 1500


def test_a_writer_killed_at_work_leaves_a_readable_file(cache):
    arguments = [sys.executable, "-c", WRITER, cache.directory, "one", "10000000"]
    writer = subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)
    for _ in range(5):
        done = int(writer.stdout.readline())
    time.sleep(0.01)
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        vectors, found, _ = cache.get_many("n", [f"one {i}" for i in range(done + 50)])
    assert found.all(), "what was reported as written is there"
    np.testing.assert_array_equal(vectors[:, 0], np.arange(done + 50))


@pytest.mark.parametrize("max_bytes", [300_000, 2_000_000])
def test_the_file_stays_small_and_keeps_the_newest(tmp_path, max_bytes):
    cache = EmbeddingCache(tmp_path, max_bytes=max_bytes)
    for start in range(0, 4000, 100):
        numbers = range(start, start + 100)
        cache.put_many("n", [str(i) for i in numbers], np.array([[i] * 384 for i in numbers]))
        assert cache.info()["bytes"] <= max_bytes
    found = cache.get_many("n", [str(i) for i in range(4000)]).found
    assert found[-100:].all()
    assert found.sum() * 384 * 4 > 0.5 * max_bytes, "most of the room is used"
    assert (np.diff(found.astype(int)) >= 0).all(), "the oldest went first"


def test_a_lower_bound_shrinks_the_file(tmp_path):
    EmbeddingCache(tmp_path).put_many("n", [str(i) for i in range(2000)], np.ones((2000, 384)))
    smaller = EmbeddingCache(tmp_path, max_bytes=500_000)
    smaller.put_many("n", ["new"], np.ones((1, 384)))
    assert smaller.info()["bytes"] <= 500_000
    assert smaller.get_many("n", ["new"]).found.all()


def test_a_vector_larger_than_the_cache_is_not_kept(tmp_path):
    cache = EmbeddingCache(tmp_path, max_bytes=100)
    cache.put_many("n", ["a"], np.ones((1, 384)))
    assert not cache.get_many("n", ["a"]).found.any()


def test_clear_and_info(cache):
    assert cache.info()["entries"] == 0
    assert not cache.path.exists(), "looking makes no file"
    cache.put_many("n", ["a", "b"], np.ones((2, 4)))
    cache.put_many("m", ["a"], np.ones((1, 4)))
    assert cache.info()["namespaces"] == {"m": 1, "n": 2}
    assert cache.clear() == 3
    assert cache.info()["entries"] == 0
    assert not cache.get_many("n", ["a"]).found.any()


def test_the_environment_decides_where_and_how_much(tmp_path, monkeypatch):
    monkeypatch.setenv("PRMKIT_CACHE_DIR", str(tmp_path / "there"))
    monkeypatch.setenv("PRMKIT_CACHE_MAX_BYTES", "12345")
    assert EmbeddingCache().path.parent == tmp_path / "there"
    assert EmbeddingCache().max_bytes == 12345
    assert EmbeddingCache(tmp_path / "here", max_bytes=5).max_bytes == 5
    monkeypatch.setenv("PRMKIT_CACHE_MAX_BYTES", "2GB")
    with pytest.raises(ValueError, match="'2GB', expected a positive number of bytes"):
        EmbeddingCache()


def test_rows_that_do_not_match_the_texts(cache):
    with pytest.raises(ValueError, match="for 2 texts, expected one row"):
        cache.put_many("n", ["a", "b"], np.ones((3, 4)))


def test_it_travels_to_other_processes(cache):
    cache.put_many("n", ["a"], np.ones((1, 4)))
    assert pickle.loads(pickle.dumps(cache)).get_many("n", ["a"]).found.all()


def test_with_a_real_encoder(cache, tiny_model, texts):
    from prmkit.features.encoding.encoder import TextEncoder

    encoder = TextEncoder(tiny_model, dtype="float32", device="cpu")
    cold = encode_cached(encoder, texts, cache)
    warm = encode_cached(TextEncoder(tiny_model, dtype="float32", device="cpu"), texts[::-1], cache)[::-1]
    np.testing.assert_array_equal(cold, warm)
    np.testing.assert_array_equal(cold, encoder.encode(texts))


def test_cached_vectors_need_no_model_even_where_texts_were_cut(cache, tiny_model, monkeypatch):
    from prmkit.features.encoding import encoder as _encoder

    with pytest.warns(UserWarning, match="longer than 16 tokens"):
        cold = encode_cached(_encoder.TextEncoder(tiny_model, device="cpu"), ["x " * 40], cache)
    monkeypatch.setattr(_encoder, "load_network", lambda *args: pytest.fail("the model was loaded"))
    with pytest.warns(UserWarning, match="longer than 16 tokens"):
        warm = encode_cached(_encoder.TextEncoder(tiny_model, device="cpu"), ["x " * 40], cache)
    np.testing.assert_array_equal(cold, warm)
