"""CSV files: which column is which value, and what is said of a cell that is wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgepack.artifact import TensorSpec
from edgepack.errors import DataError
from edgepack.samples.dataset import Samples
from edgepack.samples.opening import open_samples

TABULAR = TensorSpec(name="x", dtype="float32", shape=("batch", 3))
AGE = TensorSpec(name="age", dtype="float32", shape=("batch", 1))
CODES = TensorSpec(name="codes", dtype="int64", shape=("batch", 2, 2))


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def read(text: str, *specs: TensorSpec, labelled: bool = False) -> Samples:
    path = Path("data.csv")
    path.write_text(text, encoding="utf-8")
    return open_samples(path, specs=specs or (TABULAR,), folder=Path("spool"), labelled=labelled)


def refusal(text: str, *specs: TensorSpec, labelled: bool = False) -> str:
    with pytest.raises(DataError) as caught:
        read(text, *specs, labelled=labelled)
    return str(caught.value)


def array(samples: Samples, name: str = "x") -> list[list[float]]:
    return np.asarray(samples.inputs[name][:]).tolist()


@pytest.mark.parametrize("header", ["a,b,c", "x_0,x_1,x_2", "x[0],x[1],x[2]", "0,1,2"])
def test_columns_are_the_features_of_the_only_input(header: str) -> None:
    data = read(f"{header}\n1,2,3\n4,5.5,-6e-1\n")
    assert array(data) == [[1, 2, 3], [4, 5.5, np.float32(-0.6)]]
    assert data.source == "data.csv"


def test_indexed_columns_may_stand_in_any_order() -> None:
    assert array(read("x[2],label,x[0],x[1]\n3,7,1,2\n", labelled=True)) == [[1, 2, 3]]


def test_several_inputs_are_told_by_name_and_index() -> None:
    text = "codes[0],age,codes[1],codes[2],codes[3],label\n1,30.5,2,3,4,0\n5,40,6,7,8,1\n"
    data = read(text, AGE, CODES, labelled=True)
    assert array(data, "age") == [[30.5], [40]]
    assert array(data, "codes") == [[[1, 2], [3, 4]], [[5, 6], [7, 8]]]
    assert data.inputs["codes"].dtype == np.int64
    assert np.asarray(data.labels).tolist() == [0, 1]


def test_a_free_dimension_has_as_many_values_as_there_are_columns() -> None:
    free = TensorSpec(name="x", dtype="float32", shape=("batch", "features"))
    assert read("a,b,label\n1,2,0\n", free).inputs["x"].shape == (1, 2)


@pytest.mark.parametrize("separator", [";", "\t"])
def test_semicolons_and_tabs_separate_too(separator: str) -> None:
    assert array(read("a,b,c\n1,2,3\n".replace(",", separator))) == [[1, 2, 3]]


def test_a_byte_order_mark_quotes_blank_lines_and_spaces_do_no_harm() -> None:
    assert array(read('\ufeff"a", b ,c\r\n\r\n"1", 2,3\r\n')) == [[1, 2, 3]]


@pytest.mark.parametrize("cell", ["cat", "", "nan", "inf", "1e99", "1,5", "0x10"])
def test_a_cell_that_is_no_number_is_named_with_file_line_and_column(cell: str) -> None:
    said = refusal(f'a,b,c\n1,2,3\n1,"{cell}",3\n')
    assert "data.csv:3: column 'b'" in said
    assert repr(cell) in said


@pytest.mark.parametrize("cell", ["1.5", "99999999999999999999", "x"])
def test_a_cell_that_is_no_integer_is_refused_for_an_integer_input(cell: str) -> None:
    count = TensorSpec(name="n", dtype="int64", shape=("batch", 1))
    assert f"'n' holds {cell!r}, no int64" in refusal(f"n\n{cell}\n", count)
    assert array(read("n\n3.0\n-4\n", count), "n") == [[3], [-4]]


def test_truth_is_written_as_word_or_digit() -> None:
    flag = TensorSpec(name="on", dtype="bool", shape=("batch", 1))
    assert array(read("on\ntrue\n0\nFalse\n", flag), "on") == [[True], [False], [False]]
    assert "'yes'" in refusal("on\nyes\n", flag)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no header line"),
        ("1.5,2,3\n1,2,3\n", "the first line holds numbers"),
        ("a,,c\n1,2,3\n", "column 2 has no name"),
        ("a,b,a\n1,2,3\n", "'a' is there twice"),
        ("a,b\n1,2\n", "2 columns for x; the model takes ['batch', 3]"),
        ("a,b,c\n1,2\n", "data.csv:2: 2 cells under 3 columns"),
        ("a,b,c\n", "no sample"),
        ("x[0],x[2],x[3]\n1,2,3\n", "'x[1]' is missing"),
        ('a,b,c\n"1,2,3\n', "not CSV text"),
    ],
)
def test_what_is_no_table_of_the_input_is_refused(text: str, words: str) -> None:
    assert words in refusal(text)


def test_a_column_of_no_input_is_named_where_there_are_several_inputs() -> None:
    assert "'colour' belongs to no input" in refusal(
        "age,codes[0],codes[1],codes[2],codes[3],colour\n1,2,3,4,5,6\n", AGE, CODES
    )


def test_bytes_that_are_no_text_are_refused() -> None:
    Path("data.csv").write_bytes(b"a,b,c\n\xff\xfe,1,2\n")
    with pytest.raises(DataError, match="not CSV text"):
        open_samples("data.csv", specs=[TABULAR], folder=Path("spool"))


def test_labels_are_the_column_of_that_name_and_missing_ones_are_asked_for() -> None:
    text = "a,b,c,label\n1,2,3,2\n4,5,6,0\n"
    assert np.asarray(read(text, labelled=True).labels).tolist() == [2, 0]
    assert read(text).labels is None
    assert "add a column 'label'" in refusal("a,b,c\n1,2,3\n", labelled=True)


def test_names_as_labels_are_numbered_in_sorted_order_and_listed() -> None:
    data = read("a,b,c,label\n1,2,3,dog\n4,5,6,cat\n", labelled=True)
    assert np.asarray(data.labels).tolist() == [1, 0]
    assert data.classes == ("cat", "dog")


def test_fractions_as_labels_are_values() -> None:
    labels = read("a,b,c,label\n1,2,3,1.5\n4,5,6,2\n", labelled=True).labels
    assert labels is not None
    assert labels.dtype == np.float32
    assert np.asarray(labels).tolist() == [1.5, 2]


@pytest.mark.parametrize(
    ("labels", "words"),
    [(("1", "cat"), "data.csv:3: label 'cat' is a name"), (("1", ""), "data.csv:3: the label is")],
)
def test_a_label_unlike_the_others_is_named(labels: tuple[str, str], words: str) -> None:
    text = "a,b,c,label\n" + "".join(f"1,2,3,{label}\n" for label in labels)
    assert words in refusal(text, labelled=True)


def test_more_lines_than_are_read_at_a_time_keep_their_order() -> None:
    lines = "".join(f"{i},0,0,{i % 10}\n" for i in range(3000))
    data = read(f"a,b,c,label\n{lines}", labelled=True)
    assert np.array_equal(np.asarray(data.inputs["x"][:])[:, 0], np.arange(3000))
    assert np.array_equal(data.labels, np.arange(3000) % 10)
