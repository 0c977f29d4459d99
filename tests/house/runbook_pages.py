"""The runbooks as a test reads them: sections, their commands, and what each is said to print.

A command is a block ```sh of one command, `# changes data` above it when it does. Below it follows a block ```text
with what it prints. There `...` stands for what varies, alone on a line for any lines, and `[exit code 3]` at the end
for an exit code other than 0. Words in capitals stand for what the reader has to fill in.
"""

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "docs" / "runbooks"
INDEX = FOLDER / "README.md"
# The page about backups is run by the test of its own commands.
OURS = sorted(path.name for path in FOLDER.glob("*.md") if path.name not in ("README.md", "backup-and-restore.md"))
CHANGES = "# changes data"
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
EXIT_CODE = re.compile(r"^\[exit code (\d+)\]\n?", re.MULTILINE)


@dataclass(frozen=True)
class Command:
    """One block. `output` is None where the page shows none."""

    text: str
    changes_data: bool
    output: str | None
    exit_code: int


@dataclass(frozen=True)
class Section:
    """What stands below one heading, up to the next of any level."""

    page: str
    heading: str
    commands: tuple[Command, ...]

    @property
    def name(self) -> str:
        return f"{self.page}: {self.heading}"


@cache
def sections(page: str) -> tuple[Section, ...]:
    parts = re.split(r"^#{2,4} (.+)$", outside_comments((FOLDER / page).read_text()), flags=re.MULTILINE)
    pairs = [("", parts[0]), *zip(parts[1::2], parts[2::2], strict=True)]
    return tuple(Section(page, heading, commands(text)) for heading, text in pairs)


def outside_comments(text: str) -> str:
    """The text with lines that begin with # inside of fences put out of the way of headings."""
    return FENCE.sub(lambda found: found[0].replace("\n#", "\n\x00#"), text)


def commands(text: str) -> tuple[Command, ...]:
    blocks = [(found[1], found[2].replace("\x00", "")) for found in FENCE.finditer(text)]
    found = []
    for number, (language, content) in enumerate(blocks):
        if language != "sh":
            continue
        follows = blocks[number + 1] if number + 1 < len(blocks) else ("", "")
        found.append(_command(content, follows[1] if follows[0] == "text" else None))
    return tuple(found)


def _command(content: str, output: str | None) -> Command:
    changes = content.startswith(f"{CHANGES}\n")
    text = content.removeprefix(f"{CHANGES}\n").strip()
    code = EXIT_CODE.search(output or "")
    shown = None if output is None else EXIT_CODE.sub("", output)
    return Command(text, changes, shown, int(code[1]) if code else 0)


def pattern(shown: str) -> re.Pattern[str]:
    """What the output has to match: line by line, with `...` for what varies."""
    lines = []
    for line in shown.strip().splitlines():
        if line.strip() == "...":
            lines.append(r"(?:.*\n)*?")
        else:
            lines.append(r".*?".join(map(re.escape, line.rstrip().split("..."))) + r"[ ]*\n")
    return re.compile("".join(lines))
