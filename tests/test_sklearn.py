"""The estimators: scikit-learn's contract, its gradients and its results."""

import copy
import inspect
import pickle
import threading
import warnings
from functools import partial

import numpy as np
import pytest

import gradstep as gs
from script import run

pytest.importorskip("sklearn", reason="scikit-learn is not installed", minversion="1.6")

from scipy import sparse
from sklearn import linear_model, neural_network
from sklearn.base import clone
from sklearn.datasets import (
    load_digits,
    load_iris,
    make_classification,
    make_multilabel_classification,
    make_regression,
)
from sklearn.exceptions import ConvergenceWarning, DataConversionWarning, NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

from gradstep.sklearn import LogisticRegression, MLPClassifier, MLPRegressor
from gradstep.sklearn.network import Network

ESTIMATORS = [
    LogisticRegression(),
    LogisticRegression("adam", lr=0.05),
    MLPClassifier(),
    MLPClassifier(optimizer=partial(gs.AdamW, weight_decay=0.1)),
    MLPClassifier(schedule="cosine"),
    MLPClassifier(8, "tanh", optimizer="l-bfgs", alpha=10.0, tol=1e-9, max_iter=1000),
    MLPRegressor(),
    MLPRegressor(optimizer="l-bfgs"),
]
FIRST_ORDER = [LogisticRegression("adam", max_iter=5), MLPClassifier(8, max_iter=5), MLPRegressor(8, max_iter=5)]
ACTIVATIONS = ["identity", "logistic", "tanh", "relu"]
unconverged = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def told(model):
    """What plateaus have come to, by the name of the hyperparameter."""
    return {name: facts["value"] for (_, name, _), (_, facts) in model._memory.plateaus.items()}


def names(model):
    return str(model) if hasattr(model, "fit") else None


@pytest.fixture
def iris():
    X, y = load_iris(return_X_y=True)
    return StandardScaler().fit_transform(X), y


def problem(kind, dtype="f8"):
    """Return theirs, ours, and data."""
    if kind == "regression":
        X, y = make_regression(90, 7, n_targets=3, random_state=0)
        return neural_network.MLPRegressor, MLPRegressor, X.astype(dtype), y / y.std()
    if kind == "multilabel":
        X, y = make_multilabel_classification(90, 7, n_classes=4, random_state=0)
    else:
        X, y = make_classification(90, 7, n_informative=5, n_classes={"two": 2, "four": 4}[kind], random_state=0)
    return neural_network.MLPClassifier, MLPClassifier, X.astype(dtype), y


KINDS = ["regression", "multilabel", "two", "four"]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("model", ESTIMATORS, ids=names)
def test_scikit_learn_finds_nothing_wrong(model):
    check_estimator(model)


def fit_quietly(model, *data, **more):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(*data, **more)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_scikit_learns(kind, activation, weighted, rng):
    theirs, _, X, y = problem(kind)
    model = fit_quietly(
        theirs(hidden_layer_sizes=(6, 5), activation=activation, alpha=0.3, max_iter=2, random_state=0), X, y
    )
    targets = y if kind == "regression" else model._label_binarizer.transform(y).astype(float)
    weight = rng.uniform(0, 2, len(y)) if weighted else None
    total = weight.sum() if weighted else len(y)
    layers = [X, None, None, None]
    grads = [[np.empty_like(a) for a in arrays] for arrays in (model.coefs_, model.intercepts_)]
    more = (weight,) if "sample_weight" in neural_network.MLPClassifier._backprop.__code__.co_varnames else ()
    if weighted and not more:
        pytest.skip("this scikit-learn has no weights")
    loss, coef_grads, intercept_grads = model._backprop(X, targets, *more, layers, [None] * 3, *grads)
    network = Network([7, 6, 5, targets.shape[1]], activation, model.out_activation_, X.dtype)
    for a, b in zip(network.params, [*model.coefs_, *model.intercepts_], strict=True):
        a[...] = b
    ours = network.loss_and_grads(X, targets, weight, total, 0.3 / total)
    assert ours == pytest.approx(loss, abs=1e-10)
    for a, b in zip(network.param_grads, [*coef_grads, *intercept_grads], strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-10)


@unconverged
@pytest.mark.parametrize(("dtype", "within"), [("f8", 1e-11), ("f4", 1e-3)])
@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_sgd_is_scikit_learns(kind, shuffle, dtype, within):
    theirs, ours, X, y = problem(kind, dtype)
    same = {"hidden_layer_sizes": (9, 6), "batch_size": 32, "max_iter": 3, "shuffle": shuffle, "random_state": 3}
    a = theirs(**same, solver="sgd", momentum=0.9, nesterovs_momentum=False, learning_rate_init=0.02).fit(X, y)
    b = ours(**same, optimizer=partial(gs.Momentum, momentum=0.9), lr=0.02).fit(X, y)
    for mine, known in zip([*b.coefs_, *b.intercepts_], [*a.coefs_, *a.intercepts_], strict=True):
        assert mine.dtype == dtype
        np.testing.assert_allclose(mine, known, rtol=within, atol=within)
    np.testing.assert_allclose(b.loss_curve_, a.loss_curve_, rtol=within)
    for name in ("n_iter_", "t_", "n_layers_", "n_outputs_", "out_activation_", "n_features_in_"):
        assert getattr(a, name) == getattr(b, name), name
    np.testing.assert_allclose(b.predict(X), a.predict(X), rtol=within, atol=within)
    if kind != "regression":
        np.testing.assert_allclose(b.predict_proba(X), a.predict_proba(X), rtol=within, atol=within)
        assert b.score(X, y) == a.score(X, y)


