"""Samples from the user's own code: `module:function`, a tf.data dataset, any iterable. Run once, written to disk."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgepack.artifact import TensorSpec
from edgepack.errors import DataError, EdgepackError, UsageError, first_line
from edgepack.samples.dataset import Samples, require_names
from edgepack.samples.spool import Spool

_PLACE = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")
_FORMS = (
    "yield one sample or one batch at a time: an array, {input: array} or a list of arrays in the order of the inputs; "
    "with labels, a tuple (that, label)"
)


#: Seconds between two words of how much was read.
_PAUSE_S = 3.0


def is_place(text: str) -> bool:
    """Whether it reads `module:function`."""
    return _PLACE.fullmatch(text) is not None


def require_module(place: str) -> None:
    """Raises UsageError: there is no such module. It is not run (a package around it is)."""
    module = place.partition(":")[0]
    _make_working_folder_importable()
    try:
        found = importlib.util.find_spec(module)
    except Exception as error:
        raise _cannot_load(place, first_line(error)) from error
    if found is None:
        raise _cannot_load(place, f"no module {module}, and no file of that name")


def load_data(place: str) -> object:
    """What `module:function` returns; where it names no function, the object itself (a tf.data dataset).

    The module is found as `python -m` finds it, in the working folder too. What it prints goes to stderr.

    Raises:
        UsageError: there is no such module or function.
        DataError: the function raises.
    """
    module_name, _, name = place.partition(":")
    _make_working_folder_importable()
    with contextlib.redirect_stdout(sys.stderr):
        try:
            found = getattr(importlib.import_module(module_name), name)
        except (Exception, SystemExit) as error:
            raise _cannot_load(place, first_line(error)) from error
        if not callable(found):
            return found
        try:
            return found()
        except (Exception, SystemExit) as error:
            raise DataError(
                f"{place}() raised {first_line(error)}", "it must work without arguments"
            ) from error


def spooled(
    elements: Iterable[Any],
    *,
    specs: Sequence[TensorSpec],
    folder: Path,
    source: str,
    labelled: bool,
    say: Callable[[str], None] = lambda text: None,
) -> Samples:
    """The samples that `elements` yields, read once and written to `folder`, which must live as long as they do.

    An element is a feed, or a tuple (feed, label). A feed is an array for the only input, {input: array}, or a list in the order of
    the inputs. Its arrays hold one sample, [...], or a batch of them, [n, ...], told from the rank of the model's input.

    Args: say: is told now and then how much was read: data without end are read until half of the disk is full.

    Raises:
        DataError: an element of another form, another shape or dtype than those before it, no label where `labelled`, no element
            at all, or an exception in the user's code.
    """
    with contextlib.ExitStack() as stack:
        stack.enter_context(contextlib.redirect_stdout(sys.stderr))
        spools = [
            stack.enter_context(Spool(folder / f"{k}.bin", f"{source}: {s.name}", len(specs)))
            for k, s in enumerate(specs)
        ]
        labels = stack.enter_context(Spool(folder / "labels.bin", f"{source}: labels", len(specs)))
        said = monotonic()
        for i, element in enumerate(_guarded(elements, source)):
            if monotonic() - said > _PAUSE_S:
                said = monotonic()
                say(f"{source}: {i:,} elements read")
            where = f"{source}: element {i}"
            arrays, label = _split(element, specs, where, labelled=labelled)
            stacks = [_stacked(x, s, where) for x, s in zip(arrays, specs, strict=True)]
            for spool, (block, _) in zip(spools, stacks, strict=True):
                spool.append(block)
            if labelled:
                labels.append(_label_rows(label, *stacks[0], where))
        rows = {s.name: spool.rows() for s, spool in zip(specs, spools, strict=True)}
        return Samples(inputs=rows, source=source, labels=labels.rows() if labelled else None)


def _guarded(elements: Iterable[Any], source: str) -> Iterator[Any]:
    count = 0
    try:
        for element in elements:
            yield element
            count += 1
    except EdgepackError:
        raise
    except (Exception, SystemExit) as error:
        raise DataError(
            f"{source}: raised {first_line(error)} after {count} elements", "mend the generator"
        ) from error


def _split(
    element: Any, specs: Sequence[TensorSpec], where: str, *, labelled: bool
) -> tuple[list[NDArray[Any]], Any]:
    feed, label = element, None
    if isinstance(element, tuple):
        # Two arrays cannot be (feed, label) where a feed needs two arrays itself.
        in_order = not labelled and len(element) == len(specs) > 1
        if in_order and not isinstance(element[0], (Mapping, list, tuple)):
            feed = list(element)
        elif len(element) == 2:
            feed, label = element
        elif len(element) == 1:
            feed = element[0]
        else:
            raise DataError(f"{where} is a tuple of {len(element)}", _FORMS)
    if labelled and label is None:
        raise DataError(f"{where} has no label", "yield tuples (feed, label)")
    if isinstance(feed, Mapping):
        require_names(feed, specs, where)
        return [_array(feed[s.name], f"{where}: {s.name}") for s in specs], label
    parts = list(feed) if isinstance(feed, (list, tuple)) else [feed]
    if len(parts) != len(specs):
        raise DataError(
            f"{where} holds {len(parts)} arrays; the model has {len(specs)} inputs", _FORMS
        )
    return [_array(x, f"{where}: {s.name}") for x, s in zip(parts, specs, strict=True)], label


def _array(value: Any, where: str) -> NDArray[Any]:
    try:
        x = np.asarray(value)
    except Exception as error:
        raise DataError(f"{where} is no array: {first_line(error)}", _FORMS) from error
    if x.dtype.kind not in "biuf":
        raise DataError(f"{where} is {type(value).__name__} of {x.dtype}", _FORMS)
    return x


def _stacked(x: NDArray[Any], spec: TensorSpec, where: str) -> tuple[NDArray[Any], bool]:
    """Rows [n, …], and whether `x` was a single sample."""
    rank = len(spec.shape)
    if x.ndim == max(rank - 1, 0):
        return x[None], True
    if x.ndim in (rank, rank + 1):
        return x, False
    raise DataError(
        f"{where}: {spec.name} has shape {list(x.shape)}, the model takes {list(spec.shape)}",
        _FORMS,
    )


def _label_rows(label: Any, block: NDArray[Any], single: bool, where: str) -> NDArray[Any]:
    x = _array(label, f"{where}: label")
    rows = x[None] if single else x
    if not rows.shape or len(rows) != len(block):
        raise DataError(
            f"{where}: labels of shape {list(x.shape)} for {len(block)} samples",
            "give one label for each sample",
        )
    return rows


def _make_working_folder_importable() -> None:
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())


def _cannot_load(place: str, why: str) -> UsageError:
    module, _, name = place.partition(":")
    return UsageError(
        f"{place}: {why}", f"{module}.py must be importable from here and define {name}"
    )
