"""Downloads over real connections: accepted, rejected or retried."""

import asyncio
import gzip
import hashlib
import random
import zlib
from collections.abc import Callable, Iterator, Sequence
from ipaddress import ip_network
from pathlib import Path

import pytest

from app.domain.destination import DestinationRules
from app.outbound.downloads import Download, DownloadFailed, Downloads, Recovery
from tests.support.servers.image_source import Answer, Send, Source, reply

LOOPBACK = DestinationRules([ip_network("127.0.0.0/8")])
CONTENT = random.Random(1).randbytes(3 * 1024 * 1024 + 5)
DIGEST = hashlib.sha256(CONTENT).hexdigest()
LIMIT = 4 * 1024 * 1024
LIKELY, EARLY, NEVER = Recovery.LIKELY, Recovery.EARLY, Recovery.NEVER


@pytest.fixture(scope="module")
def source() -> Iterator[Source]:
    with Source() as running:
        yield running


def fetch(
    url: str,
    into: Path,
    *,
    rules: DestinationRules = LOOPBACK,
    trusted: str | None = None,
    total: float = 30,
    stall: float = 30,
    names: dict[str, str] | None = None,
) -> Download:
    async def resolve(host: str, port: int) -> Sequence[str]:
        return [(names or {}).get(host, host)]

    async def work() -> Download:
        downloads = Downloads(rules, trusted_origin=trusted, resolve=resolve, total_seconds=total, stall_seconds=stall)
        try:
            return await downloads.fetch(url, into, max_bytes=LIMIT)
        finally:
            await downloads.aclose()

    return asyncio.run(work())


def test_a_file_arrives_whole_with_its_hash(source: Source, tmp_path: Path) -> None:
    url = source.on("/picture.png?a=%20b", reply(CONTENT, Content_Type="text/html"))
    got = fetch(url, tmp_path / "file")
    assert got == Download(DIGEST, len(CONTENT), is_whole=True)
    assert (tmp_path / "file").read_bytes() == CONTENT


def test_requests_look_like_a_browser(source: Source, tmp_path: Path) -> None:
    fetch(source.on("/ask", reply(b"x")), tmp_path / "file")
    headers = source.asked[-1].headers
    assert headers["user-agent"].startswith("mozilla/5.0")
    assert headers["accept-encoding"] == "identity"
    assert headers["host"] == source.origin.removeprefix("http://")
    assert not {"cookie", "authorization", "referer"} & set(headers)


def test_a_file_without_announced_end_may_be_truncated(source: Source, tmp_path: Path) -> None:
    got = fetch(source.on("/open", reply(b"half a pict", length=None)), tmp_path / "file")
    assert (got.bytes, got.is_whole) == (11, False)
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
    assert fetch(source.on("/chunked", chunked), tmp_path / "file").is_whole


def test_three_redirects_are_followed(source: Source, tmp_path: Path) -> None:
    source.on("/end", reply(b"picture"))
    for number, target in enumerate(("/end", "/hop0", f"{source.origin}/hop1"), start=0):
        source.on(f"/hop{number}", reply(b"", status="302 Found", Location=target))
    assert fetch(f"{source.origin}/hop2", tmp_path / "file").bytes == 7


def test_a_label_that_is_no_coding_is_ignored(source: Source, tmp_path: Path) -> None:
    for label in ("base64", "gzip", "utf-8", "br"):
        fetch(source.on("/label", reply(CONTENT, Content_Encoding=label)), tmp_path / "file")
        assert (tmp_path / "file").read_bytes() == CONTENT


@pytest.mark.parametrize("compress", [gzip.compress, zlib.compress])
def test_compressed_files_are_unpacked_whatever_the_label_says(
    source: Source, tmp_path: Path, compress: Callable[[bytes], bytes]
) -> None:
    for answer in (reply(compress(CONTENT)), reply(compress(CONTENT), Content_Encoding="gzip")):
        got = fetch(source.on("/packed", answer), tmp_path / "file")
        assert got == Download(DIGEST, len(CONTENT), is_whole=True)
        assert (tmp_path / "file").read_bytes() == CONTENT


def test_a_server_that_converts_to_webp_sends_the_original(source: Source, tmp_path: Path) -> None:
    fetch(source.on("/converted", reply(b"x")), tmp_path / "file")
    accept = source.asked[-1].headers["accept"]
    assert "image/png" in accept
    assert "*/*" in accept
    assert "webp" not in accept


def test_a_redirect_in_raw_utf8_is_escaped(source: Source, tmp_path: Path) -> None:
    source.on("/caf%C3%A9.png", reply(b"picture"))
    url = source.on("/moved", "HTTP/1.1 302 Found\r\nLocation: /café.png\r\nContent-Length: 0\r\n\r\n".encode())
    assert fetch(url, tmp_path / "file").bytes == 7


