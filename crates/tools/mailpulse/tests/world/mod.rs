//! Recipients of whom everything is known, as rows of `message_life` and `events`. They engage and quit as in the BG/BB model,
//! and some of them open sooner in two hours of their own.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use harness::Database;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use predict::{History, SLOTS, Slot, SlotCount, SlotCounts};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rand_distr::{Beta, Distribution};

/// The time of the predictions: 2026-11-01 00:00:00 UTC, in unix seconds.
pub const AT: i64 = 1_793_491_200;
pub const HOUR: i64 = 3600;
pub const DAY: i64 = 24 * HOUR;

/// The days before [`AT`] on which mail is sent.
const DAYS: i64 = 80;
/// The shapes of the probability to engage with a mail, and of that to quit before one.
const ENGAGES: (f64, f64) = (1.2, 2.0);
const QUITS: (f64, f64) = (0.6, 20.0);
/// The hours of sending in UTC, and how often those who open a mail do so soon in each.
const HOURS: [(i64, f64); 4] = [(7, 0.3), (12, 0.4), (18, 0.7), (21, 0.5)];
/// How often those with an hour of their own do so in this hour, and in others.
const IN_OWN_HOUR: f64 = 0.95;
const IN_OTHER_HOURS: f64 = 0.05;
/// Clocks change in the first two on 2026-10-25 and 2026-11-01.
const ZONES: [&str; 3] = ["Europe/Berlin", "America/New_York", "Asia/Kolkata"];
/// The rows of one insert.
const ROWS_AT_ONCE: usize = 20_000;

/// One mail to one recipient. Times are unix seconds.
#[derive(Debug, Clone)]
pub struct Mail {
    pub sent: i64,
    /// When a person first opened it.
    pub opened: Option<i64>,
    pub form: Form,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    Usual,
    /// A machine opened it, too.
    WithMachine,
    /// It was not delivered, and nobody can have opened it.
    Bounced,
    /// It bounced after the delivery.
    BouncedLate,
}

#[derive(Debug, Clone)]
pub struct Recipient {
    pub address: String,
    pub zone: Option<&'static str>,
    /// In the order of sending.
    pub mails: Vec<Mail>,
}

pub struct World {
    pub source: &'static str,
    /// In the order of addresses.
    pub recipients: Vec<Recipient>,
}

impl Mail {
    /// Whether it is part of histories.
    pub fn counts(&self) -> bool {
        matches!(self.form, Form::Usual | Form::WithMachine)
    }

    /// Whether a person opened it within three days.
    pub fn is_engaged(&self) -> bool {
        self.opened.is_some_and(|opened| opened < self.sent + 3 * DAY)
    }

    /// The delivery is a minute after sending.
    fn delivered(&self) -> Option<i64> {
        (self.form != Form::Bounced).then_some(self.sent + 60)
    }
}

impl Recipient {
    /// Returns the history at a time. `None` without a mail.
    pub fn history(&self, at: i64) -> Option<History> {
        let mails = self.mails.iter().filter(|it| it.counts() && it.sent < at - 3 * DAY);
        let engaged: Vec<bool> = mails.map(Mail::is_engaged).collect();
        (!engaged.is_empty()).then(|| History::of(&engaged).unwrap())
    }

    /// Returns the deliveries by slots of the local day.
    pub fn slots(&self, at: i64) -> SlotCounts {
        let zone = TimeZone::get(self.zone.unwrap()).unwrap();
        let mut counts = [(0, 0); SLOTS];
        for mail in &self.mails {
            let delivered = mail.delivered().filter(|it| mail.counts() && *it < at - 2 * HOUR);
            let Some(delivered) = delivered else { continue };
            let local = Timestamp::from_second(delivered).unwrap().to_zoned(zone.clone());
            let slot = Slot::of_hour(local.hour().try_into().unwrap()).unwrap();
            let opened = mail.opened.is_some_and(|opened| opened < delivered + 2 * HOUR);
            counts[slot.index()].0 += 1;
            counts[slot.index()].1 += u32::from(opened);
        }
        SlotCounts(counts.map(|(delivered, opened)| SlotCount::new(delivered, opened).unwrap()))
    }

