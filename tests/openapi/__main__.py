"""Lints the OpenAPI document with Redocly and Spectral.

Run it with `python -m tests.openapi`.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from app.main import create_app
from app.settings import Settings
from app.web.openapi import for_open_service

HERE = Path(__file__).parent
LINTERS = (
    ("redocly", "lint", "--config=redocly.yaml"),
    ("spectral", "lint", "--ruleset=.spectral.yaml", "--fail-severity=warn"),
)


def main() -> int:
    """Lint both forms of the document; return the exit code."""
    npm = shutil.which("npm")
    if npm is None:
        sys.stdout.write("npm is missing; the OpenAPI document was not linted.\n")
        return 0
    subprocess.run([npm, "install", "--silent"], cwd=HERE, check=True)
    environment = {**os.environ, "REDOCLY_TELEMETRY": "off", "REDOCLY_SUPPRESS_UPDATE_NOTICE": "true"}
    is_clean = True
    with tempfile.TemporaryDirectory() as name:
        for file in _write(Path(name)):
            for program, *arguments in LINTERS:
                command = [str(HERE / "node_modules" / ".bin" / program), *arguments, str(file)]
                done = subprocess.run(command, cwd=HERE, env=environment, capture_output=True, text=True, check=False)
                if done.returncode != 0:
                    is_clean = False
                    sys.stdout.write(done.stdout + done.stderr)
    return 0 if is_clean else 1


def _write(directory: Path) -> list[Path]:
    settings = Settings(_env_file=None, data_dir=directory)
    document = create_app(settings, upstream_url="http://127.0.0.1:9", upstream_key="key").openapi()
    files = {directory / "keyed.json": document, directory / "open.json": for_open_service(document)}
    for file, content in files.items():
        file.write_text(json.dumps(content))
    return list(files)


if __name__ == "__main__":
    sys.exit(main())
