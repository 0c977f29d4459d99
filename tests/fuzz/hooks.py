"""What Schemathesis cannot know from the description alone. It imports this file by itself."""

from typing import Any

import schemathesis
from schemathesis.openapi.checks import RejectedPositiveData

# A value of the right form which this program or currency does not take, such as "0.005" in EUR.
RULES = {"invalid_input", "invalid_amount", "reason_required"}
OURS = {
    ("/cursor", "invalid_request"),  # a text to clients; which texts are cursors is nobody's business
    ("/multiplier", "min_value"),  # OpenAPI knows no smallest value of a decimal string
    ("/birth_date", "out_of_range"),  # nor today
    ("/card_ids", "twice"),  # Schemathesis takes ids from roles.py twice, although the description says uniqueItems
}
# The web server refuses an address that is too long before anything of ours sees it.
BEFORE_US = {414}


@schemathesis.hook
def filter_failure(context: Any, failure: Any, case: Any, response: Any) -> bool:
    """Whether it counts: what the description allows may be refused by a rule that no description can hold."""
    if response.status_code in BEFORE_US:
        return False
    if not isinstance(failure, RejectedPositiveData) or response.status_code != 400:
        return True
    problem = response.json()
    found = {(error["pointer"], error["code"]) for error in problem["errors"]}
    return problem["code"] not in RULES and not (found and found <= OURS)
