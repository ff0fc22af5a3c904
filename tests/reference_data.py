"""The specification of batches: random numbers, order of the rows, standardisation, augmentation, moments."""

import numpy as np

U32 = np.uint64(0xFFFFFFFF)
REPLACING, SHUFFLING, PLACING, NOISE = range(4)
ROUNDS = 24  # of the network that shuffles
CHUNK, BLOCK = 64, 1024  # rows whose moments are taken together, and then joined in turn


def philox(counter, seed):
    """Four words of 32 bits for a counter of four; each may be an array."""
    c = [np.asarray(x, np.uint64) for x in counter]
    k0, k1 = np.uint64(seed & 0xFFFFFFFF), np.uint64(seed >> 32)
    for _ in range(10):
        a, b = np.uint64(0xD2511F53) * c[0], np.uint64(0xCD9E8D57) * c[2]
        c = [(b >> np.uint64(32)) ^ c[1] ^ k0, b & U32, (a >> np.uint64(32)) ^ c[3] ^ k1, a & U32]
        k0, k1 = np.uint64((int(k0) + 0x9E3779B9) & 0xFFFFFFFF), np.uint64((int(k1) + 0xBB67AE85) & 0xFFFFFFFF)
    return c


def draw(use, position, epoch, seed, block=0):
    position = np.asarray(position, np.uint64)
    return philox((block, epoch * 4 + use, position & U32, position >> np.uint64(32)), seed)


def mixed(x):
    x = x ^ (x >> np.uint64(16))
    x = (x * np.uint64(0x85EBCA6B)) & U32
    x = x ^ (x >> np.uint64(13))
    x = (x * np.uint64(0xC2B2AE35)) & U32
    return x ^ (x >> np.uint64(16))


def permutation(n, epoch, seed):
    """A Feistel network on as many bits as n - 1 has, walked from each number until it lands below n."""
    bits = max(1, (n - 1).bit_length())
    high, low = bits // 2, bits - bits // 2
    keys = np.stack(draw(SHUFFLING, np.arange(ROUNDS // 4), epoch, seed), axis=1).ravel()
    x = np.arange(n, dtype=np.uint64)
    outside = np.ones(n, bool)
    while outside.any():
        left, right = x[outside] >> np.uint64(low), x[outside] & np.uint64((1 << low) - 1)
        for k in range(0, ROUNDS, 2):
            left = left ^ (mixed(right ^ keys[k]) & np.uint64((1 << high) - 1))
            right = right ^ (mixed(left ^ keys[k + 1]) & np.uint64((1 << low) - 1))
        x[outside] = left << np.uint64(low) | right
        outside = x >= n
    return x.astype(np.int64)


def with_replacement(n, count, epoch, seed):
    w = draw(REPLACING, np.arange(count), epoch, seed)
    return np.array([((int(a) << 32 | int(b)) * n) >> 64 for a, b in zip(w[0], w[1], strict=True)], np.int64)


def log(u):
    """The logarithm of numbers between 0 and 1, by operations that round alike everywhere."""
    bits = u.view(np.int64)
    exponent = (bits - 0x3FE8000000000000) >> 52  # so that what is left lies between 0.75 and 1.5
    m = (bits - (exponent << 52)).view(np.float64)
    s = (m - 1) / (m + 1)
    z = s * s
    series = np.zeros_like(z)
    for k in range(15, 0, -2):
        series = series * z + 2 / k
    return exponent * 0.6931471805599453 + s * series


def cos_and_sin(turns):
    """Those of an angle in turns, from 0 up to 1."""
    quarter = np.floor(turns * 4 + 0.5)
    x = (turns - quarter * 0.25) * 6.283185307179586
    z = x * x
    c, s = np.zeros_like(z), np.zeros_like(z)
    for k, f in ((12, 479001600.0), (10, -3628800.0), (8, 40320.0), (6, -720.0), (4, 24.0), (2, -2.0)):
        c, s = c * z + 1 / f, s * z + 1 / (f * (k + 1))
    c, s = c * z + 1, x * (s * z + 1)
    q = quarter.astype(np.int64) & 3
    return np.choose(q, [c, -s, -c, s]), np.choose(q, [s, c, -s, -c])


def normal(elements, position, epoch, seed):
    """Normally distributed numbers, by Box and Muller, of elements counted within their row."""
    elements = np.asarray(elements, np.uint64)
    w = draw(NOISE, position, epoch, seed, elements // np.uint64(4))
    second = elements % np.uint64(4) // np.uint64(2) == 1
    u, t = ((np.where(second, w[k + 2], w[k]) + 0.5) / 4294967296 for k in (0, 1))
    c, s = cos_and_sin(t)
    return np.sqrt(-2 * log(u)) * np.where(elements % np.uint64(2) == 1, s, c)


def standardised(x, mean, scale, dtype):
    """Numbers as (x - mean) / scale: in the result's dtype for floats of at most 32 bits, else in float64."""
    small = x.dtype.kind in "fV" and x.dtype.itemsize <= 4
    arithmetic = np.dtype(dtype if small else np.float64)
    mean, factor = np.asarray(mean, np.float64), 1 / np.asarray(scale, np.float64)
    high = mean.astype(arithmetic)
    low = (mean - high).astype(arithmetic)
    return (((x.astype(arithmetic) - high) - low) * factor.astype(arithmetic)).astype(dtype)
