from django.urls import include, path

urlpatterns = [
    path("store/loyalty/", include("wallet.api.store")),
    path("admin/loyalty/", include("wallet.api.admin.urls")),
]
