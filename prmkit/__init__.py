"""Process reward models with scikit-learn's manners.

A process reward model (PRM) reads a problem and a solution step by step and says of each step:
negative, neutral or positive.

======================  ====================================================================
``prmkit.data``         ``Solution``, ``Step``, loaders, splits by problem, an offline generator
``prmkit.features``     steps -> numbers: embeddings, statistics, words, tokens; the cache
``prmkit.models``       numbers -> probabilities: torch heads and the default model
``PRMClassifier``       the front door: ``fit``, ``predict_proba``, ``score_solutions``
``prmkit.metrics``      step reports with their baselines; scores of a reasoning path
``prmkit.uncertainty``  calibration, ensembles, guarantees, decisions about paths
``prmkit.evaluation``   models on benchmarks, beside baselines, as one report
``prmkit.cli``          the ``prmkit`` command
======================  ====================================================================
"""

import lazy_loader

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
