"""Damaged overlays; what is in good ones is compared with fdtoverlay in tests/differential."""

import contextlib
import struct
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pykexec import overlays
from pykexec.devicetree import DeviceTree
from pykexec.errors import DeviceTreeError
from tests.support.dtb import Blob
from tests.support.growth import QUADRATIC_SUSPECTED, growth

WORD = st.sampled_from([0, 1, 4, 0xFFFFFFFE, 0xFFFFFFFF]).map(lambda number: struct.pack(">I", number))
TEXT = st.sampled_from(
    [b"/", b"/a", b"/a/", b"//", b"", b"/fragment@0:target:0", b"/fragment@0:target:-1", b"::"]
)
VALUE = st.one_of(WORD, TEXT.map(lambda text: text + b"\0"), st.binary(max_size=9))
NAMES = ("phandle", "target", "target-path", "label", "a")
NODES = ("fragment@0", "__overlay__", "__symbols__", "__fixups__", "__local_fixups__", "a")


def trees() -> st.SearchStrategy[dict[str, Any]]:
    return st.recursive(
        st.dictionaries(st.sampled_from(NAMES), VALUE, max_size=4),
        lambda inner: st.dictionaries(
            st.sampled_from((*NAMES, *NODES)), st.one_of(VALUE, inner), max_size=5
        ),
        max_leaves=8,
    )


@example({}, {"f/__overlay__": {"a": b"1"}})
@given(trees(), trees())
def test_any_overlay_is_applied_or_refused(base: dict[str, Any], change: dict[str, Any]) -> None:
    tree = DeviceTree(Blob(base).build(), "base")
    with contextlib.suppress(DeviceTreeError):
        overlays.apply(tree, DeviceTree(Blob(change).build(), "change"), "change")
    DeviceTree(tree.to_bytes(), "the result can be read again")


def many(count: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """A tree and an overlay with that many fragments, and references in one property, inward and outward."""
    uses = b"".join(b"/fragment@0/__overlay__:all:%d\0" % (8 * each) for each in range(count))
    places = b"".join(struct.pack(">I", 8 * each + 4) for each in range(count))
    fragments = {
        f"fragment@{each}": {"target-path": b"/\0", "__overlay__": {f"n{each}": {}}} for each in range(count)
    }
    fragments["fragment@0"]["__overlay__"] = {"all": bytes(8 * count), "phandle": struct.pack(">I", 1)}
    local = {"fragment@0": {"__overlay__": {"all": places}}}
    base = {"x": {"phandle": struct.pack(">I", 7)}, "__symbols__": {"label": b"/x\0"}}
    return base, {**fragments, "__fixups__": {"label": uses}, "__local_fixups__": local}


def applied(base: bytes, change: bytes) -> DeviceTree:
    tree = DeviceTree(base, "base")
    overlays.apply(tree, DeviceTree(change, "change"), "change")
    return tree


@pytest.mark.slow
def test_many_references_take_linear_time() -> None:
    few, lots = ([Blob(each).build() for each in many(count)] for count in (200, 2000))
    assert applied(*lots).get("/", "all") == struct.pack(">II", 7, 7) * 2000
    assert growth(lambda: applied(*few), lambda: applied(*lots)) < QUADRATIC_SUSPECTED