@unconverged
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_early_stopping_is_scikit_learns(kind, weighted, rng):
    theirs, ours, X, y = problem(kind)
    if weighted and "sample_weight" not in inspect.signature(theirs.fit).parameters:
        pytest.skip("this scikit-learn has no weights")
    weight = {"sample_weight": rng.uniform(0, 2, len(y))} if weighted else {}
    same = {"hidden_layer_sizes": 9, "max_iter": 40, "early_stopping": True, "random_state": 0, "n_iter_no_change": 3}
    plain = {"solver": "sgd", "momentum": 0.0, "learning_rate_init": 0.1}
    a = theirs(**same, **plain).fit(X, y, **weight)
    b = ours(**same, optimizer="gd", lr=0.1).fit(X, y, **weight)
    np.testing.assert_allclose(b.validation_scores_, a.validation_scores_)
    assert (b.n_iter_, b.best_loss_, b.best_validation_score_) == (a.n_iter_, None, max(b.validation_scores_))
    np.testing.assert_allclose(b.coefs_[0], a.coefs_[0])


@unconverged
@pytest.mark.parametrize("weighted", [False, True])
def test_early_stopping_of_logistic_regression_is_training_on_a_part(iris, weighted, rng):
    X, y = iris
    given = [X, y, rng.uniform(0, 2, len(y))] if weighted else [X, y]
    model = LogisticRegression("gd", lr=0.3, shuffle=False, tol=0.0, random_state=0)
    stopped = clone(model).set_params(early_stopping=True, validation_fraction=0.3, max_iter=9).fit(*given)
    parts = train_test_split(*given, random_state=np.random.RandomState(0), test_size=0.3)
    train, held = parts[::2], parts[1::2]
    each = [clone(model).set_params(max_iter=k).fit(*train) for k in range(1, 10)]
    scores = [one.score(*held) for one in each]
    assert len(set(scores)) > 1
    np.testing.assert_allclose(stopped.validation_scores_, scores)
    assert (stopped.best_validation_score_, stopped.best_loss_) == (max(stopped.validation_scores_), None)
    np.testing.assert_allclose(stopped.coef_, each[np.argmax(scores)].coef_)
    assert clone(stopped).set_params(n_iter_no_change=2, tol=0.1, max_iter=99).fit(*given).n_iter_ < 99
    with pytest.raises(ValueError, match="early_stopping: expected False for partial_fit"):
        stopped.partial_fit(*given)


def test_a_fit_ends_with_convergence():
    X, y = problem("two")[2:]
    model = MLPClassifier(random_state=0, lr=0.01, tol=1e-3, n_iter_no_change=5).fit(X, y)
    assert 6 < model.n_iter_ < 200
    assert model.best_loss_ == min(model.loss_curve_)
    with pytest.warns(ConvergenceWarning, match="max_iter=3"):
        MLPClassifier(max_iter=3).fit(X, y)
    with pytest.warns(ConvergenceWarning, match="l-bfgs"):
        LogisticRegression(max_iter=1).fit(X, y)


@pytest.mark.filterwarnings("ignore:.*iprint:DeprecationWarning")  # an older scikit-learn with a newer SciPy
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("more", [{}, {"fit_intercept": False}, {"class_weight": "balanced"}, {"C": 0.01}], ids=str)
@pytest.mark.parametrize("classes", [2, 3])
def test_logistic_regression_is_scikit_learns(iris, classes, more, weighted, rng):
    X, y = iris
    X, y = X[30 : 50 * classes], y[30 : 50 * classes]
    if more.get("class_weight"):
        more = {"class_weight": {k: len(y) / (classes * n) for k, n in enumerate(np.bincount(y))}}
    weight = rng.uniform(0, 2, len(y)) if weighted else None
    tight = {"tol": 1e-9, "max_iter": 1000}
    a = linear_model.LogisticRegression(**tight, **more).fit(X, y, sample_weight=weight)
    b = LogisticRegression(**tight, **more).fit(X, y, sample_weight=weight)
    np.testing.assert_allclose(b.coef_, a.coef_, atol=1e-4)
    np.testing.assert_allclose(b.intercept_, a.intercept_, atol=1e-3)
    np.testing.assert_allclose(b.decision_function(X), a.decision_function(X), atol=1e-3)
    np.testing.assert_allclose(b.predict_log_proba(X), a.predict_log_proba(X), atol=1e-3)
    assert b.n_iter_.shape == a.n_iter_.shape


