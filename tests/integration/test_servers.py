"""The fixtures themselves: what outage tests rely on."""

import pytest
from redis.exceptions import RedisError

from forebay.runtime.redis import Commands
from tests.fixtures.servers import LaneServer, Server, real_client


async def test_both_kinds_of_server_answer_raw(lanes: LaneServer) -> None:
    await lanes.redis.execute_command("HSET", lanes.echo.demand, "realtime", 1)
    assert await lanes.blocking.execute_command("HGET", lanes.echo.demand, "realtime") == b"1"


async def test_a_paused_server_times_out_and_answers_again_after(private_server: Server) -> None:
    client = real_client(private_server.url, timeout_s=2.0)
    commands: Commands = client
    await commands.execute_command("SET", "a", 1)
    private_server.pause()
    with pytest.raises(RedisError):
        await commands.execute_command("GET", "a")
    private_server.resume()
    assert await commands.execute_command("GET", "a") == b"1"
    await client.aclose()


async def test_a_restart_forgets_unless_the_server_is_durable(
    private_server: Server, durable_server: Server
) -> None:
    for server, kept in ((private_server, None), (durable_server, b"1")):
        client = real_client(server.url)
        commands: Commands = client
        await commands.execute_command("SET", "a", 1)
        port = server.port
        server.restart()
        assert server.port == port
        await client.connection_pool.disconnect()
        assert await commands.execute_command("GET", "a") == kept
        await client.aclose()
