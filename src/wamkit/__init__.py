"""Robot policies that foresee: world action models and their neighbours as one library.

``import wamkit`` is cheap: the names below come from :mod:`wamkit.api` and are loaded when they are first used.
"""

import lazy_loader

__version__ = "0.1.0"
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
