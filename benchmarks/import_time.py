"""Time of ``import tenzoo`` against ``import numpy``: ``python -m benchmarks.import_time``.

Every import runs in a fresh process, the candidates in turn, so that a busy moment hits all alike. The exit
status is 1 if tenzoo, with all of its public names, costs more than ``LIMIT`` seconds over numpy.
"""

import statistics
import subprocess
import sys
import time

REPEATS = 9
LIMIT = 0.25  # seconds over a bare `import numpy`

CANDIDATES = {
    "nothing": "pass",
    "numpy": "import numpy",
    "tenzoo": "import tenzoo",
    "tenzoo, every public name": "import tenzoo\nfor name in tenzoo.__all__: getattr(tenzoo, name)",
}


def seconds(code: str) -> float:
    """Wall time of a fresh Python process that runs ``code``."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True)
    return time.perf_counter() - start


def measure() -> dict[str, float]:
    """Median seconds of each candidate, after one round that warms the file cache."""
    rounds = [{name: seconds(code) for name, code in CANDIDATES.items()} for _ in range(REPEATS + 1)]
    return {name: statistics.median(times[name] for times in rounds[1:]) for name in CANDIDATES}


def main() -> int:
    medians = measure()
    for name, value in medians.items():
        print(f"{name:<26} {value:6.3f} s   {value - medians['numpy']:+.3f} s against numpy")
    return int(medians["tenzoo, every public name"] - medians["numpy"] > LIMIT)


if __name__ == "__main__":
    sys.exit(main())
