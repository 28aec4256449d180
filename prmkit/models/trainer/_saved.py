"""The guarantee that a saved model is the trained one, as a check for any run."""

from __future__ import annotations

from collections.abc import Sequence
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from prmkit.data.solution import Solution, flatten
from prmkit.models.tokens.token_prm import TokenPRM

if TYPE_CHECKING:
    from prmkit.models.trainer._trainer import PRMTrainer


def check_saved_equals_trained(trainer: PRMTrainer, solutions: Sequence[Solution], *, atol: float = 1e-4) -> None:
    """Check that a model which is saved and read back gives the scores of the trainer that holds it.

    The model is saved to a temporary folder and read back twice, so that a layer which is drawn at random on reading is
    found, whatever model, scheme and adapter it comes from.

    Parameters
    ----------
    trainer : PRMTrainer
        Trainer whose model is checked, before or after training.
    solutions : list of Solution
        Solutions to score. They must fit into the model.
    atol : float, default=1e-4
        Largest difference of a probability. Scores in half precision need a larger one.

    Raises
    ------
    AssertionError
        If the scores differ. The message names the difference and the step.

    Examples
    --------
    >>> from tempfile import mkdtemp
    >>> from prmkit.data import make_arithmetic_solutions
    >>> from prmkit.models import PRMTrainer, PRMTrainingConfig
    >>> data = make_arithmetic_solutions(4, 1, random_state=0)
    >>> args = PRMTrainingConfig(output_dir=mkdtemp(), max_steps=1, save_strategy="no", disable_tqdm=True)
    >>> trainer = PRMTrainer("all-MiniLM-L6-v2", args, train_dataset=data)
    >>> check_saved_equals_trained(trainer, data.solutions)
    """
    steps = flatten(solutions)
    label: Any = 0.5 if trainer.classes is None else trainer.classes[0]
    rows = [{"prompt": s.problem, "completions": list(s.steps), "labels": [label] * s.n_steps} for s in solutions]
    predicted = trainer.predict(rows)  # type: ignore[arg-type]
    labels: Any = predicted.label_ids
    trained = _probabilities(np.asarray(predicted.predictions)[labels != -100])
    if len(trained) != len(steps):
        raise ValueError(
            f"{len(trained)} of {len(steps)} steps fit into the model, expected all: leave out long solutions"
        )
    read: list[np.ndarray] = []
    with TemporaryDirectory() as folder:
        trainer.save_model(folder)
        for _ in range(2):
            head = TokenPRM.from_pretrained(folder, show_progress=False)
            outputs = head.scorer_.outputs(
                steps, too_long="drop", tokens_per_batch=head.tokens_per_batch, device=None, show_progress=False
            )
            read.append(_probabilities(outputs))
    for what, scores, others in (
        ("read back otherwise than it was trained", trained, read[0]),
        ("read back in two ways", read[0], read[1]),
    ):
        difference = np.abs(scores - others).max(axis=1)
        worst = int(difference.argmax())
        assert difference[worst] <= atol, (
            f"the model is {what}: step {steps[worst].index} ({steps[worst].text!r:.60}) differs by "
            f"{difference[worst]:.2g}, allowed {atol:g}"
        )


def _probabilities(outputs: np.ndarray) -> np.ndarray:
    """Return a probability per class for logits, and the sigmoid of rewards."""
    values = torch.from_numpy(np.asarray(outputs, dtype=np.float64))
    return (values.sigmoid()[:, None] if values.ndim == 1 else values.softmax(-1)).numpy()
