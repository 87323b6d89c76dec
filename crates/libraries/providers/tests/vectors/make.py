#!/usr/bin/env python3
"""Makes the vectors in this folder. It uses Python's standard library and the `openssl` command, and
none of Mailpulse's code, so the vectors prove the verifiers independently.

    python3 make.py

Every run makes new key pairs; the private keys are not kept. HMAC secrets are fixed.
"""

import base64
import calendar
import hmac
import json
import pathlib
import subprocess
import tempfile
import time
import urllib.parse

HERE = pathlib.Path(__file__).parent
FIXTURES = HERE.parent.parent / "src"
KEYS = pathlib.Path(tempfile.mkdtemp())
NOW = 1_762_788_000  # 2025-11-10T15:20:00Z
CERTIFICATE_URL = (
    "https://sns.eu-west-1.amazonaws.com/"
    "SimpleNotificationService-5eed5eed5eed5eed5eed5eed5eed5eed.pem"
)
JSON = {"content-type": "application/json"}
FORM = {"content-type": "application/x-www-form-urlencoded"}


def fixture(path):
    return (FIXTURES / path).read_text(encoding="utf-8")


def compact(value):
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def changed(text, at):
    """The text with one byte changed."""
    return text[:at] + ("0" if text[at] != "0" else "1") + text[at + 1 :]


# Keys and signatures


def openssl(*arguments, stdin=b""):
    command = ["openssl", *map(str, arguments)]
    return subprocess.run(command, input=stdin, check=True, capture_output=True).stdout


def key_pair(name, *algorithm):
    """Makes a key pair. Returns the path of the private key and the public key in PEM."""
    private = KEYS / f"{name}.pem"
    openssl("genpkey", "-algorithm", *algorithm, "-out", private)
    return private, openssl("pkey", "-in", private, "-pubout").decode()


def der_base64(pem):
    return "".join(line for line in pem.splitlines() if not line.startswith("-----"))


def asymmetric(private, message, digest):
    return b64(openssl("dgst", f"-{digest}", "-sign", private, stdin=message))


def ed25519(private, message):
    path = KEYS / "message"
    path.write_bytes(message)
    return b64(openssl("pkeyutl", "-sign", "-rawin", "-inkey", private, "-in", path))


def mac(key, *parts, digest="sha256"):
    return hmac.new(key, b"".join(parts), digest).digest()


def b64(data):
    return base64.b64encode(data).decode()


# Vectors


def accepted(name, body, headers, key=0, kinds=(), content=None, now=NOW):
    """A request that must be accepted, by the secret with the index `key` (None if no secret is
    used). Its events have these kinds; without events, `content` names what the body is."""
    expect = {"key": key, "kinds": list(kinds)}
    if content:
        expect["content"] = content
    return {"name": name, "now": now, "headers": headers, "body": body, "expect": expect}


def rejected(name, body, headers, code, now=NOW):
    """A request that must be rejected with this code."""
    expect = {"code": code}
    return {"name": name, "now": now, "headers": headers, "body": body, "expect": expect}


def source(secrets, vectors, options=None, certificates=None):
    """Vectors of one configured source. `certificates` are those that the source may fetch."""
    made = {"secrets": secrets, "options": options or {}}
    if certificates:
        made["certificates"] = certificates
    return {**made, "vectors": vectors}


def write(name, provider, scheme, *sources, **further):
    document = {"provider": provider, "scheme": scheme, **further, "sources": list(sources)}
    text = json.dumps(document, indent=2, ensure_ascii=False)
    (HERE / f"{name}.json").write_text(text + "\n", encoding="utf-8")


