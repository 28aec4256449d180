"""Servers with OpenAI's interface, played by a server of the standard library: their answers, and what goes wrong."""

import json
import logging
import pickle
import signal
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from tokenizers.processors import TemplateProcessing

from prmkit import Solution
from prmkit.decoding import LoggedGenerator, OpenAIGenerator

pytest.importorskip("openai", reason="needs the package openai: pip install openai")
NEVER = "the connection stays open, and nothing comes"
CUT = "the connection is cut in the middle of the answer"
TRICKLE = "a byte now and then"


def told(text, stop_reason="\n\n", **more):
    """Answer as vLLM does, which says what ended a text."""
    return {"choices": [{"index": 0, "text": text, "finish_reason": "stop", "stop_reason": stop_reason}], **more}


def streamed(*pieces, why="stop", **last):
    """Answer piece by piece."""
    events = [{"choices": [{"index": 0, "text": piece, "finish_reason": None}]} for piece in pieces]
    events.append({"choices": [{"index": 0, "text": "", "finish_reason": why}], **last})
    return "".join(f"data: {json.dumps(event)}\n\n" for event in events) + "data: [DONE]\n\n"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        seen = self.server.seen
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        with seen.lock:
            number = len(seen.bodies)
            seen.bodies.append(body)
            seen.paths.append(self.path)
            seen.keys.append(self.headers.get("authorization"))
            seen.busy += 1
            seen.busiest = max(seen.busiest, seen.busy)
        try:
            self.reply(seen.answer(body, number), seen)
        except ConnectionError:  # the client has gone
            with seen.lock:
                seen.gone += 1
        finally:
            with seen.lock:
                seen.busy -= 1
                seen.lock.notify_all()

    def reply(self, answer, seen):
        status, headers = 200, {}
        if isinstance(answer, tuple):
            status, headers, answer = answer
        if answer in (NEVER, CUT, TRICKLE):
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", "100")
            self.end_headers()
            self.wfile.write(b'{"choices"')
            self.wfile.flush()
            self.close_connection = True
            if answer == TRICKLE:
                while not seen.over.wait(0.02):
                    self.wfile.write(b" ")  # it raises as soon as the client is gone
            elif answer == NEVER:
                self.connection.settimeout(5)
                seen.waiting.set()
                if self.connection.recv(1) == b"":
                    raise ConnectionResetError
            return
        text = answer if isinstance(answer, str) else json.dumps(answer)
        kind = "text/event-stream" if text.startswith("data:") else "application/json"
        self.send_response(status)
        for name, value in {"content-type": kind, "content-length": str(len(text.encode())), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *args):
        pass


class Quiet(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *args):
        pass


class Seen:
    """What a server saw."""

    def __init__(self, answer):
        self.answer = answer
        self.bodies, self.paths, self.keys = [], [], []
        self.busy = self.busiest = self.gone = 0
        self.lock, self.over, self.waiting = threading.Condition(), threading.Event(), threading.Event()


@pytest.fixture
def serve():
    """Return a function that makes a generator of a server, and what the server saw."""
    servers = []

    def made(answer, **settings):
        server = Quiet(("127.0.0.1", 0), Handler)
        server.seen = Seen(answer if callable(answer) else lambda body, number: answer)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        servers.append(server)
        settings = {"prompt": "plain", "backoff": 0.001, "timeout": 5.0} | settings
        return OpenAIGenerator("small", f"http://127.0.0.1:{server.server_port}/v1", **settings), server.seen

    yield made
    for server in servers:
        server.seen.over.set()
        server.shutdown()
        server.server_close()


def no_thread_is_left():
    return not any(thread.name == "prmkit-requests" for thread in threading.enumerate())


