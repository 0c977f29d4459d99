"""E-mail addresses and phone numbers in the one form in which they are kept."""

import re

import phonenumbers
from django.core.exceptions import ValidationError
from django.core.validators import validate_email

from loyalty.errors import InvalidInput

# Numbers that a country's plan calls possible and the table does not hold: local ones of a few digits.
E164 = r"\+[1-9][0-9]{6,14}"


def normalised_email(raw: str) -> str:
    """The address without surrounding space; empty stays empty.

    Raises:
        InvalidInput: it is not an e-mail address.
    """
    email = raw.strip()
    if email:
        try:
            validate_email(email)
        except ValidationError:
            raise InvalidInput("This is not an e-mail address, such as ana@example.com.", field="email") from None
    return email


def normalised_phone(raw: str, *, country: str) -> str:
    """The number in E.164. National forms are read as numbers of `country` (two letters, may be empty).

    Raises:
        InvalidInput: it is not a phone number that can exist.
    """
    if not raw.strip():
        return ""
    try:
        number = phonenumbers.parse(raw, country or None)
        written = str(phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164))
        is_usable = phonenumbers.is_possible_number(number) and re.fullmatch(E164, written) is not None
    except phonenumbers.NumberParseException:
        is_usable = False
    if not is_usable:
        raise InvalidInput("This is not a phone number, such as +352 621 123 456.", field="phone")
    return written
