"""Write a bundle into an empty folder."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgepack import __version__
from edgepack.artifact import ModelFile, TensorSpec, file_sha256
from edgepack.bundle import loaders
from edgepack.bundle.manifest import (
    MANIFEST,
    SCHEMA,
    Build,
    ChosenPrecision,
    Expectation,
    File,
    GoldenCase,
    GoldenInput,
    Manifest,
    Model,
    Release,
    RuntimeSpec,
    SourceModel,
    StageRecord,
    Target,
    Tensor,
)
from edgepack.bundle.preprocessing import settled
from edgepack.bundle.sbom import SBOM, sbom
from edgepack.errors import StepError
from edgepack.passes.plan import Plan
from edgepack.prove.engine import Tensors
from edgepack.prove.parity import absolute_bound
from edgepack.samples.frame import Frame

_TOOLS = ("numpy", "onnx", "onnxruntime", "tf2onnx", "tensorflow", "tensorflow-cpu", "keras")


@dataclass(frozen=True, kw_only=True)
class Golden:
    """The golden feeds, the source framework's answers, and where the feeds came from.

    Attributes:
        rounding: by output, how far off the source's own answers may be (see intake.source.Source).
    """

    feeds: Sequence[Tensors]
    source: Sequence[Tensors]
    origin: str
    rounding: Mapping[str, float] = field(default_factory=dict)


def write_bundle(
    folder: Path,
    *,
    plan: Plan,
    release: Release,
    source: SourceModel,
    model: ModelFile,
    shipped: Sequence[Tensors],
    sensitivity: Mapping[str, float],
    golden: Golden,
    stages: Sequence[StageRecord],
    precision: ChosenPrecision,
    log: str,
    frame: Frame | None = None,
) -> Manifest:
    """Fill `folder` with the model, golden tensors, loader, README, log and SBOM, and seal it with the manifest.

    Args:
        shipped: what `model` answers to the golden feeds on this machine.
        sensitivity: by output, how far those answers are off by rounding alone, see `prove.sensitivity`.
        frame: how an image becomes the first input.

    Raises:
        StepError: the model is too large for one file, and the target's loader takes no two.
    """
    _require_loadable(model, plan)
    writer = _Writer(folder)
    profile = plan.profile
    target = Target(name=profile.name, requires=profile.requires)
    shipped_model = Model(
        path=f"model/{release.app}.{model.format.value}",
        format=model.format.value,
        precision=plan.precision,
        opset=model.opset,
    )
    runtime = RuntimeSpec.model_validate(profile.runtime_for(plan.way).model_dump())
    inputs, outputs = _tensors(model.inputs, frame), _tensors(model.outputs)
    writer.copy(model.path, shipped_model.path, "model")
    for file in model.beside:
        writer.copy(file, f"model/{file.name}", "model")
    bounds = _bounds(plan, golden, shipped, sensitivity)
    cases = tuple(
        _case(writer, str(i), feed, source_answer, shipped_answer, bounds)
        for i, (feed, source_answer, shipped_answer) in enumerate(
            zip(golden.feeds, golden.source, shipped, strict=True)
        )
    )
    files = loaders.rendered(release, target, shipped_model, runtime, inputs, outputs)
    for path, content in files.items():
        writer.write(path, content, "doc" if path.endswith(".md") else "loader")
    writer.write("build.log", log.encode(), "log")
    apart = [plan.engine.package] if plan.engine else []
    tools = tool_versions(apart)
    bill = sbom(release, target, shipped_model, runtime, source, writer.files, tools)
    writer.write(SBOM, bill, "doc")
    manifest = Manifest(
        schema=SCHEMA,
        critical=(),
        release=release,
        target=target,
        model=shipped_model,
        inputs=inputs,
        outputs=outputs,
        runtime=runtime,
        golden=cases,
        files=tuple(sorted(writer.files, key=lambda f: f.path)),
        build=Build(
            source=source,
            precision=precision,
            golden_from=golden.origin,
            steps=tuple(stages),
            tools=tools,
        ),
    )
    (folder / MANIFEST).write_bytes(manifest.to_json())
    return manifest


def _require_loadable(model: ModelFile, plan: Plan) -> None:
    language = plan.profile.runtime.language
    if model.beside and not loaders.load_spec(language).weights_apart:
        raise StepError(
            f"{plan.profile.name}: the model has {model.size_bytes:,} bytes, more than one .onnx file can hold (2 GiB), "
            f"and the {language} loader opens one file",
            "use --precision fp16 or int8, or a target whose loader is Python",
        )


def tool_versions(others: Sequence[str] = ()) -> dict[str, str]:
    """edgepack's version and those of the packages that made the bundle, where installed.

    Args: others: packages that this bundle's model was proved with, besides those of every build.
    """
    versions = {"edgepack": __version__}
    for name in (*_TOOLS, *others):
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions


class _Writer:
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.files: list[File] = []

    def write(self, path: str, content: bytes, role: Any) -> None:
        (self._folder / path).parent.mkdir(parents=True, exist_ok=True)
        (self._folder / path).write_bytes(content)
        self.add(path, role)

    def copy(self, source: Path, path: str, role: Any) -> None:
        (self._folder / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, self._folder / path)
        self.add(path, role)

    def add(self, path: str, role: Any) -> None:
        full = self._folder / path
        self.files.append(
            File(path=path, size=full.stat().st_size, sha256=file_sha256(full), role=role)
        )


def _bounds(
    plan: Plan, golden: Golden, shipped: Sequence[Tensors], sensitivity: Mapping[str, float]
) -> dict[str, dict[str, tuple[float, float]]]:
    """(atol, rtol) of a device's answers, by output: from the shipped model's, and from the source's."""
    device, parity = plan.spec.device, plan.spec.parity
    bounds = {}
    for name in shipped[0]:
        near = absolute_bound([a[name] for a in shipped], device) + sensitivity.get(name, 0.0)
        # The device may be as far from the shipped answer as `device` says, and that as far from the source's as `parity`.
        far = near + absolute_bound([a[name] for a in golden.source], parity)
        far += golden.rounding.get(name, 0.0)
        bounds[name] = {"shipped": (near, device.rtol), "source": (far, device.rtol + parity.rtol)}
    return bounds