def test_order_is_kept_and_nothing_is_asked_twice(serve):
    later = threading.Event()

    def answer(body, number):
        if body["prompt"].startswith("problem 0"):
            assert later.wait(5)  # the first is answered last
        if number == 9:
            later.set()
        return told(f"{body['prompt'].split(chr(10))[0]} with {body['seed']}")

    generator, seen = serve(answer, max_concurrency=3)
    rows = generator.generate([f"problem {i}" for i in range(6)], n=2, stop=["\n\n"], seed=5)
    texts = [one.text for row in rows for one in row]
    assert [text.split(" with ")[0] for text in texts] == [f"problem {i}" for i in range(6) for _ in range(2)]
    assert len(set(texts)) == len(seen.bodies) == 12
    assert 1 < seen.busiest <= 3
    assert generator.counts["requests"] == 12
    assert no_thread_is_left()


def test_a_seed_belongs_to_one_continuation_of_one_request(serve):
    generator, seen = serve(lambda body, number: told(str(body["seed"])))
    together = generator.generate(["a", "b"], n=3, seed=[1, 2])
    [alone] = generator.generate(["b"], n=2, seed=[2])
    assert [one.text for one in alone] == [one.text for one in together[1][:2]]
    generator.generate(["a"])
    assert "seed" not in seen.bodies[-1]


FAILURES = {
    "too many": (429, {}, {}),
    "too many, for a moment": (429, {"retry-after": "0.01"}, {}),
    "too many, in milliseconds": (429, {"retry-after-ms": "5"}, {}),
    "too many, until a date": (429, {"retry-after": "Sat, 01 Jan 2000 00:00:00 GMT"}, {}),
    "too many, until nonsense": (503, {"retry-after": "soon"}, {}),
    "server error": (500, {}, {"error": {"message": "out of memory"}}),
    "cut": CUT,
    "no JSON": '{"choices": [{"text"',
    "a page": "<html>busy</html>",
    "a list": [],
    "no choices": {"choices": []},
    "choices are null": {"choices": None},
    "an error with status 200": {"error": {"message": "upstream is busy", "code": 502}},
}


@pytest.mark.parametrize("failure", FAILURES.values(), ids=FAILURES)
def test_a_passing_failure_is_repeated(serve, failure):
    generator, seen = serve(lambda body, number: told("3 * 4 = 12.") if number else failure)
    [[one]] = generator.generate(["2 + 3 * 4?"], stop=["\n\n"], seed=1)
    assert (one.text, one.finish, one.stop) == ("3 * 4 = 12.", "stop", "\n\n")
    assert seen.bodies[0] == seen.bodies[1]
    assert (generator.counts["requests"], generator.counts["retries"], generator.counts["errors"]) == (2, 1, 0)


@pytest.mark.parametrize(
    ("failure", "n_asked", "message"),
    [
        ((500, {}, {"error": {"message": "out of memory"}}), 3, "out of memory"),
        ((429, {"retry-after": "3600"}, {}), 1, "429"),
        ((400, {}, {"error": {"message": "stop is not known"}}), 1, "stop is not known"),
        (CUT, 3, "RemoteProtocolError"),
        ('{"choices": [{"text"', 3, "no JSON"),
        ({"choices": []}, 3, "no choices"),
        (["text"], 3, "expected an object"),
    ],
)
def test_a_lasting_failure_costs_its_own_row_and_says_what_came(serve, failure, n_asked, message):
    generator, _ = serve(lambda body, number: failure if "bad" in body["prompt"] else told("So 14."), max_retries=2)
    good, bad, last = generator.generate(["good", "bad", "good"], n=1, stop=["\n\n"])
    assert (good[0].finish, last[0].finish, bad[0].finish) == ("stop", "stop", "error")
    assert message in bad[0].error
    assert (generator.counts["requests"], generator.counts["errors"]) == (2 + n_asked, 1)


def test_nobody_listens():
    generator = OpenAIGenerator("small", "http://127.0.0.1:9/v1", prompt="plain", max_retries=1, backoff=0.001)
    [[one, two]] = generator.generate(["2 + 2?"], n=2)
    assert one.finish == two.finish == "error"
    assert "ConnectError" in one.error


@pytest.mark.parametrize("never", [NEVER, TRICKLE])
def test_an_answer_must_be_whole_in_time(serve, never):
    generator, _ = serve(never, timeout=0.1, max_retries=1)
    [[one]] = generator.generate(["2 + 2?"])
    assert one.finish == "error"
    assert "within 0.1 seconds" in one.error
    assert generator.counts["requests"] == 2


