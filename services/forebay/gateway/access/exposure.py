"""Nobody is served by accident: what others can reach asks for API keys, or was told not to."""

import ipaddress

from forebay.contract.errors import ConfigurationError
from forebay.runtime.settings import Auth, Settings


def check_exposure(settings: Settings) -> None:
    """Refuse to listen where others may come who need no key.

    Raises:
        ConfigurationError: what to do instead.
    """
    if settings.auth is Auth.KEYS or settings.allow_anonymous or is_loopback(settings.host):
        return
    raise ConfigurationError(
        f"{settings.host} can be reached from other machines, and anybody there could use this "
        "gateway. Ask for API keys (--auth keys, or FOREBAY_AUTH=keys; `forebay keys create` makes "
        "them), or let anybody in (--allow-anonymous, or FOREBAY_ALLOW_ANONYMOUS=true)."
    )


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
