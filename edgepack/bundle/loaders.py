"""The loader that goes into a bundle: `runtime/<language>/` as its `runtime.yaml` says."""

from __future__ import annotations

import math
import re
from base64 import b64encode
from collections.abc import Mapping, Sequence
from pathlib import Path
from string import Template

import pydantic
from pydantic import BaseModel, ConfigDict, Field

from edgepack.bundle.application import application
from edgepack.bundle.manifest import Manifest, Model, Release, RuntimeSpec, Target, Tensor
from edgepack.errors import TargetError
from edgepack.names import bundle_name
from edgepack.resources import RUNTIME
from edgepack.yamlfile import YamlFile, explain

_STRICT = ConfigDict(extra="forbid", frozen=True)
#: semver.org, 2.0.0, without build metadata, which npm drops.
_SEMANTIC = r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(-[0-9A-Za-z-]+(\.[0-9A-Za-z-]+)*)?"
#: What is written anew for each build and is never run.
UNRENDERED = {"build.log", "sbom.cdx.json"}


class SelfTest(BaseModel):
    """How a host runs a bundle's own loader: programs needed, and the command, run in the bundle's folder.

    `$python` is the interpreter edgepack runs in, `$cwd` the folder from which it was called.
    """

    model_config = _STRICT
    needs: tuple[str, ...]
    command: tuple[str, ...]
    environment: dict[str, str] = Field(default_factory=dict)


class LoaderSpec(BaseModel):
    """What a language's loader consists of: file here → place in the bundle.

    Attributes:
        weights_apart: it opens a model whose weights lie in a second file.
        beside: languages whose loaders go into the same bundles, for those who cannot use this one.
        applications: Python programs in one file, place in the bundle → the files and folders below runtime/ that they consist of.
        purl: the package URL of its runtime, with $package and $version; empty if there is no registry.
    """

    model_config = _STRICT
    language: str
    weights_apart: bool = Field(default=False)
    beside: tuple[str, ...] = ()
    applications: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    purl: str = Field(default="")
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
    ours = rendered(
        manifest.release,
        manifest.target,
        manifest.model,
        manifest.runtime,
        manifest.inputs,
        manifest.outputs,
    )
    others = {f.path for f in manifest.files} - ours.keys() - UNRENDERED
    return all(p.startswith(("model/", "golden/")) for p in others) and all(
        (bundle / place).is_file() and (bundle / place).read_bytes() == text
        for place, text in ours.items()
    )


def rendered(
    release: Release,
    target: Target,
    model: Model,
    runtime: RuntimeSpec,
    inputs: Sequence[Tensor],
    outputs: Sequence[Tensor],
) -> dict[str, bytes]:
    """The loader's files by their place in a bundle.

    Those that end in `.in` here are templates: `$name` stands for a value below, `$requires_x` for the target's `requires: x`.

    Raises:
        TargetError: a template wants what the target does not say.
    """
    first = inputs[0]
    sizes = [d if isinstance(d, int) else 1 for d in first.shape]
    values = {
        "app": release.app,
        "target": target.name,
        "bundle": bundle_name(release.app, target.name),
        "identifier": re.sub(r"\W", "_", bundle_name(release.app, target.name)).lower(),
        "precision": model.precision,
        "model_path": model.path,
        "package": runtime.package,
        "version": runtime.version,
        "min_version": runtime.min_version,
        "providers": ", ".join(p.name for p in runtime.providers),
        "packages_apart": "".join(
            f" {p.name} is in the package {p.package} {p.version}, which is installed beside it."
            for p in runtime.providers
            if p.package
        ),
        "inputs_table": _table(inputs),
        "outputs_table": _table(outputs),
        "input_name": first.name,
        "input_dtype": first.dtype,
        "input_shape": ", ".join(map(str, sizes)),
        "input_elements": str(math.prod(sizes)),
        "output_name": outputs[0].name,
        **_of_web(release, target, runtime),
        **{f"requires_{key}": value.lstrip(">= ") for key, value in target.requires.items()},
    }
    files = {}
    for language in (*load_spec(runtime.language).beside, runtime.language):
        spec = load_spec(language)
        for place, sources in spec.applications.items():
            files[place] = application([RUNTIME / source for source in sources])
        for source, place in spec.files.items():
            text = (RUNTIME / language / source).read_bytes()
            if source.endswith(".in"):
                text = _filled(text.decode(), values, f"runtime/{language}/{source}").encode()
            files[place] = text
    return files


def _filled(template: str, values: Mapping[str, str], place: str) -> str:
    try:
        return Template(template).substitute(values)
    except KeyError as error:
        key = error.args[0]
        raise TargetError(
            f"{place}: nothing stands for ${key} in target {values['target']}",
            f"add requires: {key.removeprefix('requires_')} to the target, or start it with `extends:`",
        ) from error


def _of_web(release: Release, target: Target, runtime: RuntimeSpec) -> dict[str, str]:
    """What npm and pages need: a package's name is in lower case and its version semantic, an integrity is in base64."""
    module = next((f for f in runtime.files if f.path.endswith(".mjs")), None)
    digest = b64encode(bytes.fromhex(module.sha256)).decode() if module else ""
    return {
        "package_name": bundle_name(release.app, target.name).lower(),
        "package_version": release.version if re.fullmatch(_SEMANTIC, release.version) else "0.0.0",
        "runtime_module": module.path if module else "",
        "runtime_entry": module.path.split(".")[1] if module else "",
        "runtime_integrity": f"sha256-{digest}",
        "runtime_wasm": next((f.path for f in runtime.files if f.path.endswith(".wasm")), ""),
    }


def _table(specs: Sequence[Tensor]) -> str:
    rows = [f"| `{s.name}` | {s.dtype} | {', '.join(map(str, s.shape))} |" for s in specs]
    return "\n".join(["| name | dtype | shape |", "|---|---|---|", *rows])
