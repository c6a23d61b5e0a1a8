"""``python -m tenzoo``: the same as the ``tenzoo`` command."""

import sys

from .recipes.cli import main

if __name__ == "__main__":
    sys.exit(main())
