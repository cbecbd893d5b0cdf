"""Run with `python -m app`."""

import signal

# Ctrl-C during the imports must not print a traceback. The server installs its own handler.
signal.signal(signal.SIGINT, signal.SIG_DFL)

from app.cli import main  # noqa: E402 -- see above

if __name__ == "__main__":
    main()
