from django.urls import include, path

urlpatterns = [
    path("admin/loyalty/", include("wallet.api.admin")),
]
