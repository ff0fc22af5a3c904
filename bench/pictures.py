from __future__ import annotations
def draw(run, folder): return {}
