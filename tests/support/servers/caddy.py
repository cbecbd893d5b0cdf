"""Caddy in front of a gateway, with our published configuration."""

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Self

from tests.support.paths import ROOT
from tests.support.waiting import until

CONFIGURATION = (ROOT / "deploy" / "Caddyfile").read_text()
OFFERS_REMOVED = "\theader_up -Upgrade\n\theader_up -Connection\n"


class Caddy:
    """The proxy's process; `passes_upgrades` forwards `Upgrade` headers."""

    def __init__(self, directory: Path, gateway_port: int, *, passes_upgrades: bool) -> None:
        assert OFFERS_REMOVED in CONFIGURATION
        assert "\n:8080\n" in CONFIGURATION
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port: int = free.getsockname()[1]
        configuration = CONFIGURATION.replace(OFFERS_REMOVED, "") if passes_upgrades else CONFIGURATION
        configuration = configuration.replace("\n:8080\n", f"\n:{self.port}\n\nbind 127.0.0.1\n")
        file = directory / "Caddyfile"
        file.write_text("{\n\tadmin off\n\tauto_https off\n}\n" + configuration)
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(directory),
            "GATEWAY_HOST": "localhost",
            "GATEWAY_PORT": str(gateway_port),
        }
        self.log_path = directory / "caddy.log"
        with self.log_path.open("wb") as log:
            self._process = subprocess.Popen(
                [Path(sys.executable).with_name("caddy"), "run", "--config", file, "--adapter", "caddyfile"],
                env=environment,
                stdout=log,
                stderr=log,
            )
        until(self._is_listening, seconds=30, what="the start of Caddy")

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
