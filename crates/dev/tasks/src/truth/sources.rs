//! The sources of the run, and which properties of a message the events of each provider carry.

use std::collections::BTreeMap;

use event::Provider;
use testkit::SOURCES;

use super::message::What;

/// How many of its `accepted` events a source sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Injections {
    All,
    /// About six of ten.
    Some,
    None,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Source {
    pub(crate) provider: Provider,
    pub(crate) name: &'static str,
    pub(crate) injections: Injections,
    /// Whether it sends events of deliveries. Amazon SES sends only the types that were switched on.
    pub(crate) has_deliveries: bool,
    /// The mailbox providers that report complaints to it.
    pub(crate) feedback_loops: &'static [&'static str],
    /// The addresses that send its mail, with their organizational domains.
    pub(crate) senders: &'static [(&'static str, &'static str)],
}

/// The mailbox providers of this run that report complaints by default.
const USUAL_LOOPS: &[&str] = &["yahoo", "outlook"];

const SENDERS: &[(&str, &str)] = &[
    ("news@mail.acme.test", "acme.test"),
    ("offers@acme.test", "acme.test"),
    ("hello@shop.blue.co.uk", "blue.co.uk"),
];

/// A source that sends everything but deliveries.
pub(crate) const WITHOUT_DELIVERIES: (Provider, &str) = (Provider::Ses, "quiet");
/// The source of the events that close the last windows.
pub(crate) const CLOSING: (Provider, &str) = (Provider::Generic, "closing");

/// Returns the sources: one or two for each provider.
pub(crate) fn all() -> Vec<Source> {
    let all = SOURCES.into_iter().chain([WITHOUT_DELIVERIES]);
    all.map(|(provider, name)| Source {
        provider,
        name,
        injections: injections(provider, name),
        has_deliveries: (provider, name) != WITHOUT_DELIVERIES,
        feedback_loops: match name {
            "forum" => &["yahoo"],
            "legacy" => &["yahoo", "outlook", "gmail"],
            _ => USUAL_LOOPS,
        },
        senders: match provider {
            Provider::Brevo => &[("news@bakery.test", "bakery.test")],
            Provider::Mailjet => &[("hello@mail.festival.co.uk", "festival.co.uk")],
            _ => SENDERS,
        },
    })
    .collect()
}

/// Returns the keys of the sources in the configuration, by name, which differ from the usual ones.
pub(crate) fn settings() -> BTreeMap<&'static str, String> {
    // The events of these providers do not state the sender, or not all of them do.
    let pointers = [("acme", "/sender"), ("receipts", "/Metadata/sender")];
    let mut settings: BTreeMap<&str, String> = pointers
        .into_iter()
        .map(|(name, pointer)| (name, format!("sender_pointer = {pointer:?}\n")))
        .collect();
    for source in all() {
        if let [(sender, _)] = source.senders {
            settings.entry(source.name).or_default().push_str(&format!("sender = {sender:?}\n"));
        }
        if source.feedback_loops != USUAL_LOOPS {
            let loops = format!("feedback_loops = {:?}\n", source.feedback_loops);
            settings.entry(source.name).or_default().push_str(&loops);
        }
    }
    settings
}

/// Half of the sources send all `accepted` events, a quarter loses some. Three providers have none.
fn injections(provider: Provider, name: &str) -> Injections {
    match provider {
        Provider::Postmark | Provider::Mailjet | Provider::Postal => Injections::None,
        Provider::Mandrill => Injections::None,
        Provider::SendGrid | Provider::SparkPost | Provider::Resend => Injections::Some,
        _ if name == "legacy" => Injections::Some,
        _ => Injections::All,
    }
}

/// What a provider reports. Everything else happens and nobody tells.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reports {
    pub(crate) deferred: bool,
    pub(crate) soft: bool,
    pub(crate) undetermined: bool,
    /// A bounce whose reason has no class.
    pub(crate) unclassified: bool,
    /// Marks bounces that come after the delivery.
    pub(crate) late: bool,
    pub(crate) auto_reply: bool,
    pub(crate) dropped: bool,
    pub(crate) suppressed: bool,
    pub(crate) machine_opened: bool,
    pub(crate) machine_clicked: bool,
    pub(crate) complained: bool,
    pub(crate) unsubscribed: bool,
    /// Whether deferrals have the answer of the recipient's server.
    pub(crate) answers: bool,
}