def sendgrid():
    private, public = key_pair("sendgrid", "EC", "-pkeyopt", "ec_paramgen_curve:P-256")
    _, other = key_pair("sendgrid-other", "EC", "-pkeyopt", "ec_paramgen_curve:P-256")
    # SendGrid separates events by CRLF and ends the body with one.
    body = fixture("sendgrid/fixtures/batch.json").strip().replace("},\n{", "},\r\n{") + "\r\n"
    kinds = ["accepted", "deferred", "delivered", "opened", "opened", "clicked", "complained",
             "unsubscribed", "unsubscribed", "subscribed"]

    def headers(body, timestamp):
        signature = asymmetric(private, (timestamp + body).encode(), "sha256")
        return {
            **JSON,
            "x-twilio-email-event-webhook-timestamp": timestamp,
            "x-twilio-email-event-webhook-signature": signature,
        }

    good = headers(body, str(NOW - 5))
    timestamp = "x-twilio-email-event-webhook-timestamp"
    write(
        "sendgrid", "sendgrid",
        "ECDSA P-256 with SHA-256 over timestamp and body; base64 of ASN.1",
        source([der_base64(other), der_base64(public)], [
            accepted("a batch", body, good, key=1, kinds=kinds),
            rejected("one byte of the body changed", changed(body, 40), good, "wrong_signature"),
            rejected("one digit of the timestamp changed", body,
                     {**good, timestamp: str(NOW - 6)}, "wrong_signature"),
            rejected("without the final CRLF", body[:-2], good, "wrong_signature"),
            rejected("25 hours old", body, headers(body, str(NOW - 90_000)), "stale_signature"),
        ]),
    )


def mailgun():
    key, parent = "key-5e1f0c7a9b3d4826", "key-parent-77d0c1f2"
    event = compact(json.loads(fixture("mailgun/fixtures/delivered.json"))["event-data"])
    token = "4c21ab9e07d3f5581b6a90c2d8e4f7130a5b6c7d8e9f01234a"

    def block(key, timestamp, token):
        signature = mac(key.encode(), timestamp.encode(), token.encode()).hex()
        return {"timestamp": timestamp, "token": token, "signature": signature}

    def body(signature):
        return f'{{"signature":{compact(signature)},"event-data":{event}}}'

    def form(signature):
        fields = [("event", "opened"), ("recipient", "Ada@Example.com"), ("token", "the sender's"),
                  ("Message-Id", "<20251110151500.1.1@mail.example.org>"), *signature.items()]
        return urllib.parse.urlencode(fields)

    own = block(key, str(NOW - 60), token)
    wrong = {**own, "token": changed(token, 7)}
    child = {**block("key-of-the-subaccount", str(NOW - 60), token),
             "parent-signature": block(parent, str(NOW - 60), changed(token, 0))}
    old = block(key, str(NOW - 40_000), token)
    write(
        "mailgun", "mailgun", "hexadecimal HMAC-SHA256 over timestamp and token, inside the body",
        source([key, parent], [
            accepted("an event", body(own), JSON, kinds=["delivered"]),
            accepted("an event of a subaccount", body(child), JSON, key=1, kinds=["delivered"]),
            accepted("a form from before 2018", form(own), FORM, kinds=["opened"]),
            rejected("one byte of the token changed", body(wrong), JSON, "wrong_signature"),
            rejected("one byte of the token of a form changed", form(wrong), FORM,
                     "wrong_signature"),
            rejected("11 hours old", body(old), JSON, "stale_signature"),
        ]),
    )


def mandrill():
    key, url = "Vk3q0PzTt1yXwLr8", "https://hooks.example.com/webhooks/mandrill/city-press?v=1"
    events = urllib.parse.parse_qs(fixture("mandrill/fixtures/batch.txt"))["mandrill_events"][0]
    events = compact(json.loads(events)[:2]).replace("/", "\\/")

    def headers(value, key=key, url=url):
        signature = mac(key.encode(), url.encode(), b"mandrill_events", value.encode(),
                        digest="sha1")
        return {**FORM, "x-mandrill-signature": b64(signature)}

    def form(value):
        return urllib.parse.urlencode({"mandrill_events": value})

    write(
        "mandrill", "mandrill",
        "base64 of HMAC-SHA1 over the URL, and name and decoded value of each field",
        source([key], [
            accepted("two events", form(events), headers(events), kinds=["accepted", "delivered"]),
            accepted("the request that registers a webhook", form("[]"),
                     headers("[]", key="test-webhook"), key=None, content="Ping"),
            rejected("one byte of the value changed", form(changed(events, 12)), headers(events),
                     "wrong_signature"),
            rejected("signed for another URL", form(events),
                     headers(events, url=url.replace("https", "http")), "wrong_signature"),
            rejected("events under the registration key", form(events),
                     headers(events, key="test-webhook"), "wrong_signature"),
        ], {"public_url": url}),
    )


