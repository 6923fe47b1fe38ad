"""A SavedModel folder that may be handed to TensorFlow: its files stay in it, and its graphs do nothing but compute."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from edgepack.errors import ModelError
from edgepack.intake.vet import operators
from edgepack.intake.vet.actions import reached, vet_actions
from edgepack.intake.vet.graph import vet_graphdef
from edgepack.intake.vet.walk import bodies

#: protobuf's own limit for one message.
_BYTES = (2 << 30) - 1
_FILES = 10_000
_SHARD = re.compile(r"variables\.data-(\d{5})-of-(\d{5})")
_COPY = "copy the whole folder again: saved_model.pb, variables/ and assets/"
_VARIABLES = {"VarHandleOp", "VariableV2", "Variable"}
#: Where TF 1 and 2 put what runs as the model is loaded (tensorflow/python/saved_model/constants.py).
_INIT = ("saved_model_main_op", "legacy_init_op", "saved_model_init_op")


def vet_savedmodel(folder: Path, *, trusted: bool = False) -> None:
    """Nothing, if TensorFlow may load the SavedModel.

    Raises:
        ModelError: a file or asset lies elsewhere or is missing, saved_model.pb cannot be parsed, or a graph breaks a rule of `graph`.
    """
    faults = list(_folder_faults(folder))
    if faults:
        raise ModelError(
            f"{folder} is no folder that TensorFlow writes: {'; '.join(faults[:10])}",
            "export it again; if it comes from somebody else, do not load it",
        )
    path, saved = _parse(folder)
    if not saved.meta_graphs:
        raise ModelError(f"{path} holds no graph", _COPY)
    for meta in saved.meta_graphs:
        _check_assets(meta, folder)
        vet_metagraph(meta, path, trusted=trusted)
        if _has_variables(meta.graph_def):
            _check_variables(folder)


def vet_metagraph(
    meta: Any, path: Path, roots: Collection[str] | None = None, *, trusted: bool = False
) -> None:
    """Nothing, if TensorFlow may import a parsed MetaGraphDef (of a SavedModel, or a checkpoint's .meta), restore and run it.

    Args:
        roots: what will be run; None: all signatures, initializers and functions (a .meta has none: `graph.vet_actions` once its outputs
            are known).
        trusted: what its operators do does not matter, only their form.

    Raises:
        ModelError: as `graph.vet_graphdef` and `graph.vet_actions`; or restoring does more than read variables.
    """
    graph_def = meta.graph_def
    vet_graphdef(graph_def, path, trusted=trusted)
    if trusted:
        return
    assets = [a.tensor_info.name for a in _assets(meta)]
    vet_actions(graph_def, path, list(_run(meta)) if roots is None else roots, assets=assets)
    restore = reached(graph_def, [meta.saver_def.restore_op_name])
    for place, nodes in bodies(graph_def).items():
        for node in nodes:
            if (place, node.name) not in restore or not operators.may_act(node.op):
                continue
            does = operators.refusal(node.op, node.proto.attr)
            if does or operators.SAVING.fullmatch(node.op):
                raise ModelError(
                    f"{path}: restoring its variables would do more than read them: {node.op} {node.name!r}",
                    "export it again; if it comes from somebody else, do not load it",
                )


def _run(meta: Any) -> Iterator[str]:
    """Nodes and functions that loading and calling the model run."""
    for signature in meta.signature_def.values():
        for info in signature.outputs.values():
            yield info.name
            yield from (t.name for t in info.composite_tensor.components)
            sparse = info.coo_sparse
            yield from (
                sparse.values_tensor_name,
                sparse.indices_tensor_name,
                sparse.dense_shape_tensor_name,
            )
    for name in _INIT:
        if name in meta.collection_def:
            yield from meta.collection_def[name].node_list.value
    yield from meta.object_graph_def.concrete_functions


def _folder_faults(folder: Path) -> Iterator[str]:
    """Links, devices and pipes: TensorFlow follows them wherever they lead."""
    root = folder.resolve()
    count = 0
    for place, folders, files in os.walk(folder):
        for name in [*folders, *files]:
            path = Path(place, name)
            count += 1
            if count > _FILES:
                yield f"more than {_FILES} files"
                return
            inside = path.relative_to(folder)
            if path.is_symlink() and not path.resolve().is_relative_to(root):
                yield f"{inside} is a symlink to {os.readlink(path)!r}, outside the folder"
            elif not path.is_dir() and not path.is_file():
                yield f"{inside} is a dangling symlink, a device or a pipe"


def _parse(folder: Path) -> tuple[Path, Any]:
    from google.protobuf import text_format
    from google.protobuf.message import DecodeError
    from tensorflow.core.protobuf import saved_model_pb2

    saved = saved_model_pb2.SavedModel()
    path = folder / "saved_model.pb"
    binary = path.is_file()
    path = path if binary else folder / "saved_model.pbtxt"
    try:
        if path.stat().st_size > _BYTES:
            raise ModelError(f"{path} is larger than 2 GiB", "a SavedModel's graph cannot be")
        if binary:
            saved.ParseFromString(path.read_bytes())
        else:
            text_format.Parse(path.read_text(encoding="utf-8"), saved)
    except (DecodeError, text_format.ParseError, UnicodeDecodeError, RecursionError) as error:
        raise ModelError(f"{path} is damaged (cut short?): {error}", _COPY) from error
    return path, saved


def _assets(meta: Any) -> list[Any]:
    """AssetFileDefs, which TF 1 puts into a collection (constants.ASSETS_KEY)."""
    from tensorflow.core.protobuf import meta_graph_pb2

    assets = list(meta.asset_file_def)
    if "saved_model_assets" in meta.collection_def:
        for packed in meta.collection_def["saved_model_assets"].any_list.value:
            assets.append(meta_graph_pb2.AssetFileDef.FromString(packed.value))
    return assets


def _check_assets(meta: Any, folder: Path) -> None:
    for asset in _assets(meta):
        name = asset.filename
        parts = (PurePosixPath(name), PureWindowsPath(name))
        if any(p.is_absolute() or p.drive or ".." in p.parts for p in parts):
            raise ModelError(
                f"{folder}: the asset {name[:200]!r} lies outside the folder",
                "export it again; if it comes from somebody else, do not load it",
            )
        if not (folder / "assets" / name).is_file():
            raise ModelError(f"{folder}: assets/{name[:200]} is missing", _COPY)


def _has_variables(graph_def: Any) -> bool:
    return any(n.op in _VARIABLES for n in graph_def.node)


def _check_variables(folder: Path) -> None:
    variables = folder / "variables"
    if not (variables / "variables.index").is_file():
        raise ModelError(
            f"{folder}: variables/variables.index is missing, but the graph has variables", _COPY
        )
    shards = [m for p in sorted(variables.iterdir()) if (m := _SHARD.fullmatch(p.name))]
    wanted = int(shards[0][2]) if shards else 1
    if len(shards) != wanted:
        raise ModelError(
            f"{folder}: {len(shards)} of {wanted} files variables/variables.data-… are there", _COPY
        )
