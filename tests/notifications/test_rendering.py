from email import message_from_bytes, policy
from email.message import EmailMessage, MIMEPart

import pytest

from notifications import services
from notifications.errors import MessageNotRendered
from notifications.models import Message
from notifications.services.rendering import compose
from tests.notifications.messages import COMMON, FIGURES, KINDS, queued

HOSTILE = "<script>alert(1)</script>"


def message(kind: str = "loyalty_points_expiring", *, locale: str = "en", **context) -> Message:
    values = {**COMMON, **FIGURES.get(kind, {}), **context}
    return Message(
        id=5, kind=kind, locale=locale, recipient="anna@example.com", context=values, dedupe_key="k", resends=0
    )


def mail_of(row: Message) -> EmailMessage:
    return message_from_bytes(compose(row).message().as_bytes(), _class=EmailMessage, policy=policy.default)


def test_the_warning_names_points_the_last_day_and_the_reason():
    rendered = services.preview(message())
    assert rendered.subject == "Your 12,500 points at Sunny Bakery expire after March 15, 2026"
    for text in (rendered.text, rendered.html.replace("<strong>", "").replace("</strong>", "")):
        assert "Hello Anna," in text
        assert "12,500 points" in text
        assert "until the end of March 15, 2026" in text
        assert "not been used for 365 days, and yours was last used on March 15, 2025" in text
        assert "help@sunny.example" in text
        assert "123456789012" in text


def test_the_expiry_names_both_days():
    text = services.preview(message("loyalty_points_expired")).text
    assert "On March 16, 2026, 12,500 points with Sunny Rewards expired." in text
    assert "until the end of March 15, 2026" in text


def test_the_welcome_names_the_bonus_only_when_there_is_one():
    assert "We have put 50 points" in services.preview(message("loyalty_enrollment")).text
    assert "We have put" not in services.preview(message("loyalty_enrollment", welcome_bonus_points=0)).text


def test_restored_points_keep_until_a_day_or_for_ever():
    assert "until the end of March 1, 2027" in services.preview(message("loyalty_points_restored")).text
    forever = services.preview(message("loyalty_points_restored", keeps_until_on=None))
    assert "Your points do not expire." in forever.text
    assert "Your points do not expire." in forever.html


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("points", [1, 2])
def test_one_point_is_not_written_as_points(kind, points):
    figures = dict.fromkeys(("points", "points_balance", "welcome_bonus_points", "expires_after_days"), points)
    rendered = services.preview(message(kind, **figures))
    for text in (rendered.subject, rendered.text, rendered.html):
        assert "1 points" not in text
        assert "2 point " not in text
        assert "1 days" not in text


@pytest.mark.parametrize("kind", KINDS)
def test_every_text_is_complete_without_name_and_address(kind):
    rendered = services.preview(message(kind, first_name="", support_email=""))
    assert "Hello," in rendered.text
    assert "Questions?" not in rendered.text + rendered.html
    assert "{{" not in rendered.subject + rendered.text + rendered.html
    assert "  " not in rendered.text
    assert "\n\n\n" not in rendered.text
    assert "None" not in rendered.subject + rendered.text + rendered.html


@pytest.mark.parametrize(
    ("locale", "figure", "day"),
    [
        ("en", "12,500", "March 15, 2026"),
        ("de", "12.500", "15. März 2026"),
        ("de-LU", "12.500", "15. März 2026"),
        ("fr", "12\xa0500", "15 mars 2026"),
        ("xx-invented", "12,500", "March 15, 2026"),
        ("", "12,500", "March 15, 2026"),
    ],
)
def test_figures_and_days_are_written_as_in_the_readers_country(locale, figure, day):
    text = services.preview(message(locale=locale)).text
    assert figure in text
    assert day in text


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("key", ["first_name", "merchant_name", "card_name", "card_number"])
def test_names_are_escaped_in_html_and_untouched_in_text(kind, key):
    rendered = services.preview(message(kind, **{key: HOSTILE}))
    assert "<script" not in rendered.html
    assert "&lt;script&gt;" in rendered.html
    assert HOSTILE in rendered.text
    assert "&lt;" not in rendered.text


