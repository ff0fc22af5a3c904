"""Test problems of J. J. Moré, B. S. Garbow and K. E. Hillstrom, "Testing unconstrained optimization software",
ACM Transactions on Mathematical Software 7 (1981), 17-41: sums of squares of the residuals below."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

FAR = 1e-30  # the step into the complex plane: derivatives exact to the last bits


@dataclass(frozen=True)
class Problem:
    """Residuals of a complex vector, and where to begin."""

    name: str
    residuals: Any
    x0: Any

    @cached_property
    def start(self):
        return np.array(self.x0, float)

    def f(self, x):
        return np.real(np.atleast_1d(self.residuals(np.asarray(x, float))))

    def jac(self, x):
        columns = []
        for k in range(len(x)):
            z = np.array(x, complex)
            z[k] += FAR * 1j
            columns.append(np.imag(np.atleast_1d(self.residuals(z))) / FAR)
        return np.stack(columns, axis=1)

    def __call__(self, x):
        with np.errstate(over="ignore", invalid="ignore"):
            f = self.f(x)
            return float(f @ f), 2 * self.jac(x).T @ f


def each(*parts):
    return np.stack([np.asarray(part) + 0 * parts[0] for part in parts])


def helical(x):
    turn = np.arctan(x[1] / x[0]) / (2 * np.pi) + (0.5 if x[0].real < 0 else 0)
    return each(10 * (x[2] - 10 * turn), 10 * (np.sqrt(x[0] ** 2 + x[1] ** 2) - 1), x[2])


I15, I10, I13, I20 = (np.arange(1, n + 1) for n in (15, 10, 13, 20))
BARD = [0.14, 0.18, 0.22, 0.25, 0.29, 0.32, 0.35, 0.39, 0.37, 0.58, 0.73, 0.96, 1.34, 2.10, 4.39]
GAUSS = [0.0009, 0.0044, 0.0175, 0.0540, 0.1295, 0.2420, 0.3521]
GAUSS = np.array([*GAUSS, 0.3989, *GAUSS[::-1]])
MEYER = [34780, 28610, 23650, 19630, 16370, 13720, 11540, 9744, 8261, 7030, 6005, 5147, 4427, 3820, 3307, 2872]
KOWALIK_Y = np.array([0.1957, 0.1947, 0.1735, 0.1600, 0.0844, 0.0627, 0.0456, 0.0342, 0.0323, 0.0235, 0.0246])
KOWALIK_U = np.array([4, 2, 1, 0.5, 0.25, 0.167, 0.125, 0.1, 0.0833, 0.0714, 0.0625])


def biggs(x):
    t = 0.1 * I13
    y = np.exp(-t) - 5 * np.exp(-10 * t) + 3 * np.exp(-4 * t)
    return x[2] * np.exp(-t * x[0]) - x[3] * np.exp(-t * x[1]) + x[5] * np.exp(-t * x[4]) - y


def brown_dennis(x):
    t = I20 / 5
    return (x[0] + t * x[1] - np.exp(t)) ** 2 + (x[2] + x[3] * np.sin(t) - np.cos(t)) ** 2


def wood(x):
    a, b = np.sqrt(90), np.sqrt(10)
    return each(
        10 * (x[1] - x[0] ** 2),
        1 - x[0],
        a * (x[3] - x[2] ** 2),
        1 - x[2],
        b * (x[1] + x[3] - 2),
        (x[1] - x[3]) / b,
    )


def watson(x):
    t = np.arange(1, 30)[:, None] / 29
    j = np.arange(len(x))
    slope = (j[1:] * x[1:] * t ** (j[1:] - 1)).sum(axis=1)
    return np.concatenate([slope - (x * t**j).sum(axis=1) ** 2 - 1, [x[0], x[1] - x[0] ** 2 - 1]])


def extended_rosenbrock(x):
    return np.concatenate([10 * (x[1::2] - x[::2] ** 2), 1 - x[::2]])


def extended_powell(x):
    a, b, c, d = x[::4], x[1::4], x[2::4], x[3::4]
    return np.concatenate([a + 10 * b, np.sqrt(5) * (c - d), (b - 2 * c) ** 2, np.sqrt(10) * (a - d) ** 2])


def penalty_1(x):
    return np.concatenate([np.sqrt(1e-5) * (x - 1), [np.sum(x * x) - 0.25]])


def penalty_2(x):
    n, a = len(x), np.sqrt(1e-5)
    i = np.arange(2, n + 1)
    y = np.exp(i / 10) + np.exp((i - 1) / 10)
    first = a * (np.exp(x[1:] / 10) + np.exp(x[:-1] / 10) - y)
    second = a * (np.exp(x[1:] / 10) - np.exp(-0.1))
    return np.concatenate([[x[0] - 0.2], first, second, [np.sum((n - np.arange(n)) * x**2) - 1]])


def variably_dimensioned(x):
    total = np.sum(np.arange(1, len(x) + 1) * (x - 1))
    return np.concatenate([x - 1, [total, total**2]])


def trigonometric(x):
    n = len(x)
    i = np.arange(1, n + 1)
    return n - np.sum(np.cos(x)) + i * (1 - np.cos(x)) - np.sin(x)


def brown_almost_linear(x):
    f = x + np.sum(x) - (len(x) + 1)
    return np.concatenate([f[:-1], [np.prod(x) - 1]])


def grid(n):
    return np.arange(1, n + 1) / (n + 1)


def boundary_value(x):
    n = len(x)
    padded = np.concatenate([[0], x, [0]])
    return 2 * x - padded[:-2] - padded[2:] + (x + grid(n) + 1) ** 3 / (2 * (n + 1) ** 2)


def integral_equation(x):
    n = len(x)
    t = grid(n)
    cubes = (x + t + 1) ** 3
    below, above = np.cumsum(t * cubes), np.cumsum(((1 - t) * cubes)[::-1])[::-1]
    return x + ((1 - t) * below + t * np.concatenate([above[1:], [0]])) / (2 * (n + 1))


def broyden_tridiagonal(x):
    padded = np.concatenate([[0], x, [0]])
    return (3 - 2 * x) * x - padded[:-2] - 2 * padded[2:] + 1


def broyden_banded(x):
    n = len(x)
    near = np.array([[i != j and i - 5 <= j <= i + 1 for j in range(n)] for i in range(n)])
    return x * (2 + 5 * x**2) + 1 - near @ (x * (1 + x))


def linear_full_rank(x):
    m = 2 * len(x)
    return np.concatenate([x, np.zeros(m - len(x))]) - 2 / m * np.sum(x) - 1


def linear_rank_1(x):
    return np.arange(1, 2 * len(x) + 1) * np.sum(np.arange(1, len(x) + 1) * x) - 1


def chebyquad(x):
    n = len(x)
    before, now, found = np.ones_like(x), 2 * x - 1, []
    for i in range(1, n + 1):
        found.append(np.mean(now) + (1 / (i * i - 1) if i % 2 == 0 else 0))
        before, now = now, 2 * (2 * x - 1) * now - before
    return np.stack(found)


def t10(x):
    t = 0.1 * I10
    return np.exp(-t * x[0]) - np.exp(-t * x[1]) - x[2] * (np.exp(-t) - np.exp(-10 * t))


PROBLEMS = [
    Problem("rosenbrock", extended_rosenbrock, [-1.2, 1]),
    Problem(
        "freudenstein-roth",
        lambda x: each(-13 + x[0] + ((5 - x[1]) * x[1] - 2) * x[1], -29 + x[0] + ((x[1] + 1) * x[1] - 14) * x[1]),
        [0.5, -2],
    ),
    Problem(
        "powell badly scaled", lambda x: each(1e4 * x[0] * x[1] - 1, np.exp(-x[0]) + np.exp(-x[1]) - 1.0001), [0, 1]
    ),
    Problem("brown badly scaled", lambda x: each(x[0] - 1e6, x[1] - 2e-6, x[0] * x[1] - 2), [1, 1]),
    Problem("beale", lambda x: np.array([1.5, 2.25, 2.625]) - x[0] * (1 - x[1] ** np.arange(1, 4)), [1, 1]),
    Problem("jennrich-sampson", lambda x: 2 + 2 * I10 - (np.exp(I10 * x[0]) + np.exp(I10 * x[1])), [0.3, 0.4]),
    Problem("helical valley", helical, [-1, 0, 0]),
    Problem(
        "bard",
        lambda x: BARD - (x[0] + I15 / ((16 - I15) * x[1] + np.minimum(I15, 16 - I15) * x[2])),
        [1, 1, 1],
    ),
    Problem("gaussian", lambda x: x[0] * np.exp(-x[1] * ((8 - I15) / 2 - x[2]) ** 2 / 2) - GAUSS, [0.4, 1, 0]),
    Problem("box", t10, [0, 10, 20]),
    Problem("powell singular", extended_powell, [3, -1, 0, 1]),
    Problem("wood", wood, [-3, -1, -3, -1]),
    Problem(
        "kowalik-osborne",
        lambda x: KOWALIK_Y - x[0] * (KOWALIK_U**2 + KOWALIK_U * x[1]) / (KOWALIK_U**2 + KOWALIK_U * x[2] + x[3]),
        [0.25, 0.39, 0.415, 0.39],
    ),
    Problem("brown-dennis", brown_dennis, [25, 5, -5, -1]),
    Problem("biggs", biggs, [1, 2, 1, 1, 1, 1]),
    Problem("watson", watson, np.zeros(6)),
    Problem("extended rosenbrock", extended_rosenbrock, np.tile([-1.2, 1], 10)),
    Problem("extended powell singular", extended_powell, np.tile([3, -1, 0, 1], 5)),
    Problem("penalty I", penalty_1, np.arange(1, 11)),
    Problem("penalty II", penalty_2, np.full(10, 0.5)),
    Problem("variably dimensioned", variably_dimensioned, 1 - np.arange(1, 11) / 10),
    Problem("trigonometric", trigonometric, np.full(10, 0.1)),
    Problem("brown almost linear", brown_almost_linear, np.full(10, 0.5)),
    Problem("discrete boundary value", boundary_value, grid(10) * (grid(10) - 1)),
    Problem("discrete integral equation", integral_equation, grid(10) * (grid(10) - 1)),
    Problem("broyden tridiagonal", broyden_tridiagonal, -np.ones(10)),
    Problem("broyden banded", broyden_banded, -np.ones(10)),
    Problem("linear, full rank", linear_full_rank, np.ones(10)),
    Problem("linear, rank 1", linear_rank_1, np.ones(10)),
    Problem("chebyquad", chebyquad, grid(8)),
]
MEYERS = Problem(
    "meyer", lambda x: x[0] * np.exp(x[1] / (45 + 5 * np.arange(1, 17) + x[2])) - np.array(MEYER), [0.02, 4000, 250]
)
LOWEST = {  # as the paper gives them, where all methods end there
    "bard": 8.21487e-3,
    "gaussian": 1.12793e-8,
    "kowalik-osborne": 3.07505e-4,
    "brown-dennis": 85822.2,
    "jennrich-sampson": 124.362,
    "watson": 2.28767e-3,
    "penalty I": 7.08765e-5,
    "linear, full rank": 10.0,
    "chebyquad": 3.51687e-3,
    "rosenbrock": 0.0,
    "wood": 0.0,
    "helical valley": 0.0,
    "powell singular": 0.0,
}
