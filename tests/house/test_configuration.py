"""Code, `.env.example` and docs/configuration.md name the same environment variables with the same defaults."""

import ast
import re
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("loyalty_site", "loyalty", "wallet", "notifications")
FROM_SETTINGS = {"str", "int", "bool", "list", "db_url", "email_url", "secret", "choice", "address"}
# Set by our own launcher or by Django's, not by people.
INTERNAL = {
    "LOYALTY_EMBEDDED_DATABASE",
    "LOYALTY_EMBEDDED_BROKER",
    "LOYALTY_WALLET_STAND_INS",
    "DJANGO_SETTINGS_MODULE",
}


class Variable(NamedTuple):
    """A variable that the code reads, with its default as people would write it; None: it is computed."""

    name: str
    default: str | None


def settings_variables() -> dict[str, Variable]:
    """What settings.py asks `env` for."""
    found = {}
    for call in calls(ROOT / "loyalty_site" / "settings.py"):
        function = call.func
        if isinstance(function, ast.Attribute) and function.attr in FROM_SETTINGS and named(function.value) == "env":
            [name] = [ast.literal_eval(argument) for argument in call.args]
            [default] = [keyword.value for keyword in call.keywords if keyword.arg == "default"]
            found[name] = Variable(name, written(default))
    return found


def read_elsewhere() -> set[str]:
    """What any other module takes from `os.environ`."""
    sources = [ROOT / "manage.py", *(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))]
    found = set()
    for path in sources:
        for call in calls(path):
            function = call.func
            if not isinstance(function, ast.Attribute) or function.attr not in ("get", "setdefault", "getenv"):
                continue
            if named(function.value) in ("os", "os.environ") and isinstance(call.args[0], ast.Constant):
                found.add(str(call.args[0].value))
    return found


def read_by_compose() -> set[str]:
    """What compose.yaml takes from the environment for itself."""
    return set(re.findall(r"(?<!\$)\$\{([A-Z_]+)", (ROOT / "compose.yaml").read_text()))


def calls(path: Path) -> list[ast.Call]:
    return [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]


def named(node: ast.expr) -> str:
    return ast.unparse(node)


def written(default: ast.expr) -> str | None:
    try:
        value = ast.literal_eval(default)
    except ValueError:
        return None
    if isinstance(value, list):
        return ",".join(value)
    return str(value).lower() if isinstance(value, bool) else str(value)


def example_lines() -> dict[str, tuple[bool, str]]:
    """Per variable of .env.example: whether the line is only a comment, and the value."""
    lines = re.findall(r"^(# )?([A-Z][A-Z_]+)=(.*)$", (ROOT / ".env.example").read_text(), re.MULTILINE)
    names = [name for _, name, _ in lines]
    assert len(names) == len(set(names))
    return {name: (bool(comment), value) for comment, name, value in lines}


def documented() -> dict[str, str]:
    """Per variable of the page: what stands in the column of defaults."""
    rows = re.findall(r"^\| `([A-Z_]+)` \| (.+?) \|", (ROOT / "docs" / "configuration.md").read_text(), re.MULTILINE)
    assert len(rows) == len(dict(rows))
    return {name: default.strip("`") for name, default in rows}


def test_the_page_names_every_variable_that_the_code_reads_and_no_other():
    assert set(documented()) == settings_variables().keys() | read_elsewhere() | read_by_compose()


def test_the_example_names_every_variable_that_people_set_and_no_other():
    assert set(example_lines()) == set(documented()) - INTERNAL


def test_the_internal_variables_are_read_by_the_code():
    assert read_elsewhere() >= INTERNAL


@pytest.mark.parametrize("variable", settings_variables().values(), ids=lambda variable: variable.name)
def test_a_documented_default_is_the_one_of_the_code(variable):
    if variable.default is None:
        return
    assert documented()[variable.name] == (variable.default or "empty")
    is_comment, value = example_lines()[variable.name]
    if is_comment:
        assert value == variable.default


def test_what_production_needs_is_not_a_comment_in_the_example():
    needed = [name for name, (is_comment, _) in example_lines().items() if not is_comment]

    engines = ["DATABASE_URL", "REDIS_URL", "EMAIL_URL"]
    assert needed[:7] == ["SECRET_KEY", "ALLOWED_HOSTS", "PUBLIC_URL", *engines, "PIN_PEPPER"]
