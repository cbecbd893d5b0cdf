"""The command line and invalid settings."""

import re
import signal
import socket
from pathlib import Path

import pytest

from app.errors import ConfigurationError
from app.settings import load_settings
from tests.support.databases.postgres import PostgresServer
from tests.support.servers.gateway_process import GatewayProcess, run_app, run_fresh_app

HIDDEN = "hunter2hunter2"


def refusal(directory: Path, *command: str, **environment: str) -> str:
    """Run a command that must fail; returns its error line."""
    done = run_app(directory, *(command or ("serve", "--port", "0")), **environment)
    assert done.returncode != 0
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert HIDDEN not in line
    return line


def test_keys_are_created_listed_and_revoked(tmp_path: Path, bare_database_url: str) -> None:
    settings = {"DATABASE_URL": bare_database_url, "SECRET_KEY": "s"}
    first = run_app(tmp_path, "keys", "create", "my phone", **settings)
    second = run_app(tmp_path, "keys", "create", "shop", "--project", "shop", **settings)
    assert first.stderr == "This is the first key. From now on, every request needs a key.\n"
    assert second.stderr == ""
    secrets = [done.stdout.splitlines()[-1] for done in (first, second)]
    assert all(re.fullmatch(r"[\x21-\x7e]{24,}", secret) for secret in secrets)
    listed = run_app(tmp_path, "keys", "list", **settings)
    lines = listed.stdout.splitlines()
    assert (listed.returncode, listed.stderr, len(lines)) == (0, "", 2)
    assert not any(secret in listed.stdout for secret in secrets)
    assert all(re.match(r"key_[0-9a-f]{32}\b", line) for line in lines)
    assert "default" in lines[0]
    assert "my phone" in lines[0]
    assert "shop" in lines[1]
    key_id = lines[1].split()[0]
    assert run_app(tmp_path, "keys", "revoke", key_id, **settings).returncode == 0
    assert run_app(tmp_path, "keys", "revoke", key_id, **settings).returncode == 0
    lines = run_app(tmp_path, "keys", "list", **settings).stdout.splitlines()
    assert ["revoked" in line for line in lines] == [False, True]


def test_projects_get_budgets_and_are_listed(tmp_path: Path) -> None:
    assert run_app(tmp_path, "projects", "budget", "shop", "7").returncode == 0
    assert run_app(tmp_path, "projects", "list").stdout.splitlines() == [
        "default\tbudget none\ttoday 0",
        "shop\tbudget 7\ttoday 0",
    ]
    assert run_app(tmp_path, "projects", "budget", "shop", "none").returncode == 0
    assert run_app(tmp_path, "projects", "list").stdout == "default\tbudget none\ttoday 0\n"


@pytest.mark.parametrize("arguments", [["shop", "1.5"], ["shop", "9" * 20], ["", "1"]])
def test_an_invalid_budget_is_rejected(tmp_path: Path, arguments: list[str]) -> None:
    assert refusal(tmp_path, "projects", "budget", "--", *arguments)


def test_an_unknown_key_is_not_revoked(tmp_path: Path) -> None:
    done = run_app(tmp_path, "keys", "revoke", "key_" + "0" * 32)
    assert done.returncode != 0
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("arguments", [["a", "--project", "p" * 65], ["a\tb"], [" "], ["n" * 256], ["a\nb"]])
def test_a_name_that_would_break_the_list_is_rejected(tmp_path: Path, arguments: list[str]) -> None:
    assert refusal(tmp_path, "keys", "create", *arguments)