    fn generate(random: &mut StdRng, number: u32) -> Self {
        let engages = Beta::new(ENGAGES.0, ENGAGES.1).unwrap().sample(random);
        let quits = Beta::new(QUITS.0, QUITS.1).unwrap().sample(random);
        let zone = ZONES.get(number as usize % 4).copied();
        let own = random.random_bool(0.5).then(|| HOURS[random.random_range(0..HOURS.len())].0);
        let mut is_alive = true;
        let first = random.random_range(0..DAYS - 40);
        let mails = (first..DAYS).map(|day| {
            let (hour, usual) = HOURS[random.random_range(0..HOURS.len())];
            let sent = AT - (DAYS - day) * DAY + hour * HOUR + random.random_range(0..HOUR);
            let form = match random.random_range(0..50) {
                0 => Form::Bounced,
                1 => Form::BouncedLate,
                2 | 3 => Form::WithMachine,
                _ => Form::Usual,
            };
            // Those in other forms are no mails of the model.
            is_alive &= !random.random_bool(quits);
            let is_engaged = is_alive && random.random_bool(engages);
            let soon =
                own.map_or(usual, |own| if own == hour { IN_OWN_HOUR } else { IN_OTHER_HOURS });
            let delay = if random.random_bool(soon) { 20 * 60 } else { 5 * HOUR };
            let is_late = random.random_bool(0.02).then(|| sent + 4 * DAY);
            let opened = if is_engaged { Some(sent + delay) } else { is_late };
            let counts = matches!(form, Form::Usual | Form::WithMachine);
            Mail { sent, opened: opened.filter(|_| counts), form }
        });
        let mails = mails.collect();
        Self { address: format!("reader-{number:05}@example.com"), zone, mails }
    }
}

impl World {
    pub fn generate(source: &'static str, seed: u64, recipients: u32) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let recipients =
            (0..recipients).map(|number| Recipient::generate(&mut random, number)).collect();
        Self { source, recipients }
    }

    /// Inserts the lives of all messages, and for each recipient with a zone an event that tells it.
    pub fn insert(&self, database: &Database) {
        let lives = self.recipients.iter().flat_map(|recipient| {
            recipient.mails.iter().map(|mail| life(self.source, &recipient.address, mail))
        });
        let columns = "source, recipient, message_id, provider, sent_at, delivered_at, first_opened_at, \
                       last_opened_at, last_bounced_at, last_at, opens, flags, bounce";
        insert(database, "message_life", columns, lives);
        let zones = self.recipients.iter().filter_map(|recipient| {
            let zone = recipient.zone?;
            // One before the predictions that are scored, and a later one by a machine elsewhere.
            let event = |at: i64, zone: &str, reason: &str| {
                let (source, address, time) = (self.source, &recipient.address, sql(at));
                format!(
                    "('{address}{at}', 'opened', 'sendgrid', '{source}', {time}, {time}, '{address}', '{zone}', '{reason}')"
                )
            };
            let of_person = event(AT - 50 * DAY, zone, "");
            Some(format!("{of_person}, {}", event(AT - 5 * DAY, "Pacific/Auckland", "bot")))
        });
        let columns = "event_id, kind, provider, source, occurred_at, received_at, recipient, geo_time_zone, \
                       automation_reason";
        insert(database, "events", columns, zones);
    }
}

fn life(source: &str, address: &str, mail: &Mail) -> String {
    const NEVER: &str = "'2299-12-31 00:00:00'";
    let earliest = |at: Option<i64>| at.map_or_else(|| NEVER.to_owned(), sql);
    let bounced = match mail.form {
        Form::Bounced => Some(mail.sent + 30),
        Form::BouncedLate => Some(mail.sent + HOUR),
        Form::Usual | Form::WithMachine => None,
    };
    let flags = match mail.form {
        Form::WithMachine => 1,
        Form::BouncedLate => 16,
        Form::Usual | Form::Bounced => 0,
    };
    format!(
        "('{source}', '{address}', 'm{}', 'sendgrid', {}, {}, {}, {}, {}, {}, {}, {flags}, '{}')",
        mail.sent,
        sql(mail.sent),
        earliest(mail.delivered()),
        earliest(mail.opened),
        sql(mail.opened.unwrap_or_default()),
        sql(bounced.unwrap_or_default()),
        sql(mail.sent + DAY),
        u8::from(mail.opened.is_some()),
        if bounced.is_some() { "1|x|hard|invalid_recipient|recipient|" } else { "~" },
    )
}

/// Returns a time in unix seconds as SQL.
fn sql(at: i64) -> String {
    let at = Timestamp::from_second(at).unwrap();
    format!("'{}'", at.strftime("%Y-%m-%d %H:%M:%S"))
}

fn insert(database: &Database, table: &str, columns: &str, mut rows: impl Iterator<Item = String>) {
    loop {
        let values: Vec<String> = rows.by_ref().take(ROWS_AT_ONCE).collect();
        if values.is_empty() {
            return;
        }
        database.execute(&format!("INSERT INTO {table} ({columns}) VALUES {}", values.join(", ")));
    }
}
