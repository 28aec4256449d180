from ._coverage import CoverageDisplay as CoverageDisplay
from ._solutions import CertifiedPrefixDisplay as CertifiedPrefixDisplay, FirstErrorDisplay as FirstErrorDisplay

__all__ = ["CertifiedPrefixDisplay", "CoverageDisplay", "FirstErrorDisplay"]
