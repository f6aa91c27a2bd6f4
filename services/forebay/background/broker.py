"""What Celery is told of its broker: the Redis that the lanes are on, or one of its own."""

from typing import Any
from urllib.parse import quote

from redis.backoff import NoBackoff
from redis.retry import Retry

from forebay.background.transport import SCHEME, SENTINEL_SCHEME
from forebay.contract.errors import ConfigurationError
from forebay.runtime.redis.urls import Place, read_url
from forebay.runtime.settings import Settings


def broker_configuration(settings: Settings) -> dict[str, Any]:
    """Celery's settings for the broker.

    Raises:
        ConfigurationError: its URL can't be understood, or Celery can't use it.
    """
    place = read_url(settings.broker_url or settings.redis_url)
    if place.nodes:
        raise ConfigurationError(
            "Celery's messages can't go over a Redis Cluster. Set FOREBAY_BROKER_URL (broker_url) "
            "to a Redis or Valkey that is no cluster, or to its sentinels; the lanes stay where "
            "they are."
        )
    told = configuration_of(
        place, scheme=SCHEME, sentinel_scheme=SENTINEL_SCHEME, timeout_s=settings.redis_timeout_s
    )
    told["broker_transport_options"]["global_keyprefix"] = f"{settings.key_prefix}:celery:"
    return told


def configuration_of(
    place: Place, *, scheme: str = "redis", sentinel_scheme: str = "sentinel", timeout_s: float
) -> dict[str, Any]:
    """Celery's settings for a broker that is a Redis, no cluster.

    Args:
        place: where it is.
        scheme: of the transport to take for a server.
        sentinel_scheme: likewise, where sentinels know the server.
        timeout_s: for connecting and for each answer, seconds.
    """
    timeouts = {
        "socket_timeout": timeout_s,
        "socket_connect_timeout": timeout_s,
        "socket_keepalive": True,
    }
    told: dict[str, Any] = {
        "broker_url": url_of(place, scheme),
        "broker_use_ssl": tls_of(place.options) if place.tls else None,
        "broker_transport_options": dict(timeouts),
        # A Redis that is away comes back: wait for it, at the start and later.
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
    }
    if place.sentinels:
        tls = {"ssl": True, **tls_of(place.sentinel_options)} if place.tls else {}
        told["broker_transport"] = sentinel_scheme
        told["broker_transport_options"] |= {
            "master_name": place.service,
            "sentinel_kwargs": {
                **place.sentinel_options,
                **tls,
                **timeouts,
                # The next sentinel is asked instead.
                "retry": Retry(NoBackoff(), 0),
            },
        }
    return told


def url_of(place: Place, scheme: str) -> str:
    """A place as kombu writes it; what isn't where and who is said in other settings."""
    database = place.options.get("db", 0)
    if place.unix:
        return f"{scheme}+socket://{place.options['path']}?virtual_host={database}"
    user, password = place.options.get("username"), place.options.get("password")
    credentials = ""
    if user or password:
        credentials = f"{quote(user or '', safe='')}:{quote(password or '', safe='')}@"
    if not place.sentinels:
        host, port = place.options.get("host", "localhost"), place.options.get("port", 6379)
        return f"{scheme}://{credentials}{_bracketed(host)}:{port}/{database}"
    # Kombu looks for sentinels under this scheme; which transport it takes is said beside it.
    return ";".join(
        f"sentinel://{credentials}{_bracketed(host)}:{port}/{database}"
        for host, port in place.sentinels
    )


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def tls_of(options: dict[str, Any]) -> dict[str, Any]:
    """The options that are about TLS."""
    own = {name: value for name, value in options.items() if name.startswith("ssl_")}
    return {"ssl_cert_reqs": "required", **own}
