r"""A recommender by matrix factorisation, with an embedding for each user and item.

User u gives item i the rating :math:`r_{ui} = \mu + b_u + c_i + p_u \cdot q_i + \varepsilon`, with embeddings p and q
in few dimensions and noise of standard deviation :math:`\sigma`. From ratings of a small part of all pairs, mini-batch
by mini-batch, it learns what each would give to the others. Gradients of the rows of p and q that a batch touches are
added up where they belong; the other rows get zeros. Decoupled decay keeps embeddings small.

No package ships ratings, so these are simulated by the same formula: it shows how well the method finds what is there,
close to :math:`\sigma`, which no prediction can beat, not how people rate.
"""

import numpy as np

import gradstep as gs
from _shared import panels, run

USERS, ITEMS, RANK, RATINGS, SIGMA = 1000, 500, 4, 60_000, 0.5


def simulate(rng):
    """Return users, items and their ratings, for different pairs in random order."""
    b, c = 0.4 * rng.standard_normal(USERS), 0.5 * rng.standard_normal(ITEMS)
    p, q = 0.6 * rng.standard_normal((USERS, RANK)), 0.6 * rng.standard_normal((ITEMS, RANK))
    users, items = np.divmod(rng.choice(USERS * ITEMS, RATINGS, replace=False), ITEMS)
    noise = SIGMA * rng.standard_normal(RATINGS)
    return users, items, 3.5 + b[users] + c[items] + np.sum(p[users] * q[items], axis=1) + noise


def predict(params, users, items):
    products = np.sum(params["p"][users] * params["q"][items], axis=1)
    return params["mu"] + params["b"][users] + params["c"][items] + products


def loss_and_grads(params, users, items, ratings):
    error = (predict(params, users, items) - ratings) / len(ratings)
    grads = {name: np.zeros_like(array) for name, array in params.items()}
    grads["mu"] += error.sum()
    np.add.at(grads["b"], users, error)
    np.add.at(grads["c"], items, error)
    np.add.at(grads["p"], users, error[:, None] * params["q"][items])
    np.add.at(grads["q"], items, error[:, None] * params["p"][users])
    return 0.5 * len(ratings) * (error @ error), grads


def rmse(predicted, ratings):
    return np.sqrt(np.mean((predicted - ratings) ** 2))


def means(indices, values, n):
    return np.bincount(indices, values, n) / np.maximum(np.bincount(indices, minlength=n), 1)


def main():
    rng = np.random.default_rng(0)
    columns = simulate(rng)
    cut = RATINGS * 4 // 5
    train, (users, items, ratings) = [column[:cut] for column in columns], [column[cut:] for column in columns]
    mu = train[2].mean()
    of_user = means(train[0], train[2] - mu, USERS)
    of_item = means(train[1], train[2] - mu - of_user[train[0]], ITEMS)
    params = {"mu": np.array(mu), "b": np.zeros(USERS), "c": np.zeros(ITEMS)}
    params |= {"p": 0.1 * rng.standard_normal((USERS, RANK)), "q": 0.1 * rng.standard_normal((ITEMS, RANK))}
    batches = gs.data.minibatches(*train, batch_size=1000, epochs=25, seed=0)
    opt = gs.AdamW(params, lr=gs.schedules.cosine(0.03, steps=len(batches)), weight_decay=0.1)
    result = gs.fit(
        loss_and_grads, params, batches, opt, validate=lambda params: rmse(predict(params, users, items), ratings)
    )
    found = {
        "global mean": rmse(mu, ratings),
        "means of users and items": rmse(mu + of_user[users] + of_item[items], ratings),
        "matrix factorisation": result.history.validation[-1],
        "noise": SIGMA,
    }
    figure, (ax,) = panels(1)
    ax.plot(result.history.validation, label="matrix factorisation")
    for i, (name, value) in enumerate(found.items()):
        print(f"{name}: RMSE {value:.3f}")
        if name != "matrix factorisation":
            ax.axhline(value, linestyle="--", color=f"C{i + 1}", label=name)
    ax.set(xlabel="epoch", ylabel="RMSE of held-out ratings", ylim=0)
    ax.legend()
    return figure


if __name__ == "__main__":
    run(main)
