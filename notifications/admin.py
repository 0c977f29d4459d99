"""The outbox in the admin: what was sent to whom, what was not, and sending it again."""

from typing import Any, cast

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.core.paginator import Paginator
from django.db import connections
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.functional import cached_property
from django.utils.html import format_html

from notifications import services
from notifications.errors import MessageError, MessageNotRendered
from notifications.models import Message


class EstimatedCountPaginator(Paginator):  # type: ignore[type-arg]
    """Counts exactly up to a limit. Beyond it, a whole table is estimated and a filtered list ends at the limit."""

    count_up_to = 10_000

    @cached_property
    def count(self) -> int:
        rows = cast("QuerySet[Any]", self.object_list)
        counted = rows.order_by()[: self.count_up_to + 1].count()
        if counted <= self.count_up_to or rows.query.has_filters():
            return counted
        return max(counted, self._estimate(rows))

    def _estimate(self, rows: "QuerySet[Any]") -> int:
        connection = connections[rows.db]
        table = connection.ops.quote_name(rows.model._meta.db_table)
        with connection.cursor() as cursor:
            cursor.execute("SELECT reltuples::bigint FROM pg_class WHERE oid = %s::regclass", [table])
            return int(cursor.fetchone()[0])


@admin.register(Message)
class MessageAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    list_display = (
        "id",
        "kind",
        "recipient",
        "status",
        "attempts",
        "next_attempt_at",
        "sent_at",
        "last_error",
    )
    list_filter = ("status", "kind")
    # Each of these has an index.
    search_fields = ("recipient__istartswith", "reference__exact", "dedupe_key__exact")
    search_help_text = "The beginning of an e-mail address, or exactly a card's id or a dedupe key."
    ordering = ("-id",)
    sortable_by = ()
    show_facets = admin.ShowFacets.NEVER
    show_full_result_count = False
    paginator = EstimatedCountPaginator
    list_per_page = 50
    actions = ("send_selected_again",)
    fields = (
        *("kind", "scope", "reference", "recipient", "locale", "status", "attempts", "resends", "last_error"),
        *("created_at", "next_attempt_at", "lease_until", "sent_at", "cancelled_at", "dedupe_key", "context", "mail"),
    )
    readonly_fields = fields

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Message | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Message | None = None) -> bool:
        return False

    def has_send_again_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("notifications.send_again_message")

    @admin.display(description="The mail")
    def mail(self, message: Message) -> str:
        try:
            rendered = services.preview(message)
        except MessageNotRendered as error:
            return str(error)
        # The sandbox keeps whatever a name or a figure may contain away from the admin's session.
        return format_html(
            '<h3>{}</h3><pre>{}</pre><iframe sandbox srcdoc="{}" title="HTML" width="100%" height="520"></iframe>',
            rendered.subject,
            rendered.text,
            rendered.html,
        )

    @admin.action(description="Send again", permissions=["send_again"])
    def send_selected_again(self, request: HttpRequest, queryset: "QuerySet[Message]") -> None:
        refusals: dict[str, int] = {}
        sent = 0
        for message_id in list(queryset.values_list("id", flat=True)):
            try:
                self._send_again(request, message_id)
            except MessageError as refusal:
                refusals[str(refusal)] = refusals.get(str(refusal), 0) + 1
            else:
                sent += 1
        self.message_user(request, f"{sent} messages will be sent again.", messages.SUCCESS)
        for sentence, count in refusals.items():
            self.message_user(request, f"{count} not: {sentence}", messages.WARNING)

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(self.send_again_view)
        return [
            path("<int:message_id>/send-again/", view, name="notifications_message_send_again"),
            *super().get_urls(),
        ]

    def send_again_view(self, request: HttpRequest, message_id: int) -> HttpResponse:
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        if not self.has_send_again_permission(request):
            raise PermissionDenied
        if not self.get_queryset(request).filter(id=message_id).exists():
            raise Http404
        try:
            self._send_again(request, message_id)
        except MessageError as refusal:
            self.message_user(request, str(refusal), messages.ERROR)
        else:
            self.message_user(request, "The message will be sent again within a minute.", messages.SUCCESS)
        return HttpResponseRedirect(reverse("admin:notifications_message_change", args=[message_id]))

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        context = {"may_send_again": self.has_send_again_permission(request), **(extra_context or {})}
        return super().change_view(request, object_id, form_url, context)

    def _send_again(self, request: HttpRequest, message_id: int) -> None:
        message = services.send_again(message_id=message_id, at=timezone.now())
        self.log_change(request, message, "Asked for it to be sent again.")
