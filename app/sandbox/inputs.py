"""Fetches input images, as the vendor does."""

import tempfile
from collections.abc import Iterable
from pathlib import Path

from app.domain.destination import DestinationRules
from app.outbound.downloads import DownloadFailed, Downloads

_MAX_BYTES = 64 * 1024 * 1024
_SECONDS = 20.0
_SIGNATURES = (b"\x89PNG\r\n", b"\xff\xd8\xff", b"GIF8", b"RIFF")


class InputReader:
    """Checks that input images can be fetched.

    The gateway's own images at `public_url` are fetched from `local_url`. Other private addresses are refused unless
    `rules` allow them: the vendor couldn't reach them either.
    """

    def __init__(self, rules: DestinationRules, *, public_url: str | None = None, local_url: str | None = None) -> None:
        self._public_url = public_url
        self._local_url = local_url
        self._downloads = Downloads(rules, trusted_origin=local_url, total_seconds=_SECONDS)

    async def problem(self, urls: Iterable[str]) -> str | None:
        """Return what is wrong with the first bad image."""
        with tempfile.TemporaryDirectory() as directory:
            path = Path(directory) / "input"
            for url in urls:
                try:
                    await self._downloads.fetch(self._reachable(url), path, max_bytes=_MAX_BYTES)
                except DownloadFailed as error:
                    return f"Failed to fetch the input image {url}: {error.reason}"
                with path.open("rb") as file:
                    if not file.read(len(max(_SIGNATURES, key=len))).startswith(_SIGNATURES):
                        return f"The input image {url} is not an image."
        return None

    def _reachable(self, url: str) -> str:
        if self._public_url and self._local_url and url.startswith(f"{self._public_url}/"):
            return self._local_url + url.removeprefix(self._public_url)
        return url
