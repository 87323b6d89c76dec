//! Writes a list in the form that a provider imports.

use serde_json::{Value, json};

use super::Format;
use crate::Reason;

/// How many addresses one import job of Amazon SES takes:
/// <https://docs.aws.amazon.com/ses/latest/dg/sending-email-suppression-list.html>.
pub const SES_IMPORT_JOB_ADDRESSES: usize = 100_000;

/// An entry to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing {
    pub address: String,
    pub reason: Reason,
    /// Seconds since 1970.
    pub since: i64,
}

/// A provider does not import such a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    #[error(
        "Mailgun has one list for each reason; pass --reason hard_bounce, complaint or unsubscribe"
    )]
    ReasonNeeded,
    #[error("Postmark imports addresses through its API only, without a file")]
    NoImport,
}

/// Returns the text of a list. `reason` is the only reason that it has; `None`: several.
///
/// - SendGrid: the body of `POST /v3/asm/suppressions/global`, which knows no reasons.
/// - Mailgun: the body of `POST /v3/{domain}/bounces`, `complaints` or `unsubscribes`.
/// - SES: the CSV file of `CreateImportJob`, without names of fields. It knows bounces and complaints only; everything else is a bounce, so that
///   it is not mailed.
///
/// # Errors
/// If the provider has no such list.
pub fn write(
    format: Format,
    reason: Option<Reason>,
    entries: &[Listing],
) -> Result<String, WriteError> {
    match format {
        Format::SendGrid => {
            let addresses: Vec<&str> = entries.iter().map(|it| it.address.as_str()).collect();
            Ok(line(&json!({ "recipient_emails": addresses })))
        }
        Format::Mailgun => {
            let reason = reason.ok_or(WriteError::ReasonNeeded)?;
            Ok(line(&Value::Array(entries.iter().map(|it| mailgun(reason, it)).collect())))
        }
        Format::Ses => Ok(entries.iter().map(ses).collect()),
        Format::Postmark => Err(WriteError::NoImport),
    }
}

fn mailgun(reason: Reason, entry: &Listing) -> Value {
    let Listing { address, since, .. } = entry;
    let created_at = jiff::Timestamp::from_second(*since)
        .ok()
        .map(|at| at.strftime("%a, %d %b %Y %H:%M:%S UTC").to_string());
    match reason {
        Reason::Complaint => json!({ "address": address, "created_at": created_at }),
        Reason::Unsubscribe => {
            json!({ "address": address, "tags": ["*"], "created_at": created_at })
        }
        Reason::HardBounce | Reason::SoftBounces | Reason::Manual => json!({
            "address": address,
            "code": "550",
            "error": format!("suppressed by Mailpulse: {}", reason.as_str()),
            "created_at": created_at,
        }),
    }
}

fn ses(entry: &Listing) -> String {
    let reason = if entry.reason == Reason::Complaint { "COMPLAINT" } else { "BOUNCE" };
    let address = &entry.address;
    if address.contains([',', '"', '\n']) {
        format!("\"{}\",{reason}\n", address.replace('"', "\"\""))
    } else {
        format!("{address},{reason}\n")
    }
}

fn line(value: &Value) -> String {
    format!("{value}\n")
}
