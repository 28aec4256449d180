"""Data sets to rows of tokens: TRL's rule to the letter, labels kept, truncation counted, bad rows named."""

import warnings

import datasets
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from prmkit import Solution, StepDataset, flatten
from prmkit.marking.encoding import SolutionEncoder, encode_solution
from prmkit.marking.scheme import MarkingScheme
from prmkit.models.trainer._rows import RowReport, row_lengths, training_rows
from prmkit.models.trainer._targets import find_classes

SEPARATOR = MarkingScheme("separator", step_separator="\n")
PREFIX = MarkingScheme("prefix", step_separator="\n")
ROW = {"prompt": "What is 2 + 3 * 4?", "completions": ["3 * 4 = 12.", "So 2 + 12 = 15."], "labels": [True, False]}
NO_LIMIT = {"max_length": None, "max_completion_length": None}


@pytest.fixture(scope="module")
def tokenizer(make_tokenizer):
    return make_tokenizer(bos="<bos>")


def encode_prefix(tokenizer, solution, n_steps, scheme):
    return SolutionEncoder(tokenizer, scheme).encode_row(solution, n_steps).input_ids


def rows_of(dataset, tokenizer, scheme=SEPARATOR, *, classes=(False, True), **options):
    return training_rows(dataset, tokenizer, scheme, classes=classes, **(NO_LIMIT | options))


def targets_of(row):
    return [(i, label) for i, label in enumerate(row["labels"]) if label != -100]


# ---- TRL's rule


class StubTokenizer:
    """The made-up ids of the reference table."""

    bos_token_id = 1
    ids = {"p": [10, 11], "a": [20, 21, 22], "b": [30], "|": [9], "||": [8, 9]}

    def __call__(self, text, add_special_tokens=True):
        assert add_special_tokens is False
        return {"input_ids": self.ids[text]}


@pytest.mark.parametrize(
    ("options", "input_ids", "labels"),
    [
        ({}, [1, 10, 11, 20, 21, 22, 9, 30, 9], [-100] * 6 + [1, -100, 0]),
        ({"separator": "||"}, [1, 10, 11, 20, 21, 22, 8, 9, 30, 8, 9], [-100] * 7 + [1, -100, -100, 0]),
        ({"last_only": True}, [1, 10, 11, 20, 21, 22, 9, 30, 9], [-100] * 8 + [0]),
        ({"last_only": True, "is_eval": True}, [1, 10, 11, 20, 21, 22, 9, 30, 9], [-100] * 6 + [1, -100, 0]),
        ({"max_completion_length": 5}, [1, 10, 11, 20, 21, 22, 9, 30], [-100] * 6 + [1, -100]),
        ({"max_length": 6}, [1, 10, 11, 20, 21, 22], [-100] * 6),
    ],
)
def test_the_rule_follows_the_table(options, input_ids, labels, trl_row):
    defaults = {
        "separator": "|",
        "max_length": None,
        "max_completion_length": None,
        "last_only": False,
        "is_eval": False,
    }
    row = {"prompt": "p", "completions": ["a", "b"], "labels": [True, False]}
    assert trl_row(row, StubTokenizer(), **{**defaults, **options}) == {"input_ids": input_ids, "labels": labels}


def test_soft_labels_and_unlabelled_steps_stand_where_trl_has_labels(make_tokenizer, trl_row):
    tokenizer = make_tokenizer()
    row = {"prompt": "2 + 3?", "completions": ["5.", "6.", "7."], "labels": [0.75, None, 1.0]}
    expected = trl_row(row, tokenizer, "\n", None, None, False, False)
    rows, _ = rows_of([row], tokenizer, classes=None)
    assert (rows[0]["input_ids"], rows[0]["labels"]) == (expected["input_ids"], expected["labels"])
    assert [label for _, label in targets_of(rows[0])] == [0.75, 1.0]


@pytest.mark.parametrize("labels", [[True], [True, False, True], []])
def test_rows_need_one_label_per_step(labels, tokenizer):
    row = {"prompt": "p", "completions": ["a", "b"], "labels": labels}
    with pytest.raises(ValueError, match=f"{len(labels)} labels for 2 steps"):
        rows_of([row], tokenizer)


