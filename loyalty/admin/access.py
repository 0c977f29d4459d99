"""Who may do what. A key or a PIN is shown once, on the page that answers the form which asked for it."""

from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from typing import Any, cast

from django import forms
from django.contrib import admin
from django.contrib.auth.models import User
from django.db.models import Model, QuerySet
from django.http import HttpRequest
from django.utils import timezone

from loyalty.admin.actions import Action, Outcome
from loyalty.admin.issuing import Issuing
from loyalty.admin.screens import MerchantFilter, Screen, ScreenForm, ViewOnly, minute_of
from loyalty.errors import InvalidInput, NothingToChange
from loyalty.models import Membership, StaffMember, StaffSession, StoreApiKey, UserApiKey
from loyalty.services import keys, setting_up, staff

OWN_PIN = "4 to 12 digits. Empty: six are drawn."


class PinForm(forms.Form):
    pin = forms.CharField(
        label="PIN", max_length=12, required=False, help_text=OWN_PIN, widget=forms.TextInput({"autocomplete": "off"})
    )


def new_pin(member: StaffMember, answers: Mapping[str, Any], actor: str, at: datetime) -> Outcome:
    issued = staff.reset_pin(
        merchant=member.merchant, staff_member_id=member.pk, pin=answers["pin"] or None, actor=actor, at=at
    )
    return Outcome(f"The new PIN of {member}:", secret=issued.pin)


def unlock(member: StaffMember, answers: Mapping[str, Any], actor: str, at: datetime) -> Outcome:
    staff.unlock_staff_member(merchant=member.merchant, staff_member_id=member.pk, actor=actor, at=at)
    return Outcome("Unlocked. Wrong PINs are counted anew.")


def revoke_store_key(key: StoreApiKey, answers: Mapping[str, Any], actor: str, at: datetime) -> Outcome:
    keys.revoke_store_key(merchant=key.store.merchant, key_id=key.pk, actor=actor, at=at)
    return Outcome("Revoked. The till that used this key needs another one.")


def revoke_user_key(key: UserApiKey, answers: Mapping[str, Any], actor: str, at: datetime) -> Outcome:
    keys.revoke_user_key(user=key.user, key_id=key.pk, at=at)
    return Outcome("Revoked. The program that used this key needs another one.")


def attempts(member: StaffMember, at: datetime) -> list[str]:
    """What the PIN has been through since it was last right."""
    facts = [f"Wrong PINs in a row: {member.failed_attempts}."]
    if member.locked_until and member.locked_until > at:
        facts.append(f"No PIN is accepted until {minute_of(member.locked_until)} (UTC).")
    return facts


MAY_CHANGE_STAFF = "loyalty.change_staffmember"
NEW_PIN = Action(
    slug="new-pin",
    label="New PIN",
    intro="Replaces the PIN, ends a lock, and signs the staff member out at every till.",
    permission=MAY_CHANGE_STAFF,
    form=PinForm,
    perform=new_pin,
    facts=attempts,
)
UNLOCK = Action(
    slug="unlock",
    label="Unlock",
    intro="Lets the staff member try the PIN again. Unlock only who is known to be the one who mistyped it.",
    permission=MAY_CHANGE_STAFF,
    form=forms.Form,
    perform=unlock,
    fits=lambda member: member.failed_attempts > 0 or member.locked_until is not None,
    facts=attempts,
)
REVOKE_STORE_KEY = Action(
    slug="revoke",
    label="Revoke",
    intro="From now on the key opens nothing. This cannot be undone.",
    permission="loyalty.change_storeapikey",
    form=forms.Form,
    perform=revoke_store_key,
    fits=lambda key: key.revoked_at is None,
)
REVOKE_USER_KEY = Action(
    slug="revoke",
    label="Revoke",
    intro="From now on the key opens nothing. This cannot be undone.",
    permission="loyalty.change_userapikey",
    form=forms.Form,
    perform=revoke_user_key,
    fits=lambda key: key.revoked_at is None,
)


class StaffMemberForm(ScreenForm):
    def clean_display_name(self) -> str:
        try:
            return keys.require_label(self.cleaned_data["display_name"], field="display_name")
        except InvalidInput as refusal:
            raise forms.ValidationError(refusal.sentence) from None

    def clean(self) -> None:
        super().clean()
        merchant = self.cleaned_data.get("merchant") or getattr(self.instance, "merchant", None)
        stores = self.cleaned_data.get("stores")
        if merchant and stores is not None and stores.exclude(merchant=merchant).exists():
            self.add_error("stores", forms.ValidationError("Choose only stores of the same merchant."))


class NewStaffMemberForm(PinForm, StaffMemberForm):
    pass


