//! What each email service provider sends, and what it means.
//!
//! Pure: no I/O, no clock, no state. A webhook's way through this crate:
//!
//! 1. [`Authenticator::verify`] proves who sent the body, over the bytes as received;
//!    [`Authenticator::examine`] does the same and explains it to a person.
//! 2. [`split`] cuts it into events without rewriting a byte, one [`RawEvent`] per recipient.
//! 3. [`parse`], later and elsewhere, turns one raw event into the canonical [`event::Event`].
//!
//! One folder per provider, with the same file names: `verify.rs`, `split.rs`, `parse.rs`,
//! `bounces.rs` where it has words of its own for a refusal, `fixtures/`. The set is closed: a new
//! provider is a variant of [`event::Provider`] and the matches that the compiler then asks for.

mod answer;
mod authenticator;
mod bounce;
mod certificate;
mod codes;
mod credentials;
mod envelope;
mod examine;
mod form;
mod freshness;
mod json;
mod mac;
mod mend;
mod received;
mod refusal;
mod settings;
#[cfg(test)]
mod signatures;
mod signed;
mod split;
mod times;

mod brevo;
mod generic;
mod mailersend;
mod mailgun;
mod mailjet;
mod mandrill;
mod postal;
mod postmark;
mod resend;
mod sendgrid;
mod ses;
mod sparkpost;
mod standardwebhooks;

use event::{Event, Provider};

pub use answer::{body_limit, client_timeout, refusal_status, unavailable_status};
pub use authenticator::Authenticator;
pub use certificate::{Certificate, CertificateError};
pub use codes::{ParseError, SplitError};
pub use envelope::Envelope;
pub use examine::{Examination, Outcome, Step};
pub use received::{Once, Received, Verified};
pub use refusal::Refusal;
pub use settings::{
    Algorithm, Encoding, Options, Scheme, SecretEncoding, SettingsError, SourceSettings, TimeUnit,
};
pub use signed::{BadTemplate, Signed};
pub use split::{RawEvent, Split};

/// Hands every event of a verified body to `sink`, once per recipient.
///
/// The whole body is read before the first call, so a body that turns out to be broken has
/// published nothing. The pieces are slices of the body wherever the provider's form allows it.
pub fn split(
    provider: Provider,
    body: &[u8],
    sink: &mut dyn FnMut(RawEvent<'_>),
) -> Result<Split, SplitError> {
    match provider {
        Provider::SendGrid => sendgrid::split(body, sink),
        Provider::Mailgun => mailgun::split(body, sink),
        Provider::Postmark => postmark::split(body, sink),
        Provider::Ses => ses::split(body, sink),
        Provider::Mandrill => mandrill::split(body, sink),
        Provider::Generic => generic::split(body, sink),
        Provider::SparkPost => sparkpost::split(body, sink),
        Provider::Resend => resend::split(body, sink),
        Provider::StandardWebhooks => standardwebhooks::split(body, sink),
        Provider::Brevo => brevo::split(body, sink),
        Provider::Mailjet => mailjet::split(body, sink),
        Provider::MailerSend => mailersend::split(body, sink),
        Provider::Postal => postal::split(body, sink),
    }
}

/// Turns the bytes of one [`RawEvent`] into the canonical event. The same bytes and envelope
/// always give the same event, and its kind is the one [`split`] gave.
///
/// Unknown names are [`event::Kind::Other`], unknown keys are ignored, and a field of an
/// unexpected JSON type counts as absent: only a raw event that is no JSON object, or one without
/// a readable time, is an error.
pub fn parse<'a>(
    provider: Provider,
    raw: &'a [u8],
    envelope: &Envelope<'a>,
) -> Result<Event<'a>, ParseError> {
    match provider {
        Provider::SendGrid => sendgrid::parse(raw, envelope),
        Provider::Mailgun => mailgun::parse(raw, envelope),
        Provider::Postmark => postmark::parse(raw, envelope),
        Provider::Ses => ses::parse(raw, envelope),
        Provider::Mandrill => mandrill::parse(raw, envelope),
        Provider::Generic => generic::parse(raw, envelope),
        Provider::SparkPost => sparkpost::parse(raw, envelope),
        Provider::Resend => resend::parse(raw, envelope),
        Provider::StandardWebhooks => standardwebhooks::parse(raw, envelope),
        Provider::Brevo => brevo::parse(raw, envelope),
        Provider::Mailjet => mailjet::parse(raw, envelope),
        Provider::MailerSend => mailersend::parse(raw, envelope),
        Provider::Postal => postal::parse(raw, envelope),
    }
}
