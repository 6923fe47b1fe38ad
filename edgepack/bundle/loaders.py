"""The loader that goes into a bundle: `runtime/<language>/` as its `runtime.yaml` says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from string import Template
from typing import Any

import pydantic
from pydantic import BaseModel, ConfigDict, Field

from edgepack.artifact import TensorSpec
from edgepack.bundle.manifest import Manifest, Tensor
from edgepack.resources import RUNTIME
from edgepack.yamlfile import YamlFile, explain

_STRICT = ConfigDict(extra="forbid", frozen=True)


class SelfTest(BaseModel):
    """How a host runs a bundle's own loader: programs needed, and the command, run in the bundle's folder.

    `$python` is the interpreter edgepack runs in, `$cwd` the folder from which it was called.
    """

    model_config = _STRICT
    needs: tuple[str, ...]
    command: tuple[str, ...]
    environment: dict[str, str] = Field(default_factory=dict)


class LoaderSpec(BaseModel):
    """What a language's loader consists of: file here → place in the bundle."""

    model_config = _STRICT
    language: str
    files: dict[str, str]
    self_test: SelfTest | None = Field(default=None)


def load_spec(language: str) -> LoaderSpec:
    """The loader of a language.

    Raises:
        TargetError: its runtime.yaml is missing or not valid.
    """
    file = YamlFile(RUNTIME / language / "runtime.yaml")
    try:
        return LoaderSpec.model_validate(file.data)
    except pydantic.ValidationError as error:
        known = {"": tuple(LoaderSpec.model_fields), "self_test": tuple(SelfTest.model_fields)}
        raise explain(error, file, known) from error


def is_ours(manifest: Manifest, bundle: Path) -> bool:
    """Whether all that could be run in a bundle is, byte for byte, what this edgepack would write for its manifest.

    Whatever else lies in it must be below `model/` and `golden/`, where no loader looks for code.
    """
    runtime = manifest.runtime
    values = template_values(
        app=manifest.release.app,
        target=manifest.target.name,
        bundle=f"{manifest.release.app}-{manifest.target.name}",
        precision=manifest.model.precision,
        model_path=manifest.model.path,
        runtime=runtime,
        inputs=manifest.inputs,
        outputs=manifest.outputs,
    )
    ours = rendered(runtime.language, values)
    others = {f.path for f in manifest.files} - ours.keys() - {"build.log"}
    return all(p.startswith(("model/", "golden/")) for p in others) and all(
        (bundle / place).is_file() and (bundle / place).read_bytes() == text
        for place, text in ours.items()
    )


def rendered(language: str, values: Mapping[str, str]) -> dict[str, bytes]:
    """The loader's files by their place in a bundle; those that end in `.in` here are templates, filled with `values`."""
    files = {}
    for source, place in load_spec(language).files.items():
        text = (RUNTIME / language / source).read_bytes()
        if source.endswith(".in"):
            text = Template(text.decode()).substitute(values).encode()
        files[place] = text
    return files


def render(language: str, values: Mapping[str, str], into: Path) -> list[str]:
    """Write the loader into the bundle folder `into`. Returns the relative paths."""
    files = rendered(language, values)
    for place, text in files.items():
        path = into / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text)
    return list(files)


def template_values(
    *,
    app: str,
    target: str,
    bundle: str,
    precision: str,
    model_path: str,
    runtime: Any,
    inputs: Sequence[TensorSpec | Tensor],
    outputs: Sequence[TensorSpec | Tensor],
) -> dict[str, str]:
    """What a loader's templates may name; see runtime/README.md."""
    first = inputs[0]
    sizes = [d if isinstance(d, int) else 1 for d in first.shape]
    elements = 1
    for size in sizes:
        elements *= size
    return {
        "app": app,
        "target": target,
        "bundle": bundle,
        "precision": precision,
        "model_path": model_path,
        "package": runtime.package,
        "version": runtime.version,
        "min_version": runtime.min_version,
        "providers": ", ".join(p.name for p in runtime.providers),
        "inputs_table": _table(inputs),
        "outputs_table": _table(outputs),
        "input_name": first.name,
        "input_dtype": first.dtype,
        "input_shape": ", ".join(map(str, sizes)),
        "input_elements": str(elements),
        "output_name": outputs[0].name,
    }


def _table(specs: Sequence[TensorSpec | Tensor]) -> str:
    rows = [f"| `{s.name}` | {s.dtype} | {', '.join(map(str, s.shape))} |" for s in specs]
    return "\n".join(["| name | dtype | shape |", "|---|---|---|", *rows])
