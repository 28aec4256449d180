"""
Train on one process or on many
===============================

The same script runs on one process or on several::

    python 07_accelerate_launch.py
    accelerate launch 07_accelerate_launch.py               # on all GPUs of the machine
    torchrun --nproc_per_node 2 07_accelerate_launch.py     # on GPUs, or on cores of a machine without GPUs

The loss is the mean over the targets of a whole update, whichever process holds them. Here an update has two
batches of 256 tokens, on one process or on two. So the curve of the losses is the same.

The command line needs no script::

    accelerate launch -m prmkit.cli train --model MODEL --data FILE --output_dir FOLDER

``accelerate launch --cpu`` starts one process, whatever ``--num_processes`` says. Use ``torchrun`` on such a
machine.
"""

import os
import tempfile
from pathlib import Path

from prmkit.data import make_arithmetic_solutions
from prmkit.models import PRMTrainer, PRMTrainingConfig

n_processes = int(os.environ.get("WORLD_SIZE", "1"))
data = make_arithmetic_solutions(60, 2, random_state=0)

# %%
# A small BERT with random weights.

with tempfile.TemporaryDirectory() as folder:
    args = PRMTrainingConfig(
        output_dir=folder,
        initialization="random",
        model_kwargs={"num_hidden_layers": 2, "hidden_size": 64, "num_attention_heads": 2, "intermediate_size": 128},
        learning_rate=1e-3,
        num_train_epochs=2,
        tokens_per_batch=256,
        gradient_accumulation_steps=max(1, 2 // n_processes),
        gradient_checkpointing=False,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        log_level="error",
    )
    trainer = PRMTrainer("all-MiniLM-L6-v2", args, train_dataset=data)
    trainer.train()
    # The first process writes.
    trainer.save_model()
    if trainer.is_world_process_zero():
        losses = [round(float(log["loss"]), 3) for log in trainer.state.log_history if "loss" in log]
        print(f"{args.world_size} process(es), {trainer.state.global_step} updates, losses {losses}")
        print("written:", ", ".join(sorted(path.name for path in Path(folder).iterdir())))
    # No process leaves while another still writes.
    trainer.accelerator.wait_for_everyone()
    trainer.accelerator.end_training()
