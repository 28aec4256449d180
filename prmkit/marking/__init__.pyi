from .records import TokenRecord as TokenRecord
from .scheme import MarkingScheme as MarkingScheme

__all__ = ["MarkingScheme", "TokenRecord"]
