//! What a channel sends at once, and how the changes that wait for a channel are combined.

use std::sync::Arc;

use alerting::{Change, Family, Incident, IncidentGroup, IncidentState, Severity};
use courier::Position;
use jiff::Timestamp;

use crate::received::Received;
use alerting::page::{Explanation, Page, PageSettings, page};

/// The greatest number of lines of a digest after quiet hours. With it, and with the lengths below, a digest
/// fits into the characters of a page.
const MAX_DIGEST_LINES: usize = 11;
/// The greatest number of incidents whose numbers a digest shows.
const MAX_DIGEST_NUMBERS: usize = 5;

/// A change of an incident, ready for the channels.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// The records that are finished once the channel has finished the delivery.
    pub positions: Vec<Position>,
    /// The newest record of the incident.
    pub received: Arc<Received>,
    /// What has changed since the last delivery: the most important change of the records.
    pub change: Change,
    /// The number of the newest record that notifies, which identifies the message.
    pub seq: u32,
    /// What ClickHouse has answered, or why it has not. `None` if it was not asked.
    pub explanation: Option<Arc<Explanation>>,
}

impl Delivery {
    /// Returns the delivery of one record as it is.
    pub fn of(received: Arc<Received>) -> Self {
        let positions = vec![Position::of(&received.record)];
        let (change, seq) = (received.change(), received.incident.seq);
        Self { positions, received, change, seq, explanation: None }
    }

    /// Returns the delivery without positions, because its records are finished already.
    pub fn finished(&self) -> Self {
        Self { positions: Vec::new(), ..self.clone() }
    }
}

/// Combines the changes of one incident, in order, to one: the newest record with the most important
/// change. Returns `None` if there is none.
pub fn combine(changes: &[Delivery]) -> Option<Delivery> {
    let newest = changes.iter().max_by_key(|delivery| delivery.received.incident.seq)?;
    let change = changes.iter().map(|delivery| delivery.change).max_by_key(importance)?;
    let seq_if = |is_counted: fn(&&Delivery) -> bool| {
        changes.iter().filter(is_counted).map(|delivery| delivery.seq).max()
    };
    let seq = seq_if(|delivery| delivery.change.notifies()).or_else(|| seq_if(|_| true))?;
    let explanation = changes.iter().rev().find_map(|delivery| delivery.explanation.clone());
    Some(Delivery {
        positions: changes.iter().flat_map(|delivery| delivery.positions.clone()).collect(),
        received: Arc::clone(&newest.received),
        change,
        seq,
        explanation,
    })
}

const fn importance(change: &Change) -> u8 {
    match change {
        Change::Handled => 0,
        Change::Updated => 1,
        Change::Reminder => 2,
        Change::Digest => 3,
        Change::Resolved => 4,
        Change::Escalated => 5,
        Change::Opened => 6,
    }
}

/// What a message tells its receiver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// One change of an incident.
    Change(Change),
    /// An incident has begun and ended before the channel could deliver that it began.
    Passed,
    /// The warnings of quiet hours.
    QuietHours,
}

impl Kind {
    /// Returns the stable name, which is part of the type of a webhook message.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Change(Change::Opened) => "opened",
            Self::Change(Change::Escalated) => "escalated",
            Self::Change(Change::Reminder) => "reminder",
            Self::Change(Change::Digest) => "digest",
            Self::Change(Change::Updated) => "updated",
            Self::Change(Change::Handled) => "handled",
            Self::Change(Change::Resolved) => "resolved",
            Self::Passed => "passed",
            Self::QuietHours => "quiet_hours",
        }
    }

    /// Returns whether the incident is over.
    pub const fn is_over(self) -> bool {
        matches!(self, Self::Change(Change::Resolved) | Self::Passed)
    }
}

/// What one request or e-mail contains.
#[derive(Debug, Clone)]
pub struct Message {
    /// The identity, which is the same in all attempts: the incident and the number of its record.
    pub id: String,
    /// What the message tells.
    pub kind: Kind,
    /// The severity of the incident, or the highest one of several.
    pub severity: Severity,
    /// One line that is the same in all messages of an incident, so that mail programs show one thread.
    pub subject: String,
    /// What people read.
    pub page: Page,
    /// The incident. `None` if the message is about several.
    pub delivery: Option<Delivery>,
}

