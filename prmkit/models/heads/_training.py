"""The networks of the torch heads, and their training: weighted cross entropy over the answered positions.

A network maps values (n, positions, features) to logits (n, positions, classes).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from tqdm.auto import tqdm

from prmkit.features.sequences import StepSequences

if TYPE_CHECKING:
    from transformers import DynamicCache


@dataclass(frozen=True, slots=True)
class TrainingPlan:
    """How long and how fast to train.

    ``batch_size`` counts positions. ``None`` makes one batch of everything. ``warmup`` is the share of the updates in
    which the learning rate rises, before it falls as a cosine does. Longer gradients are scaled down to ``max_norm``.
    Training stops after ``patience`` epochs without a better validation loss.
    """

    max_epochs: int
    batch_size: int | None
    learning_rate: float
    weight_decay: float
    warmup: float
    max_norm: float
    patience: int | None
    show_progress: bool


@dataclass(frozen=True, slots=True)
class FurtherTargets:
    """Class codes of an objective beside the labels, -1 where there is none, and the weight of its loss."""

    codes: np.ndarray
    n_classes: int
    weight: float


@dataclass(frozen=True, slots=True)
class Targets:
    """Class codes and weights of the rows, aligned with ``StepSequences.answers``, and the further objectives.

    The outputs of the module are those of the labels, and then those of each further objective.
    """

    codes: np.ndarray
    weights: np.ndarray
    further: tuple[FurtherTargets, ...] = ()

    def take(self, rows: np.ndarray) -> Targets:
        """Return those of the chosen rows."""
        further = tuple(replace(one, codes=one.codes[rows]) for one in self.further)
        return Targets(self.codes[rows], self.weights[rows], further)

    @property
    def says_nothing(self) -> bool:
        """Whether no row has a label that counts, or a further target."""
        return not self.weights.sum() > 0 and not any((one.codes >= 0).any() for one in self.further)


def train(
    module: torch.nn.Module,
    sequences: StepSequences,
    targets: Targets,
    plan: TrainingPlan,
    *,
    rng: np.random.RandomState,
    validation: tuple[StepSequences, Targets] | None = None,
) -> tuple[list[float], list[float]]:
    """Train a module in place, leave it with its best weights, and return the mean loss of each epoch on both parts.

    The module maps values (n_sequences, n_positions, n_features), padded on the right, to logits (n_sequences,
    n_positions, n_classes), on the device of its weights. ``rng`` orders the batches. Dropout draws from torch's
    generator, so fork that around this call. ``validation`` decides which epoch was best and when to stop. A loss
    that is not finite raises FloatingPointError.
    """
    optimizer = torch.optim.AdamW(module.parameters(), lr=plan.learning_rate, weight_decay=plan.weight_decay)
    n_updates = plan.max_epochs * sum(1 for _ in batches(sequences.lengths, plan.batch_size))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda update: _rate(update, n_updates, plan.warmup))
    losses: list[float] = []
    checks: list[float] = []
    best = None
    bar = tqdm(
        range(plan.max_epochs), desc="training", unit="epoch", delay=2, disable=None if plan.show_progress else True
    )
    for _ in bar:
        module.train()
        total = 0.0
        for chosen in batches(sequences.lengths, plan.batch_size, rng):
            part, rows = sequences.take(chosen)
            answer = targets.take(rows)
            if answer.says_nothing:
                continue
            steps, further = _losses(module, part, answer)
            # Batches of solutions without labels teach the further objectives alone.
            loss = (steps / answer.weights.sum() if answer.weights.sum() > 0 else steps) + further
            if not torch.isfinite(loss):
                raise FloatingPointError(f"the training loss is {loss.item()}: lower learning_rate, or look at X")
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(module.parameters(), plan.max_norm)
            optimizer.step()
            schedule.step()
            total += steps.item()
        losses.append(total / targets.weights.sum())
        bar.set_postfix(loss=f"{losses[-1]:.4f}")
        if validation is None:
            continue
        checks.append(_mean_loss(module, *validation, plan.batch_size))
        if best is None or checks[-1] < best[0]:
            best = checks[-1], len(checks), copy.deepcopy(module.state_dict())
        elif plan.patience is not None and len(checks) - best[1] >= plan.patience:
            break
    bar.close()
    if best is not None:
        module.load_state_dict(best[2])
    return losses, checks


def predict_logits(module: torch.nn.Module, sequences: StepSequences, batch_size: int | None) -> np.ndarray:
    """Return the logits of every row, of shape (n_rows, n_classes), one pass per sequence."""
    device = next(module.parameters()).device
    module.eval()
    out = None
    with torch.inference_mode():
        for chosen in batches(sequences.lengths, batch_size):
            part, rows = sequences.take(chosen)
            logits = module(_padded(part, device))[_where(part, device)].double().cpu().numpy()
            out = np.empty((len(sequences.answers), logits.shape[1])) if out is None else out
            out[rows] = logits
    assert out is not None
    return out


def batches(
    lengths: np.ndarray, batch_size: int | None, rng: np.random.RandomState | None = None
) -> Iterator[np.ndarray]:
    """Yield sequences of like length so that each batch, padding included, has at most ``batch_size`` positions.

    With ``rng`` equal lengths are shuffled among themselves and the batches come in random order.
    """
    order = np.arange(len(lengths)) if rng is None else rng.permutation(len(lengths))
    if batch_size is None:
        yield np.sort(order)
        return
    order = order[np.argsort(lengths[order], kind="stable")]
    groups = []
    start = 0
    for stop in range(1, len(order) + 1):
        # lengths rise, so the longest of the batch is the one that would come next
        if stop == len(order) or (stop + 1 - start) * lengths[order[stop]] > batch_size:
            groups.append(order[start:stop])
            start = stop
    for i in range(len(groups)) if rng is None else rng.permutation(len(groups)):
        yield groups[i]


def _rate(update: int, n_updates: int, warmup: float) -> float:
    rising = max(1, round(warmup * n_updates))
    if update < rising:
        return (update + 1) / rising
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (update - rising) / max(1, n_updates - rising))))


def _losses(module: torch.nn.Module, part: StepSequences, answer: Targets) -> tuple[torch.Tensor, torch.Tensor | float]:
    """Sum of the weighted losses of the rows, and the weighted sum of the mean losses of the further objectives."""
    device = next(module.parameters()).device
    logits = module(_padded(part, device))[_where(part, device)]
    start = logits.shape[1] - sum(one.n_classes for one in answer.further)
    loss = cross_entropy(logits[:, :start], torch.as_tensor(answer.codes, device=device), reduction="none")
    steps = (loss * torch.as_tensor(answer.weights, dtype=loss.dtype, device=device)).sum()
    further: torch.Tensor | float = 0.0
    for one in answer.further:
        if (one.codes >= 0).any():
            own = logits[:, start : start + one.n_classes]
            further = further + one.weight * cross_entropy(
                own, torch.as_tensor(one.codes, device=device), ignore_index=-1
            )
        start += one.n_classes
    return steps, further


def _mean_loss(module: torch.nn.Module, sequences: StepSequences, targets: Targets, batch_size: int | None) -> float:
    module.eval()
    total = 0.0
    with torch.inference_mode():
        for chosen in batches(sequences.lengths, batch_size):
            part, rows = sequences.take(chosen)
            total += float(_losses(module, part, targets.take(rows))[0])
    return total / float(targets.weights.sum())


def _padded(part: StepSequences, device: torch.device) -> torch.Tensor:
    starts, lengths = part.starts, part.lengths
    values = np.zeros((len(lengths), lengths.max(), part.values.shape[1]), dtype=part.values.dtype)
    owner = np.repeat(np.arange(len(lengths)), lengths)
    values[owner, np.arange(len(part.values)) - np.repeat(starts, lengths)] = part.values
    return torch.from_numpy(values).to(device)


def _where(part: StepSequences, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    owner = part.owners
    place = part.answers - part.starts[owner]
    return torch.from_numpy(owner).to(device), torch.from_numpy(place).to(device)


class ScaledModule(nn.Module):
    """A module that first brings each feature to zero mean and unit deviation."""

    def __init__(self, n_features: int):
        super().__init__()
        self.register_buffer("mean", torch.zeros(n_features))
        self.register_buffer("deviation", torch.ones(n_features))

    def scale_to(self, mean: np.ndarray, deviation: np.ndarray) -> None:
        """Set what is subtracted and divided by."""
        self.mean = torch.as_tensor(mean)
        self.deviation = torch.as_tensor(deviation)

    def scaled(self, values: torch.Tensor) -> torch.Tensor:
        """Return the standardised values."""
        return (values - self.mean) / self.deviation


class Perceptron(ScaledModule):
    """Each position by itself.

    The outputs of further objectives begin at zero. Nothing is drawn for them, so that the other weights begin as they
    would without them.
    """

    def __init__(self, n_features: int, n_classes: int, hidden_size: int, dropout: float, n_further: int = 0):
        super().__init__(n_features)
        if hidden_size == 0:
            self.layers: nn.Module = nn.Linear(n_features, n_classes)
        else:
            self.layers = nn.Sequential(
                nn.Linear(n_features, hidden_size), nn.GELU(), nn.Dropout(dropout), nn.Linear(hidden_size, n_classes)
            )
        self.further: nn.Module | None = None
        if n_further:
            self.further = nn.utils.skip_init(nn.Linear, hidden_size, n_further)  # type: ignore[no-untyped-call]
            for weights in self.further.parameters():
                nn.init.zeros_(weights)

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """Return the logits."""
        rows = self.scaled(values)
        if self.further is None:
            logits: torch.Tensor = self.layers(rows)
            return logits
        assert isinstance(self.layers, nn.Sequential)
        hidden = self.layers[:-1](rows)
        return torch.cat([self.layers[-1](hidden), self.further(hidden)], dim=-1)


class TokenProbe(ScaledModule):
    """Learned attention over the tokens of a step, and a perceptron.

    A token has ``n_features`` numbers, the last ``n_columns`` of which are those of its step, and then a mark: 1, or 0
    in padding.
    """

    def __init__(
        self,
        n_features: int,
        n_columns: int,
        n_classes: int,
        hidden_size: int,
        dropout: float,
        n_queries: int,
        n_further: int = 0,
    ):
        super().__init__(n_features)
        self.n_states = n_features - n_columns
        # Small, so that attention begins as the mean of the tokens. Equal queries would stay equal.
        self.queries = nn.Parameter(0.1 * torch.randn(n_queries, self.n_states))
        width = n_queries * self.n_states + n_columns
        self.classify = Perceptron(width, n_classes, hidden_size, dropout, n_further)

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """Return the logits of each step, at each of its tokens."""
        rows = self.scaled(values[..., :-1])
        states, columns = rows[..., : self.n_states], rows[:, 0, self.n_states :]
        scores = states @ self.queries.T / math.sqrt(self.n_states)
        weights = scores.masked_fill(values[..., -1:] == 0, -math.inf).softmax(dim=1)
        pooled = torch.einsum("ntq,nts->nqs", weights, states).flatten(1)
        logits: torch.Tensor = self.classify(torch.cat([pooled, columns], dim=1))
        return logits[:, None].expand(-1, values.shape[1], -1)


class Averaged(nn.Module):
    """The mean of the probabilities of several modules. The logits are the logarithms of that mean.

    ``sizes`` are the numbers of outputs of the labels and of each further objective, whose probabilities sum to one.
    """

    def __init__(self, members: list[nn.Module], n_columns: int, sizes: list[int]):
        super().__init__()
        self.sizes = sizes
        self.members = nn.ModuleList(members)
        self.register_buffer("n_columns", torch.tensor(n_columns))

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """Return the logits."""
        found = torch.stack([member(values) for member in self.members])
        parts = [part.log_softmax(dim=-1) for part in torch.split(found, self.sizes, dim=-1)]
        return torch.cat(parts, dim=-1).logsumexp(dim=0) - math.log(len(self.members))


class CausalEncoder(ScaledModule):
    """A BERT-family encoder over positions, each seeing itself and those before it."""

    def __init__(self, n_features: int, n_classes: int, backbone: Any, dropout: float):
        super().__init__(n_features)
        config = backbone.config
        self.project = nn.Identity() if n_features == config.hidden_size else nn.Linear(n_features, config.hidden_size)
        self.backbone = backbone
        self.dropout = nn.Dropout(dropout)
        self.classify = nn.Linear(config.hidden_size, n_classes)
        self.last_position = config.max_position_embeddings - 1

    def forward(self, values: torch.Tensor, cache: DynamicCache | None = None) -> torch.Tensor:
        """Return the logits. Padding stands on the right, where no causal position looks.

        A ``cache`` holds keys and values of earlier positions, and is extended.
        """
        embeds = self.project(self.scaled(values))
        n, start = embeds.shape[1], 0 if cache is None else cache.get_seq_length()
        # A solution longer than the positions the encoder knows keeps the last of them.
        place = torch.arange(start, start + n, device=embeds.device).clamp(max=self.last_position)
        hidden = self.backbone(
            inputs_embeds=embeds,
            attention_mask=self.attention_mask(values, start),
            position_ids=place.expand(len(embeds), n),
            **({} if cache is None else {"past_key_values": cache}),
        ).last_hidden_state
        logits: torch.Tensor = self.classify(self.dropout(hidden))
        return logits

    def attention_mask(self, values: torch.Tensor, start: int = 0) -> torch.Tensor:
        """Return what is added to the attention scores, of shape (n, 1, positions, start + positions)."""
        shape = values.shape[1], start + values.shape[1]
        never = torch.full(shape, torch.finfo(values.dtype).min, dtype=values.dtype, device=values.device)
        return never.triu(1 + start).expand(len(values), 1, *shape)
