"""What holds for every test: no window opens, and properties are tried on the same examples each time."""

import os

from hypothesis import settings

os.environ.setdefault("MPLBACKEND", "Agg")

# The first example of a property may import or compile something, so there is no deadline.
settings.register_profile("tenzoo", deadline=None, derandomize=True)
settings.load_profile("tenzoo")
