"""Which head and which featurizer go together in a classifier, when one or both are left to it."""

from __future__ import annotations

from typing import Any

from sklearn.base import clone

from prmkit.features import PRMFeaturizer
from prmkit.models._blend import StepBlend
from prmkit.models.tokens._token_prm import TokenPRM


def make_head(featurizer: Any, head: Any, label_order: Any) -> Any:
    """Return an unfitted head; None where it can only be made when the rows are known."""
    if head is not None:
        made = clone(head)
        if isinstance(made, TokenPRM) and made.label_order is None:
            made.set_params(label_order=label_order)
        return made
    if isinstance(featurizer, PRMFeaturizer) and featurizer.kind == "embeddings":
        return StepBlend(clone(featurizer))
    if not isinstance(featurizer, str):
        return None
    return {"embeddings": StepBlend, "tokens": lambda: TokenPRM(label_order=label_order)}.get(
        featurizer, lambda: None
    )()


def make_featurizer(featurizer: Any, head: Any) -> Any:
    """Return an unfitted featurizer; None where X is numeric or the head reads the steps itself.

    Raises
    ------
    ValueError
        If tokens are paired with a head that does not read them, or the other way round.
    """
    if getattr(featurizer, "kind", None) == "tokens":
        raise ValueError(
            "TokenPRM marks its tokens itself: pass featurizer='tokens' and set it up on the head"
        )
    by_name = featurizer if isinstance(featurizer, str) else None
    if isinstance(head, TokenPRM) != (by_name == "tokens"):
        raise ValueError("featurizer='tokens' and head=TokenPRM(…) go together, and with nothing else")
    if by_name == "precomputed" or isinstance(head, (StepBlend, TokenPRM)):
        return None
    if by_name == "embeddings":
        return PRMFeaturizer(context="none" if getattr(head, "reads_sequences", False) else "prefix")
    return clone(featurizer)
