"""PRMFeaturizer: what a row holds, what is encoded, tokens, and its manners as a transformer."""

import pickle
import warnings

import numpy as np
import pytest

from prmkit import PRMFeaturizer, Solution, Step, flatten
from prmkit.data import make_arithmetic_solutions
from prmkit.features.encoding.encoder import TextEncoder
from prmkit.features.sequences import StepSequences


@pytest.fixture
def encoded(monkeypatch):
    """Every list of texts that reaches the encoder."""
    calls = []
    iter_encode = TextEncoder.iter_encode

    def spy(self, texts):
        calls.append(list(texts))
        return iter_encode(self, texts)

    monkeypatch.setattr(TextEncoder, "iter_encode", spy)
    return calls


SOLUTION = Solution("What is 2 + 3 * 4?", ["3 * 4 = 12.", "2 + 12 = 14.", "The answer is 14."])
X = flatten([SOLUTION])


def vectors(texts):
    return PRMFeaturizer(dtype="float32").transform(list(texts))


class TestContext:
    def test_rows_by_hand(self):
        """Each block of a row is what its name says."""
        problem, *steps = vectors([SOLUTION.problem, *SOLUTION.steps])
        featurizer = PRMFeaturizer(context="prefix", dtype="float32")
        rows = featurizer.transform(X)
        columns = {name: i for i, name in enumerate(featurizer.get_feature_names_out())}

        def block(name):
            return rows[2, columns[f"{name}_0"] : columns[f"{name}_0"] + len(problem)]

        prefix = (steps[0] + steps[1]) / 2
        np.testing.assert_allclose(block("step"), steps[2], atol=1e-6)
        np.testing.assert_allclose(block("problem"), problem, atol=1e-6)
        np.testing.assert_allclose(block("prefix"), prefix, atol=1e-6)
        np.testing.assert_allclose(block("previous"), steps[1], atol=1e-6)
        likenesses = {
            "step_like_problem": steps[2] @ problem,
            "step_like_prefix": steps[2] @ prefix,
            "step_like_previous": steps[2] @ steps[1],
            "step_like_nearest": max(steps[2] @ steps[0], steps[2] @ steps[1]),
            "step_like_farthest": min(steps[2] @ steps[0], steps[2] @ steps[1]),
            "previous_like_problem": steps[1] @ problem,
        }
        for name, value in likenesses.items():
            np.testing.assert_allclose(rows[2, columns[name]], value, atol=1e-6)
        assert not rows[0, columns["prefix_0"] : columns["previous_0"] + len(problem)].any()

    def test_a_long_solution_has_the_rows_of_its_beginning_and_of_each_product(self):
        rng = np.random.default_rng(0)
        solution = Solution("How many?", [f"It is {number} now." for number in rng.integers(9, size=150)])
        featurizer = PRMFeaturizer(context="prefix")
        rows = featurizer.transform(flatten([solution]))
        steps, names = rows[:, :384], featurizer.get_feature_names_out().tolist()
        extremes = [names.index("step_like_nearest"), names.index("step_like_farthest")]
        for n in (64, 65, 130, 149):
            cut = featurizer.transform(flatten([Solution(solution.problem, solution.steps[:n])]))
            np.testing.assert_allclose(cut, rows[:n], atol=1e-6)
            np.testing.assert_array_equal(cut[:, extremes], rows[:n, extremes])
        products = np.where(np.tri(150, k=-1, dtype=bool), steps @ steps.T, np.nan)[1:]
        for column, extreme in zip(extremes, (np.nanmax, np.nanmin), strict=True):
            np.testing.assert_allclose(rows[1:, column], extreme(products, axis=1), atol=1e-6)

    def test_widths_and_names(self):
        for context, width in (("none", 384), ("problem", 768), ("prefix", 4 * 384 + 6)):
            featurizer = PRMFeaturizer(context=context)
            assert featurizer.fit_transform(X).shape == (3, width)
            assert len(set(featurizer.get_feature_names_out())) == width

    def test_a_text_alone_has_no_problem(self):
        rows = PRMFeaturizer(context="problem").transform(["a step"])
        assert not rows[0, 384:].any()

    def test_only_what_the_rows_need_is_encoded(self, encoded):
        steps = [Step(SOLUTION, 1)]
        PRMFeaturizer(cache=False).transform(steps)
        PRMFeaturizer(cache=False, context="prefix").transform(steps)
        assert sorted(encoded[0]) == [SOLUTION.steps[1]]
        assert sorted(encoded[1]) == sorted([SOLUTION.problem, *SOLUTION.steps[:2]])


class TestWork:
    def test_every_distinct_text_once_in_a_cross_validation(self, encoded, tmp_path):
        from sklearn.linear_model import LogisticRegression
        from sklearn.model_selection import cross_val_score
        from sklearn.pipeline import make_pipeline

        from prmkit import StratifiedProblemKFold

        data = make_arithmetic_solutions(20, 2, random_state=0)
        pipe = make_pipeline(PRMFeaturizer(cache_dir=tmp_path), LogisticRegression(max_iter=500))
        cross_val_score(pipe, data.X, data.y, cv=StratifiedProblemKFold(5))
        texts = [text for call in encoded for text in call]
        assert sorted(texts) == sorted({step.text for step in data.X})

    def test_cache_off_leaves_no_file(self, tmp_path):
        PRMFeaturizer(cache=False, cache_dir=tmp_path).transform(X)
        assert not list(tmp_path.iterdir())

    def test_rows_are_the_same_with_and_without_the_cache(self, tmp_path):
        with_cache = PRMFeaturizer(cache_dir=tmp_path, dtype="float32", context="prefix")
        first, second = with_cache.transform(X), with_cache.transform(X)
        np.testing.assert_array_equal(first, second)
        plain = PRMFeaturizer(cache=False, dtype="float32", context="prefix").transform(X)
        np.testing.assert_allclose(first, plain, atol=1e-5)