TEXTS = st.text("ab 1=+.", max_size=12)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(TEXTS, st.booleans()), min_size=1, max_size=6),
    st.one_of(st.none(), st.integers(15, 60)),
    st.one_of(st.none(), st.integers(1, 40)),
    st.booleans(),
    st.booleans(),
    st.sampled_from(["\n", "\n\n", " ok\n"]),
)
def test_rows_keep_exactly_the_labels_that_trl_keeps(
    tokenizer, trl_row, steps, max_length, max_completion_length, last_only, is_eval, separator
):
    """Ids and labels agree up to the last target; what TRL has beyond it no target sees."""
    row = {"prompt": "What is 2?", "completions": [s for s, _ in steps], "labels": [label for _, label in steps]}
    expected = trl_row(row, tokenizer, separator, max_length, max_completion_length, last_only, is_eval)
    n_kept = sum(label != -100 for label in expected["labels"])
    scheme = MarkingScheme("separator", step_separator=separator)
    options = {"max_length": max_length, "max_completion_length": max_completion_length}
    options |= {"last_step_only": last_only, "is_eval": is_eval}
    n_asked = 1 if last_only and not is_eval else len(steps)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        if not n_kept:
            with pytest.raises(ValueError, match=f"{n_asked} labelled steps were found, and {n_asked} of them"):
                rows_of([row], tokenizer, scheme, **options)
            return
        rows, report = rows_of([row], tokenizer, scheme, **options)
    found = rows[0]
    n = len(found["input_ids"])
    assert found["input_ids"] == expected["input_ids"][:n]
    assert found["labels"] == expected["labels"][:n]
    assert all(label == -100 for label in expected["labels"][n:])
    assert (report.n_steps, report.n_lost_steps) == (n_asked, n_asked - n_kept)


# ---- the layout of the rows


def test_rows_are_encoded_as_in_use(tokenizer):
    """Byte for byte what ``encode_solution`` gives, with the block of each token and codes at the marked ones."""
    rows, report = rows_of([ROW], tokenizer)
    marked = encode_solution(tokenizer, Solution(ROW["prompt"], ROW["completions"]), 2, SEPARATOR)
    assert rows[0]["input_ids"] == marked.input_ids.tolist()
    assert rows[0]["blocks"] == marked.blocks.tolist()
    assert targets_of(rows[0]) == [(int(marked.step_positions[0]), 1), (int(marked.step_positions[1]), 0)]
    assert report == RowReport(n_rows=1, n_steps=2, n_lost_steps=0, n_without_target=0, n_cut_rows=0)


def test_column_types_are_fixed(tokenizer):
    """Boolean labels must not make -100 a True."""
    hard, _ = rows_of(datasets.Dataset.from_list([ROW]), tokenizer)
    assert hard.features["labels"].feature == datasets.Value("int64")
    assert hard.features["input_ids"].feature == datasets.Value("int64")
    assert set(hard[0]["labels"]) == {-100, 0, 1}
    soft, _ = rows_of([{**ROW, "labels": [0.25, 1.0]}], tokenizer, classes=None)
    assert soft.features["labels"].feature == datasets.Value("float32")
    assert [label for _, label in targets_of(soft[0])] == [0.25, 1.0]


def test_every_kind_of_data_set_gives_the_same_rows(tokenizer):
    solutions = [Solution(f"{i} + 1?", [f"{i} + 1 = {i + 1}.", "Done."]) for i in range(5)]
    listed = [{"prompt": s.problem, "completions": list(s.steps), "labels": [True, False]} for s in solutions]
    steps = StepDataset(flatten(solutions), [True, False] * 5)
    hub = datasets.Dataset.from_list(listed)
    stream = hub.to_iterable_dataset()
    columns = ["input_ids", "labels", "blocks"]
    expected = list(rows_of(listed, tokenizer)[0])
    assert len(expected) == 5
    for dataset in (steps, hub, stream):
        rows, report = rows_of(dataset, tokenizer)
        assert list(rows) == expected
        assert list(rows.column_names) == columns
        assert (report is None) == (dataset is stream)
    parallel, report = rows_of(hub, tokenizer, num_proc=2)
    assert list(parallel) == expected
    assert report.n_rows == 5


def test_unlabelled_steps_are_context_without_target(tokenizer):
    row = {"prompt": "p?", "completions": ["a", "b", "c", "d"], "labels": [None, True, None, None]}
    (found,), report = rows_of([row], tokenizer)
    marked = encode_solution(tokenizer, Solution("p?", row["completions"]), 2, SEPARATOR)
    assert found["input_ids"] == marked.input_ids.tolist()
    assert targets_of(found) == [(int(marked.step_positions[1]), 1)]
    assert report.n_steps == 1


