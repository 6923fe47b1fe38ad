"""An .ort file as an ONNX model again: every node, weight and name that onnxruntime's converter left in it.

The file is onnxruntime's own graph in a flatbuffer. Fused operators stay what they are, in the domains onnxruntime gave them; the
records of optimizations that a device may still replay (style "runtime") are no part of the graph and are left out.

A flatbuffer is all offsets, and a hostile one lets thousands of them point at one place, or in a circle. What is read is therefore
counted: tables and vectors may add up to no more than the file, which in a file that was written they cannot, since none is shared;
strings, which are shared, to `_STRINGS` times as much.

Source: onnxruntime, core/flatbuffers/schema/ort.fbs; flatbuffers, "Internals" (a table begins with an offset, a vector with its length).
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import onnx

# The package puts its flatbuffer classes on the path when this is imported.
import onnxruntime.tools.ort_format_model  # noqa: F401
from onnx import AttributeProto, helper
from ort_flatbuffers_py import fbs

from edgepack import weights
from edgepack.errors import ModelError, first_line
from edgepack.topology import in_order

IDENTIFIER = b"ORTM"
#: The least a table takes: the offset to its vtable.
_TABLE_BYTES = 4
#: Names are stored once and referred to by every node that uses them.
_STRINGS = 16
_DEPTH = 32
_REMEDY = "build or copy it again"


def is_ort(path: Path) -> bool:
    """Whether `path` is a file that says that it is in ORT format; one that cannot be read does not."""
    try:
        with path.open("rb") as file:
            return file.read(8)[4:8] == IDENTIFIER
    except OSError:
        return False


def read(path: Path) -> onnx.ModelProto:
    """The model at `path`, nodes in topological order; initializers of weights.SMALL_BYTES and more are references into the file.

    `edgepack.onnxfile.save(model, other, folder=path.parent)` writes it with its weights.

    Raises:
        ModelError: it is cut off or damaged, or holds what ONNX has no form for: a node that a provider compiled, sparse weights,
            weights outside the file, an operator of another version than its operator set has.
    """
    try:
        with (
            path.open("rb") as file,
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data,
        ):
            if data[4:8] != IDENTIFIER:
                raise ModelError(
                    f"{path} is no ORT-format model: its bytes 4–8 are {data[4:8]!r}, not {IDENTIFIER!r}",
                    "give an .ort file that onnxruntime's converter wrote",
                )
            return _Reader(data, path).model()
    except (
        struct.error,
        IndexError,
        ValueError,
        TypeError,
        AttributeError,
        OverflowError,
        KeyError,
    ) as error:
        # What reading beyond the end, at a place that holds something else, or nothing, comes to.
        raise ModelError(f"{path} is cut off or damaged ({first_line(error)})", _REMEDY) from error
    except OSError as error:
        raise ModelError(
            f"{path}: {error.strerror}", "check the path and who may read it"
        ) from error


class _Reader:
    def __init__(self, data: mmap.mmap, path: Path) -> None:
        self._data = data
        self._path = path
        self._left = len(data)
        self._strings_left = _STRINGS * len(data) + (1 << 20)
        self._depth = 0

    def model(self) -> onnx.ModelProto:
        session = fbs.InferenceSession.InferenceSession.GetRootAs(self._data, 0)
        given = self._table(session.Model())
        model = onnx.ModelProto()
        model.ir_version = given.IrVersion()
        model.producer_name = self._text(given.ProducerName())
        model.producer_version = self._text(given.ProducerVersion())
        model.domain, model.doc_string = self._text(given.Domain()), self._text(given.DocString())
        model.model_version = given.ModelVersion()
        for entry in self._tables(given.OpsetImport, given.OpsetImportLength()):
            model.opset_import.add(domain=self._text(entry.Domain()), version=entry.Version())
        for entry in self._tables(given.MetadataProps, given.MetadataPropsLength()):
            model.metadata_props.add(key=self._text(entry.Key()), value=self._text(entry.Value()))
        self._versions = {o.domain: o.version for o in model.opset_import}
        self._graph(given.Graph(), model.graph)
        model.graph.doc_string = self._text(given.GraphDocString())
        _drop_unused_domains(model)
        return model

    def _graph(self, given: Any, graph: onnx.GraphProto) -> None:
        self._table(given)
        # The format keeps no names of graphs, and ONNX takes none without.
        graph.name = "graph"
        self._depth += 1
        if self._depth > _DEPTH:
            raise ValueError(f"graphs in graphs, more than {_DEPTH} deep")
        if given.SparseInitializersLength():
            raise ModelError(
                f"{self._path} holds {given.SparseInitializersLength()} sparse initializers, which are not read",
                "convert the model with dense weights",
            )
        for tensor in self._tables(given.Initializers, given.InitializersLength()):
            # Only what stands in the model's own graph is read by reference everywhere.
            self._tensor(tensor, graph.initializer.add(), by_reference=self._depth == 1)
        values = {}
        for value in self._tables(given.NodeArgs, given.NodeArgsLength()):
            made = self._value(value)
            values[made.name] = made
        nodes = [self._node(n) for n in self._tables(given.Nodes, given.NodesLength())]
        graph.node.extend(in_order(nodes))
        for names, target in (
            (self._texts(given.Inputs, given.InputsLength()), graph.input),
            (self._texts(given.Outputs, given.OutputsLength()), graph.output),
        ):
            target.extend(values[n] if n in values else onnx.ValueInfoProto(name=n) for n in names)
        edges = {v.name for v in (*graph.input, *graph.output)}
        edges |= {"", *(i.name for i in graph.initializer)}
        graph.value_info.extend(
            v for n, v in values.items() if n not in edges and v.HasField("type")
        )
        self._depth -= 1

    def _node(self, given: Any) -> onnx.NodeProto:
        name, operator = self._text(given.Name()), self._text(given.OpType())
        domain = self._text(given.Domain())
        if given.Type() != fbs.NodeType.NodeType.Primitive:
            raise ModelError(
                f"{self._path}: node {name!r} ({operator}) was compiled by an execution provider; ONNX has no form for it",
                "convert the model on a machine with the CPU provider alone",
            )
        self._require_version(given, name, operator, domain)
        node = onnx.NodeProto(name=name, op_type=operator, domain=domain)
        node.doc_string = self._text(given.DocString())
        node.input.extend(self._texts(given.Inputs, given.InputsLength()))
        node.output.extend(self._texts(given.Outputs, given.OutputsLength()))
        for attribute in self._tables(given.Attributes, given.AttributesLength()):
            self._attribute(attribute, node.attribute.add())
        return node

    def _require_version(self, given: Any, name: str, operator: str, domain: str) -> None:
        version = self._versions.get(domain, 0)
        if not onnx.defs.has(operator, domain) or not version:
            return
        wanted = onnx.defs.get_schema(operator, version, domain).since_version
        if given.SinceVersion() not in (0, wanted):
            raise ModelError(
                f"{self._path}: node {name!r} is {operator} of version {given.SinceVersion()}; operator set {version} has {wanted}",
                "convert the model again with one onnxruntime",
            )

    def _attribute(self, given: Any, made: onnx.AttributeProto) -> None:
        kind = given.Type()
        made.name, made.type = self._text(given.Name()), kind
        made.doc_string = self._text(given.DocString())
        if kind == AttributeProto.FLOAT:
            made.f = given.F()
        elif kind == AttributeProto.INT:
            made.i = given.I()
        elif kind == AttributeProto.STRING:
            made.s = self._bytes(given.S())
        elif kind == AttributeProto.TENSOR:
            self._tensor(self._table(given.T()), made.t)
        elif kind == AttributeProto.GRAPH:
            self._graph(given.G(), made.g)
        elif kind == AttributeProto.FLOATS:
            made.floats.extend(self._numbers(given.FloatsLength(), 4, given.FloatsAsNumpy))
        elif kind == AttributeProto.INTS:
            made.ints.extend(self._numbers(given.IntsLength(), 8, given.IntsAsNumpy))
        elif kind == AttributeProto.STRINGS:
            for i in self._range(given.StringsLength()):
                made.strings.append(self._bytes(given.Strings(i)))
        elif kind == AttributeProto.TENSORS:
            for tensor in self._tables(given.Tensors, given.TensorsLength()):
                self._tensor(tensor, made.tensors.add())
        elif kind == AttributeProto.GRAPHS:
            for i in self._range(given.GraphsLength()):
                self._graph(given.Graphs(i), made.graphs.add())
        else:
            raise ValueError(f"attribute {made.name!r} is of type {kind}")

    def _tensor(self, given: Any, made: onnx.TensorProto, *, by_reference: bool = False) -> None:
        made.name, made.data_type = self._text(given.Name()), given.DataType()
        made.dims.extend(self._numbers(given.DimsLength(), 8, given.DimsAsNumpy))
        if given.ExternalDataOffset() >= 0:
            raise ModelError(
                f"{self._path}: the weights of {made.name!r} lie in another file, which is not read",
                "convert the model with its weights inside",
            )
        if any(d < 0 for d in made.dims):
            raise ValueError(f"tensor {made.name!r} has shape {list(made.dims)}")
        if made.data_type == onnx.TensorProto.STRING:
            for i in self._range(given.StringDataLength()):
                made.string_data.append(self._bytes(given.StringData(i)))
            return
        length, place = given.RawDataLength(), _raw_data_at(given)
        self._charge(length)
        if length != weights.size_bytes(made) or place + length > len(self._data):
            raise ValueError(
                f"tensor {made.name!r} {list(made.dims)} has {length} bytes; it needs {weights.size_bytes(made)}"
            )
        if by_reference and length >= weights.SMALL_BYTES and not weights.is_packed(made):
            weights.refer(made, self._path.name, place, length)
        else:
            made.raw_data = self._data[place : place + length]

    def _value(self, given: Any) -> onnx.ValueInfoProto:
        made = onnx.ValueInfoProto(name=self._text(given.Name()))
        if given.Type() is not None:
            self._type(given.Type(), made.type, 0)
        return made

    def _type(self, given: Any, made: onnx.TypeProto, depth: int) -> None:
        self._table(given)
        if depth > _DEPTH:
            raise ValueError(f"types in types, more than {_DEPTH} deep")
        made.denotation = self._text(given.Denotation())
        kind, value = given.ValueType(), given.Value()
        kinds = fbs.TypeInfoValue.TypeInfoValue
        if kind == kinds.tensor_type:
            tensor = fbs.TensorTypeAndShape.TensorTypeAndShape()
            tensor.Init(value.Bytes, value.Pos)
            made.tensor_type.elem_type = tensor.ElemType()
            if tensor.Shape() is not None:
                self._shape(tensor.Shape(), made.tensor_type.shape)
        elif kind == kinds.sequence_type:
            sequence = fbs.SequenceType.SequenceType()
            sequence.Init(value.Bytes, value.Pos)
            self._type(sequence.ElemType(), made.sequence_type.elem_type, depth + 1)
        elif kind == kinds.map_type:
            mapping = fbs.MapType.MapType()
            mapping.Init(value.Bytes, value.Pos)
            made.map_type.key_type = mapping.KeyType()
            self._type(mapping.ValueType(), made.map_type.value_type, depth + 1)

    def _shape(self, given: Any, made: onnx.TensorShapeProto) -> None:
        # A shape without dimensions is that of a scalar: the field must be there.
        made.SetInParent()
        kinds = fbs.DimensionValueType.DimensionValueType
        for dimension in self._tables(given.Dim, given.DimLength()):
            value, dim = dimension.Value(), made.dim.add()
            if value is not None and value.DimType() == kinds.VALUE:
                dim.dim_value = value.DimValue()
            elif value is not None and value.DimType() == kinds.PARAM:
                dim.dim_param = self._text(value.DimParam())

    # What is read is counted

    def _charge(self, size: int) -> None:
        self._left -= size
        if self._left < 0:
            raise ValueError("its parts add up to more than the file")

    def _table(self, given: Any) -> Any:
        if given is None:
            raise ValueError("a part of it is missing")
        self._charge(_TABLE_BYTES)
        return given

    def _range(self, count: int) -> range:
        self._charge(4 * count)
        return range(count)

    def _tables(self, get: Callable[[int], Any], count: int) -> Iterator[Any]:
        for i in self._range(count):
            yield self._table(get(i))

    def _numbers(self, count: int, width: int, get: Callable[[], Any]) -> list[Any]:
        self._charge(count * width)
        return list(get().tolist()) if count else []

    def _bytes(self, given: bytes | None) -> bytes:
        self._strings_left -= len(given or b"")
        if self._strings_left < 0:
            raise ValueError("its names add up to far more than the file")
        return given or b""

    def _text(self, given: bytes | None) -> str:
        return self._bytes(given).decode("utf-8")

    def _texts(self, get: Callable[[int], bytes | None], count: int) -> list[str]:
        return [self._text(get(i)) for i in self._range(count)]


def _raw_data_at(tensor: Any) -> int:
    """Where a tensor's raw data lie in the file; field 4 of the table Tensor, thus entry 12 of its vtable."""
    field = tensor._tab.Offset(12)
    return int(tensor._tab.Vector(field)) if field else 0


def _drop_unused_domains(model: onnx.ModelProto) -> None:
    """onnxruntime imports every operator set it knows."""
    used = {node.domain for graph in weights.graphs(model) for node in graph.node} | {""}
    kept = [(o.domain, o.version) for o in model.opset_import if o.domain in used]
    del model.opset_import[:]
    model.opset_import.extend(helper.make_opsetid(d, v) for d, v in kept)
