"""Template of a loss of token-level models.

In your own package: import this file. Then ``TokenPRM(loss="hinge")``, ``PRMTrainingConfig(loss="hinge")`` and
``get_loss("hinge")`` know it.

Inside prmkit:

1. copy this file to ``prmkit/models/losses/``, name it in the list of imports that registers losses, and export the
   function in ``prmkit/models/losses/__init__.pyi``;
2. write its test in ``tests/models/losses/``.

The command line and the error messages read the registry.
"""

from __future__ import annotations

import torch
from torch import Tensor

from prmkit.models.losses import register_loss


# CHANGE: the name and what the loss reads:
#   reads="classes"     one logit per class and step, labels are class codes with 0 the worst;
#   reads="reward"      one number per step, labels are 1 (right) and 0 (wrong);
#   reads="vocabulary"  the logits of the whole vocabulary.
# averaging="micro" averages over steps, "macro" over solutions and their steps, "solution" over solutions.
@register_loss("hinge", reads="reward", averaging="micro")
def hinge_loss(rewards: Tensor, labels: Tensor, *, margin: float = 1.0) -> Tensor:
    """Punish a reward on the wrong side of a margin.

    The function returns the **sum** over steps. prmkit divides it by the number of steps of a whole update, over all
    batches and devices.

    Parameters
    ----------
    rewards : Tensor of shape (n_solutions, n_steps)
        One number per step, higher is better.
    labels : Tensor of shape (n_solutions, n_steps)
        1 is right and 0 is wrong. -100 marks a position without a label: it must not count.
    margin : float, default=1.0
        Distance from 0 that a reward must reach.

    Returns
    -------
    Tensor
        The sum, a scalar.
    """
    # CHANGE: the formula. Keep the sum finite, also where nothing has a label.
    valid = labels != -100
    signs = torch.where(labels == 1, 1.0, -1.0)
    return torch.where(valid, (margin - signs * rewards).clamp(min=0), 0.0).sum()
