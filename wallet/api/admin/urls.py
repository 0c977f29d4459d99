from wallet.api.admin import credentials, passes, runs, status

urlpatterns = [
    *credentials.urlpatterns,
    *passes.urlpatterns,
    *runs.urlpatterns,
    *status.urlpatterns,
]
