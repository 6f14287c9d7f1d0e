"""Make migrations.c: the SQL files given, NNN.sql, in order, as one C array.

usage: embed.py OUT.c 001.sql 002.sql ...
"""
import os
import sys


def literal(line):
    escaped = line.replace("\\", "\\\\").replace('"', '\\"').replace("?", "\\?")
    return '        "' + escaped + '\\n"\n'


def main():
    out, paths = sys.argv[1], sys.argv[2:]
    text = "/* migrations.c - made from migrations/NNN.sql by embed.py */\n#include \"store/store_internal.h\"\n\n"
    text += "const char *const store_migrations[] = {\n"
    for number, path in enumerate(paths, 1):
        if os.path.basename(path) != "%03d.sql" % number:
            sys.exit("embed.py: %s: expected %03d.sql, versions have no gaps" % (path, number))
        with open(path, encoding="utf-8") as sql:
            text += "    /* %03d */\n" % number + "".join(literal(line) for line in sql.read().split("\n") if line) + "    ,\n"
    text += "};\nconst int store_version = sizeof store_migrations / sizeof *store_migrations;\n"
    with open(out, "w", encoding="utf-8") as c:
        c.write(text)


main()
