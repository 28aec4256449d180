"""
Guide a search
==============

A model writes solutions step by step, and errs now and then. A process reward model looks at each step while it is
written, and only the best beginnings go on. It needs no network: a function plays the part of the language model.

With an argument, a real language model writes: ``python 13_guided_search.py HuggingFaceTB/SmolLM2-135M-Instruct``, or
the folder of a model. The small one is no mathematician.
"""

import random
import re
import sys

import matplotlib.pyplot as plt

from prmkit import PRMClassifier, flatten
from prmkit.decoding import CallableGenerator, SearchDisplay, TransformersGenerator, beam_search, best_of_n

# %%
# Problems are chains of additions and products, and the function makes about one error in four steps.

rng = random.Random(0)
problems = []
for _ in range(140):
    numbers = [str(rng.randint(3, 12)), *(f"{rng.choice(['add', 'times'])} {rng.randint(3, 12)}" for _ in range(5))]
    problems.append(f"Start with {', '.join(numbers)}. What is the result?")


def right_step(problem, steps):
    """Return the next calculation, and the value that it should have."""
    word, number = re.findall(r"(add|times) (\d+)", problem)[len(steps)]
    value = re.search(r"= (\d+)", steps[-1])[1] if steps else re.search(r"with (\d+)", problem)[1]
    sign = {"add": "+", "times": "*"}[word]
    return f"{value} {sign} {number}", int(value) + int(number) if sign == "+" else int(value) * int(number)


def write_steps(problem, steps, n, seed):
    """Write the next step n times, as a model of language would."""
    found = []
    for k in range(n):
        draw = random.Random(f"{seed} {k}")
        calculation, value = right_step(problem, steps)
        value += draw.choice([-10, -1, 1, 10]) if draw.random() < 0.25 else 0
        found.append((f"{calculation} = {value}.", "eos" if len(steps) == 4 else "stop"))
    return found


def is_right(solution):
    """Say of each step whether its calculation is right."""
    return [f"= {right_step(solution.problem, solution.steps[:t])[1]}." in one for t, one in enumerate(solution.steps)]


# %%
# The process reward model learns from labelled solutions of other problems.

generator = CallableGenerator(write_steps)
known = []
for problem in problems[:100]:
    drawn = best_of_n(generator, None, problem, n=3, choose="first", random_state=1)
    known += [candidate.solution for candidate in drawn.candidates]
X = flatten(known)
y = [1 if right else -1 for solution in known for right in is_right(solution)]
prm = PRMClassifier(views=("statistics", "words"), random_state=0).fit(X, y)

# %%
# One draw, the vote of twelve, the best of twelve, and a beam of four with three continuations of each: the last three
# generate about as much.

tests = problems[100:140]
ways = {
    "one draw": lambda text: best_of_n(generator, None, text, n=1, choose="first", random_state=2),
    "vote of 12": lambda text: best_of_n(generator, None, text, n=12, choose="majority", random_state=2),
    "best of 12": lambda text: best_of_n(generator, prm, text, n=12, random_state=2),
    "beam search, 4 x 3": lambda text: beam_search(generator, prm, text, beam_width=4, beam_factor=3, random_state=2),
}
for name, way in ways.items():
    results = [way(problem) for problem in tests]
    n_right = sum(all(is_right(one.solution)) and one.solution.n_steps == 5 for one in results)
    tokens = sum(one.cost.generated_tokens for one in results) / len(tests)
    print(f"{name:20} {n_right} of {len(tests)} right, {tokens:.0f} tokens each")

# %%
# The tree of the last search: candidates that went on, and those that did not.

SearchDisplay.from_result(results[-1])
plt.show()

# %%
# The same search with a real language model, if one is given. A worked problem shows it how to write.

if len(sys.argv) > 1:
    worked = "Start with 4, add 2, times 5. What is the result?\n\n4 + 2 = 6.\n\n6 * 5 = 30.\n\nThe result is 30."
    model = TransformersGenerator(sys.argv[1], prompt=f"{worked}\n\n\n{{problem}}\n\n")
    question = "Start with 7, add 5, times 3. What is the result?"
    found = beam_search(
        model,
        prm,
        question,
        beam_width=2,
        beam_factor=3,
        max_steps=4,
        max_tokens=24,
        temperature=0.7,
        stop_condition=lambda solution: solution.steps[-1:] != () and "result is" in solution.steps[-1],
        random_state=0,
    )
    print(found.solution.steps, found.stopped, found.cost, sep="\n")