@pytest.mark.parametrize("support_email", ["not an address", "a@b\r\nBcc: all@example.com", HOSTILE, None, 7])
def test_an_unusable_support_address_is_left_out(support_email):
    row = message(support_email=support_email)
    assert "Questions?" not in services.preview(row).text
    mail = mail_of(row)
    assert mail["Reply-To"] is None
    assert mail["Bcc"] is None


def test_the_mail_carries_what_mail_programs_need(settings):
    settings.DEFAULT_FROM_EMAIL = "Platform <cards@platform.example>"
    mail = mail_of(message())
    assert mail["From"] == "Sunny Bakery <cards@platform.example>"
    assert mail["Reply-To"] == "help@sunny.example"
    assert mail["To"] == "anna@example.com"
    assert mail["Auto-Submitted"] == "auto-generated"
    assert mail["X-Entity-Ref-ID"] == "message-5-0"
    assert str(mail["Message-ID"]).startswith("<message-5-")
    assert str(mail["Message-ID"]).endswith("@platform.example>")
    text, html = mail.iter_parts()
    assert isinstance(text, MIMEPart)
    assert isinstance(html, MIMEPart)
    assert (text.get_content_type(), html.get_content_type()) == ("text/plain", "text/html")
    assert "12,500 points" in text.get_content()
    assert '<html lang="en">' in html.get_content()


def test_the_message_id_is_stable_until_a_person_sends_the_message_again():
    row, again = message(), message()
    again.resends = 1
    assert mail_of(row)["Message-ID"] == mail_of(message())["Message-ID"]
    assert mail_of(row)["Message-ID"] != mail_of(again)["Message-ID"]


@pytest.mark.parametrize(
    ("merchant_name", "shown"),
    [
        ("Evil\r\nBcc: all@example.com", "Evil Bcc: all@example.com"),
        ("Evil\nSubject: won\n\nbody", "Evil Subject: won body"),
        ('Tom "The Baker", Ltd.', 'Tom "The Baker", Ltd.'),
        ("Back\\slash <ceo@bank.example>", "Back\\slash <ceo@bank.example>"),
        ("Bäckerei Müller 🥐", "Bäckerei Müller 🥐"),
        ("👩‍🍳 Family", "👩‍🍳 Family"),
        ("right\u202eto left\u0000", "right to left"),
        ("Name " * 60, ("Name " * 60).strip()),
        ("🥐" * 120, "🥐" * 120),
        ("", ""),
    ],
)
def test_no_merchant_name_can_change_the_headers(settings, merchant_name, shown):
    settings.DEFAULT_FROM_EMAIL = "cards@platform.example"
    mail = mail_of(message("loyalty_points_expired", merchant_name=merchant_name))
    assert len(mail.get_all("From") or []) == 1
    (sender,) = mail["From"].addresses
    assert (sender.display_name, sender.addr_spec) == (shown, "cards@platform.example")
    assert mail["Bcc"] is None
    assert len(mail.get_all("Subject") or []) == 1
    assert mail["To"] == "anna@example.com"


@pytest.mark.parametrize(
    ("kind", "context", "reason"),
    [
        ("loyalty_points_expiring", {"expires_on": "soon"}, "ValueError"),
        ("loyalty_points_expiring", {"points": None}, "must be a number"),
        ("loyalty_never_heard_of", {}, "TemplateDoesNotExist"),
    ],
)
def test_what_cannot_be_written_says_why(kind, context, reason):
    with pytest.raises(MessageNotRendered, match=reason):
        services.preview(message(kind, **context))


@pytest.mark.parametrize("kind", KINDS)
def test_a_missing_figure_is_named_instead_of_left_out_of_the_text(kind):
    row = message(kind)
    del row.context["card_number"]
    row.context.pop("points", None)
    with pytest.raises(MessageNotRendered, match="lacks card_number"):
        services.preview(row)


@pytest.mark.django_db
def test_a_queued_message_can_be_previewed():
    assert services.preview(queued()).subject.startswith("Your 12,500 points")