def until_closed(source: Source, start: bytes, part: bytes, seconds: float) -> Answer:
    """Send parts endlessly, with a pause in between."""

    def send_all(send: Send) -> None:
        send(start)
        while not source.closing.wait(seconds):
            send(part)

    return send_all


def reset(send: Send) -> None:
    send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc")


HEAD = b"HTTP/1.1 200 OK\r\n\r\n"
REFUSED = "The URL points to a private address that is not in ALLOW_NETWORKS."


@pytest.mark.parametrize(
    ("status", "recovery"),
    [
        *((status, LIKELY) for status in (403, 404, 408, 421, 425, 429, 500, 502, 503, 504)),
        *((status, EARLY) for status in (201, 202, 204, 206, 304, 400, 401, 409, 423, 451)),
        (410, NEVER),
    ],
)
def test_which_statuses_are_temporary(source: Source, tmp_path: Path, status: int, recovery: Recovery) -> None:
    with pytest.raises(DownloadFailed) as failed:
        fetch(source.on("/status", reply(b"", status=f"{status} X", Retry_After="7")), tmp_path / "file")
    assert (failed.value.recovery, failed.value.retry_after) == (recovery, 7000)
    assert failed.value.reason == f"The server responded with {status}."


@pytest.mark.parametrize(
    ("answer", "reason", "recovery"),
    [
        (reply(b"x" * (LIMIT + 1)), "The file has more than 4,194,304 bytes.", NEVER),
        (reply(b"x", length=LIMIT + 1), "The file has more than 4,194,304 bytes.", NEVER),
        (reply(b"x", length=10**30), "The transfer was interrupted", LIKELY),
        (reply(zlib.compress(bytes(LIMIT + 1))), "The file has more than 4,194,304 bytes.", NEVER),
        (reply(zlib.compress(CONTENT)[:200]), "The transfer was interrupted: the compressed file", LIKELY),
        (reply(b"\x1f\x8bno compression"), "The transfer was interrupted: error", LIKELY),
        (reset, "The transfer was interrupted: RemoteProtocolError", LIKELY),
        (b"", "The transfer was interrupted: RemoteProtocolError", LIKELY),
        (b"not http at all\r\n\r\n", "The transfer was interrupted: RemoteProtocolError", LIKELY),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nab", "The transfer was interrupted", LIKELY),
        (b"HTTP/1.1 200 OK\r\nA: " + b"x" * 200_000 + b"\r\n\r\n", "The transfer was interrupted", LIKELY),
        (reply(b"x", length=None, Content_Length="5, 6"), "The transfer was interrupted", LIKELY),
        (reply(b""), "The server sent an empty file.", LIKELY),
        (reply(b"", status="302 Found"), "The server sent a redirect without a location.", NEVER),
        (reply(b"", status="302 Found", Location="/same"), "There were more than 3 redirects.", NEVER),
        (reply(b"", status="302 Found", Location="http://169.254.169.254/latest/meta-data/"), REFUSED, NEVER),
        (reply(b"", status="302 Found", Location="http://[::ffff:169.254.169.254]/"), REFUSED, NEVER),
        (reply(b"", status="302 Found", Location="http://2852039166/"), REFUSED, NEVER),
        (reply(b"", status="302 Found", Location="//metadata.internal/x"), REFUSED, NEVER),
        (reply(b"", status="302 Found", Location="file:///etc/passwd"), "The URL is not http(s).", NEVER),
        (reply(b"", status="302 Found", Location="data:image/png;base64,AAAA"), "The URL is not http(s).", NEVER),
        (reply(b"", status="302 Found", Location="ftp://127.0.0.1/x"), "The URL is not http(s).", NEVER),
        (
            reply(b"", status="302 Found", Location="http://user:pass@127.0.0.1/"),
            "The URL must not contain a user name",
            NEVER,
        ),
        (
            reply(b"", status="302 Found", Location="http://127.0.0.1:99999/"),
            "The URL has an invalid port.",
            NEVER,
        ),
        (reply(b"", status="302 Found", Location="http://127.0.0.1/" + "x" * 9000), "The URL is too long.", NEVER),
    ],
)
def test_hostile_and_broken_servers(
    source: Source, tmp_path: Path, answer: Answer, reason: str, recovery: Recovery
) -> None:
    with pytest.raises(DownloadFailed) as failed:
        fetch(source.on("/same", answer), tmp_path / "file", names={"metadata.internal": "169.254.169.254"})
    assert failed.value.reason.startswith(reason)
    assert failed.value.recovery is recovery
    assert "\n" not in failed.value.reason
    assert len(failed.value.reason) < 250


def test_an_endless_body_is_cut_at_the_limit(source: Source, tmp_path: Path) -> None:
    before = source.sent_bytes
    url = source.on("/endless", until_closed(source, HEAD, b"x" * 65536, 0))
    with pytest.raises(DownloadFailed, match="more than") as failed:
        fetch(url, tmp_path / "file")
    assert failed.value.recovery is NEVER
    assert (tmp_path / "file").stat().st_size <= LIMIT
    # Socket buffers hold the rest.
    assert source.sent_bytes - before < LIMIT + 16 * 1024 * 1024


