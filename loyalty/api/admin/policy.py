"""When the points of a program expire: read, tried out, changed, paused."""

from typing import Any

from django.db.models import QuerySet
from django.urls import path
from rest_framework import serializers

from loyalty import errors
from loyalty.api.admin.finding import find_program
from loyalty.api.admin.programs import LARGEST, SEEN
from loyalty.api.fields import Day, Flag, In, Reason, Whole
from loyalty.api.operations import Access, operation
from loyalty.api.pages import PageQuery
from loyalty.api.views import AdminView, AskedByUser
from loyalty.models import PolicyChange, Program
from loyalty.models.program import LONGEST_EXPIRATION_DAYS, LONGEST_WARNING_DAYS
from loyalty.services import policies
from loyalty.services.policies import POLICY_FIELDS, PolicyInForce, PolicyTerms

EXPIRE = "Idle points expire after this many days. Null or 0: never."
WARN = "Customers are warned this many days before, and always have this many days after the warning."
NOTICE = "Nothing expires without an earlier warning. Off: older than the limit is gone."
PAUSED = "Up to and including this day nothing is warned about and nothing expires."
CONFIRMED = "The `cards_past_limit` that were shown. Needed when points would go sooner (`confirmation_required`)."
HINT = "What the law where the merchant sells says about notices. Empty: nothing that we know of."
TERMS: dict[str, Any] = {
    "points_expiration_days": 365,
    "expiration_warning_days": 30,
    "require_expiration_notice": True,
    "expiration_paused_until": None,
}
CHANGE: list[type[Exception]] = [
    errors.ProgramNotFound,
    errors.NothingToChange,
    errors.ConfirmationRequired,
    errors.InvalidPolicy,
]


class TermsIn(In):
    example = TERMS

    points_expiration_days = Whole(allow_null=True, min_value=0, max_value=LONGEST_EXPIRATION_DAYS, help_text=EXPIRE)
    expiration_warning_days = Whole(min_value=0, max_value=LONGEST_WARNING_DAYS, help_text=WARN)
    require_expiration_notice = Flag(help_text=NOTICE)
    expiration_paused_until = Day(allow_null=True, help_text=PAUSED)


class ConfirmedIn(In):
    """What a change of a policy carries besides its terms."""

    confirmed_cards = Whole(
        required=False, allow_null=True, default=None, min_value=0, max_value=LARGEST, help_text=CONFIRMED
    )
    reason = Reason()


class PolicyIn(TermsIn, ConfirmedIn):
    example = {**TERMS, "confirmed_cards": None, "reason": "A year, as promised in the shop"}

    seen_version = Whole(required=False, allow_null=True, default=None, min_value=0, max_value=LARGEST, help_text=SEEN)


class PauseIn(ConfirmedIn):
    example = {"until": "2030-12-31", "reason": "The shop is under water"}

    until = Day(help_text=PAUSED)


class ResumeIn(ConfirmedIn):
    example = {"reason": "The shop is dry again", "confirmed_cards": 0}


class PolicyOut(serializers.Serializer[PolicyInForce]):
    """When the points of a program expire."""

    example = {
        **TERMS,
        "is_paused": False,
        "sentence": "Points expire after 365 days without activity. Customers are warned 30 days before.",
        "hint": "",
        "version": 8,
    }

    points_expiration_days = serializers.IntegerField(
        source="terms.points_expiration_days", allow_null=True, help_text=EXPIRE
    )
    expiration_warning_days = serializers.IntegerField(source="terms.expiration_warning_days", help_text=WARN)
    require_expiration_notice = serializers.BooleanField(source="terms.require_expiration_notice", help_text=NOTICE)
    expiration_paused_until = serializers.DateField(
        source="terms.expiration_paused_until", allow_null=True, help_text=PAUSED
    )
    is_paused = serializers.BooleanField(help_text="Whether expiry rests today, where the merchant is.")
    sentence = serializers.CharField(source="terms.sentence")
    hint = serializers.CharField(help_text=HINT)
    version = serializers.IntegerField(help_text="Of the program; for `seen_version`.")


class ImpactOut(serializers.Serializer[Any]):
    """What a policy would mean for the cards as they are today."""

    example = {
        "cards_past_limit": 193,
        "points_past_limit": 25924,
        "warnings": 230,
        "first_loss_on": "2026-04-14",
        "needs_confirmation": True,
        "sentence": "193 cards with 25,924 points are past the limit today. The next run would send 230 warnings. "
        "The first points could be gone on 14 April 2026.",
        "hint": "",
    }

    cards_past_limit = serializers.IntegerField(help_text="Cards that are idle for longer than the limit already.")
    points_past_limit = serializers.IntegerField()
    warnings = serializers.IntegerField(help_text="Customers whom the next run would warn.")
    first_loss_on = serializers.DateField(
        allow_null=True, help_text="The first day on which any customer of the program could find points gone."
    )
    needs_confirmation = serializers.BooleanField(help_text="Whether some card could lose its points sooner than now.")
    sentence = serializers.CharField()
    hint = serializers.CharField(help_text=HINT)


