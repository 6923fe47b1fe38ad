"""A provider's own runtime on the build machine, opened by the loader that ships: what is proved and timed is what will run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, helper

from edgepack.errors import EnvironmentMissing, StepError
from edgepack.resources import python_loader
from edgepack.runtimes import Provider


def open_apart(path: Path, provider: Provider) -> Any:
    """A session, one thread: `run(outputs, inputs)` is onnxruntime's.

    Raises:
        EnvironmentMissing: the package is not installed. StepError: it refuses the model.
    """
    try:
        return _runtime(provider)(str(path), provider.options, 1)
    except ImportError as error:
        raise EnvironmentMissing(_not_installed(provider, error), _remedy(provider)) from error
    except Exception as error:  # its own kinds: RuntimeError mostly
        raise StepError(
            f"{provider.package} cannot open {path.name}: {error}",
            "use another --precision, which other providers run",
        ) from error


def answer_apart(
    path: Path,
    outputs: list[str],
    feeds: Iterable[dict[str, NDArray[Any]]],
    provider: Provider,
) -> Iterator[dict[str, NDArray[Any]]]:
    """The named outputs for each feed.

    Raises:
        EnvironmentMissing, StepError: as `open_apart`; or it cannot run the model.
    """
    session = open_apart(path, provider)
    for feed in feeds:
        try:
            values = session.run(outputs, feed)
        except Exception as error:  # as above
            raise StepError(
                f"{provider.package} cannot run {path.name}: {error}",
                "use another --precision, which other providers run",
            ) from error
        yield {n: np.asarray(v, order="C") for n, v in zip(outputs, values, strict=True)}


def require_here(provider: Provider) -> None:
    """Raise unless this machine can run a model on it.

    Raises:
        EnvironmentMissing: the package is not installed, or the CPU lacks the arithmetic that the options ask for.
    """
    why = _why_not_here(provider.model_dump_json())
    if why:
        raise EnvironmentMissing(why, _remedy(provider))


@lru_cache(maxsize=8)
def _why_not_here(text: str) -> str:
    provider = Provider.model_validate_json(text)
    try:
        _runtime(provider)(_identity(), provider.options, 1)
    except ImportError as error:
        return _not_installed(provider, error)
    except Exception as error:  # as above
        return f"{provider.package} does not run here: {error}"
    return ""


def _runtime(provider: Provider) -> Any:
    runtimes = python_loader().RUNTIMES
    if provider.package not in runtimes:
        raise RuntimeError(f"the loader knows no package {provider.package!r}")
    return runtimes[provider.package]


def _not_installed(provider: Provider, error: ImportError) -> str:
    return f"{provider.name} needs the package {provider.package}: {error}"


def _remedy(provider: Provider) -> str:
    return f"pip install {provider.package}=={provider.version}, on a CPU that it runs the model on"


def _identity() -> bytes:
    """A model that does next to nothing."""
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "identity", [x], [y])
    opsets = [helper.make_opsetid("", 17)]
    return bytes(helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString())
