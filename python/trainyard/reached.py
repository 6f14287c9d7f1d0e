"""Do addresses of packages answer? Run by the agent before pip or a conda client is, which would try for minutes:

    python3 reached.py [sizes] < addresses, a line each > answer

They come that way since an address may hold a password, and command lines are seen by everybody.
answer: {URL: null when it answers, else why not}; "404" and the like where it answers that there is nothing; of sizes {URL: bytes or null}.
All are asked at once; what has not answered after five seconds does not answer. Proxies of the environment are honoured, and
the user and password of an address are sent.
"""
import base64
import json
import os
import sys
import threading
import urllib.error
import urllib.parse
import urllib.request
from typing import Any, Dict, Optional, Union

SECONDS = 5.0


def request_of(url: str) -> urllib.request.Request:
    """A request for what is known of an address, with its user and password."""
    parts = urllib.parse.urlsplit(url)
    headers = {"User-Agent": "trainyard"}
    if parts.username is not None:
        user = "%s:%s" % (urllib.parse.unquote(parts.username), urllib.parse.unquote(parts.password or ""))
        headers["Authorization"] = "Basic " + base64.b64encode(user.encode()).decode()
        url = urllib.parse.urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
    return urllib.request.Request(url, headers=headers, method="HEAD")


class Redirects(urllib.request.HTTPRedirectHandler):
    """A password goes to the host that it was given for; another one that is named in its place does not get it."""

    def redirect_request(self, req: urllib.request.Request, *rest: Any) -> Optional[urllib.request.Request]:
        """The request that follows."""
        new = super().redirect_request(req, *rest)
        if new is not None:
            old, to = urllib.parse.urlsplit(req.full_url), urllib.parse.urlsplit(new.full_url)
            same = (old.scheme, old.netloc) == (to.scheme, to.netloc)
            if not same and (old.scheme, old.netloc, to.scheme) != ("http", to.netloc, "https"):
                new.remove_header("Authorization")
        return new


OPENER = urllib.request.build_opener(Redirects)


def size(url: str) -> Optional[int]:
    """How many bytes lie there; None when that cannot be told."""
    try:
        with OPENER.open(request_of(url), timeout=SECONDS) as answer:
            return int(answer.headers["Content-Length"])
    except (OSError, ValueError, TypeError):
        return None


def ask(url: str) -> Optional[str]:
    """None, or why it does not answer."""
    try:
        OPENER.open(request_of(url), timeout=SECONDS).close()
    except urllib.error.HTTPError as error:
        return None if error.code in (405, 501) else str(error.code)
    except urllib.error.URLError as error:
        return str(error.reason)
    except (OSError, ValueError) as error:
        return str(error) or type(error).__name__
    return None


def main(sizes: bool) -> None:
    """See the module."""
    silent = None if sizes else "no answer within %d seconds" % SECONDS
    found: Dict[str, Union[None, str, int]] = {url: silent for url in sys.stdin.read().split("\n") if url}

    def one(url: str) -> None:
        found[url] = size(url) if sizes else ask(url)

    threads = [threading.Thread(target=one, args=(url,), daemon=True) for url in found]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SECONDS + 1)
    json.dump(dict(found), sys.stdout)
    sys.stdout.flush()
    os._exit(0)  # a name that is still being looked up is not waited for


if __name__ == "__main__":
    main(sys.argv[1:] == ["sizes"])
