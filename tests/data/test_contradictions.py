"""Records that contradict the text of a sample: cuts are found and named, and the check can be made afterwards."""

import json
import warnings

import numpy as np
import pytest

from prmkit.data import load_candidates, load_samples

pd = pytest.importorskip("pandas")


def read(steps, answer, how="keep", **more):
    rows = [{"problem": "p", "steps": steps, "a": answer, **more}, {"problem": "p", "steps": ["x", "So 3."], "a": "3"}]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return load_samples(
            rows, steps="steps", answer="a", contradictions=how, **{name: name for name in more if name in NAMES}
        )


NAMES = ("correct", "reference")


@pytest.mark.parametrize(
    ("last", "recorded", "whole"),
    [
        ("It costs $48,250.", "250", "48,250"),
        ("In all 517,000 people.", "000", "517,000"),
        ("In all 517,000 people.", "0", "517,000"),
        ("The answer is 517,000 people.", "517", "517,000 people"),
        (r"\boxed{12{,}034}", "034", "12{,}034"),
        (r"\boxed{12{,}034}", "34", "12{,}034"),
        (r"\boxed{\$12,034.50}", "034.50", r"\$12,034.50"),
        ("So -8,125.", "125", "-8,125"),
        ("It costs $48{,}250$.", "250", "48{,}250"),
        (r"It costs \(48\,250\) Euro.", "48", r"48\,250"),
        ("That is 3,400,700.", "400,700", "3,400,700"),
        ("That is 3,400,700.", "700", "3,400,700"),
        ("He pays 9,360 in 3 days.", "360", "9,360"),
        (r"\boxed{9360}", "360", "9360"),
        ("#### 9,360", 360, "9,360"),
    ],
)
def test_a_planted_cut_is_named(last, recorded, whole):
    """Nothing is recorded of right or wrong, and there is no reference answer."""
    found = read(["Let us see.", last], recorded)
    frame = found.contradictions_frame()
    assert frame["kind"].tolist() == ["cut"]
    assert frame.loc[0, ["sample", "recorded", "in_text"]].tolist() == [0, str(recorded), whole]
    assert "cut at a thousands separator" in found.contradictions[0]
    assert found.counts["of these, cut at a thousands separator"] == 1
    assert frame[["recorded_correct", "correct_by_text"]].isna().all(axis=None)
    assert read(["Let us see.", last], recorded, "text").answers[0] == whole


@pytest.mark.parametrize(
    ("last", "recorded", "kind"),
    [
        (r"\boxed{9361}", "360", "answer"),
        (r"\boxed{9360}", "9", "answer"),
        ("The answer is 1,250.", "1251", "answer"),
        (r"\boxed{1/3}", "3", "answer"),
        ("500 + 1000 = 1500 in all.", "500", None),
        ("For 2 boys it is 9,360 in 3 days.", "9360", None),
        ("It is 9,360 dollars.", "$9360.00", None),
        ("So it is x.", "77", None),
    ],
)
def test_other_answers_are_no_cuts(last, recorded, kind):
    found = read(["Let us see.", last], recorded)
    assert found.contradictions_frame()["kind"].tolist() == [kind] * (kind is not None)


def test_any_cut_of_any_number_is_found():
    rng = np.random.default_rng(3)
    for number in (10 ** rng.uniform(3, 9, size=40)).astype(int).tolist():
        groups = f"{number:,}".split(",")
        cut = ",".join(groups[int(rng.integers(1, len(groups))) :])
        found = read(["Add.", f"This makes ${number:,} altogether."], cut)
        assert found.contradictions_frame()["kind"].tolist() == ["cut"], (number, cut)


