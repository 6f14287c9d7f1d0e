"""Do addresses of packages answer? Run by the agent before pip or a conda client is, which would try for minutes:

    python3 reached.py < addresses, a line each > answer

They come that way since an address may hold a password, and command lines are seen by everybody.
answer: {URL: null when it answers, else why not}; "404" and the like where it answers that there is nothing.
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
from typing import Dict, Optional

SECONDS = 5.0


def ask(url: str) -> Optional[str]:
    """None, or why it does not answer."""
    parts = urllib.parse.urlsplit(url)
    headers = {"User-Agent": "trainyard"}
    if parts.username is not None:
        user = "%s:%s" % (urllib.parse.unquote(parts.username), urllib.parse.unquote(parts.password or ""))
        headers["Authorization"] = "Basic " + base64.b64encode(user.encode()).decode()
        url = urllib.parse.urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
    try:
        urllib.request.urlopen(urllib.request.Request(url, headers=headers, method="HEAD"), timeout=SECONDS).close()
    except urllib.error.HTTPError as error:
        return None if error.code in (405, 501) else str(error.code)
    except urllib.error.URLError as error:
        return str(error.reason)
    except (OSError, ValueError) as error:
        return str(error) or type(error).__name__
    return None


def main() -> None:
    """See the module."""
    found: Dict[str, Optional[str]] = {url: "no answer within %d seconds" % SECONDS for url in sys.stdin.read().split("\n") if url}

    def one(url: str) -> None:
        found[url] = ask(url)

    threads = [threading.Thread(target=one, args=(url,), daemon=True) for url in found]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SECONDS + 1)
    json.dump(dict(found), sys.stdout)
    sys.stdout.flush()
    os._exit(0)  # a name that is still being looked up is not waited for


if __name__ == "__main__":
    main()
