"""`triggers.toml`: which queue's events are run on which model, and where the results go."""

import os
import re
import tomllib
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import msgspec
from kombu import Connection
from msgspec import Meta

from forebay.background.triggers.inputs import check_template
from forebay.contract.errors import ConfigurationError, ForebayError, InvalidInput
from forebay.contract.model import NAME_PATTERN
from forebay.contract.prediction import Lane
from forebay.runtime.catalog import Catalog
from forebay.runtime.toml_faults import Field, explained, wrong

_VARIABLE = re.compile(r"\$([A-Za-z_][A-Za-z0-9_]*)")


class ExchangeType(StrEnum):
    """How an exchange chooses queues, as AMQP has it."""

    DIRECT = "direct"
    TOPIC = "topic"
    FANOUT = "fanout"


class Mode(StrEnum):
    """Where an event's attributes are: in its body, or in its headers (CloudEvents 1.0)."""

    STRUCTURED = "structured"
    BINARY = "binary"


class ResultTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where result events go, and what they look like. It needs a queue or an exchange.

    Attributes:
        queue: that they are for; made if it isn't there. Empty: whoever listens has one.
        exchange: that they are published to; made if it isn't there. Empty: straight to the queue.
        exchange_type: of the exchange.
        routing_key: under which they are published; the queue's name if not given.
        type: begins an event's type; `.succeeded`, `.failed` and so on follow.
        source: an event's source; `/forebay/triggers/NAME` if not given.
        mode: `structured`, attributes and data in the body, or `binary`, attributes as headers.
    """

    queue: str = ""
    exchange: str = ""
    exchange_type: ExchangeType = ExchangeType.DIRECT
    routing_key: str = ""
    type: Annotated[str, Meta(min_length=1)] = "dev.forebay.prediction"
    source: str = ""
    mode: Mode = Mode.STRUCTURED

    @property
    def key(self) -> str:
        """The routing key."""
        return self.routing_key or self.queue


class Trigger(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One queue whose events are a model's inputs.

    Attributes:
        broker: URL, in any scheme kombu knows; `$NAME` takes it from the environment.
        queue: that events come from; made if it isn't there.
        model: that runs, as `NAME` or `NAME:VERSION`.
        result: where its outcome goes.
        exchange: that the queue is bound to; made if it isn't there. Empty: to none.
        exchange_type: of the exchange.
        routing_key: of the binding; the queue's name if not given.
        input: what the model gets; `"$data"` and the like stand for parts of the event. Without
            this it is the event's `data`.
        lane: where it waits: `bulk`, or `realtime`, which goes first.
        prefetch: most events that are taken and not yet acknowledged.
        max_bytes: of a message; a larger one is a dead letter.
        retries: how often a prediction that failed is made anew before that is told. One whose
            input was refused is not.
        dead_letter: queue for what is no event, or no input of the model; `QUEUE.dead` if not
            given.
        declare: make queues and exchanges that aren't there. False: they are others'.
        options: of kombu's transport, such as `global_keyprefix`.
        name: the table's.
    """

    broker: Annotated[str, Meta(min_length=1)]
    queue: Annotated[str, Meta(min_length=1)]
    model: Annotated[str, Meta(min_length=1)]
    result: ResultTable
    exchange: str = ""
    exchange_type: ExchangeType = ExchangeType.DIRECT
    routing_key: str = ""
    input: dict[str, Any] | None = None
    lane: Lane = Lane.BULK
    prefetch: Annotated[int, Meta(ge=1, le=10_000)] = 64
    max_bytes: Annotated[int, Meta(ge=1)] = 1_000_000
    retries: Annotated[int, Meta(ge=0, le=100)] = 0
    dead_letter: str = ""
    declare: bool = True
    options: dict[str, Any] = {}
    name: str = ""

    @property
    def dead_letters(self) -> str:
        """Name of the queue for dead letters."""
        return self.dead_letter or f"{self.queue}.dead"

    @property
    def source(self) -> str:
        """Source of its result events."""
        return self.result.source or f"/forebay/triggers/{self.name}"


class TriggersFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A `triggers.toml`: one table for each trigger, `[triggers.NAME]`."""

    triggers: Annotated[
        dict[Annotated[str, Meta(pattern=f"^{NAME_PATTERN}$")], Trigger], Meta(min_length=1)
    ]


def read(
    path: Path, catalog: Catalog, *, environ: Mapping[str, str] | None = None
) -> list[Trigger]:
    """Read a file of triggers.

    Args:
        path: of the file.
        catalog: the models that there are.
        environ: the environment; the process's own by default.

    Raises:
        ConfigurationError: no such file, not TOML, or a field is wrong; the message names the
            trigger, the field, and the line where it is.
    """
    try:
        text = path.read_text("utf-8-sig")
        table = tomllib.loads(text)
    except FileNotFoundError:
        raise ConfigurationError(
            f"There is no file of triggers at {path}. Mend FOREBAY_TRIGGERS_FILE (triggers_file)."
        ) from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"{path} is not valid TOML: {error}.") from error
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{path} can't be read: {error}.") from error
    except RecursionError:
        raise ConfigurationError(f"{path} nests too deeply.") from None
    try:
        tables = msgspec.convert(table, _Unread)
    except msgspec.ValidationError as error:
        raise wrong(path, text, *explained(error, _Unread, {})) from error
    if not tables.triggers:
        raise ConfigurationError(f"{path} names no trigger: add a [triggers.NAME] table.")
    found: list[Trigger] = []
    for name, one in tables.triggers.items():
        try:
            found.append(_trigger(name, one, catalog, os.environ if environ is None else environ))
        except _FieldError as error:
            raise wrong(path, text, ("triggers", name, *error.field), error.what) from error
    return found


class _Unread(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A `TriggersFile` whose tables are read one by one, so that an error can name the trigger."""

    triggers: dict[str, Any] = {}


class _FieldError(Exception):
    """A field of a trigger is wrong."""

    def __init__(self, field: Field, what: str) -> None:
        super().__init__(what)
        self.field = field
        self.what = what.removesuffix(".")


def _trigger(name: str, table: Any, catalog: Catalog, environ: Mapping[str, str]) -> Trigger:
    if not re.fullmatch(NAME_PATTERN, name):
        raise _FieldError(
            (), "a trigger's name is 1 to 63 of a-z, 0-9, '.', '_' and '-', a letter or digit first"
        )
    if isinstance(table, dict) and "name" in table:
        raise _FieldError(("name",), "there is no such field: a trigger is named by its table")
    try:
        trigger = msgspec.convert(table, Trigger)
    except msgspec.ValidationError as error:
        raise _FieldError(*explained(error, Trigger, table)) from error
    if not trigger.result.queue and not trigger.result.exchange:
        raise _FieldError(("result",), "say a queue or an exchange to publish results to")
    if trigger.dead_letters in (trigger.queue, trigger.result.queue):
        raise _FieldError(("dead_letter",), "dead letters need a queue of their own")
    if trigger.queue == trigger.result.queue:
        raise _FieldError(("result", "queue"), "results in the queue of events would be run again")
    try:
        catalog.find(trigger.model.partition(":")[0])
    except ForebayError as error:
        raise _FieldError(("model",), _lower(error.message)) from error
    if trigger.input is not None:
        try:
            check_template(trigger.input)
        except InvalidInput as error:
            raise _FieldError(("input", *_keys(error.param)), _lower(error.message)) from error
    broker = _broker(trigger.broker, environ)
    return msgspec.structs.replace(trigger, name=name, broker=broker)


def _broker(broker: str, environ: Mapping[str, str]) -> str:
    """The URL, which no error tells: it may have a password."""
    if variable := _VARIABLE.fullmatch(broker):
        broker = environ.get(variable[1], "")
        if not broker:
            raise _FieldError(("broker",), f"the environment has no variable {variable[1]}")
    scheme = broker.partition(":")[0]
    if scheme == broker:
        raise _FieldError(
            ("broker",), "a URL is needed, such as amqp://user:password@host:5672/vhost"
        )
    try:
        assert Connection(broker).transport  # imports it, and connects nothing
    except KeyError:
        raise _FieldError(("broker",), f"kombu knows no transport {scheme!r}") from None
    except (ImportError, NameError) as error:
        what = f"kombu's transport {scheme!r} needs what is not installed: {error}"
        raise _FieldError(("broker",), what) from error
    except ValueError:
        raise _FieldError(("broker",), "this is no URL") from None
    return broker


def _keys(param: str | None) -> Field:
    return tuple(param.split(".")) if param else ()


def _lower(message: str) -> str:
    return message[:1].lower() + message[1:]