def certificates():
    """Makes a certificate authority and a certificate like those of Amazon SNS. Returns the private
    key of the certificate, both certificates in PEM, and the seconds at which the second one starts
    and ends."""
    authority, _ = key_pair("ca", "RSA", "-pkeyopt", "rsa_keygen_bits:2048")
    private, _ = key_pair("sns", "RSA", "-pkeyopt", "rsa_keygen_bits:2048")
    authority_certificate, certificate = KEYS / "ca.crt", KEYS / "sns.crt"
    openssl("req", "-x509", "-new", "-key", authority, "-subj",
            "/O=Mailpulse tests/CN=Example certificate authority", "-days", "3650",
            "-out", authority_certificate)
    request = openssl("req", "-new", "-key", private, "-subj", "/CN=sns.example.com")
    (KEYS / "sns.csr").write_bytes(request)
    openssl("x509", "-req", "-in", KEYS / "sns.csr", "-CA", authority_certificate, "-CAkey",
            authority, "-set_serial", "1", "-days", "3650", "-out", certificate)

    def seconds(which):
        date = openssl("x509", "-in", certificate, "-noout", which).decode().strip()
        date = date.split("=")[1].removesuffix(" GMT")
        return calendar.timegm(time.strptime(date, "%b %d %H:%M:%S %Y"))

    pems = (certificate.read_text(), authority_certificate.read_text())
    return private, pems, seconds("-startdate"), seconds("-enddate")


def ses():
    private, (certificate, authority), start, end = certificates()
    other, _ = key_pair("sns-other", "RSA", "-pkeyopt", "rsa_keygen_bits:2048")
    notification = json.loads(fixture("ses/fixtures/delivery.json"))
    subscription = json.loads(fixture("ses/fixtures/subscription_confirmation.json"))
    topic = notification["TopicArn"]

    def signed(message, version="2", private=private):
        names = ["Message", "MessageId"]
        if message["Type"] == "Notification":
            names += ["Subject"] if message.get("Subject") is not None else []
            names += ["Timestamp", "TopicArn", "Type"]
        else:
            names += ["SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"]
        text = "".join(f"{name}\n{message[name]}\n" for name in names)
        digest = {"1": "sha1", "2": "sha256"}[version]
        signature = asymmetric(private, text.encode(), digest)
        return {**message, "SignatureVersion": version, "Signature": signature,
                "SigningCertURL": CERTIFICATE_URL}

    def body(message):
        return json.dumps(message, indent=2, ensure_ascii=False)

    headers = {"content-type": "text/plain; charset=UTF-8", "x-amz-sns-topic-arn": topic}
    good = signed(notification)
    tampered = {**good, "Message": changed(good["Message"], 60)}
    elsewhere = {**signed(notification), "SigningCertURL": "https://sns.example.com/cert.pem"}
    # A subject that is null is not signed.
    no_subject = signed({**notification, "Subject": None})
    foreign = signed({**notification, "TopicArn": topic + "-of-someone-else"})
    kinds = ["delivered", "delivered"]

    def valid(*arguments, **named):
        return accepted(*arguments, **named, now=start)

    def invalid(*arguments, now=start):
        return rejected(*arguments, now=now)

    write(
        "ses", "ses",
        "RSA PKCS#1 v1.5 over fields of the SNS envelope; version 1 with SHA-1, 2 with SHA-256",
        source([], [
            valid("a notification of version 2", body(good), headers, key=None, kinds=kinds),
            valid("a notification of version 1", body(signed(notification, "1")), headers,
                     key=None, kinds=kinds),
            valid("a notification without a subject", body(no_subject), headers, key=None,
                     kinds=kinds),
            valid("a subscription confirmation", body(signed(subscription)), headers, key=None,
                     content="ConfirmSubscription"),
            invalid("one byte of the message changed", body(tampered), headers,
                     "wrong_signature"),
            invalid("signed by another key", body(signed(notification, private=other)), headers,
                     "wrong_signature"),
            invalid("a certificate from another host", body(elsewhere), headers,
                     "untrusted_certificate_url"),
            invalid("a topic that is not on the list", body(foreign), headers,
                     "topic_not_allowed"),
            invalid("after the certificate has expired", body(good), headers,
                     "certificate_invalid", now=end + 1),
        ], {"topics": [topic]}, {CERTIFICATE_URL: certificate}),
        source([certificate], [
            valid("a notification by the pinned certificate", body(good), headers, key=0,
                     kinds=kinds),
            invalid("one byte of the message changed", body(tampered), headers,
                     "wrong_signature"),
        ], {"topics": [topic], "signature_version": 2}),
        certificate_authority=authority,
    )


