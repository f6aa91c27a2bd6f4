"""Every Redis key of the lanes; no other module builds one. Others: `records/keys.py`.

| key, after `P:{model:shard}:`  | type   | written by              | read by     | lives     |
|--------------------------------|--------|-------------------------|-------------|-----------|
| `lane:LANE`                    | stream | enqueue; settle, finish, read | workers | for ever |
| `lane:LANE:caller:CALLER`      | stream | likewise                | likewise    | as long   |
| `lane:LANE:ahead`              | stream | enqueue; settle, finish | workers     | for ever  |
| `lane:LANE:spent:TIME`         | hash   | enqueue                 | enqueue     | moments   |
| `lane:LANE:turns`              | list   | likewise                | likewise    | as long   |
| `lane:LANE:deficits`           | hash   | likewise                | likewise    | as long   |
| `record:ID`                    | hash   | enqueue; log; settle, finish; forget | gateways | kept |
| `out:ID:PART:ATTEMPT`          | string | settle                  | gateways    | and 1 hour |
| `events:ID`                    | stream | tell                    | gateways    | and 1 hour |
| `parts:ID`                     | hash   | settle                  | settle      | and 1 hour |
| `deadlines`                    | zset   | enqueue; settle, finish | sweep       | for ever  |
| `demand`                       | hash   | enqueue; settle; finish; beat | gateways | for ever |
| `workers`                      | zset   | beat; leave, tidy       | reclaim     | swept     |
| `absences`                     | hash   | sweep                   | sweep       | swept     |
| `running`                      | hash   | worker; leave, tidy     | reclaim     | swept     |
| `rates`                        | hash   | beat; leave, tidy       | beat        | swept     |
| `counters`                     | hash   | settle, finish          | metrics     | for ever  |
| `leaders`                      | hash   | enqueue; settle, finish | enqueue     | as long   |
| `joined:ID`                    | list   | enqueue; settle, finish | settle      | as long   |
| `sketch:VERSION:DAY`           | hash   | worker                  | operators   | days      |
| `predictions`                  | stream | enqueue; sweep          | gateways    | bounded   |
| `dead`                         | stream | settle; enqueue, drop   | operators   | retention |
| `outbox`                       | stream | enqueue; settle, finish, tell, log | relay | moved |
| `traffic`                      | stream | operators               | gateways    | for ever  |
| `reloads`                      | hash   | operators, workers      | workers     | a minute  |
| `copies`                       | list   | gateways, background    | background  | bounded   |
| `disagreement`                 | hash   | gateways, background    | operators   | for ever  |
| `scaling`                      | string | autoscaler              | gateways    | seconds   |
| `cache`                        | hash   | settle                  | gateways    | its TTL   |
| `cached`                       | zset   | settle                  | settle      | likewise  |
| `prompts`                      | stream | gateways                | gateways    | likewise  |

"As long": as what they are about is under way. "Kept": for the retention. "Moved": until then.

Pub/sub: `P:{model:shard}:endings`, where finish and settle name the leases that ended though their
worker has not settled them, as `LANE:ENTRY …`, and enqueue lanes on which somebody went ahead, as
`LANE:`; all workers of the shard listen. And
`P:{model:shard}:wake`, where enqueue says that nobody is there; the autoscaler listens. And
`P:{model:shard}:outbox`, where those who write to it say so; the relays listen.

Without a tag: the pub/sub channels `P:reply:GATEWAY`, written by settle, finish and tell and read
by that gateway; `P:claim:DIGEST`, a string, the prediction that a client's name stands for, written
and read by gateways, for the prediction's life and retention; `P:models`, a set of every model that
was ever swept, written by the sweeps and read by them and gateways, for ever; `P:roster`, a set of
workers, written by them and read by gateways and operators; `P:roster:WORKER`, a string, a worker's
card, likewise, for as long as it is present; `P:roster:away`, a string, likewise, where a model of
its was unloaded;
`P:orders:WORKER`, a list, pushed by gateways and operators and popped by that worker, for as long
as somebody waits for an answer; `P:answer:ORDER`, a string, written by the worker and read by who
gave the order, for a minute; `P:celery:…`, Celery's own queues; and `P:{celery}:…`, tasks that were
taken in from Celery apps, see `forebay.background.taking.place`.

P is `settings.key_prefix`. Everything of one model's shard carries the hash tag
`{model:shard}`, so one script call stays in one Redis Cluster slot.

A record's fields: `st` status (a lane entry being leased is not written here), `ct` created and
`dl` deadline and `ft` ended (Unix ms), `ln` lane, `by` caller on whose list its entries wait,
if it has one, `n` parts, `left` parts not settled, `rp` reply
channels with blanks between, `tt` retention in ms, `in` the input as the client sent it, `en` lane
entries as `id:rows …`, `sq` rows that had ever entered the lane, its own included, `oN` reply of
part N, `aN` attempt of part N if not the first, `kN` strikes of part N if any and `hN` their
history, a line each, `er` reply of a finish, `hi` what the cache has answered of its rows, `rt` the
prediction whose dead letter was replayed as this one, `id` identity of what it asks for if others
may join it, `fo` how many have and still wait, `go` there if it has ended and is run for them only,
`of` the leader it has joined, whose record has the replies, `rd` until when the reader it ends with
is there and `ca` when it ends at the latest (Unix ms), `no` its notice if somebody is to be told of
it, `nt` when it was last told of an output and `nl` of logs, `lg` its logs.

An event's id is `SEQUENCE-0`. Its fields: `c` the chunk, `v` in the first one the version of the
artifact that generates it.

A sketch's fields: `STATISTIC BIN`, how many of that a version of the model has been asked or has
answered on that day (`2026-11-22`, by the server's clock); see `forebay.contract.sketch`.

The demand's fields: by `LANE`, rows that wait or are leased; by `LANE_in`, rows that ever entered;
`LANE_waiting`, rows that wait on callers' lists; `rate`, rows a second that all workers present
work off; `present`, until when one of them is (Unix ms); `ready`, rows that a ready stream takes.

A lane entry's fields: `c` computation as `prediction.part`, `m` the message, `d` a later deadline
than the message says (Unix ms), for those that joined, and where no worker was present.

A lane's stream holds what is ready or leased; what it has no room for waits in a list for each
caller, which is a stream with entries `0-NUMBER` and the same fields (`d` 0 for none), `k` cost and
`r` rows. The turns are the callers that wait, the next one first; the deficits are by caller what
it has left to pay with, and as `turn` the caller whose turn goes on. See `scripts/waiting.lua`.

An entry of the predictions has the field `p`, the id of one that its client knows by it.

A dead letter's fields: `c` and `m` as of a lane entry, `reason`, `attempts`, `strikes`, `lane`,
`at` (Unix ms) and `history` as in the record; `rows`, for each part, as `rows:bytes …`, `rest`, the
messages of the other parts in order, one after the other, and `in`, `hi` and `no` as in the record;
instead of those `lacks`, which is `large` or `gone`; `joined`, predictions that had joined it, if
any; `before`, bytes of all letters before it.

A model's traffic is one entry for each change of its versions' shares; the last one holds: `s`
shares as JSON, empty for those of `models.toml`; `w` why; `b` the change that rolling it back leads
to. Workers of pipelines read it as gateways do, for their steps.

An entry of an outbox has: `p` the prediction, or what else it tells of, `e` the event, `n` the
notice, `s` the sequence of the last chunk there was, or when logs were told.

The cache is by key of a row what was answered to it, and in its field `bytes` what all that takes;
`cached` has the same keys by when they were written. Both go when nothing was written for the
cache's TTL. See `lanes/cache.py`. The prompts are those whose answers may serve others like them,
with the fields `k` key in the cache, `c` context and `v` vector; see `lanes/prompts.py`.

Of a version whose workers are to take up a new artifact, the reloads are by worker what is asked of
it and how far it is. Of a shadow, the copies are as `ID:SINCE` what it was sent and is not compared
yet, and the disagreement is what came of comparing; see `lanes/shadows.py`.
"""

