from ._length import LengthShift as LengthShift
from ._mahalanobis import MahalanobisShift as MahalanobisShift
from ._neighbors import NeighborShift as NeighborShift

__all__ = ["LengthShift", "MahalanobisShift", "NeighborShift"]
