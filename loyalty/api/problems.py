"""How the APIs say no: each refusal is a problem of RFC 9457, with a stable code, a status and a title."""

import re
from typing import NamedTuple

from rest_framework import exceptions, status

from loyalty import errors
from loyalty.errors import LoyaltyError
from notifications.errors import (
    MessageAlreadyWaiting,
    MessageErased,
    MessageError,
    MessageHasNoAddress,
    MessageNotFound,
)

MEDIA_TYPE = "application/problem+json"
Refusal = type[LoyaltyError | MessageError]

STATUS: dict[int, tuple[Refusal, ...]] = {
    400: (errors.InvalidInput, errors.InvalidAmount, errors.ReasonRequired),
    403: (errors.InvalidPin, errors.OwnMembership, errors.VoidNotAllowed, errors.VoidWindowPassed),
    404: (
        errors.MerchantNotFound,
        errors.StoreNotFound,
        errors.UserNotFound,
        errors.MembershipNotFound,
        errors.ProgramNotFound,
        errors.CampaignNotFound,
        errors.RewardNotFound,
        errors.CardNotFound,
        errors.CustomerNotFound,
        errors.RunNotFound,
        errors.TransactionNotFound,
        errors.StaffMemberNotFound,
        errors.StaffSessionNotFound,
        errors.KeyNotFound,
        MessageNotFound,
    ),
    409: (
        errors.AlreadyEnrolled,
        errors.AlreadyErased,
        errors.AlreadyMember,
        errors.AlreadyVoided,
        errors.CardChanged,
        errors.CardNotActive,
        errors.CardOfAnotherStore,
        errors.ConfirmationRequired,
        errors.ConflictingCustomer,
        errors.ContactTaken,
        errors.CurrencyFixed,
        errors.DuplicateReceipt,
        errors.EnrolmentClosed,
        errors.IdempotencyKeyExpired,
        errors.InsufficientPoints,
        errors.MerchantExists,
        MessageAlreadyWaiting,
        MessageErased,
        MessageHasNoAddress,
        errors.MoreThanExpired,
        errors.NotEnoughStamps,
        errors.NotVoidable,
        errors.NothingToChange,
        errors.OutOfStock,
        errors.PointsAlreadySpent,
        errors.ProgramChanged,
        errors.ProgramExists,
        errors.RewardNotAvailable,
        errors.RunNotFinished,
        errors.StaffPinsDisabled,
        errors.StoreExists,
    ),
    422: (
        errors.BelowMinimumPurchase,
        errors.BelowMinimumRedemption,
        errors.IdempotencyKeyReused,
        errors.ImportRefused,
        errors.InvalidPolicy,
        errors.MomentNotAccepted,
        errors.NotInThisProgram,
        errors.ReceiptRequired,
        errors.RefundExceedsPurchase,
        errors.TermsNotAccepted,
    ),
    423: (errors.PinLocked,),
    429: (errors.DailyLimitReached, errors.DailyStampsReached, errors.StampCooldown),
}


class Problem(NamedTuple):
    """What is the same in all problems with this code."""

    code: str
    status: int
    title: str


def code_of(refusal: type[Exception]) -> str:
    """The code of a refusal: of ours the class in snake_case, of the protocol the default code."""
    if issubclass(refusal, exceptions.APIException):
        return str(refusal.default_code)
    return re.sub(r"(?<!^)(?=[A-Z])", "_", refusal.__name__).lower()


class InvalidRequest(exceptions.ValidationError):
    """Fields are missing, unknown or of the wrong form; `errors` names each of them."""

    default_code = "invalid_request"


class MalformedJson(exceptions.ParseError):
    """The body is not JSON, or names a key twice."""

    default_code = "malformed_json"


class BodyTooLarge(exceptions.APIException):
    """The body is larger than this operation takes."""

    status_code = status.HTTP_413_REQUEST_ENTITY_TOO_LARGE
    default_code = "body_too_large"
    default_detail = "The body is larger than this operation takes."


