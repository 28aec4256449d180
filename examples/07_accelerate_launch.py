"""The same training on one process or on many. Offline, seconds; a small BERT with random weights.

    python 07_accelerate_launch.py
    accelerate launch 07_accelerate_launch.py                 # on all GPUs of the machine
    torchrun --nproc_per_node 2 07_accelerate_launch.py       # on GPUs, or on cores where there are none

Losses are averaged over the targets of a whole update, whichever process holds them: with the same batches in an
update, here two of 256 tokens, the curve is the same on one process and on two. The command line needs no script:

    accelerate launch -m prmkit.cli train --model MODEL --data FILE --output FOLDER

("accelerate launch --cpu" starts one process, whatever --num_processes says: take torchrun there.)
"""

import os
import tempfile
from pathlib import Path

from prmkit.data import make_arithmetic_solutions
from prmkit.models import PRMTrainer, PRMTrainingConfig

n_processes = int(os.environ.get("WORLD_SIZE", "1"))
data = make_arithmetic_solutions(60, 2, random_state=0)

with tempfile.TemporaryDirectory() as folder:
    args = PRMTrainingConfig(
        output_dir=folder,
        initialization="random",
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
    small = {"num_hidden_layers": 2, "hidden_size": 64, "num_attention_heads": 2, "intermediate_size": 128}
    trainer = PRMTrainer("all-MiniLM-L6-v2", args, train_dataset=data, model_options=small)
    trainer.train()
    trainer.save_model()  # the first process writes
    if trainer.is_world_process_zero():
        losses = [round(float(log["loss"]), 3) for log in trainer.state.log_history if "loss" in log]
        print(f"{args.world_size} process(es), {trainer.state.global_step} updates, losses {losses}")
        print("written:", ", ".join(sorted(path.name for path in Path(folder).iterdir())))
    trainer.accelerator.wait_for_everyone()  # no process leaves while another still writes
    trainer.accelerator.end_training()