def test_a_step_with_two_labels_puts_its_solution_on_a_second_row(tokenizer):
    steps = flatten([Solution("p?", ["a", "b"])])
    dataset = StepDataset([*steps, steps[0]], [1, -1, 0])
    rows, report = rows_of(dataset, tokenizer, classes=(-1, 0, 1))
    assert [[label for _, label in targets_of(row)] for row in rows] == [[2, 0], [1]]
    assert report.n_rows == 2


def test_an_empty_text_is_a_step(tokenizer):
    (found,), _ = rows_of([{"prompt": "p?", "completions": ["", "b"], "labels": [False, True]}], tokenizer)
    assert [label for _, label in targets_of(found)] == [0, 1]


def test_classes_give_the_codes(tokenizer):
    row = {**ROW, "labels": ["good", "bad"]}
    (found,), _ = rows_of([row], tokenizer, classes=("bad", "fair", "good"))
    assert [label for _, label in targets_of(found)] == [2, 0]
    (found,), _ = rows_of([{**ROW, "labels": [-1, 0]}], tokenizer, classes=(-1, 0, 1))
    assert [label for _, label in targets_of(found)] == [0, 1]


def test_last_step_only_is_for_training(tokenizer):
    (train,), report = rows_of([ROW], tokenizer, last_step_only=True)
    assert [label for _, label in targets_of(train)] == [0]
    assert report.n_steps == 1
    (evaluated,), _ = rows_of([ROW], tokenizer, last_step_only=True, is_eval=True)
    assert [label for _, label in targets_of(evaluated)] == [1, 0]


# ---- prefix rows


def test_prefix_rows_are_one_per_labelled_step(tokenizer):
    row = {"prompt": "p?", "completions": ["a", "b", "c"], "labels": [True, None, False]}
    rows, report = rows_of([row], tokenizer, PREFIX)
    solution = Solution("p?", row["completions"])
    assert [r["input_ids"] for r in rows] == [encode_prefix(tokenizer, solution, n, PREFIX).tolist() for n in (1, 3)]
    assert [targets_of(r) for r in rows] == [
        [(len(r["input_ids"]) - 1, label)] for r, label in zip(rows, [1, 0], strict=True)
    ]
    assert all(set(r["blocks"]) == {0} for r in rows)
    assert report == RowReport(n_rows=1, n_steps=2, n_lost_steps=0, n_without_target=0, n_cut_rows=0)
    only, report = rows_of([row], tokenizer, PREFIX, last_step_only=True)
    assert [targets_of(r) for r in only] == [[(len(only[0]["input_ids"]) - 1, 0)]]
    assert report.n_steps == 1


def test_prefix_rows_that_do_not_fit_are_counted(tokenizer):
    row = {"prompt": "p?", "completions": ["a", "b", "c"], "labels": [True, True, False]}
    n_two = len(encode_prefix(tokenizer, Solution("p?", row["completions"]), 2, PREFIX))
    with pytest.warns(UserWarning, match="1 of 3 labelled steps do not fit"):
        rows, report = rows_of([row], tokenizer, PREFIX, max_length=n_two)
    assert len(rows) == 2
    assert (report.n_lost_steps, report.n_cut_rows, report.n_without_target) == (1, 1, 0)
    n_prompt = len(encode_solution(tokenizer, Solution("p?", ["a"]), 1, PREFIX).input_ids) - 2
    with pytest.warns(UserWarning, match="1 of 3 labelled steps do not fit"):
        rows, _ = rows_of([row], tokenizer, PREFIX, max_completion_length=n_two - n_prompt)
    assert len(rows) == 2


# ---- truncation


def test_what_truncation_takes_is_counted_and_warned_about(tokenizer):
    long = {"prompt": "p?", "completions": ["a", "b " * 40, "c"], "labels": [True, False, True]}
    longer = {"prompt": "p?", "completions": ["b " * 40], "labels": [True]}
    unlabelled = {"prompt": "p?", "completions": ["a"], "labels": [None]}
    message = r"3 of 6 labelled steps do not fit .*\(2 of 4 rows are cut\); 2 rows without any target.*max_length=20"
    with pytest.warns(UserWarning, match=message):
        rows, report = rows_of([ROW | {"completions": ["a", "b"]}, long, longer, unlabelled], tokenizer, max_length=20)
    assert report == RowReport(n_rows=4, n_steps=6, n_lost_steps=3, n_without_target=2, n_cut_rows=2)
    assert [[label for _, label in targets_of(row)] for row in rows] == [[1, 0], [1]]
    assert max(row_lengths(rows)) <= 20


