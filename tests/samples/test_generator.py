"""Samples from code: which forms of element are taken, and what is said of those that are not."""

from __future__ import annotations

import itertools
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgepack.artifact import TensorSpec
from edgepack.errors import DataError, UsageError
from edgepack.samples.dataset import Samples
from edgepack.samples.opening import open_samples, require_exists

IMAGE = TensorSpec(name="image", dtype="float32", shape=("batch", 4, 4))
LENGTH = TensorSpec(name="length", dtype="int64", shape=("batch", 1))
BOTH = (IMAGE, LENGTH)
X = np.random.default_rng(0).random((6, 4, 4)).astype(np.float32)
N = np.arange(6)[:, None]


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])


def read(data: object, *specs: TensorSpec, labelled: bool = False) -> Samples:
    return open_samples(data, specs=specs or (IMAGE,), folder=Path("spool"), labelled=labelled)


def refusal(data: object, *specs: TensorSpec, labelled: bool = False) -> str:
    with pytest.raises(DataError) as caught:
        read(data, *specs, labelled=labelled)
    return str(caught.value)


@pytest.mark.parametrize(
    "elements",
    [
        list(X),
        [X[:4], X[4:]],
        [{"image": x} for x in X],
        [[x] for x in X],
        [(x,) for x in X],
        [(x, 1) for x in X],
        [X],
        [X[None][0]],
    ],
)
def test_one_sample_or_a_batch_in_every_form_is_the_same_data(elements: list[Any]) -> None:
    assert read(iter(elements)).digest == read(X).digest


@pytest.mark.parametrize(
    "elements",
    [
        [{"length": n, "image": x} for x, n in zip(X, N, strict=True)],
        [[x, n] for x, n in zip(X, N, strict=True)],
        [(x, n) for x, n in zip(X, N, strict=True)],
        [([X[:4], N[:4]], "a label"), ([X[4:], N[4:]], "a label")],
    ],
)
def test_two_inputs_come_by_name_or_in_order(elements: list[Any]) -> None:
    assert read(iter(elements), *BOTH).digest == read({"image": X, "length": N}, *BOTH).digest


def test_labels_come_beside_the_feed() -> None:
    singles = read(((x, i) for i, x in enumerate(X)), labelled=True)
    batches = read(iter([(X[:4], np.arange(4)), (X[4:], np.arange(4, 6))]), labelled=True)
    for data in (singles, batches):
        assert data.labels is not None
        assert np.asarray(data.labels[:]).tolist() == list(range(6))
        assert np.array_equal(data.inputs["image"][:], X)


def test_a_label_may_be_an_array() -> None:
    masks = read(((x, x > 0.5) for x in X), labelled=True).labels
    assert masks is not None
    assert masks.shape == (6, 4, 4)


def test_whole_feeds_of_a_model_without_batch_are_kept_whole() -> None:
    table = TensorSpec(name="table", dtype="float32", shape=(3, 4))
    given = list(read((np.full((3, 4), i, np.float32) for i in range(5)), table).feeds([table]))
    assert [f["table"].shape for f in given] == [(3, 4)] * 5
    assert [float(f["table"][0, 0]) for f in given] == [0, 1, 2, 3, 4]


def test_the_generator_runs_once_and_its_samples_are_read_as_often_as_need_be() -> None:
    runs: list[int] = []

    def generate() -> Iterator[np.ndarray]:
        runs.append(1)
        yield from X

    data = read(generate)
    assert len(list(data.feeds([IMAGE]))) == len(list(data.feeds([IMAGE]))) == 6
    assert runs == [1]


MODULE = """
import numpy as np
print("loaded")
def batches():
    print("running")
    for i in range(3):
        print("yielding")
        yield np.full((2, 4, 4), i, np.float32), np.full(2, i)
def arrays():
    return {"image": np.ones((5, 4, 4), np.float32), "labels": np.arange(5)}
ready = [np.zeros((4, 4), np.float32)]
def broken():
    raise RuntimeError("no such bucket")
def breaks_later():
    yield np.zeros((4, 4), np.float32)
    raise RuntimeError("connection lost")
def number():
    return 7
"""


@pytest.fixture
def module(request: pytest.FixtureRequest) -> Iterator[str]:
    """The name of a module in the working folder, another for each test."""
    name = f"user_data_{abs(hash(request.node.name))}"
    Path(f"{name}.py").write_text(MODULE)
    yield name
    sys.modules.pop(name, None)


