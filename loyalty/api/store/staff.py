"""Staff at the till: a PIN once per shift."""

from loyalty import errors
from loyalty.api.fields import Id, In, Text
from loyalty.api.operations import operation
from loyalty.api.store.answers import SessionOut, StaffOut
from loyalty.api.views import AskedAtStore, StoreView
from loyalty.models import StaffMember
from loyalty.services import staff
from loyalty.services.staff import OpenedSession


class SessionIn(In):
    example = {"staff_member_id": 5, "pin": "204816"}

    staff_member_id = Id()
    pin = Text(max_length=64, trim_whitespace=False)


class Sessions(StoreView):
    @operation(
        name="store_staff_sessions_open",
        summary="Sign in with a PIN",
        body=SessionIn,
        answer=SessionOut,
        status=201,
        refusals=[errors.StaffMemberNotFound, errors.StaffPinsDisabled, errors.InvalidPin, errors.PinLocked],
        throttle="staff_sessions",
    )
    def post(self, asked: AskedAtStore) -> OpenedSession:
        """For one shift. Too many wrong PINs in a row lock the staff member on all tills for a while.

        `invalid_pin` says how many attempts are left, `pin_locked` until when.
        """
        return staff.open_session(
            store=asked.store, staff_member_id=asked.body["staff_member_id"], pin=asked.body["pin"], at=asked.at
        )


class CurrentSession(StoreView):
    @operation(
        name="store_staff_sessions_close",
        summary="Sign out",
        answer=None,
        status=204,
        refusals=[errors.StaffSessionNotFound],
        staff_role="cashier",
    )
    def delete(self, asked: AskedAtStore) -> None:
        """Ends the session whose token is sent as X-Staff-Session."""
        staff.close_session(store=asked.store, token=asked.session_token, at=asked.at)


class Staff(StoreView):
    @operation(name="store_staff", summary="Who works here", answer=StaffOut, many=True)
    def get(self, asked: AskedAtStore) -> list[StaffMember]:
        """For the screen on which staff choose their name before the PIN."""
        return list(StaffMember.objects.working_at(asked.store).order_by("display_name", "pk"))
