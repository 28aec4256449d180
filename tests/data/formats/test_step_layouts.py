"""Layouts with a label per step: the invented rows of their papers and packages, and every pitfall known of them."""

import csv
import json
import re

import datasets
import numpy as np
import pytest

from prmkit.data import load, load_math_shepherd, load_openrlhf, load_rlhflow, load_sdiehl, load_stepwise, write
from prmkit.data.formats._rated import load_rated

STEPS = ["3*4 = 12.", "2+12 = 15."]


def stepwise(labels, steps=STEPS, prompt="What is 2+3*4?"):
    return {"prompt": prompt, "completions": steps, "labels": labels}


def texts(dataset):
    return [step.text for step in dataset.X]


class TestStepwise:
    def test_booleans(self):
        dataset = load_stepwise([stepwise([True, False])])
        assert (texts(dataset), dataset.y.tolist(), dataset.first_errors) == (STEPS, [1, -1], [1])
        assert dataset.X[0].problem == "What is 2+3*4?"
        assert dataset.y.dtype.kind == "i"

    def test_zero_and_one_are_booleans(self):
        assert load_stepwise([stepwise([1, 0]), stepwise([True, 0])]).y.tolist() == [1, -1, 1, -1]

    def test_floats_stay_soft_and_are_never_truncated(self):
        dataset = load_stepwise([stepwise([0.9, 0.25]), stepwise([1.0, 0.0])])
        assert dataset.y.tolist() == [0.9, 0.25, 1.0, 0.0]
        assert dataset.y.dtype.kind == "f"
        assert dataset.first_errors == [None, None]

    def test_threshold_on_request(self):
        dataset = load_stepwise([stepwise([0.5, 0.49])], threshold=0.5)
        assert (dataset.y.tolist(), dataset.first_errors) == ([1, -1], [1])

    @pytest.mark.parametrize("threshold", [0, 1.5, "0.5", True])
    def test_senseless_threshold(self, threshold):
        with pytest.raises(ValueError, match="threshold is"):
            load_stepwise([stepwise([0.5, 0.5])], threshold=threshold)

    def test_null_is_context(self):
        dataset = load_stepwise([stepwise([None, False]), stepwise([False, None])])
        assert (dataset.y.tolist(), dataset.first_errors) == ([-1, -1], [None, 0])
        assert dataset.X[0].prefix == ("3*4 = 12.",)
        assert dataset.counts["steps without a label"] == 2

    def test_ratings_only_if_declared(self):
        rows = [stepwise([1, 0]), stepwise([1, -1])]
        assert load_stepwise(rows, labels="rating").y.tolist() == [1, 0, 1, -1]
        # Also where bad rows are skipped: the first row's 0 would be read as wrong, and it means neutral.
        for on_error in ("raise", "skip"):
            with pytest.raises(ValueError, match=r"1: labels.1. is -1.*labels='rating'"):
                load_stepwise(rows, on_error=on_error)

    @pytest.mark.parametrize(
        ("labels", "reason"),
        [
            ([True, -100], "-100 marks tokens"),
            ([True, 2], "unknown label"),
            ([True, "?"], "unknown label"),
            ([0.5, 1.5], "no probability"),
            ([0.5, float("nan")], "no probability"),
            ([0.5, True], "mixed labels"),
            ([True], "unequal lengths: 1 labels for 2 steps"),
            ("++", "labels is no list"),
        ],
    )
    def test_bad_labels(self, labels, reason):
        rows = [stepwise([True, True]), stepwise(labels)]
        with pytest.raises(ValueError, match=f"record 1: .*{reason}"):
            load_stepwise(rows)
        if "mixed" not in reason and "probability" not in reason:
            with pytest.warns(UserWarning, match="1 malformed"):
                assert load_stepwise(rows, on_error="skip").y.tolist() == [1, 1]

    def test_true_with_declared_ratings(self):
        with pytest.raises(ValueError, match="expected -1, 0, 1 or a name"):
            load_stepwise([stepwise([1, True])], labels="rating")

    def test_names_say_what_they_mean(self):
        rows = [stepwise(["correct", "Incorrect"]), stepwise(["-", "neutral"]), stepwise([True, "bad"])]
        assert load_stepwise(rows).y.tolist() == [1, -1, -1, 0, 1, -1]

    def test_whole_numbers_beside_floats_are_probabilities(self):
        """Writers of JSON leave the point of 1.0 out, so a row may even hold whole numbers alone."""
        rows = [stepwise([1, 0.25]), stepwise([0.5, 0.75]), stepwise([1, 0])]
        dataset = load_stepwise(rows)
        assert dataset.y.tolist() == [1.0, 0.25, 0.5, 0.75, 1.0, 0.0]
        assert (dataset.y.dtype.kind, dataset.vocabulary) == ("f", "soft")
        assert load_stepwise(rows[2:], labels="soft").y.tolist() == [1.0, 0.0]
        assert load_stepwise(rows[2:]).y.tolist() == [1, -1]

    def test_rows_of_both_kinds_are_refused(self):
        """In one column 0.0 (wrong) and 0 (neutral), 1.0 (certain) and 1 (right) could not be told apart."""
        with pytest.raises(ValueError, match=r"mix probabilities \(first in 1\) and ratings \(first in 0\)"):
            load_stepwise([stepwise([True, False]), stepwise([0.5, 0.0])])

    def test_what_is_not_supported_says_so(self):
        with pytest.raises(ValueError, match="conversational: turn 0 of prompt is of 'assistant'"):
            load_stepwise([stepwise([True, True], prompt=[{"role": "assistant", "content": "2+3?"}])])
        with pytest.raises(ValueError, match="PRMTrainer"):
            load_stepwise([{"input_ids": [1, 2], "labels": [-100, 1]}])

    def test_huggingface_dataset(self):
        rows = datasets.Dataset.from_list([stepwise([True, False]), stepwise([True, True])])
        assert load_stepwise(rows).y.tolist() == [1, -1, 1, 1]


