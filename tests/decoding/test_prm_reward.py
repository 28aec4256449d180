"""Rewards for reinforcement learning: what trainers hand over, what has no reward, and where steps end."""

import asyncio
import pickle
import re
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from prmkit import PRMClassifier, Solution
from prmkit.data import make_arithmetic_solutions, split_steps, step_offsets
from prmkit.decoding import PRMReward
from prmkit.features import StepStatistics

EASY = "\n\nTwo is two.\n\nThree is three.\n\nWe go on."
FAR = "\n\n".join(f"Step {i} adds 1." for i in range(120))


def lowest_digit(solutions):
    """Say of each step its lowest digit in tenths, and 0.9 of a step without one."""
    return [[min([int(d) for d in re.findall(r"\d", step)] or [9]) / 10 for step in one.steps] for one in solutions]


def says(text, **more):
    return [{"role": "assistant", "content": text, **more}]


def asks(*texts):
    return [{"role": "system", "content": "Be brief."}, *({"role": "user", "content": text} for text in texts)]


class Recorder:
    """A scorer that keeps what it was asked, and gives 0.5 for each step."""

    def __init__(self):
        self.asked = []

    def __call__(self, solutions):
        self.asked.append(solutions)
        return [np.full(one.n_steps, 0.5) for one in solutions]


@pytest.fixture(scope="module")
def fitted():
    data = make_arithmetic_solutions(60, 2, random_state=0)
    return PRMClassifier(StepStatistics(), LogisticRegression(max_iter=5000)).fit(data.X, data.y), data


def texts_of(data, n=4):
    solutions = data.solutions[:n]
    return [one.problem for one in solutions], ["\n\n".join(one.steps) for one in solutions]


@pytest.mark.parametrize(("rule", "expected"), [("min", 0.3), ("mean", 0.5), ("last", 0.5), ("product", 0.105)])
def test_a_rule_makes_one_reward_of_the_steps(rule, expected):
    reward = PRMReward(lowest_digit, aggregate=rule)
    assert reward(prompts=["?"], completions=["7 apples.\n\n3 are bad.\n\n5 of 9."]) == [pytest.approx(expected)]


def test_a_classifier_gives_the_lowest_reward_of_its_steps(fitted):
    clf, data = fitted
    prompts, completions = texts_of(data)
    scored = clf.score_solutions(data.solutions[:4])
    assert PRMReward(clf)(prompts, completions) == [one.rewards.min() for one in scored]
    pipe = make_pipeline(StepStatistics(), LogisticRegression(max_iter=5000)).fit(data.X, data.y)
    assert all(0 <= value <= 1 for value in PRMReward(pipe)(prompts, completions))


def test_easy_steps_cannot_raise_the_lowest_reward_but_means_and_sums(fitted):
    clf, data = fitted
    wrong = [i for i, first in enumerate(data.first_errors) if 0 <= first < 2][:8]
    prompts = [data.solutions[i].problem for i in wrong]
    short = ["\n\n".join(data.solutions[i].steps) for i in wrong]
    padded = [text + EASY for text in short]

    def rewards(rule, completions):
        return np.array(PRMReward(clf, aggregate=rule)(prompts, completions))

    def sums(completions):
        reward = PRMReward(clf)
        return np.array([reward.step_rewards(*pair).values.sum() for pair in zip(completions, prompts, strict=True)])

    assert len(wrong) == 8
    assert (rewards("min", padded) <= rewards("min", short)).all()
    worst = rewards("mean", short).argmin()
    assert rewards("mean", padded)[worst] > rewards("mean", short)[worst] + 0.1
    assert (sums(padded) > sums(short) + 1).all()


def test_columns_that_a_trainer_hands_over_are_ignored():
    logged = {}
    reward = PRMReward(lowest_digit, name="process")
    reward.unscored_["told before"] = 1
    found = reward(
        prompts=["?", "?"],
        completions=["7", ""],
        completion_ids=[[5], []],
        answer=["7", "8"],
        trainer_state=object(),
        log_extra=print,
        log_metric=logged.__setitem__,
        environments=None,
    )
    assert found == [0.7, None]
    assert logged == {"rewards/process/unscored": 0.5}


def test_messages_and_plain_texts_are_the_same_solution():
    scorer = Recorder()
    reward = PRMReward(scorer)
    parts = [{"type": "text", "text": "3 * 4 = 12.\n\n"}, {"type": "text", "text": "So 14."}]
    prompts = [
        "2 + 3 * 4?",
        asks("2 + 3 * 4?"),
        [*asks("Hello."), *says("Hi."), *asks("2 + 3 * 4?")],
        asks([{"type": "text", "text": "2 + 3 * 4?"}]),
        [*asks("2 + 3 * 4?"), *says("3 * 4 ")],
    ]
    whole = "3 * 4 = 12.\n\nSo 14."
    completions = [whole, says(whole), says(whole), says(parts), says("= 12.\n\nSo 14.")]
    assert reward(prompts, completions) == [0.5] * 5
    # Equal solutions are asked for once.
    assert scorer.asked == [[Solution("2 + 3 * 4?", ["3 * 4 = 12.", "So 14."])]]