class TestManners:
    def test_pickle_leaves_the_weights_out_unless_asked(self):
        small, large = PRMFeaturizer(cache=False), PRMFeaturizer(cache=False, store_weights_in_pickle=True)
        for featurizer in (small, large):
            featurizer.transform(X)
        assert len(pickle.dumps(small)) < 10_000 < 10_000_000 < len(pickle.dumps(large))
        np.testing.assert_allclose(pickle.loads(pickle.dumps(large)).transform(X), large.transform(X), atol=1e-6)

    def test_set_output(self):
        pytest.importorskip("pandas")
        frame = PRMFeaturizer().set_output(transform="pandas").fit_transform(X)
        assert frame.shape == (3, 384)
        assert frame.columns[0] == "step_0"

    def test_called_on_texts_as_tensors(self):
        featurizer = PRMFeaturizer()
        assert tuple(featurizer("a step").shape) == (384,)
        assert tuple(featurizer(["a step", "another"]).shape) == (2, 384)
        tokens = PRMFeaturizer(kind="tokens")(["a step", "another longer step"])
        assert {"input_ids", "attention_mask", "token_type_ids"} <= set(tokens)
        assert tokens["input_ids"].shape == tokens["token_type_ids"].shape


class TestTokens:
    def test_one_record_per_solution_and_every_row_answered(self):
        data = make_arithmetic_solutions(3, 2, random_state=0)
        order = np.random.default_rng(0).permutation(len(data.X))
        steps = data[order].X
        records = PRMFeaturizer(kind="tokens").transform(steps)
        assert len(records) == len(data.solutions)
        assert sorted(row for record in records for row in record.rows) == list(range(len(steps)))

    def test_positions_close_the_steps(self):
        featurizer = PRMFeaturizer(kind="tokens")
        (record,) = featurizer.transform(X)
        tokenizer = featurizer._tokenizer()
        assert [tokenizer.decode(record.input_ids[p]) for p in record.step_positions] == ["[SEP]"] * 3
        text = tokenizer.decode(record.input_ids[: record.step_positions[0]])
        assert text.endswith("3 * 4 = 12.")

    def test_a_cut_solution_is_a_prefix(self):
        featurizer = PRMFeaturizer(kind="tokens")
        (whole,) = featurizer.transform(X)
        (cut,) = featurizer.transform(X[:2])
        np.testing.assert_array_equal(cut.input_ids, whole.input_ids[: len(cut.input_ids)])
        np.testing.assert_array_equal(cut.step_positions, whole.step_positions[:2])

    def test_too_long_and_unknown_separators_are_errors(self):
        with pytest.raises(ValueError, match="more than max_length=8 tokens"):
            PRMFeaturizer(kind="tokens", max_length=8).transform(X)
        with pytest.raises(ValueError, match=r"has no token.*SEP"):
            PRMFeaturizer(kind="tokens", step_separator="\n").transform(X)


class TestSequences:
    def test_problem_first_then_the_steps_and_rows_find_their_place(self):
        data = make_arithmetic_solutions(4, 2, random_state=0)
        order = np.random.default_rng(1).permutation(len(data.X))[: len(data.X) // 2]
        steps = data[order].X
        featurizer = PRMFeaturizer()
        sequences = StepSequences.from_steps(featurizer, steps)
        np.testing.assert_array_equal(sequences.values[sequences.answers], featurizer.transform(steps))
        np.testing.assert_array_equal(
            sequences.values[sequences.starts[sequences.owners]], featurizer.transform([s.problem for s in steps])
        )

    def test_take_keeps_rows_with_their_values(self):
        rng = np.random.default_rng(0)
        rows, groups = rng.normal(size=(40, 3)), rng.integers(0, 9, 40)
        sequences = StepSequences.from_rows(rows, groups)
        np.testing.assert_array_equal(sequences.values[sequences.answers], rows)
        part, taken = sequences.take(np.array([5, 0, 7]))
        np.testing.assert_array_equal(part.values[part.answers], rows[taken])
        assert set(groups[taken]) == {0, 5, 7}

    def test_rows_of_a_group_keep_their_order(self):
        sequences = StepSequences.from_rows(np.arange(6.0)[:, None], ["b", "a", "b", "a", "b", "a"])
        np.testing.assert_array_equal(sequences.values.ravel(), [1, 3, 5, 0, 2, 4])

    def test_groups_of_another_length(self):
        with pytest.raises(ValueError, match="one solution id per row"):
            StepSequences.from_rows(np.zeros((3, 1)), [0, 1])


def test_parameters_are_checked_without_fit_too():
    with pytest.raises(ValueError, match="'context' parameter"):
        PRMFeaturizer(context="all").transform(X)


def test_steps_are_not_called():
    with pytest.raises(TypeError, match="steps go to transform"):
        PRMFeaturizer()(X)


def test_what_a_tokenizer_cannot_read_is_told_apart():
    """Words above WordPiece's limit are no longer one unknown token; broken UTF-16 does not stop a run."""
    rows = PRMFeaturizer(dtype="float32").transform(["1" * 150, "2" * 150, "\ud800 abc", "\ufffd abc"])
    assert np.abs(rows[0] - rows[1]).max() > 0.01
    np.testing.assert_allclose(rows[2], rows[3], atol=1e-6)


def test_no_warning_in_ordinary_use():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        PRMFeaturizer(context="prefix").fit_transform(X)