class TestSdiehl:
    ROW = {"input": "What is 2+3*4?", "value": STEPS, "label": ["+", "-"]}

    def test_example(self):
        dataset = load_sdiehl([self.ROW])
        assert (texts(dataset), dataset.y.tolist(), dataset.first_errors) == (STEPS, [1, -1], [1])

    def test_a_minus_after_a_minus_is_legitimate(self):
        dataset = load_sdiehl([{**self.ROW, "value": [*STEPS, "15."], "label": [" - ", "-", "+"]}])
        assert (dataset.y.tolist(), dataset.first_errors) == ([-1, -1, 1], [0])

    @pytest.mark.parametrize(
        ("label", "reason"),
        [(["+"], "unequal lengths"), (["+", "−"], "expected '\\+' or '-'"), (["+", 1], "no strings")],
    )
    def test_bad_labels(self, label, reason):
        with pytest.raises(ValueError, match=reason):
            load_sdiehl([{**self.ROW, "label": label}])


def shepherd(text, signs, **more):
    marks = iter(signs)
    return {"input": text, "label": re.sub("ки", lambda _: next(marks), text), "task": "GSM8K", **more}


class TestMathShepherd:
    TEXT = "Ann has 3 bags of 4 nuts. How many? Step 1: 3*4 = 12. ки\nStep 2: The answer is: 12 ки"

    def test_example(self):
        dataset = load_math_shepherd([shepherd(self.TEXT, "+-")])
        assert dataset.X[0].problem == "Ann has 3 bags of 4 nuts. How many?"
        assert texts(dataset) == ["Step 1: 3*4 = 12.", "Step 2: The answer is: 12"]
        assert dataset.y.tolist() == [1, -1]
        assert dataset.solutions[0].meta == {"task": "GSM8K", "candidate_answer": "12"}

    def test_numbers_can_be_stripped(self):
        dataset = load_math_shepherd([shepherd(self.TEXT, "+-")], numbering="strip")
        assert texts(dataset) == ["3*4 = 12.", "The answer is: 12"]

    def test_signs_within_formulas_are_no_labels(self):
        text = "What is 5+3-2? Step 1: 5+3 = 8 + 0 - 0. ки\nStep 2: 8-2 = +6 - 0 ки"
        assert load_math_shepherd([shepherd(text, "-+")]).y.tolist() == [-1, 1]

    def test_tag_without_a_space(self):
        dataset = load_math_shepherd([shepherd(self.TEXT.replace(" ки", "ки"), "-+")])
        assert dataset.y.tolist() == [-1, 1]
        assert texts(dataset)[0] == "Step 1: 3*4 = 12."

    def test_stray_tag_before_step_1_goes_with_its_label(self):
        text = self.TEXT.replace("How many?", "How many? ки")
        dataset = load_math_shepherd([shepherd(text, "-++")])
        assert dataset.y.tolist() == [1, 1]
        assert dataset.X[0].problem == "Ann has 3 bags of 4 nuts. How many?"
        assert dataset.counts["stray tags before step 1"] == 1

    @pytest.mark.parametrize(
        ("row", "reason"),
        [
            (shepherd(TEXT.removesuffix(" ки"), "+"), "no tag behind the last step"),
            (shepherd(TEXT, "+0"), "a step tag without + or -"),
            ({**shepherd(TEXT, "++"), "label": TEXT.replace(" ки", " +", 1)}, "differ in length"),
            ({"input": TEXT.replace("ки", "x"), "label": TEXT}, "no step tag"),
            ({**shepherd(TEXT, "++"), "label": shepherd(TEXT, "++")["label"].replace("nuts", "nits")}, "different"),
            (shepherd("Ann has nuts. 3*4 = 12. ки 12 ки", "++"), "nothing tells where step 1 begins"),
            (shepherd("A? ки ки Step 1: 12 ки", "+++"), "step tags before step 1"),
        ],
    )  # fmt: skip
    def test_what_does_not_align_is_rejected_and_stops_nothing(self, row, reason):
        dataset = load_math_shepherd([row, shepherd(self.TEXT, "+-")])
        assert dataset.y.tolist() == [1, -1]
        rejected = [key for key in dataset.counts if key.startswith("rejected")]
        assert len(rejected) == 1
        assert reason in rejected[0]

    def test_last_resorts_for_step_1(self):
        dataset = load_math_shepherd([shepherd("A? step 1: 12 ки", "+"), shepherd("A? 3*4 = 12 ки", "-")])
        assert texts(dataset) == ["step 1: 12", "3*4 = 12"]
        assert [step.problem for step in dataset.X] == ["A?", "A?"]
        assert dataset.counts["doubtful: step 1 begins after the first question mark"] == 1

    @pytest.mark.parametrize("options", [{"numbering": "drop"}, {"step_tag": ""}])
    def test_unknown_options(self, options):
        with pytest.raises(ValueError, match=r"step_tag=.*numbering="):
            load_math_shepherd([shepherd(self.TEXT, "+-")], on_error="skip", **options)

    def test_no_texts_is_malformed(self):
        with pytest.raises(ValueError, match="label is no string"):
            load_math_shepherd([{"input": self.TEXT, "label": 1}])