def test_balanced_classes_count_weights(iris):
    X, y = iris
    weight = np.where(y == 0, 3.0, 1.0)
    balanced = LogisticRegression(class_weight="balanced").fit(X, y, sample_weight=weight)
    plain = LogisticRegression(class_weight={0: 5 / 9, 1: 5 / 3, 2: 5 / 3}).fit(X, y, sample_weight=weight)
    np.testing.assert_allclose(balanced.coef_, plain.coef_)


@unconverged
def test_a_first_order_rule_finds_the_same_minimum(iris):
    exact = LogisticRegression(tol=1e-8, max_iter=1000).fit(*iris)
    lr = gs.schedules.exponential(0.1, gamma=0.998)
    found = LogisticRegression("adam", lr=lr, batch_size=50, max_iter=1000, n_iter_no_change=999, random_state=0).fit(
        *iris
    )
    np.testing.assert_allclose(found.coef_, exact.coef_, atol=0.02)
    assert found.loss_ == pytest.approx(exact.loss_, abs=1e-3)


@unconverged
@pytest.mark.parametrize("optimizer", ["gd", "gradient_descent", "sgd", "momentum", "nag", "adagrad", "adam", "adamw", "l-bfgs", gs.NAG,
    partial(gs.SGD, momentum=0.9, nesterov=True), lambda params: gs.AdamW(params, lr=0.01)])  # fmt: skip
def test_any_optimizer_trains(iris, optimizer):
    model = MLPClassifier(8, optimizer=optimizer, max_iter=30, random_state=0).fit(*iris)
    assert model.loss_curve_[-1] < model.loss_curve_[0]
    assert model.loss_curve_[-1] == model.loss_


@unconverged
def test_schedules(iris):
    asked = []

    def lr(calls):
        asked.append(calls)
        return 0.01

    LogisticRegression("sgd", lr=lr, batch_size=64, max_iter=2).fit(*iris)
    assert sorted(set(asked)) == list(range(6))
    plateau = gs.schedules.ReduceOnPlateau(0.5, patience=0, factor=0.0, threshold=1e9, threshold_mode="abs")
    model = MLPClassifier(4, optimizer="sgd", lr=plateau, max_iter=6, shuffle=False, random_state=0).fit(*iris)
    first, second, *others = model.loss_curve_
    assert first > second > others[0]
    assert set(others) == {others[0]}
    assert plateau(0) == 0.5  # a fit leaves what it was given alone
    assert model.get_params()["lr"] is plateau


def decay(lr, steps):
    return lambda calls: lr * (1 - calls / (steps + 1))


@unconverged
@pytest.mark.parametrize(
    ("schedule", "shape"),
    [
        (None, lambda steps: 0.1),
        ("constant", lambda steps: 0.1),
        ("cosine", lambda steps: gs.schedules.cosine(0.1, steps)),
        ("one_cycle", lambda steps: gs.schedules.one_cycle(0.1, steps)),
        ("polynomial", lambda steps: gs.schedules.polynomial(0.1, steps)),
        (gs.schedules.cosine, lambda steps: gs.schedules.cosine(0.1, steps)),
        (partial(gs.schedules.cosine, warmup=5), lambda steps: gs.schedules.cosine(0.1, steps, warmup=5)),
        (decay, lambda steps: decay(0.1, steps)),
    ],
)
@pytest.mark.parametrize(("early_stopping", "batches"), [(False, 5), (True, 4)])
def test_schedules_by_name_go_over_all_epochs(iris, schedule, shape, early_stopping, batches):
    plain = {"max_iter": np.int8(70), "random_state": 0, "tol": 0.0, "n_iter_no_change": 99}
    plain |= {"batch_size": np.uint8(37), "early_stopping": early_stopping}  # of 150 samples, or 135
    model = LogisticRegression("sgd", lr=0.1, schedule=schedule, **plain).fit(*iris)
    wanted = LogisticRegression("sgd", lr=shape(70 * batches), **plain).fit(*iris)
    np.testing.assert_array_equal(model.coef_, wanted.coef_)
    assert model.loss_curve_ == wanted.loss_curve_
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(model)).coef_, model.coef_)


