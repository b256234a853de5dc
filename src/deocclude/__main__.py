"""Entry point of the command and of `python -m deocclude`. It handles interruptions while the code still loads."""

from __future__ import annotations

import os
import signal


def main() -> None:
    """Run the command. SIGINT and SIGTERM end it with exit code 130 and one line, while its code is still loading."""
    for number in (signal.SIGINT, signal.SIGTERM):
        # jobs that a shell starts with & ignore SIGINT: that stays
        if signal.getsignal(number) in (signal.default_int_handler, signal.SIG_DFL):
            signal.signal(number, leave_at_once)
    from deocclude.cli.app import main as run

    run()


def leave_at_once(number: int, frame: object) -> None:
    """Signal handler while the command loads: exit at once, since nothing is written yet that needs cleaning up."""
    os.write(2, b"interrupted\n")
    os._exit(130)


if __name__ == "__main__":
    main()
