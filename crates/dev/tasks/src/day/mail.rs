//! The mails of the day, and what happens to each of them.

use event::{Kind, Provider};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::script::{Health, Script, Send};

/// Microseconds.
pub(crate) const SECOND: i64 = 1_000_000;

/// A mailbox provider, with the domain of its recipients and its share of every list in percent. The shares add
/// up to 100.
pub(crate) struct Mailbox {
    pub(crate) name: &'static str,
    pub(crate) domain: &'static str,
    share: u32,
    /// Whether it reports complaints to senders (docs/metrics.md).
    pub(crate) reports_complaints: bool,
}

pub(crate) const MAILBOXES: [Mailbox; 4] = [
    Mailbox { name: "gmail", domain: "gmail.com", share: 50, reports_complaints: false },
    Mailbox { name: "outlook", domain: "outlook.com", share: 20, reports_complaints: true },
    Mailbox { name: "yahoo", domain: "yahoo.com", share: 15, reports_complaints: true },
    Mailbox { name: "other", domain: "example.net", share: 15, reports_complaints: false },
];

/// The index of Gmail in [`MAILBOXES`].
pub(crate) const GMAIL: usize = 0;

/// Why a server refuses a mail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    UnknownUser,
    FullMailbox,
    /// The reputation of the sender.
    Blocked,
}

/// What happens to a mail. Each outcome happens at most once to a mail, and either `Delivered` or `Bounced` first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Delivered,
    Bounced(Refusal),
    Opened,
    Clicked,
    Complained,
    Unsubscribed,
}

impl Outcome {
    pub(crate) const fn kind(self) -> Kind {
        match self {
            Self::Delivered => Kind::Delivered,
            Self::Bounced(_) => Kind::Bounced,
            Self::Opened => Kind::Opened,
            Self::Clicked => Kind::Clicked,
            Self::Complained => Kind::Complained,
            Self::Unsubscribed => Kind::Unsubscribed,
        }
    }
}

/// A mail. Its number is its index in [`Mails::mails`]. Times are seconds since the start of the day.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mail {
    /// An index in the sources of the script.
    pub(crate) source: usize,
    /// An index in the sends of the script.
    pub(crate) send: usize,
    /// An index in [`MAILBOXES`].
    pub(crate) mailbox: usize,
    pub(crate) sent: i64,
}

/// Something that happens to a mail. Times are seconds since the start of the day.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Event {
    pub(crate) mail: usize,
    pub(crate) outcome: Outcome,
    pub(crate) occurred: i64,
    /// When the ingress receives it.
    pub(crate) received: i64,
}

/// Everything that happens, in the order of receipt.
pub(crate) struct Mails {
    pub(crate) mails: Vec<Mail>,
    pub(crate) events: Vec<Event>,
}

impl Mails {
    /// Decides what happens to every mail of a script. The same seed gives the same mails.
    pub(crate) fn new(script: &Script, seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut all = Self { mails: Vec::new(), events: Vec::new() };
        for (number, send) in script.sends.iter().enumerate() {
            all.add(number, send, &mut rng);
        }
        all.events.retain(|event| event.received < script.end);
        all.events.sort_by_key(|event| (event.received, event.mail));
        all
    }

    fn add(&mut self, number: usize, send: &Send, rng: &mut StdRng) {
        for _ in 0..send.mails {
            let sent = send.from + rng.random_range(0..send.seconds.max(1));
            let mailbox = mailbox(rng.random_range(0..100));
            let mail = self.mails.len();
            self.mails.push(Mail { source: send.source, send: number, mailbox, sent });
            let mut happens = |outcome, occurred: i64| {
                let received = (occurred + rng.random_range(1..=3)).max(send.held_until);
                if received < send.silent_from {
                    self.events.push(Event { mail, outcome, occurred, received });
                }
            };
            // Bounces and deliveries take equally long, so that their ratio is right from the start.
            let (health, mut chance) = (&send.health, StdRng::seed_from_u64(seed_of(number, mail)));
            let at = sent + chance.random_range(1..=4);
            if let Some(refusal) = refusal(health, mailbox, &mut chance) {
                happens(Outcome::Bounced(refusal), at);
                continue;
            }
            happens(Outcome::Delivered, at);
            if chance.random_bool(health.opens) {
                let opened = at + 30 + exponential(&mut chance, 2700.0).min(8.0 * 3600.0) as i64;
                happens(Outcome::Opened, opened);
                if chance.random_bool(0.1) {
                    happens(Outcome::Clicked, opened + chance.random_range(5..60));
                }
                if chance.random_bool(0.003) {
                    happens(Outcome::Unsubscribed, opened + chance.random_range(10..90));
                }
            }
            let complaint = &health.complaints;
            if MAILBOXES[mailbox].reports_complaints
                && complaint.only_at.is_none_or(|only| only == mailbox)
                && chance.random_bool(complaint.rate)
            {
                let (least, most) = complaint.after;
                happens(Outcome::Complained, at + chance.random_range(least..most));
            }
        }
    }
}