@admin.register(StaffMember)
class StaffMemberAdmin(Issuing):
    menu = "Access"
    page_actions = (NEW_PIN, UNLOCK)
    issued_fields = ("merchant", "display_name", "role", "stores", "pin")
    issue_title = "Add staff member"
    issue_intro = "The PIN is shown once. Without a store, they may work in all stores of the merchant."
    form = StaffMemberForm
    list_display = ("display_name", "merchant", "role", "is_active", "failed_attempts", "locked_until")
    list_select_related = ("merchant",)
    list_filter = ("role", "is_active", MerchantFilter)
    search_fields = ("display_name__istartswith",)
    search_help_text = "The beginning of a name."
    autocomplete_fields = ("merchant", "stores")
    fixed_fields = ("merchant",)
    readonly_fields = ("failed_attempts", "locked_until")
    fieldsets = (
        (None, {"fields": ("merchant", "display_name", "role", "stores", "is_active")}),
        ("PIN", {"fields": ("failed_attempts", "locked_until")}),
    )

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        return super().get_form(request, obj, change, **kwargs, **({} if obj else {"form": NewStaffMemberForm}))

    def issue(self, request: HttpRequest, answers: Mapping[str, Any], at: datetime) -> tuple[Model, Outcome]:
        issued = staff.add_staff_member(
            merchant=answers["merchant"],
            display_name=answers["display_name"],
            role=answers["role"],
            stores=answers["stores"],
            pin=answers["pin"] or None,
            actor=request.user.get_username(),
            at=at,
        )
        return issued.staff_member, Outcome(f"The PIN of {issued.staff_member}:", secret=issued.pin)

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        edited = {name: form.cleaned_data[name] for name in form.changed_data}
        # Nothing to change: the form was sent twice, or as it was.
        with suppress(NothingToChange):
            staff.update_staff_member(
                merchant=obj.merchant,
                staff_member_id=obj.pk,
                display_name=edited.get("display_name"),
                role=edited.get("role"),
                stores=edited.get("stores"),
                is_active=edited.get("is_active"),
                actor=request.user.get_username(),
                at=timezone.now(),
            )

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:
        """Nothing: the verb wrote the stores too."""


@admin.register(StaffSession)
class StaffSessionAdmin(ViewOnly):
    menu = "Access"
    merchant_path = "staff_member__merchant"
    list_display = ("staff_member", "store", "created_at", "expires_at")
    list_select_related = ("staff_member", "store")
    list_filter = (MerchantFilter,)
    fields = list_display


@admin.register(StoreApiKey)
class StoreApiKeyAdmin(Issuing, ViewOnly):
    menu = "Access"
    merchant_path = "store__merchant"
    page_actions = (REVOKE_STORE_KEY,)
    issued_fields = ("store", "label", "expires_at")
    issue_title = "Issue a key for a till"
    issue_intro = "A till signs in with it, for one store. Give each till its own, so that one can be revoked alone."
    list_display = ("label", "prefix", "store", "created_at", "last_used_at", "expires_at", "revoked_at")
    list_select_related = ("store",)
    list_filter = (MerchantFilter,)
    search_fields = ("prefix__startswith", "label__istartswith")
    search_help_text = "The beginning of a key or of a label."
    autocomplete_fields = ("store",)
    fields = list_display

    def issue(self, request: HttpRequest, answers: Mapping[str, Any], at: datetime) -> tuple[Model, Outcome]:
        issued = keys.issue_store_key(
            store=answers["store"],
            label=answers["label"],
            expires_at=answers["expires_at"],
            actor=request.user.get_username(),
            at=at,
        )
        return issued.record, Outcome(f"The key of {issued.record.label}, for {answers['store']}:", secret=issued.key)


@admin.register(UserApiKey)
class UserApiKeyAdmin(Issuing, ViewOnly):
    """Keys belong to users, not to merchants: everybody has their own, platform admins see and make all."""

    menu = "Access"
    page_actions = (REVOKE_USER_KEY,)
    issued_fields = ("label", "expires_at")
    issue_title = "Issue a key for a program"
    issue_intro = "Whatever signs in with it may do what its user may."
    list_display = ("label", "prefix", "user", "created_at", "last_used_at", "expires_at", "revoked_at")
    list_select_related = ("user",)
    search_fields = ("prefix__startswith", "user__username__exact")
    search_help_text = "The beginning of a key, or exactly a user name."
    autocomplete_fields = ("user",)
    fields = list_display

    def get_queryset(self, request: HttpRequest) -> QuerySet[UserApiKey]:
        keys_ = admin.ModelAdmin.get_queryset(self, request)
        return keys_ if request.user.is_superuser else keys_.filter(user=request.user.pk)

    def get_fieldsets(self, request: HttpRequest, obj: UserApiKey | None = None) -> Any:
        if obj is None and request.user.is_superuser:
            return [(None, {"fields": ("user", *self.issued_fields)})]
        return super().get_fieldsets(request, obj)

    def may(self, request: HttpRequest, action: Action, thing: UserApiKey) -> bool:
        """Who sees a key may end it: it is their own, or they are platform admins."""
        return request.user.has_perm(action.permission)

    def issue(self, request: HttpRequest, answers: Mapping[str, Any], at: datetime) -> tuple[Model, Outcome]:
        user = answers.get("user") or cast(User, request.user)
        issued = keys.issue_user_key(user=user, label=answers["label"], expires_at=answers["expires_at"], at=at)
        return issued.record, Outcome(f"The key of {issued.record.label}, for {user}:", secret=issued.key)


@admin.register(Membership)
class MembershipAdmin(Screen):
    menu = "Access"
    list_display = ("user", "merchant", "role")
    list_select_related = ("user", "merchant")
    list_filter = ("role", MerchantFilter)
    search_fields = ("user__username__istartswith",)
    search_help_text = "The beginning of a user name."
    autocomplete_fields = ("user", "merchant")
    fixed_fields = ("user", "merchant")

    def has_change_permission(self, request: HttpRequest, obj: Membership | None = None) -> bool:
        may = super().has_change_permission(request, obj)
        return may and (obj is None or not setting_up.is_own(obj, request.user.get_username()))

    def has_delete_permission(self, request: HttpRequest, obj: Membership | None = None) -> bool:
        """The one thing that is deleted here: without its row, a user sees nothing of a merchant any more."""
        may = admin.ModelAdmin.has_delete_permission(self, request, obj)
        return may and (obj is None or self.has_change_permission(request, obj))
