"""Asks Mailpulse who must not be mailed, before sending. Needs only the standard library of Python 3.9 or newer.

    client = Suppressions("http://127.0.0.1:9181", token, list="ses/news")
    recipients = client.allowed(recipients)            # a newsletter
    if client.may_send("ada@example.com", purpose="transactional"):
        ...                                            # a receipt

If Mailpulse cannot be asked, `SuppressionsUnavailable` is raised. Do not send a newsletter then; whether a receipt is
worth the risk is your decision.
"""

import json
import sys
import urllib.error
import urllib.parse
import urllib.request

MAX_ADDRESSES = 10_000


class SuppressionsUnavailable(Exception):
    """Mailpulse did not answer. `code` is the code of its problem document, or None without one."""

    def __init__(self, message, code=None):
        super().__init__(message)
        self.code = code


class Suppressions:
    def __init__(self, url, token, list=None, timeout=5.0):
        self._url = url.rstrip("/")
        self._token = token
        self._list = list
        self._timeout = timeout

    def may_send(self, address, purpose="marketing", scope=None):
        """Returns whether one address may be mailed."""
        return not self.look_up(address, purpose, scope)["suppressed"]

    def look_up(self, address, purpose="marketing", scope=None):
        """Returns what is known of one address."""
        query = {"purpose": purpose, "list": self._list, "scope": scope}
        query = urllib.parse.urlencode({k: v for k, v in query.items() if v is not None})
        path = urllib.parse.quote(address, safe="")
        return self._request("GET", f"/suppressions/{path}?{query}")

    def suppressed(self, addresses, purpose="marketing", scope=None):
        """Returns the addresses that must not be mailed, with the reasons. What is no address has the reason "invalid"."""
        addresses = [*addresses]
        found = {}
        for start in range(0, len(addresses), MAX_ADDRESSES):
            body = {"addresses": addresses[start : start + MAX_ADDRESSES], "purpose": purpose}
            if self._list is not None:
                body["list"] = self._list
            if scope is not None:
                body["scope"] = scope
            answer = self._request("POST", "/suppressions/check", body)
            found.update((it["address"], it["reasons"]) for it in answer["suppressed"])
            found.update((address, ["invalid"]) for address in answer["invalid"])
        return found

    def allowed(self, addresses, purpose="marketing", scope=None):
        """Returns the addresses that may be mailed, in their order."""
        addresses = [*addresses]
        suppressed = self.suppressed(addresses, purpose, scope)
        return [address for address in addresses if address not in suppressed]

    def changes(self, cursor=""):
        """Yields (change, cursor) for everything that has changed since the cursor. Keep the last cursor for the next call.

        A change names its recipient by the digest that `look_up` returns as `recipient`. With the code
        `cursor_too_old`, forget what you have and begin again without a cursor.
        """
        while True:
            answer = self._request("GET", "/suppressions?" + urllib.parse.urlencode({"since": cursor}))
            cursor = answer["cursor"]
            for change in answer["changes"]:
                yield change, cursor
            if not answer["more"]:
                return

    def _request(self, method, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        headers = {"Authorization": f"Bearer {self._token}", "Content-Type": "application/json"}
        request = urllib.request.Request(self._url + path, data, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=self._timeout) as response:
                return json.load(response)
        except urllib.error.HTTPError as error:
            try:
                problem = json.load(error)
            except ValueError:
                problem = {}
            detail = problem.get("detail", error.reason)
            raise SuppressionsUnavailable(f"HTTP {error.code}: {detail}", problem.get("code")) from error
        except (OSError, ValueError) as error:
            raise SuppressionsUnavailable(str(error)) from error


def main():
    """Reads addresses from standard input and writes those that may be mailed: `… URL TOKEN [LIST]`."""
    url, token, *rest = sys.argv[1:]
    client = Suppressions(url, token, *rest)
    for address in client.allowed(line.strip() for line in sys.stdin if line.strip()):
        print(address)


if __name__ == "__main__":
    main()
