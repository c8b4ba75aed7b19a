"""A command line as `agl` reads it. Knows no command."""

import argparse
from typing import Final, NoReturn

NOT_UNDERSTOOD: Final = 2


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line with the way out."""

    def error(self, message: str) -> NoReturn:
        """End with the exit status of what is not understood."""
        self.exit(NOT_UNDERSTOOD, f"agl: {message} (see {self.prog} --help)\n")
