"""Memory use and speed while copying gigabytes of images.

`python -m benchmarks.archive --gigabytes 2` makes a service fetch distinct images of several megabytes each from a
local server, store them in a directory, and serve each once.
"""

import argparse
import asyncio
import random
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from io import BytesIO
from pathlib import Path

import httpx
import uvloop
from msgspec.structs import replace
from PIL import Image as Pixels

from app.db import batch_store, task_store
from app.db.batch_store import Batch
from app.db.engine import Connection, Database
from app.db.migrate import migrate
from app.domain.image import Image, ImageState, new_images
from app.domain.models import Model
from app.domain.task import Status, Task, new_task
from benchmarks.processes import Server

_BASES = 8
_SIDE = 2048
_WRITTEN_AT_ONCE = 200
_SAMPLE_SECONDS = 0.25
_REST_SECONDS = 5.0
_READERS = 8
_MEBIBYTE = 1 << 20


class Gallery:
    """A server of endless distinct images: noise with numbered comments."""

    def __init__(self) -> None:
        self._bases = [_noise(seed) for seed in range(_BASES)]
        self.average_bytes = round(statistics.mean(map(len, self._bases)))
        self.port = 0
        self._ready = threading.Event()
        threading.Thread(target=lambda: uvloop.run(self._serve()), daemon=True).start()
        self._ready.wait()

    def image(self, number: int) -> list[bytes]:
        """Return the parts of a JPEG with a numbered comment."""
        base = self._bases[number % _BASES]
        comment = str(number).encode()
        return [base[:2], b"\xff\xfe" + (len(comment) + 2).to_bytes(2, "big") + comment, base[2:]]

    async def _serve(self) -> None:
        server = await asyncio.start_server(self._answer, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await server.serve_forever()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        parts = self.image(int(head.split(b" ")[1][1:]))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % sum(map(len, parts)))
        for part in parts:
            writer.write(part)
        await writer.drain()
        writer.close()


