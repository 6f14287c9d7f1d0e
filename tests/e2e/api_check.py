"""Every route of /openapi.json, asked as it says, answers as it says.  Results as TAP; called by api.sh.

A request is checked against the document (path, query, body), its reply too; a route without a request here is a failure, and so is a
key of a reply's schema that no reply of this test ever had.
"""
import hashlib
import http.client
import json
import os
import re
import socket
import struct
import sys
import time
import urllib.parse

import jsonschema

HOME = os.environ["TRAINYARD_HOME"]
SENT = ("run_spec.", "target_spec.")    # come back as they were sent; their own tests go through their keys
NEVER = {"check.first"}                 # of a store that is damaged


class Connection(http.client.HTTPConnection):
    def __init__(self):
        super().__init__("localhost", timeout=30)

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(os.path.join(HOME, "sock"))


def raw(method, path, body=None, headers=None):
    connection = Connection()
    connection.request(method, path, body, headers or {})
    reply = connection.getresponse()
    found = reply.status, reply.headers.get("Content-Type", ""), reply.read() if "event-stream" not in reply.headers.get(
        "Content-Type", "") else reply.read(200)
    connection.close()
    return found


DOC = json.loads(raw("GET", "/openapi.json")[2])
asked, seen, failed = set(), {}, []


def tell(what, problem=None):
    print("%s - %s" % ("not ok" if problem else "ok", what))
    if problem:
        print("#   %s" % str(problem).replace("\n", "\n#   ")[:2000])
    failed.extend([what] if problem else [])
    sys.stdout.flush()


def operation(method, path):
    """The document's operation for a request, its template's values."""
    for template, item in DOC["paths"].items():
        pattern = re.sub(r"\{path\}", "(.+)", re.escape(template).replace(r"\{", "{").replace(r"\}", "}"))
        if re.fullmatch(re.sub(r"\{[a-z]+\}", "([^/]+)", pattern), path) and method.lower() in item:
            return item[method.lower()]
    raise SystemExit("api_check: the document has no %s %s" % (method, path))


def validate(value, schema):
    jsonschema.Draft202012Validator(dict(schema, components=DOC["components"])).validate(value)


def note(value, schema, name):
    """Which keys of the schemas' objects replies have had, as something else than null."""
    if "$ref" in schema:
        name = schema["$ref"].rsplit("/", 1)[1]
        schema = DOC["components"]["schemas"][name]
    for one in schema.get("oneOf", []):
        try:
            validate(value, one)
        except jsonschema.ValidationError:
            continue
        note(value, one, name)
    if isinstance(value, dict):
        for key, inner in schema.get("properties", {}).items():
            seen.setdefault(name + "." + key, False)
            if value.get(key) is not None:
                seen[name + "." + key] = True
                note(value[key], inner, name + "." + key)
    elif isinstance(value, list) and "items" in schema:
        for one in value:
            note(one, schema["items"], name)


def body_of(op, body):
    """Bytes to send; a JSON body is checked first."""
    if body is None:
        return None
    content = op["requestBody"]["content"]
    if "application/json" in content:
        validate(body, content["application/json"]["schema"])
        return json.dumps(body).encode()
    return body


def check_reply(op, status, kind, data, want):
    if status != want:
        return "status %d, not %d: %s" % (status, want, data[:300])
    if status >= 400:
        validate(json.loads(data), op["responses"]["default"]["content"]["application/json"]["schema"])
        return None
    expected = op["responses"]["204" if status == 204 else "2XX"].get("content", {})
    if not expected:
        return "a body where none is: %r" % data if data else None
    if kind.split(";")[0] not in expected and "application/octet-stream" not in expected:
        return "type %r, and the document has %s" % (kind, list(expected))
    schema = expected.get("application/json", {}).get("schema")
    if schema:
        value = json.loads(data)
        validate(value, schema)
        note(value, schema, op["operationId"])
    return None


