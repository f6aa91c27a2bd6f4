"""The one frozen settings object of a process, and where each value came from.

Layers, the first that names a field wins: command-line flag, environment (`FOREBAY_…`), the file
`forebay.toml` (or `$FOREBAY_CONFIG`), default. `forebay config` prints the result.

msgspec does the typing and the checks: pydantic-settings would add 0.2 s and 20 MB to every
worker's cold start (decision 0004).
"""

import difflib
import os
import tomllib
from collections.abc import Iterable, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, get_args, get_type_hints

import msgspec
from msgspec import Meta

from forebay.contract.errors import ConfigurationError
from forebay.contract.notices import Format

Seconds = Annotated[float, Meta(gt=0, le=1e9)]
Count = Annotated[int, Meta(ge=1)]

LIKE = 0.9
"""How like a setting's name a variable is, of 1, that is taken for a misspelt one."""


class Durability(StrEnum):
    """What Redis promises before a client gets its 2xx; see docs/operations.md."""

    MEMORY = "memory"
    DISK = "disk"
    REPLICATED = "replicated"


class Auth(StrEnum):
    """Whom a gateway answers."""

    NONE = "none"
    KEYS = "keys"


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Every setting, with its default."""

    home: Annotated[
        str, Meta(description="Folder for artifacts, files and the embedded server")
    ] = ".forebay"
    models_file: Annotated[str, Meta(description="The model catalog")] = "models.toml"
    files_url: Annotated[
        str,
        Meta(
            description="Where uploaded and produced files are: a folder, or a URL such as "
            "s3://bucket/prefix; empty: <home>/files"
        ),
    ] = ""
    redis_url: Annotated[
        str, Meta(description="Redis or Valkey to use; empty: `forebay up` starts its own")
    ] = ""
    broker_url: Annotated[
        str, Meta(description="Redis for the background's messages; empty: that of redis_url")
    ] = ""
    key_prefix: Annotated[
        str, Meta(description="First part of every Redis key", pattern=r"^[a-z0-9_-]+\Z")
    ] = "forebay"
    durability: Annotated[
        Durability,
        Meta(description="`memory`, `disk` (append-only file), or `replicated` (a replica has it)"),
    ] = Durability.DISK
    host: Annotated[str, Meta(description="Address the gateway listens on")] = "127.0.0.1"
    port: Annotated[int, Meta(ge=1, le=65535, description="Port the gateway listens on")] = 8000
    grpc_port: Annotated[
        int,
        Meta(
            ge=0,
            le=65535,
            description="Port for gRPC; 0: none, but `forebay up` takes the one after `port`",
        ),
    ] = 0
    keda_port: Annotated[
        int,
        Meta(
            ge=0, le=65535, description="Port where `forebay autoscale run` answers KEDA; 0: none"
        ),
    ] = 0
    auth: Annotated[
        Auth, Meta(description="`keys`: whoever asks needs an API key (`forebay keys`); or `none`")
    ] = Auth.NONE
    allow_anonymous: Annotated[
        bool,
        Meta(description="Without keys, listen on other addresses than this machine's own as well"),
    ] = False
    gateways: Annotated[
        int,
        Meta(ge=1, le=64, description="Gateways that `forebay up` runs on the one port (Linux)"),
    ] = 1
    reuse_port: Annotated[
        bool, Meta(description="Several gateways may listen on the same port (Linux)")
    ] = False
    counts_dir: Annotated[
        str,
        Meta(
            description="Folder, best in memory, where gateways of one port count together; empty: "
            "each by itself, but `forebay up` has one made"
        ),
    ] = ""
    max_body_bytes: Annotated[Count, Meta(description="Largest request body, bytes")] = 10_000_000
    max_file_bytes: Annotated[Count, Meta(description="Largest uploaded file, bytes")] = 200_000_000
    max_inputs: Annotated[Count, Meta(description="Most inputs in one request")] = 2_048
    sync_wait_s: Annotated[
        Seconds, Meta(description="Longest a request waits for its result, seconds")
    ] = 60.0
    redis_timeout_s: Annotated[
        Seconds, Meta(description="A Redis command slower than this counts as failed, seconds")
    ] = 2.0
    result_retention_s: Annotated[
        Seconds, Meta(description="Keep results whose id a client has, seconds")
    ] = 86_400.0
    unseen_retention_s: Annotated[
        Seconds, Meta(description="Keep results whose id no client has, seconds")
    ] = 60.0
    lease_s: Annotated[
        Seconds, Meta(description="A worker's ownership of queued rows lapses after, seconds")
    ] = 15.0
    presence_s: Annotated[
        Seconds, Meta(description="A silent worker counts as gone after, seconds")
    ] = 3.0
    max_strikes: Annotated[
        Count,
        Meta(description="Workers lost while running a computation before it is a dead letter"),
    ] = 4
    worker_memory_mb: Annotated[
        int, Meta(ge=0, description="Memory a worker may take, all its models together; 0: any")
    ] = 0
    idle_unload_s: Annotated[
        float,
        Meta(ge=0, le=1e9, description="Unload a model that has had no row for, seconds; 0: never"),
    ] = 0.0
    drain_s: Annotated[
        Seconds, Meta(description="Grace for finishing work after SIGTERM, seconds")
    ] = 30.0
    sweep_s: Annotated[
        Seconds, Meta(description="Period of the sweeps for deadlines and orphans, seconds")
    ] = 5.0
    retention_s: Annotated[
        Seconds, Meta(description="Period of the retention of files and dead letters, seconds")
    ] = 300.0
    dead_letter_retention_s: Annotated[
        Seconds, Meta(description="Keep dead letters for, seconds")
    ] = 604_800.0
    dead_letter_max: Annotated[Count, Meta(description="Most dead letters kept a model")] = 10_000
    dead_letter_max_bytes: Annotated[
        Count, Meta(description="Most bytes of dead letters kept a model; a quarter for one")
    ] = 100_000_000
    file_retention_s: Annotated[
        Seconds, Meta(description="Keep uploaded and produced files for, seconds")
    ] = 2_592_000.0
    webhook_timeout_s: Annotated[
        Seconds, Meta(description="A webhook's receiver has so long to answer, seconds")
    ] = 15.0
    webhook_retries_s: Annotated[
        str,
        Meta(
            description="Pauses before a webhook is sent again, seconds, separated by commas; "
            "after the last it has failed",
            pattern=r"^\s*([0-9]+(\.[0-9]+)?\s*(,\s*|\Z))*\Z",
        ),
    ] = "5, 300, 1800, 7200, 18000, 36000, 50400, 72000, 86400"
    webhook_format: Annotated[
        Format, Meta(description="What webhooks of predictions are: `plain`, or `cloudevents`")
    ] = Format.PLAIN
    webhook_retention_s: Annotated[
        Seconds, Meta(description="Keep webhooks that are over, for looking and replaying, seconds")
    ] = 259_200.0
    webhook_max: Annotated[Count, Meta(description="Most webhooks kept that are over")] = 100_000
    triggers_file: Annotated[
        str, Meta(description="Brokers' events that models run on; empty: none")
    ] = ""
    egress_allow: Annotated[
        str,
        Meta(
            description="What may be called out to though it is not public, separated by commas: "
            "addresses, networks (10.1.0.0/16), names, *.domains"
        ),
    ] = ""
    egress_loopback: Annotated[
        bool, Meta(description="This machine itself may be, too; `forebay up` sets it on 127.0.0.1")
    ] = False
    celery_broker_url: Annotated[
        str,
        Meta(description="Broker of Celery apps whose tasks are to be taken in; empty: of none"),
    ] = ""
    celery_result_backend: Annotated[
        str, Meta(description="Their result backend; empty: the broker, if that is Redis")
    ] = ""
    celery_file: Annotated[
        str, Meta(description="TOML file with what else those apps set; empty: none")
    ] = ""
    log_level: Annotated[
        str, Meta(pattern="^(debug|info|warning|error)$", description="Least severity logged")
    ] = "info"

    @property
    def webhook_retries(self) -> tuple[float, ...]:
        """What `webhook_retries_s` lists."""
        return tuple(float(pause) for pause in self.webhook_retries_s.split(",") if pause.strip())

    @property
    def files_at(self) -> str:
        """Where files are; `files_url` or what stands for it."""
        return self.files_url or str(Path(self.home) / "files")

    @property
    def egress_allowed(self) -> list[str]:
        """What `egress_allow` lists."""
        return [entry.strip() for entry in self.egress_allow.split(",") if entry.strip()]


class Origin(msgspec.Struct, frozen=True):
    """Where a setting's value came from: `default`, or the flag, variable or file that set it."""

    field: str
    value: object
    source: str
    description: str