impl Message {
    /// Returns the message about the changes of one incident that wait for a channel.
    pub fn about(changes: &[Delivery], settings: &PageSettings) -> Option<Self> {
        let delivery = combine(changes)?;
        let incident = &delivery.received.incident;
        let is_over = incident.state == IncidentState::Resolved;
        let kind = match delivery.change {
            Change::Opened if is_over => Kind::Passed,
            // A digest may be about an incident that is over already; the end of the others is told.
            Change::Escalated | Change::Reminder if is_over => Kind::Change(Change::Resolved),
            change => Kind::Change(change),
        };
        Some(Self {
            id: format!("{}_{}", incident.id, delivery.seq),
            kind,
            severity: incident.severity,
            subject: subject_line(incident),
            page: page_of(kind, &delivery, settings),
            delivery: Some(delivery),
        })
    }

    /// Returns the message about the incidents that changed during quiet hours, which ended at `end`.
    pub fn after_quiet_hours(incidents: &[Delivery], hours: &str, end: Timestamp) -> Option<Self> {
        let severity = incidents.iter().map(|one| one.received.incident.severity).max()?;
        let is_over = |one: &&Delivery| one.received.incident.state == IncidentState::Resolved;
        let over = incidents.iter().filter(is_over).count();
        let title = format!(
            "{} with warnings during the quiet hours ({hours}), {over} over",
            counted(incidents.len())
        );
        let has_numbers = incidents.len() <= MAX_DIGEST_NUMBERS;
        let line = |one: &Delivery| {
            let incident = &one.received.incident;
            let label = if is_over(&one) { "Over" } else { "Open" };
            let text = if has_numbers {
                limited(&incident.lead.summary, 140)
            } else {
                limited(&subject_line(incident), 60)
            };
            (label.to_owned(), text)
        };
        let mut lines: Vec<_> = incidents.iter().take(MAX_DIGEST_LINES).map(line).collect();
        if let Some(rest) = incidents.len().checked_sub(MAX_DIGEST_LINES).filter(|rest| *rest > 0) {
            lines.push(("Also".to_owned(), format!("{rest} more")));
        }
        Some(Self {
            id: format!("quiet_{}", end.as_second()),
            kind: Kind::QuietHours,
            severity,
            subject: "warnings during the quiet hours".to_owned(),
            page: Page { title, lines },
            delivery: None,
        })
    }
}

fn counted(incidents: usize) -> String {
    if incidents == 1 { "1 incident".to_owned() } else { format!("{incidents} incidents") }
}

fn page_of(kind: Kind, delivery: &Delivery, settings: &PageSettings) -> Page {
    // The newest record may be an update of the change that the message is about.
    let mut incident = delivery.received.incident.clone();
    if let Kind::Change(change) = kind {
        incident.change = change;
    }
    let mut page = page(&incident, delivery.explanation.as_deref(), settings);
    let prefix = match kind {
        Kind::Change(Change::Escalated) => "Now worse: ",
        Kind::Passed => "Began and is over: ",
        Kind::Change(_) | Kind::QuietHours => "",
    };
    page.title.insert_str(0, prefix);
    page
}

fn subject_line(incident: &Incident) -> String {
    let family = family(incident.family).replace('_', " ");
    let id = incident.id.to_string();
    format!("{}: {family}, incident {}", group_name(incident), id.get(..8).unwrap_or_default())
}

/// Returns what the incident is about, such as `acme at sendgrid`.
pub fn group_name(incident: &Incident) -> String {
    match &incident.group {
        IncidentGroup::Source { of } => match of.split_once('/') {
            Some((provider, source)) => format!("{source} at {provider}"),
            None => of.clone(),
        },
        IncidentGroup::Tenant { of } => format!("tenant {of}"),
        IncidentGroup::MailboxProvider { of } => format!("several sources at {of}"),
        IncidentGroup::Provider { of } => format!("several sources of {of}"),
        IncidentGroup::Ours => "all sources".to_owned(),
    }
}