def test_a_stream_must_end_in_time(serve):
    generator, _ = serve(TRICKLE, timeout=0.1, max_retries=0, stop_locally=True)
    [[one]] = generator.generate(["2 + 2?"], stop=["\n\n"])
    assert "within 0.1 seconds" in one.error


def test_closing_the_iterator_ends_what_is_under_way(serve):
    generator, seen = serve(
        lambda body, number: NEVER if "slow" in body["prompt"] else told("So 4."), max_concurrency=2
    )
    found = generator.iter_generate(["fast", *["slow"] * 5], stop=["\n\n"])
    i, [one] = next(found)
    assert (i, one.text) == (0, "So 4.")
    assert seen.waiting.wait(5)
    found.close()
    assert no_thread_is_left()
    assert len(seen.bodies) <= 3
    with seen.lock:
        assert seen.lock.wait_for(lambda: seen.gone == len(seen.bodies) - 1, 5)


def test_an_interrupt_ends_what_is_under_way(serve):
    generator, seen = serve(NEVER)

    def interrupt():
        seen.waiting.wait(5)
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    threading.Thread(target=interrupt).start()
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
    with pytest.raises(KeyboardInterrupt):
        generator.generate(["2 + 2?"] * 4)
    signal.signal(signal.SIGINT, before)
    assert no_thread_is_left()


ENDS = {
    "vLLM, step": ({"stop_reason": "\n\n"}, "stop"),
    "vLLM, end": ({"stop_reason": None}, "eos"),
    "vLLM, a token that ends": ({"stop_reason": 151643}, "eos"),
    "SGLang, step": ({"matched_stop": "\n\n"}, "stop"),
    "SGLang, end": ({"matched_stop": 2}, "eos"),
    "the stop string stays in the text": ({"text": "So 14.\n\n"}, "stop"),
    "the server knows no stop strings": ({"text": "So 14.\n\nAnd", "finish_reason": "length"}, "stop"),
    "length": ({"finish_reason": "length"}, "length"),
    "length, and a reason": ({"finish_reason": "length", "stop_reason": None}, "length"),
}


@pytest.mark.parametrize(("choice", "finish"), ENDS.values(), ids=ENDS)
def test_why_a_text_ended(serve, choice, finish):
    generator, _ = serve({"choices": [{"index": 0, "text": "So 14.", "finish_reason": "stop", **choice}]})
    [[one]] = generator.generate(["2 + 3 * 4?"], stop=["\n\n"])
    assert (one.text, one.finish, one.stop) == ("So 14.", finish, "\n\n" if finish == "stop" else None)


@pytest.mark.parametrize(("kind", "word", "finish"), [("word", "\n\n", "stop"), ("eos", "", "eos")])
def test_llama_cpp_tells_if_it_is_asked(serve, kind, word, finish):
    answer = {
        "choices": [{"index": 0, "text": "So 14.", "finish_reason": "stop", "logprobs": None}],
        "__verbose": {"stop_type": kind, "stopping_word": word, "tokens": [5, 6]},
    }
    generator, seen = serve(answer, server="llama.cpp")
    [[one]] = generator.generate(["2 + 3 * 4?"], stop=["\n\n"])
    assert (one.finish, one.stop) == (finish, word or None)
    assert seen.bodies[0]["verbose"] is True


@pytest.mark.parametrize(
    "choice",
    [
        {"finish_reason": "content_filter"},
        {"finish_reason": "tool_calls"},
        {"finish_reason": None},
        {"finish_reason": "stop", "text": None},
        {"finish_reason": "stop", "text": 14},
    ],
)
def test_a_choice_that_is_no_text_is_an_error(serve, choice):
    generator, seen = serve({"choices": [{"index": 0, "text": "So 14.", **choice}]})
    [[one]] = generator.generate(["2 + 3 * 4?"], stop=["\n\n"])
    assert (one.text, one.finish) == ("", "error")
    assert repr(choice["finish_reason"]) in one.error
    assert (len(seen.bodies), generator.counts["errors"]) == (1, 1)


