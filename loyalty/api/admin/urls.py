from loyalty.api.admin import bulk, card_changes, cards, customers, restoring, transactions

urlpatterns = [
    *bulk.urlpatterns,
    *card_changes.urlpatterns,
    *cards.urlpatterns,
    *customers.urlpatterns,
    *restoring.urlpatterns,
    *transactions.urlpatterns,
]