def standard_webhooks(name, provider, prefix, event, kinds):
    secret = b"our-own-webhook-secret-24b"
    private, public = key_pair(name, "ED25519")
    raw_public = base64.b64decode(der_base64(public))[-32:]
    identifier, timestamp = f"msg_2f6f{name}", str(NOW - 3)

    def signed(body, timestamp=timestamp):
        return f"{identifier}.{timestamp}.{body}".encode()

    def headers(signature, timestamp=timestamp):
        return {**JSON, f"{prefix}-id": identifier, f"{prefix}-timestamp": timestamp,
                f"{prefix}-signature": signature}

    v1 = "v1," + b64(mac(secret, signed(event)))
    v1a = "v1a," + ed25519(private, signed(event))
    old = str(NOW - 400)
    stale = "v1," + b64(mac(secret, signed(event, old)))
    tampered = changed(event, len(event) - 3)
    write(
        name, provider,
        "`v1`: HMAC-SHA256, `v1a`: Ed25519, over `id.timestamp.body`; base64",
        source(["whsec_" + b64(secret), "whpk_" + b64(raw_public)], [
            accepted("signed v1", event, headers(v1), key=0, kinds=kinds),
            accepted("signed v1a", event, headers(v1a), key=1, kinds=kinds),
            accepted("one good signature of three", event,
                     headers("v1," + b64(bytes(32)) + " v2,AAAA " + v1), key=0, kinds=kinds),
            rejected("one byte of the body changed, v1", tampered, headers(v1), "wrong_signature"),
            rejected("one byte of the body changed, v1a", tampered, headers(v1a),
                     "wrong_signature"),
            rejected("the id changed", event, {**headers(v1), f"{prefix}-id": "msg_other"},
                     "wrong_signature"),
            rejected("400 seconds old", event, headers(stale, old), "stale_signature"),
        ]),
    )


def mailersend():
    secret, body = "msk_0Zq81LxT5ePw", fixture("mailersend/fixtures/clicked.json").strip()
    good = {**JSON, "signature": mac(secret.encode(), body.encode()).hex()}
    write(
        "mailersend", "mailersend", "hexadecimal HMAC-SHA256 of the body",
        source([secret], [
            accepted("a click", body, good, kinds=["clicked"]),
            rejected("one byte of the body changed", changed(body, 99), good, "wrong_signature"),
        ]),
    )


def postal():
    private, public = key_pair("postal", "RSA", "-pkeyopt", "rsa_keygen_bits:1024")
    body = fixture("postal/fixtures/sent.json").strip()
    sha1 = {"x-postal-signature": asymmetric(private, body.encode(), "sha1")}
    sha256 = {"x-postal-signature-256": asymmetric(private, body.encode(), "sha256"),
              "x-postal-signature-kid": "our-own-key"}
    forged = {"x-postal-signature-256": sha1["x-postal-signature"]}
    tampered = changed(body, 150)
    write(
        "postal", "postal", "RSA PKCS#1 v1.5 of the body, with SHA-256 and with SHA-1; base64",
        source([public], [
            accepted("both signatures", body, {**JSON, **sha1, **sha256}, kinds=["delivered"]),
            accepted("only SHA-1, as before version 3", body, {**JSON, **sha1},
                     kinds=["delivered"]),
            rejected("one byte of the body changed", tampered, {**JSON, **sha1, **sha256},
                     "wrong_signature"),
            rejected("one byte of the body changed, only SHA-1", tampered, {**JSON, **sha1},
                     "wrong_signature"),
            rejected("a wrong SHA-256 beside a good SHA-1", body, {**JSON, **sha1, **forged},
                     "wrong_signature"),
        ]),
    )


