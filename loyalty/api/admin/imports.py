"""Imports of cards and balances."""

from typing import Any

from django.db.models import QuerySet
from django.urls import path
from rest_framework import serializers

from loyalty import errors
from loyalty.api.fields import In
from loyalty.api.files import CsvParser, FileField, JsonLinesParser
from loyalty.api.operations import Access, operation
from loyalty.api.pages import PageQuery
from loyalty.api.views import AdminView, AskedByUser
from loyalty.models import CardImport
from loyalty.services.imports import ImportReport, import_cards, preview_import


class ImportQuery(In):
    dry_run = serializers.BooleanField(
        required=False, default=False, help_text="Tell what would happen, change nothing."
    )
    skip_bad = serializers.BooleanField(required=False, default=False, help_text="Leave out lines with problems.")


class FileIn(In):
    """A file. docs/importing.md describes its columns."""

    example = {"file": "external_id,points\nK-1001,1250\n"}

    file = FileField()


class LineProblemOut(serializers.Serializer[Any]):
    """What is wrong with one value of a line."""

    line = serializers.IntegerField()
    column = serializers.CharField(allow_blank=True)
    reason = serializers.CharField()


class ImportReportOut(serializers.Serializer[ImportReport]):
    """What the import did, or would do."""

    example = {
        "import_id": 4,
        "outcome": "imported",
        "rows": 1200,
        "imported": 1198,
        "imported_before": 0,
        "skipped": 2,
        "finished_at": "2026-03-31T12:05:00Z",
        "problem_count": 2,
        "problems": [{"line": 17, "column": "email", "reason": "is not an e-mail address, such as ana@example.com"}],
    }

    import_id = serializers.IntegerField(allow_null=True)
    outcome = serializers.SerializerMethodField(help_text="checked, imported or already_imported.")
    rows = serializers.IntegerField()
    imported = serializers.IntegerField(help_text="Those imported before an interruption included.")
    imported_before = serializers.IntegerField()
    skipped = serializers.IntegerField(help_text="Lines with problems, left out.")
    finished_at = serializers.DateTimeField(allow_null=True)
    problem_count = serializers.IntegerField(source="problems.count")
    problems = LineProblemOut(many=True, source="problems.as_json", help_text="The first of them.")

    def get_outcome(self, report: ImportReport) -> str:
        return str(report.outcome).replace(" ", "_")


class ImportOut(serializers.Serializer[CardImport]):
    """An import that was begun."""

    example = {
        "id": 4,
        "file_name": "cards.csv",
        "actor": "ana",
        "rows": 1200,
        "imported": 1198,
        "skipped": 2,
        "created_at": "2026-03-31T12:04:00Z",
        "finished_at": "2026-03-31T12:05:00Z",
    }

    id = serializers.IntegerField()
    file_name = serializers.CharField()
    actor = serializers.CharField()
    rows = serializers.IntegerField()
    imported = serializers.IntegerField()
    skipped = serializers.IntegerField()
    created_at = serializers.DateTimeField()
    finished_at = serializers.DateTimeField(allow_null=True, help_text="Null: interrupted; send the file again.")


class Imports(AdminView):
    parser_classes = (CsvParser, JsonLinesParser)

    @operation(
        name="admin_imports_list",
        summary="List imports",
        query=PageQuery,
        answer=ImportOut,
        pages=("-pk",),
        refusals=[errors.MerchantNotFound],
        access=Access.READ,
    )
    def get(self, asked: AskedByUser, merchant_id: int) -> "QuerySet[CardImport]":
        """The newest first."""
        return CardImport.objects.filter(merchant=asked.merchant(merchant_id))

    @operation(
        name="admin_imports_add",
        summary="Import cards and balances",
        query=ImportQuery,
        body=FileIn,
        body_media_types=("text/csv", "application/json"),
        answer=ImportReportOut,
        refusals=[errors.MerchantNotFound, errors.ImportRefused, errors.InvalidInput, errors.EnrolmentClosed],
        changes=True,
        commits=True,
    )
    def post(self, asked: AskedByUser, merchant_id: int) -> ImportReport:
        """A CSV file, or a JSON array of objects with the same column names.

        Every line is checked before the first card is created. The same file is imported once: sent again, it goes
        on where it was interrupted, or answers `already_imported`. Nobody is written to.
        """
        wanted = {
            "merchant": asked.merchant(merchant_id),
            "path": asked.body["file"].path,
            "skip_bad": asked.query["skip_bad"],
            "at": asked.at,
        }
        return preview_import(**wanted) if asked.query["dry_run"] else import_cards(**wanted, actor=asked.actor)


urlpatterns = [path("merchants/<id:merchant_id>/imports", Imports.as_view())]