def test_a_data_set_without_any_target_is_an_error(tokenizer):
    rows = [{"prompt": "p?", "completions": ["b " * 40], "labels": [True]}] * 3
    with pytest.raises(ValueError, match="none of 3 rows keeps a target: 3 labelled steps were found, and 3 of them"):
        rows_of(rows, tokenizer, max_length=20)
    with pytest.raises(ValueError, match="none of 1 rows keeps a target: 0 labelled steps"):
        rows_of([{"prompt": "p?", "completions": ["a"], "labels": [None]}], tokenizer)


@pytest.mark.parametrize("scheme", [SEPARATOR, PREFIX], ids=lambda scheme: scheme.name)
def test_a_prompt_that_leaves_no_room_costs_its_row(tokenizer, scheme):
    rows = [ROW, {**ROW, "prompt": "x " * 300}]
    with pytest.warns(UserWarning, match=r"2 rows are cut\); 1 row without any target is left out. max_length=100"):
        found, report = rows_of(rows, tokenizer, scheme, max_length=100)
    alone, _ = rows_of(rows[:1], tokenizer, scheme, max_length=100)
    assert found.to_list() == alone.to_list()
    n_labelled = sum(label is not None for label in ROW["labels"])
    assert (report.n_rows, report.n_without_target, report.n_lost_steps) == (2, 1, n_labelled)
    with pytest.warns(UserWarning, match="rows of the stream keep no target"):
        stream = list(
            rows_of(datasets.Dataset.from_list(rows).to_iterable_dataset(), tokenizer, scheme, max_length=100)[0]
        )
    assert len(stream) == len(alone)
    with pytest.raises(ValueError, match=r"row 1: its prompt alone has \d+ tokens and max_length=100"):
        rows_of(rows, tokenizer, scheme, max_length=100, too_long="raise")
    with pytest.raises(ValueError, match=r"none of 1 rows keeps a target.*prompts cut on the left \(max_prompt"):
        rows_of(rows[1:], tokenizer, scheme, max_length=100)


def test_streamed_rows_without_target_are_left_out_with_a_warning(tokenizer):
    rows = [ROW, {"prompt": "p?", "completions": ["b " * 90], "labels": [True]}, ROW]
    stream, report = rows_of(datasets.Dataset.from_list(rows).to_iterable_dataset(), tokenizer, max_length=80)
    assert report is None
    with pytest.warns(UserWarning, match="rows of the stream keep no target"):
        found = list(stream)
    assert len(found) == 2


def test_a_stream_without_known_columns_is_read(tokenizer):
    def generate():
        yield ROW
        yield {**ROW, "labels": [False, None]}

    stream = datasets.IterableDataset.from_generator(generate)
    assert stream.column_names is None
    assert find_classes(stream) == (False, True)
    rows, _ = rows_of(stream, tokenizer)
    assert [[label for _, label in targets_of(row)] for row in rows] == [[1, 0], [0]]


# ---- bad rows


@pytest.mark.parametrize(
    ("change", "classes", "message"),
    [
        ({"completions": [], "labels": []}, (False, True), "row 1 has no steps"),
        ({"labels": [True]}, (False, True), "row 1 has 1 labels for 2 steps"),
        ({"labels": [True, False, True]}, (False, True), "row 1 has 3 labels for 2 steps"),
        ({"labels": [1, -1]}, (False, True), r"row 1: label -1, .*label_order=\[-1, 0, 1\]"),
        ({"labels": [1, -100]}, (False, True), "row 1: label -100.*write None"),
        ({"labels": [True, False]}, (-1, 0, 1), "row 1: label True, expected one of -1, 0, 1"),
        ({"labels": [0.5, 1.0]}, (False, True), "row 1: label 0.5, .*probabilities need"),
        ({"labels": [0.5, 1.5]}, None, "row 1: label 1.5, expected a probability"),
        ({"labels": [0.5, float("nan")]}, None, "row 1: label nan"),
        ({"labels": ["good", "bad"]}, ("bad", "fair"), "row 1: label 'good'"),
    ],
)
@pytest.mark.parametrize("kind", ["list", "hub"])
def test_bad_rows_are_named(tokenizer, change, classes, message, kind):
    row = ROW | change
    good = next((label for label in (classes or (0.5,)) if type(label) is type((row["labels"] or [True])[0])), None)
    first = {**ROW, "labels": [good, None]} if good is not None else {**ROW, "labels": [None, None]}
    rows = [first, row]
    with pytest.raises(ValueError, match=message):
        rows_of(rows if kind == "list" else datasets.Dataset.from_list(rows), tokenizer, classes=classes)


