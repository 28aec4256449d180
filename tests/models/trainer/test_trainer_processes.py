"""Runs of PRMTrainer in processes of their own: several at once, and one that is killed and goes on."""

import json
import os
import subprocess
import sys
import time

import psutil
import pytest
import torch
from safetensors.torch import load_file

pytestmark = pytest.mark.slow

SCRIPT = """
import json, os, sys
from pathlib import Path

import datasets
import torch

torch.set_num_threads(1)
from prmkit.models import PRMTrainer, PRMTrainingConfig

job = json.loads(Path(sys.argv[1]).read_text())
rows = datasets.Dataset.from_list(job["rows"])
evaluated = rows.select(range(7)) if job.get("evaluate") else None
args = PRMTrainingConfig(**job["settings"])
rows = rows.to_iterable_dataset() if job.get("stream") else rows
trainer = PRMTrainer(job["model"], args, train_dataset=rows, eval_dataset=evaluated)
if job.get("slow"):
    import time
    from transformers import TrainerCallback

    class Wait(TrainerCallback):
        def on_step_end(self, *args, **kwargs):
            time.sleep(job["slow"])

    trainer.add_callback(Wait())
trainer.train(resume_from_checkpoint=job.get("resume"))
found = {"losses": [log["loss"] for log in trainer.state.log_history if "loss" in log]}
if evaluated is not None:
    found["evaluated"] = {name: value for name, value in trainer.evaluate().items() if "per_second" not in name}
    found["n_predicted"] = len(trainer.predict(evaluated).predictions)
if trainer.is_world_process_zero():
    trainer.save_model(args.output_dir + "/end")
    Path(args.output_dir, "found.json").write_text(json.dumps(found))
trainer.accelerator.wait_for_everyone()  # no process leaves while another still writes
trainer.accelerator.end_training()
sys.stdout.flush()
os._exit(0)  # all is written: torch's own threads now and then abort when the interpreter ends
"""


@pytest.fixture
def job(tmp_path, make_rows, make_tokenizer, make_language_model):
    """Write a run as a file; return its folder and what comes after ``python``."""

    def make(name, *, n_outputs=2, n_rows=16, slow=0, resume=None, stream=False, evaluate=False, **settings):
        model = tmp_path / f"model{n_outputs}"
        if not model.exists():
            tokenizer = make_tokenizer()
            kind = "AutoModelForTokenClassification"
            make_language_model(tokenizer, kind, num_labels=n_outputs).save_pretrained(model)
            tokenizer.save_pretrained(model)
        quiet = {
            "use_cpu": True,
            "disable_tqdm": True,
            "report_to": "none",
            "save_strategy": "no",
            "logging_steps": 1,
            "learning_rate": 1e-3,
            "max_steps": 6,
        }
        run = {
            "model": str(model),
            "rows": [
                {**row, "final_answer_correct": (True, False, None)[i % 3]}
                for i, row in enumerate(make_rows(n_rows, max_steps=6))
            ],
            "settings": {**quiet, "output_dir": str(tmp_path / name), **settings},
            "slow": slow,
            "resume": resume,
            "stream": stream,
            "evaluate": evaluate,
        }
        (tmp_path / f"{name}.json").write_text(json.dumps(run))
        (tmp_path / "run.py").write_text(SCRIPT)
        return tmp_path / name, [str(tmp_path / "run.py"), str(tmp_path / f"{name}.json")]

    return make


TWO = ["-m", "torch.distributed.run", "--nnodes", "1", "--nproc_per_node", "2", "--master_addr", "127.0.0.1"]
# With --cpu accelerate starts several processes by MPI only; with --multi_gpu it starts them, and use_cpu=True decides.
TWO_BY_ACCELERATE = ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1"]
TWO_BY_ACCELERATE += ["--mixed_precision", "no", "--dynamo_backend", "no"]


