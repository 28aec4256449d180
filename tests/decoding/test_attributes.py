"""Reward models that rate attributes: what is asked, what is read, and what goes wrong."""

import threading
from types import SimpleNamespace

import numpy as np
import pytest

from prmkit import Solution
from prmkit.decoding import AttributeRewardModel, CallableGenerator, best_of_n

WEIGHTS = {"helpfulness": 0.3, "correctness": 0.74, "coherence": 0.46, "complexity": 0.47, "verbosity": -0.33}
ANSWER = "helpfulness:1.6171875,correctness:1.6484375,coherence:3.3125,complexity:0.546875,verbosity:0.515625"
REWARD = 0.3 * 1.6171875 + 0.74 * 1.6484375 + 0.46 * 3.3125 + 0.47 * 0.546875 - 0.33 * 0.515625
TWO_STEPS = Solution("2 + 3 * 4?", ["3 * 4 = 12.", "So 14."])


class Client:
    """A client with the methods and replies of the real one. It notes what it is asked."""

    def __init__(self, answer=ANSWER, wrap=lambda message: message, logprobs=None):
        self.api_key = "sk-secret"
        self.asked = []
        self._answer = answer
        self._wrap = wrap
        self._logprobs = logprobs
        self.chat = SimpleNamespace(completions=SimpleNamespace(create=self._create))

    def _create(self, *, model, messages, **request):
        self.asked.append((model, messages, request))
        text = self._answer(messages) if callable(self._answer) else self._answer
        if isinstance(text, Exception):
            raise text
        message = self._wrap(SimpleNamespace(role="assistant", content=text))
        choice = SimpleNamespace(index=0, finish_reason="length", message=message, logprobs=self._logprobs)
        return SimpleNamespace(choices=[choice], usage=SimpleNamespace(total_tokens=79))


def longer_is_better(messages):
    return f"helpfulness:{len(messages[-1]['content'])}"


AS_LOGPROBS = SimpleNamespace(
    content=[
        SimpleNamespace(token=name, logprob=float(value), top_logprobs=[])
        for name, value in (part.split(":") for part in ANSWER.split(","))
    ]
)


@pytest.mark.parametrize(
    "client",
    [
        Client(),
        Client(wrap=lambda message: [message]),
        Client(None, logprobs=AS_LOGPROBS),
        Client(ANSWER.replace(",", "\n").replace(":", ": ")),
        Client('{"helpfulness": 1.6171875, "correctness": 1.6484375, "coherence": 3.3125, "complexity": 0.546875, '
               '"verbosity": 0.515625}'),
    ],
    ids=["text", "message in a list", "log-probabilities", "lines", "json"],
)  # fmt: skip
def test_one_interaction_as_the_servers_answer(client):
    scorer = AttributeRewardModel(client, "nvidia/nemotron-4-340b-reward", WEIGHTS)
    found = scorer.score_interactions([TWO_STEPS])
    np.testing.assert_allclose(found.rewards, [REWARD])
    assert found.to_frame().columns.tolist() == [*WEIGHTS, "reward"]
    assert found.attributes["coherence"].tolist() == [3.3125]
    assert client.asked == [
        (
            "nvidia/nemotron-4-340b-reward",
            [{"role": "user", "content": "2 + 3 * 4?"}, {"role": "assistant", "content": "3 * 4 = 12.\n\nSo 14."}],
            {},
        )
    ]


