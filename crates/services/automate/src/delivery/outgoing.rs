//! One action on its way.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, UNIX_EPOCH};

use automation::{ActionRecord, Facts, FieldSource, Mail, RenderError, Subject};
use courier::{Delivery, DeliveryError, signed_headers};
use erasure::Erased;
use jiff::Timestamp;
use kafka::feed::Item;
use lettre::message::header::{ContentType, Header, HeaderName, HeaderValue};
use lettre::message::{Mailbox, MultiPart};
use lettre::{Address, Message};
use reqwest::header::HeaderMap;
use serde_json::{Map, Value, json};

use super::receiver::{Http, Receiver, Target};
use super::suppressions::Suppressions;
use crate::settings::Mailer;

/// The header by which a receiver recognises an action that it has had.
const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// How often an attempt looks whether the tombstones are known again.
const ERASED_CHECK: Duration = Duration::from_millis(100);

/// An action, rendered.
pub(super) struct Outgoing {
    pub(super) item: Item,
    /// The assignment of the partition that the action was read in.
    pub(super) assignment: u64,
    record: ActionRecord,
    receiver: Arc<Receiver>,
    content: Content,
    suppressions: Option<Arc<Suppressions>>,
    erased: Arc<Erased>,
    is_cancelled: AtomicBool,
}

enum Content {
    Body(Vec<u8>),
    Mail(Mail),
}

impl Outgoing {
    /// Renders an action.
    ///
    /// # Errors
    /// Fails if its template cannot be rendered for the event.
    pub(super) fn new(
        (item, assignment): (Item, u64),
        record: ActionRecord,
        receiver: &Arc<Receiver>,
        (suppressions, erased): (Option<&Arc<Suppressions>>, &Arc<Erased>),
    ) -> Result<Self, RenderError> {
        let content = content(&record, receiver)?;
        let (receiver, suppressions) = (Arc::clone(receiver), suppressions.map(Arc::clone));
        let (erased, is_cancelled) = (Arc::clone(erased), AtomicBool::new(false));
        Ok(Self { item, assignment, record, receiver, content, suppressions, erased, is_cancelled })
    }

    /// Prevents further attempts.
    pub(super) fn cancel(&self) {
        self.is_cancelled.store(true, Ordering::Relaxed);
    }

    async fn post(&self, http: &Http, body: &[u8]) -> Result<(), DeliveryError> {
        let id = self.record.action_id.to_string();
        let mut headers = if http.keys.is_empty() {
            HeaderMap::new()
        } else {
            signed_headers(&http.keys, &id, now().as_second(), body)
        };
        if let Ok(id) = id.parse() {
            headers.insert(IDEMPOTENCY_KEY, id);
        }
        http.endpoint.post(headers, body.to_vec()).await
    }

    async fn mail(
        &self,
        mailer: &Mailer,
        to: Option<&Address>,
        mail: &Mail,
    ) -> Result<(), DeliveryError> {
        let is_allowed = match (to, &self.record.subject, &self.suppressions) {
            // The operator's own address.
            (Some(_), ..) => Some(true),
            (None, Subject::Event(event), Some(suppressions)) => suppressions.allow(event, now()),
            (None, ..) => Some(false),
        };
        match is_allowed {
            Some(true) => {}
            Some(false) => {
                metrics::counter!("mailpulse_automate_mails_refused_total").increment(1);
                return Ok(());
            }
            None => {
                let answer = "mail.suppressions cannot be read".to_owned();
                return Err(DeliveryError::Unavailable { answer, retry_after: None });
            }
        }
        let unusable = |problem: String| DeliveryError::Rejected {
            answer: format!("the mail cannot be written: {problem}"),
        };
        let message = self.message(mail, to, &mailer.from).map_err(unusable)?;
        mailer.server.send(&message, mailer.from.email.domain()).await
    }

    fn message(
        &self,
        mail: &Mail,
        to: Option<&Address>,
        from: &Mailbox,
    ) -> Result<Message, String> {
        let recipient = || self.record.subject.recipient().unwrap_or_default().parse();
        let address = to.map_or_else(recipient, |to| Ok(to.clone()));
        let address = address.map_err(|error: lettre::address::AddressError| error.to_string())?;
        let date = u64::try_from(self.record.at)
            .map_or(UNIX_EPOCH, |micros| UNIX_EPOCH + Duration::from_micros(micros));
        let id = format!("<mailpulse-{}@{}>", self.record.action_id, from.email.domain());
        let builder = Message::builder()
            .from(from.clone())
            .to(Mailbox::new(None, address))
            .subject(mail.subject.clone())
            .date(date)
            .message_id(Some(id))
            .header(AutoSubmitted);
        let message = match &mail.html {
            None => builder.header(ContentType::TEXT_PLAIN).body(mail.text.clone()),
            Some(html) => builder
                .multipart(MultiPart::alternative_plain_html(mail.text.clone(), html.clone())),
        };
        message.map_err(|error| error.to_string())
    }
}

