"""
Evaluate beside trivial baselines
=================================

This example converts labels into another format, reads them back, and evaluates two models on them. The same on the
command line::

    prmkit convert steps.jsonl out.json --to processbench
    prmkit evaluate model/ --on processbench:gsm8k.json prmbench:PRMBench/ --out report/
"""

import tempfile
from pathlib import Path

from prmkit import PRMClassifier
from prmkit.data import load, make_arithmetic_solutions, split_by_problem, write
from prmkit.evaluation import evaluate
from prmkit.features import StepStatistics, StepWords

data = make_arithmetic_solutions(200, 2, random_state=0)
train, test = split_by_problem(data, 0.7, 0.3, random_state=0)
folder = Path(tempfile.mkdtemp())

# %%
# ``write`` says what a format cannot hold. ``load`` recognises the format by the content of the file.

print(write(test, folder / "made_up.json", "processbench"))
print(load(folder / "made_up.json").description)

# %%
# Two models side by side. Each half of the problems is judged with the threshold that the other half chose.

models = {
    "statistics": PRMClassifier(StepStatistics(), random_state=0).fit(train.X, train.y),
    "words": PRMClassifier(StepWords(), random_state=0).fit(train.X, train.y),
}
result = evaluate(models, f"processbench:{folder / 'made_up.json'}", n_resamples=200, show_progress=False)
print("\n".join(result.to_markdown().splitlines()[:12]))

# %%
# The report is one page that needs no network.

print("saved:", (result.save(folder / "report") / "report.html").name)
