import bz2
import gzip
import json
import lzma
import pickle
import warnings
from collections import Counter
from itertools import groupby
from operator import attrgetter

import fsspec
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from prmkit.data import Solution, StepDataset, iter_prm800k, load_prm800k, load_stepwise, write as write_file

# --- records in code


def candidate(text, rating, flagged=None):
    return {"text": text, "rating": rating, "flagged": flagged}


def branch(*candidates, chosen=None, human=None):
    human = human and {"text": human, "rating": None, "source": "human", "flagged": False}
    return {"completions": [candidate(*c) for c in candidates], "human_completion": human, "chosen_completion": chosen}


def make_record(*steps, problem="Compute 3*4+5.", finish_reason="found_error", **fields):
    return {
        "labeler": "L",
        "generation": None,
        "is_quality_control_question": False,
        "is_initial_screening_question": False,
        "question": {"problem": problem, "ground_truth_answer": "17"},
        "label": {"steps": list(steps), "finish_reason": finish_reason},
        **fields,
    }


def made_up_record(**fields):
    """Alternatives, a human step, an unrated one, a flagged one, a repeated one."""
    return make_record(
        branch(("a", 0), ("b", 1), chosen=1),
        branch(("c", -1), ("d", -1), human="h"),
        branch(("e", None), ("f", 0, True), chosen=0),
        branch(("g", -1), ("k", 1), ("k", 1)),
        **fields,
    )


@pytest.fixture
def write(tmp_path):
    def write(*records, name="records.jsonl"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(f"{r if isinstance(r, str) else json.dumps(r)}\n" for r in records))
        return path

    return write


def as_table(rows):
    """Return (prefix, step, rating, source, chosen) of streamed or of loaded rows."""
    if isinstance(rows, StepDataset):
        frame = rows.to_frame()
        rows = zip(rows.X, rows.y.tolist(), frame[["source", "chosen"]].to_dict("records"), strict=True)
    return [(" ".join(s.prefix), s.text, rating, meta["source"], bool(meta["chosen"])) for s, rating, meta in rows]


# --- the made-up record

MADE_UP_ROWS = [
    ("", "a", 0, "model", False),
    ("", "b", 1, "model", True),
    ("b", "c", -1, "model", False),
    ("b", "d", -1, "model", False),
    ("b", "h", 1, "human", True),
    ("b h e", "g", -1, "model", False),
    ("b h e", "k", 1, "model", False),
    ("b h e", "k", 1, "model", False),
]


def test_made_up_record_before_merging(write):
    counts = Counter()
    assert as_table(iter_prm800k(write(made_up_record()), counts=counts)) == MADE_UP_ROWS
    assert counts["unrated"] == counts["flagged"] == counts["human steps"] == 1


def test_made_up_record_merged(write):
    dataset = load_prm800k(write(made_up_record()))
    assert as_table(dataset) == MADE_UP_ROWS[:7]
    assert dataset.rows["count"].tolist() == [1, 1, 1, 1, 1, 1, 2]
    for line in (
        "candidates without a rating: 1",
        "candidates flagged, left out: 1",
        "duplicates merged: 1",
        "human steps: 1",
        "rows: 7",
        "rated +1: 3",
        "rated 0: 1",
        "rated -1: 3",
        "problems: 1",
    ):
        assert line in dataset.description
    assert dataset.counts["records"] == dataset.counts["unrated"] == dataset.counts["human steps"] == 1


def test_chosen_rows_share_one_solution_and_each_alternative_has_its_own(write):
    dataset = load_prm800k(write(made_up_record()))
    chosen = [step.solution for step, is_chosen in zip(dataset.X, dataset.rows["chosen"], strict=True) if is_chosen]
    assert len({id(solution) for solution in chosen}) == 1
    assert chosen[0].steps == ("b", "h", "e")
    others = [step for step, is_chosen in zip(dataset.X, dataset.rows["chosen"], strict=True) if not is_chosen]
    assert [step.solution.steps for step in others] == [
        ("a",), ("b", "c"), ("b", "d"), ("b", "h", "e", "g"), ("b", "h", "e", "k"),
    ]  # fmt: skip
    assert dataset.solutions == list(dict.fromkeys(step.solution for step in dataset.X))
    # a; b h e; b c; b d; b h e g; b h e k. Nobody rated e: it may be wrong, also where g is.
    assert dataset.first_errors == [-1, None, 1, 1, None, None]
    assert [solution.id for solution in dataset.solutions][:3] == ["records:1/0.0", "records:1", "records:1/1.0"]
    assert dataset.solutions[0].meta["final_answer"] == "17"


def test_flagged_candidates_can_be_kept(write):
    rows = as_table(iter_prm800k(write(made_up_record()), drop_flagged=False))
    assert rows == [*MADE_UP_ROWS[:5], ("b h", "f", 0, "model", False), *MADE_UP_ROWS[5:]]


def test_made_up_record_as_a_trajectory(write):
    dataset = load_prm800k(write(made_up_record()), view="trajectories")
    assert dataset.solutions == [Solution("Compute 3*4+5.", ("b", "h", "e", "g"))]
    assert [(step.index, rating) for step, rating in zip(dataset.X, dataset.y, strict=True)] == [
        (0, 1),
        (1, 1),
        (3, -1),
    ]
    assert dataset.first_errors == [None]  # e is unrated, and may be wrong


