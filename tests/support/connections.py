"""How clients in tests keep their connections."""

import httpx

# The service closes a connection that was idle for five seconds. On a starved machine that may happen just as a client
# sends its next request on it; so clients give up theirs well before.
KEPT_BRIEFLY = httpx.Limits(keepalive_expiry=1)
