"""Long lists, page by page: each costs the same, however far one has come."""

from typing import Any

from django.db.models import Model, QuerySet
from rest_framework import serializers
from rest_framework.exceptions import NotFound
from rest_framework.pagination import CursorPagination
from rest_framework.request import Request

from loyalty.api.fields import In
from loyalty.api.problems import InvalidRequest

PAGE_SIZE, LARGEST_PAGE = 50, 200


class PageQuery(In):
    """The query of a list."""

    cursor = serializers.CharField(
        required=False, max_length=400, help_text="From `next` or `previous` of another page; do not make your own."
    )
    limit = serializers.IntegerField(required=False, min_value=1, max_value=LARGEST_PAGE, default=PAGE_SIZE)


class Pages(CursorPagination):
    page_size = PAGE_SIZE
    page_size_query_param = "limit"
    max_page_size = LARGEST_PAGE

    def __init__(self, *ordering: str) -> None:
        self.ordering = ordering

    def take(self, rows: "QuerySet[Any]", request: Request) -> list[Model]:
        """The rows of the page that the request asks for.

        Raises:
            InvalidRequest: the cursor is none of ours.
        """
        try:
            return self.paginate_queryset(rows, request) or []
        except (NotFound, ValueError):
            raise InvalidRequest({"cursor": ["This cursor is none that a page gave out."]}) from None

    def with_links(self, results: list[Any]) -> dict[str, Any]:
        return {"next": self.get_next_link(), "previous": self.get_previous_link(), "results": results}
