"""How settings.py reads environment variables: what cannot be used ends the process with a sentence that names it.

No sentence has a value in it: values are secrets, or addresses with a password in them.
"""

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import SplitResult, urlsplit

from environ import Env
from psycopg.pq import Conninfo

from loyalty_site.unusable import SettingsUnusable, sentence_or_end

POSTGRESQL = "django.db.backends.postgresql"
POSTGRESQL_SCHEMES = [scheme for scheme, engine in Env.DB_SCHEMES.items() if engine == POSTGRESQL]
# What Django and psycopg take out of a database's options themselves; all others go to PostgreSQL's client library.
NOT_OF_THE_LIBRARY = {"assume_role", "isolation_level", "pool", "prepare_threshold", "server_side_binding"}
TRUE, FALSE = ("true", "yes", "on", "y", "ok", "1"), ("false", "no", "off", "n", "0", "")
WANTED: dict[Callable[[str], Any], str] = {
    int: "a whole number, such as 10",
    float: "a number, such as 10",
    bool: "true or false",
}


def parsed(name: str, text: str, kind: Callable[[str], Any]) -> Any:
    """The value of a variable.

    Raises:
        SettingsUnusable: the text is none of that kind.
    """
    try:
        if kind is bool:
            return _flag(text)
        return Env.parse_value(text, kind) if kind is list else kind(text)
    except ValueError:
        raise SettingsUnusable(f"{name} has to be {WANTED[kind]}.") from None


def _flag(text: str) -> bool:
    if text.strip().lower() not in TRUE + FALSE:
        raise ValueError
    return text.strip().lower() in TRUE


class Variables(Env):  # type: ignore[misc]
    """django-environ, where a value may begin with $, and where what cannot be used is said by its name.

    Its `str`, `int`, `bool` and `list` end in `get_value`.
    """

    @sentence_or_end()
    def get_value(self, var: str, cast: Any = None, default: Any = None, parse_default: bool = False) -> Any:
        """The value of a variable that is set, or the default as it is."""
        return parsed(var, self.ENVIRON[var], cast) if var in self.ENVIRON else default

    @sentence_or_end()
    def secret(self, var: str, *, default: str) -> str:
        """A text that has to be there, unless there is a default for development."""
        if text := str(self.get_value(var, cast=str, default=default)):
            return text
        raise SettingsUnusable(
            f"{var} is not set. Set it to 50 random characters or more, such as `openssl rand -hex 32` prints, or let "
            f"{var}_FILE name a file that holds them."
        )

    @sentence_or_end()
    def choice(self, var: str, *, default: str, among: Collection[str]) -> str:
        """One word of several."""
        if (word := str(self.get_value(var, cast=str, default=default))) in among:
            return word
        raise SettingsUnusable(f"{var} has to be one of {', '.join(among)}.")

    @sentence_or_end()
    def address(
        self, var: str, *, default: str, like: str = "https://example.com", schemes: Collection[str] = ("https", "http")
    ) -> str:
        """An address with a host, or nothing where nothing is the default."""
        address = str(self.get_value(var, cast=str, default=default))
        with _an_address(var, like):
            if (address or default) and not _parts(address, schemes).hostname:
                raise ValueError
        return address

    @sentence_or_end()
    def db_url(self, var: str, *, default: str, like: str) -> dict[str, Any]:
        """Where PostgreSQL is. Others ignore SKIP LOCKED without a word, and points would expire twice."""
        address = str(self.get_value(var, cast=str, default=default))
        with _an_address(var, like):
            _parts(address, POSTGRESQL_SCHEMES)
            found: dict[str, Any] = self.db_url_config(address)
            if not found["NAME"] and "service" not in found.get("OPTIONS", {}):
                raise ValueError
        if unknown := found.get("OPTIONS", {}).keys() - _options():
            named = ", ".join(sorted(unknown))
            raise SettingsUnusable(f"{var} has an option behind its question mark that PostgreSQL has not: {named}.")
        return found

    @sentence_or_end()
    def email_url(self, var: str, *, default: str, like: str) -> dict[str, Any]:
        """Where mail goes."""
        address = str(self.get_value(var, cast=str, default=default))
        with _an_address(var, like):
            parts = _parts(address, self.EMAIL_SCHEMES)
            if parts.scheme.startswith("smtp") and not parts.hostname:
                raise ValueError
            found: dict[str, Any] = self.email_url_config(address)
        return found


@contextmanager
def _an_address(name: str, like: str) -> Iterator[None]:
    try:
        yield
    except ValueError:
        raise SettingsUnusable(
            f"{name} has to be an address such as {like}. What has a meaning in addresses is written in another way in "
            "a password: / as %2F, @ as %40, : as %3A, # as %23, ? as %3F, % as %25."
        ) from None


def _parts(address: str, schemes: Collection[str]) -> SplitResult:
    """Raises: ValueError, also when a password ends before its end and the rest of it is taken for a path."""
    parts = urlsplit(address)
    if parts.scheme not in schemes or "@" in parts.path + parts.query + parts.fragment:
        raise ValueError
    if "," not in parts.netloc:  # several hosts, of which each has a port
        parts.port  # noqa: B018  reads it
    return parts


def _options() -> set[str]:
    return NOT_OF_THE_LIBRARY | {option.keyword.decode() for option in Conninfo.get_defaults()}
