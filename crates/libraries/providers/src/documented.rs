//! Tests the tables of `docs/providers.md` that say what becomes of each word in a provider's
//! documentation: every row is posted, and every term of our tables has a row.

use std::collections::{BTreeMap, BTreeSet};

use event::{Provider, ReceivedAt};

use crate::bounce::{Row, numbers};
use crate::{
    Envelope, mailgun, mailjet, mandrill, parse, postmark, sendgrid, ses, sparkpost, split,
};

/// A field with a documented set of values.
struct Field {
    provider: Provider,
    /// The name in the page.
    name: &'static str,
    /// A body in which the value replaces `WORD`.
    body: &'static str,
    /// The values that our code has in a table.
    terms: fn() -> Vec<&'static str>,
}

const fn field(
    provider: Provider,
    name: &'static str,
    body: &'static str,
    terms: fn() -> Vec<&'static str>,
) -> Field {
    Field { provider, name, body, terms }
}

fn none() -> Vec<&'static str> {
    Vec::new()
}

fn terms(rows: &[Row]) -> Vec<&'static str> {
    rows.iter().map(|(term, ..)| *term).collect()
}

fn all_numbers() -> Vec<&'static str> {
    numbers::NUMBERS.iter().map(|number| number.code).collect()
}

const FIELDS: &[Field] = &[
    field(
        Provider::SendGrid,
        "event",
        r#"[{"event":"WORD","timestamp":1,"sg_message_id":"m"}]"#,
        none,
    ),
    field(
        Provider::SendGrid,
        "type of bounce",
        r#"[{"event":"bounce","timestamp":1,"sg_message_id":"m","type":"WORD"}]"#,
        || terms(sendgrid::bounces::TYPES),
    ),
    field(
        Provider::SendGrid,
        "bounce_classification",
        r#"[{"event":"bounce","timestamp":1,"sg_message_id":"m","bounce_classification":"WORD"}]"#,
        || terms(sendgrid::bounces::CLASSES),
    ),
    field(
        Provider::SendGrid,
        "reason of dropped",
        r#"[{"event":"dropped","timestamp":1,"sg_message_id":"m","reason":"WORD"}]"#,
        || terms(sendgrid::bounces::DROPS),
    ),
    field(
        Provider::Mailgun,
        "event",
        r#"{"event-data":{"event":"WORD","id":"1","timestamp":1.5}}"#,
        none,
    ),
    field(
        Provider::Mailgun,
        "severity of failed",
        r#"{"event-data":{"event":"failed","severity":"WORD","id":"1","timestamp":1.5}}"#,
        || terms(mailgun::bounces::SEVERITIES),
    ),
    field(
        Provider::Mailgun,
        "reason of failed",
        r#"{"event-data":{"event":"failed","severity":"permanent","reason":"WORD","id":"1","timestamp":1.5}}"#,
        || terms(mailgun::bounces::REASONS),
    ),
    field(
        Provider::Mailgun,
        "event of a form",
        "event=WORD&timestamp=1&recipient=a%40b.example",
        none,
    ),
    field(
        Provider::Mailgun,
        "code of dropped in a form",
        "event=dropped&code=WORD&timestamp=1&recipient=a%40b.example",
        none,
    ),
    field(Provider::Postmark, "RecordType", r#"{"RecordType":"WORD","MessageID":"m"}"#, none),
    field(
        Provider::Postmark,
        "Type of Bounce",
        r#"{"RecordType":"Bounce","Type":"WORD","ID":1}"#,
        || postmark::bounces::TYPES.iter().map(|row| row.name).collect(),
    ),
    field(
        Provider::Postmark,
        "SuppressionReason",
        r#"{"RecordType":"SubscriptionChange","SuppressSending":true,"SuppressionReason":"WORD"}"#,
        none,
    ),
    field(Provider::Ses, "eventType", r#"{"eventType":"WORD","mail":{"messageId":"m"}}"#, none),
    field(
        Provider::Ses,
        "bounceType",
        r#"{"eventType":"Bounce","bounce":{"bounceType":"WORD"}}"#,
        || terms(ses::bounces::TYPES),
    ),
    field(
        Provider::Ses,
        "bounceSubType",
        r#"{"eventType":"Bounce","bounce":{"bounceSubType":"WORD"}}"#,
        none,
    ),
    field(
        Provider::Ses,
        "delayType",
        r#"{"eventType":"DeliveryDelay","deliveryDelay":{"delayType":"WORD"}}"#,
        none,
    ),
    field(
        Provider::Ses,
        "complaintFeedbackType",
        r#"{"eventType":"Complaint","complaint":{"complaintFeedbackType":"WORD"}}"#,
        none,
    ),
    field(Provider::Mandrill, "event", r#"[{"event":"WORD","ts":1,"_id":"m"}]"#, || {
        terms(mandrill::bounces::EVENTS)
    }),
    field(Provider::Mandrill, "type", r#"[{"type":"WORD","action":"add","ts":1}]"#, none),
    field(
        Provider::Mandrill,
        "bounce_description",
        r#"[{"event":"soft_bounce","ts":1,"_id":"m","msg":{"bounce_description":"WORD"}}]"#,
        || terms(mandrill::bounces::DESCRIPTIONS),
    ),
    field(
        Provider::Mandrill,
        "bgtools_code",
        r#"[{"event":"soft_bounce","ts":1,"_id":"m","msg":{"bgtools_code":WORD}}]"#,
        all_numbers,
    ),
    field(
        Provider::SparkPost,
        "type",
        r#"[{"msys":{"message_event":{"type":"WORD","event_id":"1"}}}]"#,
        || terms(sparkpost::bounces::TYPES),
    ),
    field(
        Provider::SparkPost,
        "bounce_class",
        r#"[{"msys":{"message_event":{"type":"bounce","bounce_class":"WORD","event_id":"1"}}}]"#,
        all_numbers,
    ),
    field(
        Provider::SparkPost,
        "fbtype",
        r#"[{"msys":{"message_event":{"type":"spam_complaint","fbtype":"WORD","event_id":"1"}}}]"#,
        none,
    ),
    field(Provider::Resend, "type", r#"{"type":"WORD","data":{"email_id":"e"}}"#, none),
    field(
        Provider::Resend,
        "bounce.type",
        r#"{"type":"email.bounced","data":{"email_id":"e","bounce":{"type":"WORD"}}}"#,
        || terms(ses::bounces::TYPES),
    ),
    field(
        Provider::Resend,
        "bounce.subType",
        r#"{"type":"email.bounced","data":{"email_id":"e","bounce":{"subType":"WORD"}}}"#,
        || terms(ses::bounces::SUBTYPES),
    ),
    field(Provider::Mailjet, "event", r#"{"event":"WORD","time":1,"MessageID":1}"#, none),
    field(
        Provider::Mailjet,
        "error of bounce",
        r#"{"event":"bounce","error":"WORD","time":1,"MessageID":1}"#,
        || terms(mailjet::bounces::ERRORS),
    ),
    field(
        Provider::Mailjet,
        "error of blocked",
        r#"{"event":"blocked","error":"WORD","time":1,"MessageID":1}"#,
        || terms(mailjet::bounces::ERRORS),
    ),
    field(
        Provider::Mailjet,
        "error_related_to",
        r#"{"event":"bounce","error_related_to":"WORD","time":1,"MessageID":1}"#,
        || terms(mailjet::bounces::RELATED),
    ),
    field(Provider::MailerSend, "type", r#"{"type":"WORD","data":{"id":"1"}}"#, none),
];

impl Field {
    /// Returns what becomes of a value: the kind, and for a refusal its permanence, class and side.
    fn meaning(&self, word: &str) -> String {
        let body = self.body.replace("WORD", word);
        let body = match self.provider {
            Provider::Ses => {
                serde_json::json!({ "Type": "Notification", "MessageId": "m", "Message": body })
                    .to_string()
            }
            Provider::Mandrill => form_urlencoded::Serializer::new(String::new())
                .append_pair("mandrill_events", &body)
                .finish(),
            _ => body,
        };
        let split = split(self.provider, body.as_bytes()).unwrap();
        let raw = split.events().next().unwrap();
        let envelope = Envelope {
            source: "harbour",
            recipient: raw.recipient,
            received_at: ReceivedAt(1_762_788_000_000_000),
            request_id: "r-1",
        };
        let event = parse(self.provider, raw.raw, &envelope).unwrap();
        assert_eq!(event.kind, raw.kind, "split and parse agree on {word}");
        let mut words = vec![format!("`{}`", event.kind)];
        if let Some(bounce) = &event.bounce {
            words.push(bounce.permanence.as_str().to_owned());
            words.push(bounce.class.as_str().to_owned());
            words.push(bounce.side.as_str().to_owned());
        }
        words.join(", ")
    }
}

/// The rows of the page, as field, value and meaning, by provider.
fn documented() -> BTreeMap<String, Vec<[String; 3]>> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../docs/providers.md");
    let page = std::fs::read_to_string(path).unwrap();
    let (_, part) = page.split_once("## What becomes of each word\n").unwrap();
    let part = part.split("\n## ").next().unwrap();
    let mut rows: BTreeMap<String, Vec<[String; 3]>> = BTreeMap::new();
    let mut provider = String::new();
    for line in part.lines() {
        if let Some(title) = line.strip_prefix("### ") {
            provider = title.split(':').next().unwrap().to_lowercase();
        }
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        if let ["", field, value, meaning, ""] = cells[..]
            && value.starts_with('`')
        {
            let unquoted = |text: &str| text.trim_matches('`').to_owned();
            let row = [unquoted(field), unquoted(value), meaning.to_owned()];
            rows.entry(provider.clone()).or_default().push(row);
        }
    }
    rows
}

#[test]
fn every_documented_word_has_its_meaning() {
    let mut wrong = Vec::new();
    let mut count = 0;
    for (provider, rows) in documented() {
        for [name, value, meaning] in rows {
            let field = FIELDS
                .iter()
                .find(|field| field.provider.as_str() == provider && field.name == name)
                .unwrap_or_else(|| panic!("{provider} has no field {name:?}"));
            let actual = field.meaning(&value);
            if actual != meaning {
                wrong.push(format!("{provider} | `{name}` | `{value}` | {actual} |"));
            }
            count += 1;
        }
    }
    assert!(
        wrong.is_empty(),
        "docs/providers.md differs; the right rows are:\n{}",
        wrong.join("\n")
    );
    assert!(count > 250, "{count} rows");
}

#[test]
fn every_word_of_our_tables_is_documented() {
    let documented = documented();
    let mut missing = Vec::new();
    for field in FIELDS {
        let provider = field.provider.as_str();
        let rows = documented.get(provider).map(Vec::as_slice).unwrap_or_default();
        let words: BTreeSet<String> = rows
            .iter()
            .filter(|[name, ..]| name == field.name)
            .map(|[_, value, _]| value.to_lowercase())
            .collect();
        if words.is_empty() {
            missing.push(format!("{provider} {}", field.name));
        }
        // A term is the start of a value.
        let is_documented =
            |term: &str| words.iter().any(|word| word.starts_with(&term.to_lowercase()));
        let terms = (field.terms)().into_iter().filter(|term| !is_documented(term));
        missing.extend(terms.map(|term| format!("{provider} {} `{term}`", field.name)));
    }
    assert!(missing.is_empty(), "docs/providers.md lacks:\n{}", missing.join("\n"));
}
