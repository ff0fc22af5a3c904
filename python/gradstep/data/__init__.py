"""Batches of data: drawn, gathered, standardised and augmented in one pass over memory.

Examples
--------
>>> import numpy as np
>>> import gradstep as gs
>>> X = np.arange(12.0).reshape(6, 2)
>>> [len(batch) for (batch,) in gs.data.minibatches(X, batch_size=4, seed=0)]
[4, 2]
"""

from gradstep.data.augment import Augment
from gradstep.data.batches import Minibatches, minibatches
from gradstep.data.standardizer import Standardizer

__all__ = ["Augment", "Minibatches", "Standardizer", "minibatches"]