class TestOpenRLHF:
    TEXT = "What is 2+3*4? 3*4 = 12. [P] 2+12 = 15. [P]"

    def test_tokens(self):
        dataset = load_openrlhf([{"input": self.TEXT, "value": ["+", "-"]}])
        assert dataset.y.tolist() == [1, -1]
        assert texts(dataset) == ["What is 2+3*4? 3*4 = 12.", "2+12 = 15."]
        assert dataset.X[0].problem == ""
        assert dataset.counts["doubtful: problem not separated from step 1"] == 1

    def test_numbers_are_soft_targets_of_the_first_token(self):
        assert load_openrlhf([{"input": self.TEXT, "value": [0.9, 0.75]}]).y.tolist() == [0.9, 0.75]
        dataset = load_openrlhf([{"input": self.TEXT, "value": [1, 0]}])
        assert (dataset.y.tolist(), dataset.y.dtype.kind) == ([1.0, 0.0], "f")

    def test_separator(self):
        row = {"input": self.TEXT, "value": ["+", "-"]}
        for separator in ("? ", re.compile(r"(?<=\?)\s")):
            dataset = load_openrlhf([row], step_separator=separator)
            assert texts(dataset) == STEPS
            assert dataset.X[0].problem.startswith("What is 2+3*4")
            assert "doubtful" not in str(dataset.counts)
        with pytest.raises(ValueError, match="no separator"):
            load_openrlhf([row], step_separator="||")

    def test_names_placeholder_and_tokens(self):
        row = {"text": "3*4 <s> 12 <s> 7 <s>", "labels": ["good", "ok", "bad"]}
        dataset = load_openrlhf(
            [row], input_key="text", label_key="labels", placeholder="<s>", reward_tokens=("good", "ok", "bad")
        )
        assert dataset.y.tolist() == [1, 0, -1]

    def test_text_after_the_last_placeholder_has_no_label(self):
        dataset = load_openrlhf([{"input": self.TEXT + " So 15.", "value": ["+", "-"]}])
        assert dataset.solutions[0].steps[-1] == "So 15."
        assert (dataset.y.tolist(), dataset.first_errors) == ([1, -1], [1])

    @pytest.mark.parametrize(
        ("text", "value", "reason"),
        [
            (TEXT, ["+", "-", "+"], "3 values for 2 placeholders"),
            (TEXT, ["+"], "1 values for 2 placeholders"),
            (TEXT, ["+", "0"], "expected one of '\\+', '-'"),
            (TEXT, ["+", 0.5], "mixes tokens and numbers"),
            (TEXT, [0.5, 2], "from 0 to 1"),
            (TEXT, [True, False], "from 0 to 1"),
            (TEXT.replace("[P]", "<P>"), ["+", "-"], "no placeholder"),
            (TEXT + " ки", ["+", "-"], "several placeholders"),
        ],
    )
    def test_bad_rows(self, text, value, reason):
        with pytest.raises(ValueError, match=reason):
            load_openrlhf([{"input": text, "value": value}])

    @pytest.mark.parametrize("tokens", ["+", ("+",), ("+", "+"), ("a", "b", "c", "d")])
    def test_reward_tokens_are_two_or_three(self, tokens):
        with pytest.raises(ValueError, match="two or three, the best first"):
            load_openrlhf([{"input": self.TEXT, "value": ["+", "-"]}], reward_tokens=tokens, on_error="skip")


