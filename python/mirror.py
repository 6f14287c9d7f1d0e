"""mirror.py SOURCE BUILD STAMP - link the Python files of SOURCE into the same places below BUILD.

Folders are made, files are linked (so that byte code is kept in BUILD), and links whose file is gone are removed.
"""
import os
import sys


def wanted(source):
    """The relative paths of the files that belong into the build."""
    for top in sorted(os.listdir(source)):
        if not os.path.isdir(os.path.join(source, top)) or top in ("ext", "__pycache__"):
            continue
        for folder, folders, files in os.walk(os.path.join(source, top)):
            folders[:] = [f for f in folders if f != "__pycache__"]
            for name in files:
                if name != "meson.build" and not name.endswith((".pyc", "~", ".swp")):
                    yield os.path.relpath(os.path.join(folder, name), source)


def link(target, path):
    """Make `path` a link to `target`, without a moment in which it is missing."""
    if os.path.islink(path) and os.readlink(path) == target:
        return
    os.makedirs(os.path.dirname(path), exist_ok=True)
    temporary = path + ".new"
    if os.path.lexists(temporary):
        os.unlink(temporary)
    os.symlink(target, temporary)
    os.replace(temporary, path)


def main(source, build, stamp):
    for path in wanted(source):
        place = os.path.join(build, path)
        link(os.path.relpath(os.path.join(source, path), os.path.dirname(place)), place)
    for folder, _, files in os.walk(build):
        for name in files:
            place = os.path.join(folder, name)
            if os.path.islink(place) and not os.path.exists(place):
                os.unlink(place)
    if not os.path.exists(stamp):
        open(stamp, "w").close()


if __name__ == "__main__":
    main(*sys.argv[1:])
