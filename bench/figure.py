"""A figure that was measured, and what it must reach."""

from __future__ import annotations

from typing import NamedTuple

MUST = {
    "ceiling": ("at least", 0.90),
    "numpy AdamW": ("at least", 8.0),
    "numpy state": ("at least", 3.0),
    "numpy stateless": ("at least", 1.5),
    "fused": ("at most", 0.08),
    "small": ("at most", 2.0),
    "step": ("at most", 1.3),
    "matmul": ("at most", 1.1),
    "iteration 256": ("at most", 0.95),
    "iteration 1024": ("at most", 0.80),
    "clipping": ("at most", 1.22),
    "clipping torch": ("at most", 0.9),
    "storage": ("at least", 0.80),
    "averaging": ("at most", 1.15),
    "clipping many": ("at most", 0.08),
    "lbfgs scipy": ("at most", 0.125),
    "lbfgs torch": ("at most", 0.7),
    "lbfgs memory": ("at most", 1.35),
    "lbfgs single": ("at most", 0.55),
    "lbfgs 10000": ("at most", 0.334),
    "lbfgs 10": ("at most", 1.5),
    "mlp time": ("at most", 0.9),
    "mlp accuracy": ("at least", -0.01),
}


class Figure(NamedTuple):
    """What was measured, and the key in `MUST` of what it must reach; none where it only compares."""

    what: str
    value: float
    key: str = ""

    @property
    def reached(self) -> bool:
        """Whether the bound holds; a comparison has none."""
        sense, must = MUST.get(self.key, ("", 0.0))
        return not sense or (self.value >= must if sense == "at least" else self.value <= must)

    @property
    def row(self) -> str:
        """A line of the table."""
        sense, must = MUST.get(self.key, ("", 0.0))
        verdict = f"{sense} {must:g} | {'yes' if self.reached else 'NO'}" if sense else " | "
        return f"| {self.what} | {self.value:.3g} | {verdict} |"