impl Delivery for Outgoing {
    type Key = String;

    fn keys(&self) -> Vec<String> {
        vec![self.record.subject.key()]
    }

    fn bytes(&self) -> usize {
        let content = match &self.content {
            Content::Body(body) => body.len(),
            Content::Mail(mail) => mail.text.len() + mail.html.as_ref().map_or(0, String::len),
        };
        content + 2 * self.item.value.as_ref().map_or(0, Vec::len) + 512
    }

    fn is_cancelled(&self) -> bool {
        self.is_cancelled.load(Ordering::Relaxed)
    }

    async fn attempt(&self) -> Result<(), DeliveryError> {
        while !self.erased.is_current() {
            tokio::time::sleep(ERASED_CHECK).await;
        }
        // Between the attempts are up to hours, in which the recipient may have been erased.
        let is_erased = |address| self.erased.eraser().pseudonym(address).is_some();
        if self.record.subject.recipient().is_some_and(is_erased) {
            return Ok(());
        }
        match (&self.receiver.target, &self.content) {
            (
                Target::Webhook(http)
                | Target::Slack(http, _)
                | Target::Crm(http, _)
                | Target::Task(http, _),
                Content::Body(body),
            ) => self.post(http, body).await,
            (Target::Mail(mailer, _, to), Content::Mail(mail)) => {
                self.mail(mailer, to.as_ref(), mail).await
            }
            // `content` makes mails for the target mail, and bodies for all others.
            (Target::Mail(..), Content::Body(_)) | (_, Content::Mail(_)) => Ok(()),
        }
    }
}

fn content(record: &ActionRecord, receiver: &Receiver) -> Result<Content, RenderError> {
    let (subject, rule, id) = (&record.subject, &record.rule, record.action_id.to_string());
    let at = Timestamp::from_microsecond(record.at).unwrap_or(Timestamp::UNIX_EPOCH).to_string();
    let body = match &receiver.target {
        Target::Webhook(_) => {
            json!({"type": "automation.action", "timestamp": at, "data": record})
        }
        Target::Slack(_, text) => json!({"text": text.render(subject, rule, &id)?}),
        Target::Crm(_, fields) => Value::Object(crm_fields(subject, fields)),
        Target::Task(_, title) => {
            let mut task = json!({
                "action_id": id,
                "rule": rule,
                "title": title.render(subject, rule, &id)?,
                "timestamp": at,
                subject.name(): subject.json(),
            });
            if let Some(recipient) = subject.recipient() {
                task["recipient"] = json!(recipient);
            }
            task
        }
        Target::Mail(_, template, _) => {
            return Ok(Content::Mail(template.render(subject, rule, &id)?));
        }
    };
    Ok(Content::Body(body.to_string().into_bytes()))
}

/// Returns the receiver's fields. A field that the event or incident does not have is `null`.
fn crm_fields(subject: &Subject, fields: &[(String, FieldSource)]) -> Map<String, Value> {
    let json = subject.json();
    let value = |source: &FieldSource| match source {
        FieldSource::Static(text) => Value::String(text.clone()),
        FieldSource::Event(name) => Facts::field_of(&json, name).unwrap_or(Value::Null),
        FieldSource::Incident(name) => json.get(name).cloned().unwrap_or(Value::Null),
    };
    fields.iter().map(|(name, source)| (name.clone(), value(source))).collect()
}

#[expect(clippy::disallowed_methods, reason = "a signature has the time of its attempt")]
fn now() -> Timestamp {
    Timestamp::now()
}

/// Tells other programs not to reply (RFC 3834).
#[derive(Debug, Clone)]
struct AutoSubmitted;

impl Header for AutoSubmitted {
    fn name() -> HeaderName {
        HeaderName::new_from_ascii_str("Auto-Submitted")
    }

    // The header is only written.
    fn parse(_: &str) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        Err("this header is never read".into())
    }

    fn display(&self) -> HeaderValue {
        HeaderValue::new(Self::name(), "auto-generated".to_owned())
    }
}
