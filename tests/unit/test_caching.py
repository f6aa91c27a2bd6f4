"""The response cache's parts: keys, hits among misses, the shelf, and what clients say of it."""

import itertools
from typing import Any

import msgspec
import pytest

from forebay.contract.caching import (
    CacheKeys,
    CacheOptions,
    Entry,
    Scope,
    decode_entry,
    encode_entry,
    entries_of,
    row_keys,
)
from forebay.contract.errors import ConfigurationError, ErrorInfo, ErrorKind
from forebay.contract.hits import Hits, decode_hits, encode_hits
from forebay.contract.model import BackendName, ModelSpec
from forebay.contract.model_rules import checked
from forebay.contract.rows import (
    DEFAULT_OPTIONS,
    Embedding,
    Options,
    PairRow,
    Row,
    Task,
    TextRow,
    TokensRow,
    Value,
    ValueRow,
)
from forebay.gateway import cache_control
from forebay.gateway.cache_control import Directives
from forebay.gateway.shelf import OBJECT_BYTES, Shelf

VERSION = "abcdef012345"


def keys_of(rows: list[Row], **differs: Any) -> tuple[bytes, ...]:
    told = {"version": VERSION, "truncate": False, "options": DEFAULT_OPTIONS, **differs}
    return row_keys(rows, **told)


def test_equal_rows_have_equal_keys_wherever_they_are_in_a_request() -> None:
    one, other = keys_of([TextRow("a"), TextRow("b")]), keys_of([TextRow("b"), TextRow("a")])
    assert one == other[::-1]
    assert {len(key) for key in one} == {20}


def test_whatever_an_output_follows_from_makes_another_key() -> None:
    rows: list[Row] = [
        TextRow("a"),
        TextRow("a "),
        PairRow("a", ""),
        PairRow("", "a"),
        TokensRow((97,)),
        ValueRow(b'"a"'),
    ]
    differs: list[dict[str, Any]] = [
        {},
        {"version": "012345abcdef"},
        {"truncate": True},
        {"options": Options(top_k=2)},
        {"scope": b"somebody"},
    ]
    keys = [key for one in differs for key in keys_of(rows, **one)]
    assert len(set(keys)) == len(rows) * len(differs)


def test_entries_come_back_as_they_were_kept_and_nothing_else_is_one() -> None:
    entry = Entry(1_750_000_000_000, Embedding(b"\0\0\x80?", 3))
    assert decode_entry(encode_entry(entry)) == entry
    for spoiled in (b"", b"\xc1", encode_entry(entry)[:-1], b"\x92\x01\xa1\xff", b"\x81\xa1t\xa1x"):
        with pytest.raises(msgspec.MsgspecError):
            decode_entry(spoiled)


def test_only_what_is_wanted_fits_and_is_of_the_same_version_is_kept() -> None:
    outputs = [Value(b"1"), Value(b"x" * 100)]
    wanted = CacheKeys(VERSION, (b"a", b"b"))
    cache = CacheOptions(enabled=True, max_entry_bytes=99)

    def kept(keys: CacheKeys | None, options: CacheOptions, version: str = VERSION) -> list[bytes]:
        found = entries_of(keys, outputs, version=version, at_ms=7, cache=options)
        return [key for key, _ in found]

    assert kept(wanted, cache) == [b"a"]
    assert kept(wanted, CacheOptions(enabled=True)) == [b"a", b"b"]
    assert kept(wanted, cache, "012345abcdef") == []
    assert kept(None, cache) == []
    assert kept(wanted, CacheOptions()) == []


def test_hits_and_misses_merge_in_the_order_of_the_rows() -> None:
    for hit in itertools.product((True, False), repeat=4):
        at = tuple(index for index in range(4) if hit[index])
        hits = Hits(4, at, tuple(Value(b"%d" % index) for index in at))
        ran = [Value(b"%d" % index) for index in hits.missed]
        assert hits.merged(ran) == tuple(Value(b"%d" % index) for index in range(4))
        assert decode_hits(encode_hits(hits)) == hits


def test_an_error_names_the_row_of_the_request_not_of_those_that_ran() -> None:
    hits = Hits(4, (0, 2), (Value(b"0"), Value(b"2")))
    placed = hits.placed(ErrorInfo(ErrorKind.TOO_LONG, "Row 1: too long.", 1))
    assert (placed.row, placed.message) == (3, "Row 3: too long.")
    whole = ErrorInfo(ErrorKind.WORKER_LOST, "Gone.")
    assert hits.placed(whole) == whole


