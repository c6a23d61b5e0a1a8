"""Weight regularizers, as in keras.regularizers."""

from .layers.regularizers import *
