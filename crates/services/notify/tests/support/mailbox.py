"""An SMTP server that writes each e-mail to standard output as one line of JSON.

Usage: mailbox.py MODE PORT DIRECTORY, where DIRECTORY has ca.pem and key.pem.
"""

import json
import signal
import ssl
import sys
import threading
from email import message_from_bytes, policy

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult

mode, port, directory = sys.argv[1], int(sys.argv[2]), sys.argv[3]


class Handler:
    def __init__(self):
        self.is_first = True

    async def handle_DATA(self, server, session, envelope):
        if mode == "rejecting":
            return "554 5.7.1 This server accepts nothing"
        if mode == "busy" and self.is_first:
            self.is_first = False
            return "451 4.3.2 Try again later"
        mail = message_from_bytes(envelope.content, policy=policy.default)
        login = session.auth_data.login.decode() if session.auth_data else None
        record = {
            "from": envelope.mail_from,
            "to": envelope.rcpt_tos,
            "headers": {name: str(value) for name, value in mail.items()},
            "body": mail.get_content(),
            "login": login,
            "tls": mode == "tls" or session.ssl is not None,
        }
        print(json.dumps(record), flush=True)
        return "250 2.0.0 Accepted"


def authenticate(server, session, envelope, mechanism, auth_data):
    is_valid = auth_data.login == b"mailpulse" and auth_data.password == b"an invented password"
    return AuthResult(success=is_valid, auth_data=auth_data)


context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(f"{directory}/ca.pem", f"{directory}/key.pem")
options = {"hostname": "127.0.0.1", "port": port, "authenticator": authenticate}
if mode == "starttls":
    options |= {"tls_context": context, "require_starttls": True}
elif mode == "tls":
    # The connection is encrypted from the start, which aiosmtpd does not count as TLS for logins.
    options |= {"ssl_context": context, "auth_require_tls": False}
controller = Controller(Handler(), **options)
controller.start()
print("listening", flush=True)
done = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: done.set())
done.wait()
controller.stop()
