"""`agl`: the store in a terminal, and what is in it. Says what a command came to; knows none of them.

What an agent waits for, `agl emit`, is imported without the other commands, which takes a third of the time.
"""

import os
import sys
from collections.abc import Sequence

from agentlightning.cli.errors import NotUnderstoodError
from agentlightning.cli.parser import NOT_UNDERSTOOD
from agentlightning.errors import AgentLightningError

_INTERRUPTED = 130
_CUT_OFF = 141


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; 0 when it did what it should, 1 when it could not or found nothing, 2 when not understood."""
    try:
        status = _run(list(sys.argv[1:] if argv is None else argv))
        sys.stdout.flush()
        return status
    except NotUnderstoodError as error:
        print(f"agl: {error}", file=sys.stderr)
        return NOT_UNDERSTOOD
    except AgentLightningError as error:
        print(f"agl: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return _INTERRUPTED
    except BrokenPipeError:  # as of `agl rollouts list | head`; what is left in the buffer has nowhere to go
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _CUT_OFF
    except OSError as error:
        print(f"agl: {error.filename or 'input or output'}: {error.strerror or error}", file=sys.stderr)
        return 1


def _run(arguments: list[str]) -> int:
    if arguments[:1] == ["emit"]:
        from agentlightning.cli.commands import emit

        return emit.run(arguments)
    from agentlightning.cli import program

    return program.run(arguments)
