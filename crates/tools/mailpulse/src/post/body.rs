//! The body of a request with one event, as the provider forms it.

use event::Provider;
use serde_json::Value;
use testkit::{MailEvent, payloads};

use super::mapped;
use crate::InputError;
use crate::configured::ConfiguredSource;

/// Returns the body without what the signature adds to it.
///
/// # Errors
/// If the provider reports no such event.
pub(super) fn of(source: &ConfiguredSource, event: &MailEvent) -> Result<String, InputError> {
    if source.provider == Provider::Generic
        && let Some(body) = mapped::body(&source.options, event)?
    {
        return Ok(body.to_string());
    }
    let Some(json) = payloads::json(event) else {
        let text = format!(
            "{} reports no event of kind {}; choose another --kind",
            source.provider, event.kind
        );
        return Err(InputError(text));
    };
    Ok(wrapped(source.provider, &json))
}

fn wrapped(provider: Provider, json: &Value) -> String {
    match provider {
        // As SendGrid: a body that was parsed and written again does not verify.
        Provider::SendGrid => {
            let json = json.to_string().replace('<', "\\u003c").replace('>', "\\u003e");
            format!("[{json}]\r\n")
        }
        // Like PHP, Mandrill escapes every slash.
        Provider::Mandrill => format!("[{json}]").replace('/', "\\/"),
        Provider::SparkPost | Provider::Mailjet => format!("[{json}]"),
        Provider::Ses => format!("{json}\n"),
        _ => json.to_string(),
    }
}
