"""The lane of callbacks: the upstream sends them in crowds, and none of the application's layers is for it.

Large callbacks, and those that do not say how large they are, go to the route, `callbacks.receive`, which answers alike.
"""

import re
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

_TARGET = re.compile(rf"{CALLBACK_PATH}/[A-Za-z0-9._~-]+".encode())
_log = structlog.get_logger("app.request")


class CallbackLane:
    """Answers the upstream's callbacks (see `app.http.lane.Lane`)."""

    def __init__(self, callbacks: Callbacks, *, trusted_proxies: Networks) -> None:
        self._callbacks = callbacks
        self._trusted_proxies = trusted_proxies

    @staticmethod
    def takes(target: bytes) -> bool:
        """Whether requests to this target are callbacks."""
        return _TARGET.fullmatch(target) is not None

    async def answer(
        self, target: bytes, headers: Headers, body: bytes, client: tuple[str, int] | None
    ) -> tuple[int, Headers, bytes]:
        """Receive a callback; what it is answered is committed."""
        began = time.perf_counter()
        path = target.decode()
        scope = {"headers": headers, "client": client, "method": "POST", "path": path}
        id_header = begin_request(scope)
        answer: Response
        try:
            task_id = self._callbacks.check_token(path.rpartition("/")[2])
            answer = ANSWERS[await self._callbacks.receive(task_id, body)]
        except GatewayError as error:
            answer = from_error(error)
        except Exception:  # noqa: BLE001 -- the last net: logged here, and nothing of it reaches the caller
            _log.exception("request_failed", method="POST", path=path)
            answer = internal_error()
        end_request(scope, answer.status_code, began, self._trusted_proxies)
        return answer.status_code, [*answer.raw_headers, NO_SNIFF, id_header], bytes(answer.body)
