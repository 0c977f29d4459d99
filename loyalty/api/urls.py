from django.urls import include, path, register_converter


class IdConverter:
    """Digits that fit an id; longer ones name nothing."""

    regex = "[0-9]{1,18}"

    def to_python(self, value: str) -> int:
        return int(value)

    def to_url(self, value: int) -> str:
        return str(value)


register_converter(IdConverter, "id")

urlpatterns = [
    path("store/loyalty/", include("loyalty.api.store.urls")),
    path("admin/loyalty/", include("loyalty.api.admin.urls")),
]
