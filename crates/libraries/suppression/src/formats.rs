//! The suppression lists of providers, as they export and import them.
//!
//! What each provider calls its fields is data; see [`Names`]. All of them export JSON or CSV, some both, and their
//! names of fields differ between the two only in case and punctuation, so one reader reads both.

mod read;
mod write;

use crate::Reason;

pub use read::{ReadError, read};
pub use write::{Listing, SES_IMPORT_JOB_ADDRESSES, WriteError, write};

/// A provider whose lists are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Format {
    SendGrid,
    Mailgun,
    Ses,
    Postmark,
}

impl Format {
    pub const ALL: [Self; 4] = [Self::SendGrid, Self::Mailgun, Self::Ses, Self::Postmark];

    /// Returns the name, as an option of the tool.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::SendGrid => "sendgrid",
            Self::Mailgun => "mailgun",
            Self::Ses => "ses",
            Self::Postmark => "postmark",
        }
    }

    /// Reads a name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.as_str() == name)
    }

    /// What the provider calls its fields, in lower case and without punctuation.
    const fn names(self) -> Names {
        match self {
            // https://www.twilio.com/docs/sendgrid/api-reference/bounces-api: one list for each reason.
            Self::SendGrid => Names {
                lists: &["recipientemails", "suppressions"],
                address: &["email", "recipient"],
                time: &["created", "createdat"],
                reason: &[],
                words: &[],
                wording: &["reason"],
            },
            // https://documentation.mailgun.com/docs/mailgun/api-reference/send/mailgun/suppressions: one list for each
            // reason. Only bounces have `code` and `error`, and only unsubscriptions have `tags`.
            Self::Mailgun => Names {
                lists: &["items"],
                address: &["address"],
                time: &["createdat"],
                reason: &[],
                words: &[],
                wording: &["error"],
            },
            // https://docs.aws.amazon.com/ses/latest/APIReference-V2/API_SuppressedDestinationSummary.html: a page of
            // ListSuppressedDestinations. The files of CreateImportJob have `emailAddress` and `reason` in each line, or
            // these two as CSV without names:
            // https://docs.aws.amazon.com/ses/latest/dg/sending-email-suppression-list.html
            Self::Ses => Names {
                lists: &["suppresseddestinationsummaries"],
                address: &["emailaddress"],
                time: &["lastupdatetime"],
                reason: &["reason"],
                words: &[("BOUNCE", Reason::HardBounce), ("COMPLAINT", Reason::Complaint)],
                wording: &[],
            },
            // https://postmarkapp.com/developer/api/suppressions-api: the dump of a stream.
            Self::Postmark => Names {
                lists: &["suppressions"],
                address: &["emailaddress"],
                time: &["createdat"],
                reason: &["suppressionreason"],
                words: &[
                    ("HardBounce", Reason::HardBounce),
                    ("SpamComplaint", Reason::Complaint),
                    ("ManualSuppression", Reason::Unsubscribe),
                ],
                wording: &[],
            },
        }
    }
}

/// Where a provider has what.
struct Names {
    /// Where a JSON object has its list.
    lists: &'static [&'static str],
    address: &'static [&'static str],
    time: &'static [&'static str],
    reason: &'static [&'static str],
    /// The provider's words for reasons.
    words: &'static [(&'static str, Reason)],
    wording: &'static [&'static str],
}

/// An entry of a provider's list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    pub address: String,
    pub reason: Reason,
    /// When the provider added it, seconds since 1970.
    pub since: Option<i64>,
    /// The provider's explanation, as it was found.
    pub wording: Option<String>,
}

#[cfg(test)]
mod tests;