@pytest.mark.parametrize("field", ["reasoning_content", "thinking"])
@pytest.mark.parametrize(
    ("think", "steps"),
    [("keep", ("<think>\nIs it 4?\n</think>", "It is 5.")), ("drop", ("It is 5.",)), ("only", ("Is it 4?",))],
)
def test_thoughts_of_a_message_are_those_of_a_text(field, think, steps):
    scorer = Recorder()
    inline = "<think>\nIs it 4?\n</think>\n\nIt is 5."
    PRMReward(scorer, think=think)(["?", asks("?")], [inline, says("It is 5.", **{field: "Is it 4?"})])
    assert scorer.asked == [[Solution("?", steps)]]


def test_a_column_can_hold_the_problem():
    scorer = Recorder()
    reward = PRMReward(scorer, problem_column="question")
    with pytest.warns(UserWarning, match="1 of 2 completions have no reward: the column of the problem holds no text"):
        found = reward(["Think step by step. 1 + 1?"] * 2, ["It is 2."] * 2, question=["1 + 1?", None])
    assert found == [0.5, None]
    assert scorer.asked == [[Solution("1 + 1?", ["It is 2."])]]
    with pytest.raises(ValueError, match="problem_column='question' is missing; the columns are 'answer'"):
        reward(["1 + 1?"], ["It is 2."], answer=["2"])


@pytest.mark.parametrize(
    ("prompt", "completion"),
    [
        ("?", ""),
        ("?", " \n\n "),
        (asks("?"), []),
        (asks("?"), says(None)),
        (asks("?"), says("7", tool_calls=[{"function": {"name": "add"}}])),
        (asks("?"), [*says("7"), {"role": "tool", "content": "7"}, *says("7")]),
        (asks("?"), says([{"type": "image"}, {"type": "text", "text": "7"}])),
        (asks([{"type": "image"}, {"type": "text", "text": "?"}]), says("7")),
        (asks(), says("7")),
        ([*asks("?"), {"role": "tool", "content": "7"}], says("7")),
        ([*asks("?"), *says("7 is")], says("")),
        ("?", None),
        (None, "7"),
    ],
)
def test_what_cannot_be_scored_costs_one_row_and_is_counted_and_told_once(prompt, completion, recwarn):
    reward = PRMReward(lowest_digit)
    for n_calls in (1, 2):
        assert reward(["?", prompt, "?"], ["7", completion, "6"]) == [0.7, None, 0.6]
        assert reward.n_unscored_ == n_calls
    assert len(recwarn) == 1
    assert "1 of 3 completions have no reward" in str(recwarn[0].message)
    assert recwarn[0].filename == __file__


def test_a_step_without_a_score_is_none_and_never_a_number(recwarn):
    def half_blind(solutions):
        return [[np.nan if "blind" in step else 0.5 for step in one.steps] for one in solutions]

    reward = PRMReward(half_blind, aggregate="mean")
    assert reward(["?"] * 2, ["I see.\n\nI am blind.", "I see."]) == [None, 0.5]
    assert reward.step_rewards("I see.\n\nI am blind.").values.tolist() == []
    assert reward.n_unscored_ == 2
    assert len(recwarn) == 1


@pytest.mark.slow
def test_a_solution_beyond_the_length_of_the_model_costs_one_row(
    make_tokenizer, make_language_model, tmp_path, recwarn
):
    from prmkit import TokenPRM

    tokenizer = make_tokenizer()
    model = make_language_model(tokenizer, "AutoModelForTokenClassification", num_labels=2)
    tokenizer.save_pretrained(tmp_path)
    model.save_pretrained(tmp_path)
    data = make_arithmetic_solutions(4, 1, random_state=0)
    prm = TokenPRM(str(tmp_path), num_train_epochs=1, max_length=256, random_state=0)
    clf = PRMClassifier(head=prm).fit(data.X, data.y)
    clf.save(tmp_path / "saved")
    # A model in memory, a saved one, and a published one in a folder.
    for given_prm in (clf.head_, tmp_path / "saved", f"trl:{tmp_path}"):
        recwarn.clear()
        found = PRMReward(given_prm)(["1 + 1?"] * 2, [FAR, "It is 2."])
        assert found[0] is None
        assert 0 < found[1] < 1
        assert len(recwarn) == 1


