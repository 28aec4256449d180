"""Process reward models with scikit-learn's manners.

A process reward model (PRM) reads a problem and a solution step by step. It says of each step whether the step is
negative, neutral or positive.

======================  ====================================================================
``prmkit.data``         ``Solution``, ``Step``, loaders, splits by problem, an offline generator
``prmkit.marking``      solutions as marked tokens
``prmkit.features``     features of steps: embeddings, statistics, words
``prmkit.models``       heads on features, fine-tuned language models, their trainer and losses
``PRMClassifier``       ``fit``, ``predict_proba``, ``score_solutions``, ``save``
``prmkit.saving``       fitted models as folders
``prmkit.metrics``      reports on steps with their baselines, scores of whole solutions
``prmkit.scoring``      solutions scored by a fitted classifier
``prmkit.uncertainty``  calibration, ensembles, guarantees, decisions about solutions
``prmkit.decoding``     generators, searches, labels by rollouts, rewards for reinforcement learning
``prmkit.evaluation``   models on benchmarks, beside baselines, as one report
``prmkit.cli``          the ``prmkit`` command
======================  ====================================================================
"""

import lazy_loader

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
