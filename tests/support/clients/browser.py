"""A real browser, if installed."""

import shutil
import subprocess
from pathlib import Path

_NAMES = ("chromium", "chromium-headless-shell", "chromium-browser", "google-chrome")
BROWSER = next(filter(None, map(shutil.which, _NAMES)), None)


def rendered(url: str, directory: Path) -> str:
    """Return a page's DOM after some seconds of virtual time."""
    assert BROWSER is not None
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={directory}"]
    command += ["--no-first-run", "--disable-background-networking", "--no-proxy-server"]
    done = subprocess.run(
        [*command, "--virtual-time-budget=8000", "--dump-dom", url],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stdout