def test_errors_say_what_is_wrong(fitted):
    reward = PRMReward(lowest_digit)
    with pytest.raises(ValueError, match="1 prompts for 2 completions"):
        reward(["?"], ["7", "8"])
    with pytest.raises(ValueError, match="2 steps, expected one reward per step"):
        PRMReward(lambda solutions: [[0.5]])(["?"], ["7\n\n8"])
    with pytest.raises(ValueError, match=r"needs probabilities; for other scores use one of min"):
        PRMReward(lambda solutions: [[-3.0]], aggregate="product")(["?"], ["7"])
    for setting in (
        {"aggregate": "sum"},
        {"by": "word"},
        {"think": "no"},
        {"scale": -1},
        {"offset": np.nan},
        {"scale": "2"},
    ):
        with pytest.raises(ValueError, match=f"{next(iter(setting))} is .* expected"):
            PRMReward(lowest_digit, **setting)
    with pytest.raises(FileNotFoundError, match="no_such_model"):
        PRMReward("no_such_model")
    with pytest.raises(TypeError, match="scorer is int"):
        PRMReward(3)
    with pytest.raises(ValueError, match="not fitted"):
        PRMReward(PRMClassifier())


def test_scale_and_offset_move_rewards_of_steps_and_of_solutions():
    reward = PRMReward(lowest_digit, scale=2, offset=-1)
    assert reward(["?"], ["7\n\n3"]) == pytest.approx([-0.4])
    assert reward.step_rewards("7\n\n3").values == pytest.approx([0.4, -0.4])


def test_threads_ask_at_the_same_time(fitted):
    """As the asynchronous trainer does: each group of completions in a thread of its own."""
    clf, data = fitted
    reward, (prompts, completions) = PRMReward(clf), texts_of(data, 6)
    expected = reward(prompts, completions)

    async def ask_all():
        calls = (
            partial(reward, prompts=[p, p], completions=[c, ""]) for p, c in zip(prompts, completions, strict=True)
        )
        return await asyncio.gather(*map(asyncio.to_thread, calls))

    with pytest.warns(UserWarning, match="1 of 2"):
        found = asyncio.run(ask_all())
    assert found == [[one, None] for one in expected]
    assert reward.n_unscored_ == 6


CHILD = """
import pickle, sys

*rewards, calls = pickle.load(open(sys.argv[1], "rb"))
for one in rewards:
    print(pickle.loads(one)(*calls))
"""


def test_it_is_the_same_behind_pickle_in_a_process_without_a_gpu(fitted, tmp_path, run_python):
    clf, data = fitted
    calls = texts_of(data)
    clf.save(tmp_path / "model")
    rewards = [PRMReward(clf, name="process"), PRMReward(tmp_path / "model")]
    expected = rewards[0](*calls)
    assert rewards[1](*calls) == expected
    pickled = [pickle.dumps(one) for one in rewards]
    assert len(pickled[1]) < 2000  # the model is loaded by the process that asks it
    assert pickle.loads(pickled[0]).__name__ == "process"
    (tmp_path / "calls.pickle").write_bytes(pickle.dumps([*pickled, calls]))
    out = run_python(CHILD, str(tmp_path / "calls.pickle"), folder=tmp_path, CUDA_VISIBLE_DEVICES="")
    assert out.splitlines() == [str(expected)] * 2


@pytest.mark.parametrize("unit", ["paragraph", "line", "sentence"])
def test_positions_are_the_last_characters_of_the_steps(unit):
    text = "  We add.\n\nThat is 3. Then 5.\nSo 8.  \n"
    positions, values = PRMReward(lowest_digit, by=unit).step_rewards(text)
    steps = split_steps(text, unit)
    assert len(positions) == len(values) == len(steps) > 1
    assert all(text[: end + 1].endswith(step) for end, step in zip(positions, steps, strict=True))


def test_steps_that_the_prompt_began_are_not_of_the_completion():
    prompt = [*asks("?"), *says("1 apple.\n\n3 ")]
    positions, values = PRMReward(lowest_digit).step_rewards(says("apples.\n\n5."), prompt)
    assert (positions.tolist(), values.tolist()) == ([6, 10], [0.3, 0.5])


def test_the_sum_of_the_min_form_comes_near_the_lowest_reward():
    reward = PRMReward(lowest_digit, scale=2, offset=-1)
    plain, near = (reward.step_rewards("9\n\n1\n\n8", temperature=t).values for t in (None, 0.1))
    assert near.sum() == pytest.approx(plain.min(), abs=1e-4)
    assert np.abs(near[[0, 2]]).max() < 1e-4


def test_dense_rewards_have_one_number_per_token():
    rewards = PRMReward(lowest_digit).step_rewards("7\n\n3")
    assert rewards.to_dense(6).tolist() == [0.7, 0, 0, 0.3, 0, 0]
    with pytest.raises(ValueError, match="length is 3, but a step ends at position 3"):
        rewards.to_dense(3)


