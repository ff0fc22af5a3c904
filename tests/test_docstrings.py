"""Docstrings of all that is public follow numpydoc: what numpydoc itself finds wrong, but for what we leave out."""

import contextlib
import inspect

import pytest

import gradstep as gs
from gradstep import training

validate = pytest.importorskip("numpydoc.validate", reason="numpydoc is not installed").validate

MODULES = [gs, gs.schedules, gs.plot, gs.tune, training]
with contextlib.suppress(ImportError):
    MODULES.append(gs.sklearn)

LEFT_OUT = {"ES01", "SA01", "GL01", "GL02", "GL03"}  # longer texts, cross-references, lines around the quotes
CLASS_ONLY = {"EX01"}  # the class has the example
ATTRIBUTE = {"RT01", "PR01"}


def public():
    for module, name in [(m, name) for m in MODULES for name in m.__all__]:
        thing = getattr(module, name)
        if not callable(thing):
            continue
        yield f"{thing.__module__}.{name}", LEFT_OUT
        bases = thing.__mro__ if inspect.isclass(thing) else ()
        for base in (b for b in bases if b.__module__.startswith("gradstep")):
            for member, value in vars(base).items():
                if not member.startswith("_") and (inspect.isfunction(value) or isinstance(value, property)):
                    yield (
                        f"{base.__module__}.{base.__qualname__}.{member}",
                        LEFT_OUT | CLASS_ONLY | (ATTRIBUTE if isinstance(value, property) else set()),
                    )


@pytest.mark.parametrize(
    ("path", "left_out"), list(dict(public()).items()), ids=lambda x: x if isinstance(x, str) else ""
)
def test_numpydoc_finds_nothing_wrong(path, left_out):
    wrong = [f"{code} {text}" for code, text in validate(path)["errors"] if code not in left_out]
    assert not wrong
