"""What some bundles' models need of ONNX Runtime, as the input of its own custom build: operators, types, settings, script."""

from __future__ import annotations

import hashlib
import json
import logging
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Any

import pydantic
from pydantic import BaseModel, ConfigDict

from edgepack.artifact import Format
from edgepack.bundle.manifest import Manifest
from edgepack.bundle.open import check_files, load_manifest
from edgepack.errors import BundleError, UsageError
from edgepack.resources import RUNTIME
from edgepack.workspace import publish, refuse_existing, workspace
from edgepack.yamlfile import YamlFile, explain

CONFIG = "required_operators_and_types.config"
SUMMARY = "runtime-config.json"
_RECIPES = RUNTIME / "reduced"


class Recipe(BaseModel):
    """How ONNX Runtime is built for a language's package.

    Attributes:
        files: file here → file in the result; templates.
        providers: what its build takes to have each provider.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    files: dict[str, str]
    providers: dict[str, tuple[str, ...]]


@dataclass(frozen=True, kw_only=True)
class RuntimeConfig:
    """A finished folder.

    Attributes:
        tag: of ONNX Runtime's repository, which the scripts build.
        operators: how many there are, over all domains and versions.
        files: by name, in order.
    """

    folder: Path
    tag: str
    bundles: tuple[str, ...]
    providers: tuple[str, ...]
    operators: int
    files: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """Plain data."""
        return {**vars(self), "folder": str(self.folder)}


def runtime_config(
    bundles: Sequence[str | Path], output_dir: str | Path, *, overwrite: bool = False
) -> RuntimeConfig:
    """Merge the operators and types of several bundles' .ort models, and write what ONNX Runtime's custom build takes.

    The same bundles, in any order, give the same bytes.

    Args:
        output_dir: a folder that is made; `overwrite`: it may be there.

    Raises:
        UsageError: no bundle; a model that is no .ort file; other versions of ONNX Runtime; a language that has no custom build.
        BundleError: a bundle is damaged.
        OutputError: the folder is there already, or cannot be written.
    """
    if not bundles:
        raise UsageError("no bundle was given", "name the folders of one or more bundles")
    opened = {Path(b): _open(Path(b)) for b in sorted(map(str, bundles))}
    manifests = sorted(opened.values(), key=lambda m: (m.release.app, m.target.name))
    version = _one_version(opened)
    recipes = {language: _recipe(opened, language) for language in _languages(manifests)}
    models = sorted(root / m.model.path for root, m in opened.items())
    output = Path(output_dir)
    refuse_existing([output], overwrite=overwrite)
    with workspace(output.parent) as scratch:
        folder = scratch / "config"
        folder.mkdir()
        operators = _write_operators(models, folder / CONFIG)
        for language, recipe in recipes.items():
            _write_recipe(
                recipe, language, [m for m in manifests if m.runtime.language == language], folder
            )
        _write_summary(manifests, version, folder)
        publish([(folder, output)], scratch)
    return RuntimeConfig(
        folder=output,
        tag=_tag(version),
        bundles=tuple(_name(m) for m in manifests),
        providers=_providers(manifests),
        operators=operators,
        files=tuple(sorted(p.name for p in output.iterdir())),
    )


def _open(bundle: Path) -> Manifest:
    manifest = load_manifest(bundle)
    check_files(bundle, manifest)
    if manifest.model.format != Format.ORT.value:
        raise UsageError(
            f"{bundle}: {manifest.model.path} is an {manifest.model.format} model, which a reduced ONNX Runtime does not open",
            "give bundles whose model is .ort (`edgepack targets list` shows each target's model)",
        )
    return manifest


def _one_version(opened: dict[Path, Manifest]) -> str:
    versions = {m.runtime.version for m in opened.values()}
    if len(versions) > 1:
        each = ", ".join(f"{root} {m.runtime.version}" for root, m in opened.items())
        raise UsageError(
            f"the bundles are made for several versions of ONNX Runtime: {each}",
            "run it once for the bundles of each version, or build them with the same edgepack",
        )
    return versions.pop()


def _languages(manifests: Sequence[Manifest]) -> tuple[str, ...]:
    return tuple(sorted({m.runtime.language for m in manifests}))


def _recipe(opened: dict[Path, Manifest], language: str) -> Recipe:
    place = _RECIPES / language / "reduced.yaml"
    users = {root: m for root, m in opened.items() if m.runtime.language == language}
    if not place.is_file():
        known = sorted(p.parent.name for p in _RECIPES.glob("*/reduced.yaml"))
        raise UsageError(
            f"{', '.join(map(str, users))}: {next(iter(users.values())).runtime.package} has no custom build here",
            f"give bundles with a loader in {' or '.join(known)}",
        )
    file = YamlFile(place)
    try:
        recipe = Recipe.model_validate(file.data)
    except pydantic.ValidationError as error:
        raise explain(error, file, {"": tuple(Recipe.model_fields)}) from error
    for root, manifest in users.items():
        unknown = [p.name for p in manifest.runtime.providers if p.name not in recipe.providers]
        if unknown:
            raise UsageError(
                f"{root} wants {', '.join(unknown)}, which the custom build for {language} does not have",
                f"add it to {place}, with what ONNX Runtime's build.py takes for it",
            )
    return recipe


def _write_operators(models: Sequence[Path], place: Path) -> int:
    """ONNX Runtime's own tool knows which types matter for which operator; its comments hold paths, and go."""
    from onnxruntime.tools.ort_format_model import create_config_from_models
    from onnxruntime.tools.reduced_build_config_parser import parse_config

    logger = logging.getLogger("ort_format_model.utils")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            # Its reader leaves files to the garbage collector.
            warnings.simplefilter("ignore", ResourceWarning)
            create_config_from_models(models, place, enable_type_reduction=True)
    except Exception as error:  # its reader has no errors of its own
        raise BundleError(
            f"onnxruntime cannot read the operators of {', '.join(map(str, models))} ({type(error).__name__}: {error})",
            "build the bundles again",
        ) from error
    finally:
        logger.setLevel(level)
    lines = place.read_text(encoding="utf-8").splitlines()
    kept = [line for line in lines if line and not line.startswith("#")]
    place.write_text("\n".join(kept) + "\n", encoding="utf-8")
    required, _ = parse_config(str(place), True)
    return sum(len(names) for versions in required.values() for names in versions.values())


