"""Which services a background process runs."""

from collections.abc import Sequence
from pathlib import Path

from forebay.background.batches.service import BatchService
from forebay.background.ingress.service import CeleryIngress
from forebay.background.intake import Service
from forebay.background.triggers.service import Triggers
from forebay.background.triggers.table import read
from forebay.runtime.catalog import Catalog
from forebay.runtime.settings import Settings


def services_of(settings: Settings, catalog: Catalog) -> Sequence[Service]:
    """The services that settings and catalog call for.

    Args:
        settings: where work comes from, among others.
        catalog: the models that there are.

    Raises:
        ConfigurationError: `triggers.toml` is wrong, or isn't there; or what Celery apps use is.
    """
    services: list[Service] = [BatchService(settings)]
    if settings.celery_broker_url:
        services.append(CeleryIngress(settings, catalog))
    if settings.triggers_file:
        triggers = read(Path(settings.triggers_file), catalog)
        services.append(Triggers(triggers, prefix=settings.key_prefix, lease_s=settings.lease_s))
    return services