@pytest.mark.parametrize("view", ["prefixes", "trajectories"])
def test_labels_and_first_errors_survive_the_way_through_another_format(write, tmp_path, view):
    records = [
        made_up_record(),
        make_record(branch(("a", 1), chosen=0), branch(("b", -1)), problem="q"),
        make_record(branch(("a", None), chosen=0), branch(("b", -1)), problem="r"),
        make_record(branch(("a", 1), chosen=0), branch(("b", 1)), problem="s"),
    ]
    dataset = load_prm800k(write(*records), view=view)
    report = write_file(dataset, tmp_path / "stepwise.jsonl", format="stepwise")
    back = load_stepwise(tmp_path / "stepwise.jsonl")
    key = attrgetter("solution.problem", "solution.steps", "index")
    labels = [dict(zip(map(key, d.X), d.y.tolist(), strict=True)) for d in (dataset, back)]
    assert labels[1] == {step: 1 if rating == 0 else rating for step, rating in labels[0].items()}
    errors = [dict(zip(d.solutions, d.first_errors, strict=True)) for d in (dataset, back)]
    lost = [solution for solution in errors[0] if errors[0][solution] != errors[1][solution]]
    assert all(errors[1][solution] is None for solution in lost)
    assert len(lost) == report.lost["the first error, which the labels alone do not tell"]
    # An alternative shares the labels of its prefix with other solutions, and a row is written once.
    assert (len(lost) == 0) == (view == "trajectories")
    assert None in errors[0].values()


@pytest.mark.parametrize(
    ("leaves", "end", "first_error"),
    [
        ([("c", None), ("d", 1), ("e", -1), ("f", -1)], ("b", "e"), 1),
        ([("c", None), ("d", 0), ("e", 1)], ("b", "d"), -1),
        ([("c", None), ("d", -1, True)], ("b",), -1),
    ],
)
def test_a_trajectory_ends_with_its_first_wrong_leaf_else_the_first_rated(write, leaves, end, first_error):
    path = write(make_record(branch(("a", 0), ("b", 1), chosen=1), branch(*leaves)))
    dataset = load_prm800k(path, view="trajectories")
    assert dataset.solutions[0].steps == end
    assert dataset.first_errors == [first_error]
    assert [row[:2] for row in as_table(load_prm800k(path, include_alternatives=False))] == [
        (" ".join(end[:i]), text) for i, text in enumerate(end)
    ]


def test_without_alternatives_prefixes_are_the_rows_of_the_trajectory(write):
    path = write(made_up_record())
    assert as_table(iter_prm800k(path, include_alternatives=False)) == as_table(iter_prm800k(path, view="trajectories"))


def test_without_human_rows_their_text_stays_context(write):
    dataset = load_prm800k(write(made_up_record()), include_human=False)
    assert as_table(dataset) == [row for row in MADE_UP_ROWS[:7] if row[3] != "human"]
    assert "human steps left out: 1" in dataset.description
    judged = make_record(branch(("x", -1), human="h"), branch(("y", 1), chosen=0))
    dataset = load_prm800k(write(judged), include_human=False, view="trajectories")
    assert [step.text for step in dataset.X] == ["y"]
    assert dataset.first_errors == [-1]  # a human step is right even where it is no row


@pytest.mark.parametrize(("neutral", "first"), [("keep", 0), ("positive", 1), ("negative", -1)])
def test_neutral_policies_change_labels_and_no_row(write, neutral, first):
    path = write(made_up_record())
    expected = [("", "a", first, "model", False), *MADE_UP_ROWS[1:]]
    assert as_table(iter_prm800k(path, neutral=neutral)) == expected
    dataset = load_prm800k(path, neutral=neutral)
    assert as_table(dataset) == expected[:7]
    assert dataset.first_errors[0] == (0 if neutral == "negative" else -1)


def test_dropped_neutral_steps_stay_context_and_known(write):
    assert as_table(load_prm800k(write(made_up_record()), neutral="drop")) == MADE_UP_ROWS[1:7]
    dataset = load_prm800k(write(make_record(branch(("a", 0), chosen=0), branch(("b", 1), chosen=0))), neutral="drop")
    assert as_table(dataset) == [("a", "b", 1, "model", True)]
    assert dataset.first_errors == [-1]
    assert "neutral steps left out: 1" in dataset.description


def test_labels_as_names(write):
    dataset = load_prm800k(write(made_up_record()), labels="names")
    assert dataset.y.tolist()[:3] == ["neutral", "positive", "negative"]


def test_answer_is_cut_off_on_request(write):
    path = write(
        make_record(
            branch(("3*4+5 is 17.\n\n# Answer\n\n17", 1), ("It is 12.\n# Answer\n12", -1), chosen=0),
            branch(("# Answer\n\n17", 1), chosen=0),
        )
    )
    kept, cut = load_prm800k(path), load_prm800k(path, cut_answer=True)
    assert kept.X[0].text == "3*4+5 is 17.\n\n# Answer\n\n17"
    assert [step.text for step in cut.X] == ["3*4+5 is 17.", "It is 12.", "# Answer\n\n17"]
    assert [step.solution.meta["answer"] for step in cut.X] == ["17", "12", "17"]
    assert "answer" not in kept.X[0].solution.meta


# --- merging


def test_the_chosen_one_of_two_equal_candidates_is_kept(write):
    path = write(make_record(branch(("a", 1), ("a", 1), chosen=1), branch(("b", -1))))
    assert as_table(load_prm800k(path)) == [("", "a", 1, "model", True), ("a", "b", -1, "model", False)]


