//! Signs JSON that the caller has formed.

use event::Provider;
use serde_json::Value;

use super::{body, generic, mailgun, mandrill, one_or_array, sendgrid, ses, unsigned_body};
use crate::{Credentials, SignedRequest};

/// Signs events in the form of [`crate::payloads::json`] as the provider posts them: in one request if it
/// posts batches, and otherwise in one request per event.
pub fn values(
    credentials: &Credentials,
    provider: Provider,
    source: &str,
    values: &[Value],
    now_unix: i64,
) -> Vec<SignedRequest> {
    let each = |sign: &dyn Fn(&Value) -> SignedRequest| values.iter().map(sign).collect();
    match provider {
        _ if values.is_empty() => Vec::new(),
        Provider::SendGrid => vec![sendgrid(credentials, source, values, now_unix)],
        Provider::Mailgun => each(&|event| mailgun(credentials, source, event, now_unix)),
        Provider::Ses => each(&|event| ses(credentials, source, event, now_unix)),
        Provider::Mandrill => vec![mandrill(credentials, source, values)],
        Provider::Generic => vec![generic(credentials, source, values, now_unix)],
        Provider::SparkPost | Provider::Mailjet => {
            let body = Value::from(values).to_string();
            vec![unsigned_body(credentials, provider, source, body.into())]
        }
        Provider::Brevo => {
            vec![unsigned_body(credentials, provider, source, one_or_array(values))]
        }
        _ => each(&|event| body(credentials, provider, source, event.to_string(), now_unix)),
    }
}
