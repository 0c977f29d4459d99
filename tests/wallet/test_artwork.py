import struct
import zlib
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO

import pytest
from django.db import connection
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from tests.factories import NOON, days, make_merchant
from wallet.drawing import LARGEST_UPLOAD_BYTES, on_square
from wallet.errors import InvalidLogo
from wallet.models import Artwork
from wallet.services.artwork import logo_of, remove_logo, replace_logo

pytestmark = pytest.mark.django_db


def picture(
    width: int = 600, height: int = 200, *, form: str = "PNG", mode: str = "RGB", colour="red", **options
) -> bytes:
    buffer = BytesIO()
    Image.new(mode, (width, height), colour).save(buffer, form, **options)
    return buffer.getvalue()


def pixel(png: bytes, x: int, y: int) -> tuple[int, ...]:
    found = shown(png).getpixel((x, y))
    assert isinstance(found, tuple)
    return found


def shown(png: bytes) -> Image.Image:
    with Image.open(BytesIO(png)) as image:
        assert image.format == "PNG"
        return image.convert("RGBA")


@pytest.fixture
def program():
    return make_merchant().program


def replace(program, upload: bytes, *, at=NOON) -> Artwork:
    return replace_logo(program=program, upload=upload, actor="ana", at=at)


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP"])
def test_a_logo_is_kept_as_png_in_the_size_of_passes(program, form):
    replace(program, picture(form=form))
    digest, png = logo_of(program)

    assert png
    assert len(digest) == 64
    assert shown(png).size == (450, 150)
    red, green, blue, alpha = pixel(png, 10, 10)
    assert (red > 240, green < 15, blue < 15, alpha) == (True, True, True, 255)


@pytest.mark.parametrize(
    ("size", "kept"), [((480, 150), (480, 150)), ((30, 20), (30, 20)), ((4096, 1), (480, 1)), ((1, 4096), (1, 150))]
)
def test_a_logo_is_never_enlarged_and_keeps_its_shape(program, size, kept):
    replace(program, picture(*size))

    assert shown(logo_of(program)[1] or b"").size == kept


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_every_kind_of_png_is_understood(program, mode):
    replace(program, picture(mode=mode, colour=1 if mode in ("1", "L", "P", "I;16") else None))

    assert logo_of(program)[1]


def test_a_jpeg_for_printers_is_understood(program):
    replace(program, picture(form="JPEG", mode="CMYK", colour=(0, 255, 255, 0)))

    assert pixel(logo_of(program)[1] or b"", 0, 0)[0] > 200


def test_nothing_that_the_file_said_beside_the_picture_is_kept(program):
    exif, notes = Image.Exif(), PngInfo()
    exif[0x010E] = "taken at home"
    notes.add_text("Comment", "taken at home")
    for upload in (picture(form="JPEG", exif=exif), picture(pnginfo=notes, exif=exif)):
        assert b"taken at home" in upload
        replace(program, upload)
        assert b"taken at home" not in (logo_of(program)[1] or b"")


def test_a_picture_taken_sideways_is_turned_upright(program):
    exif = Image.Exif()
    exif[0x0112] = 6
    replace(program, picture(40, 100, form="JPEG", exif=exif))

    assert shown(logo_of(program)[1] or b"").size == (100, 40)


def test_transparency_is_kept(program):
    replace(program, picture(mode="RGBA", colour=(255, 0, 0, 0)))

    assert pixel(logo_of(program)[1] or b"", 0, 0)[3] == 0


@pytest.mark.parametrize(
    "upload", [b"", b"garbage", b"\x89PNG\r\n\x1a\n", b"<svg xmlns='http://www.w3.org/2000/svg'/>"]
)
def test_what_is_no_picture_is_refused(program, upload):
    with pytest.raises(InvalidLogo, match="The file is no PNG, JPEG or WebP picture"):
        replace(program, upload)


def test_a_picture_with_text_that_unpacks_to_megabytes_is_refused(program):
    text = PngInfo()
    text.add_text("Comment", "a" * 2 * 1024 * 1024, zip=True)
    buffer = BytesIO()
    Image.new("RGB", (10, 10)).save(buffer, "PNG", pnginfo=text)

    with pytest.raises(InvalidLogo, match="The file cannot be read as a picture"):
        replace(program, buffer.getvalue())


