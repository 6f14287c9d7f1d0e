"""Make schemas.c: the JSON schemas given as one C array, references between files turned into references inside OpenAPI.

usage: embed.py OUT.c status.json run.json ...
"""
import json
import os
import sys


def inside(node):
    if isinstance(node, dict):
        return {key: "#/components/schemas/" + value[:-len(".json")] if key == "$ref" else inside(value)
                for key, value in node.items()}
    if isinstance(node, list):
        return [inside(value) for value in node]
    return node


def literal(text):
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("?", "\\?") + '"'


def main():
    out, paths = sys.argv[1], sys.argv[2:]
    text = "/* schemas.c - made from docs/spec/schema/NAME.json by embed.py */\n#include \"http/schemas.h\"\n\n"
    text += "const struct schema_text schema_texts[] = {\n"
    for path in paths:
        with open(path, encoding="utf-8") as f:
            schema = json.dumps(inside(json.load(f)), separators=(",", ":"))
        text += "    { %s,\n        %s },\n" % (literal(os.path.basename(path)[:-len(".json")]), literal(schema))
    text += "    { 0 },\n};\n"
    with open(out, "w", encoding="utf-8") as c:
        c.write(text)


main()
