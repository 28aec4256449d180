from .scheme import MarkingScheme as MarkingScheme

__all__ = ["MarkingScheme"]