def test_steps_are_rated_by_the_text_up_to_them_and_no_text_twice():
    client = Client(longer_is_better)
    scorer = AttributeRewardModel(client, "m", {"helpfulness": 2}, step_separator=" ", request={"max_tokens": 8})
    other = Solution("2 + 3 * 4?", ["3 * 4 = 12.", "No."])
    first, second, again = scorer.score_solutions([TWO_STEPS, other, TWO_STEPS])
    assert first.rewards.tolist() == again.rewards.tolist() == [2 * 11, 2 * 18]
    assert second.rewards.tolist() == [2 * 11, 2 * 15]
    assert sorted(messages[-1]["content"] for _, messages, _ in client.asked) == [
        "3 * 4 = 12.", "3 * 4 = 12. No.", "3 * 4 = 12. So 14.",
    ]  # fmt: skip
    assert {model for model, _, _ in client.asked} == {"m"}
    assert all(request == {"max_tokens": 8} for _, _, request in client.asked)
    scorer.score_interactions([other])
    assert len(client.asked) == 3
    assert dict(scorer.counts) == {"rated": 3}


def test_the_memory_of_answers_is_bounded():
    client = Client(longer_is_better)
    scorer = AttributeRewardModel(client, "m", {"helpfulness": 1}, n_kept=2)
    many = [Solution("p", ["x" * i]) for i in range(1, 6)]
    assert scorer.score_interactions(many).rewards.tolist() == [1, 2, 3, 4, 5]
    scorer.score_interactions(many[3:])
    assert len(client.asked) == 5
    scorer.score_interactions(many[:1])
    assert len(client.asked) == 6


def test_requests_run_at_one_time_up_to_the_limit_and_keep_their_order():
    together = threading.Barrier(3, timeout=30)
    running, most = [], []

    def waits(messages):
        running.append(1)
        most.append(len(running))
        together.wait()
        running.pop()
        return longer_is_better(messages)

    scorer = AttributeRewardModel(waits, None, {"helpfulness": 1}, max_concurrency=3)
    many = [Solution("p", ["x" * i]) for i in range(1, 10)]
    assert scorer.score_interactions(many).rewards.tolist() == list(range(1, 10))
    assert max(most) <= 3


def test_it_scores_the_candidates_of_a_search():
    def guess(problem, steps, n, seed):
        return [(f"Let us see.\n\n{'So ' * i}{i}.", "eos") for i in range(n)]

    scorer = AttributeRewardModel(Client(longer_is_better), "m", {"helpfulness": 1})
    found = best_of_n(CallableGenerator(guess), scorer, "How many?", n=4, rule="last", random_state=0)
    assert found.solution.steps[-1] == "So So So 3."
    assert dict(scorer.counts) == {"rated": 5}


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ("I would say 3 out of 4.", "I would say 3 out of 4"),
        ("", "no text"),
        (None, "no text"),
        ("helpfulness:high,verbosity:1", "helpfulness:high"),
        ("helpfulness:1,verbosity:1_0", "no list of ratings"),
        ("helpfulness:1", "rates no verbosity: 'helpfulness:1'"),
        ("helpfulness:1,verbosity:1,toxicity:3", "weights has no toxicity"),
        ("helpfulness:nan,verbosity:1", "helpfulness is not finite"),
        ("helpfulness:1,verbosity:-inf", "verbosity is not finite"),
        ("helpfulness:1,verbosity:1,helpfulness:4", "helpfulness:1,verbosity:1,helpfulness:4"),
        ('{"helpfulness": 1, "verbosity": true}', "no list of ratings"),
        ('{"helpfulness": 1, "verbosity": {"value": 2}}', "no list of ratings"),
        ('{"helpfulness": 1, "verbosity": 2', "no list of ratings"),
        ('{"a":' * 30_000, "no list of ratings"),
        ("x" * 5_000, "…"),
    ],
)
def test_what_is_no_rating_is_an_error_that_shows_it(answer, words):
    scorer = AttributeRewardModel(Client(answer), "m", {"helpfulness": 1, "verbosity": 0})
    with pytest.raises(ValueError, match=words) as caught:
        scorer.score_solutions([TWO_STEPS])
    assert len(str(caught.value)) < 500
    scorer.on_error = "nan"
    with pytest.warns(UserWarning, match="2 of 2 ratings are NaN"):
        [found] = scorer.score_solutions([TWO_STEPS])
    assert np.isnan(found.rewards).all()
    assert all(words.strip("'…")[:20] in error for error in found.errors)
    assert set(scorer.counts) == {"malformed"}


