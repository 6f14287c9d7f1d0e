"""Make statics.c: the files that pages are drawn with, as one C array.

usage: embed_static.py OUT.c page.css page.js ...
"""
import hashlib
import os
import sys

TYPES = {".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8"}


def main():
    out, paths = sys.argv[1], sys.argv[2:]
    text = '/* statics.c - made from src/http/static/ by embed_static.py */\n#include "http/page.h"\n\n'
    rows = ""
    for i, path in enumerate(paths):
        with open(path, "rb") as f:
            content = f.read()
        text += "static const unsigned char file%d[] = {%s};\n" % (i, ",".join(map(str, content)))
        rows += '    { "%s", "%s", "\\"%s\\"", file%d, sizeof file%d },\n' % (
            os.path.basename(path), TYPES[os.path.splitext(path)[1]], hashlib.sha256(content).hexdigest()[:16], i, i)
    text += "\nconst struct static_file static_files[] = {\n%s    { 0 },\n};\n" % rows
    with open(out, "w", encoding="utf-8") as c:
        c.write(text)


main()
