"""What the parity tests share: Keras computes with JAX, which compiles quickly rather than well."""

import os
import sys
from pathlib import Path

# Read when keras and jax are imported. Nearly all of the time goes into XLA's compilations, one for each new shape.
os.environ.setdefault("KERAS_BACKEND", "jax")
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")

sys.path.insert(0, str(Path(__file__).parent))  # for driver.py
