"""Ports that several processes of one machine listen on at once.

Linux shares the connections to such a port out among those who listen, by a hash of who connects.
(`SO_REUSEPORT`, socket(7); decision 0070.)
"""

import socket
import sys

from forebay.contract.errors import ConfigurationError


def check_shared() -> None:
    """Make sure that this system shares connections out.

    Raises:
        ConfigurationError: it doesn't.
    """
    # Elsewhere there may be such an option, but all connections go to one of the processes.
    if sys.platform != "linux" or not hasattr(socket, "SO_REUSEPORT"):
        raise ConfigurationError(
            "Several gateways on one port take Linux. Leave FOREBAY_GATEWAYS and "
            "FOREBAY_REUSE_PORT out, or give each gateway a port of its own behind a proxy."
        )


def share(sock: socket.socket) -> None:
    """Let others have the address of a socket as well, if they do the same before they bind.

    Raises:
        ConfigurationError: this system doesn't share connections out.
    """
    check_shared()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
