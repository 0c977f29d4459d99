"""Mail that is owed to customers: what became of it, and sending it again."""

from typing import Any

from django.db.models import QuerySet
from django.urls import path
from rest_framework import serializers

from loyalty import errors
from loyalty.api.admin.finding import find_card, find_message
from loyalty.api.fields import LARGEST_ID
from loyalty.api.operations import Access, operation
from loyalty.api.pages import PageQuery
from loyalty.api.store.answers import masked_email
from loyalty.api.views import AdminView, AskedByUser
from notifications import services
from notifications.errors import MessageAlreadyWaiting, MessageErased, MessageHasNoAddress, MessageNotFound
from notifications.models import Message, MessageQuerySet


class MessageOut(serializers.Serializer[Message]):
    """A mail that is owed to a customer."""

    example = {
        "id": 902,
        "kind": "loyalty_points_expiring",
        "merchant_id": 4,
        "card_id": 17,
        "recipient": "a…@e…",
        "locale": "fr",
        "status": "sent",
        "attempts": 1,
        "resends": 0,
        "created_at": "2026-03-31T02:00:01Z",
        "next_attempt_at": "2026-03-31T02:00:01Z",
        "sent_at": "2026-03-31T02:00:09Z",
        "cancelled_at": None,
    }

    id = serializers.IntegerField()
    kind = serializers.ChoiceField(choices=Message.Kind.choices)
    merchant_id = serializers.SerializerMethodField(help_text="On whose behalf it is sent.")
    card_id = serializers.SerializerMethodField(help_text="The card that it is about.")
    recipient = serializers.SerializerMethodField(help_text="Masked. Empty: the customer had no e-mail address.")
    locale = serializers.CharField()
    status = serializers.ChoiceField(
        choices=Message.Status.choices,
        help_text="`due` and `leased`: waiting. `undeliverable`: no address. `dead`: given up after all attempts.",
    )
    attempts = serializers.IntegerField(help_text="How often a mail server was asked to take it.")
    resends = serializers.IntegerField(help_text="How often a person asked for it to be sent again.")
    created_at = serializers.DateTimeField()
    next_attempt_at = serializers.DateTimeField(help_text="While it waits.")
    sent_at = serializers.DateTimeField(allow_null=True, help_text="When a mail server took it.")
    cancelled_at = serializers.DateTimeField(allow_null=True, help_text="When it was no longer true.")

    def get_merchant_id(self, message: Message) -> int:
        return int(message.scope)

    def get_card_id(self, message: Message) -> int:
        return int(message.reference)

    def get_recipient(self, message: Message) -> str:
        return masked_email(message.recipient) if "@" in message.recipient else message.recipient


class FullMessageOut(MessageOut):
    """A mail that is owed to a customer, its address, and why it has not arrived."""

    example: dict[str, Any] = {**MessageOut.example, "recipient": "ana@example.com", "last_error": ""}

    recipient = serializers.CharField(  # type: ignore[assignment]
        help_text="Empty: the customer had no e-mail address. `erased` after an erasure."
    )
    last_error = serializers.CharField(help_text="What the mail server said.")


class MessagesQuery(PageQuery):
    merchant_id = serializers.IntegerField(required=False, min_value=1, max_value=LARGEST_ID)
    card_id = serializers.IntegerField(required=False, min_value=1, max_value=LARGEST_ID)
    status = serializers.ChoiceField(choices=Message.Status.choices, required=False)
    kind = serializers.ChoiceField(choices=Message.Kind.choices, required=False)


class Messages(AdminView):
    @operation(
        name="admin_messages_list",
        summary="List messages",
        query=MessagesQuery,
        answer=MessageOut,
        refusals=[errors.MerchantNotFound, errors.CardNotFound],
        pages=("-pk",),
        access=Access.READ,
    )
    def get(self, asked: AskedByUser) -> "QuerySet[Message]":
        """Of all merchants that the user looks after, or about one merchant or card; the newest first."""
        rows = _of_merchants(asked)
        if "card_id" in asked.query:
            rows = rows.about(str(find_card(asked, asked.query["card_id"]).pk))
        return rows.filter(**{name: asked.query[name] for name in ("status", "kind") if name in asked.query})


class OneMessage(AdminView):
    @operation(
        name="admin_messages_get",
        summary="See a message",
        answer=FullMessageOut,
        refusals=[MessageNotFound],
        access=Access.READ,
    )
    def get(self, asked: AskedByUser, message_id: int) -> Message:
        """With the address that it goes to, and what the mail server said."""
        return find_message(asked, message_id)


class SendAgain(AdminView):
    @operation(
        name="admin_messages_send_again",
        summary="Send a message again",
        answer=MessageOut,
        refusals=[MessageNotFound, MessageAlreadyWaiting, MessageHasNoAddress, MessageErased],
        changes=True,
        card_of=lambda message: int(message.reference),
    )
    def post(self, asked: AskedByUser, message_id: int) -> Message:
        """Makes a message due that was sent, cancelled or given up. A worker sends it within seconds."""
        return services.send_again(message_id=find_message(asked, message_id).pk, at=asked.at)


def _of_merchants(asked: AskedByUser) -> MessageQuerySet:
    """Messages on behalf of the merchant that the query names, or of all that the user looks after."""
    merchant_id = asked.query.get("merchant_id")
    if merchant_id is not None:
        return Message.objects.filter(scope=str(asked.merchant(merchant_id).pk))
    if asked.user.is_superuser:
        return Message.objects.all()
    return Message.objects.filter(scope__in=[str(pk) for pk in asked.merchants.values_list("pk", flat=True)])


urlpatterns = [
    path("messages", Messages.as_view()),
    path("messages/<id:message_id>", OneMessage.as_view()),
    path("messages/<id:message_id>/send-again", SendAgain.as_view()),
]
