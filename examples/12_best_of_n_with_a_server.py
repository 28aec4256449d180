"""
Best-of-N with a server
=======================

A server writes several solutions of each problem, and a classifier of steps chooses one. Any server with OpenAI's
interface will do::

    python 12_best_of_n_with_a_server.py http://localhost:8000/v1 Qwen/Qwen2.5-Math-1.5B-Instruct

Without arguments, this script starts a small server of its own. It needs no network, and answers with made solutions,
right and wrong ones. The client is installed by ``pip install openai``.
"""

import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np

from prmkit import PRMClassifier
from prmkit.data import answer_keys, extract_answer, make_arithmetic_solutions, split_by_problem
from prmkit.decoding import AnswerVerifier, OpenAIGenerator, best_of_n
from prmkit.features import StepStatistics
from prmkit.metrics import select

data = make_arithmetic_solutions(150, 6, random_state=0)
train, test = split_by_problem(data, 0.75, 0.25, random_state=0)
classifier = PRMClassifier(StepStatistics(), random_state=0).fit(train.X, train.y)


def answer_of(solution):
    """Return the final answer of a solution, or None."""
    return extract_answer("\n\n".join(solution.steps)).answer


right = [one for one, error in zip(test.solutions, test.first_errors, strict=True) if error < 0]
verifier = AnswerVerifier({one.problem: answer_of(one) for one in right}, how="numeric")
problems = sorted({one.problem for one in right})
print(len(problems), "problems")

# %%
# The server of this script. It draws one of the made solutions of the problem, by the seed of the request.


class MadeSolutions(BaseHTTPRequestHandler):
    """Answer requests for completions."""

    def do_POST(self):
        """Answer one request."""
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        known = [one for one in test.solutions if one.problem in body["prompt"]]
        steps = known[np.random.default_rng(body["seed"]).integers(len(known))].steps
        text = "\n\n".join(steps)
        choice = {"index": 0, "text": text, "finish_reason": "stop", "stop_reason": None}
        answer = json.dumps({"choices": [choice], "usage": {"completion_tokens": len(text.split())}}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *args):
        """Write nothing."""


if len(sys.argv) == 3:
    base_url, model = sys.argv[1:]
else:
    server = ThreadingHTTPServer(("127.0.0.1", 0), MadeSolutions)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    base_url, model = f"http://127.0.0.1:{server.server_port}/v1", "made solutions"

# %%
# ``prompt="plain"`` continues the text of the problem. For a chat model pass ``tokenizer=model`` in its place, so that
# its template is applied. Eight requests run at a time. One that fails is repeated, and never stops the others.

generator = OpenAIGenerator(model, base_url, prompt="plain", max_concurrency=8)
[[one]] = generator.generate(problems[:1], seed=0)
print(problems[0], *one.text.split("\n\n"), sep="\n  ")
print(f"{one.n_tokens} tokens, and the end is {one.finish!r}")

# %%
# Eight solutions of each problem. The classifier chooses the one whose worst step is best, and is compared with the
# vote of the answers and with a single solution.

n_right = {"one solution": 0.0, "the vote": 0, "the classifier": 0, "any of eight": 0}
for i, problem in enumerate(problems):
    found = best_of_n(generator, classifier, problem, n=8, rule="min", max_tokens=512, random_state=i)
    solutions = [candidate.solution for candidate in found.candidates]
    is_right = [verifier(problem, one) for one in solutions]
    vote = select(answer_keys([answer_of(one) for one in solutions]), rule="majority", missing="drop")
    n_right["one solution"] += np.mean(is_right)
    n_right["the vote"] += is_right[vote]
    n_right["the classifier"] += is_right[found.chosen]
    n_right["any of eight"] += any(is_right)
for name, number in n_right.items():
    print(f"{name:15} {number / len(problems):.0%}")
print(generator.counts)
