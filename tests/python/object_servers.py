"""Object stores for tests: Azurite, and s3rver for S3, one of each for a whole run of the tests.

Each is started by what the end-to-end tests have for it, and skips by name when it cannot be fetched.
"""
import json
import os
import subprocess
import sys

import pytest

E2E = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "e2e")
sys.path.insert(0, E2E)


@pytest.fixture(scope="session")
def azurite():
    """{"port", "account", "key", "url", "endpoint"} of a server of its own."""
    server = subprocess.Popen(["bash", os.path.join(E2E, "objects.lib.sh"), "azurite"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, text=True)
    line = server.stdout.readline()
    if not line:
        pytest.skip(server.communicate()[1].strip() or "Azurite does not start")
    yield json.loads(line)
    server.communicate()


@pytest.fixture(scope="session")
def s3(tmp_path_factory):
    """A server with `url`, `key` and `secret`."""
    import s3_servers

    try:
        server = s3_servers.S3rver(str(tmp_path_factory.mktemp("s3")))
    except s3_servers.Missing as missing:
        pytest.skip(str(missing))
    yield server
    server.stop()


def sas(azurite, container, *changes):
    """A SAS of the container, without '?'."""
    return azure(azurite, "sas", container, *changes).strip()


def azure(azurite, *words):
    """What objects_azure.py prints: a signed request, by code that is none of ours."""
    env = dict(os.environ, AZ_URL=azurite["url"], AZ_ACCOUNT=azurite["account"], AZ_KEY=azurite["key"], AZ_ENDPOINT=azurite["endpoint"])
    return subprocess.run(["/usr/bin/python3", os.path.join(E2E, "objects_azure.py"), *words], env=env, stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, check=True, text=True, timeout=60).stdout
