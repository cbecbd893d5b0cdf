"""Connection limits for clients in tests."""

import httpx

# The sandbox closes connections after five idle seconds. On a busy machine, that can happen just as a client sends its
# next request, so clients close theirs much earlier.
KEPT_BRIEFLY = httpx.Limits(keepalive_expiry=1)