def test_what_follows_a_compressed_file_is_not_read(source: Source, tmp_path: Path) -> None:
    before = source.sent_bytes
    url = source.on("/trailing", until_closed(source, HEAD + gzip.compress(b"picture"), b"x" * 65536, 0))
    assert fetch(url, tmp_path / "file", total=3).bytes == 7
    assert source.sent_bytes - before < 16 * 1024 * 1024


def test_a_compressed_file_is_limited_as_received_too(source: Source, tmp_path: Path) -> None:
    """Empty blocks (RFC 1951, section 3.2.4) unpack to nothing."""
    url = source.on("/empty-blocks", until_closed(source, HEAD + b"\x78\x9c", b"\x00\x00\x00\xff\xff" * 13_000, 0))
    with pytest.raises(DownloadFailed, match="more than") as failed:
        fetch(url, tmp_path / "file", total=3)
    assert failed.value.recovery is NEVER


def test_a_slow_drip_ends_with_the_total_time(source: Source, tmp_path: Path) -> None:
    url = source.on("/drip", until_closed(source, HEAD, b"x", 0.01))
    with pytest.raises(DownloadFailed, match=r"The download took longer than 0\.3 s\.") as failed:
        fetch(url, tmp_path / "file", total=0.3)
    assert failed.value.recovery is LIKELY


def test_a_stalled_server_times_out(source: Source, tmp_path: Path) -> None:
    url = source.on("/silent", until_closed(source, HEAD + b"x", b"", 60))
    with pytest.raises(DownloadFailed, match="did not respond, or stopped sending") as failed:
        fetch(url, tmp_path / "file", stall=0.2)
    assert failed.value.recovery is LIKELY


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:{port}/x",
        "http://localhost:{port}/x",
        "http://0x7f.1:{port}/x",
        "http://10.0.0.1/x",
        "http://[fd00:ec2::254]/x",
        "http://[64:ff9b::7f00:1]/x",
        "http://100.64.0.1/x",
        "https://name.example/x",
    ],
)
def test_addresses_that_are_not_public_are_refused(source: Source, tmp_path: Path, url: str) -> None:
    before = len(source.asked)
    port = source.origin.rsplit(":", 1)[1]
    with pytest.raises(DownloadFailed) as failed:
        fetch(url.format(port=port), tmp_path / "file", rules=DestinationRules(), names={"name.example": "192.168.1.1"})
    assert (failed.value.reason, failed.value.recovery) == (REFUSED, NEVER)
    assert len(source.asked) == before


def test_names_are_checked_by_their_addresses(source: Source, tmp_path: Path) -> None:
    source.on("/x", reply(b"picture"))
    port = source.origin.rsplit(":", 1)[1]
    assert fetch(f"http://name.example:{port}/x", tmp_path / "file", names={"name.example": "127.0.0.1"}).bytes == 7


def test_a_refused_connection_is_temporary(tmp_path: Path) -> None:
    with Source() as gone:
        url = gone.origin
    with pytest.raises(DownloadFailed, match="The connection failed") as failed:
        fetch(url, tmp_path / "file")
    assert failed.value.recovery is LIKELY


def test_only_the_trusted_origin_itself_is_trusted(source: Source, tmp_path: Path) -> None:
    closed = DestinationRules()
    url = source.on("/trusted", reply(b"picture"))
    assert fetch(url, tmp_path / "file", rules=closed, trusted=source.origin).bytes == 7
    with Source() as other:
        elsewhere = other.on("/secret", reply(b"secret"))
        source.on("/leads-away", reply(b"", status="302 Found", Location=elsewhere))
        for wrong in (elsewhere, f"{source.origin}/leads-away", url.replace("127.0.0.1", "localhost")):
            with pytest.raises(DownloadFailed, match=REFUSED):
                fetch(wrong, tmp_path / "file", rules=closed, trusted=source.origin)
        with pytest.raises(DownloadFailed, match="user name"):
            fetch(url.replace("//", "//user@"), tmp_path / "file", rules=closed, trusted=source.origin)
        assert other.asked == []
    source.on("/stays", reply(b"", status="302 Found", Location="/trusted"))
    assert fetch(f"{source.origin}/stays", tmp_path / "file", rules=closed, trusted=source.origin).bytes == 7


def test_proxies_and_cookies_of_the_environment_are_not_used(
    source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    source.on("/first", reply(b"", status="302 Found", Location="/second", Set_Cookie="a=b"))
    source.on("/second", reply(b"picture"))
    assert fetch(f"{source.origin}/first", tmp_path / "file").bytes == 7
    assert "cookie" not in source.asked[-1].headers


def test_a_failed_write_is_not_the_sources_fault(source: Source, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        fetch(source.on("/x", reply(b"picture")), tmp_path / "no-such-directory" / "file")
