"""Checks a signature of version 4 with botocore's own signer, which did not make it."""

import datetime
import hmac

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

# As AWS: older requests, and those from the future, are refused.
SKEW = datetime.timedelta(minutes=5)


def fault_of_signature(environ, body, access_key, secret):
    """The answer to a request whose signature is wrong or too old; none if it is right."""
    fields = environ["HTTP_AUTHORIZATION"].partition(" ")[2].replace(" ", "").split(",")
    fields = dict(field.split("=", 1) for field in fields)
    _, _, region, service, _ = fields["Credential"].split("/")
    if service == "s3":
        return None
    names = fields["SignedHeaders"].split(";")
    headers = {name: header(environ, name) for name in names}
    date = environ.get("HTTP_X_AMZ_DATE", "")
    query = f"?{environ['QUERY_STRING']}" if environ["QUERY_STRING"] else ""
    url = f"http://{environ['HTTP_HOST']}{environ['PATH_INFO']}{query}"
    request = AWSRequest(environ["REQUEST_METHOD"], url, headers=headers, data=body)
    request.context["timestamp"] = date
    signer = SigV4Auth(Credentials(access_key, secret), service, region)
    expected = signer.signature(signer.string_to_sign(request, signer.canonical_request(request)), request)
    if not hmac.compare_digest(expected, fields["Signature"]):
        message = "The request signature we calculated does not match the signature you provided."
        return {"status": 403, "code": "SignatureDoesNotMatch", "message": message}
    sent = datetime.datetime.strptime(date, "%Y%m%dT%H%M%SZ").replace(tzinfo=datetime.timezone.utc)
    if abs(datetime.datetime.now(datetime.timezone.utc) - sent) > SKEW:
        return {"status": 403, "code": "SignatureDoesNotMatch", "message": f"Signature expired: {date}"}
    return None


def header(environ, name):
    if name in ("content-type", "content-length"):
        return environ.get(name.upper().replace("-", "_"), "")
    return environ.get("HTTP_" + name.upper().replace("-", "_"), "")