def _case(
    writer: _Writer,
    name: str,
    feed: Tensors,
    source: Tensors,
    shipped: Tensors,
    bounds: Mapping[str, Mapping[str, tuple[float, float]]],
) -> GoldenCase:
    inputs = []
    for i, (key, x) in enumerate(feed.items()):
        path = f"golden/{name}/input-{i}.bin"
        writer.write(path, _raw(x), "golden")
        inputs.append(GoldenInput(name=key, dtype=x.dtype.name, shape=x.shape, path=path))
    expect = []
    for i, (key, answer) in enumerate(shipped.items()):
        for (origin, (atol, rtol)), values in zip(
            bounds[key].items(), (answer, source[key]), strict=True
        ):
            path = f"golden/{name}/{origin}-{i}.bin"
            writer.write(path, _raw(values), "golden")
            expect.append(
                Expectation.model_validate(
                    {
                        "name": key,
                        "from": origin,
                        "dtype": values.dtype.name,
                        "shape": values.shape,
                        "path": path,
                        "atol": atol,
                        "rtol": rtol,
                    }
                )
            )
    return GoldenCase(name=name, inputs=tuple(inputs), expect=tuple(expect))


def _raw(x: NDArray[Any]) -> bytes:
    """Little-endian, row-major."""
    return np.ascontiguousarray(x).astype(x.dtype.newbyteorder("<"), copy=False).tobytes()


def _tensors(specs: Sequence[TensorSpec], frame: Frame | None = None) -> tuple[Tensor, ...]:
    images = {} if frame is None else {0: settled(frame)}
    return tuple(
        Tensor(name=s.name, dtype=s.dtype, shape=s.shape, preprocessing=images.get(i))
        for i, s in enumerate(specs)
    )