def test_one_failed_request_costs_one_row_and_an_error_keeps_what_is_paid():
    def once_down(messages):
        return ConnectionError("no route") if "So 14." in messages[-1]["content"] else "helpfulness:1"

    client = Client(once_down)
    scorer = AttributeRewardModel(client, "m", {"helpfulness": 1}, max_concurrency=1)
    with pytest.raises(ConnectionError, match="no route"):
        scorer.score_solutions([TWO_STEPS])
    scorer.on_error = "nan"
    with pytest.warns(UserWarning, match="1 of 2 ratings are NaN.*no route"):
        [found] = scorer.score_solutions([TWO_STEPS])
    assert found.errors == (None, "ConnectionError: no route")
    np.testing.assert_array_equal(found.rewards, [1, np.nan])
    assert dict(scorer.counts) == {"rated": 1, "failed": 2}


def test_an_asynchronous_client_and_a_wrong_argument_are_said_not_counted_away():
    async def create(**request):
        return None

    client = SimpleNamespace(chat=SimpleNamespace(completions=SimpleNamespace(create=create)))
    with pytest.raises(TypeError, match="asynchronous"):
        AttributeRewardModel(client, "m", {"a": 1}, on_error="nan").score_interactions([TWO_STEPS])
    with pytest.raises(TypeError, match="takes no"):
        AttributeRewardModel(Client(TypeError("takes no top_q")), "m", {"a": 1}, on_error="nan").score_interactions(
            [TWO_STEPS]
        )


def test_messages_of_ones_own_for_a_judge():
    def judge(messages):
        assert messages == [{"role": "user", "content": "Rate 3 * 4 = 12.|So 14. for 2 + 3 * 4?"}]
        return "quality: 3"

    scorer = AttributeRewardModel(
        judge,
        None,
        {"quality": 0.5},
        step_separator="|",
        messages=lambda problem, text: [{"role": "user", "content": f"Rate {text} for {problem}"}],
    )
    assert scorer.score_interactions([TWO_STEPS]).rewards.tolist() == [1.5]


def test_no_key_is_printed():
    scorer = AttributeRewardModel(Client(), "m", {"a": 1})
    assert repr(scorer) == "AttributeRewardModel(model='m', weights={'a': 1})"


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        (("key", "m", {"a": 1}), TypeError, "openai.OpenAI"),
        ((Client(), None, {"a": 1}), ValueError, "expected its name"),
        ((longer_is_better, "m", {"a": 1}), ValueError, "None for a callable"),
        ((Client(), "m", {}), ValueError, "weight per attribute"),
        ((Client(), "m", [1.0]), ValueError, "weight per attribute"),
        ((Client(), "m", {"a": float("nan")}), ValueError, "weight of a"),
        ((Client(), "m", {"a": None}), ValueError, "weight of a"),
    ],
)
def test_settings_that_cannot_be(arguments, error, words):
    with pytest.raises(error, match=words):
        AttributeRewardModel(*arguments)


@pytest.mark.parametrize(
    "setting", [{"max_concurrency": 0}, {"max_concurrency": 1.5}, {"max_concurrency": "8"}, {"n_kept": -1}]
)
def test_numbers_are_whole(setting):
    with pytest.raises(ValueError, match=f"{next(iter(setting))} is .* expected"):
        AttributeRewardModel(Client(), "m", WEIGHTS, **setting)


def test_only_solutions_with_steps():
    scorer = AttributeRewardModel(Client(), "m", WEIGHTS)
    with pytest.raises(ValueError, match="no steps"):
        scorer.score_interactions([Solution("p", [])])
    with pytest.raises(ValueError, match="on_error"):
        AttributeRewardModel(Client(), "m", WEIGHTS, on_error="skip")
    assert scorer.score_solutions([]) == []
    assert len(scorer.score_interactions([]).rewards) == 0
