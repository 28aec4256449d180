from ._certified_prefix import CertifiedPrefixDisplay as CertifiedPrefixDisplay
from ._coverage import CoverageDisplay as CoverageDisplay
from ._first_error import FirstErrorDisplay as FirstErrorDisplay

__all__ = ["CertifiedPrefixDisplay", "CoverageDisplay", "FirstErrorDisplay"]