def test_a_text_of_labeller_and_model_is_a_model_step(write):
    path = write(make_record(branch(("a", 1), ("b", -1), human="a")))
    for include_human in (True, False):
        rows = as_table(load_prm800k(path, include_human=include_human))
        assert rows == [("", "a", 1, "model", True), ("", "b", -1, "model", False)]


def conflicting_records():
    """Step a: +1 +1 -1; step b: +1 -1 (a tie); step c: 0 +1."""
    return [
        make_record(branch(("a", 1), ("b", 1), ("c", 0), chosen=0), branch(("d", 1), chosen=0)),
        make_record(branch(("a", 1), ("b", -1), ("c", 1), chosen=0), branch(("e", 1), chosen=0)),
        make_record(branch(("a", -1))),
    ]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, {("a", 1, 2), ("d", 1, 1), ("e", 1, 1)}),
        ({"neutral": "positive"}, {("a", 1, 2), ("c", 1, 2), ("d", 1, 1), ("e", 1, 1)}),
        ({"conflicts": "drop"}, {("d", 1, 1), ("e", 1, 1)}),
        (
            {"conflicts": "keep"},
            {("a", 1, 2), ("a", -1, 1), ("b", 1, 1), ("b", -1, 1), ("c", 0, 1), ("c", 1, 1), ("d", 1, 1), ("e", 1, 1)},
        ),
    ],
)
def test_conflicting_ratings(write, options, expected):
    dataset = load_prm800k(write(*conflicting_records()), **options)
    found = [
        (step.text, int(rating), int(count))
        for step, rating, count in zip(dataset.X, dataset.y, dataset.rows["count"], strict=True)
    ]
    assert len(found) == len(set(found))
    assert set(found) == expected
    n_conflicts = 2 if options.get("neutral") == "positive" else 3
    assert f"steps rated differently (conflicts): {n_conflicts}" in dataset.description


def test_every_rating_read_is_accounted_for(write):
    dataset = load_prm800k(write(*conflicting_records()))
    assert "duplicates merged: 1" in dataset.description
    assert "of them dropped: 2" in dataset.description
    assert "ratings lost by it: 5" in dataset.description  # one against a, two of b, two of c
    assert len(dataset.X) + 1 + 5 == len(list(iter_prm800k(write(*conflicting_records()))))


def test_equal_solutions_of_several_records_share_one_object(write):
    first = make_record(branch(("a", 1), chosen=0), branch(("b", None), chosen=0))
    second = make_record(branch(("a", None), chosen=0), branch(("b", 1), chosen=0))
    dataset = load_prm800k(write(first, second))
    assert len(dataset.X) == 2
    assert dataset.X[0].solution is dataset.X[1].solution
    assert dataset.first_errors == [-1]


def test_trajectories_merge_whole_solutions_only(write):
    same = make_record(branch(("a", 1), chosen=0), branch(("b", 1), chosen=0))
    other = make_record(branch(("a", 1), chosen=0), branch(("c", -1)))
    dataset = load_prm800k(write(same, same, other), view="trajectories")
    assert [(step.text, int(rating)) for step, rating in zip(dataset.X, dataset.y, strict=True)] == [
        ("a", 1), ("b", 1), ("a", 1), ("c", -1),
    ]  # fmt: skip
    assert dataset.rows["count"].tolist() == [2, 2, 1, 1]
    assert dataset.first_errors == [-1, 1]


# --- records left out


def test_records_are_dropped_by_reason_and_counted(write):
    path = write(
        made_up_record(),
        made_up_record(is_quality_control_question=True),
        made_up_record(is_initial_screening_question=True),
        made_up_record(finish_reason="bad_problem"),
        made_up_record(finish_reason="give_up"),
        made_up_record(finish_reason=None),
    )
    dataset = load_prm800k(path)
    for line in (
        "records read: 6",
        "records kept: 3",
        "finish_reason found_error: 1",
        "finish_reason give_up: 1",
        "finish_reason None: 1",
        "records dropped: 3",
        "quality control: 1",
        "screening: 1",
        "bad_problem: 1",
    ):
        assert line in dataset.description
    everything = load_prm800k(path, drop_quality_control=False, drop_screening=False)
    assert "records kept: 5" in everything.description
    assert as_table(everything) == as_table(dataset)
    assert everything.rows["count"].tolist() == [5] * 6 + [10]


def test_nothing_left_is_an_error_with_the_counts(write):
    with pytest.raises(ValueError, match=r"(?s)no labelled step is left.*records read: 1\b.*screening: 1\b"):
        load_prm800k(write(made_up_record(is_initial_screening_question=True)))
    with pytest.raises(ValueError, match="records read: 0"):
        load_prm800k(write())


def broken(change):
    record = made_up_record()
    change(record)
    return record