import hashlib
from typing import Final

import msgspec

from forebay.contract.prediction import Lane, PredictionId

GROUP: Final = "workers"
"""The one consumer group of every lane."""


LANE_ENDS: Final = {
    "CALLER": ":caller:",
    "TURNS": ":turns",
    "DEFICITS": ":deficits",
    "AHEAD": ":ahead",
    "SPENT": ":spent:",
}
"""What scripts put behind a lane's stream: they learn only while they run who waits."""


AHEAD_ENTRY: Final = b"1-"
"""What ids of entries that went ahead begin with; no others do."""


class LaneKeys(msgspec.Struct, frozen=True):
    """Keys of one shard of one model. `base` is `P:{model:shard}`."""

    base: str

    def lane(self, lane: Lane) -> str:
        """The lane's stream."""
        return f"{self.base}:lane:{lane.value}"

    def waiting(self, lane: Lane, caller: str) -> str:
        """What of a caller waits for its turn."""
        return f"{self.lane(lane)}{LANE_ENDS['CALLER']}{caller}"

    def turns(self, lane: Lane) -> str:
        """Callers of whom something waits, the next one first."""
        return self.lane(lane) + LANE_ENDS["TURNS"]

    def deficits(self, lane: Lane) -> str:
        """What callers have left to pay with."""
        return self.lane(lane) + LANE_ENDS["DEFICITS"]

    def ahead(self, lane: Lane) -> str:
        """What went ahead of those that wait for their turn; `AHEAD_ENTRY` tells its entries."""
        return self.lane(lane) + LANE_ENDS["AHEAD"]

    def spent(self, lane: Lane) -> str:
        """What a key begins with of what going ahead has cost callers; a time follows."""
        return self.lane(lane) + LANE_ENDS["SPENT"]

    def stream(self, lane: Lane, entry: bytes) -> str:
        """Where an entry is that is ready or leased."""
        return self.ahead(lane) if entry.startswith(AHEAD_ENTRY) else self.lane(lane)

    @property
    def streams(self) -> list[str]:
        """All that workers read."""
        return [*map(self.lane, Lane), *map(self.ahead, Lane)]

    @property
    def records(self) -> str:
        """What every record's key begins with; the id follows."""
        return f"{self.base}:record:"

    def record(self, prediction: str) -> str:
        """A prediction's record."""
        return f"{self.base}:record:{prediction}"

    def outputs(self, prediction: str, part: int, attempt: int) -> str:
        """Outputs too big to publish, by attempt, so a zombie can't overwrite its successor's."""
        return f"{self.outputs_of(prediction)}{part}:{attempt}"

    def outputs_of(self, prediction: str) -> str:
        """What those keys of a prediction begin with; part and attempt follow."""
        return f"{self.base}:out:{prediction}:"

    def events(self, prediction: str) -> str:
        """Chunks of what a prediction generates, by their sequence."""
        return f"{self.base}:events:{prediction}"

    @property
    def parts(self) -> str:
        """What the key begins with that keeps messages of settled parts; the id follows."""
        return f"{self.base}:parts:"

    @property
    def running(self) -> str:
        """By worker, the entries it runs, as `LANE:ENTRY …`; by `WORKER why`, why it ended."""
        return f"{self.base}:running"

    @property
    def rates(self) -> str:
        """Rows a second that each worker works off."""
        return f"{self.base}:rates"

    @property
    def endings(self) -> str:
        """Channel on which workers hear which leases have ended by authority."""
        return f"{self.base}:endings"

    @property
    def wake(self) -> str:
        """Channel on which it is said that something waits, and no worker is there."""
        return f"{self.base}:wake"

    @property
    def scaling(self) -> str:
        """How many replicas are wanted, and why."""
        return f"{self.base}:scaling"

    @property
    def deadlines(self) -> str:
        """Predictions by deadline."""
        return f"{self.base}:deadlines"

    @property
    def demand(self) -> str:
        """Rows waiting and leased, by lane, and how fast they are worked off."""
        return f"{self.base}:demand"

    @property
    def workers(self) -> str:
        """Workers by the time until which they are present."""
        return f"{self.base}:workers"

    @property
    def absences(self) -> str:
        """Workers by the time since which a sweep has found them absent."""
        return f"{self.base}:absences"

    @property
    def counters(self) -> str:
        """How many predictions ended how, and how many results were dropped."""
        return f"{self.base}:counters"

    @property
    def leaders(self) -> str:
        """By identity, the prediction under way that others may join."""
        return f"{self.base}:leaders"

    @property
    def joined(self) -> str:
        """What the key begins with that lists who joined a prediction; its id follows."""
        return f"{self.base}:joined:"

    def sketch(self, version: str, day: str) -> str:
        """Counts of what a version of the model was asked and has answered on a day."""
        return f"{self.base}:sketch:{version}:{day}"

    @property
    def predictions(self) -> str:
        """Those that have an id, the oldest first."""
        return f"{self.base}:predictions"

    @property
    def dead(self) -> str:
        """Dead letters."""
        return f"{self.base}:dead"

    @property
    def outbox(self) -> str:
        """What is to be told of predictions; also the channel on which that is said."""
        return f"{self.base}:outbox"

    @property
    def prompts(self) -> str:
        """Prompts of texts that are cached, by what they mean."""
        return f"{self.base}:prompts"

    @property
    def traffic(self) -> str:
        """Changes of the shares of a model's versions."""
        return f"{self.base}:traffic"

    @property
    def reloads(self) -> str:
        """By worker, what it is asked to load anew, and how far it is."""
        return f"{self.base}:reloads"

    @property
    def copies(self) -> str:
        """What a shadow was sent, and nobody has compared yet."""
        return f"{self.base}:copies"

    @property
    def disagreement(self) -> str:
        """How far a shadow's outputs are from those that clients got."""
        return f"{self.base}:disagreement"

    @property
    def cache(self) -> str:
        """What was answered, by key of the row."""
        return f"{self.base}:cache"

    @property
    def cached(self) -> str:
        """Keys of the cache by when they were written."""
        return f"{self.base}:cached"


