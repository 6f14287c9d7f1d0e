"""Requests to Azure Blob signed here with Python's hmac, so that tests check our signatures and stores against another implementation.

    objects_azure.py METHOD /CONTAINER[/BLOB] [QUERY] [HEADER: VALUE]...     a PUT's body comes from standard input; exits with 1 over status 299
    objects_azure.py sas CONTAINER [KEY=VALUE]...

AZ_URL (http://127.0.0.1:PORT/ACCOUNT), AZ_ACCOUNT and AZ_KEY say where; objects.lib.sh sets them.
"""
import base64
import email.utils
import hashlib
import hmac
import os
import sys
import urllib.error
import urllib.parse
import urllib.request

VERSION = "2021-08-06"


def signature(key, text):
    return base64.b64encode(hmac.new(base64.b64decode(key), text.encode(), hashlib.sha256).digest()).decode()


def string_to_sign(account, method, path, query, headers, length):
    """`path` is that of the URL, as it is sent."""
    h = {k.lower(): v.strip() for k, v in headers.items()}
    ms = "".join("%s:%s\n" % (k, v) for k, v in sorted(h.items()) if k.startswith("x-ms-"))
    parameters = {}
    for k, v in urllib.parse.parse_qsl(query, keep_blank_values=True):
        parameters.setdefault(k.lower(), []).append(v)
    resource = "/%s%s" % (account, path) + "".join("\n%s:%s" % (k, ",".join(sorted(v))) for k, v in sorted(parameters.items()))
    fields = [method] + [h.get(k, "") for k in ("content-encoding", "content-language")] + [str(length) if length else ""]
    fields += [h.get(k, "") for k in ("content-md5", "content-type", "date", "if-modified-since", "if-match", "if-none-match",
                                      "if-unmodified-since", "range")]
    return "\n".join(fields) + "\n" + ms + resource


def call(method, path, query="", body=b"", headers=(), url=None, account=None, key=None):
    """(status, headers, body) of a request to `path` below the account."""
    url, account, key = url or os.environ["AZ_URL"], account or os.environ["AZ_ACCOUNT"], key or os.environ["AZ_KEY"]
    full = urllib.parse.urlsplit(url + urllib.parse.quote(path) + ("?" + query if query else ""))
    h = {"x-ms-date": email.utils.formatdate(usegmt=True), "x-ms-version": VERSION, **dict(headers)}
    if method == "PUT":
        h["Content-Type"] = "application/octet-stream"      # urllib would add another one, and the signature covers it
    text = string_to_sign(account, method, full.path, full.query, h, len(body))
    h["Authorization"] = "SharedKey %s:%s" % (account, signature(key, text))
    request = urllib.request.Request(full.geturl(), data=body if method == "PUT" else None, headers=h, method=method)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, dict(answer.headers), answer.read()
    except urllib.error.HTTPError as e:
        return e.code, dict(e.headers), e.read()


def sas(container, sp="rcwdl", st="2020-01-01T00:00:00Z", se="2036-01-01T00:00:00Z", spr="https,http", sv=VERSION, sr="c", account=None,
        key=None):
    """A service SAS of a container, as a query."""
    account, key = account or os.environ["AZ_ACCOUNT"], key or os.environ["AZ_KEY"]
    fields = [sp, st, se, "/blob/%s/%s" % (account, container), "", "", spr, sv, sr, "", "", "", "", "", "", ""]
    return urllib.parse.urlencode(dict(sp=sp, st=st, se=se, spr=spr, sv=sv, sr=sr, sig=signature(key, "\n".join(fields))))


def main(argv):
    if argv[0] == "sas":
        print(sas(argv[1], **dict(a.split("=", 1) for a in argv[2:])))
        return 0
    query = argv[2] if len(argv) > 2 else ""
    body = sys.stdin.buffer.read() if argv[0] == "PUT" else b""
    status, headers, text = call(argv[0], argv[1], query, body, [h.split(": ", 1) for h in argv[3:]])
    if argv[0] == "HEAD":
        text = "".join("%s: %s\n" % kv for kv in headers.items()).encode()
    sys.stdout.buffer.write(text)
    return 0 if status < 300 else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
