"""The linter of migrations notices each thing that a deploy must not do, and nothing else."""

from functools import cache
from typing import Any

import pytest
from django.contrib.postgres import operations as postgres
from django.core.management import call_command
from django.db import migrations, models
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.state import ProjectState

from loyalty_site import migration_lint
from loyalty_site.migration_lint import BASELINE, LARGE, lint, lint_migrations

CARD_INDEX = models.Index(fields=["created_at"], name="card_newest")
POINTS = models.CheckConstraint(condition=models.Q(points_balance__lt=10), name="few")


@cache
def tables() -> ProjectState:
    return MigrationLoader(None).project_state([("loyalty", BASELINE["loyalty"])])


def found(*operations: Any, **attributes: Any) -> list[str]:
    migration = type("Migration", (migrations.Migration,), {"operations": operations, **attributes})
    return [finding.name for finding in lint(migration("0099_test", "loyalty"), tables())]


def sql(text: Any) -> migrations.RunSQL:
    return migrations.RunSQL(text, migrations.RunSQL.noop)


def nothing(apps, schema_editor):
    pass


@pytest.mark.parametrize(
    ("operation", "name"),
    [
        (migrations.RemoveField("card", "qr_token"), "RemoveField card.qr_token"),
        (migrations.DeleteModel("Reward"), "DeleteModel reward"),
        (migrations.RenameField("Card", "qr_token", "token"), "RenameField card.qr_token"),
        (migrations.RenameModel("Reward", "Gift"), "RenameModel reward"),
        (migrations.AlterModelTable("Reward", "gift"), "AlterModelTable reward"),
        (migrations.AddField("reward", "colour", models.CharField(max_length=9)), "AddField reward.colour"),
        # Django takes the default away again once the old rows have it, so running code inserts nulls.
        (migrations.AddField("reward", "size", models.IntegerField(default=1)), "AddField reward.size"),
        (migrations.AddField("card", "size", models.IntegerField(null=True, db_index=True)), "AddField card.size"),
        (
            migrations.AddField("card", "twin", models.ForeignKey("loyalty.card", models.PROTECT, null=True)),
            "AddField card.twin",
        ),
        (migrations.AlterField("idempotencykey", "user", models.IntegerField()), "AlterField idempotencykey.user"),
        (migrations.AlterField("store", "name", models.CharField(max_length=3)), "AlterField store.name"),
        (migrations.AlterField("store", "name", models.IntegerField()), "AlterField store.name"),
        (
            migrations.AlterField("customer", "first_name", models.CharField(max_length=150, db_index=True)),
            "AlterField customer.first_name",
        ),
        (migrations.AddIndex("card", CARD_INDEX), "AddIndex card.card_newest"),
        (migrations.AddConstraint("cardbalance", POINTS), "AddConstraint cardbalance.few"),
        (
            migrations.AddConstraint("card", models.UniqueConstraint(fields=["status"], name="one")),
            "AddConstraint card.one",
        ),
        (migrations.RunSQL("UPDATE loyalty_store SET name = name"), "RunSQL"),
        (migrations.RunPython(nothing), "RunPython"),
        (sql("ALTER TABLE loyalty_card DROP COLUMN qr_token"), "RunSQL DROP COLUMN"),
        (sql("ALTER TABLE loyalty_card DROP qr_token;"), "RunSQL DROP qr_token"),
        (sql("drop table loyalty_reward"), "RunSQL drop table"),
        (sql("ALTER TABLE loyalty_card RENAME qr_token TO token"), "RunSQL RENAME"),
        (sql("ALTER TABLE loyalty_card ALTER qr_token SET NOT NULL"), "RunSQL SET NOT NULL"),
        (sql(["SELECT 1", "CREATE UNIQUE INDEX one ON loyalty_card (status)"]), "RunSQL CREATE UNIQUE INDEX"),
        (sql([("ALTER TABLE t ALTER COLUMN a TYPE bigint", None)]), "RunSQL ALTER COLUMN a TYPE"),
        (sql("LOCK TABLE loyalty_card"), "RunSQL LOCK TABLE"),
        (
            migrations.SeparateDatabaseAndState(database_operations=[migrations.DeleteModel("Reward")]),
            "DeleteModel reward",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_it_notices(operation, name):
    assert found(operation) == [name]


@pytest.mark.parametrize(
    "operation",
    [
        migrations.AddField("card", "colour", models.CharField(max_length=9, db_default="")),
        migrations.AddField("card", "colour", models.CharField(max_length=9, null=True)),
        migrations.AddField("card", "friends", models.ManyToManyField("loyalty.card")),
        migrations.AddField(
            "card", "twin", models.ForeignKey("loyalty.card", models.PROTECT, null=True, db_index=False)
        ),
        migrations.AddIndex("store", models.Index(fields=["name"], name="store_name")),
        migrations.AlterField("store", "name", models.CharField(max_length=900)),
        migrations.AlterField("store", "name", models.TextField()),
        migrations.AlterField("store", "name", models.CharField(max_length=900, null=True)),
        postgres.AddConstraintNotValid("cardbalance", POINTS),
        migrations.RemoveIndex("card", "card_exempt"),
        sql("CREATE INDEX  CONCURRENTLY one ON loyalty_card (status)"),
        sql("ALTER TABLE loyalty_card ALTER qr_token DROP NOT NULL, DROP CONSTRAINT one"),
        sql("UPDATE loyalty_store SET name = 'CREATE INDEX' -- DROP TABLE loyalty_store"),
        migrations.RunPython(nothing, migrations.RunPython.noop),
        migrations.SeparateDatabaseAndState(state_operations=[migrations.DeleteModel("Reward")]),
    ],
    ids=lambda operation: operation.describe()[:40],
)
def test_it_lets_pass(operation):
    assert found(operation) == []


def test_a_table_that_the_migration_makes_is_used_by_nobody_yet():
    made = migrations.CreateModel("Wing", [("id", models.BigAutoField(primary_key=True))])

    assert (
        found(
            made,
            migrations.AddField("wing", "colour", models.CharField(max_length=9)),
            migrations.AlterField("wing", "colour", models.CharField(max_length=3)),
            migrations.RemoveField("wing", "colour"),
        )
        == []
    )


def test_a_field_is_compared_with_what_an_operation_before_made_of_it():
    wide = migrations.AlterField("store", "name", models.CharField(max_length=900))
    narrow = migrations.AlterField("store", "name", models.CharField(max_length=600))

    assert found(wide, narrow) == ["AlterField store.name"]


def test_an_index_is_built_beside_running_tills_and_alone():
    beside = postgres.AddIndexConcurrently("card", CARD_INDEX)
    nullable = migrations.AddField("card", "colour", models.CharField(max_length=9, null=True))

    assert found(beside, atomic=False) == []
    assert found(beside, nullable, atomic=False) == ["AddField"]


class TestAReview:
    drop = migrations.RemoveField("card", "qr_token")
    name = "RemoveField card.qr_token"

    def test_lets_what_it_names_pass(self):
        assert found(self.drop, reviewed={self.name: "No release since 1.4 reads or writes it."}) == []

    def test_says_why(self):
        assert found(self.drop, reviewed={self.name: "because"}) == [self.name]

    def test_covers_nothing_else(self):
        other = migrations.DeleteModel("Reward")

        assert found(self.drop, other, reviewed={self.name: "No release since 1.4 reads or writes it."}) == [
            "DeleteModel reward"
        ]

    def test_of_nothing_is_a_finding(self):
        assert found(reviewed={self.name: "No release since 1.4 reads or writes it."}) == [f"reviewed {self.name}"]


def test_our_own_migrations_hurt_nobody(capsys):
    assert lint_migrations() == []

    call_command("lint_migrations")

    assert capsys.readouterr().out == "No migration hurts the release that still runs.\n"


def test_all_that_came_after_the_baseline_are_looked_at(monkeypatch, capsys):
    monkeypatch.setitem(migration_lint.BASELINE, "loyalty", "0003_requests_once_merchant_changes")

    with pytest.raises(SystemExit, match="1"):
        call_command("lint_migrations")

    told = capsys.readouterr().out.splitlines()
    assert len(told) == 2
    assert told[0].startswith("loyalty.0004_cards_out_of_use: AddIndex card.card_out_of_use: builds an index while")


def test_the_baseline_and_the_large_tables_exist():
    disk = MigrationLoader(None).disk_migrations

    assert {(app, name) for app, name in BASELINE.items()} <= set(disk)
    assert {app for app, _ in disk} & {"loyalty", "wallet", "notifications", "loyalty_site"} == BASELINE.keys()
    state = MigrationLoader(None).project_state()
    assert {(app, model) for app, names in LARGE.items() for model in names} <= state.models.keys()
