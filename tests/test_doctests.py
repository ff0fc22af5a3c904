"""The examples in the docstrings run."""

import doctest
import importlib
import pkgutil

import pytest

import gradstep

MODULES = [m.name for m in pkgutil.walk_packages(gradstep.__path__, "gradstep.") if "__main__" not in m.name]


@pytest.mark.parametrize("name", ["gradstep", *MODULES])
def test_examples(name):
    if name == "gradstep.device":
        pytest.importorskip("cupy", reason="CuPy is not installed")
        pytest.importorskip("gradstep._cuda", reason="this build has no CUDA module", exc_type=ImportError)
    if name.startswith("gradstep.sklearn"):
        pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    result = doctest.testmod(importlib.import_module(name))
    assert result.failed == 0


def test_every_optimizer_has_an_example():
    finder = doctest.DocTestFinder()
    for name in gradstep.__all__:
        thing = getattr(gradstep, name)
        if isinstance(thing, type) and issubclass(thing, gradstep.Optimizer) and thing is not gradstep.Optimizer:
            assert any(test.examples for test in finder.find(thing, name)), name
