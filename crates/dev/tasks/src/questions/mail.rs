//! The mail of five weeks: what two sources send, what happens to it, and when the ingress receives it. All times
//! are fixed, so that the page for analysts can show the answers.

use event::Provider;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::truth::lives::DOMAINS;
use crate::truth::message::{Bounce, By, Cause, Fact, Message, Moment, What};
use crate::truth::sources::{Injections, Reports, Source};

pub(super) const SECOND: i64 = 1_000_000;
pub(super) const MINUTE: i64 = 60;
pub(super) const HOUR: i64 = 60 * MINUTE;
pub(super) const DAY: i64 = 24 * HOUR;

/// 2026-09-28T00:00:00Z, a Monday, in unix seconds. Clocks change in Adelaide on 2026-10-04 and in New York on
/// 2026-11-01.
pub(super) const BEGIN: i64 = 1_790_553_600;
/// 2026-11-03T00:00:00Z.
pub(super) const END: i64 = BEGIN + 36 * DAY;

/// The sources: one whose events state everything, and one whose events do not state the send time, and only some
/// of them the sending address.
pub(super) const SOURCES: [Source; 2] = [
    Source {
        provider: Provider::Generic,
        name: "shop",
        injections: Injections::All,
        has_deliveries: true,
        feedback_loops: &["yahoo", "outlook"],
        senders: &[("news@mail.shop.test", "shop.test"), ("offers@deals.test", "deals.test")],
    },
    Source {
        provider: Provider::SendGrid,
        name: "acme",
        injections: Injections::All,
        has_deliveries: true,
        feedback_loops: &["yahoo", "outlook"],
        senders: &[("news@mail.acme.test", "acme.test")],
    },
];

/// Where an address comes from: the label `list` of the look-up table.
const LISTS: [&str; 3] = ["signup", "shop", "import"];
/// The addresses of each source.
const ADDRESSES: u32 = 300;
/// The links of a mail. The second one is a conversion, and the last one an interest.
const LINKS: [&str; 4] = [
    "https://shop.test/spring?ref=mail",
    "https://shop.test/order/eu/thanks",
    "https://shop.test/preferences",
    "https://shop.test/articles/7#top",
];
/// The rules for the second and the last link.
pub(super) const RULES: &str = "[[enrich.conversion]]\nname = \"purchase\"\n\
    url = \"shop.test/order/*/thanks\"\nvalue_parameter = \"total\"\n\
    [[enrich.interest]]\nname = \"articles\"\nurl = \"shop.test/articles/*\"\n";

/// The events of one message in ten arrive unsigned. Only the shadow mode of their source admits them.
const UNAUTHENTIC: u32 = 10;

/// What is unusual about the events of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Usual,
    /// The provider reports an automatic reply as a bounce after the delivery.
    ReplyMarkedLate,
    /// The provider reports a suppressed message as a bounce.
    SuppressedAsBounce,
    /// The events have no message id.
    WithoutMessageId,
}

/// A message with when the ingress receives its events.
#[derive(Debug, Clone)]
pub(super) struct Mail {
    /// Its facts are in the order of receipt, and their times are those at which they count.
    pub(super) message: Message,
    /// When each fact is received, UTC microseconds.
    pub(super) receipts: Vec<i64>,
    /// Whether the provider's time of each fact is in 1970.
    pub(super) timeless: Vec<bool>,
    pub(super) list: &'static str,
    pub(super) form: Form,
}

impl Mail {
    /// Returns the domain of the recipient.
    pub(super) fn domain(&self) -> &str {
        self.message.recipient.rsplit('@').next().unwrap_or_default()
    }

    /// Whether the requests with its events are signed.
    pub(super) const fn is_authentic(&self) -> bool {
        self.message.number % UNAUTHENTIC != 3
    }

    /// Returns the link of a click as the provider reports it, and the value of the conversion.
    pub(super) fn link(&self, fact: &Fact) -> (String, Option<f64>) {
        let index = (self.message.number + fact.n) as usize % LINKS.len();
        if index != 1 {
            return (LINKS[index].to_owned(), None);
        }
        let value = f64::from(self.message.number % 90) + 9.5;
        (format!("{}?total={value:.2}", LINKS[index]), Some(value))
    }
}

