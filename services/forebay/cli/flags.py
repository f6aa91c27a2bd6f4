"""Options that are settings: named, explained and checked as the settings are.

A verb says which settings it takes, and gets what they come to:

    @app.command()
    @flags.service("home", "models_file", "redis_url")
    def worker(settings: Settings, model: …) -> None: …
"""

import functools
import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Concatenate, ParamSpec, TypeVar, get_args, get_type_hints

import msgspec
import typer

from forebay.contract.errors import ConfigurationError
from forebay.runtime.settings import Configuration, Settings, load

P = ParamSpec("P")
T = TypeVar("T")

SHORT = {"worker_memory_mb": "memory_mb"}
"""Settings whose option has a shorter name, because the verb says the rest."""

_HINTS = get_type_hints(Settings, include_extras=True)


def configured(
    *fields: str,
) -> Callable[[Callable[Concatenate[Configuration, P], None]], Callable[..., None]]:
    """Give a verb an option for each of these settings; its first argument is what all come to."""
    return _taking(fields, lambda values: configure(**values))


def service(
    *fields: str,
) -> Callable[[Callable[Concatenate[Settings, P], None]], Callable[..., None]]:
    """Like `configured`, for a process that works on lanes; its first argument is the settings."""
    return _taking(fields, lambda values: configure_service(**values))


def configure(**flags: object) -> Configuration:
    """The configuration, with the options that were given on top.

    Raises:
        ConfigurationError: a value is wrong, or the settings' file can't be read.
    """
    try:
        return load(flags=flags)
    except (OSError, UnicodeError, RecursionError) as error:
        why = "it nests too deeply" if isinstance(error, RecursionError) else str(error)
        raise ConfigurationError(
            "The settings can't be read from forebay.toml (or the file that FOREBAY_CONFIG names), "
            f"the environment and the command line: {why}."
        ) from error


def configure_service(**flags: object) -> Settings:
    """Settings of a process that works on lanes, which can't do without a Redis.

    If none is given, it is the one that `forebay up` runs in the same home.

    Raises:
        ConfigurationError: none is given, or its URL can't be understood.
    """
    from forebay.local.home import told_url
    from forebay.runtime.redis import check_url

    settings = configure(**flags).settings
    if not settings.redis_url:
        settings = msgspec.structs.replace(settings, redis_url=told_url(Path(settings.home)))
    if not settings.redis_url:
        raise ConfigurationError(
            "No Redis is given: set FOREBAY_REDIS_URL or --redis-url, or let `forebay up` start "
            "everything, a server included."
        )
    check_url(settings.redis_url)
    return settings


def _taking(
    fields: tuple[str, ...], read: Callable[[Mapping[str, object]], T]
) -> Callable[[Callable[Concatenate[T, P], None]], Callable[..., None]]:
    def decorate(verb: Callable[Concatenate[T, P], None]) -> Callable[..., None]:
        own = list(inspect.signature(verb, eval_str=True).parameters.values())[1:]
        options = [
            inspect.Parameter(
                field, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=_option(field)
            )
            for field in fields
        ]

        @functools.wraps(verb)
        def called(**given: Any) -> None:
            settings = read({field: given.pop(field) for field in fields})
            verb(settings, **given)  # type: ignore[call-arg]

        # What typer reads the verb's arguments and options from.
        called.__signature__ = inspect.Signature([*own, *options])  # type: ignore[attr-defined]
        called.__annotations__ = {taken.name: taken.annotation for taken in (*own, *options)}
        return called

    return decorate


def _option(field: str) -> Any:
    hint = _HINTS[field]
    metas = (meta for meta in get_args(hint)[1:] if isinstance(meta, msgspec.Meta))
    described = next((meta.description for meta in metas if meta.description), "")
    name = SHORT.get(field, field).replace("_", "-")
    option = typer.Option(f"--{name}", help=described, show_default=False)
    # Anything but a number is text until the settings are checked.
    return Annotated[int | None if get_args(hint)[0] is int else str | None, option]
