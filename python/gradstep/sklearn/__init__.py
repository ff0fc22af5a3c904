"""Estimators with scikit-learn's contract, trained by the optimizers and schedules of this package.

They go wherever scikit-learn's own go: into pipelines, cross-validation and grid search, over learning rates and
optimizers too.

Examples
--------
>>> import gradstep as gs
>>> from sklearn.datasets import load_iris
>>> from sklearn.model_selection import GridSearchCV
>>> X, y = load_iris(return_X_y=True)
>>> model = gs.sklearn.LogisticRegression("adam", tol=0.01, random_state=0)
>>> GridSearchCV(model, {"lr": [1e-6, 0.1]}).fit(X, y).best_params_
{'lr': 0.1}
"""

try:
    import sklearn as _sklearn  # noqa: F401
except ImportError as error:
    raise ImportError(f"gradstep.sklearn needs scikit-learn ({error}): pip install 'gradstep[sklearn]'") from error

from gradstep.sklearn.linear import LogisticRegression
from gradstep.sklearn.perceptron import MLPClassifier, MLPRegressor

__all__ = ["LogisticRegression", "MLPClassifier", "MLPRegressor"]
