"""One progress bar for a whole training run, in place of a line per log."""

from __future__ import annotations

from typing import Any

from tqdm import tqdm
from transformers import TrainerCallback


class TrainingBar(TrainerCallback):
    """A bar over the updates, with the loss beside it; on a terminal only, and only in the main process.

    Parameters
    ----------
    shown : bool, default=True
    delay : float, default=0
        Seconds that training must take before the bar appears.
    """

    def __init__(self, *, shown: bool = True, delay: float = 0) -> None:
        self._shown, self._delay = shown, delay

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Start where a resumed run goes on."""
        self._bar = tqdm(
            total=state.max_steps,
            initial=state.global_step,
            desc="training",
            unit="update",
            delay=self._delay,
            disable=None if self._shown and state.is_world_process_zero else True,
        )

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Count an update."""
        self._bar.update()

    def on_log(
        self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any
    ) -> None:
        """Show the loss."""
        if logs and "loss" in logs and not self._bar.disable:
            self._bar.set_postfix(loss=f"{float(logs['loss']):.4f}", refresh=False)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Leave the finished bar."""
        self._bar.close()
