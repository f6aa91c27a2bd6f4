"""Bodies that came compressed are unpacked up to a bound, whoever delivered them."""

import bz2
import lzma
import zlib
from collections.abc import Callable
from typing import Any

import pytest
from kombu import Connection, compression

from forebay.background.taking.packing import leave_packed, unpacked
from forebay.contract.errors import InvalidInput

KINDS = ["gzip", "bzip2", "lzma"]


@pytest.mark.parametrize("kind", KINDS)
def test_what_kombu_packs_is_unpacked(kind: str) -> None:
    body, told = compression.compress(b"a river", kind)
    assert unpacked(body, {"compression": told}, most=7) == b"a river"
    assert unpacked(body, {"compression": kind}, most=7) == b"a river"
    with pytest.raises(InvalidInput, match="more than 6 bytes"):
        unpacked(body, {"compression": told}, most=6)


def test_what_is_not_packed_is_as_it_came() -> None:
    assert unpacked(b"a river", {}, most=1) == b"a river"
    assert unpacked(b"a river", {"compression": None}, most=1) == b"a river"


@pytest.mark.parametrize("pack", [zlib.compress, bz2.compress, lzma.compress])
def test_a_bomb_is_refused_before_it_goes_off(pack: Callable[[bytes], bytes]) -> None:
    kinds = {zlib.compress: "gzip", bz2.compress: "bzip2", lzma.compress: "lzma"}
    bomb = pack(bytes(50_000_000))
    assert len(bomb) < 100_000
    with pytest.raises(InvalidInput, match="more than 1,000 bytes"):
        unpacked(bomb, {"compression": kinds[pack]}, most=1_000)


def test_what_asks_for_too_much_memory_is_refused() -> None:
    modest = lzma.compress(b"a river", format=lzma.FORMAT_ALONE)
    # Its header: one byte of properties, and then the size of the dictionary.
    packed = modest[:1] + (1 << 30).to_bytes(4, "little") + modest[5:]
    assert lzma.decompress(modest) == b"a river"
    with pytest.raises(InvalidInput, match="can't be decompressed"):
        unpacked(packed, {"compression": "lzma"}, most=1_000)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_broken_or_cut_is_refused(kind: str) -> None:
    body, told = compression.compress(b"a river", kind)
    for wrong in (b"", b"a river", body[:-3]):
        with pytest.raises(InvalidInput, match="can't be decompressed"):
            unpacked(wrong, {"compression": told}, most=1_000)


@pytest.mark.parametrize("kind", ["application/x-brotli", "zip", 4, ["gzip"], {"a": 1}])
def test_a_kind_without_a_bound_is_refused(kind: Any) -> None:
    with pytest.raises(InvalidInput, match="which is not read"):
        unpacked(b"a river", {"compression": kind}, most=1_000)


def test_a_channel_leaves_bodies_packed_and_puts_them_back_as_they_came() -> None:
    with Connection("memory://") as connection:
        channel: Any = connection.default_channel
        leave_packed(channel)
        queue = connection.SimpleQueue("packed")
        queue.put({"value": 1}, compression="gzip")
        queue.put({"value": 2})

        def bodies() -> dict[bytes, Any]:
            taken = [channel.message_to_python(channel.basic_get("packed")) for _ in range(2)]
            return {one.body: one.headers.get("compression") for one in taken}

        first = bodies()
        assert first[b'{"value": 2}'] is None
        (packed,) = (body for body, kind in first.items() if kind == "application/x-gzip")
        assert zlib.decompress(packed) == b'{"value": 1}'
        channel.qos.restore_unacked()
        assert bodies() == first
        queue.close()