@pytest.mark.parametrize("early_stopping", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_a_plateau_by_name_is_scikit_learns_adaptive(kind, early_stopping):
    theirs, ours, X, y = problem(kind)
    same = {"hidden_layer_sizes": (5,), "batch_size": 32, "max_iter": 2000, "random_state": 3, "tol": 0.01}
    same |= {"early_stopping": early_stopping, "n_iter_no_change": 3}
    adaptive = {"solver": "sgd", "momentum": 0.0, "learning_rate": "adaptive", "learning_rate_init": 1e-3}
    known = theirs(**same, **adaptive).fit(X, y)
    found = ours(**same, optimizer="sgd", lr=1e-3, schedule="reduce_on_plateau").fit(X, y)
    assert found.n_iter_ == known.n_iter_ > 5 * 4  # five times to a fifth
    np.testing.assert_allclose(found.loss_curve_, known.loss_curve_, rtol=1e-9)
    steady = ours(**same, optimizer="sgd", lr=1e-3).fit(X, y)
    assert steady.n_iter_ < found.n_iter_


@unconverged
@pytest.mark.parametrize("early_stopping", [False, True])
def test_a_plateau_by_name_may_be_wrapped(iris, early_stopping):
    made = []

    def make(params, lr):
        made.append(gs.NAG(params, lr=gs.schedules.warmup(lr, 3)))
        return made[-1]

    plain = {"batch_size": 20, "max_iter": 400, "tol": 1e-3, "n_iter_no_change": 3, "early_stopping": early_stopping}
    MLPClassifier(8, optimizer=make, lr=0.1, schedule="reduce_on_plateau", random_state=0, **plain).fit(*iris)
    assert made[-1].lr <= 1e-6

    def own(params, lr):
        return gs.NAG(params, lr=gs.schedules.ReduceOnPlateau(0.05))

    MLPClassifier(8, optimizer=own, lr=0.1, schedule="reduce_on_plateau", random_state=0, **plain).fit(*iris)


@unconverged
def test_plateaus_remember_when_something_else_changes(iris):
    plateau = gs.schedules.ReduceOnPlateau(0.1, factor=0.5, patience=0, threshold=10)
    model = MLPClassifier(4, optimizer="nag", lr=plateau, random_state=0)
    for _ in range(4):
        model.partial_fit(*iris, classes=[0, 1, 2])
    model.set_params(optimizer="momentum").partial_fit(*iris)
    assert told(model) == {"lr": 0.1 / 2**5}
    own = partial(gs.AdamW, weight_decay=gs.schedules.ReduceOnPlateau(0.01, patience=0, threshold=10))
    model.set_params(optimizer=own).partial_fit(*iris)  # it begins anew, and lr goes on
    assert told(model) == {"lr": 0.1 / 2**6, "weight_decay": pytest.approx(0.001)}
    model.set_params(lr=0.02).partial_fit(*iris)
    assert told(model) == {"weight_decay": pytest.approx(0.0001)}
    other = partial(gs.AdamW, weight_decay=gs.schedules.ReduceOnPlateau(0.5, patience=0, threshold=10))
    model.set_params(optimizer=other).partial_fit(*iris)
    assert told(model) == {"weight_decay": pytest.approx(0.05)}


@unconverged
def test_plateaus_that_were_told_something_by_their_owner_begin_there(iris):
    plateau = gs.schedules.ReduceOnPlateau(0.5, factor=0.1, patience=0, threshold=0.5)
    model = MLPClassifier(4, optimizer="sgd", lr=plateau, random_state=0).partial_fit(*iris, classes=[0, 1, 2])
    for _ in range(3):
        plateau.report(1.0)
    model.partial_fit(*iris)
    assert plateau(0) == pytest.approx(0.005)
    assert told(model)["lr"] <= plateau(0)


@unconverged
def test_schedules_beside_plateaus_are_the_users(iris):
    class Rate:
        def __init__(self):
            self.calls, self.lock = 0, threading.Lock()  # which cannot be copied

        def __call__(self, step):
            self.calls += 1
            return 0.01

    rate = Rate()
    make = partial(gs.SGD, weight_decay=gs.schedules.ReduceOnPlateau(0.1))
    MLPClassifier(4, optimizer=make, lr=rate, max_iter=2, random_state=0).fit(*iris)
    assert rate.calls > 1


@unconverged
def test_partial_fit_takes_the_rate_as_it_is_now(iris):
    class Rate:
        value = 0.0

        def __call__(self, step):
            return self.value

    rate = Rate()
    model = MLPClassifier(4, optimizer="sgd", lr=rate, random_state=0).partial_fit(*iris, classes=[0, 1, 2])
    before = model.coefs_[0].copy()
    np.testing.assert_array_equal(model.partial_fit(*iris).coefs_[0], before)
    rate.value = 0.1
    assert (model.partial_fit(*iris).coefs_[0] != before).any()


@pytest.mark.filterwarnings("ignore")
def test_partial_fit_goes_on_after_weights_that_did_not_stay_finite(rng):
    X = rng.normal(size=(300, 5))
    y = (X[:, 0] > 0).astype(int)
    lr = gs.schedules.ReduceOnPlateau(0.001, factor=0.5, patience=0, threshold=10)
    model = MLPClassifier(4, optimizer="momentum", lr=lr, random_state=0, batch_size=50)
    model.partial_fit(X, y, classes=[0, 1])
    before = copy.deepcopy(model).partial_fit(X, y)
    with pytest.raises(ValueError, match="did not stay finite"):
        model.partial_fit(X * 1e300, y)
    np.testing.assert_array_equal(model.partial_fit(X, y).coefs_[0], before.coefs_[0])


@unconverged
def test_a_schedule_begins_with_the_rate_of_the_rule(iris):
    plain = {"max_iter": 3, "schedule": "polynomial", "random_state": 0}
    whole = MLPClassifier(8, optimizer=partial(gs.Adam, lr=0.05), **plain).fit(*iris)
    same = MLPClassifier(8, optimizer="adam", lr=0.05, **plain).fit(*iris)
    np.testing.assert_array_equal(whole.coefs_[0], same.coefs_[0])
    found = GridSearchCV(same, {"schedule": [None, "cosine", decay], "lr": [1e-5, 0.05]}, cv=2).fit(*iris)
    assert found.best_params_["lr"] == 0.05
    with pytest.raises(AttributeError, match="partial_fit") as caught:
        same.partial_fit(*iris)
    assert "schedule='polynomial' is one of all epochs of fit" in str(caught.value.__cause__)
    before = same.coefs_[0].copy()
    assert np.abs(same.set_params(schedule=None).partial_fit(*iris).coefs_[0] - before).max() > 1e-3


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        ({"schedule": "cosin"}, ValueError, "schedule: expected one of 'constant', 'cosine', .*got 'cosin'"),
        ({"schedule": 0.1}, TypeError, "schedule: expected one of .*got 0.1"),
        ({"schedule": gs.schedules.exponential}, TypeError, r"schedule: expected a callable \(lr, steps\)"),
        ({"schedule": gs.schedules.cosine(0.1, 10)}, TypeError, r"schedule: expected a callable \(lr, steps\)"),
        ({"schedule": lambda lr, steps: None}, TypeError, "schedule: expected a callable .* which returned None"),
        ({"schedule": lambda lr, steps: lr + "a"}, TypeError, "^unsupported operand"),
        ({"schedule": "cosine", "lr": gs.schedules.constant(0.1)}, ValueError, "schedule: expected None where lr is"),
        ({"schedule": "cosine", "lr": "0.1"}, TypeError, "^lr: expected a finite number of at least 0, got '0.1'"),
        ({"schedule": "constant", "lr": -1}, ValueError, "^lr: expected a finite number of at least 0, got -1"),
        ({"lr": [0.1]}, TypeError, "^lr: "),
    ],
)
def test_schedules_that_are_none(iris, given, error, words):
    with pytest.raises(error, match=words):
        LogisticRegression("adam", **given).fit(*iris)


