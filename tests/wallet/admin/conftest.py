from tests.loyalty.admin.conftest import client_for

__all__ = ["client_for"]
