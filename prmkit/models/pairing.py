"""Which featurizer and which head go together: the unfitted parts of a classifier, and what contradicts itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias

from sklearn.base import clone
from sklearn.feature_extraction.text import CountVectorizer, HashingVectorizer
from sklearn.pipeline import Pipeline

from prmkit.features import PRMFeaturizer
from prmkit.models.heads.blend import StepBlend
from prmkit.models.heads.head import Classifier, Featurizer, Label, featurizer_for
from prmkit.models.heads.members import MODEL_VIEWS, VIEW_OF, members_for, view_of
from prmkit.models.tokens.token_prm import TokenPRM

FeaturizerLike: TypeAlias = "Literal['embeddings', 'tokens', 'precomputed'] | Featurizer"
Views: TypeAlias = "Literal['auto'] | Sequence[str]"


def unfitted_parts(
    featurizer: FeaturizerLike, head: Classifier | None, label_order: Sequence[Label] | None, views: Views = "auto"
) -> tuple[Featurizer | None, Classifier | None]:
    """Return copies of featurizer and head that fit together, not fitted.

    The featurizer is ``None`` if X is numeric or the head reads the steps itself. The head is ``None`` for logistic
    regression, which is made when the rows are known. A ``TokenPRM`` without a label order gets ``label_order``.
    TypeError says that a featurizer reads texts in place of steps. ValueError says that a featurizer was given to a
    head that reads text, or tokens to a head that does not, or views to a head that has none.
    """
    first = featurizer.steps[0][1] if isinstance(featurizer, Pipeline) else featurizer
    if isinstance(first, (CountVectorizer, HashingVectorizer)):
        raise TypeError(
            f"{type(first).__name__} reads texts, and X holds steps: pass StepWords(), which makes word features of a "
            "step and its context"
        )
    by_name = featurizer if isinstance(featurizer, str) else None
    given = None if isinstance(featurizer, str) else featurizer
    marks_tokens = isinstance(featurizer, PRMFeaturizer) and featurizer.kind == "tokens"
    if not marks_tokens and by_name in (None, "embeddings"):
        if isinstance(head, StepBlend):
            return None, _blend_head(given, head, views)
        if head is None and _is_view(given):
            return None, _blend_head(given, None, views)
    if not isinstance(views, str):
        raise ValueError(
            f"views is {list(views)}, which the default head reads, and here featurizer is {_named(featurizer)} and "
            f"head {_named(head)}: leave views out, or pass head=StepBlend()"
        )
    if isinstance(head, TokenPRM) or (head is None and (by_name == "tokens" or marks_tokens)):
        return None, _token_head(featurizer, head, label_order)
    if by_name == "tokens" or marks_tokens:
        raise ValueError(
            f"tokens are read by TokenPRM alone, and head is {type(head).__name__}: pass head=TokenPRM(…), or "
            f"featurizer='embeddings' for {type(head).__name__}"
        )
    if by_name == "precomputed":
        return None, None if head is None else clone(head)
    if head is None:
        return clone(given), None
    return featurizer_for(head, given), clone(head)


def _is_view(featurizer: Featurizer | None) -> bool:
    """Whether the default head makes a view of a featurizer. Any other one has a logistic regression by itself."""
    if not isinstance(featurizer, PRMFeaturizer):
        return featurizer is None
    if getattr(featurizer, "pooling", None) == "tokens":
        raise ValueError(
            "pooling='tokens' gives the tokens of a step, which StepProbe reads, and the default head reads a row per "
            "step: pass head=StepProbe(), or another pooling"
        )
    return featurizer.kind in MODEL_VIEWS


def _named(part: object) -> str:
    return repr(part) if part is None or isinstance(part, str) else type(part).__name__


def _blend_head(featurizer: Featurizer | None, head: StepBlend | None, views: Views) -> StepBlend:
    """Return an unfitted ``StepBlend`` that has the given featurizer and the members that read the views."""
    blend = StepBlend() if head is None else clone(head)
    if featurizer is not None:
        # The same one twice is no contradiction.
        if blend.featurizer is not None and repr(blend.featurizer) != repr(featurizer):
            raise ValueError(
                f"featurizer is {type(featurizer).__name__}, and StepBlend has a {type(blend.featurizer).__name__} of "
                "its own: pass one of them"
            )
        blend.set_params(featurizer=clone(featurizer))
    if isinstance(views, str):
        return blend
    known = ["statistics", "words", view_of(blend.featurizer)]
    if not len(views) or set(views) - set(known) or len(set(views)) < len(views):
        raise ValueError(
            f"views is {list(views)}, expected some of {known}, each once"
            + ("" if "states" in known else "; 'states' needs featurizer=PRMFeaturizer(kind='states', model=…)")
        )
    if blend.featurizer is not None and known[-1] not in views:
        raise ValueError(
            f"views is {list(views)}, without {known[-1]!r}, which the featurizer {type(blend.featurizer).__name__} "
            "makes: leave the featurizer out, or add the view"
        )
    members = tuple(name for view in views for name in members_for(blend.featurizer) if VIEW_OF[name] == view)
    if not isinstance(blend.members, str) and set(blend.members) != set(members):
        raise ValueError(
            f"views is {list(views)}, and StepBlend has the members {list(blend.members)}: pass one of them"
        )
    blend.set_params(members=members)
    return blend


def _token_head(featurizer: FeaturizerLike, head: TokenPRM | None, label_order: Sequence[Label] | None) -> TokenPRM:
    """Return an unfitted ``TokenPRM``, with the settings of a featurizer that marks tokens."""
    token_head = TokenPRM() if head is None else clone(head)
    if token_head.label_order is None:
        token_head.set_params(label_order=label_order)
    # "embeddings" is the default, so most probably nobody has asked for it.
    if isinstance(featurizer, str) and featurizer in ("tokens", "embeddings"):
        return token_head
    if not isinstance(featurizer, PRMFeaturizer) or featurizer.kind != "tokens":
        name = featurizer if isinstance(featurizer, str) else type(featurizer).__name__
        raise ValueError(
            f"TokenPRM reads the text of the steps itself, and featurizer is {name}: leave featurizer out, "
            "PRMClassifier(head=TokenPRM(…)), or choose another head"
        )
    plain_featurizer, plain_head = PRMFeaturizer().get_params(), TokenPRM().get_params()
    for name in sorted(plain_featurizer.keys() & plain_head.keys()):
        value, own = getattr(featurizer, name), getattr(token_head, name)
        if value == plain_featurizer[name] or value == own:
            continue
        if own != plain_head[name]:
            raise ValueError(
                f"{name} is {value!r} in the featurizer and {own!r} in TokenPRM: set it in one of them, "
                f"PRMClassifier(head=TokenPRM({name}={own!r}))"
            )
        token_head.set_params(**{name: value})
    return token_head