@pytest.mark.parametrize(
    "make",
    [
        lambda params: gs.SGD([q.copy() for q in params], lr=0.1),
        lambda params: gs.SGD([{"params": params}], lr=0.1),
        lambda params: gs.SGD(dict(enumerate(params)), lr=0.1),
        lambda params: gs.SGD(params[:1], lr=0.1),
        lambda params: gs.SGD(params[0], lr=0.1),
    ],
)
def test_optimizers_of_something_else_are_refused(iris, make):
    with pytest.raises(ValueError, match=r"^optimizer: expected an Optimizer of the list of arrays .*got SGD\("):
        MLPClassifier(4, optimizer=make).fit(*iris)


@unconverged
def test_optimizers_may_have_a_group_for_each_array(iris):
    def make(params):
        return gs.SGD([{"params": q, "weight_decay": 0.1 * (q.ndim == 2)} for q in params], lr=0.1)

    assert MLPClassifier(4, optimizer=make, max_iter=30, random_state=0).fit(*iris).score(*iris) > 0.6


@unconverged
@pytest.mark.parametrize("model", FIRST_ORDER, ids=names)
def test_partial_fit_goes_on_where_it_was(iris, model):
    X, y = iris
    more = {} if isinstance(model, MLPRegressor) else {"classes": [0, 1, 2]}
    plain = {"shuffle": False, "random_state": 0, "batch_size": 40}
    whole = clone(model).set_params(**plain).fit(X, y)
    parts = clone(model).set_params(**plain).partial_fit(X, y, **more)
    for k in range(4):
        parts = (pickle.loads(pickle.dumps(parts)), copy.deepcopy(parts), parts, parts)[k]
        parts.partial_fit(X, y)
    np.testing.assert_array_equal(parts.predict(X), whole.predict(X))
    assert parts.loss_curve_ == whole.loss_curve_
    assert (parts.t_, np.max(parts.n_iter_)) == (whole.t_, 1)
    parts.set_params(lr=0.0).partial_fit(X, y)
    before = parts.predict(X)
    np.testing.assert_array_equal(parts.partial_fit(X, y).predict(X), before)  # hyperparameters are as they are now
    name = "solver" if isinstance(model, LogisticRegression) else "optimizer"
    parts.set_params(**{name: "adagrad"}).partial_fit(X, y)


@unconverged
@pytest.mark.parametrize("model", FIRST_ORDER, ids=names)
def test_warm_start_keeps_the_weights(iris, model):
    X, y = iris
    model = clone(model).set_params(warm_start=True, random_state=0).fit(X, y)
    assert model.set_params(lr=0.0).fit(X, y).loss_curve_[-1] < model.loss_curve_[0]
    assert len(model.loss_curve_) == 10
    assert model.t_ == 10 * len(y)


