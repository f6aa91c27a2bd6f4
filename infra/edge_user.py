"""Prints a Redis user for workers somewhere else, who reach the keys of no other models.

    python infra/edge_user.py minilm --host edge-1 >> users.acl

Made of the worker's line in `infra/redis/users.acl`. The password is set as for the other users
(docs/operations.md). Standard library only.
"""

import argparse
import re
import sys
from pathlib import Path

USERS = Path(__file__).resolve().parent / "redis" / "users.acl"
OF_ANY_MODEL = re.compile(r"([~&])(\S+?:)\{\*(?::\*)?\}(:\S+)")
OF_ANY_WORKER = re.compile(r"~(\S+?:(?:roster|orders)):\*")


def main() -> None:
    """Print the line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("models", nargs="+", metavar="MODEL", help="name, or MODEL@VERSION")
    parser.add_argument("--host", required=True, help="host name of the machine that works there")
    parser.add_argument("--user", help="name of the user; forebay-edge-HOST if none is given")
    parser.add_argument("--key-prefix", default="forebay", help="Forebay's setting of that name")
    given = parser.parse_args()
    for name in (*given.models, given.host, given.user or "", given.key_prefix):
        if re.search(r"[\s*?\[\]{}\\:]", name):
            sys.exit(
                f"edge_user: {name!r} has characters that mean something in a pattern of keys."
            )
    print(
        line(given.models, given.host, given.user or f"forebay-edge-{given.host}", given.key_prefix)
    )


def line(models: list[str], host: str, user: str, prefix: str) -> str:
    """The user's line.

    Args:
        models: whose keys it may reach.
        host: only workers of that name may it say to be, and take orders for.
        user: its name.
        prefix: what keys begin with.
    """
    (rights,) = re.findall(r"^user forebay-worker (on .*)$", USERS.read_text(), flags=re.MULTILINE)

    def narrowed(found: re.Match[str]) -> str:
        kind, before, after = found.groups()
        return " ".join(f"{kind}{before}{{{model}:*}}{after}" for model in models)

    rights = OF_ANY_MODEL.sub(narrowed, rights)
    # `away` is where a worker says that it has let a model go.
    rights = OF_ANY_WORKER.sub(rf"~\1:{host}-*", rights)
    rights = rights.replace(
        f"~forebay:roster:{host}-*", f"~forebay:roster:{host}-* ~forebay:roster:away"
    )
    return f"user {user} {rights.replace('forebay:', prefix + ':')}"


if __name__ == "__main__":
    main()
