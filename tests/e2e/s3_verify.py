"""Reads requests as JSON, [[method, url, headers], ...], and checks their signatures with botocore, which is no code of ours.

    moto's python s3_verify.py KEY SECRET < requests     prints each that is wrong; the last line is how many were checked
"""
import json
import sys

from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

key, secret = sys.argv[1:3]
checked = 0
for method, url, headers in json.load(sys.stdin):
    auth = S3SigV4Auth(Credentials(key, secret), "s3", "us-east-1")
    given = dict(part.strip().split("=", 1) for part in headers["authorization"].split(" ", 1)[1].split(","))
    request = AWSRequest(method, url=url, headers={k: headers[k] for k in given["SignedHeaders"].split(";")})
    request.context["timestamp"] = headers["x-amz-date"]
    signature = auth.signature(auth.string_to_sign(request, auth.canonical_request(request)), request)
    checked += 1
    if signature != given["Signature"]:
        print("wrong:", method, url, given["SignedHeaders"])
print(checked)