/// Seeds the fate of a mail separately, so that a change of one send leaves the others as they are.
const fn seed_of(send: usize, mail: usize) -> u64 {
    (send as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (mail as u64)
}

fn mailbox(mut percent: u32) -> usize {
    for (index, mailbox) in MAILBOXES.iter().enumerate() {
        if percent < mailbox.share {
            return index;
        }
        percent -= mailbox.share;
    }
    MAILBOXES.len() - 1
}

fn refusal(health: &Health, mailbox: usize, chance: &mut StdRng) -> Option<Refusal> {
    if mailbox == GMAIL && chance.random_bool(health.blocked_at_gmail) {
        return Some(Refusal::Blocked);
    }
    let number: f64 = chance.random();
    if number < health.hard {
        Some(Refusal::UnknownUser)
    } else if number < health.hard + health.soft {
        Some(Refusal::FullMailbox)
    } else {
        None
    }
}

fn exponential(chance: &mut StdRng, mean: f64) -> f64 {
    -mean * (1.0 - chance.random::<f64>()).ln()
}

/// Returns the value of a raw event, as the ingress cuts it out of the body of a webhook. `start` is the start of
/// the day in unix seconds.
pub(crate) fn payload(script: &Script, mails: &Mails, event: &Event, start: i64) -> String {
    let mail = &mails.mails[event.mail];
    let (provider, _) = script.sources[mail.source];
    let (number, at) = (event.mail, start + event.occurred);
    let (recipient, campaign) = (recipient(number, mail), &script.sends[mail.send].campaign);
    let kind = event.outcome.kind();
    if provider == Provider::SendGrid {
        let name = match event.outcome {
            Outcome::Delivered => "delivered",
            Outcome::Bounced(_) => "bounce",
            Outcome::Opened => "open",
            Outcome::Clicked => "click",
            Outcome::Complained => "spamreport",
            Outcome::Unsubscribed => "unsubscribe",
        };
        let more = match event.outcome {
            Outcome::Delivered => r#","response":"250 2.0.0 OK""#.to_owned(),
            Outcome::Bounced(refusal) => {
                let (kind, status, answer) = answer(refusal);
                let kind = if kind == "hard" { "bounce" } else { "blocked" };
                format!(r#","type":"{kind}","status":"{status}","reason":"{answer}""#)
            }
            Outcome::Clicked => format!(r#","url":"https://shop.example/{campaign}""#),
            _ => String::new(),
        };
        return format!(
            r#"{{"event":"{name}","timestamp":{at},"sg_event_id":"e{number}-{kind}","sg_message_id":"m{number}.recvd-6d5f7f9c6b-x2x7q-1-69203A10-2C.0","email":"{recipient}","campaign":"{campaign}"{more}}}"#
        );
    }
    let more = match event.outcome {
        Outcome::Bounced(refusal) => {
            let (permanence, status, answer) = answer(refusal);
            format!(
                r#","bounce":{{"permanence":"{permanence}","status":"{status}","diagnostic":"{answer}"}}"#
            )
        }
        Outcome::Clicked => format!(r#","url":"https://shop.example/{campaign}""#),
        _ => String::new(),
    };
    format!(
        r#"{{"id":"e{number}-{kind}","event":"{kind}","recipient":"{recipient}","timestamp":{at},"message_id":"m{number}","campaign":"{campaign}","sent_at":{}{more}}}"#,
        start + mail.sent
    )
}

/// Returns the permanence that a provider reports, the status, and what the server answers.
const fn answer(refusal: Refusal) -> (&'static str, &'static str, &'static str) {
    match refusal {
        Refusal::UnknownUser => {
            ("hard", "5.1.1", "550 5.1.1 The email account that you tried to reach does not exist")
        }
        Refusal::FullMailbox => {
            ("soft", "4.2.2", "452 4.2.2 The recipient's inbox is out of storage space")
        }
        Refusal::Blocked => (
            "soft",
            "5.7.1",
            "550-5.7.1 Gmail has detected that this message is suspicious due to the very low reputation of the sending domain",
        ),
    }
}

pub(crate) fn recipient(number: usize, mail: &Mail) -> String {
    format!("r{number}@{}", MAILBOXES[mail.mailbox].domain)
}

impl Mail {
    /// Returns when the mail belongs to a cohort, in seconds since the start of the day. SendGrid does not say
    /// when it was sent, so that is when the first event about the delivery happened.
    pub(crate) const fn cohort(&self, provider: Provider, first_event: i64) -> i64 {
        match provider {
            Provider::SendGrid => first_event,
            _ => self.sent,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_mail() {
        let script = Script::short();
        let values = |seed| {
            let mails = Mails::new(&script, seed);
            let events = mails.events.iter();
            events.map(|event| payload(&script, &mails, event, 1_795_219_200)).collect::<Vec<_>>()
        };
        let first = values(1);
        assert_eq!(first, values(1));
        assert_ne!(first, values(2));
        assert!(first.iter().all(|value| serde_json::from_str::<serde_json::Value>(value).is_ok()));
    }

    #[test]
    fn a_mail_has_one_fate_and_at_most_one_event_of_a_kind() {
        let script = Script::day();
        let mails = Mails::new(&script, 1);
        let mut kinds = std::collections::BTreeSet::new();
        let mut fates = vec![0; mails.mails.len()];
        for event in &mails.events {
            assert!(
                event.received > event.occurred && event.occurred > mails.mails[event.mail].sent
            );
            assert!(kinds.insert((event.mail, event.outcome.kind() as u8)), "{event:?}");
            fates[event.mail] +=
                i32::from(matches!(event.outcome, Outcome::Delivered | Outcome::Bounced(_)));
        }
        // The mail of a silent webhook has none.
        assert!(fates.iter().all(|fates| *fates <= 1));
        assert!(mails.events.is_sorted_by_key(|event| event.received));
        assert!((280_000..330_000).contains(&mails.mails.len()), "{}", mails.mails.len());
    }
}
