"""The command `farthing`, and `python -m farthing_cli`: what runs before anything else is there to say how it ended."""

import sys

STOPPED = 130


def run() -> None:
    """Run the command line. To import it takes a moment, in which Ctrl-C must not look like a crash."""
    try:
        from farthing_cli.main import main

        main(prog_name="farthing")
    except KeyboardInterrupt:
        sys.stderr.write("\nfarthing: stopped\n")
        sys.exit(STOPPED)


if __name__ == "__main__":
    run()