TEXTS = st.lists(st.text("ab 3é漢🙂👩🏽\u0301.", min_size=1, max_size=12), min_size=1, max_size=6)


@settings(max_examples=60, deadline=None)
@given(pieces=TEXTS, separator=st.sampled_from(["\n\n", "\n \n", "\n\n\n"]))
def test_positions_are_the_last_tokens_of_the_steps(pieces, separator, tokenizer):
    text = separator.join(pieces)
    ids = [*tokenizer(text, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
    positions, values = PRMReward(lowest_digit).step_rewards(ids, tokenizer=tokenizer)
    steps = split_steps(text)
    assert len(positions) == len(values) == len(steps)
    assert (np.diff(positions) > 0).all()
    for position, step in zip(positions, steps, strict=True):
        assert tokenizer.decode(ids[: position + 1]).rstrip().endswith(step)
    for position, (_, end) in zip(positions, step_offsets(text), strict=True):
        assert not tokenizer.decode(ids[:position]).startswith(text[:end])


@pytest.fixture(scope="module")
def tokenizer(make_tokenizer):
    return make_tokenizer()


def test_random_tokens_have_positions_too(tokenizer):
    """What an untrained model writes is not valid text, and tokens may hold several line breaks."""
    rng = np.random.default_rng(0)
    reward = PRMReward(lowest_digit, by="line")
    for _ in range(50):
        ids = rng.integers(len(tokenizer), size=40)
        text = tokenizer.decode(ids.tolist(), skip_special_tokens=True)
        positions, _ = reward.step_rewards(ids, tokenizer=tokenizer)
        assert (np.diff(positions) > 0).all()
        ends = [text.find(step) for step in split_steps(text, "line")]
        assert len(positions) <= len(ends)
        assert positions.max(initial=0) < 40


def test_steps_that_end_in_one_token_share_their_lowest_reward():
    class Words:
        """Each token is a text."""

        def decode(self, ids, skip_special_tokens):
            return "".join(["7 apples.", "\n3 pears.\n5 plums.", "\n8 figs."][i] for i in ids)

    positions, values = PRMReward(lowest_digit, by="line").step_rewards([0, 1, 2], tokenizer=Words())
    assert (positions.tolist(), values.tolist()) == ([0, 1, 2], [0.7, 0.3, 0.8])


def test_token_ids_and_their_tokenizer_come_together(tokenizer):
    reward = PRMReward(lowest_digit)
    for completion, given_tokenizer in (([1, 2], None), ("7", tokenizer)):
        with pytest.raises(TypeError, match="pass token ids and their tokenizer"):
            reward.step_rewards(completion, tokenizer=given_tokenizer)
    with pytest.raises(ValueError, match="temperature is 0, expected a number above 0"):
        reward.step_rewards("7", temperature=0)


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", ["GRPO", "RLOO"])
def test_a_trainer_of_trl_takes_it_and_logs_it(algorithm, fitted, make_tokenizer, make_language_model, tmp_path):
    trl = pytest.importorskip("trl", reason="trl is in the extra [rl]")
    from datasets import Dataset

    clf, data = fitted
    tokenizer = make_tokenizer()
    make_language_model(tokenizer).save_pretrained(tmp_path)
    if algorithm == "GRPO":  # messages, and the other one plain texts
        tokenizer.chat_template = "{% for m in messages %}{{ m.content }}\n{% endfor %}"
    tokenizer.save_pretrained(tmp_path)
    problems = [one.problem[:60] for one in data.solutions[:8]]
    prompts = [asks(text) for text in problems] if algorithm == "GRPO" else problems
    config = getattr(trl, f"{algorithm}Config")(
        output_dir=str(tmp_path),
        max_steps=20,
        per_device_train_batch_size=4,
        num_generations=4,
        max_completion_length=16,
        logging_steps=1,
        learning_rate=1e-3,
        report_to="none",
        save_strategy="no",
        use_cpu=True,
        gradient_checkpointing=False,
        bf16=False,
        disable_tqdm=True,
    )
    trainer = getattr(trl, f"{algorithm}Trainer")(
        model=str(tmp_path),
        reward_funcs=[PRMReward(clf, by="line", name="process"), PRMReward(lowest_digit, scale=2, offset=-1)],
        args=config,
        train_dataset=Dataset.from_dict({"prompt": prompts, "answer": ["7"] * 8}),
    )
    trainer.train()
    logs = [one for one in trainer.state.log_history if "reward" in one]
    assert len(logs) == 20
    for log in logs:
        process, digits = log["rewards/process/mean"], log["rewards/PRMReward/mean"]
        assert 0 < process < 1
        assert -1 <= digits <= 1
        assert log["reward"] == pytest.approx(process + digits, abs=1e-5)
        assert log["rewards/process/unscored"] < 1
    assert any(log["rewards/process/std"] > 0 for log in logs)
