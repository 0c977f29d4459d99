#!/usr/bin/env python
"""Django's command line for the loyalty platform."""

import os
import sys


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "loyalty_site.settings")
    from django.core.management import execute_from_command_line
    from django.db import OperationalError
    from kombu.exceptions import OperationalError as BrokerError

    from loyalty_site.unreachable import explain_broker, explain_database, is_unreachable

    try:
        execute_from_command_line(sys.argv)
    except KeyboardInterrupt:
        print("Interrupted. What was committed stays.", file=sys.stderr)  # noqa: T201
        sys.exit(130)
    except OperationalError as error:
        if not is_unreachable(error):
            raise
        sys.exit(explain_database(error))
    except BrokerError as error:
        sys.exit(explain_broker(error))


if __name__ == "__main__":
    main()