/// What a campaign sends: its name, the hour after [`BEGIN`] and the number of messages.
struct Send {
    campaign: &'static str,
    at: i64,
    seconds: i64,
    messages: u32,
}

/// Generates all mail, always the same.
pub(super) fn generate() -> Vec<Mail> {
    let mut mails: Vec<Mail> = Vec::new();
    for (number, source) in SOURCES.into_iter().enumerate() {
        let mut rng = StdRng::seed_from_u64(40 + number as u64);
        for send in sends() {
            for place in 0..send.messages {
                let sent = send.at + send.seconds * i64::from(place) / i64::from(send.messages);
                let mail = Draft::new(source, send.campaign, sent, &mut rng);
                mails.push(mail.finish(u32::try_from(mails.len()).unwrap_or(u32::MAX)));
            }
        }
    }
    let mut rng = StdRng::seed_from_u64(0);
    for (place, script) in scripts().into_iter().enumerate() {
        // Nobody else sends to these addresses.
        let address = ADDRESSES + u32::try_from(place).unwrap_or_default();
        let mut draft =
            Draft::empty(script.source, script.campaign, script.sent, address, &mut rng);
        for &(what, at, delay) in script.events {
            draft.add_received(what, script.sent + at, script.sent + at + delay);
        }
        let number = u32::try_from(mails.len()).unwrap_or(u32::MAX);
        mails.push(Mail { form: script.form, ..draft.finish(number) });
    }
    mails
}

/// A message whose events are written down.
struct Script {
    source: Source,
    campaign: &'static str,
    sent: i64,
    form: Form,
    /// What happens, seconds since sending, and seconds until the receipt.
    events: &'static [(What, i64, i64)],
}

/// Returns messages on which wrong answers depend that the other messages do not reveal.
fn scripts() -> Vec<Script> {
    const DELIVERED: (What, i64, i64) = (What::Delivered, 20, 2);
    const PERSON: By = By::Person;
    let script = |sent, events| Script {
        source: SOURCES[0],
        campaign: "weekly",
        sent,
        form: Form::Usual,
        events,
    };
    let october = |day: i64, hour: i64| BEGIN + (day + 2) * DAY + hour * HOUR;
    vec![
        // A delivery corrects a bounce of the day before, and a bounce of the day before the day before.
        script(
            october(29, 18),
            &[(What::Bounced(Bounce::Soft), 30, 2), (What::Delivered, 18 * HOUR, 2)],
        ),
        script(
            october(29, 18),
            &[(What::Bounced(Bounce::Soft), 30, 2), (What::Delivered, 50 * HOUR, 2)],
        ),
        // A delivery before midnight is received after the bounce, which was after midnight.
        script(
            october(29, 0) - MINUTE,
            &[(What::Delivered, 30, 10 * MINUTE), (What::Bounced(Bounce::Hard), 2 * MINUTE, 2)],
        ),
        Script {
            form: Form::SuppressedAsBounce,
            ..script(october(20, 9), &[(What::Suppressed, 5, 2)])
        },
        Script {
            source: SOURCES[1],
            form: Form::ReplyMarkedLate,
            ..script(october(20, 9), &[DELIVERED, (What::AutoReplied, MINUTE, 2)])
        },
        // The recipient clicks, unsubscribes, and clicks another link.
        script(
            october(28, 8),
            &[
                DELIVERED,
                (What::Clicked(PERSON), 2 * HOUR, 2),
                (What::Unsubscribed, 2 * HOUR + 10 * MINUTE, 2),
                (What::Clicked(PERSON), 2 * HOUR + 20 * MINUTE, 2),
            ],
        ),
        // The recipient unsubscribes first.
        script(
            october(28, 8),
            &[
                DELIVERED,
                (What::Unsubscribed, 2 * HOUR, 2),
                (What::Clicked(PERSON), 2 * HOUR + 20 * MINUTE, 2),
            ],
        ),
        // The click is days older than the unsubscribe.
        script(
            october(25, 8),
            &[DELIVERED, (What::Clicked(PERSON), 2 * HOUR, 2), (What::Unsubscribed, 3 * DAY, 2)],
        ),
        // The second complaint counts for nothing.
        script(
            october(25, 8),
            &[DELIVERED, (What::Complained, DAY, 2), (What::Complained, 3 * DAY, 2)],
        ),
        Script {
            form: Form::WithoutMessageId,
            ..script(october(28, 8), &[(What::Complained, DAY, 2)])
        },
    ]
}

