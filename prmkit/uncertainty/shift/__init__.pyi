from ._detectors import LengthShift as LengthShift, MahalanobisShift as MahalanobisShift

__all__ = ["LengthShift", "MahalanobisShift"]