def test_migrate_only_migrates(tmp_path: Path) -> None:
    for run in (run_fresh_app, run_app):
        done = run(tmp_path, "migrate")
        assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PORT", "http"),
        ("PORT", "-1"),
        ("AUTH", "maybe"),
        ("LOG_FORMAT", "xml"),
        ("NANOBANANA_BASE_URL", "api.example.com"),
        ("NANOBANANA_BASE_URL", f"https://me:{HIDDEN}@api.example.com"),
        ("PUBLIC_BASE_URL", "ftp://images.example"),
        ("PUBLIC_BASE_URL", "https://images.example/?a=b"),
        ("NANOBANANA_API_KEY", f"{HIDDEN}é"),
        ("BOOTSTRAP_API_KEY", HIDDEN[:7]),
        ("BOOTSTRAP_API_KEY", f"{HIDDEN} {HIDDEN}"),
        ("BOOTSTRAP_API_KEY", f"nbt_{HIDDEN}"),
        ("KEY_RATE_LIMIT", "0/60"),
        ("DATABASE_URL", "sqlite:///:memory:"),
        ("DATABASE_URL", f"postgresql://me:{HIDDEN}@db:port/name"),
        ("UPSTREAM_RATE_LIMIT", "20"),
        ("UPSTREAM_RATE_LIMIT", "0/10"),
        ("UPSTREAM_RATE_LIMIT", "20/0"),
        ("UPSTREAM_RATE_LIMIT", "20/99999999999999999999"),
        ("UPSTREAM_CONCURRENCY", "0"),
        ("UPSTREAM_TIMEOUT_SECONDS", "0"),
        ("SUBMIT_RETRIES", "2.5"),
        ("HOLD_RETRY_SECONDS", "inf"),
        ("QUEUE_TIMEOUT_SECONDS", "nan"),
        ("POLL_AFTER_SECONDS", "-3"),
        ("TASK_TIMEOUT_SECONDS", "soon"),
        ("WEBHOOK_RETRY_SCHEDULE", "5,soon"),
        ("WEBHOOK_RETRY_SCHEDULE", "5,0"),
        ("WEBHOOK_RETRY_SCHEDULE", "5,-1"),
        ("WEBHOOK_RETRY_SCHEDULE", "5,inf"),
        ("WEBHOOK_RETRY_SCHEDULE", "5,604801"),
        ("WEBHOOK_RETRY_SCHEDULE", ",".join(["1"] * 21)),
        ("WEBHOOK_RETRY_SCHEDULE", ","),
        ("WEBHOOK_RETRY_SCHEDULE", "[5,300]"),
        ("ALLOW_NETWORKS", HIDDEN),
        ("ALLOW_NETWORKS", "10.0.0.0/8,localhost"),
        ("ALLOW_NETWORKS", "10.0.0.0/33"),
        ("ALLOW_NETWORKS", "10.1.2.3/8"),
        ("ALLOW_NETWORKS", "10.0.0.0/8 172.16.0.0/12"),
        ("TRUSTED_PROXIES", "proxy.example"),
        ("ALLOWED_HOSTS", "https://images.example"),
        ("ALLOWED_HOSTS", "images.example:443"),
        ("ALLOWED_HOSTS", "images.example/x"),
        ("ALLOWED_HOSTS", "*"),
        ("ALLOWED_HOSTS", "a.*.example"),
        ("CORS_ORIGINS", "*"),
        ("CORS_ORIGINS", "https://*.example"),
        ("CORS_ORIGINS", "null"),
        ("CORS_ORIGINS", "shop.example"),
        ("CORS_ORIGINS", "https://shop.example/page"),
        ("CORS_ORIGINS", "https://me@shop.example"),
        ("CORS_ORIGINS", "ftp://shop.example"),
        ("CORS_ORIGINS", "https://shop.example https://other.example"),
    ],
)
def test_an_invalid_setting_is_named_without_its_value(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SECRET_KEY", "s")
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError) as refused:
        load_settings()
    message = str(refused.value)
    assert message.startswith(name)
    assert "\n" not in message
    assert HIDDEN not in message


