"""Steps to probabilities: the default model, torch heads on features, and fine-tuned language models."""

from prmkit.utils._lazy import lazy_names

__all__, __getattr__, __dir__ = lazy_names(
    __name__,
    {
        "prmkit.models._blend": ("StepBlend",),
        "prmkit.models._mlp": ("StepMLP",),
        "prmkit.models.losses": ("losses",),
        "prmkit.models.tokens._token_prm": ("TokenPRM",),
        "prmkit.models.trainer._trainer": ("PRMTrainer",),
        "prmkit.models.trainer._config": ("PRMTrainingConfig",),
        "prmkit.models._transformer": ("StepTransformer",),
    },
)
