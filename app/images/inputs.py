"""Checks that the upstream can fetch a task's input images."""

from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from app.domain.data_uri import is_data_uri
from app.domain.destination import DestinationRules
from app.domain.upload import named_in
from app.errors import InvalidRequest

_UNREACHABLE = (
    "points to a private address, which the upstream can't reach; send the image to POST /v1/uploads, "
    "or add the network to ALLOW_NETWORKS"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class InputCheck:
    """Rejects URLs that the upstream can't fetch.

    URLs of uploads start with `base_url` and are always allowed. The sandbox can fetch from private addresses.
    """

    destinations: DestinationRules
    base_url: str
    is_sandbox: bool

    def check(self, urls: Sequence[str]) -> None:
        """Raise `InvalidRequest` for private addresses, without a DNS lookup."""
        if self.is_sandbox or not urls:
            return
        uploads = named_in(urls, self.base_url)
        problems = [
            {"field": f"image_urls.{position}", "message": _UNREACHABLE}
            for position, url in enumerate(urls)
            if position not in uploads
            and not is_data_uri(url)
            and self.destinations.is_private_host(urlsplit(url).hostname or "")
        ]
        if problems:
            raise InvalidRequest(problems)