@pytest.mark.parametrize("n_tokens", [-1, None, "4", 2.5])
def test_a_count_of_tokens_that_is_none_is_not_taken(serve, n_tokens):
    answer = {"choices": [{"index": 0, "text": "So 14.", "finish_reason": "stop", "stop_reason": None}]}
    generator, _ = serve(answer | {"usage": {"completion_tokens": n_tokens}})
    [[one]] = generator.generate(["2 + 3 * 4?"])
    assert (one.text, one.finish, one.n_tokens) == ("So 14.", "eos", generator.count_tokens("So 14."))


def untelling(body, number):
    """Answer as a hosted server does: a stop string is cut off, and nothing says whether there was one."""
    ends = "end" in body["prompt"]
    if not body.get("stream"):
        return {"choices": [{"index": 0, "text": "So 14." if ends else "3 * 4 = 12.", "finish_reason": "stop"}]}
    if ends:
        return streamed("So", " 14", ".", usage={"completion_tokens": 4})
    return streamed("3 * 4", " = 12.", "\n", "\nSo", " 14.")


def test_where_the_server_does_not_tell_texts_are_stopped_here(serve):
    generator, seen = serve(untelling, max_concurrency=1)
    [step], [end] = generator.generate(["step", "end"], stop=["\n\n"], seed=3)
    assert (step.text, step.finish, step.stop, step.n_tokens) == ("3 * 4 = 12.", "stop", "\n\n", 4)
    assert (end.text, end.finish, end.stop, end.n_tokens) == ("So 14.", "eos", None, 4)
    assert [body.get("stream", False) for body in seen.bodies] == [False, True, True]
    assert seen.bodies[0]["seed"] == seen.bodies[1]["seed"]
    assert "stop" not in seen.bodies[1]
    assert generator.counts["asked_again"] == 1
    generator.generate(["end"], stop=["\n\n"])
    assert seen.bodies[-1]["stream"]


def test_without_stop_strings_every_server_tells(serve):
    generator, seen = serve(untelling)
    [[one]] = generator.generate(["end"])
    assert (one.finish, len(seen.bodies)) == ("eos", 1)


def test_streams_can_be_refused(serve):
    generator, seen = serve(untelling, stop_locally=False)
    [[one]] = generator.generate(["end"], stop=["\n\n"])
    assert one.finish == "error"
    assert "stop_locally=None" in one.error
    assert len(seen.bodies) == 1


@pytest.mark.parametrize(
    "broken",
    [
        'data: {"choices": [{"index": 0, "text": "So", "finish_reason": null}]}\n\n',
        "data: [DONE]\n\n",
        'data: {"choices": [{"text\n\n',
        'data: {"error": {"message": "out of memory"}}\n\n',
        "data: 5\n\n",
        CUT,
    ],
)
def test_a_broken_stream_is_asked_for_again(serve, broken):
    generator, seen = serve(lambda body, number: streamed("So 14.") if number else broken, stop_locally=True)
    [[one]] = generator.generate(["2 + 3 * 4?"], stop=["\n\n"])
    assert (one.text, one.finish) == ("So 14.", "eos")
    assert len(seen.bodies) == 2


def test_choices_that_an_answer_lacks_are_asked_for(serve):
    def answer(body, number):
        texts = [f"guess {number}{k}" for k in range(min(2, body.get("n", 1)))]
        choices = [
            {"index": k, "text": text, "finish_reason": "stop", "stop_reason": None} for k, text in enumerate(texts)
        ]
        return {"choices": choices[::-1], "usage": {"prompt_tokens": 7, "completion_tokens": 3}}

    generator, seen = serve(answer, n_per_request=True)
    [row] = generator.generate(["2 + 3 * 4?"], n=5, seed=1)
    assert [one.text for one in row] == ["guess 00", "guess 01", "guess 10", "guess 11", "guess 20"]
    assert [body.get("n") for body in seen.bodies] == [5, 3, None]
    assert len({body["seed"] for body in seen.bodies}) == 3
    assert [one.n_tokens for one in row] == [2, 1, 2, 1, 3]
    assert (generator.counts["refilled"], generator.counts["prompt_tokens"]) == (2, 21)


