"""The part of YAML that conda files and run configurations use, read and written without a library.

Read: block mappings and lists, flow ones (``[a, b]``, ``{a: b}``), plain and quoted texts (also over several lines), ``|`` and
``>`` blocks, comments. Anchors, aliases, tags and second documents are refused by line. Written: block style that every YAML
reader understands, texts quoted where any of them would take them for something else.
"""
import re
from typing import Any, Dict, Iterator, List, Match, Optional, Tuple

from azureml.exceptions import UserErrorException

MAX_DEPTH = 50
_KEY = re.compile(r"""("(?:[^"\\]|\\.)*"|'(?:[^']|'')*'|[^\s'"\[\]{},&*!|>%@`#-].*?|-[^\s].*?)\s*:(?:\s+(.*))?\Z""")
_BLOCK = re.compile(r"([|>])([+-]?)([1-9]?)([+-]?)\Z")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+\.[0-9]*)([eE][-+]?[0-9]+)?\Z")
_INT = re.compile(r"[-+]?(0|[1-9][0-9]*)\Z")
_ESCAPE = re.compile(r"\\(x[0-9A-Fa-f]{2}|u[0-9A-Fa-f]{4}|U[0-9A-Fa-f]{8}|.)")
_ESCAPES = {"0": "\0", "a": "\a", "b": "\b", "t": "\t", "n": "\n", "v": "\v", "f": "\f", "r": "\r", "e": "\x1b", " ": " ", '"': '"',
            "/": "/", "\\": "\\", "N": "\x85", "_": "\xa0", "L": "\u2028", "P": "\u2029"}
_WORDS: Dict[str, Any] = {"": None, "~": None, "null": None, "Null": None, "NULL": None, "true": True, "True": True, "TRUE": True,
                          "false": False, "False": False, "FALSE": False}
_OLD_WORDS = frozenset({"y", "n", "yes", "no", "on", "off"})  # booleans of YAML 1.1


class Map(Dict[str, Any]):
    """A mapping, and the line that it begins on."""

    line: int = 0


def parse(text: str, what: str, texts: bool = False) -> Map:
    """The mapping that a file holds; an empty file: an empty one.

    what: the file in words, for UserErrorException, which also names the line. texts: leave scalars as texts ('3.10' is no number);
    only what is not there is None.
    """
    return _Reader(text, what, texts).read()


