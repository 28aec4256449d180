"""Runs of PRMTrainer in processes of their own: several at once, and one that is killed and goes on."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

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

for file in sys.argv[1:]:
    job = json.loads(Path(file).read_text())
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
    found["n_processes"] = trainer.accelerator.num_processes
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
    """Write a run as a file; return its folder and that file."""

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
        return tmp_path / name, str(tmp_path / f"{name}.json")

    return make


TWO = ["-m", "torch.distributed.run", "--nnodes", "1", "--nproc_per_node", "2", "--master_addr", "127.0.0.1"]
# With --cpu accelerate starts several processes by MPI only; with --multi_gpu it starts them, and use_cpu=True decides.
TWO_BY_ACCELERATE = ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1"]
TWO_BY_ACCELERATE += ["--mixed_precision", "no", "--dynamo_backend", "no"]


def environment():
    offline = {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    return {**os.environ, **offline, "GLOO_SOCKET_IFNAME": "lo"}


def python(files, launcher=()):
    if launcher:
        name = "--master_port" if "torch.distributed.run" in launcher else "--main_process_port"
        launcher = [*launcher, name, port()]
    return [sys.executable, *launcher, str(Path(files[0]).with_name("run.py")), *files]


def run(jobs, launcher=()):
    """Do all runs, one after the other, in one start of the processes, which costs more than a run."""
    call = python([file for _, file in jobs], launcher)
    result = subprocess.run(call, env=environment(), capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr[-3000:]
    found = [json.loads((folder / "found.json").read_text()) for folder, _ in jobs]
    assert {one["n_processes"] for one in found} == {2 if launcher else 1}
    return [
        one | {"weights": load_file(folder / "end" / "model.safetensors")}
        for one, (folder, _) in zip(found, jobs, strict=True)
    ]


def port():
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return str(free.getsockname()[1])


def assert_same(found, expected, tolerance):
    assert found["losses"] == pytest.approx(expected["losses"], rel=tolerance)
    for name, value in expected["weights"].items():
        torch.testing.assert_close(found["weights"][name], value, rtol=0, atol=10 * tolerance)


FIXED = {"tokens_per_batch": None, "per_device_train_batch_size": 2}
KINDS = {
    "micro-budget": {"loss": "cross_entropy", "tokens_per_batch": 200},
    "macro-budget": {"loss": "rank", "tokens_per_batch": 200},
    "micro-fixed": {"loss": "cross_entropy", **FIXED},
    "macro-fixed": {"loss": "rank", **FIXED},
    "outcomes": {"loss": "rank", "outcome_weight": 0.5, **FIXED},
    "stream": {"stream": True, "max_steps": 3, **FIXED},
}


def test_two_processes_train_as_one(job, subtests):
    """Whoever starts them, and whatever the loss, the batches and the rows."""
    kinds = {
        name: {"n_outputs": 1 if kind.get("loss") == "rank" else 2, "evaluate": name != "stream", **kind}
        for name, kind in KINDS.items()
    }
    alone = run([job(f"{name}-alone", gradient_accumulation_steps=2, **kind) for name, kind in kinds.items()])
    by_torch = run([job(f"{name}-both", **kind) for name, kind in kinds.items()], TWO)
    for name, expected, both in zip(kinds, alone, by_torch, strict=True):
        with subtests.test(name):
            assert len(set(expected["losses"])) == kinds[name].get("max_steps", 6)
            assert_same(both, expected, 1e-4)
            if name != "stream":
                assert both["n_predicted"] == expected["n_predicted"] == 7  # an odd number: no row counts twice
                for metric in set(expected["evaluated"]) - {"eval_runtime", "epoch"}:
                    assert both["evaluated"][metric] == pytest.approx(expected["evaluated"][metric], rel=1e-4), metric
    with subtests.test("accelerate"):
        kind = kinds["micro-budget"] | {"evaluate": False}
        [by_accelerate] = run([job("accelerate", **kind)], TWO_BY_ACCELERATE)
        assert_same(by_accelerate, alone[0], 1e-4)


@pytest.mark.parametrize("launcher", [(), TWO], ids=["one", "two"])
def test_a_killed_run_goes_on_as_if_nothing_had_been(job, launcher):
    options = {
        "tokens_per_batch": 150,
        "max_steps": 14,
        "save_strategy": "steps",
        "save_steps": 2,
        "save_total_limit": 3,
    }
    [whole] = run([job("whole", **options)], launcher)
    folder, file = job("killed", slow=0.3, **options)
    silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = psutil.Popen(python([file], launcher), env=environment(), **silent)
    started = time.monotonic()
    while not (folder / "checkpoint-6" / "trainer_state.json").exists():
        assert time.monotonic() - started < 120
        assert process.poll() is None
        time.sleep(0.05)
    for victim in (process, *process.children(recursive=True)):  # torchrun's workers are in sessions of their own
        victim.kill()
    process.wait(timeout=30)
    assert not (folder / "found.json").exists()
    [resumed] = run([job("killed", resume=True, **options)], launcher)
    assert len(resumed["losses"]) == 14
    assert_same(resumed, whole, 1e-6)