MALFORMED = {
    "index out of range": [
        lambda r: r["label"]["steps"][0].update(chosen_completion=2),
        lambda r: r["label"]["steps"][0].update(chosen_completion=-1),
        lambda r: r["label"]["steps"][0].update(completions=[]),
        lambda r: r["label"]["steps"][0].update(completions=None),
    ],
    "wrong type": [
        lambda r: r["label"]["steps"][0].update(chosen_completion="0"),
        lambda r: r["label"]["steps"][0].update(chosen_completion=True),
        lambda r: r["label"]["steps"][0].update(completions={"text": "a"}),
        lambda r: r["label"]["steps"][0].update(completions=["a"]),
        lambda r: r["label"]["steps"][0]["completions"][0].update(text=None),
        lambda r: r["label"]["steps"][1].update(human_completion="h"),
        lambda r: r["label"].update(steps=None),
        lambda r: r["label"]["steps"].append([]),
        lambda r: r.update(question="Compute"),
        lambda r: r["question"].update(problem=5),
    ],
    "missing key": [
        lambda r: r.pop("label"),
        lambda r: r.pop("question"),
        lambda r: r["question"].pop("problem"),
        lambda r: r["label"]["steps"][0].pop("completions"),
        lambda r: r["label"]["steps"][0].pop("chosen_completion"),
        lambda r: r["label"]["steps"][0]["completions"][0].pop("rating"),
    ],
    "empty text": [
        lambda r: r["label"]["steps"][0]["completions"][0].update(text=" \n"),
        lambda r: r["question"].update(problem=""),
    ],
    "unknown rating": [
        lambda r: r["label"]["steps"][0]["completions"][0].update(rating=2),
        lambda r: r["label"]["steps"][0]["completions"][0].update(rating="1"),
        lambda r: r["label"]["steps"][0]["completions"][0].update(rating=True),
    ],
}


@pytest.mark.parametrize(
    ("reason", "record"),
    [(reason, broken(change)) for reason, changes in MALFORMED.items() for change in changes]
    + [("wrong type", []), ("wrong type", 3)],
)
def test_malformed_records_are_named_or_skipped(write, reason, record):
    path = write(made_up_record(), record)
    with pytest.raises(ValueError, match=rf"records\.jsonl, line 2: {reason}: .*on_error='skip'"):
        load_prm800k(path)
    with pytest.warns(UserWarning, match=f"1 malformed records were skipped .*1 {reason}"):
        dataset = load_prm800k(path, on_error="skip")
    assert as_table(dataset) == MADE_UP_ROWS[:7]
    assert f"    {reason}: 1" in dataset.description


def test_malformed_parts_are_found_by_name(write):
    record = broken(lambda r: r["label"]["steps"][2].update(chosen_completion=7))
    with pytest.raises(ValueError, match=r"label\.steps\[2\]\.chosen_completion is 7 with 2 completions"):
        load_prm800k(write(record))


def test_lines_that_are_not_json_are_counted_too(write):
    path = write("{", made_up_record(), "nonsense")
    with pytest.raises(ValueError, match=r"records\.jsonl, line 1: not JSON"):
        load_prm800k(path)
    with pytest.warns(UserWarning, match="2 malformed records were skipped"):
        dataset = load_prm800k(path, on_error="skip")
    assert "records read: 3" in dataset.description
    assert "    not JSON: 2" in dataset.description


def test_null_completions_end_a_solution_and_chosen_0_is_an_index(write):
    path = write(
        make_record(
            branch(("a", 1), ("b", 1), chosen=0),
            {"completions": None, "human_completion": None, "chosen_completion": None},
            branch(("never reached", 1), chosen=0),
        )
    )
    dataset = load_prm800k(path)
    assert as_table(dataset) == [("", "a", 1, "model", True), ("", "b", 1, "model", False)]
    assert "steps after the end, left out: 1" in dataset.description


# --- sources


def phased_record(phase, problem):
    question = {"problem": problem, **({"pre_generated_steps": ["b"]} if phase == 2 else {})}
    return made_up_record(question=question, generation=3 if phase == 2 else None)


@pytest.fixture
def official_folder(write):
    for phase in (1, 2):
        for split in ("train", "test"):
            path = write(phased_record(phase, f"{phase} {split}"), name=f"official/phase{phase}_{split}.jsonl")
    return path.parent


@pytest.mark.parametrize(
    ("options", "problems"),
    [
        ({}, {"1 train", "2 train"}),
        ({"phase": 1}, {"1 train"}),
        ({"split": "test"}, {"1 test", "2 test"}),
        ({"phase": 2, "split": "test"}, {"2 test"}),
    ],
)
def test_folder_of_the_official_files(official_folder, options, problems):
    dataset = load_prm800k(official_folder, **options)
    assert {step.problem for step in dataset.X} == problems
    assert set(dataset.rows["phase"]) == {int(problem[0]) for problem in problems}
    assert len(np.unique(dataset.groups)) == len(problems)


def test_clone_of_the_official_repository_with_gzipped_files(write, tmp_path):
    for phase in (1, 2):
        path = write(phased_record(phase, "p"), name=f"clone/prm800k/data/phase{phase}_train.jsonl")
        path.with_suffix(".jsonl.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    assert len(load_prm800k(tmp_path / "clone").X) == 7


def test_folder_without_the_files_says_which(official_folder, tmp_path):
    (official_folder / "phase2_train.jsonl").unlink()
    with pytest.raises(FileNotFoundError, match=r"lacks phase2_train\.jsonl .*pass phase=1"):
        load_prm800k(official_folder)
    with pytest.raises(FileNotFoundError, match=r"lacks phase1_test\.jsonl and phase2_test\.jsonl"):
        load_prm800k(tmp_path, split="test")


def test_several_files_are_read_in_order(official_folder):
    files = sorted(official_folder.glob("*_train.jsonl"))
    assert [s.problem for s in load_prm800k(files).solutions][::6] == ["1 train", "2 train"]
    with pytest.raises(ValueError, match="empty list of files"):
        load_prm800k([])


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("phase1_train.jsonl", {"split": "test"}, "is the train split, but split='test'"),
        ("phase1_train.jsonl", {"phase": 2}, "is phase 1, but phase=2"),
    ],
)
def test_options_must_not_contradict_an_official_name(official_folder, name, options, message):
    with pytest.raises(ValueError, match=message):
        load_prm800k(official_folder / name, **options)


