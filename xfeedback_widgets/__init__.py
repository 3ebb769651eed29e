"""Look at what an image classifier attends to, say where it is wrong, and watch it correct itself.

Everything a user needs is re-exported here; ``import xfeedback_widgets as xf`` is the only import in
the documentation. Nothing heavy happens at import time: widgets, Captum and matplotlib load on first use.
"""

__version__ = "0.1.0"