@pytest.mark.parametrize("form", ["GIF", "BMP", "TIFF", "ICO", "PPM"])
def test_other_kinds_of_pictures_are_refused(program, form):
    with pytest.raises(InvalidLogo, match="The file is no PNG, JPEG or WebP picture"):
        replace(program, picture(form=form))


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP"])
def test_a_damaged_picture_is_refused(program, form):
    noise = Image.effect_noise((300, 300), 80).convert("RGB")
    buffer = BytesIO()
    noise.save(buffer, form)

    with pytest.raises(InvalidLogo, match=r"The picture is damaged|The file is no PNG"):
        replace(program, buffer.getvalue()[: len(buffer.getvalue()) // 2])


def test_a_file_of_more_than_2_mb_is_refused(program):
    with pytest.raises(InvalidLogo, match="larger than 2 MB"):
        replace(program, picture() + b"\0" * LARGEST_UPLOAD_BYTES)


def test_a_picture_of_too_many_pixels_is_refused(program):
    with pytest.raises(InvalidLogo, match="The picture has 4097 x 10 pixels"):
        replace(program, picture(4097, 10))


@pytest.mark.parametrize("side", [12_000, 60_000, 2**31 - 1])
def test_a_small_file_that_would_unpack_to_gigabytes_is_refused_by_its_head(program, side):
    with pytest.raises(InvalidLogo, match=r"The picture (has|is far too large)"):
        replace(program, bomb(side))


def test_a_comment_that_would_unpack_to_megabytes_is_refused(program):
    png = picture(10, 10)
    comment = chunk(b"zTXt", b"Comment\0\0" + zlib.compress(b"\0" * 80_000_000))

    with pytest.raises(InvalidLogo):
        replace(program, png[:33] + comment + png[33:])


def test_a_refused_file_leaves_the_logo_that_was(program):
    before = replace(program, picture())

    with pytest.raises(InvalidLogo):
        replace(program, b"garbage", at=NOON + days(1))

    assert Artwork.objects.get().version == before.version
    assert logo_of(program)[0] == before.digest


def test_a_program_without_a_logo_has_ours(program):
    assert logo_of(program) == ("", None)


def test_every_change_has_a_version_of_its_own_and_removal_is_one(program):
    versions = [
        replace(program, picture(colour="red")).version,
        replace(program, picture(colour="red"), at=NOON + days(1)).version,
        replace(program, picture(colour="blue"), at=NOON + days(2)).version,
        remove_logo(program=program, actor="ben", at=NOON + days(3)).version,
        replace(program, picture(colour="red"), at=NOON + days(4)).version,
    ]

    assert versions == [1, 1, 2, 3, 4]


def test_a_removed_logo_is_gone_and_who_removed_it_is_known(program):
    replace(program, picture())
    remove_logo(program=program, actor="ben", at=NOON + days(1))

    assert logo_of(program) == ("", None)
    artwork = Artwork.objects.get()
    assert (artwork.uploaded_by, artwork.uploaded_at, bytes(artwork.logo)) == ("ben", NOON + days(1), b"")


@pytest.mark.django_db(transaction=True)
def test_two_uploads_at_once_are_two_versions(program):
    uploads = [picture(colour=colour) for colour in ("red", "blue", "green", "white")]

    def upload(content: bytes) -> int:
        try:
            return replace(program, content).version
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as pool:
        assert sorted(pool.map(upload, uploads)) == [1, 2, 3, 4]


@pytest.mark.parametrize("size", [(480, 150), (20, 150), (1, 1)])
def test_google_gets_a_square_with_room_for_its_round_mask(size):
    square = shown(on_square(picture(*size), side=660))

    assert square.size == (660, 660)
    assert square.getpixel((330, 330)) == (255, 0, 0, 255)
    assert square.getpixel((60, 330)) == square.getpixel((330, 60)) == (255, 255, 255, 255)


def bomb(side: int) -> bytes:
    """A PNG that says it is as wide and high as that."""
    head = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    content = zlib.compress(b"\0" * 1000)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", content) + chunk(b"IEND", b"")


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