def _write_recipe(
    recipe: Recipe, language: str, manifests: Sequence[Manifest], folder: Path
) -> None:
    flags = [f for name in _providers(manifests) for f in recipe.providers[name]]
    version = manifests[0].runtime.version
    # Only what has a strict form: a script is made of it, and bundles are anyone's.
    values = {
        "version": version,
        "tag": _tag(version),
        "config": CONFIG,
        "bundles": ", ".join(map(_name, manifests)),
        "provider_params": "".join(f', "{flag}"' for flag in sorted(flags)),
    }
    for source, name in recipe.files.items():
        text = (_RECIPES / language / source).read_text(encoding="utf-8")
        (folder / name).write_text(Template(text).substitute(values), encoding="utf-8")


def _write_summary(manifests: Sequence[Manifest], version: str, folder: Path) -> None:
    digests = {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.iterdir())}
    models = [
        {"bundle": _name(m), "sha256": next(f.sha256 for f in m.files if f.path == m.model.path)}
        for m in manifests
    ]
    models.sort(key=lambda model: (model["bundle"], model["sha256"]))
    summary = {"onnxruntime": _tag(version), "models": models, "files": digests}
    text = json.dumps(summary, indent=2, ensure_ascii=False, sort_keys=True)
    (folder / SUMMARY).write_text(text + "\n", encoding="utf-8")


def _name(manifest: Manifest) -> str:
    return f"{manifest.release.app}-{manifest.target.name}"


def _providers(manifests: Sequence[Manifest]) -> tuple[str, ...]:
    return tuple(sorted({p.name for m in manifests for p in m.runtime.providers}))


def _tag(version: str) -> str:
    return f"v{version}"
