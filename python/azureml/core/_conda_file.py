"""Reading and writing conda dependency files without a YAML library.

What such files hold: ``name``, ``channels`` (a list), ``dependencies`` (a list of texts and at most one ``pip`` list). Anything
else of YAML is refused by line.
"""
import re
from typing import Any, Dict, List, Optional, Tuple

from azureml.exceptions import UserErrorException

_KEY = re.compile(r"([A-Za-z_][\w-]*)\s*:\s*(.*)\Z")


def parse(text: str, what: str) -> Dict[str, Any]:
    """{'name': text, 'channels': [text], 'dependencies': [text or {'pip': [text]}]} of a conda file.

    what: the file's name, for UserErrorException, which also names the line.
    """
    return _Reader(text, what).read()


class _Reader:
    def __init__(self, text: str, what: str) -> None:
        self.what = what
        self.lines: List[Tuple[int, int, str]] = []  # number, indent, text
        for number, raw in enumerate(text.splitlines(), 1):
            line = _uncomment(raw).rstrip()
            if line.strip() and line.strip() not in ("---", "..."):
                if "\t" in line[:len(line) - len(line.lstrip())]:
                    raise self.refuse(number, "tabs cannot indent")
                self.lines.append((number, len(line) - len(line.lstrip(" ")), line.strip()))

    def refuse(self, number: int, why: str) -> UserErrorException:
        return UserErrorException("the conda file '%s' cannot be read: line %d: %s" % (self.what, number, why))

    def read(self) -> Dict[str, Any]:
        result: Dict[str, Any] = {}
        at = 0
        while at < len(self.lines):
            number, indent, line = self.lines[at]
            match = _KEY.match(line)
            if indent or not match:
                raise self.refuse(number, "'%s' is not of the form 'key: value'" % line)
            key, value = match.groups()
            at += 1
            if value:
                result[key] = self.inline(number, value)
            else:
                result[key], at = self.items(at, indent)
        for key in ("channels", "dependencies"):
            if not isinstance(result.get(key, []), list):
                raise UserErrorException("the conda file '%s' cannot be read: '%s' is not a list" % (self.what, key))
        return result

    def items(self, at: int, outer: int) -> Tuple[List[Any], int]:
        """The list whose items begin at line `at`, deeper than `outer` (or at it, as YAML allows below a key)."""
        found: List[Any] = []
        indent: Optional[int] = None
        while at < len(self.lines):
            number, depth, line = self.lines[at]
            if depth < outer or not line.startswith("-") or (indent is not None and depth < indent):
                break
            indent = depth if indent is None else indent
            if depth != indent or (line != "-" and not line.startswith("- ")):
                raise self.refuse(number, "'%s' does not line up with the list's other items" % line)
            item = line[1:].strip()
            at += 1
            match = re.match(r"([A-Za-z_]\w*)\s*:\s*(.*)\Z", item)
            if match and not match.group(2):
                nested, at = self.items(at, depth + 1)
                found.append({match.group(1): nested})
            elif match and match.group(2).startswith("["):
                found.append({match.group(1): self.inline(number, match.group(2))})
            else:
                found.append(self.scalar(number, item))
        return found, at

    def inline(self, number: int, value: str) -> Any:
        if value.startswith("["):
            if not value.endswith("]"):
                raise self.refuse(number, "a list in brackets ends on its line")
            return [self.scalar(number, part.strip()) for part in value[1:-1].split(",") if part.strip()]
        return self.scalar(number, value)

    def scalar(self, number: int, text: str) -> str:
        if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"":
            return text[1:-1]
        if text[:1] in ("{", "&", "*", "!", "|", ">", "@", "`", "'", '"', ""):
            raise self.refuse(number, "'%s' is not a plain text" % text)
        return text


def _uncomment(line: str) -> str:
    quote = ""
    for i, char in enumerate(line):
        if quote:
            quote = "" if char == quote else quote
        elif char in "'\"":
            quote = char
        elif char == "#" and (i == 0 or line[i - 1] in " \t"):
            return line[:i]
    return line


def dump(values: Dict[str, Any]) -> str:
    """The text of a conda file."""
    lines = ["name: %s" % values.get("name", "project_environment")]
    if values.get("channels"):
        lines += ["channels:"] + ["- %s" % c for c in values["channels"]]
    lines.append("dependencies:")
    for item in values.get("dependencies", []):
        if isinstance(item, dict):
            for key, nested in item.items():
                lines += ["- %s:" % key] + ["  - %s" % n for n in nested]
        else:
            lines.append("- %s" % item)
    return "\n".join(lines) + "\n"
