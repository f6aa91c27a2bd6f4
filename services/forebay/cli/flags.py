"""Options that are settings: named, explained and checked as the settings are."""

from typing import Annotated, Any, get_args, get_type_hints

import msgspec
import typer

from forebay.runtime.settings import Configuration, Settings, load

_HINTS = get_type_hints(Settings, include_extras=True)


def _option(field: str) -> Any:
    metas = (meta for meta in get_args(_HINTS[field])[1:] if isinstance(meta, msgspec.Meta))
    described = next((meta.description for meta in metas if meta.description), "")
    return typer.Option(f"--{field.replace('_', '-')}", help=described, show_default=False)


Home = Annotated[str | None, _option("home")]
ModelsFile = Annotated[str | None, _option("models_file")]
RedisUrl = Annotated[str | None, _option("redis_url")]
KeyPrefix = Annotated[str | None, _option("key_prefix")]
Durability = Annotated[str | None, _option("durability")]
Host = Annotated[str | None, _option("host")]
Port = Annotated[int | None, _option("port")]
LogLevel = Annotated[str | None, _option("log_level")]


def configure(**flags: object) -> Configuration:
    """The configuration, with the options that were given on top."""
    return load(flags=flags)


def configure_service(**flags: object) -> Settings:
    """Settings of a process that works on lanes, which can't do without a Redis.

    Raises:
        ConfigurationError: none is given.
    """
    from forebay.contract.errors import ConfigurationError

    settings = configure(**flags).settings
    if not settings.redis_url:
        raise ConfigurationError(
            "No Redis is given: set FOREBAY_REDIS_URL or --redis-url, or let `forebay up` start "
            "everything, a server included."
        )
    return settings