class Configuration(msgspec.Struct, frozen=True):
    """Settings together with the origin of each."""

    settings: Settings
    origins: tuple[Origin, ...]


def load(
    *,
    flags: Mapping[str, object] | None = None,
    environ: Mapping[str, str] | None = None,
) -> Configuration:
    """Read the layers and check every value.

    Args:
        flags: values given on the command line, by field name; None means not given.
        environ: the environment; the process's own by default.

    Raises:
        ConfigurationError: a value is of the wrong type or out of range, or a name is unknown;
            the message names the setting and where it was set.
    """
    env = os.environ if environ is None else environ
    fields = {field.name: field for field in msgspec.structs.fields(Settings)}
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}

    def set_(name: str, value: object, source: str) -> None:
        if name not in fields:
            raise ConfigurationError(
                f"{source} sets {name!r}, which is no setting. `forebay config` lists them all."
            )
        values[name], sources[name] = value, source

    path = Path(env.get("FOREBAY_CONFIG", "forebay.toml"))
    if path.is_file():
        try:
            for name, value in tomllib.loads(path.read_text("utf-8")).items():
                set_(name, value, str(path))
        except tomllib.TOMLDecodeError as error:
            raise ConfigurationError(f"{path} is not valid TOML: {error}.") from error
    elif "FOREBAY_CONFIG" in env:
        raise ConfigurationError(f"FOREBAY_CONFIG names {path}, which does not exist.")
    variables = {f"FOREBAY_{name.upper()}": name for name in fields}
    _refuse_misspelt(env, variables)
    for variable, name in variables.items():
        if env.get(variable):
            set_(name, env[variable], variable)
    for name, value in (flags or {}).items():
        if value is not None:
            set_(name, value, f"--{name.replace('_', '-')}")

    typed: dict[str, Any] = {}
    for name, value in values.items():
        try:
            typed[name] = msgspec.convert(value, fields[name].type, strict=False)
        except msgspec.ValidationError as error:
            raise ConfigurationError(
                f"{sources[name]} sets {name} to {value!r}: {error}."
            ) from error
    settings = Settings(**typed)
    hints = get_type_hints(Settings, include_extras=True)
    return Configuration(
        settings,
        tuple(
            Origin(
                name,
                getattr(settings, name),
                sources.get(name, "default"),
                _description(hints[name]),
            )
            for name in fields
        ),
    )


def _refuse_misspelt(env: Mapping[str, str], variables: Iterable[str]) -> None:
    """Refuse a variable that is nearly a setting's.

    Any other that begins like ours is let pass: Kubernetes makes some of a service's name.
    """
    known = {*variables, "FOREBAY_CONFIG"}
    for name in env:
        if not name.startswith("FOREBAY_") or name in known:
            continue
        if meant := difflib.get_close_matches(name, known, n=1, cutoff=LIKE):
            raise ConfigurationError(f"{name} is no setting. Is {meant[0]} meant?")


def _description(hint: object) -> str:
    metas = (meta for meta in get_args(hint)[1:] if isinstance(meta, Meta))
    return next((meta.description for meta in metas if meta.description), "")
