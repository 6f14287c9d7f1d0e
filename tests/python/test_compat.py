"""docs/compat.md says what the tests of this run have used. Runs last."""
import os

import compat


def test_the_page_says_what_the_tests_have_used(request):
    recorder = request.config.compat_recorder
    recorder.stop()
    text = compat.document(recorder.calls)
    if os.environ.get("COMPAT_WRITE"):
        with open(compat.DOCUMENT, "w", encoding="utf-8") as file:
            file.write(text)
    with open(compat.DOCUMENT, encoding="utf-8") as file:
        kept = file.read()
    changed = sorted(set(text.splitlines()) ^ set(kept.splitlines()))
    assert not changed, "docs/compat.md is not what the tests give (COMPAT_WRITE=1 writes it): %s" % "\n".join(changed[:20])
