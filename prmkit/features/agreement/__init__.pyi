from ._steps import AgreementFeatures as AgreementFeatures

__all__ = ["AgreementFeatures"]
