"""The logo on passes: uploaded, replaced and removed in the admin."""

from io import BytesIO

import pytest
from django.contrib.admin.models import LogEntry
from django.core.files.uploadedfile import SimpleUploadedFile
from django.urls import reverse
from PIL import Image

from loyalty.models import Program
from tests.factories import NOON, make_merchant
from tests.loyalty.admin.test_lists import statements
from tests.wallet.rows import make_artwork
from wallet.drawing import LARGEST_UPLOAD_BYTES
from wallet.models import Artwork
from wallet.services.artwork import remove_logo

pytestmark = pytest.mark.django_db
ADD = "/admin/wallet/artwork/add/"


def page(name: str, *args) -> str:
    return reverse(f"admin:wallet_artwork_{name}", args=args)


def picture(colour: str = "green", form: str = "PNG") -> SimpleUploadedFile:
    file = BytesIO()
    Image.new("RGB", (600, 300), colour).save(file, form)
    return SimpleUploadedFile(f"logo.{form.lower()}", file.getvalue())


def upload(client, program: Program, file: SimpleUploadedFile):
    return client.post(ADD, {"program": program.pk, "picture": file})


def errors_of(answer) -> str:
    form = answer.context.get("adminform") or answer.context["form"]
    return str(form.errors)


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP"])
def test_a_logo_is_uploaded_and_drawn_anew(form, admin_client):
    program = make_merchant().program

    answer = upload(admin_client, program, picture(form=form))

    assert answer.status_code == 302
    artwork = Artwork.objects.get(program=program)
    with Image.open(BytesIO(bytes(artwork.logo))) as drawn:
        assert (drawn.format, drawn.size) == ("PNG", (300, 150))
    assert (artwork.version, artwork.uploaded_by) == (1, "admin")
    assert LogEntry.objects.get().object_id == str(program.pk)


def test_uploading_for_a_program_that_has_a_logo_replaces_it(admin_client):
    artwork = make_artwork()
    sentence = f"{artwork.program} had a logo; this one has replaced it."

    answer = admin_client.post(ADD, {"program": artwork.program.pk, "picture": picture()}, follow=True)

    assert sentence in answer.content.decode()
    assert Artwork.objects.get().version == 2


@pytest.mark.parametrize("had_one_before", [False, True])
def test_the_logo_of_a_program_that_has_none_replaces_nothing(had_one_before, admin_client):
    program = make_merchant().program
    if had_one_before:
        make_artwork(program)
        remove_logo(program=program, actor="ana", at=NOON)

    answer = admin_client.post(ADD, {"program": program.pk, "picture": picture()}, follow=True)

    assert "has replaced it" not in answer.content.decode()


@pytest.mark.parametrize(
    ("file", "sentence"),
    [
        (SimpleUploadedFile("logo.png", b"<svg/>"), "The file is no PNG, JPEG or WebP picture."),
        (SimpleUploadedFile("logo.gif", picture(form="GIF").read()), "The file is no PNG, JPEG or WebP picture."),
        (SimpleUploadedFile("logo.png", b"\x89PNG" + bytes(LARGEST_UPLOAD_BYTES)), "The file is larger than 2 MB."),
        (SimpleUploadedFile("logo.png", b""), "The submitted file is empty."),
    ],
)
def test_what_is_no_logo_is_refused_beside_its_field_and_nothing_is_kept(file, sentence, admin_client):
    answer = upload(admin_client, make_merchant().program, file)
    assert sentence in errors_of(answer)
    assert not Artwork.objects.exists()

    artwork = make_artwork()
    file.seek(0)
    answer = admin_client.post(page("replace", artwork.pk), {"picture": file})
    assert sentence in errors_of(answer)
    assert Artwork.objects.get().version == 1


def test_a_logo_is_replaced_and_removed_on_its_page(admin_client):
    artwork = make_artwork()
    form = admin_client.get(page("replace", artwork.pk)).content.decode()
    assert 'enctype="multipart/form-data"' in form

    replaced = admin_client.post(page("replace", artwork.pk), {"picture": picture()}, follow=True)
    assert "Replaced. Phones are told within minutes." in replaced.content.decode()
    removed = admin_client.post(page("remove", artwork.pk), follow=True)
    assert "passes show our own logo again" in removed.content.decode()

    artwork.refresh_from_db()
    assert (artwork.version, artwork.digest) == (3, "")
    assert [button["label"] for button in removed.context["buttons"]] == ["Replace logo"]


@pytest.mark.parametrize("is_removed", [False, True])
def test_the_page_shows_what_passes_show_on_the_colour_of_the_card(is_removed, admin_client):
    artwork = make_artwork(make_merchant(background_colour="#0a7b3e").program)
    if is_removed:
        remove_logo(program=artwork.program, actor="ana", at=artwork.uploaded_at)

    text = admin_client.get(page("change", artwork.pk)).content.decode()

    assert 'fill="#0a7b3e"' in text
    assert "data:image/png;base64,iVBORw0KGgo" in text
    assert ("ours" if is_removed else "the merchant&#x27;s own logo") in text


def test_the_list_reads_no_pictures(admin_client):
    make_artwork()

    for sql in statements(admin_client, page("changelist")):
        assert '"wallet_artwork"."logo"' not in sql


def test_managers_upload_logos_for_their_own_programs_alone(client_for):
    own, foreign = make_merchant().program, make_merchant().program
    allowed = ("wallet.add_artwork", "wallet.change_artwork", "wallet.view_artwork")
    manager = client_for(*allowed, managing=[own.merchant])
    support = client_for(*allowed, supporting=[own.merchant])

    assert "program" in errors_of(upload(manager, foreign, picture()))
    assert "program" in errors_of(upload(support, own, picture()))
    assert not Artwork.objects.exists()
    assert upload(manager, own, picture()).status_code == 302

    others = make_artwork(foreign)
    assert list(manager.get(page("changelist")).context["cl"].result_list) == [Artwork.objects.get(program=own)]
    for name in ("replace", "remove"):
        assert manager.post(page(name, others.pk)).status_code == 404
        assert support.post(page(name, own.pk)).status_code == 403


def test_who_may_only_look_uploads_nothing(client_for):
    program = make_merchant().program
    client = client_for("wallet.view_artwork", managing=[program.merchant])

    assert upload(client, program, picture()).status_code == 403
    assert client.post(page("remove", make_artwork(program).pk)).status_code == 403