class UnsupportedMediaType(exceptions.UnsupportedMediaType):
    """The body is of another content type than this operation takes."""


class NotAcceptable(exceptions.NotAcceptable):
    """The client accepts no JSON."""

    default_code = "not_acceptable"


class NotAuthenticated(exceptions.NotAuthenticated):
    """No key was sent, and nobody is logged in."""


class InvalidApiKey(exceptions.AuthenticationFailed):
    """The key is unknown, revoked or expired."""

    default_code = "invalid_api_key"


class InvalidStaffSession(exceptions.AuthenticationFailed):
    """The staff session is unknown or over; sign in again with the PIN."""

    default_code = "invalid_staff_session"


class StaffSessionRequired(exceptions.PermissionDenied):
    """A staff member has to sign in with a PIN first."""

    default_code = "staff_session_required"


class StoreNotActive(exceptions.PermissionDenied):
    """The store or its merchant is switched off."""

    default_code = "store_not_active"


class PermissionDenied(exceptions.PermissionDenied):
    """The user, or the staff member, may not do this."""


class NotFound(exceptions.NotFound):
    """There is nothing at this address."""


class MethodNotAllowed(exceptions.MethodNotAllowed):
    """This address knows other methods only."""


class IdempotencyKeyRequired(exceptions.APIException):
    """The header Idempotency-Key is missing or has not 8 to 128 visible characters."""

    status_code = status.HTTP_400_BAD_REQUEST
    default_code = "idempotency_key_required"
    default_detail = (
        "Send a header Idempotency-Key of 8 to 128 visible characters, a new one for each thing that you do, "
        "and the same one when you repeat it."
    )


class SecretShownOnce(exceptions.APIException):
    """The request was carried out; the secret that its answer held is shown only once."""

    status_code = status.HTTP_409_CONFLICT
    default_code = "secret_shown_once"
    default_detail = "This was done, and its secret was shown. It is not shown again: make a new one if it was lost."


class CardBusy(exceptions.APIException):
    """Somebody else is changing the same card; nothing was done."""

    status_code = status.HTTP_409_CONFLICT
    default_code = "card_busy"
    default_detail = "This card is being used somewhere else at the moment. Please try again."
    wait = 1


class Throttled(exceptions.Throttled):
    """Too many requests; Retry-After says when to come back."""


class ServerError(exceptions.APIException):
    """Something went wrong on our side; the request id leads to it in our logs."""

    default_code = "server_error"
    default_detail = "Something went wrong on our side. Please try again, and tell us the request id if it stays."


PROTOCOL: tuple[type[exceptions.APIException], ...] = (
    InvalidRequest,
    MalformedJson,
    BodyTooLarge,
    UnsupportedMediaType,
    NotAcceptable,
    NotAuthenticated,
    InvalidApiKey,
    InvalidStaffSession,
    StaffSessionRequired,
    StoreNotActive,
    PermissionDenied,
    NotFound,
    MethodNotAllowed,
    IdempotencyKeyRequired,
    SecretShownOnce,
    CardBusy,
    Throttled,
    ServerError,
)
PROBLEMS: dict[str, Problem] = {}
_STATUS_OF: dict[type[Exception], int] = {}


def problem_of(refusal: type[Exception]) -> Problem:
    """Code, status and title of a kind of refusal."""
    code = refusal.status_code if issubclass(refusal, exceptions.APIException) else _STATUS_OF[refusal]
    title = (refusal.__doc__ or "").partition("\n")[0].partition(";")[0].rstrip(".")
    return Problem(code_of(refusal), code, title)


def answers(status_code: int, *refusals: Refusal) -> None:
    """Let these refusals be answered with this status. An app above brings its own along with its operations."""
    for refusal in refusals:
        _STATUS_OF[refusal] = status_code
        PROBLEMS[code_of(refusal)] = problem_of(refusal)


PROBLEMS.update((code_of(refusal), problem_of(refusal)) for refusal in PROTOCOL)
for _status, _refusals in STATUS.items():
    answers(_status, *_refusals)
