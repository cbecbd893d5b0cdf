"""Which requests the webhook receiver records."""

import socket

import httpx

from tests.support.servers.webhook_receiver import Receiver


def test_a_request_whose_sender_dies_in_the_middle_has_not_arrived() -> None:
    receiver = Receiver()
    try:
        address = httpx.URL(receiver.url)
        with socket.create_connection((address.host, address.port or 0), timeout=10) as connection:
            connection.sendall(b"POST /hook HTTP/1.1\r\nHost: receiver\r\nContent-Length: 10\r\n\r\nhalf")
            connection.shutdown(socket.SHUT_WR)
            assert connection.recv(1) == b""  # it has closed the connection, so it is done with the request
        assert receiver.arrived == []
    finally:
        receiver.stop()
