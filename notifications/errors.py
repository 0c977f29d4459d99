"""What notifications refuses, in sentences a person can act on."""

from typing import ClassVar


class MessageError(Exception):
    """An anticipated refusal. `code` is stable, `str(error)` is a sentence for people."""

    code: ClassVar[str]


class MessageNotFound(MessageError):
    """No message has this number."""

    code = "message_not_found"

    def __init__(self) -> None:
        super().__init__("There is no such message.")


class MessageAlreadyWaiting(MessageError):
    """The message is due, or being sent at this moment."""

    code = "message_already_waiting"

    def __init__(self) -> None:
        super().__init__("This message is already waiting to be sent.")


class MessageHasNoAddress(MessageError):
    """The message was written without an e-mail address to go to."""

    code = "message_has_no_address"

    def __init__(self) -> None:
        super().__init__(
            "This message has no address to go to: the customer had no e-mail address when it was written."
        )


class MessageErased(MessageError):
    """The personal data of the message has been erased."""

    code = "message_erased"

    def __init__(self) -> None:
        super().__init__("The personal data of this message has been erased, so it cannot be sent again.")


class MessageNotRendered(MessageError):
    """The figures of a message and the templates of its kind do not make a mail."""

    code = "message_not_rendered"
