"""Conda dependency files: ``name``, ``channels`` (a list), ``dependencies`` (a list of texts and at most one ``pip`` list)."""
from typing import Any, Dict, List

from azureml.core import _yaml
from azureml.exceptions import UserErrorException


def parse(text: str, what: str) -> Dict[str, Any]:
    """{'name': text, 'channels': [text], 'dependencies': [text or {'pip': [text]}]} of a conda file, and what else it has.

    what: the file's name, for UserErrorException, which also names the line.
    """
    where = "the conda file '%s'" % what
    return check(_yaml.parse(text, where, texts=True), where)


def check(values: Dict[str, Any], where: str) -> Dict[str, Any]:
    """`values` in the shape above. UserErrorException for what has another."""
    found = {k: v for k, v in values.items() if v is not None}
    for key in ("channels", "dependencies"):
        if not isinstance(found.get(key, []), list):
            raise UserErrorException("%s cannot be read: '%s' is not a list" % (where, key))
    if "channels" in found:
        found["channels"] = _texts(found["channels"], where, "channels")
    if "dependencies" in found:
        found["dependencies"] = [_dependency(item, where) for item in found["dependencies"]]
    return found


def _dependency(item: Any, where: str) -> Any:
    if not isinstance(item, dict):
        return _texts([item], where, "dependencies")[0]
    line = "line %d: " % item.line if isinstance(item, _yaml.Map) else ""
    if set(item) != {"pip"} or not isinstance(item["pip"] or [], list):
        raise UserErrorException("%s cannot be read: %s%r is not a package, and not a 'pip' list of packages" % (where, line, dict(item)))
    return {"pip": _texts(item["pip"] or [], where, "pip")}


def _texts(items: List[Any], where: str, key: str) -> List[str]:
    for item in items:
        if not isinstance(item, str):
            raise UserErrorException("%s cannot be read: %r in '%s' is not a text" % (where, item, key))
    return items


def dump(values: Dict[str, Any]) -> str:
    """The text of a conda file."""
    first = {"name": values.get("name", "project_environment")}
    if values.get("channels"):
        first["channels"] = values["channels"]
    rest = {k: v for k, v in values.items() if k not in ("name", "channels", "dependencies")}
    return _yaml.dump(dict(first, dependencies=values.get("dependencies", []), **rest))