fn sends() -> Vec<Send> {
    let mut sends = vec![
        Send { campaign: "spring", at: BEGIN + 31 * DAY + 9 * HOUR, seconds: HOUR, messages: 250 },
        // Around midnight in New York, in the night in which clocks change there.
        Send {
            campaign: "weekend",
            at: BEGIN + 33 * DAY + 23 * HOUR,
            seconds: 9 * HOUR,
            messages: 120,
        },
        // The same for Adelaide.
        Send {
            campaign: "spring-forward",
            at: BEGIN + 5 * DAY + 10 * HOUR,
            seconds: 12 * HOUR,
            messages: 80,
        },
    ];
    for week in 0..6 {
        let at = BEGIN + week * 7 * DAY + 14 * HOUR;
        sends.push(Send { campaign: "weekly", at, seconds: 2 * HOUR, messages: 100 });
    }
    for day in 0..36 {
        let at = BEGIN + day * DAY;
        sends.push(Send { campaign: "welcome", at, seconds: DAY, messages: 16 });
    }
    sends
}

/// A message whose events are being decided.
struct Draft<'a> {
    source: Source,
    campaign: &'static str,
    /// Unix seconds, as all times of a draft.
    sent: i64,
    address: u32,
    rng: &'a mut StdRng,
    /// What happens, when, and when it is received.
    events: Vec<(What, i64, i64)>,
    timeless: Option<What>,
}

impl<'a> Draft<'a> {
    const fn empty(
        source: Source,
        campaign: &'static str,
        sent: i64,
        address: u32,
        rng: &'a mut StdRng,
    ) -> Self {
        Self { source, campaign, sent, address, rng, events: Vec::new(), timeless: None }
    }

    fn new(source: Source, campaign: &'static str, sent: i64, rng: &'a mut StdRng) -> Self {
        let address = rng.random_range(0..ADDRESSES);
        let mut draft = Self::empty(source, campaign, sent, address, rng);
        draft.add(What::Accepted, sent);
        draft.transport();
        draft
    }

    fn chance(&mut self, percent: f64) -> bool {
        self.rng.random_bool(percent / 100.0)
    }

    fn seconds(&mut self, from: i64, to: i64) -> i64 {
        self.rng.random_range(from..to)
    }

    fn add(&mut self, what: What, at: i64) {
        let received = at + self.seconds(1, 4);
        self.add_received(what, at, received);
    }

    fn add_received(&mut self, what: What, at: i64, received: i64) {
        if received < END {
            self.events.push((what, at, received));
        }
    }

    /// Decides what receiving servers do.
    fn transport(&mut self) {
        let at = self.sent + self.seconds(2, 40);
        // Lists that were bought have dead addresses.
        let hard = if self.list() == "import" { 9.0 } else { 2.0 };
        let later = at + self.seconds(10 * MINUTE, 5 * HOUR);
        let fate = self.rng.random_range(0..1000);
        if self.chance(hard) {
            self.add(What::Bounced(Bounce::Hard), at);
            return;
        }
        match fate {
            0..15 => self.add(What::Bounced(Bounce::Soft), at),
            15..25 => self.add(What::Bounced(Bounce::Unauthenticated), at),
            25..50 => self.add(What::Bounced(Bounce::Block), at),
            50..58 => self.add(What::Dropped, at),
            58..66 => {
                let reports = Reports::of(self.source.provider).suppressed;
                self.add(if reports { What::Suppressed } else { What::Dropped }, at);
            }
            66..72 => self.add(What::AutoReplied, at),
            72..92 => {
                self.add(What::Bounced(Bounce::Soft), at);
                self.deliver(later);
            }
            92..100 => {
                self.add(What::Bounced(Bounce::Soft), at);
                self.add(What::Bounced(Bounce::Hard), later);
            }
            100..150 => {
                let cause = [Cause::Technical, Cause::Rate, Cause::Complaints, Cause::Listed];
                let cause = cause[self.rng.random_range(0..cause.len())];
                for attempt in 0..self.rng.random_range(1..4) {
                    self.add(What::Deferred(cause), at + attempt * MINUTE);
                }
                self.deliver(later);
            }
            150..165 => {
                self.deliver(at);
                self.add(What::Bounced(Bounce::Hard), later + DAY);
            }
            165..172 => {
                // The bounce arrives before the delivery.
                self.add(What::Bounced(Bounce::Hard), at + 2 * MINUTE);
                self.add_received(What::Delivered, at, at + 5 * MINUTE);
            }
            172..177 => {
                self.timeless = Some(What::Delivered);
                self.add(What::Delivered, at);
            }
            _ => self.deliver(at),
        }
    }

