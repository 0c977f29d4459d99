"""One platform's part of a sync: calls side by side, four attempts for each, and a breaker for all."""

from wallet.services.lanes.database import in_database
from wallet.services.lanes.lane import Lane
from wallet.services.lanes.reporting import Failure, LaneReport
from wallet.services.lanes.telling import Call, Teller

__all__ = ["Call", "Failure", "Lane", "LaneReport", "Teller", "in_database"]
