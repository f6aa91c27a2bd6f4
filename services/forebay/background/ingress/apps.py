"""What is known of the Celery apps whose tasks are taken in: their broker, backends and queues.

Messages say neither where their results go nor how the next step of a chain is routed, so it is
told here as it is in the app, under Celery's own names.
"""

import tomllib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Final

import msgspec
from celery import Celery
from celery.app.defaults import SETTING_KEYS
from kombu.transport.redis import PRIORITY_STEPS

from forebay.background.broker import configuration_of, tls_of, url_of
from forebay.background.taking.place import lists_of
from forebay.contract.errors import ConfigurationError
from forebay.runtime.catalog import Catalog
from forebay.runtime.redis import urls
from forebay.runtime.settings import Settings

QUEUE_PREFIX: Final = "forebay."
"""A model's own queue is this and its name."""

TASK: Final = "forebay.predict"

REDIS_SCHEMES: Final = ("redis://", "rediss://", "unix://", "redis+", "rediss+")

_SEPARATOR: Final = "\x06\x16"
"""Between a queue's name and a priority, as kombu has it."""

_OURS: Final = frozenset(
    {"accept_content", "broker_url", "imports", "include", "result_backend", "result_serializer"}
)
"""What is said elsewhere, or can't be otherwise: json is all that is read and written."""


