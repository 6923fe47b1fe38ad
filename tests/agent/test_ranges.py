"""Version ranges on a bare board are those of PEP 440, held against its own implementation."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.specifiers import SpecifierSet

from edgepack.resources import TARGETS
from edgepack.targets import list_targets
from edgepack_agent import ranges

_VERSIONS = st.lists(st.integers(0, 40), min_size=1, max_size=4).map(
    lambda n: ".".join(map(str, n))
)
_OPERATORS = st.sampled_from([">=", "<=", "==", "!=", ">", "<"])
_RANGES = st.lists(st.tuples(_OPERATORS, _VERSIONS), min_size=1, max_size=3)


@given(_RANGES, _VERSIONS)
def test_they_hold_where_packaging_says_so(clauses: list[tuple[str, str]], found: str) -> None:
    wanted = ",".join(operator + version for operator, version in clauses)
    assert ranges.holds("l4t", wanted, found) == SpecifierSet(wanted).contains(found)


def test_every_range_of_the_shipped_targets_is_well_formed() -> None:
    checked = 0
    for profile in list_targets(TARGETS):
        for key, wanted in profile.requires.items():
            ranges.check(key, wanted)
            checked += 1
    assert checked > 15


@pytest.mark.parametrize(
    ("wanted", "found", "holds"),
    [
        (">=10.3,<11", "10.3.0.30-1+cuda12.5", True),
        (">=8.5,<8.6", "8.5.2-1+cuda11.4", True),
        (">=8.5,<8.6", "8.6.2.3-1+cuda12.2", False),
        (">=10.3,<11", "1:10.16.2.10-1+cuda13.2", True),
        (">=36.4,<37", "36.4", True),
        (">=36.4,<37", "36.4.0", True),
        (">=36.4.0,<37", "36.4", True),
        (">=36.4,<37", "36.10.1", True),
        (">=36.4,<37", "37.0", False),
        (">=10.13,<11", "10.3.0", False),
        (" >= 36.4 , < 37 ", "36.5", True),
        ("==6.2", "6.2+b77", True),
    ],
)
def test_versions_are_compared_number_by_number(wanted: str, found: str, holds: bool) -> None:
    assert ranges.holds("tensorrt", wanted, found) is holds


@pytest.mark.parametrize(
    ("key", "wanted", "found", "holds"),
    [
        ("arch", "aarch64", "aarch64", True),
        ("arch", "aarch64", "arm64", False),
        ("board", "tegra234|tegra264", "tegra264", True),
        ("board", "tegra23", "tegra234", False),
        ("power_mode", "MAXN|MAXN_SUPER", "MAXN_SUPER", True),
        ("memory", ">=7GiB", str(8 << 30), True),
        ("memory", ">=8GiB", str((8 << 30) - 1), False),
        ("disk", ">=1.5GiB,<2TiB", "x", None),
        ("memory", ">=4GB", "1", None),
        ("disk", ">=512MiB", str(512 << 20), True),
    ],
)
def test_words_and_sizes(key: str, wanted: str, found: str, holds: bool | None) -> None:
    if holds is None:
        with pytest.raises(ValueError, match="is no size"):
            ranges.check(key, wanted)
    else:
        assert ranges.holds(key, wanted, found) is holds


@pytest.mark.parametrize(
    "wanted", ["", "36.4", ">=36.4,", ">=36.x", "=>36", ">=36.4 <37", "~=36.4"]
)
def test_what_is_no_range_is_refused(wanted: str) -> None:
    with pytest.raises(ValueError, match=r"is no (range|version)"):
        ranges.check("l4t", wanted)