def test_phase_selects_the_records_of_another_file(write):
    lost = made_up_record(question={"problem": "lost", "pre_generated_steps": None})
    path = write(phased_record(1, "one"), phased_record(2, "two"), lost)
    assert {step.problem for step in load_prm800k(path).X} == {"one", "two", "lost"}
    for phase, problem in ((1, "one"), (2, "two")):
        dataset = load_prm800k(path, phase=phase)
        assert {step.problem for step in dataset.X} == {problem}
        assert "other phase: 1" in dataset.description
        assert "phase not recorded: 1" in dataset.description


@pytest.mark.parametrize(("ending", "compress"), [("gz", gzip.compress), ("bz2", bz2.compress), ("xz", lzma.compress)])
def test_compressed_file_gives_the_same_rows(write, tmp_path, ending, compress):
    path = write(made_up_record())
    packed = tmp_path / f"records.jsonl.{ending}"
    packed.write_bytes(compress(path.read_bytes()))
    assert as_table(load_prm800k(packed)) == as_table(load_prm800k(path))
    assert load_prm800k(packed).solutions[1].id == "records:1"


def test_a_pattern_names_files_and_a_url_is_read(official_folder):
    files = sorted(official_folder.glob("*_train.jsonl"))
    assert load_prm800k(official_folder / "phase*_train.jsonl").X == load_prm800k(files).X
    with fsspec.open("memory://prmkit_prm800k/phase1_train.jsonl", "wb") as file:
        file.write(files[0].read_bytes())
    dataset = load_prm800k("memory://prmkit_prm800k/phase1_train.jsonl")
    assert dataset.X == load_prm800k(files[0]).X
    assert set(dataset.rows["phase"]) == {1}
    with pytest.raises(ValueError, match="is phase 1, but phase=2"):
        load_prm800k("memory://prmkit_prm800k/phase1_train.jsonl", phase=2)


@pytest.mark.parametrize(
    ("path", "error", "message"),
    [
        ("nowhere/at/all.jsonl", FileNotFoundError, r"nowhere/at/all\.jsonl does not exist \(looked for /.*owner/name"),
        ("data/missing.jsonl", FileNotFoundError, r"data/missing\.jsonl does not exist"),
        ("train", ValueError, r"'train' names a split.*load_prm800k\(folder, split='train'\)"),
        (800, TypeError, "path_or_split is int, expected a file"),
    ],
)
def test_what_is_no_source_is_named(path, error, message):
    with pytest.raises(error, match=message):
        load_prm800k(path)


def test_hugging_face_data_sets_are_streamed(monkeypatch):
    import datasets

    def load_dataset(name, *, split, streaming):
        assert (name, split, streaming) == ("owner/prm800k", "test", True)
        return [made_up_record()]

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    dataset = load_prm800k("owner/prm800k", split="test")
    assert as_table(dataset) == MADE_UP_ROWS[:7]
    assert dataset.solutions[0].id == "owner/prm800k:1/0.0"


def test_unreachable_hugging_face_data_set_names_both_ways_out(monkeypatch):
    import datasets

    def load_dataset(name, **_):
        raise ConnectionError("no network")

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    with pytest.raises(ConnectionError, match=r"'owner/prm800k' is no local file.*no network.*pass the path.*or name"):
        load_prm800k("owner/prm800k")


def test_git_lfs_pointer_in_a_folder(official_folder):
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 456135365\n"
    (official_folder / "phase2_train.jsonl").write_text(pointer)
    with pytest.raises(ValueError, match=r"phase2_train\.jsonl is a Git-LFS pointer.*size 456135365.*git lfs pull"):
        load_prm800k(official_folder)


def test_reading_is_streamed(write):
    rows = iter_prm800k(write(made_up_record(), "{"))
    assert [next(rows)[0].text for _ in range(8)] == [row[1] for row in MADE_UP_ROWS]
    with pytest.raises(ValueError, match="line 2: not JSON"):
        next(rows)


def test_limit_reads_no_further(write):
    path = write(made_up_record(), made_up_record(problem="q"), "{")
    dataset = load_prm800k(path, limit=2)
    assert {step.problem for step in dataset.X} == {"Compute 3*4+5.", "q"}
    assert "records read: 2" in dataset.description


@pytest.mark.parametrize(
    "option",
    [
        {"phase": 3},
        {"phase": True},
        {"split": "validation"},
        {"view": "prefix"},
        {"neutral": "ignore"},
        {"labels": "ints"},
        {"conflicts": "first"},
        {"on_error": "ignore"},
        {"limit": 0},
    ],
)
def test_unknown_options_are_refused_before_reading(write, option):
    with pytest.raises(ValueError, match=f"{next(iter(option))} is .*expected"):
        load_prm800k(write("{"), **option)


# --- properties

ratings = st.sampled_from([-1, 0, 1, None])


@st.composite
def branches(draw):
    texts = draw(st.lists(st.sampled_from("abcdef"), max_size=4))
    candidates = [(text, draw(ratings), draw(st.sampled_from([None, False, True]))) for text in texts]
    options = [st.none()] + ([st.integers(0, len(texts) - 1)] * 3 if texts else [])
    return branch(*candidates, chosen=draw(st.one_of(options)), human=draw(st.sampled_from([None, "h", "a"])))