def chat(*texts, roles=("user", "assistant")):
    return {"conversations": [{"role": roles[i % 2], "content": text} for i, text in enumerate(texts)]}


class TestRLHFlow:
    def test_example(self):
        row = chat("What is 2+3*4? 3*4 = 12.", "+", "2+12 = 15.", " - ")
        dataset = load_rlhflow([row])
        assert texts(dataset) == ["What is 2+3*4? 3*4 = 12.", "2+12 = 15."]
        assert (dataset.y.tolist(), dataset.X[0].problem) == ([1, -1], "")
        dataset = load_rlhflow([row], step_separator=re.compile(r"(?<=\?) "))
        assert (texts(dataset), dataset.X[1].problem) == (STEPS, "What is 2+3*4?")

    @pytest.mark.parametrize(
        ("row", "reason"),
        [
            (chat("3*4 = 12.", "+", "2+12 = 15."), "3 turns, expected a label after every step"),
            (chat(), "0 turns"),
            (chat("3*4 = 12.", "good"), "expected '\\+' or '-'"),
            (chat("+", "3*4 = 12.", roles=("assistant", "user")), "turn 0 is of 'assistant'"),
            ({"conversations": ["3*4", "+"]}, "no object"),
        ],
    )
    def test_bad_rows(self, row, reason):
        with pytest.raises(ValueError, match=reason):
            load_rlhflow([row])

    def test_one_chat_alone_in_a_file(self, tmp_path):
        """All its fields are lists, as in an object of lists of records."""
        import json

        path = tmp_path / "one.json"
        path.write_text(json.dumps(chat("3*4 = 12.", "+")))
        assert load_rlhflow(path).y.tolist() == [1]


class TestNumberedSteps:
    """Rows that do not separate problem and step 1, but number their steps, are separated by these numbers."""

    STEPS = ("Step 1: 3*4 = 12.", "Step 2: 2+12 = 14.")

    def openrlhf(self, problem, steps):
        return load_openrlhf([{"input": f"{problem} {' [P] '.join(steps)} [P]", "value": ["+"] * len(steps)}])

    def rlhflow(self, problem, steps):
        turns = [f"{problem} {steps[0]}", *steps[1:]]
        chat = [
            {"role": role, "content": text} for turn in turns for role, text in (("user", turn), ("assistant", "+"))
        ]
        return load_rlhflow([{"conversations": chat}])

    @pytest.mark.parametrize("layout", ["openrlhf", "rlhflow"])
    def test_the_numbers_tell(self, layout, recwarn):
        dataset = getattr(self, layout)("What is 2+3*4?", self.STEPS)
        assert (dataset.X[0].problem, texts(dataset)) == ("What is 2+3*4?", list(self.STEPS))
        assert not [warning for warning in recwarn if "name no problem" in str(warning.message)]

    @pytest.mark.parametrize("layout", ["openrlhf", "rlhflow"])
    @pytest.mark.parametrize(
        ("problem", "steps"),
        [
            ("What is 2+3*4?", ("Step 1: 3*4 = 12.", "So 14.")),
            ("In Step 1: what is wrong?", ("Step 1: 3*4 = 12.", "Step 2: 14.")),
            ("What is 2+3*4?", ("3*4 = 12.", "2+12 = 14.")),
        ],
    )
    def test_no_guess_and_no_silence(self, layout, problem, steps):
        with pytest.warns(UserWarning, match="name no problem.*pass step_separator"):
            dataset = getattr(self, layout)(problem, steps)
        assert dataset.X[0].problem == ""
        assert dataset.counts["doubtful: problem not separated from step 1"] == 1