def test_a_function_of_a_module_in_the_working_folder_is_run(
    module: str, capsys: pytest.CaptureFixture[str]
) -> None:
    require_exists(f"{module}:batches")
    assert module not in sys.modules
    data = read(f"{module}:batches", labelled=True)
    assert data.source == f"{module}:batches"
    assert data.labels is not None
    assert np.asarray(data.labels[:]).tolist() == [0, 0, 1, 1, 2, 2]
    said = capsys.readouterr()
    assert (said.out, said.err.count("yielding")) == ("", 3)


def test_a_function_may_return_arrays_and_a_name_may_be_the_data_itself(module: str) -> None:
    assert len(read(f"{module}:arrays", labelled=True)) == 5
    assert len(read(f"{module}:ready")) == 1


def test_an_exception_in_the_users_code_is_told_with_its_place(module: str) -> None:
    assert "broken() raised RuntimeError: no such bucket" in refusal(f"{module}:broken")
    said = refusal(f"{module}:breaks_later")
    assert "raised RuntimeError: connection lost after 1 elements" in said


def test_stdout_is_given_back_after_an_error(
    module: str, capsys: pytest.CaptureFixture[str]
) -> None:
    refusal(np.zeros((4, 4 + i), np.float32) for i in range(3))
    refusal(f"{module}:breaks_later")
    capsys.readouterr()
    print("result")
    assert capsys.readouterr().out == "result\n"


def test_a_missing_module_or_function_is_a_usage_error(module: str) -> None:
    for place in ("no_such_module:function", "no_package.module:function"):
        with pytest.raises(UsageError, match="must be importable"):
            require_exists(place)
    with pytest.raises(UsageError, match=f"{module}.py must be importable from here and define x"):
        read(f"{module}:x")
    with pytest.raises(UsageError, match="is a int"):
        read(f"{module}:number")


def test_a_file_of_that_name_comes_before_a_module(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", X)
    (tmp_path / "x.npy").rename(tmp_path / "some:data")
    assert len(read("some:data")) == 6


@pytest.mark.parametrize(
    ("elements", "words"),
    [
        ([], "hold no sample"),
        (["text"], "element 0: image is str"),
        ([X[0], None], "element 1: image is NoneType"),
        ([X[0], X[1, :3]], "sample 1 is float32 [3, 4], those before it float32 [4, 4]"),
        ([X[0], X[1].astype(np.float64)], "sample 1 is float64 [4, 4]"),
        ([X[0, 0]], "image has shape [4], the model takes ['batch', 4, 4]"),
        ([{"picture": X[0]}], "element 0 has 'picture'; the model's inputs are 'image'"),
        ([[X[0], N[0]]], "element 0 holds 2 arrays; the model has 1 inputs"),
        ([(X[0], 1, 1.0)], "element 0 is a tuple of 3"),
        ([[1, [2, 3]]], "element 0 holds 2 arrays"),
    ],
)
def test_elements_that_fit_no_input_are_named(elements: list[Any], words: str) -> None:
    assert words in refusal(iter(elements))


@pytest.mark.parametrize(
    ("elements", "words"),
    [
        (list(X), "element 0 has no label"),
        ([(X, np.arange(5))], "labels of shape [5] for 6 samples"),
        ([(X[0], "cat")], "element 0: label is str"),
        ([(X[0], 1), (X[1], [1, 2])], "sample 1 is int64 [2], those before it int64 []"),
    ],
)
def test_labels_that_do_not_go_with_their_feed_are_named(elements: list[Any], words: str) -> None:
    assert words in refusal(iter(elements), labelled=True)


def test_a_generator_without_end_does_not_fill_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    free = shutil._ntuple_diskusage(10**6, 0, 10**6)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: free)
    assert "would fill the disk" in refusal(itertools.cycle(X))
    spooled = sum(f.stat().st_size for f in Path("spool").rglob("*.bin"))
    assert spooled < 500_000


def test_values_that_are_not_finite_are_found_in_a_generators_samples_too() -> None:
    x = X.copy()
    x[4, 1, 2] = np.nan
    assert "sample 4 holds nan at [1, 2]" in refusal(iter(x))


def test_code_that_exits_is_told_as_code_that_raises() -> None:
    """sys.exit() in somebody's data module ended the build without a word, as if it had been done."""

    def ends() -> Iterator[np.ndarray]:
        yield X[0]
        sys.exit(3)

    assert "raised SystemExit: 3 after 1 elements" in refusal(ends())


def test_reading_says_how_far_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgepack.samples.generator._PAUSE_S", -1.0)
    said: list[str] = []
    open_samples((x for x in X[:3]), specs=(IMAGE,), folder=tmp_path, say=said.append)
    assert said[-1] == "calibration: 2 elements read"
