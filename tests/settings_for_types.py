"""The product's settings for mypy, which has no secrets and starts no engines."""

import os

os.environ.setdefault("DEVELOPMENT", "true")

from loyalty_site.settings import *  # noqa: F403