def test_choices_beyond_those_asked_for_are_left_out(serve):
    generator, _ = serve({"choices": told("a")["choices"] * 3})
    assert [len(row) for row in generator.generate(["2 + 2?"] * 2, n=2, stop=["\n\n"])] == [2, 2]


def test_what_came_stays_if_the_rest_fails(serve):
    generator, _ = serve(lambda body, number: (400, {}, {}) if number else told("So 14."), n_per_request=True)
    [row] = generator.generate(["2 + 3 * 4?"], n=3, stop=["\n\n"])
    assert [one.finish for one in row] == ["stop", "error", "error"]


@pytest.mark.parametrize(
    "logprobs",
    [
        {"token_logprobs": [-0.5, -0.25], "tokens": ["So", " 14."]},
        {"content": [{"token": "So", "logprob": -0.5}, {"token": " 14.", "logprob": -0.25}]},
    ],
)
def test_log_probabilities_of_the_tokens(serve, logprobs):
    choice = {"index": 0, "text": "So 14.", "finish_reason": "stop", "stop_reason": None, "logprobs": logprobs}
    generator, seen = serve({"choices": [choice]}, logprobs=True)
    [[one]] = generator.generate(["2 + 3 * 4?"], stop=["\n\n"])
    assert (one.logprobs, one.n_tokens) == ((-0.5, -0.25), 2)
    assert seen.bodies[0]["logprobs"] == 1


def test_the_key_is_shown_nowhere(serve, caplog, monkeypatch):
    key = "sk-very-secret-1"
    generator, seen = serve((401, {}, {"error": {"message": f"wrong key {key}"}}), api_key=key)
    with caplog.at_level(logging.DEBUG):
        [[one]] = generator.generate(["2 + 2?"])
    assert seen.keys == [f"Bearer {key}"]
    assert "wrong key ***" in one.error
    assert all(key not in shown for shown in (repr(generator), repr(vars(generator)), repr(one), caplog.text))


