"""StepWords: what counts as a term, tiny and odd data, and a state that is small."""

import pickle

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.feature_extraction.text import TfidfVectorizer

from prmkit import Solution, flatten
from prmkit.data import make_arithmetic_solutions
from prmkit.features import StepWords


@pytest.fixture(scope="module")
def X():
    return make_arithmetic_solutions(20, 2, random_state=0).X


def names(words):
    return words.get_feature_names_out().tolist()


def test_words_of_two_steps_and_character_runs_of_three_are_kept():
    words = StepWords().fit(["add two", "add three", "add four"])
    kept = names(words)
    assert [name for name in kept if name.startswith("words__")] == ["words__add"]
    assert "characters__ add" in kept
    assert "characters__wo" not in kept  # of "two" alone


def test_reads_the_step_alone():
    words = StepWords().fit(["add two", "add two", "add three"])
    alone, in_context = flatten([Solution("", ["add two"]), Solution("add three", ["three", "add two"])])[::2]
    assert (words.transform([alone]) != words.transform([in_context])).nnz == 0


def test_same_numbers_as_the_vectorizers_of_scikit_learn(X):
    texts = [step.text for step in X]
    expected = TfidfVectorizer(
        ngram_range=(1, 2), token_pattern=r"\b\w+\b", min_df=2, sublinear_tf=True, dtype=np.float32
    ).fit_transform(texts)
    rows = StepWords().fit_transform(X)
    assert rows.dtype == np.float32
    assert abs(rows[:, : expected.shape[1]] - expected).max() < 1e-6


def test_fit_transform_is_fit_then_transform(X):
    words = StepWords()
    together = words.fit_transform(X)
    assert (together != StepWords().fit(X).transform(X)).nnz == 0
    assert together.shape == (len(X), len(names(words)))


def test_max_features_bounds_each_kind(X):
    words = StepWords(max_features=10).fit(X)
    assert [len(v.vocabulary_) for v in words.vectorizers_.values()] == [10, 10]


def test_unique_words_are_kept_where_nothing_else_is_there():
    words = StepWords().fit(["alpha", "beta"])
    assert "words__alpha" in names(words)
    assert words.transform(["alpha beta"]).nnz > 0


def test_one_step():
    assert StepWords().fit_transform(["2 + 2"]).shape[0] == 1


def test_some_blank_steps_are_rows_of_zeros():
    rows = StepWords().fit_transform(["", "add two", " \n", "add two"])
    assert np.diff(rows.indptr).astype(bool).tolist() == [False, True, False, True]


def test_only_blank_steps_are_an_error():
    with pytest.raises(ValueError, match="all 2 steps are blank"):
        StepWords().fit(["", "  "])


def test_signs_without_words_have_characters_only():
    words = StepWords().fit(["+ = -", "+ = -"])
    assert list(words.vectorizers_) == ["characters"]
    assert words.transform(["+ ="]).nnz > 0


def test_unknown_words_are_zeros(X):
    assert StepWords().fit(X).transform(["ξξξ"]).nnz == 0


def test_unfitted():
    with pytest.raises(NotFittedError):
        StepWords().transform(["a"])


def test_bad_max_features_is_named():
    with pytest.raises(ValueError, match="max_features"):
        StepWords(max_features=0).fit(["a"])


def test_pickle_and_clone(X):
    words = StepWords(max_features=500).fit(X)
    again = pickle.loads(pickle.dumps(words))
    assert (again.transform(X) != words.transform(X)).nnz == 0
    assert names(again) == names(words)
    assert words.transform(X).shape[0] == len(X), "pickling leaves the original as it was"
    copy = clone(again)
    assert copy.max_features == 500
    with pytest.raises(NotFittedError):
        copy.transform(X)


def test_pickle_keeps_odd_terms():
    """White space of every kind separates terms, so none holds the line break that joins them."""
    texts = ["a\x1cb\x85c\u2028d", "a\x1cb\x85c\u2028d", "é_1 \u00a0 ß", "é_1 \u00a0 ß"] * 2
    words = StepWords().fit(texts)
    again = pickle.loads(pickle.dumps(words))
    assert names(again) == names(words)
    assert (again.transform(texts) != words.transform(texts)).nnz == 0


@pytest.mark.parametrize("max_features", [50_000, 40])
def test_character_runs_are_those_of_scikit_learn_to_the_last_bit(X, max_features):
    texts = [f"{step.text}\t\tΣΊΣΥΦΟΣ \x1c Ünï  İ\u2003{i % 7}" for i, step in enumerate(X)] + ["", " \n "]
    options = {"analyzer": "char_wb", "ngram_range": (2, 5), "min_df": 3, "max_features": max_features}
    theirs = TfidfVectorizer(sublinear_tf=True, dtype=np.float32, **options).fit(texts)
    ours = StepWords(max_features).fit(texts).vectorizers_["characters"]
    assert ours.vocabulary_ == theirs.vocabulary_
    a, b = ours.transform(texts), theirs.transform(texts)
    np.testing.assert_array_equal(a.data, b.data)
    np.testing.assert_array_equal(a.indices, b.indices)


def test_a_word_is_cut_once_however_often_it_occurs():
    words = StepWords().fit(["add two apples", "add two pears", "add two plums"])
    vectorizer = words.vectorizers_["characters"]
    build, cut = vectorizer.build_analyzer, []
    vectorizer.build_analyzer = lambda: lambda text: cut.append(text) or build()(text)
    words.transform(["add two figs", "add figs"] * 50)
    assert sorted(cut) == ["add", "figs", "two"]