class _Reader:
    def __init__(self, text: str, what: str, texts: bool) -> None:
        self.what = what
        self.texts = texts
        self.lines = text.split("\n")
        self.at = 0

    def refuse(self, why: str, at: Optional[int] = None) -> UserErrorException:
        number = min((self.at if at is None else at) + 1, len(self.lines))
        return UserErrorException("%s cannot be read: line %d: %s" % (self.what, number, why))

    def read(self) -> Map:
        found = self.peek()
        if found is not None and found[1] == "---":
            self.at += 1
            found = self.peek()
        if found is None:
            return Map()
        indent, content = found
        if indent or not _KEY.match(content):
            raise self.refuse("'%s' is not of the form 'key: value'" % content)
        result = self.mapping(0, 0)
        found = self.peek()
        if found is not None:
            raise self.refuse("'%s' does not belong there" % found[1])
        return result

    def peek(self) -> Optional[Tuple[int, str]]:
        """Indent and content of the next line that has any, to which `at` moves."""
        while self.at < len(self.lines):
            line = _uncomment(self.lines[self.at].rstrip("\r"))
            content = line.strip()
            if content == "...":
                return None
            if content:
                blank = line[:len(line) - len(line.lstrip())]
                if "\t" in blank:
                    raise self.refuse("tabs cannot indent")
                return len(blank), content
            self.at += 1
        return None

    def mapping(self, indent: int, depth: int) -> Map:
        result = Map()
        result.line = self.at + 1
        while True:
            found = self.peek()
            if found is None or found[0] < indent:
                return result
            match = _KEY.match(found[1])
            if found[0] > indent or not match:
                raise self.refuse("'%s' is not of the form 'key: value', or is indented otherwise than the lines above" % found[1])
            key = self.key(match)
            if key in result:
                raise self.refuse("'%s' is there twice" % key)
            rest = match.group(2) or ""
            if rest:
                result[key] = self.value(rest, indent, depth)
            else:
                self.at += 1
                below = self.peek()
                if below is not None and (below[0] > indent or (below[0] == indent and _is_item(below[1]))):
                    result[key] = self.block(below[0], indent, depth + 1)
                else:
                    result[key] = None

    def key(self, match: Match[str]) -> str:
        text = match.group(1)
        return self.quoted(text) if text[0] in "'\"" else text

    def block(self, indent: int, outer: int, depth: int) -> Any:
        """The node whose first line is the next one, at `indent`; `outer` is the indent of what holds it."""
        if depth > MAX_DEPTH:
            raise self.refuse("it is nested more than %d deep" % MAX_DEPTH)
        found = self.peek()
        if found is None:
            return None
        if _is_item(found[1]):
            return self.sequence(indent, depth)
        if _KEY.match(found[1]) and found[1][0] not in "[{":
            return self.mapping(indent, depth)
        return self.value(found[1], outer, depth)

    def sequence(self, indent: int, depth: int) -> List[Any]:
        result: List[Any] = []
        while True:
            found = self.peek()
            if found is None or found[0] < indent or (found[0] == indent and not _is_item(found[1])):
                return result
            if found[0] > indent:
                raise self.refuse("'%s' is indented otherwise than the lines above" % found[1])
            rest = found[1][1:].lstrip()
            if not rest:
                self.at += 1
                below = self.peek()
                result.append(self.block(below[0], indent, depth + 1) if below is not None and below[0] > indent else None)
            else:  # what follows the dash is a node of its own, which begins in its column
                column = indent + len(found[1]) - len(rest)
                self.lines[self.at] = " " * column + self.lines[self.at][column:]
                result.append(self.block(column, indent, depth + 1))

    def value(self, text: str, outer: int, depth: int) -> Any:
        """A scalar or flow node that begins with `text` on the present line, and may go on over lines deeper than `outer`."""
        start = self.at
        match = _BLOCK.match(text)
        if match:
            return self.literal(match, outer)
        if text[0] in "'\"":
            while not _closed(text):
                text = self.joined(text, start, "its quote is not closed")
            whole = self.quoted(text)
            self.at += 1
            return whole
        if text[0] in "[{":
            while not _balanced(text):
                text = self.joined(text, start, "its bracket is not closed")
            node = _Flow(self, text, depth).read()
            self.at += 1
            return node
        self.at += 1
        while True:
            found = self.peek()
            if found is None or found[0] <= outer:
                break
            if _is_item(found[1]) or _KEY.match(found[1]):
                raise self.refuse("'%s' is indented otherwise than the lines above" % found[1])
            text += " " + found[1]
            self.at += 1
        return self.scalar(text, start)

    def joined(self, text: str, start: int, why: str) -> str:
        """`text` and the next line, as quoted texts and flow nodes are folded."""
        self.at += 1
        if self.at >= len(self.lines):
            raise self.refuse(why, start)
        line = self.lines[self.at].strip()
        if text[0] in "[{":
            inside = _open(text)
            line = line if inside else _uncomment(line).strip()
            if inside and not line:
                raise self.refuse("a quoted text in brackets has no empty lines")
        if not line and text[0] in "'\"":
            return text + ("\\n" if text[0] == '"' else "\n")
        if text[0] != "'" and re.search(r"(?<!\\)(\\\\)*\\\Z", text):
            return text[:-1] + line
        return text + ("" if text.endswith(("\n", "\\n")) else " ") + line

    def literal(self, match: Match[str], outer: int) -> str:
        """A ``|`` or ``>`` block: the lines below that are deeper."""
        self.at += 1
        first = self.at
        lines: List[str] = []
        while self.at < len(self.lines):
            line = self.lines[self.at].rstrip("\r")
            if line.strip() and len(line) - len(line.lstrip(" ")) <= outer:
                break
            lines.append(line)
            self.at += 1
        while lines and not lines[-1].strip():
            lines.pop()
        self.at = first + len(lines)
        filled = [len(x) - len(x.lstrip(" ")) for x in lines if x.strip()]
        indent = outer + int(match.group(3)) if match.group(3) else filled[0] if filled else 0
        lines = [x[indent:] for x in lines]
        text = "\n".join(lines) if match.group(1) == "|" else _folded(lines)
        return text if "-" in match.group(2) + match.group(4) or not text else text + "\n"

    def quoted(self, text: str) -> str:
        if len(text) < 2 or text[-1] != text[0]:
            raise self.refuse("after the closing quote of %s stands more" % text)
        if text[0] == "'":
            return text[1:-1].replace("''", "'")
        return _ESCAPE.sub(self.escape, text[1:-1])

    def escape(self, match: Match[str]) -> str:
        code = match.group(1)
        if len(code) > 1:
            number = int(code[1:], 16)
            if number > 0x10FFFF:
                raise self.refuse("'\\%s' is no character" % code)
            return chr(number)
        if code not in _ESCAPES:
            raise self.refuse("'\\%s' is no escape" % code)
        return _ESCAPES[code]

    def scalar(self, text: str, at: int) -> Any:
        if text[:1] and text[0] in "&*!|>@`%#'\"" or re.search(r":(\s|\Z)", text):
            raise self.refuse("'%s' is not a plain text" % text, at)
        if self.texts:
            return None if text in ("", "~", "null") else text
        return resolve(text)


