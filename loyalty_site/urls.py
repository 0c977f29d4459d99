from django.contrib import admin
from django.urls import include, path
from django.views.generic import RedirectView

from loyalty_site import api_docs, health
from loyalty_site.metrics.view import metrics

urlpatterns = [
    path("", RedirectView.as_view(pattern_name="admin:index")),
    path("admin/", admin.site.urls),
    path("api/v1/", include("loyalty.api.urls")),
    path("api/v1/", include("wallet.api.urls")),
    path("api/v1/admin/loyalty/", include("loyalty_site.api")),
    path("wallet/", include("wallet.public.urls")),
    path("docs", api_docs.Docs.as_view(), name="docs"),
    path("docs/openapi.yaml", api_docs.openapi, name="openapi"),
    path("docs/problems", api_docs.problems, name="problems"),
    path("healthz", health.healthz),
    path("readyz", health.readyz),
    path("metrics", metrics),
]
handler404 = "loyalty_site.api_docs.not_found"
handler500 = "loyalty_site.api_docs.server_error"
handler400 = "loyalty_site.api_docs.bad_request"