def test_a_key_of_the_environment_is_not_sent_to_another_address(serve, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-the-hosted-server")
    generator, seen = serve(told("So 4."))
    generator.generate(["2 + 2?"])
    assert "sk-of" not in seen.keys[0]
    monkeypatch.setenv("OPENAI_BASE_URL", generator.base_url)
    OpenAIGenerator("small", prompt="plain").generate(["2 + 2?"])
    assert seen.keys[1] == "Bearer sk-of-the-hosted-server"


CHAT = {"choices": [{"index": 0, "message": {"role": "assistant", "content": "So 14."}, "finish_reason": "stop"}]}
BEGUN = Solution("2 + 3 * 4?", ["3 * 4 = 12."])


def test_a_chat_begins_with_the_problem(serve):
    generator, seen = serve(CHAT, prompt="auto", system="Think.", logprobs=True)
    [[one]] = generator.generate(["2 + 3 * 4?"], max_tokens=9, temperature=0)
    assert (one.text, one.finish) == ("So 14.", "eos")
    assert seen.paths == ["/v1/chat/completions"]
    assert [message["content"] for message in seen.bodies[0]["messages"]] == ["Think.", "2 + 3 * 4?"]
    assert {name: seen.bodies[0][name] for name in ("model", "max_tokens", "temperature", "logprobs")} == {
        "model": "small",
        "max_tokens": 9,
        "temperature": 0.0,
        "logprobs": True,
    }


@pytest.mark.parametrize(
    ("settings", "roles", "flag"),
    [
        ({"server": "vllm"}, ["user", "assistant"], True),
        ({"server": "sglang"}, ["user", "assistant"], True),
        ({"server": "llama.cpp"}, ["user", "assistant"], None),
        ({"chat_continuation": "prefill"}, ["user", "assistant"], None),
        ({"chat_continuation": "ask"}, ["user", "assistant", "user"], None),
    ],
)
def test_a_chat_goes_on_from_steps_as_the_server_can(serve, settings, roles, flag):
    generator, seen = serve(CHAT, prompt="auto", **settings)
    generator.generate([BEGUN])
    assert [message["role"] for message in seen.bodies[0]["messages"]] == roles
    assert seen.bodies[0]["messages"][1]["content"] == "3 * 4 = 12.\n\n"
    assert seen.bodies[0].get("continue_final_message") is flag


def test_a_chat_that_cannot_go_on_says_what_to_type(serve):
    generator, seen = serve(CHAT, prompt="auto")
    with pytest.raises(ValueError, match="chat_continuation='prefill'"):
        generator.generate([BEGUN])
    assert not seen.bodies


def test_a_text_goes_on_from_steps(serve):
    generator, seen = serve(told("So 14."))
    generator.generate([BEGUN])
    assert seen.bodies[0]["prompt"] == "2 + 3 * 4?\n\n3 * 4 = 12.\n\n"


def test_a_chat_template_is_applied_here(serve, make_tokenizer):
    tokenizer = make_tokenizer(bos="<bos>")
    tokenizer.chat_template = "{{ bos_token }}{% for m in messages %}[{{ m['role'] }}]{{ m['content'] }}{% endfor %}[a]"
    generator, seen = serve(told("So 14."), tokenizer=tokenizer, prompt="auto")
    generator.generate([BEGUN])
    assert seen.bodies[0]["prompt"] == "<bos>[user]2 + 3 * 4?[a]3 * 4 = 12.\n\n"
    tokenizer._tokenizer.post_processor = TemplateProcessing(
        "<bos> $A", special_tokens=[("<bos>", tokenizer.bos_token_id)]
    )
    generator.generate([BEGUN])  # now the server's tokenizer adds it
    assert seen.bodies[1]["prompt"] == "[user]2 + 3 * 4?[a]3 * 4 = 12.\n\n"
    assert generator.count_tokens("3 * 4 = 12.") == len(tokenizer("3 * 4 = 12.", add_special_tokens=False)["input_ids"])


@pytest.mark.parametrize("server", ["vllm", "sglang", "llama.cpp"])
def test_known_servers_are_given_the_tokens(serve, make_tokenizer, server):
    tokenizer = make_tokenizer()
    generator, seen = serve(told("So 14.", None), tokenizer=tokenizer, server=server)
    step = tokenizer("3 *", add_special_tokens=False)["input_ids"] + tokenizer(" 4 = 12.\n\n")["input_ids"]
    generator.generate([BEGUN, Solution(BEGUN.problem, BEGUN.steps, meta={"token_ids": [tuple(step)]})])
    texts, asked = zip(*sorted((tokenizer.decode(body["prompt"]), body["prompt"]) for body in seen.bodies), strict=True)
    assert set(texts) == {"2 + 3 * 4?\n\n3 * 4 = 12.\n\n"}
    assert any(ids[-len(step) :] == step for ids in asked)


def test_tokens_that_the_server_tells(serve, make_tokenizer):
    tokenizer = make_tokenizer()

    def answer(body, number):
        ids = tokenizer("So 14.\n\n")["input_ids"] + (
            [tokenizer.eos_token_id] if "end" in tokenizer.decode(body["prompt"]) else []
        )
        other = {"token_ids": ids[:-1] if "other" in tokenizer.decode(body["prompt"]) else ids}
        return {"choices": [told("So 14.")["choices"][0] | other]}

    generator, seen = serve(answer, tokenizer=tokenizer, server="vllm")
    [step], [end], [other] = generator.generate(["step", "end", "other"], stop=["\n\n"])
    assert seen.bodies[0]["return_token_ids"] is True
    assert tokenizer.decode(step.token_ids) == step.text + step.stop
    assert (step.n_tokens, end.n_tokens) == (len(step.token_ids), len(end.token_ids))
    assert end.token_ids[-1] == tokenizer.eos_token_id
    assert other.token_ids is None
    assert other.n_tokens == step.n_tokens - 1


def test_a_fingerprint_tells_models_apart_and_holds_no_key():
    one, other = (OpenAIGenerator(name, api_key="sk-secret", prompt="plain").fingerprint for name in ("small", "large"))
    assert one != other
    assert "sk-secret" not in one


def test_a_log_keeps_what_came_before_an_interrupt(serve, tmp_path):
    generator, seen = serve(
        lambda body, number: told(f"So {body['seed']}.") if number != 2 else NEVER, max_concurrency=1
    )
    problems = [f"problem {i}" for i in range(4)]
    with LoggedGenerator(generator, tmp_path / "log.jsonl") as logged:
        found = logged.iter_generate(problems, stop=["\n\n"], seed=1)
        first = [next(found), next(found)]
        found.close()
    assert no_thread_is_left()
    seen.bodies.clear()
    seen.answer = lambda body, number: told(f"So {body['seed']}.")
    with LoggedGenerator(generator, tmp_path / "log.jsonl") as logged:
        rows = logged.generate(problems, stop=["\n\n"], seed=1)
    assert [rows[i] for i, _ in first] == [row for _, row in first]
    assert (logged.n_found, logged.n_asked) == (2, 2)
    # The request that was interrupted may reach the server late.
    assert {body["prompt"].strip() for body in seen.bodies} == {"problem 2", "problem 3"}


def test_a_generator_can_be_sent_to_another_process(serve):
    generator, _ = serve(told("So 4."))
    generator.generate(["2 + 2?"])
    again = pickle.loads(pickle.dumps(generator))
    assert again.generate(["2 + 2?"], seed=1) == generator.generate(["2 + 2?"], seed=1)


def test_fields_are_named_as_the_server_wants(serve):
    fields = {"max_tokens": "max_completion_tokens", "temperature": None, "stop": None}
    generator, seen = serve(streamed("So", " 14."), fields=fields, extra_body={"priority": 1})
    [[one]] = generator.generate(["2 + 3 * 4?"], stop=["\n\n"], max_tokens=7)
    assert one.finish == "eos"
    body = seen.bodies[0]
    assert (body["max_completion_tokens"], body["priority"]) == (7, 1)
    assert not {"max_tokens", "temperature", "stop"} & set(body)


def test_requests_start_at_the_rate_that_is_set(serve, monkeypatch):
    import asyncio

    sleep, waited = asyncio.sleep, []

    def noted(seconds):
        waited.append(seconds)
        return sleep(0)

    monkeypatch.setattr(asyncio, "sleep", noted)
    generator, _ = serve(told("So 4."), requests_per_minute=1)
    generator.generate(["2 + 2?"] * 2)
    generator.generate(["2 + 2?"])
    assert [round(seconds / 60) for seconds in waited if seconds or seconds == 0][:3] == [0, 1, 2]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"api": "responses"}, "completions, chat"),
        ({"server": "ollama"}, "vllm, sglang, llama.cpp"),
        ({"chat_continuation": "go"}, "prefill, ask"),
        ({"max_concurrency": 0}, "max_concurrency is 0"),
        ({"timeout": 0}, "timeout is 0"),
        ({"requests_per_minute": -1}, "requests_per_minute is -1"),
    ],
)
def test_settings_out_of_range(settings, message):
    with pytest.raises(ValueError, match=message):
        OpenAIGenerator("small", "http://127.0.0.1:9/v1", **settings).generate(["2 + 2?"])


@pytest.mark.parametrize("settings", [{"fields": 5}, {"extra_body": ["priority"]}, {"prompt": None}])
def test_settings_of_another_type(settings):
    (name,) = settings
    with pytest.raises((TypeError, ValueError), match=f"{name} is .*, expected"):
        OpenAIGenerator("small", "http://127.0.0.1:9/v1", **settings).generate(["2 + 2?"])


def test_requests_that_are_none(serve):
    generator, seen = serve(told("So 4."))
    assert generator.generate([]) == []
    with pytest.raises(TypeError, match="expected a Solution"):
        generator.generate(["2 + 2?", None])
    with pytest.raises(TypeError, match="stop is one text"):
        generator.generate(["2 + 2?"], stop="\n\n")
    with pytest.raises(ValueError, match="n is 0"):
        generator.generate(["2 + 2?"], n=0)
    assert not seen.bodies
