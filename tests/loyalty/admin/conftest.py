from collections.abc import Callable, Sequence

import pytest
from django.contrib.auth.models import Permission
from django.test import Client

from loyalty.models import Membership, Merchant
from tests.loyalty.admin.rows import make_user

ClientFor = Callable[..., Client]


@pytest.fixture
def client_for(db) -> ClientFor:
    """A browser in which a member of staff with these permissions is signed in, working for these merchants."""

    def sign_in(*permissions: str, managing: Sequence[Merchant] = (), supporting: Sequence[Merchant] = ()) -> Client:
        user = make_user(is_staff=True)
        for permission in permissions:
            app_label, codename = permission.split(".")
            user.user_permissions.add(Permission.objects.get(content_type__app_label=app_label, codename=codename))
        for role, merchants in (("manager", managing), ("support", supporting)):
            for merchant in merchants:
                Membership.objects.create(user=user, merchant=merchant, role=role)
        client = Client()
        client.force_login(user)
        return client

    return sign_in
