"""Rewards: what points can be exchanged for."""

from typing import Any, cast

from django.db.models import QuerySet
from django.urls import path
from rest_framework import serializers

from loyalty import errors
from loyalty.api.admin.finding import find_program, find_reward
from loyalty.api.admin.programs import LARGEST
from loyalty.api.fields import Day, Flag, In, Text, Whole
from loyalty.api.operations import Access, operation
from loyalty.api.pages import PageQuery
from loyalty.api.store.answers import RewardOut
from loyalty.api.views import AdminView, AskedByUser
from loyalty.models import Reward
from loyalty.services import programs
from loyalty.services.programs import RewardSettings

FIRST, LAST = "The first day on which it can be had.", "The last day on which it can be had."


class RewardIn(In):
    example: dict[str, Any] = {"points_cost": 60, "stock": 12}

    name = Text(max_length=120, required=False)
    points_cost = Whole(required=False, min_value=1, max_value=LARGEST)
    stock = Whole(required=False, allow_null=True, min_value=0, max_value=LARGEST, help_text="Null: unlimited.")
    active_from = Day(required=False, allow_null=True, help_text=FIRST)
    active_to = Day(required=False, allow_null=True, help_text=LAST)
    is_active = Flag(required=False)


class NewRewardIn(RewardIn):
    example = {"name": "Coffee", **RewardIn.example}

    name = Text(max_length=120)
    points_cost = Whole(min_value=1, max_value=LARGEST)


class FullRewardOut(RewardOut):
    """A reward as it was set up."""

    example = {**RewardOut.example, "program_id": 4, "is_active": True}

    program_id = serializers.IntegerField()
    is_active = serializers.BooleanField()


class RewardsQuery(PageQuery):
    is_active = serializers.BooleanField(required=False)


class Rewards(AdminView):
    @operation(
        name="admin_rewards_list",
        summary="List rewards of a program",
        query=RewardsQuery,
        answer=FullRewardOut,
        refusals=[errors.ProgramNotFound],
        pages=("-pk",),
        access=Access.READ,
    )
    def get(self, asked: AskedByUser, program_id: int) -> "QuerySet[Reward]":
        """Also those that cannot be had today; the newest first."""
        rows = Reward.objects.filter(program=find_program(asked, program_id))
        return rows.filter(is_active=asked.query["is_active"]) if "is_active" in asked.query else rows

    @operation(
        name="admin_rewards_create",
        summary="Offer a reward",
        body=NewRewardIn,
        answer=FullRewardOut,
        status=201,
        refusals=[errors.ProgramNotFound, errors.InvalidInput],
        changes=True,
    )
    def post(self, asked: AskedByUser, program_id: int) -> Reward:
        """Days are those of the merchant's time zone."""
        program = find_program(asked, program_id)
        return programs.create_reward(program=program, settings=cast(RewardSettings, asked.body))


class OneReward(AdminView):
    @operation(
        name="admin_rewards_get",
        summary="See a reward",
        answer=FullRewardOut,
        refusals=[errors.RewardNotFound],
        access=Access.READ,
    )
    def get(self, asked: AskedByUser, reward_id: int) -> Reward:
        """With the stock that is left."""
        return find_reward(asked, reward_id)

    @operation(
        name="admin_rewards_update",
        summary="Change a reward",
        body=RewardIn,
        answer=FullRewardOut,
        refusals=[errors.RewardNotFound, errors.NothingToChange, errors.InvalidInput],
        changes=True,
    )
    def patch(self, asked: AskedByUser, reward_id: int) -> Reward:
        """What is not sent stays; a stock that is sent is the stock from now on, whatever was redeemed meanwhile."""
        reward = find_reward(asked, reward_id)
        return programs.update_reward(reward=reward, settings=cast(RewardSettings, asked.body))


urlpatterns = [
    path("programs/<id:program_id>/rewards", Rewards.as_view()),
    path("rewards/<id:reward_id>", OneReward.as_view()),
]