@dataclass
class Watch:
    """Samples a server's memory until it is closed."""

    server: Server
    samples: list[int] = field(default_factory=list)

    def until(self, is_done: Callable[[], bool]) -> float:
        """Sample until a condition holds; return the elapsed seconds."""
        began = time.perf_counter()
        while not is_done():
            self.samples.append(self.server.usage().rss_bytes)
            time.sleep(_SAMPLE_SECONDS)
        return time.perf_counter() - began

    def report(self, what: str) -> None:
        """Print the peak of each quarter, and clear the samples."""
        parts = [self.samples[n * len(self.samples) // 4 : (n + 1) * len(self.samples) // 4 or None] for n in range(4)]
        tops = " · ".join(f"{max(part, default=0) / _MEBIBYTE:.0f}" for part in parts)
        print(f"  RSS MiB {what}: {tops} (peak per quarter of the time)")
        self.samples.clear()


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the results, and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.archive", description=__doc__)
    parser.add_argument("--gigabytes", type=float, default=2.0)
    options = parser.parse_args(arguments)
    gallery = Gallery()
    count = round(options.gigabytes * 1e9 / gallery.average_bytes)
    print(f"{count} JPEG images of {_SIDE} x {_SIDE} pixels, {gallery.average_bytes / 1e6:.1f} MB each")
    with tempfile.TemporaryDirectory(prefix="archive-") as directory:
        return _run(Path(directory), gallery, count)


def _run(directory: Path, gallery: Gallery, count: int) -> int:
    url = f"sqlite:///{directory / 'gateway.db'}"
    asyncio.run(_prepare(url))
    environment = {
        "DATA_DIR": str(directory / "data"),
        "DATABASE_URL": url,
        "SECRET_KEY": "benchmark",
        "NANOBANANA_API_KEY": "none",
        "NANOBANANA_BASE_URL": "http://127.0.0.1:9",
        "ALLOW_NETWORKS": "127.0.0.0/8",
        "KEEP_IMAGES": "true",
        "LOG_LEVEL": "warning",
    }
    with Server("app", "serve", directory=directory / "run", environment=environment, ready_path="/readyz") as server:
        time.sleep(_REST_SECONDS)
        print(f"  RSS MiB before: {server.usage().rss_bytes / _MEBIBYTE:.0f}")
        images = asyncio.run(_plan(url, gallery, count))
        watch = Watch(server)
        cpu = server.usage().cpu_seconds
        seconds = watch.until(lambda: asyncio.run(_pending(url, images)) == 0)
        cpu = server.usage().cpu_seconds - cpu
        watch.report("while fetching")
        states = asyncio.run(_states(url, images))
        stored = sum(image.bytes or 0 for image in states)
        is_complete = all(image.state is ImageState.STORED for image in states)
        print(
            f"  {stored / 1e9:.2f} GB stored in {seconds:.0f} s ({stored / 1e6 / seconds:.0f} MB/s, {cpu:.0f} s of CPU)"
        )
        sent, seconds = _read_all(server, watch, images)
        watch.report(f"while sending to {_READERS} clients at once")
        print(f"  {sent / 1e9:.2f} GB sent in {seconds:.0f} s ({sent / 1e6 / seconds:.0f} MB/s)")
        time.sleep(_REST_SECONDS)
        print(f"  RSS MiB after: {server.usage().rss_bytes / _MEBIBYTE:.0f}")
    left = list((directory / "data" / "tmp").glob("*"))
    print(f"  temporary files left: {len(left)}")
    return 0 if is_complete and sent == stored and not left else 1


def _read_all(server: Server, watch: Watch, images: Sequence[Image]) -> tuple[int, float]:
    def read(client: httpx.Client, image: Image) -> int:
        with client.stream("GET", f"/v1/images/{image.id}") as answer:
            answer.raise_for_status()
            return sum(len(chunk) for chunk in answer.iter_raw())

    with httpx.Client(base_url=server.url, timeout=60, verify=False) as client, ThreadPoolExecutor(_READERS) as pool:  # noqa: S501 -- plain HTTP
        reading = [pool.submit(read, client, image) for image in images]
        seconds = watch.until(lambda: all(one.done() for one in reading))
        return sum(one.result() for one in reading), seconds


def _noise(seed: int) -> bytes:
    pixels = Pixels.frombytes("RGB", (_SIDE, _SIDE), random.Random(seed).randbytes(_SIDE * _SIDE * 3))  # noqa: S311
    target = BytesIO()
    pixels.save(target, "JPEG", quality=85)
    return target.getvalue()


async def _prepare(url: str) -> None:
    database = Database(url)
    await migrate(database)
    await database.aclose()


async def _plan(url: str, gallery: Gallery, count: int) -> list[Image]:
    """Add tasks that have just succeeded, each with one image."""
    now = round(time.time() * 1000)
    tasks = [_succeeded(now) for _ in range(count)]
    images = [
        image
        for number, task in enumerate(tasks)
        for image in new_images(task.id, (f"http://127.0.0.1:{gallery.port}/{number}",), is_kept=True, now=now)
    ]
    database = Database(url)
    for start in range(0, count, _WRITTEN_AT_ONCE):
        part = tasks[start : start + _WRITTEN_AT_ONCE]
        await database.write(partial(_write, part=part, images=images[start : start + _WRITTEN_AT_ONCE]))
    await database.aclose()
    return images


def _write(connection: Connection, part: Sequence[Task], images: Sequence[Image]) -> None:
    batch_store.write(connection, Batch(created=part))
    batch_store.write(connection, Batch(changed=part, images=images))


def _succeeded(now: int) -> Task:
    task_input = {"prompt": "a lake", "image_urls": [], "num_images": 1, "aspect_ratio": None, "watermark": None}
    task = new_task(
        project="default", model=Model.NANO_BANANA, task_input=task_input, metadata={}, now=now, queue_timeout=1
    )
    return replace(task, status=Status.SUCCEEDED, completed_at=now, deadline_at=None)


async def _states(url: str, images: Sequence[Image]) -> list[Image]:
    database = Database(url)
    found = await database.read(
        lambda connection: task_store.images_of(connection, [image.task_id for image in images])
    )
    await database.aclose()
    return [image for of_task in found.values() for image in of_task]


async def _pending(url: str, images: Sequence[Image]) -> int:
    return sum(image.is_pending for image in await _states(url, images))


if __name__ == "__main__":
    sys.exit(main())