records = st.builds(
    lambda steps, problem: make_record(*steps, problem=problem),
    st.lists(branches(), max_size=5),
    st.sampled_from(["p", "q"]),
)
properties = settings(max_examples=40, deadline=None)


def reached(record):
    """The steps of a record up to its end, and what continues each, said once more and otherwise."""
    steps, texts = [], []
    for step in record["label"]["steps"]:
        steps.append(step)
        if step["chosen_completion"] is not None:
            texts.append(step["completions"][step["chosen_completion"]]["text"])
        elif step["human_completion"] is not None:
            texts.append(step["human_completion"]["text"])
        else:
            break
    return steps, texts


def stream(path, some, **options):
    path.write_text("".join(json.dumps(record) + "\n" for record in some))
    return list(iter_prm800k(path, **options))


@pytest.fixture(scope="module")
def scratch(tmp_path_factory):
    return tmp_path_factory.mktemp("prm800k") / "records.jsonl"


@given(record=records)
@properties
def test_as_many_rows_as_ratings_and_human_steps(scratch, record):
    steps, _ = reached(record)
    rated = [c for s in steps for c in s["completions"] if c["rating"] is not None and not c["flagged"]]
    human = [s for s in steps if s["chosen_completion"] is None and s["human_completion"] is not None]
    rows = stream(scratch, [record])
    assert Counter(rating for _, rating, _ in rows) == Counter([c["rating"] for c in rated] + [1] * len(human))
    assert sum(meta["source"] == "human" for *_, meta in rows) == len(human)


@given(record=records)
@properties
def test_no_prefix_holds_what_was_not_continued_with(scratch, record):
    _, texts = reached(record)
    for step, _, meta in stream(scratch, [record]):
        assert list(step.prefix) == texts[: step.index]
        if meta["chosen"]:
            assert list(step.solution.steps) == texts
        else:
            assert step.index == step.solution.n_steps - 1


@given(record=records, data=st.data())
@properties
def test_order_of_candidates_changes_only_the_order_of_rows(scratch, record, data):
    shuffled = json.loads(json.dumps(record))
    for step in shuffled["label"]["steps"]:
        order = data.draw(st.permutations(range(len(step["completions"]))))
        step["completions"] = [step["completions"][j] for j in order]
        if step["chosen_completion"] is not None:
            step["chosen_completion"] = order.index(step["chosen_completion"])
    assert sorted(as_table(stream(scratch, [record]))) == sorted(as_table(stream(scratch, [shuffled])))


@given(some=st.lists(records, min_size=1, max_size=4))
@properties
def test_prefixes_are_trajectories_and_alternatives(scratch, some):
    trajectories = stream(scratch, some, view="trajectories")
    assert as_table(stream(scratch, some, include_alternatives=False)) == as_table(trajectories)
    prefixes = Counter(as_table(stream(scratch, some)))
    assert not Counter(as_table(trajectories)) - prefixes


@given(some=st.lists(records, min_size=1, max_size=5), view=st.sampled_from(["prefixes", "trajectories"]))
@properties
def test_merged_rows_agree_with_what_was_read(scratch, some, view):
    rows = stream(scratch, some, view=view)
    votes = {}
    for step, rating, _ in rows:
        whole = step.solution.steps if view == "trajectories" else None
        votes.setdefault((step.problem, step.prefix, step.text, whole), Counter())[rating] += 1
    # the reference way: the most frequent rating, none on a tie
    expected = {}
    for key, given_ratings in votes.items():
        (rating, n), *others = given_ratings.most_common()
        if not others or others[0][1] < n:
            expected[key] = (rating, n)
    if not expected:
        with pytest.raises(ValueError, match="no labelled step is left"):
            load_prm800k(scratch, view=view)
        return
    dataset = load_prm800k(scratch, view=view)
    found = {
        (s.problem, s.prefix, s.text, s.solution.steps if view == "trajectories" else None): (rating, n)
        for s, rating, n in zip(dataset.X, dataset.y.tolist(), dataset.rows["count"].tolist(), strict=True)
    }
    assert found == expected
    assert len(dataset.X) == len(expected)
    assert len({id(s.solution) for s in dataset.X}) == len(set(dataset.solutions)) == len(dataset.solutions)
    for solution, first_error in zip(dataset.solutions, dataset.first_errors, strict=True):
        keys = [
            (solution.problem, solution.steps[:i], text, solution.steps if view == "trajectories" else None)
            for i, text in enumerate(solution.steps)
        ]
        known = [expected[key][0] if key in expected else None for key in keys]
        decisive = [i for i, rating in enumerate(known) if rating in (-1, None)]
        assert first_error == (-1 if not decisive else None if known[decisive[0]] is None else decisive[0])


# --- real records


@pytest.fixture(scope="module")
def prm800k(data_folder):
    folder = data_folder / "prm800k"
    if not folder.is_dir():
        pytest.skip(f"no PRM800K records at {folder}")
    return folder


