"""onnxruntime on the build machine: the engine every stage is proved with."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgepack.errors import StepError
from edgepack.prove.apart import answer_apart
from edgepack.runtimes import Provider
from edgepack.weights import SMALL_BYTES

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

#: Arrays by the name of an input or output.
Tensors = Mapping[str, NDArray[Any]]
#: A model's outputs for several feeds.
Answers = list[dict[str, NDArray[Any]]]


def session_options(
    *, timed: bool = False, optimize: bool = True, folder: Path | None = None
) -> Any:
    """onnxruntime's options for every session that proves something.

    Args:
        timed: with the fastest kernels, as on a device, and one thread.
        optimize: run all graph optimizations; otherwise none.
        folder: where the files lie that a model in memory refers to.
    """
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 4
    level = ort.GraphOptimizationLevel
    options.graph_optimization_level = level.ORT_ENABLE_ALL if optimize else level.ORT_DISABLE_ALL
    if timed:
        options.intra_op_num_threads = options.inter_op_num_threads = 1
    # A fixed order of sums: the same model gives the same golden tensors on the same machine.
    options.use_deterministic_compute = not timed
    # x86 without VNNI overflows in U8S8 products: prove the graph, not that kernel. (kOrtSessionOptionsAvx2PrecisionMode)
    # The exact products take twice the time on CPUs that have it.
    options.add_session_config_entry("session.x64quantprecision", "0" if timed else "1")
    # A float bias stays one: rounded to the scale of integers it would give other answers than the graph says, and than a device gives
    # whose profile forbids it. (TensorRT refuses what these make: int32 DequantizeLinears, onnxruntime#22889.)
    options.add_session_config_entry(
        "optimization.disable_specified_optimizers", "WeightBiasQuantization;BiasQuantization"
    )
    if folder is not None:
        # Source: onnxruntime_session_options_config_keys.h.
        options.add_session_config_entry(
            "session.model_external_initializers_file_folder_path", str(folder)
        )
    return options


def create_session(model: Path | bytes, options: Any, name: str) -> Any:
    """An onnxruntime session on the CPU, of a file or of a model in memory.

    Args: name: the model's, for messages.

    Raises:
        StepError: onnxruntime refuses the model; its own words are in the error.
    """
    import onnxruntime as ort

    source = str(model) if isinstance(model, Path) else model
    try:
        return ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise StepError(
            f"onnxruntime {ort.__version__} cannot open {name}: {error}",
            "the graph is not legal ONNX for this runtime; the message names the node",
        ) from error


def open_session(
    path: Path, *, optimize: bool = True, save_to: Path | None = None, weights_apart: bool = False
) -> Any:
    """An onnxruntime session on the CPU for the model at `path`.

    Args:
        optimize: as in `session_options`.
        save_to: run only those that keep standard operators ("basic"), and write that graph here.
        weights_apart: write its weights to `<save_to>.data`, as a graph of more than 2 GiB needs.

    Raises:
        StepError: as `create_session`.
    """
    import onnxruntime as ort

    options = session_options(optimize=optimize)
    if save_to is not None:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.optimized_model_filepath = str(save_to)
        # Nothing will be run: no copies in the layout of this machine's kernels.
        options.add_session_config_entry("session.disable_prepacking", "1")
    if save_to is not None and weights_apart:
        # Source: onnxruntime_session_options_config_keys.h.
        external = "session.optimized_model_external_initializers"
        options.add_session_config_entry(f"{external}_file_name", f"{save_to.name}.data")
        options.add_session_config_entry(f"{external}_min_size_in_bytes", str(SMALL_BYTES))
    return create_session(path, options, path.name)


def answers(
    path: Path,
    feeds: Sequence[Tensors],
    *,
    optimize: bool = True,
    engine: Provider | None = None,
) -> Answers:
    """The model's outputs by name for each feed, all from one session.

    Args: engine: a provider with a runtime of its own, to be asked instead of onnxruntime.

    Raises:
        StepError: onnxruntime, or the engine, cannot open or run it. EnvironmentMissing: the engine is not installed.
    """
    return list(answer_each(path, feeds, optimize=optimize, engine=engine))


def answer_each(
    path: Path,
    feeds: Iterable[Tensors],
    *,
    optimize: bool = True,
    engine: Provider | None = None,
) -> Iterator[dict[str, NDArray[Any]]]:
    """As `answers`, one feed at a time: neither feeds nor outputs are held."""
    if engine is not None:
        names = [o.name for o in open_session(path, optimize=False).get_outputs()]
        yield from answer_apart(path, names, (dict(feed) for feed in feeds), engine)
        return
    session = open_session(path, optimize=optimize)
    for feed in feeds:
        yield run_session(session, path.name, feed)


def run_session(
    session: Any, name: str, feed: Tensors, outputs: Sequence[str] = ()
) -> dict[str, NDArray[Any]]:
    """A session's outputs by name for one feed.

    Args:
        name: the model's, for messages.
        outputs: those that are wanted; all, without any.

    Raises:
        StepError: onnxruntime cannot run it.
    """
    names = [*outputs] or [o.name for o in session.get_outputs()]
    try:
        values = session.run(names, dict(feed))
    except Exception as error:
        shapes = ", ".join(f"{k} {v.dtype} {list(v.shape)}" for k, v in feed.items())
        raise StepError(
            f"onnxruntime cannot run {name} on {shapes}: {error}",
            "check the shapes (--shape, --batch), and that the data hold what the model takes (indices within its tables); "
            "the message names the node",
        ) from error
    return {n: np.asarray(v, order="C") for n, v in zip(names, values, strict=True)}
