"""`python -m farthing_cli`: the same as `farthing`."""

from farthing_cli.main import main

if __name__ == "__main__":
    main(prog_name="farthing")
