"""nginx in front of gateways, with our published configuration."""

import os
import shutil
import socket
import subprocess
from pathlib import Path
from typing import Self

import pytest

from tests.support.paths import ROOT
from tests.support.waiting import until

CONFIGURATION = (ROOT / "deploy" / "nginx.conf").read_text()
PROGRAM = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
_PATHS = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")


class Nginx:
    """The proxy as a process, listening on loopback."""

    def __init__(self, directory: Path, gateway_ports: tuple[int, int]) -> None:
        if PROGRAM is None:
            pytest.skip("nginx is not installed (Debian: apt install nginx-light)")
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port: int = free.getsockname()[1]
        configuration = CONFIGURATION
        for ours, theirs in [
            ("server 127.0.0.1:8000", f"server 127.0.0.1:{gateway_ports[0]}"),
            ("# server 127.0.0.1:8001", f"server 127.0.0.1:{gateway_ports[1]}"),
            ("listen 80;", f"listen 127.0.0.1:{self.port};"),
            ("/var/log/nginx/access.log", str(directory / "access.log")),
        ]:
            assert ours in configuration
            configuration = configuration.replace(ours, theirs)
        paths = "".join(f"{name}_temp_path {directory / name};\n" for name in _PATHS)
        # One process, under our own user.
        head = f"daemon off;\nmaster_process off;\npid {directory / 'pid'};\nevents {{}}\n"
        file = directory / "nginx.conf"
        file.write_text(f"{head}http {{\n{paths}{configuration}}}\n")
        self.log_path = directory / "error.log"
        self._process = subprocess.Popen([PROGRAM, "-e", self.log_path, "-c", file])
        until(self._is_listening, seconds=30, what="the start of nginx")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(30)

    def _is_listening(self) -> bool:
        assert self._process.poll() is None, self.log_path.read_text()
        try:
            socket.create_connection(("127.0.0.1", self.port)).close()
        except OSError:
            return False
        return True
