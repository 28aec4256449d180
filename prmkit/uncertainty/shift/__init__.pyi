from ._length import LengthShift
from ._mahalanobis import MahalanobisShift
from ._neighbors import NeighborShift

__all__ = ["LengthShift", "MahalanobisShift", "NeighborShift"]