def test_partial_fit_is_where_it_can_be():
    assert not hasattr(LogisticRegression(), "partial_fit")
    assert not hasattr(MLPRegressor(optimizer="l-bfgs"), "partial_fit")
    assert hasattr(LogisticRegression("sgd"), "partial_fit")


@unconverged
@pytest.mark.parametrize("model", [LogisticRegression(), *FIRST_ORDER], ids=names)
def test_formats(iris, model):
    X, y = iris
    model = clone(model).set_params(random_state=0)
    dense = clone(model).fit(X, y)
    for given in (sparse.csr_matrix(X), sparse.csc_array(X)):
        np.testing.assert_allclose(clone(model).fit(given, y).predict(given), dense.predict(X))
    np.testing.assert_allclose(clone(model).fit(np.asfortranarray(X), y).predict(X), dense.predict(X))
    single = model.fit(X.astype("f4"), y)
    for arrays in single._weights():
        assert {a.dtype for a in arrays} == {np.dtype("f4")}
    output = single.predict(X) if isinstance(model, MLPRegressor) else single.predict_proba(X)
    assert output.dtype == "f4"
    assert single._raw(X.astype(int)).dtype == "f4"


@unconverged
@pytest.mark.parametrize("model", FIRST_ORDER, ids=names)
def test_weights_of_zero_leave_samples_out(iris, model):
    X, y = iris
    weight = np.arange(len(y)) % 2
    model = clone(model).set_params(random_state=0, shuffle=False)
    weighted, fewer = clone(model).fit(X, y, sample_weight=weight), clone(model).fit(X[1::2], y[1::2])
    np.testing.assert_allclose(weighted.predict(X), fewer.predict(X))
    assert weighted.loss_ == pytest.approx(fewer.loss_)


@unconverged
@pytest.mark.parametrize("model", FIRST_ORDER, ids=names)
@pytest.mark.parametrize("more", [{"schedule": "cosine", "lr": 0.01}, {"early_stopping": True}], ids=str)
def test_samples_of_weight_zero_are_as_if_they_were_not_there(iris, model, more, rng):
    X, y = iris
    weight = np.where(rng.random(len(y)) < 0.6, 0.0, rng.uniform(1, 2, len(y)))
    some = weight > 0
    model = clone(model).set_params(random_state=0, batch_size=8, **more)
    weighted, fewer = clone(model).fit(X, y, weight), clone(model).fit(X[some], y[some], weight[some])
    np.testing.assert_array_equal(weighted.loss_curve_, fewer.loss_curve_)
    assert weighted.validation_scores_ == fewer.validation_scores_
    assert weighted.t_ == fewer.t_ == some.sum() * weighted.n_iter_ or more.get("early_stopping")


@unconverged
def test_grid_search_chooses_optimizer_and_learning_rate(iris):
    model = make_pipeline(StandardScaler(), MLPClassifier(8, max_iter=10, random_state=0))
    grid = {"mlpclassifier__lr": [1e-6, 0.05], "mlpclassifier__optimizer": ["sgd", "adam"]}
    search = GridSearchCV(model, grid, cv=3, error_score="raise").fit(*iris)
    assert search.best_params_ == {"mlpclassifier__lr": 0.05, "mlpclassifier__optimizer": "adam"}
    assert cross_val_score(search.best_estimator_, *iris, cv=3).mean() > 0.8


def test_l_bfgs_converges_in_float32(iris):
    X, y = iris
    exact = LogisticRegression(tol=1e-8).fit(X, y)
    found = LogisticRegression(tol=1e-8).fit(X.astype("f4"), y)
    np.testing.assert_allclose(found.coef_, exact.coef_, atol=2e-3)


def test_warnings_point_to_the_caller(iris):
    for model in (MLPRegressor(max_iter=1), LogisticRegression(max_iter=1)):
        with pytest.warns(ConvergenceWarning) as told:
            model.fit(*iris)
        assert told[0].filename == __file__


def test_clones_and_pickles(iris):
    for model in ESTIMATORS:
        assert clone(model).get_params().keys() == model.get_params().keys()
    fitted = LogisticRegression().fit(*iris)
    again = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(again.predict_proba(iris[0]), fitted.predict_proba(iris[0]))


def test_strings_are_classes(iris):
    X, y = iris
    words = np.array(["a", "b", "c"])[y]
    assert set(LogisticRegression().fit(X, words).predict(X)) == {"a", "b", "c"}
    with pytest.warns(DataConversionWarning):
        LogisticRegression().fit(X, words[:, None])


