"""Passwords and PINs are hashed as in the product, at less cost; and a hasher that tells how often it compared."""

import os
from collections.abc import Callable
from typing import ClassVar

from django.contrib.auth.hashers import Argon2PasswordHasher, ScryptPasswordHasher

COMPARISONS = "PIN_COMPARISONS_FILE"


class CountingArgon2(Argon2PasswordHasher):
    """At its real cost. Each comparison adds a byte to the file that the environment names, in any process."""

    meanwhile: ClassVar[Callable[[], None] | None] = None  # what happens while a PIN is compared

    def verify(self, password, encoded):
        if path := os.environ.get(COMPARISONS):
            file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
            os.write(file, b"x")
            os.close(file)
        if happens := CountingArgon2.meanwhile:
            happens()
        return super().verify(password, encoded)


class QuickArgon2(CountingArgon2):
    """A thousandth of the cost."""

    time_cost = 1
    memory_cost = 64
    parallelism = 1


class QuickScrypt(ScryptPasswordHasher):
    """A five thousandth of the cost: a password for each test is a quarter of a second for each test otherwise."""

    work_factor = 16
    parallelism = 1
