"""moto's ECR and STS on loopback, behind a check that moto does not make: every signature is computed anew by botocore.

Usage: serve.py PORT ACCESS_KEY_ID SECRET_ACCESS_KEY [SESSION_TOKEN]

A request whose signature is not botocore's, is older than five minutes, leaves out a header that has to be signed, or comes with
another session token is answered 403 like AWS answers it, and never gets to moto. Each signed request is one line of the log:
the operation as its path, and the status.
"""

import datetime
import io
import json
import logging
import sys
import urllib.parse

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import run_simple

HOST = "127.0.0.1"
SKEW = datetime.timedelta(minutes=5)
SERVICES = {"ecr", "sts"}


class Refused(Exception):
    """Type and message of AWS's error."""


class Checked:
    """The application, for those whose signature is right."""

    def __init__(self, application, credentials):
        self.application = application
        self.credentials = credentials

    def __call__(self, environ, start_response):
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        environ["wsgi.input"] = io.BytesIO(body)
        if environ["REQUEST_METHOD"] == "GET" and "HTTP_AUTHORIZATION" not in environ:
            # Whoever waits for the server to start.
            return self.application(environ, start_response)
        operation = environ.get("HTTP_X_AMZ_TARGET", "").rsplit(".", 1)[-1]
        operation = operation or dict(urllib.parse.parse_qsl(body.decode("utf-8", "replace"))).get("Action", "unknown")

        def log(status):
            now = datetime.datetime.now(datetime.timezone.utc).strftime("%d/%b/%Y:%H:%M:%S +0000")
            print(f'{HOST} - - [{now}] "POST /{operation} HTTP/1.1" {status} 0 "" ""', flush=True)

        try:
            self.check(environ, body)
        except Refused as refused:
            kind, message = refused.args
            log("403")
            print(f"refused: {kind}: {message}", flush=True)
            answer = json.dumps({"__type": kind, "message": message}).encode()
            headers = [("Content-Type", "application/x-amz-json-1.1"), ("Content-Length", str(len(answer)))]
            start_response("403 Forbidden", headers)
            return [answer]

        def started(status, headers, exc_info=None):
            log(status.split(" ")[0])
            return start_response(status, headers, exc_info)

        return self.application(environ, started)

    def check(self, environ, body):
        """Raises unless botocore comes to the same signature."""
        headers = {
            name[5:].replace("_", "-").lower(): value for name, value in environ.items() if name.startswith("HTTP_")
        }
        headers["content-type"] = environ.get("CONTENT_TYPE", "")
        try:
            algorithm, rest = headers["authorization"].split(" ", 1)
            fields = dict(field.strip().split("=", 1) for field in rest.split(","))
            key, day, region, service, ending = fields["Credential"].split("/")
            signed = fields["SignedHeaders"].split(";")
            time = datetime.datetime.strptime(headers["x-amz-date"], "%Y%m%dT%H%M%SZ")
        except (KeyError, ValueError) as error:
            raise Refused("IncompleteSignatureException", f"not an authorization header: {error!r}") from error
        if algorithm != "AWS4-HMAC-SHA256" or ending != "aws4_request" or not headers["x-amz-date"].startswith(day):
            raise Refused("IncompleteSignatureException", "not a scope of this version")
        if key != self.credentials.access_key or headers.get("x-amz-security-token") != self.credentials.token:
            raise Refused("UnrecognizedClientException", "The security token included in the request is invalid.")
        if service not in SERVICES:
            raise Refused("InvalidSignatureException", f"Credential should be scoped to correct service, not {service}")
        now = datetime.datetime.now(datetime.timezone.utc).replace(tzinfo=None)
        if abs(now - time) > SKEW:
            raise Refused("InvalidSignatureException", f"Signature expired: {time} is not now, {now}")
        wanted = {"host", "x-amz-date", "content-type"} | {name for name in headers if name.startswith("x-amz-")}
        if signed != sorted(signed) or not wanted <= set(signed):
            raise Refused("InvalidSignatureException", f"these must be signed, in order: {sorted(wanted)}, not {signed}")

        request = AWSRequest(
            environ["REQUEST_METHOD"],
            f"http://{headers['host']}{environ['PATH_INFO']}",
            headers={name: headers[name] for name in signed},
            data=body,
        )
        request.context["timestamp"] = headers["x-amz-date"]
        signer = SigV4Auth(self.credentials, service, region)
        expected = signer.signature(signer.string_to_sign(request, signer.canonical_request(request)), request)
        if expected != fields["Signature"]:
            raise Refused(
                "InvalidSignatureException",
                "The request signature we calculated does not match the signature you provided.",
            )


def main():
    port, key, secret, *token = sys.argv[1:]
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    credentials = Credentials(key, secret, token[0] if token else None)
    moto = DomainDispatcherApplication(create_backend_app)
    run_simple(HOST, int(port), Checked(moto, credentials), threaded=True)


if __name__ == "__main__":
    main()