# Expected rows, read off the records by hand. Every line: how many steps stand before, the rating
# (+, 0, -; h for a step written by the labeller), * where the solution goes on with it, and how the
# text begins. What stands before a line are the first so many * lines.
PENCILS = """
0 + * Let's call the price of a pencil p
1 -   The first equation is 3p + e = 124, and the second equation is 5p + e = 182
1 -   The first equation is 3p+e=124, and the second is 5p+e=182.
1 -   The first equation is 3p + e = 124.
1 -   The first equation is $3p+e=124$. The second
1 -   The first equation is $3p+e=124$.
1 h * We have $3p+e=1.24$ and $5p+e=1.82$.
2 + * To solve this system, let's subtract
3 + * $5p+e-3p-e=1.82-1.24$.
4 + * This simplifies to $2p=0.58$. So $p=0.29$.
5 0   We could also solve this system by substitution.
5 +   So a pencil costs $0.29.
5 +   Right. One pencil costs $\\$0.29$.
5 +   So the price of a pencil is 29 cents.
5 + * That means a pencil costs 29 cents.
"""
COMMITTEE = """
0 + * I notice that there are three groups of people
1 0 * I wonder how many ways I can arrange these groups
2 + * I recall that the number of ways to arrange n distinct objects
3 + * So, for the three groups, there are (3-1)! = 2! = 2 ways
4 + * For example, one way is D-R-I
5 + * Now, I need to consider the order within each group.
6 -   For the Democrats, there are 5! ways to order them in a line, but only half
6 +   For the Democrats, there are 5! ways to arrange them in a line, and the sam
6 +   I observe that the Democrats and Republicans have 5 members each
6 +   I see that there are 5! ways to arrange the 5 Democrats in a row
"""
TETRAHEDRON = """
0 + * In a regular tetrahedron, all the faces
1 + * So we can use the formula for the area
2 + * The side length is 2, so the area of one face
3 + * And since there are 4 faces, the total surface area
4 + * We want to find the surface area of half
5 + * I think we can just find half of the total
6 + * But we have to remember that the plane
7 -   So we have to add back on half of a face
7 -   So we need to add half of a face, which is
7 -   Right. So we have to add on half of one face
7 -   So we have to add on half of a face, which is
7 -   So we have to add half of a face, which is
7 -   Right. So we have to add the area of half of a face.
7 h * By symmetry, we have that the intersection
"""
BASE_NINE = """
0 0   I think the easiest way to do this is to convert
0 0   First let's convert these numbers to base 10.
0 0   So we have $58_9 - 18_9$. Let's convert these to base $10$
0 0   Ok let's convert each number into base ten.
0 0   Hey, I thought we were converting to base $9$.
0 0   Ok, so we have $58_9 - 18_9$. Let's convert both numbers
0 0   We need to convert each number into base 10
0 h * Subtraction works the same in base $9$
1 -   So, let's convert each number to base $10$ and then subtract.
1 +   So we just line up the two numbers and subtract.
1 + * So we just find the difference of the numbers in the right column
1 +   So, we can just line up the numbers and subtract.
1 +   So we can just subtract digit by digit.
1 -   So let's convert these numbers to base $10$.
1 +   That's true, but we need to remember that base $9$
2 + * Now we need to find the difference of the numbers in the left column.
3 + * That's our answer.
4 -   But we need to write it in base $9$.
4 -   Wait. We need to express it in base $9$.
4 -   But we need to express it in base $9$.
4 -   We should write it in base $9$ though.
4 h * The answer is $40_9$.
5 -   You mean $4_9$.
5 0   In base $10$, that would be
5 -   To check, we could convert to base $10$
5 -   What? That doesn't make sense.
5 -   But we need to make sure that we didn't borrow
5 -   Wait, isn't $40_9$ fourtenths?
5 + * Notice that we didn't need to convert to base $10$
"""
SQUARE_ROOT = """
0 + * Let's find the square root of 16.
1 + * That's 4.
2 -   And the negative of 4.
2 0   So x could be 4.
2 0   So one value of x is 4.
2 0   So $x$ could be 4.
2 + * And the negative of 4 is also a solution, -4.
2 +   So the values x can take are 4 and -4.
2 0   So x could be 4.
3 + * So the sum of the possible values of x is 0.
4 + * Right.
"""
FACTORIAL = """
0 0 * I want to find the largest positive integer
1 0 * One way to do this is to factor both numbers
2 -   I know that $200,\\!000 = 2^5\\cdot 10^4
2 0   To factor $20 !$, I can use the fact that every factorial
2 -   I can use a factor tree to find the prime factors of $200,\\!000$: $200
2 0   I can use a factor tree to find the prime factors of $200,\\!000$.
2 0   To factor $20 !$, I can use the fact that any factorial
"""
BY_HAND = {1: PENCILS, 2: COMMITTEE, 5: TETRAHEDRON, 8: BASE_NINE, 10: SQUARE_ROOT, 11: FACTORIAL}
# The step that ends a solution nothing continues: its first wrong candidate.
TERMINAL = {2: "For the Democrats, there are 5! ways to order", 11: "I know that $200"}
FIRST_ERRORS = {1: -1, 2: 6, 5: -1, 8: -1, 10: -1, 11: 2}


def expected_rows(table):
    rows = []
    for line in table.strip().splitlines():
        n_before, sign, mark, start = int(line[0]), line[2], line[4] == "*", line[6:]
        rows.append((n_before, {"-": -1, "0": 0}.get(sign, 1), "human" if sign == "h" else "model", mark, start))
    return rows


def rows_of_record(path, number, **options):
    rows = iter_prm800k(path, **options)
    return [row for row in rows if row[0].solution.id.split("/")[0] == f"raw_examples:{number}"]


@pytest.mark.parametrize("number", BY_HAND)
def test_real_records_as_prefixes(prm800k, number):
    expected = expected_rows(BY_HAND[number])
    continuing = [start for *_, chosen, start in expected if chosen]
    rows = rows_of_record(prm800k / "raw_examples.jsonl", number)
    assert len(rows) == len(expected)
    for (step, rating, meta), (n_before, want, source, chosen, start) in zip(rows, expected, strict=True):
        assert (step.index, rating, meta["source"], meta["chosen"]) == (n_before, want, source, chosen), step.text
        assert step.text.startswith(start)
        assert all(text.startswith(s) for text, s in zip(step.prefix, continuing[:n_before], strict=True))


