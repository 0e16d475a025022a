"""Names for programs: every verb of the command line as a function, with its config.

The names are listed in ``api.pyi`` and loaded when they are first used.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub("wamkit", __file__)