def generic():
    body = compact(json.loads(fixture("generic/fixtures/batch.json"))[:2])
    kinds, secret, timestamp = ["accepted", "delivered"], "our-own-generic-key", str(NOW - 2)
    key, millis = secret.encode(), str(NOW * 1000 - 250)

    def pair(headers, options, at):
        return source([secret], [
            accepted("a batch", body, {**JSON, **headers}, kinds=kinds),
            rejected("one byte of the body changed", changed(body, at), {**JSON, **headers},
                     "wrong_signature"),
        ], options)

    content = body.encode()
    own = {"x-mailpulse-timestamp": timestamp,
           "x-mailpulse-signature":
               "sha256=" + mac(key, timestamp.encode(), b".", content).hex()}
    github = {"x-hub-signature-256": "sha256=" + mac(key, content).hex()}
    slack = {"x-slack-request-timestamp": timestamp,
             "x-slack-signature":
                 "v0=" + mac(key, b"v0:", timestamp.encode(), b":", content).hex()}
    shopify = {"x-shopify-hmac-sha256": b64(mac(key, content))}
    everything = {
        "x-id": "request-7", "x-time": millis,
        "x-signature": "v2=" + b64(mac(bytes.fromhex("00ff10"), b"request-7|", millis.encode(),
                                       b"|", content, digest="sha512")),
    }
    legacy = {"x-legacy": "sha1=" + mac(key, content, digest="sha1").hex()}
    last = pair(everything, {
        "header": "X-Signature", "prefix": "v2=", "encoding": "base64", "algorithm": "sha512",
        "signed": "{id}|{timestamp}|{body}", "timestamp_header": "X-Time",
        "timestamp_unit": "milliseconds", "id_header": "X-Id", "secret_encoding": "hex",
    }, 30)
    write(
        "generic", "generic", "an HMAC in a header, as the options of the source describe it",
        pair(own, {}, 20),
        pair(github, {"header": "X-Hub-Signature-256", "signed": "{body}"}, 21),
        pair(slack, {"header": "X-Slack-Signature", "prefix": "v0=",
                     "signed": "v0:{timestamp}:{body}",
                     "timestamp_header": "X-Slack-Request-Timestamp"}, 22),
        pair(shopify, {"header": "X-Shopify-Hmac-Sha256", "prefix": "", "encoding": "base64",
                       "signed": "{body}"}, 23),
        pair(legacy, {"header": "X-Legacy", "algorithm": "sha1", "signed": "body"}, 24),
        {**last, "secrets": ["00ff10"]},
    )


def credentials(provider, path, kinds, element=None):
    """A provider that does not sign. `element` selects one element of the fixture."""
    body = json.loads(fixture(path))
    body = compact(body if element is None else [body[element]])
    login, token, secret = "hook:9b1c-our-own-pass", "t-51c0f7ab22", "s-e8a17c04"

    def basic(login):
        return {**JSON, "authorization": "Basic " + b64(login.encode())}

    bearer = {**JSON, "authorization": f"Bearer {token}"}
    custom = {**JSON, "x-hook-secret": secret}
    write(
        provider, provider, "HTTP credentials or a secret header; nothing is signed",
        source(["hook:the-previous-pass", login], [
            accepted("basic credentials", body, basic(login), key=1, kinds=kinds),
            rejected("one character of the password changed", body, basic(changed(login, 8)),
                     "wrong_credentials"),
            rejected("without credentials", body, JSON, "missing_credentials"),
        ]),
        source([token], [
            accepted("a bearer token", body, bearer, kinds=kinds),
            rejected("one character of the token changed", body,
                     {**JSON, "authorization": "Bearer " + changed(token, 5)},
                     "wrong_credentials"),
        ], {"scheme": "bearer"}),
        source([secret], [
            accepted("a secret header", body, custom, kinds=kinds),
            rejected("one character of the secret changed", body,
                     {**JSON, "x-hook-secret": changed(secret, 4)}, "wrong_credentials"),
        ], {"header": "X-Hook-Secret"}),
    )


sendgrid()
mailgun()
mandrill()
ses()
webhook = compact({"type": "email.bounced", "timestamp": "2025-11-10T15:15:00Z",
                   "data": {"id": "e-2", "event": "bounced", "recipient": "ada@example.com",
                            "timestamp": 1_762_787_700}})
standard_webhooks("standardwebhooks", "standardwebhooks", "webhook", webhook, ["bounced"])
standard_webhooks("resend", "resend", "svix", fixture("resend/fixtures/clicked.json").strip(),
                  ["clicked"])
mailersend()
postal()
generic()
credentials("postmark", "postmark/fixtures/open.json", ["opened"])
credentials("sparkpost", "sparkpost/fixtures/engagement.json", ["opened"], element=1)
credentials("brevo", "brevo/fixtures/delivered.json", ["delivered"])
credentials("mailjet", "mailjet/fixtures/sent.json", ["delivered"])