def test_a_base_url_must_have_no_query(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for value in ("https://images.example/?a=b", "https://images.example/?", "https://images.example/#a"):
        monkeypatch.setenv("PUBLIC_BASE_URL", value)
        with pytest.raises(ConfigurationError, match="must not have a query"):
            load_settings()


def test_hosts_and_origins_are_normalized_as_browsers_send_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ALLOWED_HOSTS", "Images.Example., *.Example.com, [::1], 127.0.0.1,")
    monkeypatch.setenv("CORS_ORIGINS", "HTTPS://Shop.Example:443/, http://localhost:3000 ,http://[::1]:080")
    settings = load_settings()
    assert settings.allowed_hosts == ["images.example", "*.example.com", "::1", "127.0.0.1"]
    assert settings.cors_origins == ["https://shop.example", "http://localhost:3000", "http://[::1]"]


def test_lists_of_networks_and_pauses_are_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ALLOW_NETWORKS", " 10.0.0.0/8, fd00::/8 ,192.168.1.5,::1,")
    monkeypatch.setenv("WEBHOOK_RETRY_SCHEDULE", "0.5, 60,")
    settings = load_settings()
    assert [str(network) for network in settings.allow_networks] == [
        "10.0.0.0/8",
        "fd00::/8",
        "192.168.1.5/32",
        "::1/128",
    ]
    assert settings.webhook_retry_schedule == [0.5, 60]
    monkeypatch.setenv("ALLOW_NETWORKS", "")
    monkeypatch.setenv("WEBHOOK_RETRY_SCHEDULE", "")
    assert load_settings().allow_networks == []
    assert load_settings().webhook_retry_schedule == [5, 300, 1800, 7200, 18_000, 36_000, 36_000]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PORT", "70000"),
        ("LOG_LEVEL", "loud"),
        ("NANOBANANA_API_KEY", f"{HIDDEN}\nx"),
        ("DATABASE_URL", f"mysql://me:{HIDDEN}@db/name"),
        ("DATABASE_URL", "sqlite:////proc/nowhere/x.db"),
        ("HOST", "0.0.0.0"),
        ("HOST", ".."),
    ],
)
def test_an_invalid_setting_stops_the_start_with_one_line(tmp_path: Path, name: str, value: str) -> None:
    environment = {"SECRET_KEY": "s", name: value} | ({"AUTH": "none"} if value == ".." else {})
    assert name in refusal(tmp_path, "serve", **environment)


def test_data_dir_must_be_a_directory_that_can_be_created(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    assert "DATA_DIR is not a directory" in refusal(tmp_path, DATA_DIR=str(tmp_path / "file"))
    assert "DATA_DIR" in refusal(tmp_path, "migrate", DATA_DIR=str(tmp_path / "file" / "below"))
    assert "DATA_DIR" in refusal(tmp_path, "keys", "list", DATA_DIR="/proc/nowhere")


def test_a_file_that_is_not_a_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("these are notes and no database, whatever they are called" * 99)
    assert "DATABASE_URL" in refusal(tmp_path, "migrate", DATABASE_URL=f"sqlite:///{tmp_path / 'notes.txt'}")


def test_a_database_that_does_not_exist_is_refused(tmp_path: Path, postgres: PostgresServer) -> None:
    url = postgres.create_database().replace("/test_", "/missing_")
    said = refusal(tmp_path, "migrate", DATABASE_URL=url, SECRET_KEY="s")
    assert "DATABASE_URL" in said
    assert "does not exist" in said


def test_postgresql_needs_a_secret(tmp_path: Path, postgres: PostgresServer) -> None:
    assert "SECRET_KEY" in refusal(tmp_path, DATABASE_URL=postgres.create_database())


def test_a_taken_port_is_reported(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for command, name in (("serve", "PORT"), ("sandbox", "--port")):
            line = refusal(tmp_path, command, "--port", str(port))
            assert line == f"error: can't listen on 127.0.0.1:{port}: address already in use; set {name}"


@pytest.mark.parametrize(
    ("option", "value", "reason"),
    [
        ("--port", "99999", "--port is invalid; allowed: a port number, 0 to 65535"),
        ("--host", "no.invalid", "; set --host to an address of this machine"),
        ("--host", "..", "; set --host to an address of this machine"),
    ],
)
def test_the_sandbox_reports_an_unusable_address(tmp_path: Path, option: str, value: str, reason: str) -> None:
    assert refusal(tmp_path, "sandbox", option, value).endswith(reason)


def test_a_different_secret_is_rejected_unless_rotated(tmp_path: Path) -> None:
    def serve(secret: str) -> None:
        with GatewayProcess(tmp_path, {"SECRET_KEY": secret}) as gateway:
            assert gateway.client.get("/healthz").status_code == 200
            assert gateway.stop(signal.SIGTERM) == 0

    serve("old")
    assert "SECRET_KEY" in refusal(tmp_path, SECRET_KEY=HIDDEN)
    serve("new, old")
    serve("new")
    assert "SECRET_KEY" in refusal(tmp_path, SECRET_KEY="old")


def test_the_env_file_is_read_and_the_environment_wins(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("PORT=wrong\nLOG_LEVEL=loud\nAUTH=\n")
    assert "LOG_LEVEL" in refusal(tmp_path, "migrate", PORT="0")
    assert "PORT" in refusal(tmp_path, "migrate", LOG_LEVEL="info")
    done = run_app(tmp_path, "migrate", LOG_LEVEL="info", PORT="0", NANOBANANA_API_KEY="", DATABASE_URL="")
    assert (done.returncode, done.stderr) == (0, "")
