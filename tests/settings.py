"""The product's settings on engines of the tests' own: started once, shared by all xdist workers."""

import atexit
import os

from loyalty_site import embedded

WORKER = os.environ.get("PYTEST_XDIST_WORKER", "")

if not WORKER:
    _engines = embedded.engines(folder=None, durable=False)
    os.environ.update(_engines.__enter__())
    atexit.register(_engines.__exit__, None, None, None)
else:
    # One Valkey database per worker, or a worker would take its neighbour's tasks.
    _server, _, _ = os.environ["REDIS_URL"].rpartition("/")
    os.environ["REDIS_URL"] = f"{_server}/{int(WORKER.removeprefix('gw')) + 1}"

os.environ["DEVELOPMENT"] = "false"
os.environ["SECRET_KEY"] = "tests-only-key-that-protects-nothing-at-all-0123456789"
os.environ["PIN_PEPPER"] = "tests-only-pepper"
os.environ["LOG_FORMAT"] = "json"

from loyalty_site.settings import *  # noqa: E402, F403

PASSWORD_HASHERS = ["tests.hashers.QuickScrypt", "tests.hashers.QuickArgon2"]
WHITENOISE_AUTOREFRESH = True  # there is no collected static folder in a checkout
