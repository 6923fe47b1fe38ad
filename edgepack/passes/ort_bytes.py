"""The same .ort bytes in every run.

An ORT-format file is a flatbuffer: the root, a table of kernel types by operator, and the model, in this order. onnxruntime writes
the middle part from a hash map whose order differs from run to run. Here it is written again in sorted order; the model's own
bytes are kept.

Source: onnxruntime, core/flatbuffers/schema/ort.fbs (InferenceSession, KernelTypeStrResolver).
"""

from __future__ import annotations

import mmap
from pathlib import Path
from typing import Any

import flatbuffers

# The package puts its flatbuffer classes on the path when this is imported.
import onnxruntime.tools.ort_format_model  # noqa: F401
from ort_flatbuffers_py import fbs

_IDENTIFIER = b"ORTM"
#: The strictest alignment in the schema's vectors of raw data.
_ALIGNMENT = 16
#: Room in which the sorted table may turn out longer: a builder that must grow doubles.
_SLACK = 1 << 16
_BLOCK = 1 << 24


def write_canonical(source: Path, path: Path) -> None:
    """Write the ORT-format model at `source` to `path` with its kernel type table sorted; it is held in memory once."""
    with (
        source.open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data,
        path.open("wb") as written,
    ):
        builder = _sorted(data)
        written.write(memoryview(builder.Bytes)[builder.Head() :])


def canonical(data: bytes) -> bytes:
    """An ORT-format model with its kernel type table sorted; `canonical(canonical(x)) == canonical(x)`."""
    return bytes(_sorted(data).Output())


def _sorted(data: bytes | mmap.mmap) -> Any:
    """A finished flatbuffer builder."""
    session = fbs.InferenceSession.InferenceSession.GetRootAs(data, 0)
    entries = sorted(_entries(session.KernelTypeStrResolver()))
    model_at = session.Model()._tab.Pos
    # A flatbuffer is built back to front: what the model holds lies at and above its own table and that table's vtable.
    vtable_at = model_at - int.from_bytes(data[model_at : model_at + 4], "little", signed=True)
    kept_at = min(model_at, vtable_at)
    version_at = _version_at(session)

    builder = flatbuffers.Builder(len(data) + _SLACK)
    builder.head = len(builder.Bytes) - (len(data) - kept_at)
    for at in range(kept_at, len(data), _BLOCK):
        end = min(at + _BLOCK, len(data))
        place = builder.head + at - kept_at
        builder.Bytes[place : place + end - at] = data[at:end]
    builder.minalign = _ALIGNMENT
    resolver = _write_resolver(builder, entries)
    fbs.InferenceSession.Start(builder)
    fbs.InferenceSession.AddOrtVersion(builder, len(data) - version_at)
    fbs.InferenceSession.AddModel(builder, len(data) - model_at)
    fbs.InferenceSession.AddKernelTypeStrResolver(builder, resolver)
    builder.Finish(fbs.InferenceSession.End(builder), file_identifier=_IDENTIFIER)
    return builder


#: (operator, [(type parameter, [(input or output, index)])])
_Entry = tuple[str, list[tuple[str, list[tuple[int, int]]]]]


def _entries(resolver: Any) -> list[_Entry]:
    result: list[_Entry] = []
    for i in range(resolver.OpKernelTypeStrArgsLength()):
        operator = resolver.OpKernelTypeStrArgs(i)
        parameters = []
        for j in range(operator.KernelTypeStrArgsLength()):
            parameter = operator.KernelTypeStrArgs(j)
            args = [parameter.Args(k) for k in range(parameter.ArgsLength())]
            places = [(a.ArgType(), a.Index()) for a in args]
            parameters.append((parameter.KernelTypeStr().decode(), places))
        result.append((operator.OpId().decode(), sorted(parameters)))
    return result


def _version_at(session: Any) -> int:
    """Where the version string lies in the file."""
    table = session._tab
    field = table.Pos + table.Offset(4)
    return int(table.Indirect(field))


def _write_resolver(builder: Any, entries: list[_Entry]) -> int:
    def vector(start: Any, offsets: list[int]) -> int:
        start(builder, len(offsets))
        for offset in reversed(offsets):
            builder.PrependUOffsetTRelative(offset)
        return int(builder.EndVector())

    operators = []
    for name, parameters in entries:
        written = []
        for type_name, places in parameters:
            args = []
            for arg_type, index in places:
                fbs.ArgTypeAndIndex.Start(builder)
                fbs.ArgTypeAndIndex.AddArgType(builder, arg_type)
                fbs.ArgTypeAndIndex.AddIndex(builder, index)
                args.append(fbs.ArgTypeAndIndex.End(builder))
            args_at = vector(fbs.KernelTypeStrArgsEntry.StartArgsVector, args)
            type_at = builder.CreateString(type_name)
            fbs.KernelTypeStrArgsEntry.Start(builder)
            fbs.KernelTypeStrArgsEntry.AddKernelTypeStr(builder, type_at)
            fbs.KernelTypeStrArgsEntry.AddArgs(builder, args_at)
            written.append(fbs.KernelTypeStrArgsEntry.End(builder))
        parameters_at = vector(fbs.OpIdKernelTypeStrArgsEntry.StartKernelTypeStrArgsVector, written)
        name_at = builder.CreateString(name)
        fbs.OpIdKernelTypeStrArgsEntry.Start(builder)
        fbs.OpIdKernelTypeStrArgsEntry.AddOpId(builder, name_at)
        fbs.OpIdKernelTypeStrArgsEntry.AddKernelTypeStrArgs(builder, parameters_at)
        operators.append(fbs.OpIdKernelTypeStrArgsEntry.End(builder))
    operators_at = vector(fbs.KernelTypeStrResolver.StartOpKernelTypeStrArgsVector, operators)
    fbs.KernelTypeStrResolver.Start(builder)
    fbs.KernelTypeStrResolver.AddOpKernelTypeStrArgs(builder, operators_at)
    return int(fbs.KernelTypeStrResolver.End(builder))
