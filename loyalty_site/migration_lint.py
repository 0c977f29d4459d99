"""Which migrations would hurt the release that still runs, or hold up its tills, while they are applied.

A deploy applies migrations first and then replaces the servers one by one, so for some minutes old code works on the
new tables. docs/deploying-changes.md tells the rule; this checks it over the operations of each migration.

A migration that knows better says so in a class attribute, for each finding by its name:

    reviewed = {"RemoveField card.colour": "No release since 1.4 reads or writes it."}
"""

import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from django.contrib.postgres import operations as postgres
from django.db import connection, models
from django.db.migrations import Migration, operations
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.operations.base import Operation
from django.db.migrations.state import ProjectState
from django.db.models.fields import NOT_PROVIDED

# The newest migrations that are older than this rule: they made tables that nothing was using yet.
BASELINE = {
    "loyalty": "0004_cards_out_of_use",
    "wallet": "0001_passes_credentials_and_runs",
    "notifications": "0002_newest_of_scope",
    "loyalty_site": "0002_install_schedules",
}
# Tables with a row for each customer, sale or mail. An index on others is built in a moment.
LARGE = {
    "loyalty": {
        "customer",
        "card",
        "cardbalance",
        "transaction",
        "receiptclaim",
        "idempotencykey",
        "exemptionchange",
    },
    "wallet": {"pass", "registration", "syncfailure"},
    "notifications": {"message"},
    "loyalty_site": set(),
}
LEAST_REASON = 20  # characters
# What does no harm outside of a transaction.
CONCURRENT = (
    postgres.AddIndexConcurrently,
    postgres.RemoveIndexConcurrently,
    postgres.ValidateConstraint,
    operations.RunPython,
    operations.RunSQL,
)
HARMFUL_SQL = {
    r"\bDROP\s+(TABLE|COLUMN)\b|\bDROP\s+(?!CONSTRAINT|INDEX|TRIGGER|FUNCTION|DEFAULT|NOT\b|VIEW)\w+\s*(,|;|$)": (
        "drops what running code may use"
    ),
    r"\bRENAME\b": "renames what running code may use",
    r"\bSET\s+NOT\s+NULL\b": "reads the whole table under a lock, and running code may write nulls",
    r"\bCREATE\s+(UNIQUE\s+)?INDEX\b(?!\s+CONCURRENTLY)": "builds an index while nobody can write",
    r"\bALTER\s+(COLUMN\s+)?\S+\s+(SET\s+DATA\s+)?TYPE\b": "may write the whole table anew",
    r"\b(LOCK\s+TABLE|TRUNCATE|VACUUM\s+FULL|CLUSTER)\b": "locks everybody out of a table",
}


class Finding(NamedTuple):
    """An operation that a deploy must not do. `name` is what a migration names in `reviewed`."""

    migration: str
    name: str
    why: str

    def __str__(self) -> str:
        return f"{self.migration}: {self.name}: {self.why}"


class Place(NamedTuple):
    """Where an operation stands: the app, the tables before it, and models that the migration itself made."""

    app: str
    state: ProjectState
    new_models: set[str]

    def is_used(self, model: str) -> bool:
        return model.lower() not in self.new_models

    def is_large(self, model: str) -> bool:
        return self.is_used(model) and model.lower() in LARGE[self.app]

    def field(self, model: str, name: str) -> Any:
        return self.state.apps.get_model(self.app, model)._meta.get_field(name)


Findings = Iterator[tuple[str, str]]


def lint_migrations() -> list[Finding]:
    """All findings in migrations of ours that came after the baseline."""
    loader = MigrationLoader(None)
    found = []
    for app, newest in BASELINE.items():
        for (label, name), migration in sorted(loader.disk_migrations.items()):
            if label == app and name > newest:
                found += lint(migration, loader.project_state((app, name), at_end=False))
    return found


def lint(migration: Migration, state: ProjectState) -> list[Finding]:
    """The findings of one migration, applied to this state, without those that it has reviewed."""
    found = dict(_of_migration(migration, state))
    reviewed: dict[str, str] = getattr(migration, "reviewed", {})
    for name, reason in reviewed.items():
        if name not in found:
            found[f"reviewed {name}"] = "there is no such finding"
        elif len(reason.strip()) >= LEAST_REASON:
            del found[name]
        else:
            found[name] += "; the reason why it may stay says nothing"
    return [Finding(f"{migration.app_label}.{migration.name}", name, why) for name, why in found.items()]


def _of_migration(migration: Migration, state: ProjectState) -> Findings:
    place = Place(migration.app_label, state.clone(), set())
    for operation in migration.operations:
        yield from _of_operation(operation, place, atomic=migration.atomic)


