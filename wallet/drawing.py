"""Pictures: the project's own, drawn here in every size, and merchants' logos, drawn anew from what they upload."""

import warnings
from functools import cache
from io import BytesIO

from PIL import Image, ImageDraw, ImageOps

from wallet.errors import InvalidLogo

LARGEST_UPLOAD_BYTES = 2 * 1024 * 1024
LARGEST_SIDE_PIXELS = 4096
LOGO_SIZE = (480, 150)  # three times what an Apple pass has room for
FORMATS = ("PNG", "JPEG", "WEBP")

NAVY, SAND, WHITE = (29, 53, 87, 255), (244, 162, 97, 255), (255, 255, 255, 255)
CLEAR = (255, 255, 255, 0)
FAINT = (255, 255, 255, 26)  # on the strip a balance is written over it, on any colour
FINER = 4  # drawn so many times as large and reduced: Pillow's circles have rough edges


def read_logo(upload: bytes) -> bytes:
    """A merchant's logo as PNG that fits 480 x 150 pixels, without anything that the file said beside the picture.

    Raises:
        InvalidLogo: it is no PNG, JPEG or WebP, damaged, or too large; the sentence says which.
    """
    if len(upload) > LARGEST_UPLOAD_BYTES:
        raise InvalidLogo("The file is larger than 2 MB. Upload a smaller picture.")
    picture = _opened(upload)
    if max(picture.size) > LARGEST_SIDE_PIXELS:
        width, height = picture.size
        raise InvalidLogo(f"The picture has {width} x {height} pixels. Upload one of at most 4096 x 4096.")
    return _png(_fitting(_decoded(picture), LOGO_SIZE))


def reduced(logo: bytes, *, to: tuple[int, int]) -> bytes:
    """A logo of ours to these many pixels at most; as it is, when it fits."""
    with Image.open(BytesIO(logo)) as picture:
        if picture.width <= to[0] and picture.height <= to[1]:
            return logo
        return _png(_fitting(picture, to))


def on_square(logo: bytes, *, side: int) -> bytes:
    """The logo in the middle of a white square, with a margin that a round mask may take."""
    room = round(side * 0.7)
    with Image.open(BytesIO(logo)) as picture:
        factor = min(room / picture.width, room / picture.height)
        size = max(1, round(picture.width * factor)), max(1, round(picture.height * factor))
        enlarged = picture.convert("RGBA").resize(size, Image.Resampling.LANCZOS)
    square = Image.new("RGBA", (side, side), WHITE)
    square.alpha_composite(enlarged, ((side - size[0]) // 2, (side - size[1]) // 2))
    return _png(square)


@cache
def icon(side: int) -> bytes:
    """Our emblem on its colour, for places that round the corners themselves."""
    return _png(_emblem(side, ground=NAVY))


@cache
def emblem(side: int) -> bytes:
    """Our emblem alone."""
    return _png(_emblem(side, ground=CLEAR))


@cache
def strip(width: int, height: int) -> bytes:
    """Faint rings for any background."""
    picture = Image.new("RGBA", (width * FINER, height * FINER), CLEAR)
    draw = ImageDraw.Draw(picture)
    unit = height * FINER
    for across, radius in ((0.86, 0.62), (0.86, 0.36), (0.08, 0.3)):
        _ring(draw, (picture.width * across, unit * 0.62), unit * radius, line=unit * 0.09, colour=FAINT)
    return _png(picture.resize((width, height), Image.Resampling.LANCZOS))


def _emblem(side: int, *, ground: tuple[int, int, int, int]) -> Image.Image:
    """A stamp: a ring, and what is collected in it."""
    unit = side * FINER
    picture = Image.new("RGBA", (unit, unit), ground)
    draw, middle = ImageDraw.Draw(picture), (unit / 2, unit / 2)
    _ring(draw, middle, unit * 0.36, line=unit * 0.08, colour=WHITE)
    _ring(draw, middle, unit * 0.17, line=unit * 0.17, colour=SAND)
    return picture.resize((side, side), Image.Resampling.LANCZOS)


def _ring(
    draw: ImageDraw.ImageDraw,
    middle: tuple[float, float],
    radius: float,
    *,
    line: float,
    colour: tuple[int, int, int, int],
) -> None:
    x, y = middle
    draw.ellipse((x - radius, y - radius, x + radius, y + radius), outline=colour, width=round(line))


def _opened(upload: bytes) -> Image.Image:
    """The picture, of which only the head was read."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # its size is looked at next
            return Image.open(BytesIO(upload), formats=FORMATS)
    except Image.DecompressionBombError:
        raise InvalidLogo("The picture is far too large. Upload one of at most 4096 x 4096 pixels.") from None
    except ValueError:  # such as text in it that unpacks to megabytes
        raise InvalidLogo("The file cannot be read as a picture. Save it anew, without any text in it.") from None
    except (OSError, SyntaxError):
        raise InvalidLogo("The file is no PNG, JPEG or WebP picture.") from None


def _decoded(picture: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(picture).convert("RGBA")
    except (OSError, ValueError, SyntaxError):
        raise InvalidLogo("The picture is damaged. Save it anew and upload that.") from None


def _fitting(picture: Image.Image, size: tuple[int, int]) -> Image.Image:
    fitting = picture.copy()
    fitting.thumbnail(size, Image.Resampling.LANCZOS)
    return fitting


def _png(picture: Image.Image) -> bytes:
    buffer = BytesIO()
    Image.frombytes(picture.mode, picture.size, picture.tobytes()).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()
