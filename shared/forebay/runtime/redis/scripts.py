"""Lua scripts, one atomic operation each; each may call `now_ms()` (`clock.lua`).

They run by EVALSHA and are loaded on the first NOSCRIPT, which Redis answers before anything has
run, so repeating the call is safe: after a restart or failover nothing needs deploying.
"""

import hashlib
from collections.abc import Mapping, Sequence
from importlib import resources
from types import MappingProxyType
from typing import Any

from redis.exceptions import NoScriptError

from forebay.runtime.redis.client import Commands

Arg = str | bytes | int


_CLOCK = resources.files("forebay.runtime.redis") / "clock.lua"


class Script:
    """A Lua script and its SHA-1.

    Args:
        package: where the file is.
        name: of the file, without `.lua`.
        adds: whether it takes on new work. A server that is out of memory refuses such scripts;
            the others free memory, or cost next to none, and must run all the more.
        before: files of the package, by name, that are put before it: functions that several
            scripts share. They may use no `KEYS` and no `ARGV`.
        ends: of keys beside those it is given, by the name they have in it: such as it only learns
            of while it runs. They come behind a whole key, so they are in its slot.
    """

    def __init__(
        self,
        package: str,
        name: str,
        *,
        adds: bool = False,
        before: Sequence[str] = (),
        ends: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self.name = name
        folder = resources.files(package)
        files = [_CLOCK, *(folder / f"{one}.lua" for one in (*before, name))]
        told = (f"local {end} = '{text}'" for end, text in ends.items())
        source = "\n".join([*told, *(file.read_text("utf-8") for file in files)])
        self.source = source if adds else f"#!lua flags=allow-oom\n{source}"
        self.sha = hashlib.sha1(self.source.encode(), usedforsecurity=False).hexdigest()

    async def call(self, redis: Commands, keys: Sequence[str], args: Sequence[Arg]) -> Any:
        """Run it; returns the raw reply.

        Raises:
            redis.exceptions.RedisError: whatever the server or the connection raised.
        """
        try:
            return await redis.execute_command("EVALSHA", self.sha, len(keys), *keys, *args)
        except NoScriptError:
            return await redis.execute_command("EVAL", self.source, len(keys), *keys, *args)
