"""Stores, and the keys of their tills."""

from django.db.models import QuerySet
from django.urls import path
from rest_framework import serializers

from loyalty import errors
from loyalty.api.admin.finding import find_store, find_store_key
from loyalty.api.admin.keys import KeyIn, NewStoreKeyOut, StoreKeyOut
from loyalty.api.fields import Flag, In, Text, Whole
from loyalty.api.operations import Access, operation
from loyalty.api.pages import PageQuery
from loyalty.api.views import AdminView, AskedByUser
from loyalty.models import Store, StoreApiKey
from loyalty.services import keys, setting_up
from loyalty.services.keys import IssuedKey

LARGEST_FACTOR = 32_767
CODE = "Letters, digits, hyphens and underscores; once for each merchant."
FACTOR = "Multiplies how often the tills of this store may ask. 0: no limit."


class StoreOut(serializers.Serializer[Store]):
    """A shop of a merchant."""

    example = {
        "id": 3,
        "merchant_id": 4,
        "name": "Rue Notre-Dame",
        "code": "notre-dame",
        "is_active": True,
        "throttle_factor": 1,
        "created_at": "2026-03-02T12:00:00Z",
    }

    id = serializers.IntegerField()
    merchant_id = serializers.IntegerField()
    name = serializers.CharField()
    code = serializers.CharField(help_text=CODE)
    is_active = serializers.BooleanField(help_text="Tills of a store that is not active are refused.")
    throttle_factor = serializers.IntegerField(help_text=FACTOR)
    created_at = serializers.DateTimeField()


class StoresQuery(PageQuery):
    is_active = serializers.BooleanField(required=False)


class NewStoreIn(In):
    example = {"name": "Rue Notre-Dame", "code": "notre-dame"}

    name = Text(max_length=120)
    code = Text(max_length=40, help_text=CODE)
    throttle_factor = Whole(required=False, min_value=0, max_value=LARGEST_FACTOR, help_text=FACTOR)


class StoreIn(In):
    example = {"name": "Place d'Armes", "is_active": True}

    name = Text(max_length=120, required=False)
    code = Text(max_length=40, required=False, help_text=CODE)
    is_active = Flag(required=False)
    throttle_factor = Whole(required=False, min_value=0, max_value=LARGEST_FACTOR, help_text=FACTOR)


class Stores(AdminView):
    @operation(
        name="admin_stores_list",
        summary="List the stores of a merchant",
        query=StoresQuery,
        answer=StoreOut,
        refusals=[errors.MerchantNotFound],
        pages=("-pk",),
        access=Access.READ,
    )
    def get(self, asked: AskedByUser, merchant_id: int) -> "QuerySet[Store]":
        """Newest first."""
        rows = Store.objects.filter(merchant=asked.merchant(merchant_id))
        return rows.filter(is_active=asked.query["is_active"]) if "is_active" in asked.query else rows

    @operation(
        name="admin_stores_create",
        summary="Open a store",
        body=NewStoreIn,
        answer=StoreOut,
        status=201,
        refusals=[errors.MerchantNotFound, errors.StoreExists, errors.InvalidInput],
        changes=True,
    )
    def post(self, asked: AskedByUser, merchant_id: int) -> Store:
        """Its tills need keys of their own."""
        merchant = asked.merchant(merchant_id)
        return setting_up.create_store(merchant=merchant, **asked.body, actor=asked.actor, at=asked.at)


class OneStore(AdminView):
    @operation(
        name="admin_stores_get",
        summary="See a store",
        answer=StoreOut,
        refusals=[errors.StoreNotFound],
        access=Access.READ,
    )
    def get(self, asked: AskedByUser, store_id: int) -> Store:
        return find_store(asked, store_id)

    @operation(
        name="admin_stores_update",
        summary="Change a store",
        body=StoreIn,
        answer=StoreOut,
        refusals=[errors.StoreNotFound, errors.StoreExists, errors.NothingToChange, errors.InvalidInput],
        changes=True,
    )
    def patch(self, asked: AskedByUser, store_id: int) -> Store:
        """What is not sent stays."""
        store = find_store(asked, store_id)
        return setting_up.update_store(
            merchant=store.merchant, store_id=store_id, **asked.body, actor=asked.actor, at=asked.at
        )


class StoreKeys(AdminView):
    @operation(
        name="admin_store_keys_list",
        summary="List the keys of a store's tills",
        query=PageQuery,
        answer=StoreKeyOut,
        refusals=[errors.StoreNotFound],
        pages=("-pk",),
        access=Access.READ,
    )
    def get(self, asked: AskedByUser, store_id: int) -> "QuerySet[StoreApiKey]":
        """Newest first, with those that are revoked or have expired. No key is shown in full."""
        return StoreApiKey.objects.filter(store=find_store(asked, store_id))

    @operation(
        name="admin_store_keys_issue",
        summary="Issue a key for a till",
        body=KeyIn,
        answer=NewStoreKeyOut,
        status=201,
        refusals=[errors.StoreNotFound, errors.InvalidInput],
        changes=True,
        secret=True,
    )
    def post(self, asked: AskedByUser, store_id: int) -> IssuedKey[StoreApiKey]:
        """The answer is the only place where the key is ever shown. Give each till its own."""
        store = find_store(asked, store_id)
        return keys.issue_store_key(store=store, **asked.body, actor=asked.actor, at=asked.at)


class RevokeStoreKey(AdminView):
    @operation(
        name="admin_store_keys_revoke",
        summary="Revoke the key of a till",
        answer=StoreKeyOut,
        refusals=[errors.KeyNotFound, errors.NothingToChange],
        changes=True,
    )
    def post(self, asked: AskedByUser, store_id: int, key_id: int) -> StoreApiKey:
        """From now on it opens nothing. This cannot be undone; the till needs another one."""
        key = find_store_key(asked, store_id, key_id)
        return keys.revoke_store_key(merchant=key.store.merchant, key_id=key_id, actor=asked.actor, at=asked.at)


urlpatterns = [
    path("merchants/<id:merchant_id>/stores", Stores.as_view()),
    path("stores/<id:store_id>", OneStore.as_view()),
    path("stores/<id:store_id>/keys", StoreKeys.as_view()),
    path("stores/<id:store_id>/keys/<id:key_id>/revoke", RevokeStoreKey.as_view()),
]
