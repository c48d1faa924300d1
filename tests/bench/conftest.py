"""The benchmarks are no installed package: they are found where the checkout is."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[2]))
