"""Keys: all of them in one table, all of them in their slot, none built elsewhere."""

import inspect
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from forebay.contract.prediction import Lane, PredictionId
from forebay.lanes import keys as keys_module
from forebay.lanes.keys import Keys, LaneKeys
from forebay.records import keys as records_module
from forebay.records.keys import webhook_keys

ROOT = Path(__file__).parents[2]
ID = "echo-3-0123456789abcdef0123"
KEYS = Keys("p").of("echo", 3)

BUILT: dict[str, Callable[[LaneKeys], str]] = {
    "lane:realtime": lambda keys: keys.lane(Lane.REALTIME),
    "lane:bulk": lambda keys: keys.lane(Lane.BULK),
    "lane:bulk:caller:0123456789abcdef": lambda keys: keys.waiting(Lane.BULK, "0123456789abcdef"),
    "lane:bulk:ahead": lambda keys: keys.ahead(Lane.BULK),
    "lane:realtime:spent:7": lambda keys: f"{keys.spent(Lane.REALTIME)}7",
    "lane:bulk:turns": lambda keys: keys.turns(Lane.BULK),
    "lane:realtime:deficits": lambda keys: keys.deficits(Lane.REALTIME),
    f"record:{ID}": lambda keys: keys.record(ID),
    "record:": lambda keys: keys.records,
    f"out:{ID}:2:1": lambda keys: keys.outputs(ID, 2, 1),
    f"out:{ID}:0:1": lambda keys: keys.outputs_of(ID) + "0:1",
    f"events:{ID}": lambda keys: keys.events(ID),
    f"parts:{ID}": lambda keys: keys.parts + ID,
    "deadlines": lambda keys: keys.deadlines,
    "demand": lambda keys: keys.demand,
    "workers": lambda keys: keys.workers,
    "absences": lambda keys: keys.absences,
    "running": lambda keys: keys.running,
    "rates": lambda keys: keys.rates,
    "counters": lambda keys: keys.counters,
    "leaders": lambda keys: keys.leaders,
    f"joined:{ID}": lambda keys: keys.joined + ID,
    "sketch:abcdef012345:2026-11-22": lambda keys: keys.sketch("abcdef012345", "2026-11-22"),
    "predictions": lambda keys: keys.predictions,
    "dead": lambda keys: keys.dead,
    "outbox": lambda keys: keys.outbox,
    "traffic": lambda keys: keys.traffic,
    "reloads": lambda keys: keys.reloads,
    "copies": lambda keys: keys.copies,
    "disagreement": lambda keys: keys.disagreement,
    "scaling": lambda keys: keys.scaling,
    "cache": lambda keys: keys.cache,
    "cached": lambda keys: keys.cached,
    "prompts": lambda keys: keys.prompts,
}


def table() -> dict[str, list[str]]:
    """The docstring's table: the cells of each row by the key's pattern."""
    rows = re.findall(r"^\| `([^`]+)` +\|(.*)\|$", keys_module.__doc__ or "", re.MULTILINE)
    return {pattern: [cell.strip() for cell in cells.split("|")] for pattern, cells in rows}


def pattern_of(name: str) -> str:
    """A built key as the table writes it."""
    kind, *rest = name.split(":")
    if kind == "lane" and rest[1:]:
        of = {"caller": "CALLER", "spent": "TIME"}
        return ":".join([kind, "LANE", rest[1], *([of[rest[1]]] if rest[2:] else [])])
    variables = {
        "lane": ["LANE"],
        "record": ["ID"],
        "out": ["ID", "PART", "ATTEMPT"],
        "events": ["ID"],
        "parts": ["ID"],
        "joined": ["ID"],
        "sketch": ["VERSION", "DAY"],
    }
    return ":".join([kind, *(variables[kind] if rest else [])])


@pytest.mark.parametrize("name", BUILT)
def test_every_key_carries_the_tag_of_its_models_shard(name: str) -> None:
    assert BUILT[name](KEYS) == f"p:{{echo:3}}:{name}"


def test_every_key_is_in_the_table_and_the_table_has_no_other() -> None:
    assert {pattern_of(name) for name in BUILT} == set(table())


def test_the_table_says_type_writer_reader_and_life_of_each_key() -> None:
    assert [key for key, cells in table().items() if len(cells) != 4 or not all(cells)] == []


