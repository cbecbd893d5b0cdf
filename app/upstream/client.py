"""The client of the vendor's API."""

import asyncio
import ssl
from dataclasses import replace
from typing import Any

import httpx

from app.domain.models import Model
from app.domain.submit_outcome import Accepted, SubmitOutcome, TryAgain, Unknown
from app.domain.verdict import ErrorCode, Report, TaskError, Unanswered
from app.outbound.environment import proxy_for, trust_store
from app.upstream import wire
from app.upstream.bodies import MAX_BODY_BYTES, unpack
from app.upstream.outcome import read_poll_reply, read_submit_reply
from app.upstream.scrub import Scrubber

# If the server closes an idle connection while we send, the outcome is unknown. So we close it earlier.
_IDLE_CONNECTION_SECONDS = 2.0
# A pool checks all of its connections for every request. With small pools, a submit takes 550 instead of 730 µs of CPU
# with 16 in flight, and 480 instead of 3,470 µs with 64 (2026-11).
_CALLS_PER_POOL = 4


class UpstreamClient:
    """Calls the vendor's API with one account's key.

    `timeout` limits one call from connect to the last byte, in seconds. Proxies from the environment are used unless
    the upstream is on this machine. `tls` replaces the default trust store.
    """

    def __init__(
        self, *, base_url: str, api_key: str, timeout: float, concurrency: int, tls: ssl.SSLContext | None = None
    ) -> None:
        self._scrub = Scrubber(api_key)
        self._timeout = timeout
        # Unlimited, so that polls and submits never wait for each other's connections.
        limits = httpx.Limits(
            max_connections=None,
            max_keepalive_connections=2 * _CALLS_PER_POOL,
            keepalive_expiry=_IDLE_CONNECTION_SECONDS,
        )
        context, proxy = tls or trust_store(), proxy_for(base_url)
        self._pools = [
            httpx.AsyncClient(
                base_url=base_url,
                headers={
                    "Authorization": f"Bearer {api_key}",
                    "User-Agent": "nanobanana-gateway",
                    "Accept-Encoding": "gzip, deflate",
                },
                timeout=httpx.Timeout(timeout),
                limits=limits,
                trust_env=False,
                proxy=proxy,
                verify=context,
            )
            for _ in range(-(-concurrency // _CALLS_PER_POOL))
        ]
        self._in_flight = [0] * len(self._pools)

    async def submit(self, model: Model, task_input: dict[str, Any], callback_url: str) -> SubmitOutcome:
        """Submit a task once; network and vendor errors are outcomes."""
        progress = _Progress()
        request = self._pools[0].build_request(
            "POST",
            wire.SUBMIT_PATHS[model],
            json=wire.submit_body(model, task_input, callback_url),
            extensions={"trace": progress.trace},
        )
        try:
            async with asyncio.timeout(self._timeout):
                response = await self._send(request)
        except (httpx.HTTPError, httpx.InvalidURL, ssl.SSLError, OSError, TimeoutError) as error:
            reason = f"{type(error).__name__}: {error}".rstrip(": ")
            if progress.sending:
                return Unknown(
                    self._scrub.text(f"The connection failed after the request may have been sent: {reason}")
                )
            message = self._scrub.text(f"The upstream can't be reached: {reason}")
            return TryAgain(TaskError(ErrorCode.UPSTREAM_ERROR, message), pauses_account=True)
        return self._scrubbed(read_submit_reply(response))

    async def record_info(self, upstream_task_id: str) -> Report | Unanswered:
        """Poll the state of a task."""
        response = await self._get(wire.RECORD_INFO_PATH, taskId=upstream_task_id)
        if isinstance(response, str):
            return Unanswered(response)
        report = read_poll_reply(response, upstream_task_id)
        # Only reports contain the vendor's text.
        return report if isinstance(report, Unanswered) else self._scrub.report(report)

    async def check(self) -> TaskError | None:
        """Request the credit balance; returns the error if that fails."""
        response = await self._get(wire.CREDIT_PATH)
        if not isinstance(response, str):
            if response.status_code < httpx.codes.INTERNAL_SERVER_ERROR:
                return None
            response = f"The upstream responded with HTTP {response.status_code}."
        return TaskError(ErrorCode.UPSTREAM_ERROR, response)

    async def _get(self, path: str, **parameters: str) -> httpx.Response | str:
        """Send a GET; return the response or an error message."""
        request = self._pools[0].build_request("GET", path, params=parameters)
        try:
            async with asyncio.timeout(self._timeout):
                return await self._send(request)
        except (httpx.HTTPError, ssl.SSLError, OSError, TimeoutError) as error:
            return self._scrub.text(f"{path} can't be reached: {type(error).__name__}: {error}".rstrip(": "))

    async def aclose(self) -> None:
        """Close the connections."""
        for pool in self._pools:
            await pool.aclose()

    async def _send(self, request: httpx.Request) -> httpx.Response:
        """Send through the least busy pool."""
        # The first of equally busy ones, so that its connections are reused.
        chosen = self._in_flight.index(min(self._in_flight))
        self._in_flight[chosen] += 1
        try:
            return await _exchange(self._pools[chosen], request)
        finally:
            self._in_flight[chosen] -= 1

    def _scrubbed(self, outcome: SubmitOutcome) -> SubmitOutcome:
        match outcome:
            case Accepted():
                return outcome
            case Unknown(reason):
                return Unknown(self._scrub.text(reason))
            case _:
                return replace(outcome, error=self._scrub.error(outcome.error))


async def _exchange(http: httpx.AsyncClient, request: httpx.Request) -> httpx.Response:
    """Send, and read the response up to the size limit."""
    response = await http.send(request, stream=True)
    try:
        raw = bytearray()
        async for chunk in response.aiter_raw():
            raw += chunk
            if len(raw) > MAX_BODY_BYTES:
                raise httpx.ReadError("The response is too long.", request=request)
    finally:
        await response.aclose()
    # httpx would decompress without a limit, and fail on plain bytes that are declared compressed.
    content = unpack(bytes(raw), response.headers.get("Content-Encoding", ""))
    if content is None:
        raise httpx.ReadError("The decompressed response is too long.", request=request)
    headers = [(k, v) for k, v in response.headers.multi_items() if k != "content-encoding"]
    return httpx.Response(response.status_code, headers=headers, content=content, request=request)


class _Progress:
    """Records whether part of a request may have been sent."""

    def __init__(self) -> None:
        self.sending = False

    async def trace(self, event: str, info: dict[str, Any]) -> None:
        # No byte of our request is sent before this event. A CONNECT to a proxy also triggers it, but carries no task.
        if event.endswith("send_request_headers.started") and info["request"].method != b"CONNECT":
            self.sending = True
