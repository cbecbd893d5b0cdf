"""Environment variables and `.env`: cleaned, or rejected in one line."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from app.environment import load_environment, misspelled
from app.errors import ConfigurationError
from app.outbound.environment import proxy_for
from app.settings import load_settings, setting_names
from tests.support.paths import ROOT
from tests.support.servers.gateway_process import GatewayProcess, run_app

KEY = {"NANOBANANA_API_KEY": "upstream-key"}
BUCKET = {"STORAGE_URL": "s3://bucket/p"}
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_REGION": "us-east-1"}


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory, and an environment to change."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "environ", os.environ.copy())
    return tmp_path


@pytest.mark.parametrize(
    ("name", "value", "field", "taken"),
    [
        ("PUBLIC_BASE_URL", "https://images.example.com\n", "public_base_url", "https://images.example.com"),
        ("DATA_DIR", "data\r", "data_dir", Path("data")),
        ("NANOBANANA_BASE_URL", "\ufeffhttps://api.example \u200b\r\n", "nanobanana_base_url", "https://api.example"),
        ("HOST", " ::1\t", "host", "::1"),
        ("PORT", "8001\r\n", "port", 8001),
        ("AUTH", " \r\n", "auth", None),
        ("LOG_LEVEL", "DEBUG\r", "log_level", "debug"),
        ("KEEP_IMAGES", "false\n", "keep_images", False),
        ("STORAGE_URL", "S3://bucket/p\n", "storage_url", "s3://bucket/p"),
        ("STORAGE_URL", "images: 2026", "storage_url", "images: 2026"),
        ("DATABASE_URL", "sqlite+aiosqlite:///x.db\r", "database_url", "sqlite:///x.db"),
    ],
)
def test_what_surrounds_a_value_is_not_part_of_it(
    directory: Path, name: str, value: str, field: str, taken: object
) -> None:
    os.environ[name] = value
    assert getattr(load_settings(), field) == taken


def test_secrets_made_by_echo_are_taken_without_the_line_break(directory: Path) -> None:
    os.environ.update(NANOBANANA_API_KEY="key\n", BOOTSTRAP_API_KEY="nbg_12345678\r\n", SECRET_KEY="new\n, old\r\n")
    settings = load_settings()
    secrets = [settings.nanobanana_api_key, settings.bootstrap_api_key, *settings.secret_key]
    assert [secret.get_secret_value() for secret in secrets if secret] == ["key", "nbg_12345678", "new", "old"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PUBLIC_BASE_URL", "https://images\n.example.com"),
        ("PUBLIC_BASE_URL", "https://images .example.com"),
        ("PUBLIC_BASE_URL", "https:\\\\images.example.com"),
        ("PUBLIC_BASE_URL", '"https://images.example.com"'),
        ("NANOBANANA_API_KEY", "'key'"),
        ("SECRET_KEY", '"secret"'),
        ("DATA_DIR", '"/data"'),
        ("DATA_DIR", "da\rta"),
        ("DATABASE_URL", "sqlite:///a\nb"),
        ("DATABASE_URL", "sqlite:///x.db?timeout=5"),
        ("DATABASE_URL", "sqlite://x.db"),
        ("DATABASE_URL", "postgresql://u:p@ss@host/db"),
        ("DATABASE_URL", "postgresql://u:p#ss@host/db"),
        ("DATABASE_URL", "postgresql://u:p/ss@host/db"),
        ("DATABASE_URL", "postgresql://u:p\uff1ass@host/db"),
        ("DATABASE_URL", "postgresql://u:p@h1:5432,h2:port/db"),
        ("DATABASE_URL", "postgresql://u:p@h1:99999/db"),
        ("STORAGE_URL", "s3:/bucket/x"),
        ("STORAGE_URL", "s3:bucket"),
        ("STORAGE_URL", "file:///data"),
    ],
)
def test_what_is_wrong_inside_a_value_is_refused(directory: Path, name: str, value: str) -> None:
    os.environ["SECRET_KEY"] = "s"
    os.environ[name] = value
    with pytest.raises(ConfigurationError, match=rf"\A{name} is invalid \([^\n]+\); allowed: [^\n]+\Z"):
        load_settings()


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_a_file_with_other_line_breaks_and_a_mark_is_read(directory: Path, encoding: str) -> None:
    content = "PORT=8001\r\nPUBLIC_BASE_URL=https://images.example.com \r\n\r\n# über\r\nLOG_LEVEL=\r\n"
    (directory / ".env").write_bytes(content.encode(encoding))
    settings = load_settings()
    assert (settings.port, settings.public_base_url, settings.log_level) == (8001, "https://images.example.com", "info")


@pytest.mark.parametrize(
    "content",
    ["PORT=8001\n".encode("utf-16"), "PORT=8001\n".encode("utf-16-le"), b"# \xfcber\nPORT=8001\n", b"PORT=1\n'x' y\n"],
)
def test_a_file_that_is_not_text_is_refused_in_one_line(directory: Path, content: bytes) -> None:
    (directory / ".env").write_bytes(content)
    for command in (["migrate"], ["serve", "--port", "0"]):
        done = run_app(directory, *command)
        assert done.returncode == 2
        assert re.fullmatch(r"error: \.env (is not|can't be) [^\n]+; [^\n]+\n", done.stderr)


def test_a_file_that_can_not_be_read_is_refused_in_one_line(directory: Path) -> None:
    (directory / ".env").symlink_to(".env")
    with pytest.raises(ConfigurationError, match=r"\A\.env can't be read \(Too many levels of symbolic links\); "):
        load_settings()


def test_a_directory_named_like_the_file_is_ignored(directory: Path) -> None:
    (directory / ".env").mkdir()
    assert load_settings().port == 8000


def test_the_environment_wins_over_the_file_however_a_name_is_written(directory: Path) -> None:
    (directory / ".env").write_text("port=8001\nhttps_proxy=http://file:1\nDATA_DIR=file\n")
    os.environ.update(PORT="8002", HTTPS_PROXY="http://environment:1", DATA_DIR=" ")
    settings = load_settings()
    assert (settings.port, settings.data_dir) == (8002, Path("file"))
    assert proxy_for("https://upstream.invalid") == "http://environment:1"


def test_empty_variables_of_libraries_count_as_unset(directory: Path) -> None:
    os.environ.update(AWS_ENDPOINT_URL="", AWS_REGION=" us-east-1\n", NO_PROXY="\r", SSL_CERT_FILE=" ", OTHER=" x ")
    load_environment(setting_names())
    assert not {"AWS_ENDPOINT_URL", "NO_PROXY", "SSL_CERT_FILE"} & os.environ.keys()
    assert (os.environ["AWS_REGION"], os.environ["OTHER"]) == ("us-east-1", " x ")


def test_misspelled_settings_are_found(directory: Path) -> None:
    (directory / ".env").write_text("PUBLIC_URL=x\nlog_level=info\nAWS_REGION=x\nPUBLISH=1\nFAVORITE_COLOR=blue\n")
    os.environ.update(CORS_ORIGIN="x", ALOWED_HOSTS="x", HSOT="x", PROT_="x", HOST="x", CORS="x")
    assert misspelled(setting_names()) == {
        "PUBLIC_URL": "PUBLIC_BASE_URL",
        "FAVORITE_COLOR": "",
        "CORS_ORIGIN": "CORS_ORIGINS",
        "ALOWED_HOSTS": "ALLOWED_HOSTS",
        "HSOT": "HOST",
    }


@pytest.mark.parametrize(
    ("environment", "proxy"),
    [
        ({"HTTPS_PROXY": "http://proxy:3128"}, "http://proxy:3128"),
        ({"HTTPS_PROXY": "proxy:3128"}, "http://proxy:3128"),
        ({"ALL_PROXY": "https://u:p@proxy"}, "https://u:p@proxy"),
        ({"HTTP_PROXY": "socks5://unused"}, None),
        ({"HTTPS_PROXY": "http://proxy", "NO_PROXY": "localhost,fd00::/8"}, "http://proxy"),
        ({"HTTPS_PROXY": "http://proxy", "NO_PROXY": "10.0.0.0/8, .vendor.example"}, None),
        ({"HTTPS_PROXY": "http://proxy", "NO_PROXY": "*.vendor.example"}, None),
        ({"HTTPS_PROXY": "http://proxy", "NO_PROXY": "API.vendor.example:443"}, None),
        ({"HTTPS_PROXY": "http://proxy", "NO_PROXY": "api.vendor.example:8443 dor.example"}, "http://proxy"),
        ({"HTTPS_PROXY": "http://proxy", "NO_PROXY": "*"}, None),
    ],
)
def test_the_proxy_of_the_upstream(directory: Path, environment: dict[str, str], proxy: str | None) -> None:
    os.environ.clear()
    os.environ.update(environment)
    assert proxy_for("https://api.vendor.example/x") == proxy
    assert proxy_for("https://127.0.0.1:1") is None


@pytest.mark.parametrize(("networks", "is_direct"), [("10.0.0.0/8", True), ("fd00::/8", False), ("10.1.2.3", True)])
def test_addresses_are_compared_with_networks(directory: Path, networks: str, is_direct: bool) -> None:
    os.environ.clear()
    os.environ.update(HTTP_PROXY="http://proxy", NO_PROXY=networks)
    assert (proxy_for("http://10.1.2.3") is None) == is_direct


@pytest.mark.parametrize(
    "environment",
    [
        {**KEY, "NO_PROXY": "localhost,fd00::/8", "HTTPS_PROXY": "http://127.0.0.1:1"},
        {**KEY, "HTTPS_PROXY": " ", "SSL_CERT_FILE": "\r"},
        {"ALL_PROXY": "socks5://127.0.0.1:1080"},
        {"SSL_CERT_DIR": "/nowhere:/", "SSL_CERT_FILE": ""},
    ],
    ids=str,
)
def test_the_service_starts_in_such_an_environment(tmp_path: Path, environment: dict[str, str]) -> None:
    with GatewayProcess(tmp_path, environment) as gateway:
        assert gateway.client.get("/healthz").status_code == 200


@pytest.mark.parametrize(
    ("named", "environment"),
    [
        ("ALL_PROXY", {**KEY, "ALL_PROXY": "socks5://127.0.0.1:1080"}),
        ("HTTPS_PROXY", {**KEY, "https_proxy": "http://proxy:port"}),
        ("HTTPS_PROXY", {**KEY, "HTTPS_PROXY": "ftp://proxy"}),
        ("SSL_CERT_FILE", {"SSL_CERT_FILE": "/nowhere/ca.pem"}),
        ("SSL_CERT_FILE", {"SSL_CERT_FILE": __file__}),
        ("SSL_CERT_DIR", {"SSL_CERT_DIR": "/nowhere"}),
        ("SSL_CERT_DIR", {"SSL_CERT_DIR": "/nowhere:/neither"}),
        ("AWS_ENDPOINT_URL", {**BUCKET, **CREDENTIALS, "AWS_ENDPOINT_URL": "minio:9000"}),
        ("AWS_ENDPOINT_URL", {**BUCKET, **CREDENTIALS, "AWS_ENDPOINT_URL": "minio"}),
        ("AWS_ENDPOINT_URL", {**BUCKET, **CREDENTIALS, "AWS_ENDPOINT_URL": "http://minio:port"}),
        ("AWS_ENDPOINT_URL", {**BUCKET, **CREDENTIALS, "AWS_ENDPOINT_URL": "http://"}),
        ("AWS_ENDPOINT_URL_S3", {**BUCKET, **CREDENTIALS, "AWS_ENDPOINT_URL_S3": "ftp://minio"}),
        ("AWS_REGION", {**BUCKET, **CREDENTIALS, "AWS_REGION": "us east"}),
        ("AWS_ACCESS_KEY_ID", {**BUCKET, **CREDENTIALS, "AWS_ACCESS_KEY_ID": "a\nb"}),
        ("STORAGE_URL", {**BUCKET, **CREDENTIALS, "AWS_SKIP_SIGNATURE": "maybe"}),
    ],
)
def test_what_a_library_can_not_use_is_refused_in_one_line(
    tmp_path: Path, named: str, environment: dict[str, str]
) -> None:
    done = run_app(tmp_path, "serve", "--port", "0", **environment)
    assert done.returncode == 2
    assert re.fullmatch(rf"error: {named} [^\n]+; [^\n]+\n", done.stderr)


def test_an_empty_endpoint_counts_as_unset(tmp_path: Path) -> None:
    """The client then calls AWS, which a dead proxy prevents."""
    nowhere = {"HTTPS_PROXY": "http://127.0.0.1:1", "https_proxy": "http://127.0.0.1:1"}
    environment = {**BUCKET, **CREDENTIALS, **nowhere, "AWS_ENDPOINT_URL": "", "AWS_SKIP_SIGNATURE": ""}
    with GatewayProcess(tmp_path, environment) as gateway:
        assert "storage_unreachable" in gateway.log
        assert "panicked" not in gateway.log


def test_a_misspelled_setting_is_warned_about(tmp_path: Path) -> None:
    with GatewayProcess(tmp_path, {"CORS_ORIGIN": "https://shop.example.com"}) as gateway:
        (line,) = [line for line in gateway.log.splitlines() if "unknown_setting" in line]
        assert "CORS_ORIGINS" in line


def test_variables_of_libraries_are_cleaned_and_known(directory: Path) -> None:
    (directory / ".env").write_text("AWS_ENDPOINT_URL_S3=http://minio:9000\nAWS_S3_EXPRESS=\n")
    os.environ["AWS_ENDPOINT_URL_S3"] = " \r"
    load_settings()
    assert os.environ["AWS_ENDPOINT_URL_S3"] == "http://minio:9000"
    assert misspelled(setting_names()) == {}


def test_a_line_without_a_value_is_not_a_name(directory: Path) -> None:
    """It may be the second line of a secret."""
    (directory / ".env").write_text("SECRET_KEY=first\nMIIEvQIBADANBgkqhkiG9w0\n")
    load_settings()
    assert misspelled(setting_names()) == {}


@pytest.mark.parametrize("content", [b"", b"\xff\xfe"])
def test_an_unusable_secret_file_is_refused_in_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "secret_key").write_bytes(content)
    done = run_app(tmp_path, "serve", "--port", "0", DATA_DIR=str(tmp_path / "data"))
    assert done.returncode == 2
    assert re.fullmatch(r"error: SECRET_KEY [^\n]+; [^\n]+\n", done.stderr)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["a?b#c", "a%20b%", "ä b", ":memory:"])
def test_directories_may_be_named_as_they_like(tmp_path: Path, name: str) -> None:
    with GatewayProcess(tmp_path, {"DATA_DIR": str(tmp_path / name), "KEEP_IMAGES": "true"}) as gateway:
        task = gateway.client.submit(prompt="a cat")
        assert gateway.client.wait_for(task["id"], "succeeded")["images"][0]["url"]
    assert {"gateway.db", "images", "secret_key"} <= {path.name for path in (tmp_path / name).iterdir()}
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == [name]


@pytest.mark.slow
@pytest.mark.parametrize("spelling", ["link", "linked directory", "hard link", "dots"])
def test_a_file_is_served_by_one_process_whatever_it_is_called(tmp_path: Path, spelling: str) -> None:
    with GatewayProcess(tmp_path, {"SECRET_KEY": "s"}):
        data = tmp_path / "data"
        if spelling == "linked directory":
            (tmp_path / "other").symlink_to(data)
        else:
            (tmp_path / "other").mkdir()
        other = tmp_path / "other" / "gateway.db"
        if spelling == "link":
            other.symlink_to(data / "gateway.db")
        elif spelling == "hard link":
            os.link(data / "gateway.db", other)
        elif spelling == "dots":
            other = tmp_path / "other" / ".." / "data" / "gateway.db"
        done = run_app(tmp_path, "serve", "--port", "0", DATABASE_URL=f"sqlite:///{other}", SECRET_KEY="s")
    assert done.returncode == 2
    assert re.fullmatch(r"error: DATABASE_URL names a SQLite file that [^\n]+\n", done.stderr)


def test_other_programs_variables_are_not_read(tmp_path: Path) -> None:
    with GatewayProcess(tmp_path, {"WEB_CONCURRENCY": "auto", "FORWARDED_ALLOW_IPS": "?"}) as gateway:
        assert gateway.client.get("/healthz").status_code == 200


def test_a_home_that_may_not_be_entered_has_no_certificates(tmp_path: Path) -> None:
    """As under our systemd unit: the driver reads certificates there."""
    (home := tmp_path / "home").mkdir(mode=0)
    program = """
import asyncio, os, sys
from app.db.engine import Database
from app.errors import ServiceUnavailable
if os.geteuid() == 0:
    os.seteuid(65534)
async def main():
    database = Database("postgresql://u:p@127.0.0.1:1/db")
    try:
        await database.read(lambda _: None)
    except ServiceUnavailable as error:
        print(type(error.__cause__).__name__)
asyncio.run(main())
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "HOME": str(home)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    home.chmod(0o700)
    assert done.stdout == "ConnectionRefusedError\n", done.stderr
