"""The containers that parameters and gradients come in: an array, a sequence, a mapping, or groups of these."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from typing import Any

Array = Any
Container = Any


def is_cuda(x: object) -> bool:
    """Whether `x` is an array on a CUDA device."""
    # Of the type: some raise something else than AttributeError, or take long.
    if not hasattr(type(x), "__cuda_array_interface__"):
        return False
    return type(x).__module__.partition(".")[0] == "cupy" or _has_interface(x)


def _has_interface(x: object) -> bool:
    try:
        return hasattr(x, "__cuda_array_interface__")
    except Exception:  # PyTorch's, of a tensor that requires a gradient: told when it is read
        return True


def is_array(x: object) -> bool:
    """Whether `x` is an array of some device, or a scalar of one."""
    return hasattr(x, "__array_interface__") or is_cuda(x)


def dense_strides(shape: Sequence[int], like: Sequence[int] | None, itemsize: int) -> tuple[int, ...]:
    """Return the strides in bytes of one run of memory, its axes in the order of those strides; or in C order."""
    order = range(len(shape)) if like is None else sorted(range(len(shape)), key=lambda d: -abs(like[d]))
    strides, stride = [0] * len(shape), itemsize
    for d in reversed(order):
        strides[d], stride = stride, stride * shape[d]
    return tuple(strides)


def is_sequence(x: object) -> bool:
    """Whether `x` is a list, a tuple or the like, and no text."""
    return isinstance(x, Sequence) and not isinstance(x, (str, bytes, bytearray))


def kind_of(x: object) -> str:
    """Name the type of `x` for messages."""
    return type(x).__name__


def shown(x: Any) -> str:
    """Show `x` for messages: an array by its dtype and shape, all else as Python does, cut short."""
    if hasattr(x, "dtype") and hasattr(x, "shape") and x.shape:
        return f"{x.dtype} of shape {tuple(x.shape)}"
    return f"{x!r:.80}"


class Tree:
    """The shape of one container of arrays: how to take arrays out of its like, and put them into one.

    Parameters
    ----------
    container : array, sequence or mapping
        What the user gave.
    argument : str
        What it is called in messages.
    """

    def __init__(self, container: Container, argument: str) -> None:
        self.keys: tuple[Any, ...] | None = None  # of a mapping
        self.labels: tuple[str, ...] = ("",)
        self.size = 1
        self.single = is_array(container)
        if self.single:
            return
        if isinstance(container, Mapping):
            self.keys = tuple(container)
            self.size, self.labels = len(self.keys), tuple(f"[{key!r}]" for key in self.keys)
        elif is_sequence(container):
            self.size, self.labels = len(container), tuple(f"[{i}]" for i in range(len(container)))
        else:
            raise TypeError(
                f"{argument}: expected an array, a list or tuple of arrays, a mapping of arrays, or a list of "
                f"group dicts, got {kind_of(container)}"
            )
        if not self.size:
            raise ValueError(f"{argument}: expected at least one array, got an empty {kind_of(container)}")
        if self.keys is not None:
            self._values = _getter(self.keys)

    def flatten(self, container: Container, argument: str) -> tuple[Array, ...]:
        """Take the arrays out of a container like the one this was made from."""
        if self.single:
            return (container,)
        if self.keys is not None:
            return self._from_mapping(container, argument)
        if isinstance(container, (list, tuple)) or is_sequence(container):
            if len(container) != self.size:
                raise ValueError(f"{argument}: expected {self.size} arrays, got {len(container)}")
            return tuple(container)
        raise TypeError(f"{argument}: expected a sequence of {self.size} arrays, got {kind_of(container)}")

    def _from_mapping(self, container: Container, argument: str) -> tuple[Array, ...]:
        assert self.keys is not None
        if type(container) is dict and len(container) == self.size:  # others may invent values of keys
            try:
                return self._values(container)
            except KeyError:
                raise self._wrong_keys(container, argument) from None
        if not isinstance(container, Mapping):
            raise TypeError(f"{argument}: expected a mapping of {self.size} arrays, got {kind_of(container)}")
        if len(container) != self.size or any(key not in container for key in self.keys):
            raise self._wrong_keys(container, argument)
        return tuple([container[key] for key in self.keys])

    def _wrong_keys(self, container: Mapping[Any, Array], argument: str) -> ValueError:
        assert self.keys is not None
        missing = [key for key in self.keys if key not in container]
        extra = [key for key in container if key not in self.keys]
        return ValueError(
            f"{argument}: expected the keys of params"
            + (f", missing {', '.join(map(repr, missing))}" if missing else "")
            + (f", got unknown {', '.join(map(repr, extra))}" if extra else "")
        )

    def unflatten(self, arrays: Sequence[Array]) -> Container:
        """Put arrays into a container of the same kind."""
        if self.single:
            return arrays[0]
        if self.keys is not None:
            return dict(zip(self.keys, arrays, strict=True))
        return list(arrays)


def _getter(keys: tuple[Any, ...]) -> Callable[[dict[Any, Array]], tuple[Array, ...]]:
    if len(keys) > 1:
        return itemgetter(*keys)
    return lambda container: (container[keys[0]],)


class Forest:
    """Several trees side by side: one a group.

    Parameters
    ----------
    containers : list
        Each group's arrays.
    grouped : bool
        Whether the user gave groups; if not there is one tree, and its container is the whole.
    """

    def __init__(self, containers: Sequence[Container], grouped: bool) -> None:
        self.grouped = grouped
        prefixes = [f"[{i}]" if grouped else "" for i in range(len(containers))]
        self.trees = [Tree(c, f"params{at}") for c, at in zip(containers, prefixes, strict=True)]
        self.prefixes = prefixes
        self.labels = tuple(at + label for tree, at in zip(self.trees, prefixes, strict=True) for label in tree.labels)
        self.group_of = [i for i, tree in enumerate(self.trees) for _ in range(tree.size)]
        self._whole: Callable[[Container, str], tuple[Array, ...]] = self.trees[0].flatten

    def arrays(self, containers: Sequence[Container]) -> tuple[Array, ...]:
        """Take the parameters out of each group's container."""
        parts = zip(self.trees, containers, strict=True)
        return tuple(array for tree, container in parts for array in tree.flatten(container, "params"))

    def flatten(self, container: Container, argument: str) -> tuple[Array, ...]:
        """Take the arrays out, those of all groups in a row."""
        if not self.grouped:
            return self._whole(container, argument)
        if not is_sequence(container):
            raise TypeError(
                f"{argument}: expected a sequence of {len(self.trees)} containers, one a group, "
                f"got {kind_of(container)}"
            )
        if len(container) != len(self.trees):
            raise ValueError(f"{argument}: expected {len(self.trees)} containers, one a group, got {len(container)}")
        flat: tuple[Array, ...] = ()
        for tree, part, at in zip(self.trees, container, self.prefixes, strict=True):
            flat += tree.flatten(_inside(part, tree), argument + at)
        return flat

    def unflatten(self, arrays: Sequence[Array]) -> Container:
        """Put arrays into containers like the user's."""
        parts, at = [], 0
        for tree in self.trees:
            parts.append(tree.unflatten(arrays[at : at + tree.size]))
            at += tree.size
        return parts if self.grouped else parts[0]


def _inside(part: Container, tree: Tree) -> Container:
    # Gradients may come as group dicts too, unless "params" is the name of an array of that group.
    if isinstance(part, Mapping) and set(part) == {"params"} and (tree.keys is None or "params" not in tree.keys):
        return part["params"]
    return part
