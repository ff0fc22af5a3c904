"""What pytest collects here: the micro-benchmarks, `pytest bench --benchmark-only`; the rest is run by hand."""

from pathlib import Path

collect_ignore = [path.name for path in Path(__file__).parent.iterdir() if path.name != "micro"]
