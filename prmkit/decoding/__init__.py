"""What a process reward model is for: generate, select, search, label by rollouts, and reward reinforcement learning.

A generator continues solutions (:class:`TransformersGenerator`, :class:`OpenAIGenerator`, :class:`VLLMGenerator`,
:class:`CallableGenerator`). A scorer, such as a fitted :class:`~prmkit.PRMClassifier`, says how good their steps are.
:func:`best_of_n`, :func:`beam_search` and their kin bring both together.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
