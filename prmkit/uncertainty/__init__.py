"""Uncertainty of reasoning paths: calibrated probabilities, guarantees, and what to do with them.

From a fitted classifier onwards, on problems that it has not seen: :class:`CalibratedStepClassifier` mends its
probabilities, :class:`StepEnsemble` and :class:`MCDropout` say where models disagree, :func:`path_uncertainty` sums up
a path, :class:`PrefixCertifier` and its kin give guarantees, :class:`PathTriage` decides.
"""

from prmkit.utils._lazy import lazy_names

__all__, __getattr__, __dir__ = lazy_names(
    __name__,
    {
        "prmkit.metrics": (
            "ScoredSolution",
            "aggregate",
            "augrc",
            "aurc",
            "choose_aggregation",
            "credible_set",
            "decompose_uncertainty",
            "eaurc",
            "first_error_distribution",
            "p_no_error",
            "prr",
            "risk_at_coverage",
            "risk_coverage_curve",
            "score_solutions",
            "selective_report",
            "survival",
        ),
        "prmkit.uncertainty.calibration._calibrated": ("CalibratedStepClassifier",),
        "prmkit.uncertainty.calibration._path_calibrator": ("PathCalibrator",),
        "prmkit.uncertainty.ensembles._step_ensemble": ("StepEnsemble",),
        "prmkit.uncertainty.ensembles._mc_dropout": ("MCDropout",),
        "prmkit.uncertainty.guarantees._prefix_certifier": ("PrefixCertifier",),
        "prmkit.uncertainty.guarantees._error_detector": ("ErrorDetector",),
        "prmkit.uncertainty.guarantees._first_error_set": ("FirstErrorSet",),
        "prmkit.uncertainty.guarantees._step_sets": ("StepPredictionSets",),
        "prmkit.uncertainty.guarantees._triage": ("PathTriage",),
        "prmkit.uncertainty.shift._mahalanobis": ("MahalanobisShift",),
        "prmkit.uncertainty.shift._neighbors": ("NeighborShift",),
        "prmkit.uncertainty.shift._length": ("LengthShift",),
        "prmkit.uncertainty._path_uncertainty": ("PathUncertainty", "path_uncertainty"),
        "prmkit.uncertainty._bmuq": ("PRMUncertainty", "UncertaintyScore"),
        "prmkit.uncertainty.displays._certified_prefix": ("CertifiedPrefixDisplay",),
        "prmkit.uncertainty.displays._coverage": ("CoverageDisplay",),
        "prmkit.uncertainty.displays._first_error": ("FirstErrorDisplay",),
    },
)
