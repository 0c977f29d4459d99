from django.urls import path

from loyalty.api.store import cards, program, reports, reversing, sales, staff, stamps

urlpatterns = [
    *reports.urlpatterns,
    path("program", program.ProgramView.as_view()),
    path("program/rewards", program.Rewards.as_view()),
    path("staff", staff.Staff.as_view()),
    path("staff/sessions", staff.Sessions.as_view()),
    path("staff/sessions/current", staff.CurrentSession.as_view()),
    path("cards/lookup", cards.Lookup.as_view()),
    path("cards", cards.Cards.as_view()),
    path("cards/<id:card_id>", cards.Card.as_view()),
    path("cards/<id:card_id>/transactions", cards.Movements.as_view()),
    path("cards/<id:card_id>/earn/preview", sales.Preview.as_view()),
    path("cards/<id:card_id>/earn", sales.Earn.as_view()),
    path("cards/<id:card_id>/redeem", sales.Redeem.as_view()),
    path("cards/<id:card_id>/stamps", stamps.Stamps.as_view()),
    path("cards/<id:card_id>/stamps/redeem", stamps.RedeemStamps.as_view()),
    path("transactions/<id:transaction_id>/void", reversing.Void.as_view()),
    path("transactions/<id:transaction_id>/refund", reversing.Refund.as_view()),
]