class _Flow:
    """``[a, b]`` or ``{a: b}``, all of it in one text."""

    def __init__(self, reader: _Reader, text: str, depth: int) -> None:
        self.reader, self.text, self.depth, self.pos = reader, text, depth, 0
        self.line = reader.at

    def read(self) -> Any:
        node = self.node(self.depth)
        if self.char():
            raise self.refuse("after '%s' stands more" % self.text[:self.pos])
        return node

    def refuse(self, why: str) -> UserErrorException:
        return self.reader.refuse(why, self.line)

    def char(self) -> str:
        while self.pos < len(self.text) and self.text[self.pos] in " \t":
            self.pos += 1
        return self.text[self.pos:self.pos + 1]

    def node(self, depth: int) -> Any:
        if depth > MAX_DEPTH:
            raise self.refuse("it is nested more than %d deep" % MAX_DEPTH)
        char = self.char()
        if char == "[":
            return list(self.entries("]", depth))
        if char == "{":
            result = Map(self.entries("}", depth))
            result.line = self.line + 1
            return result
        return self.scalar()

    def entries(self, end: str, depth: int) -> Iterator[Any]:
        self.pos += 1
        while self.char() != end:
            if end == "]":
                yield self.node(depth + 1)
            else:
                key = self.scalar(True)
                if self.char() != ":":
                    raise self.refuse("'%s' is not of the form '{key: value}'" % self.text)
                self.pos += 1
                yield key, None if self.char() in (",", end) else self.node(depth + 1)
            if self.char() == ",":
                self.pos += 1
            elif self.char() != end:
                raise self.refuse("'%s' lacks a comma or '%s'" % (self.text, end))
        self.pos += 1

    def scalar(self, key: bool = False) -> Any:
        char = self.char()
        if char and char in "'\"":
            match = re.compile(r"'(?:[^']|'')*'" if char == "'" else r'"(?:[^"\\]|\\.)*"').match(self.text, self.pos)
            assert match  # its brackets were counted with the quotes closed
            self.pos = match.end()
            return self.reader.quoted(match.group())
        match = re.compile(r"(?:[^,\[\]{}:]|:(?![\s,\]}]))*").match(self.text, self.pos)
        assert match
        self.pos = match.end()
        text = match.group().strip()
        return text if key and text else self.reader.scalar(text, self.line)