def test_the_kind_says_what_is_contradicted():
    rows = [
        {"problem": "p", "steps": ["a", "\\boxed{2,400}"], "a": "400", "ok": False},
        {"problem": "p", "steps": ["a", "\\boxed{17}"], "a": "71", "ok": False},
        {"problem": "p", "steps": ["a", "\\boxed{2400}"], "a": "2,400", "ok": False},
        {"problem": "p", "steps": ["a", "\\boxed{2400}"], "a": "2,400", "ok": True},
    ]
    with pytest.warns(UserWarning, match="contradict"):
        found = load_samples([{**row, "gold": "2400"} for row in rows], steps="steps", answer="a", correct="ok",
                             reference="gold")  # fmt: skip
    frame = found.contradictions_frame()
    assert frame["kind"].tolist() == ["cut", "answer", "correct"]
    assert frame["recorded_correct"].tolist() == [False] * 3
    assert frame["correct_by_text"].tolist() == [True, False, True]
    assert frame["reference"].tolist() == ["2400"] * 3
    json.dumps([solution.meta for solution in found.solutions])


def test_a_right_answer_before_the_last_number_is_no_contradiction():
    rows = [{"problem": "p", "steps": ["a", "It costs 240 for 2 people."], "ok": True, "gold": "240"}] * 2
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = load_samples(rows, steps="steps", correct="ok", reference="gold")
    assert not found.contradictions


class TestChecked:
    ROW = {
        "prompt": "p",
        "gt": "2400",
        "answers": ["a\nThe answer is 2,400", "a\nThe answer is 100", "a\nThe answer is 2400"],
        "label": [0, 0, 1],
    }

    def test_the_check_can_be_made_afterwards(self):
        raw = load_candidates([self.ROW])
        assert not raw.contradictions
        kept = raw.checked()
        assert list(kept.contradictions) == [0]
        assert kept == raw
        assert kept.counts["records of right or wrong that contradict the answer"] == 1
        assert raw.checked("text").correct.tolist() == [True, False, True]
        assert raw.checked("drop").correct.tolist() == [False, True]
        assert "left out, since their record contradicts their text: 1" in raw.checked("drop").description

    @pytest.mark.parametrize("how", ["keep", "text", "drop"])
    def test_it_is_what_the_loader_does(self, how):
        lines = [(["a", "So $7,150."], "150"), (["a", "So $7,150."], "7150"), (["a", "\\boxed{6}"], "9")]
        rows = [{"problem": "p", "steps": steps, "a": answer, "gold": "7150"} for steps, answer in lines]
        names = {"steps": "steps", "answer": "a", "reference": "gold"}
        with pytest.warns(UserWarning, match="contradict"):
            kept, expected = (load_samples(rows, **names, contradictions=one) for one in ("keep", how))
        found = kept.checked(how)
        assert found == expected
        assert found.contradictions == expected.contradictions
        assert found.checked(how) == found
        assert found.checked(how).counts == found.counts
        assert found.answers == expected.answers

    def test_a_problem_without_samples_is_left_out_and_counted(self):
        found = load_candidates([{**self.ROW, "answers": self.ROW["answers"][:1], "label": [0]}]).checked("drop")
        assert (len(found), found.counts["problems without a sample that is left, left out"]) == (0, 1)
        assert found.contradictions_frame().empty

    def test_unknown_correctness_stays_unknown(self):
        found = load_candidates([{**self.ROW, "label": [None] * 3}]).checked("text")
        assert np.isnan(found.correct).all()

    def test_an_unknown_word_is_refused(self):
        with pytest.raises(ValueError, match="expected 'keep', 'text' or 'drop'"):
            load_candidates([self.ROW]).checked("mend")


@pytest.mark.slow
def test_cuts_of_published_samples_are_found_and_named(data_folder):
    path = data_folder / "gsm8k_samples" / "samples.jsonl.gz"
    with pytest.warns(UserWarning, match="106 of these, cut"):
        found = load_samples(path, steps="steps", answer="answer", id="problem_id")
    frame = found.contradictions_frame()
    cuts = frame[frame["kind"] == "cut"]
    assert len(frame) == 107
    assert cuts["problem_id"].nunique() == 20
    assert {"500", "277", "000"} < set(cuts["recorded"])
