"""Bodies, taken strictly: no key twice, no NaN, no more bytes than allowed."""

import json
from collections.abc import Mapping
from typing import Any, NoReturn

from django.conf import settings
from rest_framework.parsers import JSONParser

from loyalty.api.problems import BodyTooLarge, MalformedJson


class StrictJsonParser(JSONParser):
    def parse(
        self, stream: Any, media_type: str | None = None, parser_context: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        return read_json(stream, limit=settings.DATA_UPLOAD_MAX_MEMORY_SIZE)  # type: ignore[no-any-return]


def read_json(stream: Any, *, limit: int) -> Any:
    """The JSON of a body.

    Raises:
        BodyTooLarge: it has more bytes than the limit. MalformedJson: it is none, or names a key twice.
    """
    body = stream.read(limit + 1)
    if len(body) > limit:
        raise BodyTooLarge(f"A body has at most {limit:,} bytes.")
    try:
        return json.loads(body.decode(), object_pairs_hook=_without_twins, parse_constant=_refuse_constant)
    except UnicodeDecodeError:
        raise MalformedJson("The body is not UTF-8.") from None
    except RecursionError:
        raise MalformedJson("The body is nested too deeply.") from None
    except json.JSONDecodeError as error:
        raise MalformedJson(f"The body is not valid JSON at line {error.lineno}, column {error.colno}.") from None
    except ValueError:
        raise MalformedJson("A number in the body has too many digits.") from None


def _without_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Two parsers may take different ones of two equal keys, and so two different amounts."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twin = next(name for name in names if names.count(name) > 1)
        raise MalformedJson(f"The key {twin[:80]!r} appears twice in one object.")
    return found


def _refuse_constant(name: str) -> NoReturn:
    raise MalformedJson(f"{name} is not JSON.")
