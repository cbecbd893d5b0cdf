"""How clients in tests keep their connections."""

import httpx

# The sandbox closes a connection that was idle for five seconds. On a busy machine that may happen just as a client sends
# its next request on it, so clients close theirs well before.
KEPT_BRIEFLY = httpx.Limits(keepalive_expiry=1)