class Keys:
    """Builds keys under one prefix.

    Args:
        prefix: `settings.key_prefix`.
    """

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix

    def of(self, model: str, shard: int = 0) -> LaneKeys:
        """Keys of one shard of a model."""
        return LaneKeys(f"{self.prefix}:{{{model}:{shard}}}")

    def of_prediction(self, prediction: PredictionId) -> LaneKeys:
        """Keys of the shard that holds a prediction."""
        return self.of(prediction.model, prediction.shard)

    def room(self, name: str) -> str:
        """What keys begin with that are all in one slot, and of no model."""
        return f"{self.prefix}:{{{name}}}"

    @property
    def models(self) -> str:
        """Every model that was ever swept, whether or not it is still in a catalog."""
        return f"{self.prefix}:models"

    @property
    def roster(self) -> str:
        """Workers that are present, or were lately."""
        return f"{self.prefix}:roster"

    def card(self, worker: str) -> str:
        """What a worker that is present tells of itself."""
        return f"{self.prefix}:roster:{worker}"

    @property
    def away(self) -> str:
        """There while a worker is present that was told to unload a model."""
        return f"{self.prefix}:roster:away"

    def orders(self, worker: str) -> str:
        """What a worker is to do."""
        return f"{self.prefix}:orders:{worker}"

    def answer(self, order: str) -> str:
        """What came of an order."""
        return f"{self.prefix}:answer:{order}"

    def claim(self, name: str) -> str:
        """What a name of a client's own stands for; any text will do."""
        return f"{self.prefix}:claim:{hashlib.sha256(name.encode()).hexdigest()[:40]}"

    def reply_channel(self, gateway: str) -> str:
        """The pub/sub channel of one gateway process."""
        return f"{self.prefix}:reply:{gateway}"
