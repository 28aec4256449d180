"""Runs of PRMTrainer in processes of their own: several at once, and one that is killed and goes on."""

import json
import os
import subprocess
import sys
import time

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
        return tmp_path / name, str(tmp_path / f"{name}.json")

    return make


# With --cpu accelerate starts several processes by MPI only; with --multi_gpu it starts them, and use_cpu=True decides.
ACCELERATE = ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1"]
ACCELERATE += ["--mixed_precision", "no", "--dynamo_backend", "no"]
OFFLINE = {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "GLOO_SOCKET_IFNAME": "lo"}


def port():
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return str(free.getsockname()[1])


@pytest.fixture
def begin(start_python, tmp_path):
    """Start the runs of some files in one process or in two, which find each other by what torchrun would set."""

    def begin(files, n_processes):
        shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port(), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
        places = [{**shared, "RANK": str(i), "LOCAL_RANK": str(i)} for i in range(n_processes)]
        return [
            start_python(SCRIPT, *files, folder=tmp_path, **OFFLINE, **(place if n_processes > 1 else {}))
            for place in places
        ]

    return begin


@pytest.fixture
def run(begin):
    """Do all runs, one after the other, in one start of the processes."""

    def run(jobs, n_processes=1):
        processes = begin([file for _, file in jobs], n_processes)
        for process in processes:
            process.join(300)
            assert process.exitcode == 0, process.stderr()[-3000:]
        return found(jobs, n_processes)

    return run


def found(jobs, n_processes):
    """Return what the runs have left."""
    found = [json.loads((folder / "found.json").read_text()) for folder, _ in jobs]
    assert {one["n_processes"] for one in found} == {n_processes}
    return [
        one | {"weights": load_file(folder / "end" / "model.safetensors")}
        for one, (folder, _) in zip(found, jobs, strict=True)
    ]


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


def test_two_processes_train_as_one(job, run, subtests):
    """Whoever starts them, and whatever the loss, the batches and the rows. torchrun starts an example elsewhere."""
    kinds = {
        name: {"n_outputs": 1 if kind.get("loss") == "rank" else 2, "evaluate": name != "stream", **kind}
        for name, kind in KINDS.items()
    }
    alone = run([job(f"{name}-alone", gradient_accumulation_steps=2, **kind) for name, kind in kinds.items()])
    together = run([job(f"{name}-both", **kind) for name, kind in kinds.items()], 2)
    for name, expected, both in zip(kinds, alone, together, strict=True):
        with subtests.test(name):
            assert len(set(expected["losses"])) == kinds[name].get("max_steps", 6)
            assert_same(both, expected, 1e-4)
            if name != "stream":
                assert both["n_predicted"] == expected["n_predicted"] == 7  # an odd number: no row counts twice
                for metric in set(expected["evaluated"]) - {"eval_runtime", "epoch"}:
                    assert both["evaluated"][metric] == pytest.approx(expected["evaluated"][metric], rel=1e-4), metric
    with subtests.test("accelerate"):
        kind = kinds["micro-budget"] | {"evaluate": False}
        launched = job("accelerate", **kind)
        script = launched[0].with_name("run.py")
        script.write_text(SCRIPT)
        call = [sys.executable, *ACCELERATE, "--main_process_port", port(), str(script), launched[1]]
        done = subprocess.run(call, env=os.environ | OFFLINE, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr[-3000:]
        [by_accelerate] = found([launched], 2)
        assert_same(by_accelerate, alone[0], 1e-4)


@pytest.mark.parametrize("n_processes", [1, 2])
def test_a_killed_run_goes_on_as_if_nothing_had_been(job, begin, run, n_processes):
    options = {
        "tokens_per_batch": 150,
        "max_steps": 14,
        "save_strategy": "steps",
        "save_steps": 2,
        "save_total_limit": 3,
    }
    folder, file = job("killed", slow=0.3, **options)
    processes = begin([file], n_processes)
    started = time.monotonic()
    while not (folder / "checkpoint-6" / "trainer_state.json").exists():
        assert time.monotonic() - started < 120
        assert all(process.is_alive() for process in processes)
        time.sleep(0.05)
    for process in processes:
        process.kill()
    for process in processes:
        process.join(30)
    assert not (folder / "found.json").exists()
    whole, resumed = run([job("whole", **options), job("killed", resume=True, **options)], n_processes)
    assert len(resumed["losses"]) == 14
    assert_same(resumed, whole, 1e-6)