@pytest.mark.parametrize("number", BY_HAND)
def test_real_records_as_trajectories(prm800k, number):
    expected = [
        row for row in expected_rows(BY_HAND[number]) if row[3] or row[4].startswith(TERMINAL.get(number, "\0"))
    ]
    rows = rows_of_record(prm800k / "raw_examples.jsonl", number, view="trajectories")
    assert len(rows) == len(expected)
    assert [step.index for step, *_ in rows] == list(range(len(rows)))
    assert len({id(step.solution) for step, *_ in rows}) == 1
    for (step, rating, meta), (_, want, source, chosen, start) in zip(rows, expected, strict=True):
        assert (rating, meta["source"], meta["chosen"]) == (want, source, chosen)
        assert step.text.startswith(start)


def test_first_errors_of_real_trajectories(prm800k):
    dataset = load_prm800k(prm800k / "raw_examples.jsonl", view="trajectories")
    found = {int(s.id.split(":")[1]): e for s, e in zip(dataset.solutions, dataset.first_errors, strict=True)}
    assert {number: found[number] for number in FIRST_ERRORS} == FIRST_ERRORS


def test_screening_record_is_read_on_request(prm800k):
    path = prm800k / "raw_examples.jsonl"
    assert not rows_of_record(path, 6)
    rows = rows_of_record(path, 6, drop_screening=False)
    assert [rating for _, rating, _ in rows] == [1] * 12
    assert {meta["generation"] for *_, meta in rows} == {-1}


def test_phase_1_alternatives_never_become_context(prm800k):
    rows = iter_prm800k(prm800k / "raw_examples.jsonl", phase=1)
    n_prefixes = 0
    for _, record in groupby(rows, key=lambda row: row[0].solution.id.split("/")[0]):
        record = list(record)
        chosen = {(step.index, step.text) for step, _, meta in record if meta["chosen"]}
        for step, *_ in record:
            n_prefixes += step.index > 0
            assert set(enumerate(step.prefix)) <= chosen
    assert n_prefixes > 150


def test_phases_of_the_raw_records(prm800k):
    path = prm800k / "raw_examples.jsonl"
    numbers = {
        phase: {int(s.id.split("/")[0].split(":")[1]) for s in load_prm800k(path, phase=phase).solutions}
        for phase in (1, 2)
    }
    assert numbers == {1: {1, 3, 4, 5, 7, 8, 10}, 2: {2, 9, 11}}


@pytest.mark.parametrize(
    ("name", "n_solutions", "n_problems", "n_of"),
    [("train_sample.jsonl", 988, 152, {1: 5650, 0: 441, -1: 818}), ("test_sample.jsonl", 90, 71, {1: 657, 0: 95})],
)
def test_all_rows_of_the_samples_load(prm800k, name, n_solutions, n_problems, n_of):
    read = list(iter_prm800k(prm800k / name))
    assert Counter(rating for _, rating, _ in read) == n_of
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        whole = load_prm800k(prm800k / name, view="trajectories")
        merged = load_prm800k(prm800k / name)
    assert Counter(whole.y.tolist()) == n_of
    assert len(whole.solutions) == n_solutions
    assert len(np.unique(whole.groups)) == len(np.unique(merged.groups)) == n_problems
    assert f"records kept: {n_solutions}" in whole.description
    keys = {(step.problem, step.prefix, step.text) for step, *_ in read}
    dropped = int(merged.description.split("of them dropped: ")[1].split()[0])
    assert len(merged.X) == len(keys) - dropped
    # Every step of these files is rated, the wrong last ones included: all first errors are known.
    assert None not in whole.first_errors
    assert sum(error >= 0 for error in whole.first_errors) == n_of.get(-1, 0)


def test_a_file_that_lost_its_phase_says_so(prm800k):
    with pytest.raises(ValueError, match="phase not recorded: 988"):
        load_prm800k(prm800k / "train_sample.jsonl", phase=1)


def test_repeated_labellings_are_merged(prm800k):
    dataset = load_prm800k(prm800k / "repeated_labels.jsonl", view="trajectories")
    assert len(dataset.solutions) == 42
    assert dataset.rows["count"].max() > 300
    assert "records read: 506" in dataset.description


def test_real_steps_survive_pickle_frame_and_hugging_face(prm800k):
    dataset = load_prm800k(prm800k / "raw_examples.jsonl")
    again = pickle.loads(pickle.dumps(dataset))
    back = StepDataset.from_hf(dataset.to_hf())
    for other in (again, back):
        assert other.X == dataset.X
        assert other.y.tolist() == dataset.y.tolist()
        assert other.solutions == dataset.solutions
        assert other.first_errors == dataset.first_errors
        assert [s.meta for s in other.solutions] == [s.meta for s in dataset.solutions]
        assert {k: v.tolist() for k, v in other.rows.items()} == {k: v.tolist() for k, v in dataset.rows.items()}
    frame = dataset.to_frame()
    assert len(frame) == len(dataset.X)
    assert {"problem", "text", "y", "group", "source", "chosen", "count", "labeler", "generation"} <= set(frame.columns)
    assert frame.loc[frame["source"] == "human", "y"].eq(1).all()