class Queue(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A queue of the apps.

    Attributes:
        model: that its tasks are for, unless they say another.
        result_backend: of the app that sends to it; empty for that of the settings.
    """

    model: str = ""
    result_backend: str = ""


class Apps(msgspec.Struct, frozen=True):
    """The apps, as far as must be known.

    Attributes:
        broker_url: as the settings have it.
        redis: where the broker is, if it is a Redis.
        queues: by name.
        conf: Celery's settings that are as in the apps.
        result_backend: where results go that go nowhere else; may be empty.
        timeout_s: for connecting and for each answer, seconds.
    """

    broker_url: str
    redis: urls.Place | None
    queues: dict[str, Queue]
    conf: dict[str, Any]
    result_backend: str
    timeout_s: float

    def lists(self, queue: str) -> list[str]:
        """Keys of a queue's lists on Redis, in the order in which they are emptied."""
        options = self.conf.get("broker_transport_options", {})
        prefix, separator = options.get("global_keyprefix", ""), options.get("sep", _SEPARATOR)
        steps = options.get("priority_steps", PRIORITY_STEPS)
        return lists_of(queue, prefix=prefix, separator=separator, steps=steps)

    def backend_of(self, queue: str) -> str:
        """URL of the backend for results of a queue's tasks; empty if nobody keeps them."""
        own = self.queues[queue].result_backend if queue in self.queues else ""
        return own or self.result_backend

    def celery(self, backend_url: str) -> Celery:
        """An app like theirs, which sends where they do and keeps results where they look.

        Raises:
            ConfigurationError: the backend's URL can't be understood.
        """
        app = Celery("forebay.ingress", set_as_current=False)
        app.conf.update(self._broker() | self._backend(backend_url))
        options = {
            name: app.conf[name] | self.conf[name]
            for name in ("broker_transport_options", "result_backend_transport_options")
            if name in self.conf
        }
        app.conf.update(self.conf | options)
        app.conf.update(
            accept_content=["json"],
            result_serializer="json",
            task_serializer="json",
            worker_enable_remote_control=True,
        )
        return app

    def check(self) -> None:
        """Make sure that broker and backends can be used, without asking whether they are there.

        Raises:
            ConfigurationError: one can't be.
        """
        _tried("celery_broker_url", self.broker_url, self._transport)
        backends = {self.result_backend, *map(self.backend_of, self.queues)}
        for url in sorted(backends):
            _tried("the result backend", url, partial(getattr, self.celery(url), "backend"))

    def _transport(self) -> None:
        with self.celery("").connection_for_read() as connection:
            connection.get_transport_cls()

    def _broker(self) -> dict[str, Any]:
        if self.redis is None:
            return {"broker_url": self.broker_url}
        return configuration_of(self.redis, timeout_s=self.timeout_s)

    def _backend(self, url: str) -> dict[str, Any]:
        if not url.startswith(REDIS_SCHEMES):
            return {"result_backend": url or None}
        place = redis_of(url, setting="celery_result_backend")
        scheme = "" if place.unix else "rediss" if place.tls else "redis"
        told: dict[str, Any] = {
            "result_backend": url_of(place, scheme).removeprefix("+"),
            "redis_socket_timeout": self.timeout_s,
            "redis_socket_connect_timeout": self.timeout_s,
        }
        if place.tls:
            told["redis_backend_use_ssl"] = tls_of(place.options)
        if place.sentinels:
            told["result_backend_transport_options"] = {"master_name": place.service}
        return told


def read(settings: Settings, catalog: Catalog) -> Apps:
    """The apps as the settings have them; `celery_broker_url` must be set.

    Raises:
        ConfigurationError: a URL can't be understood, or the file says what can't be.
    """
    url = settings.celery_broker_url
    place = redis_of(url, setting="celery_broker_url") if url.startswith(REDIS_SCHEMES) else None
    if url.startswith(("sentinel://", "redis-sentinel")):
        raise ConfigurationError(
            "FOREBAY_CELERY_BROKER_URL (celery_broker_url): write sentinels as "
            "redis+sentinel://HOST:PORT,HOST:PORT/SERVICE/DB."
        )
    queues, conf = _file(settings.celery_file)
    for name in catalog.models:
        queues.setdefault(f"{QUEUE_PREFIX}{name}", Queue(model=name))
    for name, queue in queues.items():
        if queue.model and queue.model not in catalog.models:
            raise ConfigurationError(
                f"{settings.celery_file}: queues.{name}.model is {queue.model!r}, and there is no "
                f"such model. Models: {', '.join(catalog.models)}."
            )
    return Apps(
        broker_url=url,
        redis=place,
        queues=queues,
        conf=conf,
        result_backend=settings.celery_result_backend or (url if place else ""),
        timeout_s=settings.redis_timeout_s,
    )


def _tried(name: str, url: str, use: Callable[[], object]) -> None:
    try:
        use()
    except ConfigurationError:
        raise
    except Exception as error:
        # Any transport and any backend has errors of its own, that of a missing library among them.
        raise ConfigurationError(f"{name}: {urls.mask(url)!r} can't be used: {error}.") from error


def home_of(settings: Settings) -> str:
    """URL of the Redis that messages are kept in which were taken: the broker's, if it is one."""
    url = settings.celery_broker_url
    return url if url.startswith(REDIS_SCHEMES) else settings.redis_url


def redis_of(url: str, *, setting: str) -> urls.Place:
    """Where a Redis of the apps is.

    Raises:
        ConfigurationError: the URL can't be understood, or names a cluster.
    """
    place = urls.read_url(url)
    if place.nodes:
        raise ConfigurationError(f"{setting}: Celery can't use a Redis Cluster.")
    return place


def _file(name: str) -> tuple[dict[str, Queue], dict[str, Any]]:
    if not name:
        return {}, {}
    try:
        told = tomllib.loads(Path(name).read_text("utf-8"))
    except OSError as error:
        raise ConfigurationError(f"celery_file names {name}: {error.strerror}.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{name} is not valid TOML: {error}.") from error
    try:
        queues = msgspec.convert(told.pop("queues", {}), dict[str, Queue])
    except msgspec.ValidationError as error:
        raise ConfigurationError(f"{name}: queues: {error}.") from error
    for key in told:
        if key in _OURS:
            raise ConfigurationError(f"{name}: {key} is not to be set there.")
        if key not in SETTING_KEYS:
            raise ConfigurationError(f"{name}: Celery has no setting {key!r}.")
    return queues, told
