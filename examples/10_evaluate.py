"""Read labels of any layout, convert them, and evaluate models beside trivial baselines. Offline, seconds.

On the command line:  prmkit convert steps.jsonl out.json --to processbench
                      prmkit evaluate model/ --on processbench:gsm8k.json prmbench:PRMBench/ --out report/
"""

from prmkit import PRMClassifier
from prmkit.data import load, make_arithmetic_solutions, split_by_problem, write
from prmkit.evaluation import evaluate
from prmkit.features import StepStatistics

data = make_arithmetic_solutions(200, 2, random_state=0)
train, test = split_by_problem(data, 0.7, 0.3, random_state=0)

# Any layout that the field uses, recognised by its content; what a layout cannot hold is said.
print(write(test, "made_up.json", "processbench"))
print(load("made_up.json").description, "\n")

# Two models side by side. Each half of the problems is judged with the threshold that the other half chose.
models = {
    "statistics": PRMClassifier(StepStatistics(), random_state=0).fit(train.X, train.y),
    "default": PRMClassifier(random_state=0).fit(train.X, train.y),
}
result = evaluate(models, "processbench:made_up.json", n_resamples=200, show_progress=False)
print("\n".join(result.to_markdown().splitlines()[:12]))
print("saved:", result.save("report") / "report.html")