def ask(method, path, body=None, want=200, **query):
    op = operation(method, path)
    known = {p["name"] for p in op["parameters"] if p["in"] == "query"}
    unknown = set(query) - known
    if unknown and want < 400:
        return tell("%s %s" % (method, path), "the document has no parameter %s" % unknown)
    if want < 400:
        asked.add(op["operationId"])
    full = urllib.parse.quote(path) + ("?" + urllib.parse.urlencode(query) if query else "")
    status, kind, data = raw(method, full, body_of(op, body))
    try:
        problem = check_reply(op, status, kind, data, want)
    except (jsonschema.ValidationError, ValueError) as error:
        problem = "%s\nin %s" % (error, data[:1000])
    tell("%s %s%s gives %d as the document says" % (op["operationId"], path, " " + str(query) if query else "", want), problem)
    return json.loads(data) if not problem and kind.startswith("application/json") else None


def until(run, state):
    for _ in range(600):
        if json.loads(raw("GET", "/api/v1/runs/" + run)[2])["state"] == state:
            return
        time.sleep(0.05)
    raise SystemExit("api_check: run %s is not %s" % (run, state))


def row(name, value):
    head = struct.pack("<IBBHqqII", (32 + len(name) + 8 + 7) // 8 * 8, 1, 0, len(name), 3, time.time_ns() // 1000, 8, 0)
    return (head + name + struct.pack("<d", value)).ljust((32 + len(name) + 8 + 7) // 8 * 8, b"\0")


def snapshots():
    content = b"print('hello')\n"
    sha = hashlib.sha256(content).hexdigest()
    manifest = ("trainyard-snapshot 1\nf 644 %d %s train.py\n" % (len(content), sha)).encode()
    snapshot = hashlib.sha256(manifest).hexdigest()
    ask("POST", "/api/v1/blobs/missing", (sha + "\n").encode())
    ask("PUT", "/api/v1/blobs/" + sha, content, want=204)
    ask("PUT", "/api/v1/blobs/" + "0" * 64, content, want=400)
    ask("PUT", "/api/v1/snapshots/" + snapshot, manifest, want=204)
    ask("GET", "/api/v1/snapshots/" + snapshot)
    ask("GET", "/api/v1/snapshots/" + snapshot + "/files/train.py", offset=3)
    ask("GET", "/api/v1/snapshots/" + "0" * 64, want=404)
    return snapshot


def targets():
    ask("PUT", "/api/v1/targets/box", {"kind": "local", "vm_size": "STANDARD_NC6", "max_nodes": 2, "tags": {"a": "b"}}, want=201)
    ask("PUT", "/api/v1/targets/box", {"kind": "local", "max_nodes": 1, "description": "mine"})
    ask("GET", "/api/v1/targets")
    ask("GET", "/api/v1/targets/box")
    ask("GET", "/api/v1/targets/none", want=404)
    box = ask("GET", "/api/v1/nodes")["nodes"][0]["name"]
    ask("POST", "/api/v1/targets/box/drain", {"node": box})
    ask("GET", "/api/v1/nodes")
    ask("POST", "/api/v1/targets/box/resume", {"node": box})
    ask("POST", "/api/v1/targets/box/drain", {})
    ask("POST", "/api/v1/targets/box/drain", {"node": "nowhere"}, want=404)
    ask("POST", "/api/v1/targets/box/resume", {"node": None})


def runs(snapshot):
    command = ["/bin/sh", "-c", "echo out; echo kept > outputs/a; exit 3"]
    spec = {"version": 1, "command": command, "snapshot": snapshot, "target": "box", "display_name": "shown", "tags": {"k": "v", "bare": None},
            "properties": {"p": "q"}, "environment_variables": {"A": "B"}, "resources": {"cpus": 1, "memory_mb": 10}, "priority": 3,
            "use_gpu": True, "environment": {"python": ">=3"}}
    failing = ask("POST", "/api/v1/experiments/first/runs", spec, want=201)["id"]
    until(failing, "Failed")
    ask("POST", "/api/v1/experiments/first/runs", {"version": 1, "command": ["/bin/true"], "target": "none"}, want=404)
    ask("GET", "/api/v1/runs/" + failing)
    ask("GET", "/api/v1/runs/none", want=404)
    ask("GET", "/api/v1/runs", experiment="first", target="box", state="Failed", user=os.popen("id -un").read().strip(), tag="k=v", top=1,
        limit=5)
    ask("GET", "/api/v1/runs", stat="Failed", want=400)
    ask("GET", "/api/v1/experiments")
    ask("PATCH", "/api/v1/runs/%s/tags" % failing, {"set": {"best": None}, "remove": ["k"]})
    ask("PATCH", "/api/v1/runs/%s/properties" % failing, {"set": {"one": "1"}})
    ask("PATCH", "/api/v1/runs/%s/properties" % failing, {"set": {"one": "2"}}, want=409)
    ask("GET", "/api/v1/runs/%s/events" % failing, after=0, limit=100)
    ask("GET", "/api/v1/runs/%s/environments" % failing)
    ask("GET", "/api/v1/runs/%s/follow" % failing, rows=1)
    ask("GET", "/api/v1/runs/%s/files" % failing, since="2026-01-01T00:00:00Z")
    ask("GET", "/api/v1/runs/%s/files/azureml-logs/70_driver_log.txt" % failing, offset=1)
    ask("GET", "/api/v1/runs/%s/files/outputs/a" % failing)
    ask("PUT", "/api/v1/runs/%s/files/outputs/later.txt" % failing, b"later", want=201)
    return failing


def environments():
    """What this script itself needs is there: nothing is fetched."""
    spec = {"version": 1, "command": ["/usr/bin/python3", "-c", "import jsonschema"], "environment": {"pip": {"packages": ["jsonschema"]}}}
    run = ask("POST", "/api/v1/experiments/first/runs", spec, want=201)["id"]
    until(run, "Completed")
    ask("GET", "/api/v1/runs/" + run)
    ask("GET", "/api/v1/runs/%s/environments" % run)
    for kind, content, other in (("environments", {"spec": {"pip": {"packages": ["six"]}}}, {"spec": {}}),
                                 ("datasets", {"paths": [{"datastore": "workspaceblobstore", "path": "a/*"}]},
                                  {"paths": [{"datastore": "workspaceblobstore", "path": ""}]})):
        ask("PUT", "/api/v1/%s/mine" % kind, {"content": content}, want=201)
        ask("PUT", "/api/v1/%s/mine" % kind, {"content": content})
        ask("PUT", "/api/v1/%s/mine" % kind, {"content": other, "create_new_version": False}, want=409)
        ask("GET", "/api/v1/" + kind)
        ask("GET", "/api/v1/%s/mine" % kind)
        ask("GET", "/api/v1/%s/mine/versions/1" % kind)
        ask("GET", "/api/v1/%s/none" % kind, want=404)
        ask("DELETE", "/api/v1/%s/mine" % kind, want=204)


def interactive():
    run = ask("POST", "/api/v1/experiments/first/runs", {"version": 1, "interactive": True}, want=201)["id"]
    ask("POST", "/api/v1/runs/%s/rows" % run, row(b"loss", 0.5) + row(b"loss", 0.25), want=204, writer=70000, first=0)
    ask("GET", "/api/v1/runs/%s/metrics" % run, name="loss")
    ask("GET", "/api/v1/runs/%s/metrics" % run, form="rows", limit=10)
    child = ask("POST", "/api/v1/experiments/first/runs", {"version": 1, "interactive": True, "parent": run}, want=201)["id"]
    ask("GET", "/api/v1/runs/" + child)
    ask("POST", "/api/v1/runs/%s/end" % child, {"state": "Failed", "code": "C", "message": "m"})
    ask("POST", "/api/v1/runs/%s/end" % run, {"state": "Completed"})
    ask("DELETE", "/api/v1/runs/" + run, want=204)


def queue():
    going = ask("POST", "/api/v1/experiments/first/runs", {"version": 1, "command": ["/bin/sleep", "60"], "target": "box"}, want=201)["id"]
    until(going, "Running")
    ask("DELETE", "/api/v1/runs/" + going, want=409)
    ask("PATCH", "/api/v1/queue", {"paused": True})
    waits = ask("POST", "/api/v1/experiments/first/runs", {"version": 1, "command": ["/bin/true"]}, want=201)["id"]
    until(waits, "Queued")
    ask("GET", "/api/v1/queue")
    ask("GET", "/api/v1/runs/" + waits)
    ask("GET", "/api/v1/status")
    ask("GET", "/api/v1/targets/box")
    for run in (waits, going):
        ask("POST", "/api/v1/runs/%s/cancel" % run)
        until(run, "Canceled")
    ask("GET", "/api/v1/runs/" + going)
    ask("GET", "/api/v1/runs", limit=1)
    ask("PATCH", "/api/v1/queue", {"paused": False})


def the_rest(run):
    for plural, content in (("environments", {"spec": {"torch": "1.6"}}), ("datasets", {"paths": [{"datastore": "d", "path": "a/*.gz"}]})):
        ask("GET", "/api/v1/%s/x" % plural, want=404)
        ask("PUT", "/api/v1/%s/x" % plural, {"content": content}, want=201)
        ask("PUT", "/api/v1/%s/x" % plural, {"content": dict(content, about={"description": "d"}), "create_new_version": False}, want=200)
        ask("GET", "/api/v1/" + plural)
        ask("GET", "/api/v1/%s/x" % plural)
        ask("GET", "/api/v1/%s/x/versions/latest" % plural)
        ask("GET", "/api/v1/%s/x/versions/2" % plural, want=404)
        ask("DELETE", "/api/v1/%s/x" % plural, want=204)
    ask("GET", "/api/v1/secrets/key", want=404)
    ask("PUT", "/api/v1/secrets/key", {"value": "hush"}, want=204)
    ask("GET", "/api/v1/secrets")
    ask("GET", "/api/v1/secrets/key")
    ask("DELETE", "/api/v1/secrets/key", want=204)
    ask("PUT", "/api/v1/datastores/workspaceblobstore/files/in/file", b"datum", want=201)
    ask("PUT", "/api/v1/datastores/workspaceblobstore/files/in/file", b"other", want=409)
    ask("PUT", "/api/v1/datastores/workspaceblobstore/files/in/file", b"other", want=201, overwrite=1)
    ask("GET", "/api/v1/datastores")
    ask("GET", "/api/v1/datastores/workspaceblobstore")
    ask("GET", "/api/v1/datastores/none", want=404)
    ask("GET", "/api/v1/datastores/workspaceblobstore/files", prefix="in/")
    ask("GET", "/api/v1/datastores/workspaceblobstore/files/in/file", offset=2)
    bucket = {"kind": "s3", "config": {"bucket": "sets", "access_key_id": "id", "secret_access_key": "hush"}, "skip_validation": True}
    ask("PUT", "/api/v1/datastores/sets", bucket, want=201)
    ask("PUT", "/api/v1/datastores/sets", dict(bucket, config={"bucket": "others"}), want=409)
    ask("GET", "/api/v1/datastores/sets")
    ask("GET", "/api/v1/datastores/sets/access")
    ask("GET", "/api/v1/datastores/sets/files", want=409)
    ask("POST", "/api/v1/datastores/sets/default")
    ask("DELETE", "/api/v1/datastores/sets", want=409)
    ask("POST", "/api/v1/datastores/workspaceblobstore/default")
    ask("DELETE", "/api/v1/datastores/sets", want=204)
    ask("GET", "/", experiment="first")
    ask("GET", "/", state="active")
    ask("GET", "/machines")
    ask("GET", "/runs/" + run)
    ask("GET", "/runs/" + run, part="metrics")
    ask("GET", "/static/page.css")
    ask("GET", "/api/v1/link", run=run)
    ask("DELETE", "/api/v1/link", want=204)
    ask("DELETE", "/api/v1/targets/box", want=204)
    ask("GET", "/metrics")
    ask("GET", "/openapi.json")
    ask("GET", "/api/v1/check")
    ask("POST", "/api/v1/backup")
    ask("POST", "/api/v1/gc")
    ask("POST", "/api/v1/shutdown", want=204)


def main():
    snapshot = snapshots()
    targets()
    failing = runs(snapshot)
    environments()
    interactive()
    queue()
    the_rest(failing)
    every = {op["operationId"] for item in DOC["paths"].values() for op in item.values()}
    tell("every route was asked", every - asked and "not asked: %s; add a request to tests/e2e/api_check.py" % sorted(every - asked))
    never = {key for key, had in seen.items() if not had and not key.startswith(SENT)} - NEVER
    tell("every documented key of a reply was there once", never and "never seen: %s" % sorted(never))
    return 1 if failed else 0


sys.exit(main())
