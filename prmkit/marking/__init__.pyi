from .records import TokenRecord
from .scheme import MarkingScheme

__all__ = ["MarkingScheme", "TokenRecord"]