def entry(size: int) -> Entry:
    return Entry(0, Value(b"x" * size))


def test_the_shelf_lets_what_was_used_longest_ago_go() -> None:
    shelf = Shelf(3 * (OBJECT_BYTES + 10))
    for key in (b"a", b"b", b"c"):
        shelf.put(key, entry(10))
    assert shelf.get(b"a") is not None
    shelf.put(b"d", entry(10))
    assert shelf.get(b"b") is None
    assert [key for key in (b"a", b"c", b"d") if shelf.get(key)] == [b"a", b"c", b"d"]
    shelf.put(b"e", entry(2 * (OBJECT_BYTES + 10)))
    assert len(shelf) == 1
    assert shelf.get(b"e") is not None


def test_the_shelf_knows_its_bytes_and_refuses_what_is_larger_than_itself() -> None:
    shelf = Shelf(1_000)
    shelf.put(b"a", entry(1_000))
    assert (len(shelf), shelf.bytes) == (0, 0)
    shelf.put(b"a", entry(100))
    shelf.put(b"a", entry(200))
    assert (len(shelf), shelf.bytes) == (1, OBJECT_BYTES + 200)
    shelf.put(b"a", entry(2_000))
    assert (len(shelf), shelf.bytes) == (0, 0)
    shelf.put(b"a", entry(1))
    shelf.drop(b"nothing")
    shelf.clear()
    assert (len(shelf), shelf.bytes) == (0, 0)


@pytest.mark.parametrize(
    ("header", "directives"),
    [
        ("", Directives()),
        ("no-cache", Directives(no_cache=True)),
        ("No-Store, max-age=0", Directives(no_store=True, max_age_ms=0)),
        ("only-if-cached,max-age=60", Directives(only_if_cached=True, max_age_ms=60_000)),
        ('max-age="5" , no-cache="x, no-store"', Directives(no_cache=True, max_age_ms=5_000)),
        ("max-age=soon", Directives(max_age_ms=0)),
        ("max-age", Directives(max_age_ms=0)),
        ("max-age=" + "9" * 5_000, Directives(max_age_ms=2**31 * 1000)),
        ("max-age=9999999999", Directives(max_age_ms=2**31 * 1000)),
        ("max-age=00000000000007", Directives(max_age_ms=7_000)),
        ('ext="a\\", no-store, b", max-age=1', Directives(max_age_ms=1_000)),
        ("max-stale=5, min-fresh=2, unheard-of", Directives()),
    ],
)
def test_cache_control_is_read_as_rfc_9111_has_it(header: str, directives: Directives) -> None:
    assert cache_control.read(header) == directives


def test_cache_status_is_told_as_rfc_9211_has_it() -> None:
    assert cache_control.hit(3_599_999) == "forebay; hit; ttl=3599"
    assert cache_control.forwarded("miss", stored=True) == "forebay; fwd=miss; stored"
    told = cache_control.forwarded("partial", detail="1 of 2 cached")
    assert told == 'forebay; fwd=partial; detail="1 of 2 cached"'


@pytest.mark.parametrize(
    ("options", "field"),
    [
        (CacheOptions(ttl_s=0), "cache.ttl_s: must be more than 0"),
        (CacheOptions(ttl_s=float("nan")), "cache.ttl_s"),
        (CacheOptions(ttl_s=float("inf")), "cache.ttl_s"),
        (CacheOptions(gateway_bytes=-1), "cache.gateway_bytes: must be 0 or more"),
        (CacheOptions(redis_bytes=100), "cache.redis_bytes: must be at least max_entry_bytes"),
        (CacheOptions(max_entry_bytes=0), "cache.max_entry_bytes: must be at least 1"),
    ],
)
def test_what_a_catalog_says_wrong_of_the_cache_is_named(options: CacheOptions, field: str) -> None:
    spec = ModelSpec(Task.ECHO, BackendName.ECHO, cache=options)
    with pytest.raises(ConfigurationError, match=rf"models\.echo\.{field}"):
        checked(spec, "echo")


def test_nothing_is_cached_unless_the_catalog_says_so_and_of_pipelines_nothing_can_be() -> None:
    assert not ModelSpec(Task.EMBEDDING, BackendName.ONNX, source="x").cache.enabled
    assert CacheOptions().scope is Scope.SHARED
    spec = ModelSpec(
        Task.PIPELINE, BackendName.PIPELINE, steps=("a",), cache=CacheOptions(enabled=True)
    )
    with pytest.raises(ConfigurationError, match=r"cache\.enabled: must be left out: a pipeline"):
        checked(spec, "both")
