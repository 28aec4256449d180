from ._certified_prefix import CertifiedPrefixDisplay
from ._coverage import CoverageDisplay
from ._first_error import FirstErrorDisplay

__all__ = ["CertifiedPrefixDisplay", "CoverageDisplay", "FirstErrorDisplay"]