def _of_operation(operation: Operation, place: Place, *, atomic: bool) -> Findings:
    if isinstance(operation, operations.SeparateDatabaseAndState):
        # What is changed in the state alone hurts nobody.
        beside = place._replace(state=place.state.clone())
        for inner in operation.database_operations:
            yield from _of_operation(inner, beside, atomic=atomic)
    elif not atomic and not isinstance(operation, CONCURRENT):
        yield type(operation).__name__, "has no place in a migration without a transaction: half of it may stay"
    if isinstance(operation, operations.CreateModel):
        place.new_models.add(operation.name_lower)
    for kind, look in LOOKS.items():
        if isinstance(operation, kind):
            yield from look(operation, place)
    operation.state_forwards(place.app, place.state)


def _name(operation: Operation, *parts: str) -> str:
    return f"{type(operation).__name__} {'.'.join(parts)}"


def _goes(operation: Any, place: Place) -> Findings:
    model = getattr(operation, "model_name", "").lower()
    what = getattr(operation, "old_name", operation.name).lower()
    if place.is_used(model or what):
        why = "running code still uses it; take it out of the code first, and of the tables in the next release"
        yield _name(operation, *filter(None, (model, what))), why


def _comes(operation: operations.AddField, place: Place) -> Findings:
    field: Any = operation.field
    name = _name(operation, operation.model_name_lower, operation.name_lower)
    if not place.is_used(operation.model_name):
        return
    is_filled = field.many_to_many or field.null or field.db_default is not NOT_PROVIDED or field.generated
    if not is_filled:
        yield name, "running code does not fill it, and only `db_default` does so for it; a `default` does not"
    elif place.is_large(operation.model_name) and (field.db_index or field.unique):
        yield name, "builds an index while nobody can write; add it without one, then AddIndexConcurrently"


def _changes(operation: operations.AlterField, place: Place) -> Findings:
    new: Any = operation.field
    name = _name(operation, operation.model_name_lower, operation.name_lower)
    if not place.is_used(operation.model_name):
        return
    old = place.field(operation.model_name, operation.name)
    if old.null and not new.null:
        yield name, "reads the whole table under a lock, and running code may write nulls; add a CHECK first"
    elif not _fits(old, new):
        yield name, "writes the whole table anew under a lock; add a second column instead"
    elif place.is_large(operation.model_name) and (new.db_index or new.unique) and not (old.db_index or old.unique):
        yield name, "builds an index while nobody can write; use AddIndexConcurrently"


def _fits(old: Any, new: Any) -> bool:
    """Whether the new type takes the old values as they lie there."""
    before, after = (field.db_type(connection) or "" for field in (old, new))
    lengths = [re.fullmatch(r"varchar\((\d+)\)", kind) for kind in (before, after)]
    if lengths[0] and after in ("text", "varchar"):
        return True
    if lengths[0] and lengths[1]:
        return int(lengths[1][1]) >= int(lengths[0][1])
    return before == after


def _indexes(operation: operations.AddIndex, place: Place) -> Findings:
    if not isinstance(operation, postgres.AddIndexConcurrently) and place.is_large(operation.model_name):
        why = "builds an index while nobody can write; use AddIndexConcurrently, in a migration with atomic = False"
        yield _name(operation, operation.model_name_lower, operation.index.name), why


def _constrains(operation: operations.AddConstraint, place: Place) -> Findings:
    if isinstance(operation, postgres.AddConstraintNotValid) or not place.is_large(operation.model_name):
        return
    name = _name(operation, operation.model_name_lower, operation.constraint.name)
    if isinstance(operation.constraint, models.CheckConstraint):
        yield name, "reads the whole table under a lock; use AddConstraintNotValid, then ValidateConstraint"
    else:
        yield name, "builds an index while nobody can write; build it CONCURRENTLY by RunSQL first"


def _runs_sql(operation: operations.RunSQL, place: Place) -> Findings:
    if operation.reverse_sql is None:
        yield "RunSQL", "has no reverse"
    text = re.sub(r"--[^\n]*|/\*.*?\*/|'[^']*'", " ", _statements(operation.sql), flags=re.DOTALL)
    for pattern, why in HARMFUL_SQL.items():
        if found := re.search(pattern, text, re.IGNORECASE):
            yield f"RunSQL {' '.join(found[0].split()).rstrip(' ,;')}", why


def _statements(sql: Any) -> str:
    if isinstance(sql, str):
        return sql
    return ";\n".join(one if isinstance(one, str) else one[0] for one in sql)


def _runs_python(operation: operations.RunPython, place: Place) -> Findings:
    if operation.reverse_code is None:
        yield "RunPython", "has no reverse; RunPython.noop will do where nothing is to be undone"


LOOKS: dict[type | tuple[type, ...], Callable[[Any, Place], Findings]] = {
    (
        operations.RemoveField,
        operations.DeleteModel,
        operations.RenameField,
        operations.RenameModel,
        operations.AlterModelTable,
    ): _goes,
    operations.AddField: _comes,
    operations.AlterField: _changes,
    operations.AddIndex: _indexes,
    operations.AddConstraint: _constrains,
    operations.RunSQL: _runs_sql,
    operations.RunPython: _runs_python,
}