def environment():
    offline = {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    return {**os.environ, **offline, "GLOO_SOCKET_IFNAME": "lo"}


def python(command, launcher=()):
    if launcher:
        name = "--master_port" if "torch.distributed.run" in launcher else "--main_process_port"
        launcher = [*launcher, name, port()]
    return [sys.executable, *launcher, *command]


def run(folder, command, launcher=()):
    call = python(command, launcher)
    result = subprocess.run(call, env=environment(), capture_output=True, text=True, timeout=180)
    assert result.returncode == 0, result.stderr[-3000:]
    weights = load_file(folder / "end" / "model.safetensors")
    return json.loads((folder / "found.json").read_text()) | {"weights": weights}


def port():
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return str(free.getsockname()[1])


def assert_same(found, expected, tolerance):
    assert found["losses"] == pytest.approx(expected["losses"], rel=tolerance)
    for name, value in expected["weights"].items():
        torch.testing.assert_close(found["weights"][name], value, rtol=0, atol=10 * tolerance)


@pytest.mark.parametrize(
    ("loss", "batches"),
    [
        ("cross_entropy", {"tokens_per_batch": 200}),
        ("rank", {"tokens_per_batch": 200}),
        ("cross_entropy", {"tokens_per_batch": None, "per_device_train_batch_size": 2}),
        ("rank", {"tokens_per_batch": None, "per_device_train_batch_size": 2}),
        ("rank", {"tokens_per_batch": None, "per_device_train_batch_size": 2, "outcome_weight": 0.5}),
    ],
    ids=["micro-budget", "macro-budget", "micro-fixed", "macro-fixed", "outcomes"],
)
def test_two_processes_train_as_one(job, loss, batches):
    options = {"loss": loss, "n_outputs": 2 if loss == "cross_entropy" else 1, "evaluate": True, **batches}
    alone = run(*job("alone", gradient_accumulation_steps=2, **options))
    both = run(*job("both", **options), TWO)
    assert len(set(alone["losses"])) == 6
    assert_same(both, alone, 1e-4)
    assert both["n_predicted"] == alone["n_predicted"] == 7  # an odd number: no row counts twice
    for name in set(alone["evaluated"]) - {"eval_runtime", "epoch"}:
        assert both["evaluated"][name] == pytest.approx(alone["evaluated"][name], rel=1e-4), name


def test_two_processes_share_a_stream(job):
    options = {"stream": True, "per_device_train_batch_size": 2, "max_steps": 3}
    alone = run(*job("alone", gradient_accumulation_steps=2, **options))
    both = run(*job("both", **options), TWO)
    assert_same(both, alone, 1e-4)


def test_launched_by_accelerate(job):
    options = {"tokens_per_batch": 200, "max_steps": 3}
    alone = run(*job("alone", gradient_accumulation_steps=2, **options))
    assert_same(run(*job("both", **options), TWO_BY_ACCELERATE), alone, 1e-4)


@pytest.mark.parametrize("launcher", [(), TWO], ids=["one", "two"])
def test_a_killed_run_goes_on_as_if_nothing_had_been(job, launcher):
    options = {
        "tokens_per_batch": 150,
        "max_steps": 14,
        "save_strategy": "steps",
        "save_steps": 2,
        "save_total_limit": 3,
    }
    whole = run(*job("whole", **options), launcher)
    folder, command = job("killed", slow=0.3, **options)
    silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = psutil.Popen(python(command, launcher), env=environment(), **silent)
    started = time.monotonic()
    while not (folder / "checkpoint-6" / "trainer_state.json").exists():
        assert time.monotonic() - started < 120
        assert process.poll() is None
        time.sleep(0.05)
    for victim in (process, *process.children(recursive=True)):  # torchrun's workers are in sessions of their own
        victim.kill()
    process.wait(timeout=30)
    assert not (folder / "found.json").exists()
    resumed = run(*job("killed", resume=True, **options), launcher)
    assert len(resumed["losses"]) == 14
    assert_same(resumed, whole, 1e-6)
