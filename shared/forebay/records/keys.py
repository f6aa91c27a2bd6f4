"""Every Redis key of what is kept beside the lanes; no other module builds one.

Of webhooks, after `P:{webhooks}:`, all in one slot: `outbox`, a stream, of what no model's lane
has, written by the background, bounded; `delivery:ID`, a hash, a delivery, written by relays and
senders and read by operators, for its retention after its end; `deliveries`, a zset, all of them by
when they were made, and `due`, a zset, those that are not over by when somebody has to look after
them, written and read by relays and senders, as long; `waits`, a hash, how many of those there are
by host, likewise; `gone`, a zset, receivers by when they said
that they want no more, bounded; `endpoints`, a hash, receivers that operators have added, for ever;
and `secrets`, a string, what deliveries are signed with, written by operators, and by who first
needs it, for ever, and `secrets:URL` likewise for one receiver, until its endpoint was removed long
ago. `P:{webhooks}:outbox` is a channel too.

With the tag `{batches}`, and written by gateways and backgrounds: `P:{batches}:batch:ID`, a hash, a
batch, for its retention once it has ended; `P:{batches}:done:ID`, a string, a bit for each of its
lines, and `P:{batches}:segments:ID`, a list, what its files are to be made of, both until it has
ended; `P:{batches}:open`, a zset, batches that have not ended by when nobody holds them any more;
and `P:{batches}:index`, a zset, all ids of batches, for as long as any is kept.

With the tag `{keys}`: `P:{keys}:all`, a hash, API keys by their ids, written by operators and read
by gateways, for ever; and, written and read by gateways, `P:{keys}:spent:ID`, a hash, what is left
of a key's allowance (`left`, and `at` as of when, Unix ms), and `P:{keys}:held:ID`, a hash, by
gateway how many requests at once it may answer for the key, and until when (Unix ms), both until
nothing was asked of them for minutes.

P is `settings.key_prefix`. An entry of an outbox is told of in `lanes/keys.py`.

A batch's fields: `st` status, `rq` what is asked for (JSON), `ct` created and `ex` expires and
`at STATUS` since when it has each (Unix ms), `by` mark of who holds it and `who` that process's
name, `total`, `completed` and `failed` lines, `input`, `cached` and `output` tokens, `out` and
`err` ids of its files, `outs` and `errs` there if these are, `expired` there if its time was over,
`faults` of its input (JSON), `broken` how often whoever held it found itself at fault. A segment
is `out INDEX` or `err INDEX`.

A delivery's fields: `st` state, `p` what it tells of and `e` the event, `u` the receiver's URL and
`o` the host of it, `b` the body and `ct` its content type, `at` when it was made and `sa` since
when it is tried, `n` failures so far, `l` attempts, a line of JSON each, `by` who is trying it and
`un` until when (Unix ms).
"""

import msgspec

from forebay.lanes.keys import Keys


class BatchKeys(msgspec.Struct, frozen=True):
    """Keys of batches, all in one slot. `base` is `P:{batches}`."""

    base: str

    @property
    def batches(self) -> str:
        """What every batch's key begins with; its id follows."""
        return f"{self.base}:batch:"

    def batch(self, id_: str) -> str:
        """What is known of a batch."""
        return f"{self.base}:batch:{id_}"

    def done(self, id_: str) -> str:
        """Which of its lines are done."""
        return f"{self.base}:done:{id_}"

    def segments(self, id_: str) -> str:
        """What its files are to be made of."""
        return f"{self.base}:segments:{id_}"

    @property
    def open(self) -> str:
        """Batches that have not ended."""
        return f"{self.base}:open"

    @property
    def index(self) -> str:
        """Ids of all batches."""
        return f"{self.base}:index"


class WebhookKeys(msgspec.Struct, frozen=True):
    """Keys of deliveries. `base` is `P:{webhooks}`."""

    base: str

    @property
    def outbox(self) -> str:
        """What is to be told of what is no prediction; also the channel on which that is said."""
        return f"{self.base}:outbox"

    @property
    def records(self) -> str:
        """What every delivery's key begins with; the id follows."""
        return f"{self.base}:delivery:"

    def delivery(self, delivery: str) -> str:
        """A delivery."""
        return f"{self.base}:delivery:{delivery}"

    @property
    def deliveries(self) -> str:
        """All of them by when they were made."""
        return f"{self.base}:deliveries"

    @property
    def due(self) -> str:
        """Those that are not over by when somebody has to look after them."""
        return f"{self.base}:due"

    @property
    def waits(self) -> str:
        """How many deliveries wait for each host."""
        return f"{self.base}:waits"

    @property
    def gone(self) -> str:
        """Receivers that want no more."""
        return f"{self.base}:gone"

    @property
    def endpoints(self) -> str:
        """Receivers that operators have added."""
        return f"{self.base}:endpoints"

    @property
    def secrets(self) -> str:
        """What deliveries are signed with."""
        return f"{self.base}:secrets"

    def secrets_of(self, url: str) -> str:
        """What deliveries to one receiver are signed with, if that is something of its own."""
        return f"{self.base}:secrets:{url}"


class ApiKeyKeys(msgspec.Struct, frozen=True):
    """Keys of API keys, all in one slot. `base` is `P:{keys}`."""

    base: str

    @property
    def all(self) -> str:
        """API keys by their ids."""
        return f"{self.base}:all"

    def spent(self, id_: str) -> str:
        """What is left of an API key's allowance."""
        return f"{self.base}:spent:{id_}"

    def held(self, id_: str) -> str:
        """Which gateway may answer how many of its requests at once."""
        return f"{self.base}:held:{id_}"


def batch_keys(keys: Keys) -> BatchKeys:
    """Keys of batches."""
    return BatchKeys(keys.room("batches"))


def webhook_keys(keys: Keys) -> WebhookKeys:
    """Keys of deliveries."""
    return WebhookKeys(keys.room("webhooks"))


def api_key_keys(keys: Keys) -> ApiKeyKeys:
    """Keys of API keys."""
    return ApiKeyKeys(keys.room("keys"))