def resolve(text: str) -> Any:
    """What a plain text means: None, a boolean, a number or itself."""
    if text in _WORDS:
        return _WORDS[text]
    if _INT.match(text):
        return int(text)
    if _FLOAT.match(text):
        return float(text)
    if text.lower() in (".inf", "+.inf", "-.inf", ".nan"):
        return float(text.replace(".", "", 1))
    return text


def _is_item(content: str) -> bool:
    return content == "-" or content.startswith(("- ", "-\t"))


def _uncomment(line: str) -> str:
    quote, before, skip, closed = "", " ", False, -2
    for i, char in enumerate(line):
        if skip:
            skip = False
        elif quote:
            skip = quote == '"' and char == "\\"
            if char == quote:
                quote, closed = "", i
        elif char in "'\"" and (before in " \t[{,:" or (char == "'" == before and closed == i - 1)):
            quote = char
        elif char == "#" and before in " \t":
            return line[:i]
        before = char
    return line


def _closed(text: str) -> bool:
    """Does the quoted text end?"""
    inner = text[1:]
    if text[0] == "'":
        return inner.replace("''", "").endswith("'") if inner.count("'") % 2 else False
    return bool(re.match(r'(?:[^"\\]|\\.)*"', inner, re.S))


def _balanced(text: str) -> bool:
    """Are the brackets of a flow node closed?"""
    depth = 0
    for char in _bare(text):
        depth += (char in "[{") - (char in "]}")
    return depth <= 0 and not _open(text)


def _open(text: str) -> bool:
    """Does a flow node end inside a quoted text?"""
    return bool(re.search(r"[\s\[{,:]['\"]", _bare(text)))


def _bare(text: str) -> str:
    return re.sub(r"""(?<=[\s\[{,:])('(?:[^']|'')*'(?!')|"(?:[^"\\]|\\.)*")""", "q", text)


def _folded(lines: List[str]) -> str:
    """The lines of a ``>`` block: single line ends are blanks, empty and deeper lines keep theirs."""
    text = ""
    for i, line in enumerate(lines):
        if i and line and lines[i - 1] and not line.startswith(" ") and not lines[i - 1].startswith(" "):
            text += " "
        elif i and (not line or line.startswith(" ") or lines[i - 1].startswith(" ")):
            text += "\n"
        text += line
    return text


def dump(value: Any) -> str:
    """The text of a mapping or list of mappings, lists, texts, numbers, booleans and None."""
    return "".join(line + "\n" for line in _lines(value))


def _lines(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, one in value.items():
            if isinstance(one, (dict, list)) and one:
                yield "%s:" % _text(str(key))
                for line in _lines(one):
                    yield line if isinstance(one, list) else "  " + line
            else:
                yield "%s: %s" % (_text(str(key)), _scalar(one))
    elif isinstance(value, list):
        for one in value:
            inner = list(_lines(one)) if isinstance(one, (dict, list)) and one else [_scalar(one)]
            yield "- " + inner[0]
            for line in inner[1:]:
                yield "  " + line


def _scalar(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (dict, list)):
        return "{}" if isinstance(value, dict) else "[]"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        text = repr(value)
        return ("." + text).replace(".-", "-.") if "n" in text else text.replace("e", ".0e") if "." not in text else text
    return _text(str(value))


def _text(text: str) -> str:
    """A text as YAML: plain where every reader takes it for a text, else quoted."""
    if not text.isprintable():
        return '"%s"' % "".join(_escaped(c) for c in text)
    if (text and resolve(text) is text and text.lower() not in _OLD_WORDS and not re.match(r"[-+.]*[0-9]|[-?:](\s|\Z)|\.\.?\.?\Z", text)
            and text[0] not in ",[]{}#&*!|>'\"%@`=< " and text[-1] not in " :" and not re.search(r": | #|[ \[{,:]['\"]", text)):
        return text
    return "'%s'" % text.replace("'", "''")


def _escaped(char: str) -> str:
    if char in "\"\\":
        return "\\" + char
    if char == "\n":
        return "\\n"
    if char.isprintable():
        return char
    number = ord(char)
    return "\\x%02x" % number if number < 0x100 else "\\u%04x" % number if number < 0x10000 else "\\U%08x" % number
