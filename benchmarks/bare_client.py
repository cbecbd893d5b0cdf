"""The baseline for dispatch: workers that only submit with httpx.

`python -m benchmarks.bare_client URL --count N --concurrency C` prints the submits per second.
"""

import argparse
import asyncio
import time
from collections.abc import Iterator

import httpx
import uvloop

from app.domain.models import Model
from app.upstream.wire import SUBMIT_PATHS, submit_body

_CALLBACK_URL = (
    "http://127.0.0.1:8000/callbacks/nanobanana/0000000000000000000000000000000-0000000000000000000000000000"
)
_INPUT = {"prompt": "a lake at sunset, seen from a wooden pier", "image_urls": [], "num_images": 1}


async def _work(http: httpx.AsyncClient, left: Iterator[int]) -> None:
    for _ in left:
        body = submit_body(Model.NANO_BANANA, _INPUT, _CALLBACK_URL)
        response = await http.post(SUBMIT_PATHS[Model.NANO_BANANA], json=body)
        if response.json()["code"] != httpx.codes.OK:
            raise RuntimeError(response.text)


async def _rate(url: str, count: int, concurrency: int) -> float:
    left = iter(range(count))
    async with httpx.AsyncClient(base_url=url, trust_env=False) as http:
        began = time.perf_counter()
        await asyncio.gather(*(_work(http, left) for _ in range(concurrency)))
        return count / (time.perf_counter() - began)


def _main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("--count", type=int, default=3_000)
    parser.add_argument("--concurrency", type=int, default=16)
    given = parser.parse_args()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        print(runner.run(_rate(given.url, given.count, given.concurrency)))


if __name__ == "__main__":
    _main()
