#!/usr/bin/env python3
"""Verifies the vectors in this folder without Mailpulse: with Python's standard library and the
`openssl` command.

    python3 verify.py

Each scheme is implemented here once more, from the provider's documentation. Age, topics and the
certificate's address are not checked here; vectors about them count as signed correctly.
"""

import base64
import hmac
import json
import pathlib
import subprocess
import sys
import tempfile
import urllib.parse

HERE = pathlib.Path(__file__).parent
SCRATCH = pathlib.Path(tempfile.mkdtemp())
# Codes of rejections for other reasons than the signature.
SIGNED = {"stale_signature", "topic_not_allowed", "untrusted_certificate_url",
          "certificate_invalid"}


def mac(key, *parts, digest="sha256"):
    return hmac.new(key, b"".join(parts), digest).digest()


def openssl(*arguments):
    command = ["openssl", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def file(name, content):
    path = SCRATCH / name
    path.write_bytes(content)
    return path


def public_key_verifies(pem, message, signature, digest):
    key, signed = file("key.pem", pem.encode()), file("message", message)
    sig = file("signature", base64.b64decode(signature))
    return openssl("dgst", f"-{digest}", "-verify", key, "-signature", sig, signed)


def pem(der_base64, label="PUBLIC KEY"):
    return f"-----BEGIN {label}-----\n{der_base64}\n-----END {label}-----\n"


def sendgrid(secret, source, headers, body):
    message = headers["x-twilio-email-event-webhook-timestamp"].encode() + body
    signature = headers["x-twilio-email-event-webhook-signature"]
    return public_key_verifies(pem(secret), message, signature, "sha256")


def mailgun(secret, source, headers, body):
    if body.startswith(b"{"):
        signatures = [json.loads(body)["signature"]]
        signatures += [s["parent-signature"] for s in signatures if "parent-signature" in s]
    else:
        signatures = [dict(urllib.parse.parse_qsl(body.decode()))]
    return any(
        mac(secret.encode(), s["timestamp"].encode(), s["token"].encode()).hex() == s["signature"]
        for s in signatures
    )


def mandrill(secret, source, headers, body):
    fields = sorted(urllib.parse.parse_qsl(body.decode()))
    text = source["options"]["public_url"] + "".join(name + value for name, value in fields)
    expected = headers["x-mandrill-signature"]

    def matches(key):
        return base64.b64encode(mac(key, text.encode(), digest="sha1")).decode() == expected

    is_ping = fields == [("mandrill_events", "[]")]
    return matches(secret.encode()) or is_ping and matches(b"test-webhook")


def ses(secret, source, headers, body):
    message = json.loads(body)
    if message["Type"] == "Notification":
        names = ["Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type"]
    else:
        names = ["Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"]
    text = "".join(f"{n}\n{message[n]}\n" for n in names if message.get(n) is not None)
    certificate = secret or next(iter(source["certificates"].values()))
    leaf = file("leaf.pem", certificate.encode())
    root = file("root.pem", document["certificate_authority"].encode())
    assert openssl("verify", "-no_check_time", "-CAfile", root, leaf), "the chain is broken"
    key = subprocess.run(["openssl", "x509", "-in", leaf, "-pubkey", "-noout"],
                         capture_output=True, check=True).stdout.decode()
    digest = {"1": "sha1", "2": "sha256"}[message["SignatureVersion"]]
    return public_key_verifies(key, text.encode(), message["Signature"], digest)


def standard_webhooks(prefix):
    def verify(secret, source, headers, body):
        identifier, timestamp = headers[f"{prefix}-id"], headers[f"{prefix}-timestamp"]
        message = f"{identifier}.{timestamp}.".encode() + body
        kind, key = secret.split("_")
        for signature in headers[f"{prefix}-signature"].split():
            version, value = signature.split(",")
            if (kind, version) == ("whsec", "v1"):
                if base64.b64encode(mac(base64.b64decode(key), message)).decode() == value:
                    return True
            if (kind, version) == ("whpk", "v1a"):
                # The fixed start of an Ed25519 SubjectPublicKeyInfo (RFC 8410).
                der = bytes.fromhex("302a300506032b6570032100") + base64.b64decode(key)
                public = file("key.pem", pem(base64.b64encode(der).decode()).encode())
                sig, signed = file("signature", base64.b64decode(value)), file("message", message)
                if openssl("pkeyutl", "-verify", "-pubin", "-inkey", public, "-rawin", "-in",
                           signed, "-sigfile", sig):
                    return True
        return False

    return verify


def mailersend(secret, source, headers, body):
    return mac(secret.encode(), body).hex() == headers["signature"]


def postal(secret, source, headers, body):
    if "x-postal-signature-256" in headers:
        return public_key_verifies(secret, body, headers["x-postal-signature-256"], "sha256")
    return public_key_verifies(secret, body, headers["x-postal-signature"], "sha1")


def generic(secret, source, headers, body):
    options = {"header": "X-Mailpulse-Signature", "algorithm": "sha256", "encoding": "hex",
               "signed": "{timestamp}.{body}", "timestamp_header": "X-Mailpulse-Timestamp",
               "id_header": "X-Mailpulse-Id", **source["options"]}
    template = {"body": "{body}"}.get(options["signed"], options["signed"])
    timestamp = headers.get(options["timestamp_header"].lower(), "")
    identifier = headers.get(options["id_header"].lower(), "")
    start, end = template.split("{body}")
    start = start.replace("{timestamp}", timestamp).replace("{id}", identifier)
    key = bytes.fromhex(secret) if "secret_encoding" in options else secret.encode()
    tag = mac(key, start.encode(), body, end.encode(), digest=options["algorithm"])
    text = tag.hex() if options["encoding"] == "hex" else base64.b64encode(tag).decode()
    prefix = options.get("prefix", options["algorithm"] + "=")
    return headers[options["header"].lower()] == prefix + text


def credentials(secret, source, headers, body):
    options = source["options"]
    if "header" in options:
        return headers.get(options["header"].lower()) == secret
    if options.get("scheme") == "bearer":
        return headers.get("authorization") == f"Bearer {secret}"
    return headers.get("authorization") == "Basic " + base64.b64encode(secret.encode()).decode()


SCHEMES = {
    "sendgrid": sendgrid, "mailgun": mailgun, "mandrill": mandrill, "ses": ses,
    "standardwebhooks": standard_webhooks("webhook"), "resend": standard_webhooks("svix"),
    "mailersend": mailersend, "postal": postal, "generic": generic, "postmark": credentials,
    "sparkpost": credentials, "brevo": credentials, "mailjet": credentials,
}

failures = count = 0
for path in sorted(HERE.glob("*.json")):
    document = json.loads(path.read_text(encoding="utf-8"))
    scheme = SCHEMES[document["provider"]]
    for source in document["sources"]:
        for vector in source["vectors"]:
            expect, headers, body = vector["expect"], vector["headers"], vector["body"].encode()
            secrets = source["secrets"] or [None]
            verified = any(scheme(secret, source, headers, body) for secret in secrets)
            expected = "code" not in expect or expect["code"] in SIGNED
            count += 1
            if verified != expected:
                failures += 1
                print(f"{path.name}: {vector['name']}: {verified}, expected {expected}")
print(f"{count} vectors, {failures} failures")
sys.exit(failures > 0)