@unconverged
def test_clip_norm_and_verbose(iris, capsys):
    X, y = iris
    model = LogisticRegression("gd", lr=1.0, batch_size=150, max_iter=1, clip_norm=0.125, verbose=True).fit(1e4 * X, y)
    moved = np.sqrt((model.coef_**2).sum() + (model.intercept_**2).sum())
    assert moved == pytest.approx(0.125, rel=1e-4)
    assert capsys.readouterr().out == f"epoch 1: loss {np.log(3):.8f}\n"
    LogisticRegression(max_iter=1, verbose=1).fit(X, y)
    assert capsys.readouterr().out.startswith("l-bfgs: ")


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        ({"optimizer": "adamax"}, ValueError, "optimizer: expected one of 'gradient_descent', .* got 'adamax'"),
        ({"optimizer": 3}, TypeError, "optimizer: expected one of .* or a callable params -> Optimizer, got 3"),
        ({"optimizer": list}, TypeError, r"optimizer: expected a callable \(params\) -> Optimizer, got .*, which returned \["),
        ({"optimizer": decay}, TypeError, r"optimizer: expected a callable \(params\) -> Optimizer, got .*: missing a"),
        ({"optimizer": lambda q: gs.SGD(q), "lr": 0.1}, TypeError, r"optimizer: expected a callable \(params, lr\) -> "),
        ({"lr": -1.0}, ValueError, "lr: expected a finite number of at least 0, got -1.0"),
        ({"clip_norm": -1.0}, ValueError, "clip_norm: expected a number of at least 0, got -1.0"),
        ({"activation": "gelu"}, ValueError, "activation: expected one of 'identity', .* got 'gelu'"),
        ({"hidden_layer_sizes": (3, 0)}, ValueError, "hidden_layer_sizes: expected a whole number of at least 1, got 0"),
        ({"hidden_layer_sizes": "3"}, TypeError, "hidden_layer_sizes: expected a whole number of at least 1, got '3'"),
        ({"batch_size": 0}, ValueError, "batch_size: expected a whole number of at least 1, got 0"),
        ({"batch_size": "all"}, ValueError, "batch_size: expected 'auto' or .*, got 'all'"),
        ({"alpha": -1}, ValueError, "alpha: expected a finite number of at least 0"),
        ({"max_iter": 1.5}, TypeError, "max_iter: expected a whole number of at least 1, got 1.5"),
        ({"shuffle": "no"}, TypeError, "shuffle: expected True or False, got 'no'"),
        ({"verbose": "a"}, TypeError, "verbose: expected True or False, got 'a'"),
        ({"n_iter_no_change": 0}, ValueError, "n_iter_no_change: expected a whole number of at least 1, got 0"),
        ({"early_stopping": True, "validation_fraction": 1.5}, ValueError, "validation_fraction: expected"),
        ({"early_stopping": True, "validation_fraction": 0.001}, ValueError, "validation_fraction: .* got 1 of 150"),
        ({"optimizer": "gd", "lr": 1e300}, ValueError, "the weights did not stay finite"),
    ],
)  # fmt: skip
@unconverged
def test_wrong_parameters(iris, given, error, words):
    model = MLPRegressor(**given)
    with pytest.raises(error, match=words):
        model.fit(*iris)
    with pytest.raises(NotFittedError):
        model.predict(iris[0])


def test_wrong_data(iris):
    X, y = iris
    with pytest.raises(ValueError, match=r"C: expected a number above 0, got 0\.0"):
        LogisticRegression(C=0).fit(X, y)
    with pytest.raises(ValueError, match="y: expected at least two classes, got one class"):
        LogisticRegression().fit(X, np.zeros(len(y)))
    with pytest.raises(ValueError, match="Unknown label type"):
        MLPClassifier().fit(X, X[:, 0])
    with pytest.raises(ValueError, match="Negative values in data passed to sample_weight"):
        MLPClassifier().fit(X, y, sample_weight=-np.ones(len(y)))
    with pytest.raises(ValueError, match=r"sample_weight: expected a finite sum of at least 1\.18e-38, got inf"):
        MLPClassifier().fit(X.astype("f4"), y, sample_weight=np.full(len(y), 8e37))
    with pytest.raises(ValueError, match="Negative values in data passed to class_weight"):
        LogisticRegression(class_weight={0: -0.5, 1: 1, 2: 1}).fit(X, y)
    for weight in (0, np.inf):
        with pytest.raises(ValueError, match="sample_weight and class_weight: expected a finite sum of at least"):
            LogisticRegression(class_weight={0: weight, 1: weight, 2: weight}).fit(X, y)
    with pytest.raises(ValueError, match="classes must be passed on the first call"):
        MLPClassifier().partial_fit(X, y)
    with pytest.raises(ValueError, match="early_stopping: expected False for partial_fit"):
        MLPRegressor(early_stopping=True).partial_fit(X, y)
    with pytest.raises(TypeError, match="class_weight: expected a dict, 'balanced' or None, got float64"):
        LogisticRegression(class_weight=np.ones(3)).fit(X, y)
    with pytest.raises(ValueError, match=r"C, sample_weight: expected a product above 2e-308, got 1\.5"):
        LogisticRegression(C=1e-20).fit(X, y, sample_weight=np.full(len(y), 1e-300))
    for estimator in (LogisticRegression(), MLPClassifier()):
        with pytest.raises(ValueError, match=r"^sample_weight: expected a finite sum of at least 2\.23e-308, got"):
            estimator.fit(X, y, sample_weight=np.full(len(y), 5e-324))
    with pytest.raises(ValueError, match=r"class_weight: .* got 'balanced'"):
        LogisticRegression("sgd", class_weight="balanced").partial_fit(X, y, classes=[0, 1, 2])
    with pytest.raises(NotFittedError):
        MLPRegressor().predict(X)
    model = MLPClassifier().partial_fit(X, y, classes=[0, 1, 2])
    with pytest.raises(ValueError, match=r"sample_weight: expected a finite sum of at least|at least one non-zero"):
        model.partial_fit(X, y, sample_weight=np.zeros(len(y)))
    with pytest.raises(ValueError, match=r"y: expected classes of \[0 1 2\], got \[3\] too"):
        model.partial_fit(X, y + 1)
    with pytest.raises(ValueError, match=r"hidden_layer_sizes: expected layers of \[4, 100, 3\], as fitted before"):
        model.set_params(hidden_layer_sizes=3).partial_fit(X, y)


