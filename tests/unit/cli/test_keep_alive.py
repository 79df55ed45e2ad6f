"""Who closes an idle connection first: the client, or a request of its would be lost on one that the server is just closing."""

from openai._constants import DEFAULT_CONNECTION_LIMITS

from luthier.cli.serve import KEEP_ALIVE_SECONDS


def test_the_server_keeps_idle_connections_longer_than_the_client() -> None:
    assert DEFAULT_CONNECTION_LIMITS.keepalive_expiry is not None
    assert 2 * DEFAULT_CONNECTION_LIMITS.keepalive_expiry < KEEP_ALIVE_SECONDS