impl Reports {
    pub(crate) fn of(provider: Provider) -> Self {
        const ALL: Reports = Reports {
            deferred: true,
            soft: true,
            undetermined: false,
            unclassified: true,
            late: false,
            auto_reply: true,
            dropped: true,
            suppressed: true,
            machine_opened: true,
            machine_clicked: true,
            complained: true,
            unsubscribed: true,
            answers: true,
        };
        match provider {
            Provider::SendGrid => Self { late: true, ..ALL },
            // It retries until the failure is permanent.
            Provider::Mailgun => Self { soft: false, late: true, dropped: false, ..ALL },
            Provider::Postmark => Self { unclassified: false, dropped: false, ..ALL },
            Provider::Ses => Self { undetermined: true, ..ALL },
            Provider::Mandrill => Self { unclassified: false, dropped: false, ..ALL },
            Provider::SparkPost => {
                Self { undetermined: true, unclassified: false, late: true, ..ALL }
            }
            // Opens have no user agent. Unsubscribing changes a contact and names no message.
            Provider::Resend => Self {
                undetermined: true,
                machine_opened: false,
                unsubscribed: false,
                answers: false,
                ..ALL
            },
            Provider::Generic | Provider::StandardWebhooks => {
                Self { undetermined: true, suppressed: false, ..ALL }
            }
            Provider::Mailjet => Self { deferred: false, unclassified: false, ..ALL },
            Provider::MailerSend => Self {
                deferred: false,
                dropped: false,
                suppressed: false,
                machine_opened: false,
                ..ALL
            },
            // A mail server receives no complaints, and its soft failures are deferrals.
            Provider::Postal => Self {
                soft: false,
                late: true,
                auto_reply: false,
                complained: false,
                unsubscribed: false,
                ..ALL
            },
            _ => ALL,
        }
    }
}

/// Which properties of its message an event carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Carried {
    pub(crate) campaign: bool,
    /// The sender's address.
    pub(crate) sender: bool,
    pub(crate) sending_ip: bool,
    /// The stream, pool or configuration set.
    pub(crate) stream: bool,
    /// When the provider began to send the message.
    pub(crate) sent_at: bool,
}

impl Carried {
    /// Returns what the events of a provider carry, according to its documentation and samples.
    pub(crate) fn by(provider: Provider, what: What) -> Self {
        use What as W;
        // The server that sends is known to those who report an attempt.
        let is_attempt = matches!(
            what,
            W::Delivered | W::Deferred(_) | W::Bounced(_) | W::LateBounced | W::AutoReplied
        );
        let is_engagement = matches!(what, W::Opened(_) | W::Clicked(_));
        let all =
            Self { campaign: true, sender: true, sending_ip: true, stream: false, sent_at: true };
        match provider {
            // The sender is one of the sender's own arguments, which all events have.
            Provider::SendGrid => Self {
                sending_ip: is_attempt && !matches!(what, W::Deferred(_)),
                sent_at: false,
                stream: what == W::Accepted,
                ..all
            },
            Provider::Mailgun => Self {
                sender: !is_engagement && what != W::Unsubscribed,
                sending_ip: matches!(what, W::Delivered | W::Deferred(_)),
                sent_at: false,
                ..all
            },
            // The sender is in the metadata, which all events have.
            Provider::Postmark => Self { sending_ip: false, stream: true, sent_at: false, ..all },
            Provider::Ses => Self {
                sending_ip: is_attempt && !matches!(what, W::Deferred(_)),
                stream: true,
                ..all
            },
            Provider::Mandrill => {
                Self { sending_ip: matches!(what, W::Delivered | W::Deferred(_)), ..all }
            }
            Provider::SparkPost => Self { sending_ip: is_attempt || what == W::Accepted, ..all },
            Provider::Resend => Self { sending_ip: false, ..all },
            Provider::Brevo => Self {
                campaign: false,
                sending_ip: !is_engagement && what != W::Complained && what != W::Unsubscribed,
                sent_at: false,
                ..all
            },
            Provider::Mailjet => Self { sending_ip: false, sent_at: false, ..all },
            Provider::MailerSend => Self { campaign: false, sending_ip: false, ..all },
            Provider::Postal => Self { campaign: false, sending_ip: false, ..all },
            _ => all,
        }
    }
}