@unconverged
def test_an_interrupt_keeps_what_was_learnt(iris):
    def lr(calls):
        if calls == 3:
            raise KeyboardInterrupt
        return 0.1

    with pytest.warns(UserWarning, match="interrupted in epoch 4"):
        model = LogisticRegression("sgd", lr=lr).fit(*iris)
    assert len(model.loss_curve_) == 3
    assert model.score(*iris) > 0.5


def test_it_is_imported_when_it_is_used():
    run(
        "import sys, gradstep as gs; assert 'sklearn' in dir(gs); assert 'sklearn' not in sys.modules; gs.sklearn.MLPRegressor; assert 'sklearn' in sys.modules"
    )
    code = """
import sys, gradstep as gs
sys.modules['sklearn'] = None
try:
    gs.sklearn
except ImportError as error:
    print(error)
"""
    assert "pip install 'gradstep[sklearn]'" in run(code).stdout
    with pytest.raises(AttributeError, match="no attribute 'skleran'"):
        gs.skleran  # noqa: B018


@pytest.mark.parametrize("nested", [False, True])
def test_plateaus_are_told_the_loss(nested):
    X, y = load_digits(return_X_y=True)
    made = []

    def make(params, lr):
        made.append(gs.SGD(params, lr=lr))
        return made[-1]

    plateau = gs.schedules.ReduceOnPlateau(0.5, patience=0, threshold=0.9)
    lr = gs.schedules.warmup(plateau, steps=5) if nested else plateau
    model = gs.sklearn.MLPClassifier((8,), optimizer=make, lr=lr, max_iter=4, random_state=0)
    with pytest.warns(ConvergenceWarning):
        model.fit(X / 16, y)
    assert made[0].lr < 0.5
    model.set_params(lr=gs.schedules.ReduceOnPlateau(0.5, mode="max"))
    with pytest.raises(ValueError, match='mode="min"'):
        model.fit(X / 16, y)


@pytest.mark.parametrize("alpha", [1.0, 50.0])
def test_several_targets_with_l_bfgs_are_ridge_regression(alpha, rng):
    X = rng.normal(size=(200, 6))
    Y = X @ rng.normal(size=(6, 8)) + rng.normal(size=(200, 8))
    found = MLPRegressor((), optimizer="l-bfgs", alpha=alpha, max_iter=1000, tol=1e-8).fit(X, Y)
    expected = linear_model.Ridge(alpha=alpha).fit(X, Y)
    np.testing.assert_allclose(found.coefs_[0].T, expected.coef_, atol=1e-6)
    error = found.predict(X) - Y
    objective = (0.5 * (error**2).sum() + 0.5 * alpha * (found.coefs_[0] ** 2).sum()) / 200
    assert found.loss_ == pytest.approx(objective, rel=1e-9)


@pytest.mark.parametrize("optimizer", ["l-bfgs", "sgd"])
def test_an_intercept_that_is_switched_off_goes(optimizer, rng):
    X = rng.normal(size=(200, 6))
    y = (X[:, 0] > 0.5).astype(int)
    found = LogisticRegression(solver=optimizer, warm_start=True, max_iter=2000)
    found.fit(X, y).set_params(fit_intercept=False).fit(X, y)
    assert found.intercept_.tolist() == [0.0]
    if optimizer == "sgd":
        found.set_params(fit_intercept=True).partial_fit(X, y)
        found.set_params(fit_intercept=False).partial_fit(X, y)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["partial", "function"])
def test_a_plateau_inside_the_optimizer_stays_as_it_was(kind, rng):
    X, y = rng.normal(size=(100, 5)), rng.integers(0, 2, 100)
    plateau = gs.schedules.ReduceOnPlateau(0.5, patience=0, threshold=0.5)
    make = {"partial": partial(gs.SGD, lr=plateau), "function": lambda params: gs.SGD(params, lr=plateau)}[kind]
    found = MLPClassifier(4, optimizer=make, max_iter=30, random_state=0)
    losses = [found.fit(X, y).loss_ for _ in range(2)]
    assert losses[0] == losses[1]
    assert plateau(0) == 0.5
    for _ in range(30):  # which remembers between calls what it was told
        found.partial_fit(X, y)
    assert told(found)["lr"] < plateau(0) == 0.5
