"""The lane of callbacks: the upstream sends them in crowds, and none of the application's layers is for it.

Large callbacks, those that do not say how large they are, and bad addresses go to the route, `callbacks.receive`.
"""

import time

import structlog
from starlette.responses import Response

from app.api.callbacks import ANSWERS
from app.api.headers import NO_SNIFF, Headers, Networks
from app.api.middleware import begin_request, end_request
from app.api.problems import from_error, internal_error
from app.errors import GatewayError
from app.factory import CALLBACK_PATH
from app.services.callbacks import Callbacks

_PREFIX = f"{CALLBACK_PATH}/".encode()
# As the log shows all of them.
_LOGGED_PATH = f"{CALLBACK_PATH}/***"
_log = structlog.get_logger("app.request")


class CallbackLane:
    """Answers the upstream's callbacks (see `app.http.lane.Lane`)."""

    def __init__(self, callbacks: Callbacks, *, trusted_proxies: Networks) -> None:
        self._callbacks = callbacks
        self._trusted_proxies = trusted_proxies

    def recognize(self, target: bytes) -> str | None:
        """Return the id of the task whose address a target is, None for any other: of that, no body is waited for."""
        if not target.startswith(_PREFIX):
            return None
        return self._callbacks.task_of(target[len(_PREFIX) :].decode("latin-1"))

    async def answer(
        self, task_id: str, headers: Headers, body: bytes, client: tuple[str, int] | None
    ) -> tuple[int, Headers, bytes]:
        """Receive a callback of a task; what it is answered is committed."""
        began = time.perf_counter()
        scope = {"headers": headers, "client": client, "method": "POST", "path": _LOGGED_PATH}
        id_header = begin_request(scope)
        answer: Response
        try:
            answer = ANSWERS[await self._callbacks.receive(task_id, body)]
        except GatewayError as error:
            answer = from_error(error)
        except Exception:  # noqa: BLE001 -- the last net: logged here, and nothing of it reaches the caller
            _log.exception("request_failed", method="POST", path=_LOGGED_PATH)
            answer = internal_error()
        end_request(scope, answer.status_code, began, self._trusted_proxies)
        return answer.status_code, [*answer.raw_headers, NO_SNIFF, id_header], bytes(answer.body)