class PolicyChangeOut(serializers.Serializer[PolicyChange]):
    """A change of a policy. It is never edited."""

    example = {
        "id": 31,
        "program_id": 4,
        "old_policy": {**TERMS, "points_expiration_days": 180, "expiration_warning_days": 14},
        "new_policy": TERMS,
        "impact": {
            "cards_past_limit": 0,
            "points_past_limit": 0,
            "warnings": 12,
            "first_loss_on": "2026-09-27",
            "needs_confirmation": False,
        },
        "actor": "ana",
        "reason": "A year, as promised in the shop",
        "changed_at": "2026-03-31T12:05:00Z",
    }

    id = serializers.IntegerField()
    program_id = serializers.IntegerField()
    old_policy = serializers.DictField(help_text="The terms before.")
    new_policy = serializers.DictField(help_text="The terms since then.")
    impact = serializers.DictField(help_text="What was shown before the change was made.")
    actor = serializers.CharField(help_text="Who made it.")
    reason = serializers.CharField()
    changed_at = serializers.DateTimeField()


class Policy(AdminView):
    @operation(
        name="admin_programs_policy",
        summary="See when points expire",
        answer=PolicyOut,
        refusals=[errors.ProgramNotFound],
        access=Access.READ,
    )
    def get(self, asked: AskedByUser, program_id: int) -> PolicyInForce:
        """The terms in force, and what they say in a sentence."""
        return policies.policy_in_force(program=find_program(asked, program_id), at=asked.at)

    @operation(
        name="admin_programs_policy_change",
        summary="Change when points expire",
        body=PolicyIn,
        answer=PolicyOut,
        refusals=[*CHANGE, errors.ProgramChanged],
        changes=True,
    )
    def post(self, asked: AskedByUser, program_id: int) -> PolicyInForce:
        """Takes all terms, those too that stay as they are.

        A change that could take points sooner is refused with `confirmation_required` until `confirmed_cards` is at
        least the number that its `impact` shows; ask `policy/preview` for it first. Days that customers were promised
        are kept.
        """
        program = find_program(asked, program_id)
        changed = policies.change_policy(
            program_id=program.pk,
            terms=_terms(asked.body),
            confirmed_cards=asked.body["confirmed_cards"],
            seen_version=asked.body["seen_version"],
            reason=asked.body["reason"],
            actor=asked.actor,
            at=asked.at,
        )
        return policies.policy_in_force(program=changed, at=asked.at)


class Preview(AdminView):
    @operation(
        name="admin_programs_policy_preview",
        summary="See what other terms would mean",
        body=TermsIn,
        answer=ImpactOut,
        refusals=[errors.ProgramNotFound, errors.InvalidPolicy],
        access=Access.READ,
    )
    def post(self, asked: AskedByUser, program_id: int) -> dict[str, Any]:
        """Nothing is changed. `first_loss_on` is about all cards of the program, also those that keep their date."""
        program = find_program(asked, program_id)
        impact = policies.preview_policy(program=program, terms=_terms(asked.body), at=asked.at)
        return {
            **vars(impact),
            "sentence": impact.sentence,
            "hint": policies.notice_hint(program.merchant),
        }


class Changes(AdminView):
    @operation(
        name="admin_programs_policy_changes",
        summary="List changes of when points expire",
        query=PageQuery,
        answer=PolicyChangeOut,
        refusals=[errors.ProgramNotFound],
        pages=("-pk",),
        access=Access.READ,
    )
    def get(self, asked: AskedByUser, program_id: int) -> "QuerySet[PolicyChange]":
        """Who changed what, the newest first, with the impact that was shown."""
        return PolicyChange.objects.filter(program=find_program(asked, program_id))


class Pause(AdminView):
    @operation(
        name="admin_programs_policy_pause",
        summary="Let nothing expire for a while",
        body=PauseIn,
        answer=PolicyOut,
        refusals=[*CHANGE, errors.ReasonRequired, errors.InvalidInput],
        changes=True,
    )
    def post(self, asked: AskedByUser, program_id: int) -> PolicyInForce:
        """To the end of a day, where the merchant is. After it customers are warned again, with a full notice."""
        return _in_force(asked, policies.pause_expiry(program_id=find_program(asked, program_id).pk, **_by_hand(asked)))


class Resume(AdminView):
    @operation(
        name="admin_programs_policy_resume",
        summary="End a pause",
        body=ResumeIn,
        answer=PolicyOut,
        refusals=[*CHANGE, errors.ReasonRequired, errors.InvalidInput],
        changes=True,
    )
    def post(self, asked: AskedByUser, program_id: int) -> PolicyInForce:
        """Needs `confirmed_cards`. Customers are warned again, with a full notice, before anything expires."""
        return _in_force(
            asked, policies.resume_expiry(program_id=find_program(asked, program_id).pk, **_by_hand(asked))
        )


def _terms(body: dict[str, Any]) -> PolicyTerms:
    return PolicyTerms(**{name: body[name] for name in POLICY_FIELDS})


def _by_hand(asked: AskedByUser) -> dict[str, Any]:
    return {**asked.body, "actor": asked.actor, "at": asked.at}


def _in_force(asked: AskedByUser, program: Program) -> PolicyInForce:
    return policies.policy_in_force(program=program, at=asked.at)


urlpatterns = [
    path("programs/<id:program_id>/policy", Policy.as_view()),
    path("programs/<id:program_id>/policy/preview", Preview.as_view()),
    path("programs/<id:program_id>/policy/changes", Changes.as_view()),
    path("programs/<id:program_id>/pause", Pause.as_view()),
    path("programs/<id:program_id>/resume", Resume.as_view()),
]