def test_every_builder_of_keys_is_tried_here() -> None:
    builders = {
        name
        for name, member in inspect.getmembers(LaneKeys)
        if not name.startswith("_") and (inspect.isfunction(member) or isinstance(member, property))
    }
    tried = {
        name for build in BUILT.values() for name in build.__code__.co_names if name in builders
    }
    # Channels, and what gives keys of other builders.
    assert builders - {"endings", "wake", "stream", "streams"} == tried


def test_the_channels_of_a_shard_carry_its_tag_and_are_told_below_the_table() -> None:
    assert KEYS.endings == "p:{echo:3}:endings"
    assert "`P:{model:shard}:endings`" in (keys_module.__doc__ or "")
    assert KEYS.wake == "p:{echo:3}:wake"
    assert "`P:{model:shard}:wake`" in (keys_module.__doc__ or "")


def test_keys_of_webhooks_share_a_slot_and_are_told_of() -> None:
    keys = webhook_keys(Keys("p"))
    told = (records_module.__doc__ or "").partition("after `P:{webhooks}:`")[2].partition("\n\n")[0]
    for name in ("outbox", "deliveries", "due", "gone", "endpoints", "secrets"):
        assert getattr(keys, name) == f"p:{{webhooks}}:{name}"
        assert f"`{name}`" in told
    assert keys.delivery("msg_1") == keys.records + "msg_1" == "p:{webhooks}:delivery:msg_1"
    assert "`delivery:ID`" in told


def test_a_predictions_keys_are_found_from_its_id() -> None:
    assert Keys("p").of_prediction(PredictionId.parse(ID)) == KEYS


def test_different_shards_models_and_prefixes_share_no_key() -> None:
    bases = {Keys(p).of(m, s).base for p in ("p", "q") for m in ("a", "b") for s in (0, 1)}
    assert len(bases) == 8


def test_keys_of_no_one_model_have_no_tag_and_are_told_below_the_table() -> None:
    told = (keys_module.__doc__ or "").partition("Without a tag:")[2]
    assert Keys("p").reply_channel("gateway-1") == "p:reply:gateway-1"
    assert "`P:reply:GATEWAY`" in told
    assert Keys("p").models == "p:models"
    assert "`P:models`" in told
    assert re.fullmatch(r"p:claim:[0-9a-f]{40}", Keys("p").claim("any name at all"))
    assert "`P:claim:DIGEST`" in told


# What a key looks like where it is written by hand: a tag in braces before a colon, or one of the
# table's names after one.
_BY_HAND = re.compile(
    r"\}\}:|\{\w+:\d+\}:"
    r"|:(?:lane|caller|turns|deficits|record|out|parts|deadlines|demand|workers|absences|running|rates|counters|leaders"
    r"|joined|sketch|predictions|dead|outbox|prompts|traffic|reloads|copies|disagreement|scaling|models"
    r"|reply)[:{%\"']"
)
_LITERAL = re.compile(r"""[rbf]*(?:"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')""", re.IGNORECASE)


def keys_by_hand(source: str) -> list[str]:
    return [
        literal.group()
        for literal in _LITERAL.finditer(source)
        if literal.group()[0].lower() in "rbf\"'" and _BY_HAND.search(literal.group())
    ]


def test_nobody_else_builds_keys() -> None:
    sources = [
        path
        for tree in ("shared", "services", "workers")
        for path in (ROOT / tree / "forebay").rglob("*.py")
        if path not in (Path(keys_module.__file__), Path(records_module.__file__))
    ]
    assert len(sources) > 10
    found = {
        str(path.relative_to(ROOT)): hits
        for path in sources
        if (hits := keys_by_hand(path.read_text("utf-8")))
    }
    assert found == {}


@pytest.mark.parametrize(
    "source",
    ['f"{prefix}:{{{model}:0}}:lane:realtime"', 'f"{base}:dead"', "'forebay:{echo:0}:demand'"],
)
def test_a_key_built_by_hand_would_be_noticed(source: str) -> None:
    assert keys_by_hand(source)


def test_no_script_spells_out_a_key() -> None:
    """Keys are passed in: one made inside a script could fall into another slot of a cluster."""
    scripts = sorted((ROOT / "shared/forebay/lanes/scripts").glob("*.lua"))
    assert scripts
    spelt = re.compile(r"""(['"])(?:(?!\1).)*(?:\w:|:\w)(?:(?!\1).)*\1""")
    assert spelt.search("local key = base .. ':dead'")
    code = {script.name: re.sub(r"--.*", "", script.read_text()) for script in scripts}
    assert {name: hit.group() for name, text in code.items() if (hit := spelt.search(text))} == {}
