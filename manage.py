#!/usr/bin/env python
"""Django's command line for the loyalty platform."""

import os
import select
import sys

INTERRUPTED = 130
NOBODY_READS = 141  # as the shell counts it for a program that SIGPIPE ends


def main() -> None:
    try:
        execute()
    except KeyboardInterrupt:
        print("Interrupted. What was committed stays.", file=sys.stderr)  # noqa: T201
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        if is_read():
            raise  # another pipe broke, such as one to a mail server
        sys.exit(NOBODY_READS)


def execute() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "loyalty_site.settings")
    from django.core.management import execute_from_command_line
    from django.db import OperationalError
    from kombu.exceptions import OperationalError as BrokerError

    from loyalty_site.unreachable import explain_broker, explain_database, is_unreachable

    try:
        execute_from_command_line(sys.argv)
    except OperationalError as error:
        if not is_unreachable(error):
            raise
        sys.exit(explain_database(error))
    except BrokerError as error:
        sys.exit(explain_broker(error))
    finally:
        sys.stdout.flush()  # here, because a closed pipe that Python finds at its end is a traceback


def is_read() -> bool:
    """Whether somebody still reads what we print. If nobody does, what is left of it goes nowhere."""
    output = select.poll()
    output.register(sys.stdout, 0)  # errors are told without being asked for
    if not output.poll(0):
        return True
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return False


if __name__ == "__main__":
    main()