def test_hard_and_soft_labels_do_not_mix(tokenizer):
    across = [{**ROW, "labels": [True, False]}, {**ROW, "labels": [0.5, 0.5]}]
    within = [{**ROW, "labels": [True, 0.5]}]
    for rows in (across, within):
        with pytest.raises(ValueError, match="labels mix"):
            find_classes(rows)
        with pytest.raises(ValueError, match="mix floats with others"):
            rows_of(rows, tokenizer, classes=None)


def test_what_is_no_data_set_is_refused(tokenizer):
    with pytest.raises(TypeError, match=r"dataset\['train'\]"):
        rows_of(datasets.DatasetDict(train=datasets.Dataset.from_list([ROW])), tokenizer)
    with pytest.raises(TypeError, match="the data set is str"):
        rows_of("train.json", tokenizer)
    with pytest.raises(ValueError, match="the data set is empty"):
        rows_of([], tokenizer)
    with pytest.raises(ValueError, match="rows of type Solution"):
        rows_of([Solution("p", ["a"])], tokenizer)
    with pytest.raises(ValueError, match="lacks labels and has prompt, completions"):
        rows_of(datasets.Dataset.from_list([{"prompt": "p", "completions": ["a"]}]), tokenizer)
    with pytest.raises(ValueError, match=r"StepDataset\.from_hf"):
        rows_of(StepDataset(flatten([Solution("p", ["a"])]), [1]).to_hf(), tokenizer)
    with pytest.raises(ValueError, match="row 1 lacks labels"):
        rows_of([ROW, {"prompt": "p", "completions": ["a"]}], tokenizer)
    with pytest.raises(TypeError, match="row 0: a text is NoneType"):
        rows_of([{**ROW, "completions": ["a", None]}], tokenizer)
    with pytest.raises(TypeError, match="row 0: a text is int"):
        rows_of([{**ROW, "prompt": 5}], tokenizer)
    with pytest.raises(TypeError, match=r"row 0: steps\[1\] is NoneType"):
        rows_of(datasets.Dataset.from_list([{**ROW, "completions": ["a", None]}]), tokenizer)
    with pytest.raises(ValueError, match="has no rows"):
        rows_of(datasets.Dataset.from_list([ROW]).select([]), tokenizer)


# ---- pre-tokenised rows


def test_pretokenised_rows_are_used_as_they_are(tokenizer):
    given_rows = [{"input_ids": [5, 6, 7], "labels": [-100, 1, 0]}, {"input_ids": [8, 9], "labels": [-100, -100]}]
    for dataset in (given_rows, datasets.Dataset.from_list(given_rows)):
        assert find_classes(dataset) == (False, True)
        with pytest.warns(UserWarning, match="1 row without any target is left out"):
            rows, report = rows_of(dataset, tokenizer, max_length=2)
        assert list(rows) == given_rows[:1]
        assert (report.n_rows, report.n_steps, report.n_lost_steps, report.n_without_target) == (2, 2, 0, 1)
    stream, _ = rows_of(datasets.Dataset.from_list(given_rows[:1]).to_iterable_dataset(), tokenizer)
    assert list(stream) == given_rows[:1]


def test_pretokenised_rows_may_bring_blocks_and_probabilities(tokenizer):
    given_rows = [{"input_ids": [5, 6], "labels": [-100.0, 0.5], "blocks": [0, 1]}]
    assert find_classes(given_rows) is None
    rows, _ = rows_of(given_rows, tokenizer, classes=None)
    assert list(rows) == given_rows
    assert rows.features["labels"].feature == datasets.Value("float32")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"input_ids": [5, 6], "labels": [-100]}, "row 0: columns of unequal length"),
        ({"input_ids": [5, 6], "labels": [-100, 1], "blocks": [0]}, "row 0: columns of unequal length"),
        ({"input_ids": [5, 6], "labels": [-100, 2]}, "row 0: label 2 of a token, expected a code from 0 to 1"),
        ({"input_ids": [5, 6], "labels": [-1, 1]}, "row 0: label -1 of a token"),
        ({"input_ids": [5, 6], "labels": [True, True]}, "-100 has become True"),
    ],
)
def test_bad_pretokenised_rows_are_named(tokenizer, row, message):
    with pytest.raises(ValueError, match=message):
        rows_of([row], tokenizer)


