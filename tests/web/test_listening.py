"""The socket of a server."""

import socket

import pytest

from pyro_lfm.errors import DeclarationError
from pyro_lfm.web.listening import listening


def test_answers_do_not_wait_for_the_clients_next_packet():
    with listening("127.0.0.1", 0) as listener:
        with socket.create_connection(listener.getsockname()):
            accepted, _ = listener.accept()
            with accepted:
                assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_a_port_in_use_is_named_with_another():
    with listening("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(
            DeclarationError, match=f"'127.0.0.1' and {port} .address already in use.: another port"
        ):
            listening("127.0.0.1", port)
    with pytest.raises(DeclarationError, match="port must be at most 65535; got 65536"):
        listening("127.0.0.1", 65536)
    with pytest.raises(DeclarationError, match="host and port must be an address"):
        listening("no host \udc80", 0)