/// Returns the text with at most `max` characters; the last one is then an ellipsis.
pub fn limited(text: &str, max: usize) -> String {
    if text.chars().count() <= max {
        return text.to_owned();
    }
    let mut short: String = text.chars().take(max.saturating_sub(1)).collect();
    short.push('…');
    short
}

/// Returns the stable name of a family.
pub const fn family(family: Family) -> &'static str {
    match family {
        Family::Bounces => "bounces",
        Family::Blocks => "blocks",
        Family::Complaints => "complaints",
        Family::Engagement => "engagement",
        Family::Silence => "silence",
        Family::ListQuality => "list_quality",
    }
}

/// Returns the stable name of a severity.
pub const fn severity(severity: Severity) -> &'static str {
    match severity {
        Severity::Warning => "warning",
        Severity::Critical => "critical",
        Severity::Page => "page",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;

    fn delivery(change: Change, seq: u32) -> Delivery {
        Delivery::of(Arc::new(sample::received(change, seq, "acme")))
    }

    fn message(changes: &[(Change, u32)]) -> Message {
        let changes: Vec<_> = changes.iter().map(|&(change, seq)| delivery(change, seq)).collect();
        Message::about(&changes, &PageSettings::default()).unwrap()
    }

    #[test]
    fn what_waits_becomes_one_message() {
        use Change::{Digest, Escalated, Opened, Reminder, Resolved, Updated};
        let kinds = [
            (&[(Opened, 1)][..], Kind::Change(Opened), 1),
            (&[(Opened, 1), (Updated, 2)], Kind::Change(Opened), 1),
            (&[(Opened, 1), (Escalated, 2)], Kind::Change(Opened), 2),
            (&[(Opened, 1), (Updated, 2), (Resolved, 3)], Kind::Passed, 3),
            (&[(Escalated, 4), (Reminder, 5)], Kind::Change(Escalated), 5),
            (&[(Escalated, 4), (Resolved, 5)], Kind::Change(Resolved), 5),
            (&[(Reminder, 4), (Digest, 5)], Kind::Change(Digest), 5),
        ];
        for (changes, kind, seq) in kinds {
            let message = message(changes);
            assert_eq!(message.kind, kind, "{changes:?}");
            assert!(message.id.ends_with(&format!("_{seq}")), "{}", message.id);
            let delivery = message.delivery.unwrap();
            assert_eq!(delivery.positions.len(), changes.len());
        }
        assert!(Message::about(&[], &PageSettings::default()).is_none());
    }

    #[test]
    fn a_page_says_that_it_has_no_explanation() {
        let mut opened = delivery(Change::Opened, 1);
        let text = |opened: &Delivery| {
            let settings = PageSettings::default();
            Message::about(std::slice::from_ref(opened), &settings).unwrap().page.text()
        };
        assert!(!text(&opened).contains("ClickHouse"));
        let why = "ClickHouse did not answer in time";
        opened.explanation = Some(Arc::new(Explanation::unavailable(why)));
        assert!(text(&opened).contains("ClickHouse did not answer in time"));
    }

    #[test]
    fn the_digest_names_what_is_open_and_what_is_over() {
        let incidents: Vec<_> = (0..25)
            .map(|n| {
                let change = if n == 0 { Change::Resolved } else { Change::Opened };
                Delivery::of(Arc::new(sample::received(
                    change,
                    1,
                    &format!("{n}-{}", "s".repeat(90)),
                )))
            })
            .collect();
        let end = Timestamp::from_second(1_700_000_000).unwrap();
        let digest = Message::after_quiet_hours(&incidents, "22:00 to 07:00 UTC", end).unwrap();
        let text = digest.page.text();
        assert!(text.starts_with("25 incidents with warnings"), "{text}");
        assert!(text.contains(", 1 over") && text.ends_with("14 more"), "{text}");
        assert_eq!(digest.page.lines.len(), 12);
        assert_eq!(digest.id, "quiet_1700000000");
    }
}
