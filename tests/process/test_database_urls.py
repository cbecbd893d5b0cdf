"""Database URLs of hosting providers, with TLS and a password."""

import asyncio
import re
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import asyncpg
import pytest
import trustme
from sqlalchemy import make_url

from app.db.engine import Database
from app.db.engine.postgresql_url import connect_arguments
from app.errors import ConfigurationError, ServiceUnavailable
from app.settings import Settings
from tests.support.databases.postgres import FAST, PostgresServer, is_postgres_given
from tests.support.databases.tls_front import TlsFront
from tests.support.servers.gateway_process import run_app

PASSWORD = "p@ss/w:rd?#+% &=ü"


@dataclass
class Hosted:
    """A server as a provider runs it."""

    port: int
    port_without_tls: int
    authority: Path

    def url(self, query: str, *, scheme: str = "postgresql", hosts: str = "", password: str = PASSWORD) -> str:
        where = hosts or f"127.0.0.1:{self.port}"
        return f"{scheme}://gateway:{quote(password, safe='')}@{where}/postgres?{query}"


@pytest.fixture(scope="module")
def hosted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosted]:
    if is_postgres_given():
        pytest.skip("TEST_DATABASE_URL names a server that is not ours to configure")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    directory = tmp_path_factory.mktemp("hosted")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(directory / "authority.pem"))
    options = (*FAST, "listen_addresses=127.0.0.1", f"port={port}")
    with PostgresServer(options=options) as server:
        data = Path(str(make_url(server.start()).query["host"]))
        asyncio.run(_make_role(data, port))
        # Connections over TCP need the password.
        (data / "pg_hba.conf").write_text("local all all trust\nhost all all 127.0.0.1/32 scram-sha-256\n")
        server.stop()
        server.start()
        with TlsFront(authority, port) as front:
            yield Hosted(front.port, port, directory / "authority.pem")


async def _make_role(data: Path, port: int) -> None:
    connection = await asyncpg.connect(host=str(data), port=port, user="postgres", database="postgres")
    await connection.execute(f"CREATE ROLE gateway LOGIN SUPERUSER PASSWORD '{PASSWORD}'")
    await connection.close()


def read(url: str) -> str:
    """Connect as the service does; returns the current schema."""

    async def work() -> str:
        database = Database(Settings(_env_file=None, database_url=url, secret_key="s").database_url or "")
        try:
            return str(await database.read(lambda connection: connection.exec_driver_sql("SHOW search_path").scalar()))
        finally:
            await database.aclose()

    return asyncio.run(work())


@pytest.mark.parametrize(
    "query",
    [
        "sslmode=require&channel_binding=require",
        "sslmode=require&connect_timeout=15&keepalives=1&keepalives_idle=30&keepalives_interval=10&keepalives_count=3",
        "sslmode=prefer&gssencmode=disable&target_session_attrs=read-write&tcp_user_timeout=1000",
        "pgbouncer=true&connection_limit=1&pool_timeout=20",
        "ssl=true",
        "ssl=require",
        "sslmode=no-verify",
        "sslmode=verify-ca&sslrootcert={authority}",
        "sslmode=verify-full&sslrootcert={authority}&application_name=mine&client_encoding=utf8",
        "sslmode=require&options=-c%20statement_timeout%3D9s",
        "",
    ],
)
def test_what_providers_append_is_understood(hosted: Hosted, query: str) -> None:
    assert read(hosted.url(query.format(authority=hosted.authority)))


@pytest.mark.parametrize(
    "scheme", ["postgres", "postgresql", "PostgreSQL", "postgresql+asyncpg", "postgresql+psycopg2"]
)
def test_the_scheme_may_name_any_driver(hosted: Hosted, scheme: str) -> None:
    assert read(hosted.url("sslmode=require", scheme=scheme))


def test_of_several_hosts_one_that_can_be_written_to_is_used(hosted: Hosted) -> None:
    hosts = f"127.0.0.1:1,127.0.0.1:{hosted.port}"
    assert read(hosted.url("target_session_attrs=read-write", hosts=hosts))


def test_the_schema_of_a_url_is_the_one_used(hosted: Hosted) -> None:
    assert read(hosted.url("schema=images")) == "images"
    assert read(hosted.url("search_path=a%2Cb")) == "a,b"


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ("sslmode=maybe", "sslmode"),
        ("connect_timeout=soon", "connect_timeout"),
        ("target_session_attrs=standby", "target_session_attrs"),
        ("gssencmode=require", "gssencmode"),
        ("sslmode=verify-full&sslrootcert=/nowhere/ca.pem", "sslrootcert, which can't be used (No such file"),
        (f"sslrootcert={__file__}", "sslrootcert, which can't be used (not a usable PEM file)"),
        (f"sslcert={__file__}&sslkey={__file__}", "sslcert, which can't be used (not a usable PEM file)"),
        ("sslcert=/nowhere/client.crt&sslkey=/nowhere/client.key", "sslcert, which can't be used (No such file"),
    ],
)
def test_parameters_that_can_not_work_are_refused(query: str, reason: str) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(reason)):
        connect_arguments(f"postgresql://u:{PASSWORD[0]}@host/db?{query}")


@pytest.mark.parametrize(
    ("wrong", "query", "reason"),
    [
        ({"password": "wrong"}, "sslmode=require", 'password authentication failed for user "gateway"'),
        ({}, "sslmode=verify-full&sslrootcert=system", "certificate verify failed"),
        ({}, "sslmode=verify-full", "certificate verify failed"),
        ({}, "sslmode=require&favorite_color=blue", 'unrecognized configuration parameter "favorite_color"'),
    ],
)
def test_a_start_that_waiting_can_not_help_ends_at_once_with_the_reason(
    hosted: Hosted, tmp_path: Path, wrong: dict[str, str], query: str, reason: str
) -> None:
    url = hosted.url(query, **wrong)
    began = time.monotonic()
    done = run_app(tmp_path, "migrate", DATABASE_URL=url, SECRET_KEY="s")
    assert time.monotonic() - began < 10
    assert done.returncode == 2
    assert reason in done.stderr.splitlines()[-1]
    assert quote(PASSWORD, safe="") not in done.stderr
    assert PASSWORD not in done.stderr


def test_a_server_without_tls_is_not_waited_for(hosted: Hosted, tmp_path: Path) -> None:
    url = hosted.url("sslmode=require", hosts=f"127.0.0.1:{hosted.port_without_tls}")
    done = run_app(tmp_path, "migrate", DATABASE_URL=url, SECRET_KEY="s")
    assert done.stderr.startswith("error: DATABASE_URL names a database that can't be reached (")
    assert "rejected SSL upgrade" in done.stderr
    assert read(url.replace("sslmode=require", "sslmode=prefer"))


def test_an_unreachable_server_is_named_in_the_systems_words() -> None:
    async def work() -> None:
        database = Database("postgresql://u:p@127.0.0.1:1,127.0.0.1:2/db?target_session_attrs=read-write")
        await database.read(lambda _: None)

    with pytest.raises(ServiceUnavailable) as refused:
        asyncio.run(work())
    assert isinstance(refused.value.__cause__, OSError)