    /// Decides what happens after a delivery.
    fn deliver(&mut self, at: i64) {
        self.add(What::Delivered, at);
        if self.chance(12.0) {
            let opened = at + self.seconds(2 * MINUTE, 10 * MINUTE);
            self.add(What::Opened(By::Machine), opened);
        }
        if self.chance(4.0) {
            let clicked = at + self.seconds(2 * MINUTE, 10 * MINUTE);
            self.add(What::Clicked(By::Machine), clicked);
        }
        // Some addresses never open anything.
        if !self.address.is_multiple_of(3) && self.chance(55.0) {
            self.read(at);
        }
        if self.chance(2.5) {
            let after = self.seconds(HOUR, 4 * DAY);
            self.add(What::Complained, at + after);
            if self.chance(20.0) {
                self.add(What::Complained, at + after + DAY);
            }
        }
    }

    /// Decides how a person reads it.
    fn read(&mut self, at: i64) {
        let longest = 2_f64.powf(self.rng.random_range(10.0..18.0)) as i64;
        let opened = at + 5 * MINUTE + longest;
        // Some reports come hours or more than a day late.
        let late = match self.rng.random_range(0..40) {
            0 => 2 * HOUR,
            1 => 30 * HOUR,
            _ => 2,
        };
        self.add_received(What::Opened(By::Person), opened, opened + late);
        if self.chance(30.0) {
            self.add(What::Opened(By::Person), opened + DAY);
        }
        if self.chance(25.0) {
            let clicked = opened + self.seconds(MINUTE, HOUR);
            self.add(What::Clicked(By::Person), clicked);
            if self.chance(40.0) {
                self.add(What::Clicked(By::Person), clicked + 5 * MINUTE);
            }
            if self.chance(12.0) {
                self.add(What::Unsubscribed, clicked + 10 * MINUTE);
            }
        }
        if self.chance(2.0) {
            self.add(What::Unsubscribed, opened + 20 * MINUTE);
        }
    }

    fn list(&self) -> &'static str {
        LISTS[self.address as usize % LISTS.len()]
    }

    fn finish(mut self, number: u32) -> Mail {
        // Two events of a message are never received at the same time by two topics.
        self.events.sort_by_key(|event| event.2);
        for place in 1..self.events.len() {
            let before = self.events[place - 1].2;
            self.events[place].2 = self.events[place].2.max(before + 1);
        }
        let (domain, mailbox_provider) = DOMAINS[self.address as usize % DOMAINS.len()];
        let timeless: Vec<bool> =
            self.events.iter().map(|event| Some(event.0) == self.timeless).collect();
        let facts = self.events.iter().zip(&timeless).enumerate();
        let facts = facts.map(|(n, (&(what, at, received), &timeless))| Fact {
            what,
            at: Moment::At(if timeless { received } else { at } * SECOND),
            wave: 0,
            again: None,
            n: u32::try_from(n).unwrap_or(u32::MAX),
        });
        let message = Message {
            source: self.source,
            number,
            recipient: format!("reader-{:03}@{domain}", self.address),
            mailbox_provider,
            campaign: self.campaign,
            sender: self.source.senders[self.address as usize % self.source.senders.len()],
            sending_ip: format!("198.51.100.{}", 11 + number % 3),
            stream: "",
            tenant: None,
            sent_at: self.sent * SECOND,
            is_straggler: false,
            facts: facts.collect(),
        };
        let receipts = self.events.iter().map(|event| event.2 * SECOND).collect();
        Mail { list: self.list(), message, receipts, timeless, form: Form::Usual }
    }
}
