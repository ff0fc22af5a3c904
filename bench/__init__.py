"""The bench suite: `python -m bench`."""

from pathlib import Path

ROOT = Path(__file__).parents[1]
