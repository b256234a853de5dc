"""The command's entry point, with `python -m deocclude` too: an interruption before anything is loaded is answered."""

from __future__ import annotations

import os
import signal


def main() -> None:
    """Run the command. SIGINT and SIGTERM end it with exit code 130 and one line, while its code is still loading."""
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) in (signal.default_int_handler, signal.SIG_DFL):  # a shell's & ignores SIGINT
            signal.signal(number, leave_at_once)
    from deocclude.cli.app import main as run

    run()


def leave_at_once(number: int, frame: object) -> None:
    """A signal's handler for a process that has written nothing: there is nothing to clean up."""
    os.write(2, b"interrupted\n")
    os._exit(130)


if __name__ == "__main__":
    main()
