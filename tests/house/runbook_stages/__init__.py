"""What is the matter when a section of a runbook is read: the stage on which a test runs its commands.

A section without a stage of its own takes that of its page.
"""

from tests.house.runbook_stages import expiry, records, wallets, workers
from tests.house.runbook_stages.staging import STAGES, Stage, set_the_stage

__all__ = ["STAGES", "Stage", "expiry", "records", "set_the_stage", "wallets", "workers"]
