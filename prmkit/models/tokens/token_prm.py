"""TokenPRM: a fine-tuned BERT or language model as a scikit-learn classifier of steps."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, replace
from functools import partial
from numbers import Integral, Real
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted

from prmkit.data.dataset import StepDataset
from prmkit.data.growing import Growing, InContext, Then
from prmkit.data.labels import check_labels, declared_order
from prmkit.data.problem_keys import problem_keys
from prmkit.data.solution import Solution, Step, as_steps, iter_solutions, only_solutions
from prmkit.marking.scheme import SCHEMES, MarkingScheme
from prmkit.models.heads.head import most_probable
from prmkit.models.tokens.probabilities import ProbabilityMap, as_rewards, calibration_split
from prmkit.utils.sklearn import Interval, ReadsSteps, StrOptions, distinct_classes, fit_context, random_generator

if TYPE_CHECKING:
    import torch

    from prmkit.models.tokens.scoring_pass import TokenScorer

# The outputs of these losses are log-odds, which need no calibration.
_LOG_ODDS = ("bce", "mse", "soft_cross_entropy")
_FEWEST_TOKENS_IN_USE = 8192


class TokenPRM(ReadsSteps, ClassifierMixin, BaseEstimator):
    """Fine-tune an encoder or a language model to score all steps in one pass.

    Encoders are those of the BERT family. Language models are decoder-only.

    Parameters
    ----------
    model : str or path, default="all-MiniLM-L6-v2"
        Local folder or hub name of a transformers model. The default is read from the ``offline`` extra.
    scheme : {"separator", "special_token", "reward_tokens", "prefix"} or MarkingScheme, default="separator"
        How steps are marked and where their scores are read. A :class:`~prmkit.marking.MarkingScheme` says it in full,
        such as ``MarkingScheme("separator", step="Step {number}: {step}")``, and replaces ``step_separator``,
        ``reward_tokens`` and ``max_prompt_length``. ``"separator"``: a classifier at the end of each step.
        ``"special_token"``: the same at a token that is added to the vocabulary. ``"reward_tokens"``: a language
        model's logits of ``reward_tokens``. ``"prefix"``: a sequence classifier with one row per step, for
        models whose attention cannot be kept from looking ahead. They cost n passes for n steps. Decoder-only models
        compute the common beginnings of the rows once, which costs one pass.
    step_separator : str or None, default=None
        Text that closes a step. If None, a line break, or the tokenizer's own separator if it drops white space.
    reward_tokens : list of str or None, default=None
        One token per class, worst first. If None, "-" and "+", or "-", "0" and "+".
    loss : str, default="cross_entropy"
        Name of a loss that :func:`prmkit.models.losses.get_loss` knows: "cross_entropy", "reward_token",
        "soft_cross_entropy", "bce", "mse", "orm", "rank", "theory_rank" or "ablate_rank". A hyphen may stand for an
        underscore.
    loss_options : dict or None, default=None
        Options of the loss, such as ``{"class_weight": [2.0, 1.0, 1.0]}`` (worst first) or ``{"zeta": 2.0}``.
    outcome_weight : float, default=0.0
        Weight of a further loss: whether the final answer is right, which ``Solution.meta["final_answer_correct"]``
        says, read at the last step by a head of its own.
    extra_targets : dict or None, default=None
        Weights of further targets of steps: ``{"error_type": 0.2}`` learns the list ``Solution.meta["error_type"]``.
    neutral : {"positive", "negative", "drop"}, default="positive"
        How a neutral step counts in a loss that knows only right and wrong.
    label_order : sequence or None, default=None
        Labels from worst to best. It is needed if the labels do not tell their order.
    initialization : {"pretrained", "random"}, default="pretrained"
        Whether the model keeps its weights. ``"random"`` needs a configuration and a tokenizer only.
    model_kwargs : dict or None, default=None
        Fields of the model's configuration to change, such as ``{"num_hidden_layers": 2}``. ``dtype`` and
        ``attn_implementation`` say how its weights are loaded.
    max_length : int or None, default=None
        Most tokens of a solution. If None, as many as the model has positions for.
    max_prompt_length : int or None, default=None
        Most tokens of the problem. A longer problem loses its beginning, in training and in use.
    too_long : {"drop", "nan", "raise"}, default="drop"
        Treatment of a solution that is longer. ``"drop"``: its last steps are left out of training with a warning that
        counts them, and asking for their scores is an error. ``"nan"``: the same, but their probabilities are NaN,
        as are those of an empty step where a layout reads a step at its own tokens. ``"raise"``: an error in ``fit``
        too.
    num_train_epochs : float, default=3
        Number of passes over the training data.
    learning_rate : float, default=1e-4
        Largest learning rate.
    weight_decay : float, default=0.01
        Strength of the decay that AdamW applies to the weights.
    warmup_steps : float, default=0.1
        Number of updates in which the learning rate rises, or their share if less than 1. Then it falls linearly to
        zero.
    tokens_per_batch : int, default=2048
        Tokens per update, padding included. Solutions of similar length go together.
    validation_fraction : float, default=0.2
        Share of the problems that are held out to calibrate the probabilities. Only a loss without probabilities of
        its own (ranking, outcome) needs it.
    device : str or None, default=None
        Where to compute. If None, on a GPU if there is one. Weights rest on the CPU.
    dtype : {"float32", "bfloat16"} or None, default=None
        Precision of training. If None, bfloat16 if the hardware computes in it. Scores are computed in float32.
    show_progress : bool, default=True
        Whether to show progress bars.
    random_state : int, RandomState or None, default=None
        Seed of the new weights and of the order of the data.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Labels of the columns of ``predict_proba``, sorted.
    scheme_ : MarkingScheme
        The marking scheme in use.
    loss_curve_ : list of float
        Loss of each logged update.
    objectives_ : dict
        Classes of the further objectives by name, such as ``{"outcome": (False, True)}``.
    probability_map_ : ProbabilityMap
        How outputs become probabilities.
    scorer_ : TokenScorer
        The fine-tuned model, its tokenizer, and how its scores are read.

    See Also
    --------
    PRMTrainer : checkpoints, adapters, several devices.

    Notes
    -----
    Encoders attend block-causally: a token sees the problem and the steps up to its own. So one pass answers all
    steps and none looks ahead. Rewards of the ranking losses are no probabilities. A multinomial logistic regression
    on the reward turns them into probabilities (Platt, 1999). It is fitted on problems that the model did not learn.

    Solutions of one call that begin alike, such as the candidates of a problem, share the computation of what they have
    in common, where the model allows it: language models whose attention transformers can exchange, and the BERT and
    RoBERTa families by whole steps. A trial on random tokens finds out, once per model. Scores change by rounding only.
    A row longer than a model's window of attention, or one that begins like no other, is computed by itself.

    A pickle holds the weights.

    Examples
    --------
    >>> from prmkit.data import make_arithmetic_solutions
    >>> X, y = make_arithmetic_solutions(4, 1, random_state=0)
    >>> tiny = {"num_hidden_layers": 1, "hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 64}
    >>> head = TokenPRM(initialization="random", model_kwargs=tiny, num_train_epochs=1, random_state=0).fit(X, y)
    >>> head.predict_proba(X[:2]).shape
    (2, 3)
    """

    learns = True

    _parameter_constraints: Mapping[str, list[Any]] = {
        "model": [str, Path],
        "scheme": [StrOptions(set(SCHEMES)), MarkingScheme],
        "step_separator": [str, None],
        "reward_tokens": ["array-like", None],
        "loss": [str],
        "loss_options": [dict, None],
        "outcome_weight": [Interval(Real, 0, None, closed="left")],
        "extra_targets": [dict, None],
        "neutral": [StrOptions({"positive", "negative", "drop"})],
        "label_order": ["array-like", None],
        "initialization": [StrOptions({"pretrained", "random"})],
        "model_kwargs": [dict, None],
        "max_length": [Interval(Integral, 1, None, closed="left"), None],
        "max_prompt_length": [Interval(Integral, 1, None, closed="left"), None],
        "too_long": [StrOptions({"drop", "nan", "raise"})],
        "num_train_epochs": [Interval(Real, 0, None, closed="neither")],
        "learning_rate": [Interval(Real, 0, None, closed="neither")],
        "weight_decay": [Interval(Real, 0, None, closed="left")],
        "warmup_steps": [Interval(Real, 0, None, closed="left")],
        "tokens_per_batch": [Interval(Integral, 1, None, closed="left")],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
        "device": [str, None],
        "dtype": [StrOptions({"float32", "bfloat16"}), None],
        "show_progress": ["boolean"],
        "random_state": ["random_state"],
    }
    classes_: npt.NDArray[Any]
    scorer_: TokenScorer
    probability_map_: ProbabilityMap
    loss_curve_: list[float]

    def __init__(
        self,
        model: str | Path = "all-MiniLM-L6-v2",
        *,
        scheme: Literal["separator", "special_token", "reward_tokens", "prefix"] | MarkingScheme = "separator",
        step_separator: str | None = None,
        reward_tokens: Sequence[str] | None = None,
        loss: str = "cross_entropy",
        loss_options: dict[str, object] | None = None,
        outcome_weight: float = 0.0,
        extra_targets: dict[str, float] | None = None,
        neutral: Literal["positive", "negative", "drop"] = "positive",
        label_order: Sequence[object] | None = None,
        initialization: Literal["pretrained", "random"] = "pretrained",
        model_kwargs: dict[str, object] | None = None,
        max_length: int | None = None,
        max_prompt_length: int | None = None,
        too_long: Literal["drop", "nan", "raise"] = "drop",
        num_train_epochs: float = 3,
        learning_rate: float = 1e-4,
        weight_decay: float = 0.01,
        warmup_steps: float = 0.1,
        tokens_per_batch: int = 2048,
        validation_fraction: float = 0.2,
        device: str | None = None,
        dtype: Literal["float32", "bfloat16"] | None = None,
        show_progress: bool = True,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.model = model
        self.scheme = scheme
        self.step_separator = step_separator
        self.reward_tokens = reward_tokens
        self.loss = loss
        self.loss_options = loss_options
        self.outcome_weight = outcome_weight
        self.extra_targets = extra_targets
        self.neutral = neutral
        self.label_order = label_order
        self.initialization = initialization
        self.model_kwargs = model_kwargs
        self.max_length = max_length
        self.max_prompt_length = max_prompt_length
        self.too_long = too_long
        self.num_train_epochs = num_train_epochs
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.warmup_steps = warmup_steps
        self.tokens_per_batch = tokens_per_batch
        self.validation_fraction = validation_fraction
        self.device = device
        self.dtype = dtype
        self.show_progress = show_progress
        self.random_state = random_state

    @fit_context
    def fit(self, X: Iterable[Step | str], y: npt.ArrayLike, *, unlabelled: Iterable[Solution] = ()) -> TokenPRM:
        """Fine-tune the model on labelled steps.

        Parameters
        ----------
        X : 1-D array-like of Step or str
            Steps to learn from.
        y : array-like of shape (n_steps,)
            Label of each step.
        unlabelled : iterable of Solution, default=()
            Solutions without labelled steps, of which the outcome or extra targets are learnt.

        Returns
        -------
        TokenPRM
            The fitted head.

        Raises
        ------
        ValueError
            If labels, loss and scheme do not fit together, no step fits, or an objective has nothing to learn from.
        """
        steps = as_steps(X)
        declared = declared_order(y, self.label_order)
        labels = check_labels(y, len(steps), declared)
        classes = distinct_classes(labels)
        from prmkit.models.trainer._targets import worst_first

        order = worst_first(classes.tolist(), declared, self._loss)
        others = only_solutions(unlabelled)
        if others and not (self.outcome_weight or self.extra_targets):
            raise ValueError(f"unlabelled holds {len(others)} solutions: set outcome_weight or extra_targets too")
        scorer, probability_map, loss_curve = self._fine_tune(steps, labels, order, others)
        columns = tuple(order.index(label) for label in classes.tolist())
        return self.restore(scorer, replace(probability_map, columns=columns), classes, loss_curve)

    def predict_proba(self, X: Iterable[Step | str]) -> npt.NDArray[np.float64]:
        """Return the probability of each class, for each step.

        Parameters
        ----------
        X : 1-D array-like of Step or str
            Steps to score.

        Returns
        -------
        ndarray of shape (n_steps, n_classes)
            Columns in the order of ``classes_``. Rows are NaN for steps that do not fit, with ``too_long="nan"``.

        Raises
        ------
        ValueError
            If a step does not fit into the model, unless ``too_long="nan"``. Also if the model overflows, as some do in
            float16, whatever ``too_long`` is.
        """
        check_is_fitted(self)
        return self.probability_map_(self._outputs(X))

    def reward(self, X: Iterable[Step | str]) -> npt.NDArray[np.floating[Any]]:
        """Return the raw output of the model, which grows with how right a step is.

        Parameters
        ----------
        X : 1-D array-like of Step or str
            Steps to score.

        Returns
        -------
        ndarray of shape (n_steps,)
            The reward that the model was trained on, or the log-odds of the best class to the worst.
        """
        check_is_fitted(self)
        return as_rewards(self._outputs(X))

    def predict_objective(self, X: Iterable[Step | str], name: str = "outcome") -> npt.NDArray[np.float64]:
        """Return the probability of each class of a further objective, read at each step.

        Parameters
        ----------
        X : 1-D array-like of Step or str
            Steps to read at. An outcome was learnt at last steps. At an earlier step it is a forecast.
        name : str, default="outcome"
            Name of the objective: "outcome", or a key of ``extra_targets``.

        Returns
        -------
        ndarray of shape (n_steps, n_classes)
            Columns in the order of ``objectives_[name]``. For an outcome the second one is P(final answer right).
        """
        check_is_fitted(self)
        if name not in self.objectives_:
            raise ValueError(
                f"the model has no objective {name!r}, expected one of {list(self.objectives_)}: fit it with "
                "outcome_weight or extra_targets"
            )
        return ProbabilityMap("softmax")(self._outputs(X, name))

    def predict(self, X: Iterable[Step | str]) -> npt.NDArray[Any]:
        """Return the most probable class of each step.

        Parameters
        ----------
        X : 1-D array-like of Step or str
            Steps to score.

        Returns
        -------
        ndarray of shape (n_steps,)
            A label per step.
        """
        proba = self.predict_proba(X)
        return most_probable(self.classes_, proba)

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | Path,
        layout: str | MarkingScheme | None = None,
        *,
        classes: Sequence[object] | None = None,
        dtype: str | torch.dtype | None = None,
        **options: Any,
    ) -> TokenPRM:
        """Take an existing process reward model as it is, fitted.

        Parameters
        ----------
        name_or_path : str or path
            Local folder or hub name of a model that :class:`PRMTrainer` saved, or of a published one.
        layout : str, MarkingScheme or None, default=None
            How the published model writes a solution: "trl", "math-shepherd", "rlhflow", "qwen2.5-math-prm", "pqm",
            "skywork" or "reasoneval". For another model a :class:`~prmkit.marking.MarkingScheme` says it. If None, the
            folder's ``prmkit.json`` says it.
        classes : sequence or None, default=None
            Labels for the outputs, worst first. If None, the model's own. A classifier whose outputs are named in its
            configuration is read by these names, in whatever order they stand.
        dtype : str, torch.dtype or None, default=None
            Precision of the weights. If None, that of the checkpoint, for an adapter that of its training.
        **options : dict
            Parameters of this class, such as ``max_length``, ``too_long`` and ``device``.

        Returns
        -------
        TokenPRM
            The head, ready to score.

        See Also
        --------
        prmkit.PRMClassifier.from_pretrained : the same as a classifier that scores solutions.
        """
        from prmkit.models.pretrained.loading import load_existing

        if "scheme" in options:
            raise TypeError(
                "from_pretrained has no option scheme: the model's files say how steps are marked. Pass layout= for a "
                "model in a published layout"
            )
        if unknown := sorted(set(options) - (set(cls._get_param_names()) - {"model", "label_order"})):
            raise TypeError(
                f"from_pretrained has no option {', '.join(unknown)}: expected dtype, or a parameter of "
                f"{cls.__name__} such as max_length, too_long, device"
            )
        # Options are checked before gigabytes are read.
        cls(**options)._validate_params()
        existing = load_existing(name_or_path, layout, dtype, options, classes)
        probability_map = ProbabilityMap.uncalibrated(existing.scorer.readout.reads)
        order = existing.check_classes(classes)
        params = existing.parameters()
        # Settings of the marking stand in the scheme by now.
        params |= {
            key: value for key, value in options.items() if value is not None and not hasattr(MarkingScheme, key)
        }
        head = cls(str(name_or_path), **{**params, "label_order": list(order)})
        sorted_classes = np.unique(np.array(order))
        columns = tuple(order.index(label) for label in sorted_classes.tolist())
        return head.restore(existing.scorer, replace(probability_map, columns=columns), sorted_classes)

    def restore(
        self,
        scorer: TokenScorer,
        probability_map: ProbabilityMap,
        classes: npt.NDArray[Any],
        loss_curve: Sequence[float] = (),
    ) -> TokenPRM:
        """Become fitted with a model that was trained before.

        Parameters
        ----------
        scorer : TokenScorer
            The model, its tokenizer, and how its scores are read.
        probability_map : ProbabilityMap
            How outputs become probabilities, with a column per class.
        classes : ndarray of shape (n_classes,)
            Labels of the columns, sorted.
        loss_curve : sequence of float, default=()
            Losses of its training.

        Returns
        -------
        TokenPRM
            This head, fitted.
        """
        self.scorer_ = scorer
        self.probability_map_ = probability_map
        self.classes_ = classes
        self.loss_curve_ = list(loss_curve)
        return self

    def grow(self, problem: str, featurizer: object = None) -> Growing:
        """Return a solution of a problem that grows: the way of :class:`~prmkit.scoring.IncrementalScorer`.

        Parameters
        ----------
        problem : str
            Text of the problem.
        featurizer : object, default=None
            Ignored: the head reads the text itself.

        Returns
        -------
        Growing
            Its ``extend(steps)`` returns the probabilities of the new steps, and reads their tokens alone if the model
            can keep keys and values.
        """
        from prmkit.models.tokens.incremental_pass import GrowingTokens, can_grow

        check_is_fitted(self)
        if not can_grow(self.scorer_, self.device):
            return InContext(self.predict_proba, problem)
        tokens = GrowingTokens(self.scorer_, problem, too_long=self.too_long, device=self.device)
        return Then(tokens, self.probability_map_)

    @property
    def _loss(self) -> str:
        """The name of the loss as the registry has it."""
        return self.loss.replace("-", "_")

    @property
    def scheme_(self) -> MarkingScheme:
        """The marking scheme in use."""
        check_is_fitted(self)
        return self.scorer_.scheme

    @property
    def objectives_(self) -> dict[str, tuple[Any, ...]]:
        """Classes of the further objectives by name."""
        check_is_fitted(self)
        return {name: tuple(classes) for name, classes in self.scorer_.objectives.items()}

    @property
    def module_(self) -> torch.nn.Module:
        """The torch module that scores, as other torch heads have it."""
        check_is_fitted(self)
        return self.scorer_.model

    def _outputs(self, X: Iterable[Step | str], objective: str | None = None) -> npt.NDArray[np.float32]:
        """Return the outputs of the model for the steps or an objective, with a warning for steps that do not fit."""
        from prmkit.models.tokens.scoring_pass import warn_of_unscored

        steps = as_steps(X)
        outputs = (self.scorer_.outputs if objective is None else partial(self.scorer_.objective, objective))(
            steps,
            too_long=self.too_long,
            tokens_per_batch=max(self.tokens_per_batch, _FEWEST_TOKENS_IN_USE),
            device=self.device,
            show_progress=self.show_progress,
        )
        warn_of_unscored(steps, outputs, stacklevel=4)
        return outputs

    def _fine_tune(
        self, steps: list[Step], y: npt.NDArray[Any], order: tuple[Any, ...], others: list[Solution]
    ) -> tuple[TokenScorer, ProbabilityMap, list[float]]:
        """Fine-tune, and find out how outputs become probabilities of the classes, worst first."""
        from prmkit.models.trainer._targets import TargetPlan

        rng = random_generator(self.random_state)
        y = np.asarray(y)
        codes, n_classes = np.array([order.index(label) for label in y.tolist()]), len(order)
        plan = TargetPlan(order, self._loss, self.loss_options or {}, self.neutral)
        needs_calibration = plan.is_binary and (n_classes > 2 or self._loss not in _LOG_ODDS)
        learn = judged = np.arange(len(steps))
        if needs_calibration:
            learn, judged = calibration_split(steps, codes, self.validation_fraction, rng)
            # Nothing is learnt of a problem that was held out.
            held_out = set(problem_keys(steps[i] for i in judged)) - set(problem_keys(steps[i] for i in learn))
            others = [one for one, key in zip(others, problem_keys(others), strict=True) if key not in held_out]
        others = [*(solution for solution, _, _ in iter_solutions([steps[i] for i in learn])), *others]
        seed = int(rng.randint(2**31 - 1))
        scorer, losses = self._train(StepDataset([steps[i] for i in learn], y[learn], solutions=others), order, seed)
        if not needs_calibration:
            return scorer, ProbabilityMap.uncalibrated(scorer.readout.reads), losses
        rewards = as_rewards(
            scorer.outputs(
                [steps[i] for i in judged],
                too_long="nan",
                tokens_per_batch=self.tokens_per_batch,
                device=self.device,
                show_progress=False,
            )
        )
        fits = ~np.isnan(rewards)
        return scorer, ProbabilityMap.calibrated(rewards[fits], codes[judged][fits], n_classes), losses

    def _train(self, data: StepDataset, order: tuple[Any, ...], seed: int) -> tuple[TokenScorer, list[float]]:
        """Run the trainer in a temporary folder, and return its model and the logged losses."""
        from transformers import PrinterCallback

        from prmkit.features.passes.model_files import load_tokenizer
        from prmkit.models.tokens.scoring_pass import TokenScorer
        from prmkit.models.trainer._config import PRMTrainingConfig
        from prmkit.models.trainer._trainer import PRMTrainer
        from prmkit.models.trainer.progress import TrainingBar
        from prmkit.utils.environment import best_device, fast_bfloat16, kept_generators, quiet_mapping

        place = self.device or best_device()
        # Parameters that the trainer has too have the same meanings there.
        shared = self.get_params(deep=False).keys() & {setting.name for setting in fields(PRMTrainingConfig)}
        with tempfile.TemporaryDirectory() as folder, kept_generators():
            settings = {name: getattr(self, name) for name in shared} | {
                "output_dir": folder,
                "reward_tokens": None if self.reward_tokens is None else list(self.reward_tokens),
                "label_order": list(order),
                "too_long": "raise" if self.too_long == "raise" else "drop",
                "gradient_checkpointing": False,
                "use_cpu": place == "cpu",
                "bf16": self.dtype == "bfloat16" or (self.dtype is None and fast_bfloat16(place)),
                "logging_steps": 1,
                "save_strategy": "no",
                "report_to": "none",
                "disable_tqdm": True,
                "seed": seed,
            }
            tokenizer = load_tokenizer(self.model)
            with quiet_mapping():
                trainer = PRMTrainer(
                    self.model,
                    PRMTrainingConfig(**settings),
                    train_dataset=data,
                    processing_class=tokenizer,
                    callbacks=[TrainingBar(shown=self.show_progress, delay=2)],
                )
            trainer.remove_callback(PrinterCallback)
            trainer.train()
            # Scores are computed in float32, so autocast is taken off the model.
            model = trainer.accelerator.unwrap_model(trainer.model, keep_fp32_wrapper=False)
            model.cpu().eval()
            losses = [log["loss"] for log in trainer.state.log_history if "loss" in log]
        scorer = TokenScorer(
            model=model,
            tokenizer=tokenizer,
            scheme=trainer.scheme,
            readout=trainer.readout.for_scoring(),
            max_length=trainer.max_tokens,
            classes=trainer.targets.output_classes,
            objectives={one.name: one.classes for one in trainer.objectives},
        )
        return scorer, losses
