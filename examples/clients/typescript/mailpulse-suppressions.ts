// Asks Mailpulse who must not be mailed, before sending. Needs only `fetch`: a browser, Node.js 18 or newer, Deno or Bun.
// All types can be erased, so Node.js 22.18 or newer runs this file as it is.
//
//   const client = new Suppressions("http://127.0.0.1:9181", token, { list: "ses/news" });
//   const recipients = await client.allowed(all);                          // a newsletter
//   if (await client.maySend("ada@example.com", { purpose: "transactional" })) { … }   // a receipt
//
// If Mailpulse cannot be asked, `SuppressionsUnavailable` is thrown. Do not send a newsletter then; whether a receipt is
// worth the risk is your decision.

export type Purpose = "marketing" | "transactional";

export type Reason = "hard_bounce" | "complaint" | "unsubscribe" | "soft_bounces" | "manual";

export interface About {
  purpose?: Purpose;
  scope?: string;
}

export interface Answer {
  recipient: string;
  suppressed: boolean;
  reasons: Reason[];
}

interface Checked {
  suppressed: { address: string; reasons: Reason[] }[];
  invalid: string[];
}

const MAX_ADDRESSES = 10_000;

// Mailpulse did not answer. `code` is the code of its problem document, or undefined without one.
export class SuppressionsUnavailable extends Error {
  code: string | undefined;

  constructor(message: string, code?: string) {
    super(message);
    this.code = code;
  }
}

export class Suppressions {
  #url: string;
  #token: string;
  #list: string | undefined;
  #timeout: number;

  constructor(url: string, token: string, options: { list?: string; timeout?: number } = {}) {
    this.#url = url.replace(/\/+$/, "");
    this.#token = token;
    this.#list = options.list;
    this.#timeout = options.timeout ?? 5_000;
  }

  // Returns whether one address may be mailed.
  async maySend(address: string, about: About = {}): Promise<boolean> {
    return !(await this.lookUp(address, about)).suppressed;
  }

  // Returns what is known of one address.
  async lookUp(address: string, about: About = {}): Promise<Answer> {
    const query = new URLSearchParams({ purpose: about.purpose ?? "marketing" });
    if (this.#list !== undefined) query.set("list", this.#list);
    if (about.scope !== undefined) query.set("scope", about.scope);
    const answer = await this.#request("GET", `/suppressions/${encodeURIComponent(address)}?${query}`);
    return answer as Answer;
  }

  // Returns the addresses that must not be mailed, with the reasons. What is no address has the reason "invalid".
  async suppressed(addresses: string[], about: About = {}): Promise<Map<string, string[]>> {
    const found = new Map<string, string[]>();
    for (let start = 0; start < addresses.length; start += MAX_ADDRESSES) {
      const body = {
        addresses: addresses.slice(start, start + MAX_ADDRESSES),
        purpose: about.purpose ?? "marketing",
        list: this.#list,
        scope: about.scope,
      };
      const answer = (await this.#request("POST", "/suppressions/check", body)) as Checked;
      for (const { address, reasons } of answer.suppressed) found.set(address, reasons);
      for (const address of answer.invalid) found.set(address, ["invalid"]);
    }
    return found;
  }

  // Returns the addresses that may be mailed, in their order.
  async allowed(addresses: string[], about: About = {}): Promise<string[]> {
    const suppressed = await this.suppressed(addresses, about);
    return addresses.filter((address) => !suppressed.has(address));
  }

  async #request(method: string, path: string, body?: unknown): Promise<unknown> {
    let response: Response;
    try {
      response = await fetch(this.#url + path, {
        method,
        body: body === undefined ? undefined : JSON.stringify(body),
        headers: { authorization: `Bearer ${this.#token}`, "content-type": "application/json" },
        signal: AbortSignal.timeout(this.#timeout),
      });
    } catch (error) {
      throw new SuppressionsUnavailable(String(error));
    }
    const answer: any = await response.json().catch(() => ({}));
    if (!response.ok) {
      throw new SuppressionsUnavailable(`HTTP ${response.status}: ${answer.detail ?? ""}`, answer.code);
    }
    return answer;
  }
}
