from loyalty.api.admin import restoring

urlpatterns = [*restoring.urlpatterns]
