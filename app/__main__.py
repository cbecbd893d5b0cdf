"""Run with `python -m app`."""

import signal

# Who presses Ctrl-C while the imports run, which take a second or two, wants an end, not a traceback. The server takes
# the signal over when it serves.
signal.signal(signal.SIGINT, signal.SIG_DFL)

from app.cli import main  # noqa: E402 -- see above

if __name__ == "__main__":
    main()