class TestRated:
    ROW = {"id": "a", "problem": "2+3*4?", "steps": STEPS, "labels": [-1, None], "final_answer": "14", "kind": "k"}

    def test_example(self):
        dataset = load_rated([self.ROW])
        assert (dataset.y.tolist(), dataset.first_errors) == ([-1], [0])
        assert dataset.solutions[0].id == "a"
        assert dataset.solutions[0].meta == {"answer": "14", "kind": "k"}

    @pytest.mark.parametrize(
        ("change", "reason"),
        [
            ({"labels": [1, "?"]}, "unknown label"),
            ({"labels": [True, 0.5]}, "mixed labels"),
            ({"vocabulary": "stars"}, "unknown vocabulary"),
            ({"labels": [1, 2]}, "unknown label"),
            ({"first_error": 2}, "beyond the steps"),
            ({"labels": [1, -1], "first_error": 0}, "contradictory"),
            ({"meta": []}, "wrong type"),
        ],
    )
    def test_bad_rows(self, change, reason):
        with pytest.raises(ValueError, match=reason):
            load_rated([{**self.ROW, **change}])

    def test_zero_is_never_guessed(self):
        """Somebody else's file with 0 and 1: nothing says whether 0 is wrong or neutral."""
        row = {"problem": "2+3*4?", "steps": STEPS, "labels": [1, 0]}
        with pytest.raises(ValueError, match="labels='binary' if it is wrong, or labels='rating' if it is neutral"):
            load_rated([row])
        assert load_rated([row], labels="binary").first_errors == [1]
        assert load_rated([row], labels="rating").first_errors == [-1]
        # A -1 in the file, prmkit's own fields and booleans say it.
        assert load_rated([row, {**row, "labels": [1, -1]}]).y.tolist() == [1, 0, 1, -1]
        assert load_rated([{**row, "first_error": -1}]).y.tolist() == [1, 0]
        assert load_rated([{**row, "vocabulary": "binary"}]).y.tolist() == [1, -1]
        assert load_rated([{**row, "vocabulary": ["bad", "good"], "labels": ["bad", "good"]}]).y.tolist() == [-1, 1]
        assert load_rated([{**row, "labels": [True, False]}]).y.tolist() == [1, -1]
        assert load_rated([{**row, "labels": [1, 0.25]}]).y.tolist() == [1.0, 0.25]

    def test_the_table_of_the_data_folder(self, data_folder):
        dataset = load_rated(data_folder / "steps_train.jsonl.gz")
        assert len(dataset.solutions) == 9248
        values, n = np.unique(dataset.y, return_counts=True)
        assert dict(zip(values.tolist(), n.tolist(), strict=True)) == {1: 73110, 0: 536, -1: 11233}
        assert dataset.counts["steps without a label"] == 14196


