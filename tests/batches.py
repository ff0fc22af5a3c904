"""Batches that know their position, with the interface of gradstep.data.minibatches."""

import numpy as np


class Batches:
    """Rows in batches, shuffled afresh each epoch by (seed, epoch)."""

    def __init__(self, *arrays, batch_size, epochs, seed=0):
        self.arrays, self.batch_size, self.epochs, self.seed = arrays, batch_size, epochs, seed
        self.size = len(arrays[0])
        self.batches_per_epoch = -(-self.size // batch_size)
        self.epoch = self.batch = 0

    def __len__(self):
        return self.epochs * self.batches_per_epoch

    def __iter__(self):
        return self

    def __next__(self):
        if self.epoch == self.epochs:
            raise StopIteration
        order = np.random.default_rng([self.seed, self.epoch]).permutation(self.size)
        rows = order[self.batch * self.batch_size :][: self.batch_size]
        self.batch += 1
        if self.batch == self.batches_per_epoch:
            self.epoch, self.batch = self.epoch + 1, 0
        return tuple(a[rows] for a in self.arrays)

    def state_dict(self):
        return {"epoch": self.epoch, "batch": self.batch, "seed": self.seed, "size": self.size}

    def load_state_dict(self, saved):
        if set(saved) != set(self.state_dict()) or (saved["seed"], saved["size"]) != (self.seed, self.size):
            raise ValueError("saved: expected the position in these batches")
        self.epoch, self.batch = saved["epoch"], saved["batch"]
