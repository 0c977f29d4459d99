"""Who may do what in the back office: your own keys, and the memberships of a merchant."""

from typing import Any

from django.db.models import QuerySet
from django.urls import path
from rest_framework import serializers

from loyalty import errors
from loyalty.api.admin.finding import find_membership
from loyalty.api.admin.keys import KeyIn, NewUserKeyOut, UserKeyOut
from loyalty.api.fields import In, Text
from loyalty.api.operations import Access, operation
from loyalty.api.pages import PageQuery
from loyalty.api.views import AdminView, AskedByUser
from loyalty.models import Membership, UserApiKey
from loyalty.services import keys, setting_up
from loyalty.services.keys import IssuedKey

ROLES = "A manager may change what is the merchant's; support reads it and gives points back."
ROLE: dict[str, Any] = {"choices": Membership.Role.choices, "help_text": ROLES}


class UserKeys(AdminView):
    @operation(
        name="admin_api_keys_list",
        summary="List your keys",
        query=PageQuery,
        answer=UserKeyOut,
        pages=("-pk",),
        access=Access.SELF,
    )
    def get(self, asked: AskedByUser) -> "QuerySet[UserApiKey]":
        """Newest first, with those that are revoked or have expired. No key is shown in full."""
        return UserApiKey.objects.filter(user=asked.user)

    @operation(
        name="admin_api_keys_issue",
        summary="Issue a key for a program of yours",
        body=KeyIn,
        answer=NewUserKeyOut,
        status=201,
        refusals=[errors.InvalidInput],
        changes=True,
        secret=True,
        access=Access.SELF,
    )
    def post(self, asked: AskedByUser) -> IssuedKey[UserApiKey]:
        """The answer is the only place where the key is ever shown. Whatever signs in with it may do what you may."""
        return keys.issue_user_key(user=asked.user, **asked.body, at=asked.at)


class RevokeUserKey(AdminView):
    @operation(
        name="admin_api_keys_revoke",
        summary="Revoke a key of yours",
        answer=UserKeyOut,
        refusals=[errors.KeyNotFound, errors.NothingToChange],
        changes=True,
        access=Access.SELF,
    )
    def post(self, asked: AskedByUser, key_id: int) -> UserApiKey:
        """From now on it opens nothing, also if it is the one that this was asked with. This cannot be undone."""
        return keys.revoke_user_key(user=asked.user, key_id=key_id, at=asked.at)


class MembershipOut(serializers.Serializer[Membership]):
    """What a user may do for a merchant."""

    example = {"id": 21, "merchant_id": 4, "username": "ana", "role": "support"}

    id = serializers.IntegerField()
    merchant_id = serializers.IntegerField()
    username = serializers.CharField(source="user.username")
    role = serializers.ChoiceField(**ROLE)


class NewMembershipIn(In):
    example = {"username": "ana", "role": "support"}

    username = Text(max_length=150, help_text="Exactly as the user logs in.")
    role = serializers.ChoiceField(**ROLE)


class MembershipIn(In):
    example = {"role": "manager"}

    role = serializers.ChoiceField(**ROLE)


class Memberships(AdminView):
    @operation(
        name="admin_memberships_list",
        summary="List the users who look after a merchant",
        query=PageQuery,
        answer=MembershipOut,
        refusals=[errors.MerchantNotFound],
        pages=("-pk",),
        access=Access.MANAGE,
    )
    def get(self, asked: AskedByUser, merchant_id: int) -> "QuerySet[Membership]":
        """For managers. Platform admins look after every merchant and are not listed. Newest first."""
        return Membership.objects.filter(merchant=asked.merchant(merchant_id)).select_related("user")

    @operation(
        name="admin_memberships_add",
        summary="Let a user look after a merchant",
        body=NewMembershipIn,
        answer=MembershipOut,
        status=201,
        refusals=[errors.MerchantNotFound, errors.UserNotFound, errors.AlreadyMember, errors.InvalidInput],
        changes=True,
    )
    def post(self, asked: AskedByUser, merchant_id: int) -> Membership:
        """A platform admin has made the user before; only an exact name is found. Platform admins need none."""
        merchant = asked.merchant(merchant_id)
        return setting_up.add_membership(merchant=merchant, **asked.body, actor=asked.actor, at=asked.at)


class OneMembership(AdminView):
    @operation(
        name="admin_memberships_change",
        summary="Let a user do more or less for a merchant",
        body=MembershipIn,
        answer=MembershipOut,
        refusals=[errors.MembershipNotFound, errors.OwnMembership, errors.NothingToChange, errors.InvalidInput],
        changes=True,
    )
    def patch(self, asked: AskedByUser, membership_id: int) -> Membership:
        """Your own is changed by another manager, or by a platform admin."""
        merchant = find_membership(asked, membership_id).merchant
        return setting_up.change_membership(
            merchant=merchant, membership_id=membership_id, **asked.body, actor=asked.actor, at=asked.at
        )

    @operation(
        name="admin_memberships_remove",
        summary="Take the membership of a user away",
        answer=None,
        status=204,
        refusals=[errors.MembershipNotFound, errors.OwnMembership],
        changes=True,
    )
    def delete(self, asked: AskedByUser, membership_id: int) -> None:
        """The user sees nothing more of the merchant. Your own is removed by somebody else."""
        merchant = find_membership(asked, membership_id).merchant
        setting_up.remove_membership(merchant=merchant, membership_id=membership_id, actor=asked.actor, at=asked.at)


urlpatterns = [
    path("api-keys", UserKeys.as_view()),
    path("api-keys/<id:key_id>/revoke", RevokeUserKey.as_view()),
    path("merchants/<id:merchant_id>/memberships", Memberships.as_view()),
    path("memberships/<id:membership_id>", OneMembership.as_view()),
]