class TestCellsOfATable:
    """CSV has texts alone: lists stand in it as JSON or Python writes them."""

    @pytest.mark.parametrize(
        ("layout", "header", "labels", "expected"),
        [
            ("stepwise", "prompt,completions,labels", "[True, False]", [1, -1]),
            ("rated", "problem,steps,labels", "[1, -1]", [1, -1]),
            ("sdiehl", "input,value,label", "['+', '-']", [1, -1]),
            ("scan", "question,steps,scores", "[1, 0.25]", [1.0, 0.25]),
        ],
    )
    def test_lists(self, layout, header, labels, expected, tmp_path):
        path = tmp_path / "rows.csv"
        for text in (json.dumps(STEPS), str(STEPS)):
            with path.open("w", newline="") as file:
                csv.writer(file).writerows([header.split(","), ["[1, 2] is a list?", text, labels]])
            dataset = load(path)
            assert dataset.description.startswith(f"recognised by its first records as {layout}\n")
            assert (texts(dataset), dataset.y.tolist()) == (STEPS, expected)
            assert dataset.X[0].problem == "[1, 2] is a list?"

    def test_numbers_as_texts(self):
        for label, meaning, expected in (
            ("\u22121", None, -1), ("1", None, 1), ("1e-3", None, 0.001), (".5", None, 0.5), ("-1.0", "rating", -1),
            ("0.0", "binary", -1), ("\u2212", None, -1), (" True", None, 1),
        ):  # fmt: skip
            row = {"problem": "2?", "steps": ["a"], "labels": [label]}
            assert load_rated([row], labels=meaning).y.tolist() == [expected]
        with pytest.raises(ValueError, match="expected 0 to 1; if the labels are -1, 0 and 1, pass labels='rating'"):
            load_rated([{"problem": "2?", "steps": ["a", "b"], "labels": [1.0, -1.0]}])


class TestChats:
    """Chats under other names hold step labels only where the assistant answers by signs."""

    TURNS = (("user", "What is 2+3*4? 3*4 = 12."), ("assistant", "+"), ("user", "2+12 = 15."), ("assistant", "-"))

    def test_names_of_sharegpt_and_messages(self):
        names = {"user": "human", "assistant": "gpt"}
        shares = [{"from": names[role], "value": text} for role, text in self.TURNS]
        turns = [{"role": role, "content": text} for role, text in self.TURNS]
        for row in ({"conversations": shares}, {"messages": turns}, {"messages": shares}):
            dataset = load([row])
            assert dataset.description.startswith("recognised by its first records as rlhflow\n")
            assert (texts(dataset)[1], dataset.y.tolist()) == ("2+12 = 15.", [1, -1])

    def test_a_turn_of_the_system_comes_first(self):
        row = chat(*(text for _, text in self.TURNS))
        row["conversations"].insert(0, {"role": "system", "content": "Judge each step."})
        dataset = load([row])
        assert dataset.y.tolist() == [1, -1]
        assert dataset.counts["system turns, left out"] == 1

    def test_plain_chats_say_that_they_hold_no_labels(self):
        with pytest.raises(
            ValueError, match=r"turn 1 is 'So 5\.', expected '\+' or '-': a chat without them holds no step"
        ):
            load([chat("2+3?", "So 5.")])
        for name in ("messages", "conversation"):
            with pytest.raises(
                ValueError, match=r"A chat holds step labels where the assistant answers each step by \+"
            ):
                load([{name: chat("2+3?", "So 5.")["conversations"]}])

    def test_skipped_chats_are_counted_by_label(self):
        good = chat("2+3? 5.", "+", "So 6.", "-")
        with pytest.warns(UserWarning, match=r"With them went 2 labels '\+', of 3 \(67%\)"):
            dataset = load([good, chat("2+3? 5.", "+", "So 6.", "+", "So")], on_error="skip")
        assert "labels left out: '+', of 3 (67%): 2" in dataset.description


def test_rejected_rows_of_math_shepherd_are_counted_by_label():
    text = TestMathShepherd.TEXT
    rows = [shepherd(text, "+-"), {**shepherd(text, "--"), "input": f"{text} or so"}, shepherd(text + " x", "+-")]
    dataset = load_math_shepherd(rows)
    assert dataset.y.tolist() == [1, -1]
    assert dataset.counts["labels left out: '-', of 4 (75%)"] == 3
    assert dataset.counts["labels left out: '+', of 2 (50%)"] == 1


def test_log_probabilities_of_tokens_come_and_go_with_stepwise_rows(tmp_path):
    row = {"prompt": "2 + 3?", "completions": ["2 + 3 = 5.", "So 5."], "labels": [True, False]}
    lists = [[-0.1, -0.2], [-0.5]]
    data = load_stepwise([{**row, "token_logprobs": lists}, row])
    assert [(one.meta or {}).get("token_logprobs") for one in data.solutions] == [lists, None]
    write(data, tmp_path / "rows.jsonl", "stepwise")
    again = load_stepwise(tmp_path / "rows.jsonl")
    assert [(one.meta or {}).get("token_logprobs") for one in again.solutions] == [lists, None]