# ---- classes


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        ([True, False], (False, True)),
        ([True, True], (False, True)),
        ([1, 0], (False, True)),
        ([1, None], (False, True)),
        ([0.25, 1.0], None),
        ([1.0, 0.0], None),
        ([1, 0.25], None),
    ],
)
def test_classes_are_found(labels, classes):
    rows = [{**ROW, "labels": labels}]
    assert find_classes(rows) == classes
    assert find_classes(datasets.Dataset.from_list(rows)) == classes
    assert find_classes(datasets.Dataset.from_list(rows).to_iterable_dataset()) == classes


@pytest.mark.parametrize(
    ("labels", "proposal"),
    [
        ([1, -1], r"label_order=\[-1, 1\]|label_order=\[-1, 0, 1\]"),
        ([1, -1, 0], r"label_order=\[-1, 0, 1\]"),
        (["positive", "negative"], "label_order=\\['negative'"),
        (["good", "bad"], r"label_order=\[worst, …, best\]"),
        ([0, 1, 2], r"label_order=\[0, 1, 2\]"),
        ([1.0, -1.0], r"label_order=\[-1"),
    ],
)
def test_other_labels_must_be_declared(labels, proposal):
    rows = [{"prompt": "p", "completions": ["a"] * len(labels), "labels": labels}]
    with pytest.raises(ValueError, match=proposal):
        find_classes(rows)
    assert find_classes(rows, [-1, 0, 1]) == (-1, 0, 1)


def test_a_step_dataset_knows_its_order():
    X = flatten([Solution("p", ["a", "b", "c"])])
    assert find_classes(StepDataset(X, [1, -1, 0])) == (-1, 0, 1)
    assert find_classes(StepDataset(X, ["positive", "negative", "positive"])) == ("negative", "positive")
    assert find_classes(StepDataset(X, [0.5, 1.0, 0.0])) is None
    with pytest.raises(ValueError, match=r"label_order=\[worst, …, best\]"):
        find_classes(StepDataset(X, ["x", "y", "x"]))
    with pytest.raises(ValueError, match="two or more distinct labels"):
        find_classes(StepDataset(X, [1, -1, 0]), [1])


def test_a_selection_counts_only_its_own_labels():
    dataset = datasets.Dataset.from_list([{**ROW, "labels": [1, 0]}, {**ROW, "labels": [-1, 0]}])
    assert find_classes(dataset.select([0])) == (False, True)
    with pytest.raises(ValueError, match="label_order"):
        find_classes(dataset)


def test_nothing_labelled_is_an_error():
    with pytest.raises(ValueError, match="no step of the data set is labelled"):
        find_classes([{**ROW, "labels": [None, None]}])


def test_row_lengths_follow_a_selection():
    dataset = datasets.Dataset.from_dict({"input_ids": [[1], [1, 2], [1, 2, 3]]})
    assert row_lengths(dataset).tolist() == [1, 2, 3]
    assert row_lengths(dataset.select([2, 0])).tolist() == [3, 1]


def test_declared_labels_keep_their_meaning():
    """Ratings 0 and 1 are neutral and right: a data set that says so is not read as wrong and right."""
    X = flatten([Solution("2 + 3?", ["We add.", "5."])])
    assert find_classes(StepDataset(X, [0, 1], vocabulary="binary")) == (False, True)
    assert find_classes(StepDataset(X, [-1, 0], vocabulary="rating")) == (-1, 0)
    assert find_classes(StepDataset(X, ["good", "bad"], vocabulary=("bad", "good"))) == ("bad", "good")
    assert find_classes(StepDataset(X, [0, 1], vocabulary="soft")) is None
    with pytest.raises(ValueError, match=r"lack the worst of \[-1, 0, 1\].*label_order=\[-1, 0, 1\]"):
        find_classes(StepDataset(X, [0, 1], vocabulary="rating"))


def test_numbered_classes_with_names_are_not_read_by_their_numbers():
    names = datasets.List(datasets.ClassLabel(names=["right", "wrong"]))
    types = {**datasets.Dataset.from_list([ROW]).features, "labels": names}
    dataset = datasets.Dataset.from_list([{**ROW, "labels": [0, 1]}], features=datasets.Features(types))
    for source in (dataset, dataset.to_iterable_dataset()):
        with pytest.raises(ValueError, match=r"ClassLabel.*prmkit.data.load\(dataset\)"):
            find_classes(source)
