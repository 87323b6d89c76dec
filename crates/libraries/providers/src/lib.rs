//! The webhooks of each email service provider: who signed them, and what their events mean.
//!
//! This crate does no I/O, reads no clock and keeps no state. A webhook passes through it in three
//! steps:
//!
//! 1. [`Authenticator::verify`] verifies that the body, as received, comes from the provider.
//!    [`Authenticator::diagnose`] does the same and explains the result to a person.
//! 2. [`split`] splits the body into [`RawEvent`]s, one per event and recipient, without changing
//!    a byte of them.
//! 3. [`parse`], called later by another service, converts one raw event to the canonical
//!    [`event::Event`].
//!
//! A `generic` source may say where in its bodies the events and their fields are: [`Mappings`] then
//! replaces [`split`] and [`parse`].
//!
//! There is one folder per provider, and all folders have the same files: `mod.rs` (profile and
//! options), `verify.rs`, `split.rs`, `parse.rs`, `bounces.rs` if the provider has its own terms
//! for refusals, and `fixtures/`. The table at the end of this file lists the folders;
//! `docs/adding-a-provider.md` describes how to add one.

mod authenticator;
mod bounce;
mod certificate;
mod credentials;
mod diagnose;
#[macro_use]
mod dispatch;
#[cfg(test)]
mod documented;
mod envelope;
mod errors;
mod feedback;
mod form;
mod freshness;
mod json;
mod mac;
mod place;
mod pointer;
mod profile;
mod reading;
mod rejection;
mod request;
mod sending;
mod settings;
#[cfg(test)]
mod signatures;
mod split;
mod split_limits;
mod times;
mod trace;

use event::{Event, Provider};
use serde::{Deserialize, Deserializer};

pub use authenticator::Authenticator;
pub use certificate::{Certificate, CertificateError};
pub use diagnose::Diagnosis;
pub use envelope::Envelope;
pub use errors::{ParseError, SplitError};
pub use generic::{Mapping, Mappings, SourceMapping};
pub use pointer::{NotAPointer, Pointer};
pub use profile::Profile;
pub use reading::{parse, split};
pub use rejection::Rejection;
pub use request::{ReceivedRequest, SingleUseToken, Verified};
pub use sending::sender;
pub use settings::{Networks, SettingsError, SourceSettings};
pub use split::{Content, RawEvent, SplitBody};
pub use split_limits::{OverLimit, SplitLimits};
pub use trace::{Check, CheckResult};

use authenticator::FindCertificate;
use trace::Trace;

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

folders! {
    Brevo => brevo,
    Generic => generic,
    MailerSend => mailersend,
    Mailgun => mailgun,
    Mailjet => mailjet,
    Mandrill => mandrill,
    Postal => postal,
    Postmark => postmark,
    Resend => resend,
    SendGrid => sendgrid,
    Ses => ses,
    SparkPost => sparkpost,
    StandardWebhooks => standardwebhooks,
}
