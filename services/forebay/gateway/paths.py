"""A dialect's paths, and what answers there by method."""

from collections.abc import Collection, Mapping

from starlette.routing import Route

from forebay.gateway.http import Endpoint, Exchange, Handler, RenderFault

ByMethod = Mapping[str, Handler]
"""What answers at one path. Any other method is refused with 405, which names these in `Allow`."""


def routes_of(
    exchange: Exchange,
    paths: Mapping[str, ByMethod],
    *,
    render: RenderFault,
    dialect: str,
    unread: Collection[str] = (),
    public: Collection[str] = (),
) -> list[Route]:
    """Routes to all of a dialect's paths, to be tried in their order.

    Args:
        exchange: what endpoints share.
        paths: what answers at each.
        render: says in the dialect's own way what went wrong.
        dialect: what it is counted as.
        unread: paths whose handlers read the body themselves, such as those of files, which are
            not read whole before they are kept.
        public: paths that are answered without an API key, too.
    """
    return [
        Route(
            path,
            Endpoint(
                exchange,
                by_method,
                render=render,
                dialect=dialect,
                reads_body=path not in unread,
                public=path in public,
            ),
        )
        for path, by_method in paths.items()
    ]
