//! The text of a page: what a person reads when an incident opens, gets worse, lasts or ends.
//!
//! A page has at most [`Page::MAX_CHARACTERS`] characters. Its title is the alert that the incident is
//! about, with numerator, denominator, rate, bound and threshold. Everything that comes from events,
//! such as the name of a campaign, is shortened and freed from control characters.

mod lines;
mod mask;
mod text;

#[cfg(test)]
mod tests;

use jiff::tz::TimeZone;

use crate::{Change, Incident, IncidentGroup, IncidentState, Severity};
use lines::Detail;
use text::{clean, clip};

pub use mask::{mask_addresses, mask_text_about};
pub use text::mask_address;

/// How pages are written.
#[derive(Debug, Clone)]
pub struct PageSettings {
    /// What the link to an incident begins with; the id of the incident follows. Empty: no link.
    pub dashboard_url: String,
    /// What the link to a runbook begins with, if the runbook of the rule is not a URL itself.
    pub runbook_base: String,
    /// The zone in which times are shown next to UTC.
    pub zone: TimeZone,
}

impl Default for PageSettings {
    fn default() -> Self {
        Self { dashboard_url: String::new(), runbook_base: String::new(), zone: TimeZone::UTC }
    }
}

/// What ClickHouse knows about an incident. A page does not depend on it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Explanation {
    /// The most frequent answers of recipients' servers, most frequent first; at most three are shown.
    pub answers: Vec<Answer>,
    /// The messages per minute that the scope still sends. `None` if this is not known.
    pub per_minute: Option<u64>,
    /// Numerator and denominator of the scope in the hour before the incident.
    pub hour_before: Option<(u64, u64)>,
    /// Why nothing is known, as the end of the sentence "not known: …". `None` if ClickHouse has answered.
    pub unavailable: Option<String>,
}

impl Explanation {
    /// Returns an explanation that says why there is none.
    pub fn unavailable(why: impl Into<String>) -> Self {
        Self { unavailable: Some(why.into()), ..Self::default() }
    }
}

/// An answer of recipients' servers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Answer {
    /// How often it was given.
    pub count: u64,
    /// The status code, such as `550 5.1.1`; may be empty.
    pub status: String,
    /// The class of the bounce, such as `invalid_recipient`; may be empty.
    pub class: String,
    /// The text of the answer without addresses; may be empty.
    pub wording: String,
    /// The operator of the mailboxes, such as `gmail`; may be empty.
    pub mailbox_provider: String,
    /// One recipient, masked by [`mask_address`]; may be empty.
    pub example: String,
}

/// A page: a title, and labelled lines in the order of their importance for the reader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// What has happened, as one line.
    pub title: String,
    /// The label and the text of each further line. A line that continues the previous one has an empty
    /// label.
    pub lines: Vec<(String, String)>,
}

impl Page {
    /// The greatest number of characters of [`Page::text`].
    pub const MAX_CHARACTERS: usize = 1_000;

    /// Returns the page as plain text: the title, and one line for each label.
    pub fn text(&self) -> String {
        clip(&self.full_text(), Self::MAX_CHARACTERS)
    }

    /// Returns the page as one line, for channels that have no more space.
    pub fn one_line(&self) -> String {
        self.title.clone()
    }

    fn full_text(&self) -> String {
        let lines = self.lines.iter().map(|(label, line)| format!("\n{label:<9} {line}"));
        std::iter::once(self.title.clone()).chain(lines).collect()
    }
}

/// Returns the page of an incident. Without an explanation, it says nothing about answers of servers.
pub fn page(
    incident: &Incident,
    explanation: Option<&Explanation>,
    settings: &PageSettings,
) -> Page {
    let mut page = build(incident, explanation, settings, Detail::LEVELS[0]);
    for detail in &Detail::LEVELS[1..] {
        if page.full_text().chars().count() <= Page::MAX_CHARACTERS {
            break;
        }
        page = build(incident, explanation, settings, *detail);
    }
    page
}

fn build(
    incident: &Incident,
    explanation: Option<&Explanation>,
    settings: &PageSettings,
    detail: Detail,
) -> Page {
    Page {
        title: title(incident, detail),
        lines: lines::lines(incident, explanation, settings, detail),
    }
}

fn title(incident: &Incident, detail: Detail) -> String {
    let severity = match incident.severity {
        Severity::Warning => "WARNING",
        Severity::Critical => "CRITICAL",
        Severity::Page => "PAGE",
    };
    let is_over = incident.state == IncidentState::Resolved;
    let tag = if is_over { "RESOLVED" } else { severity };
    let change = match incident.change {
        Change::Reminder => "Still open: ",
        Change::Digest if is_over => "Over before you were told: ",
        _ => "",
    };
    let sources = incident.source_count;
    let group = match &incident.group {
        IncidentGroup::Source { .. } | IncidentGroup::Tenant { .. } => String::new(),
        // Once it is over, no source is left.
        IncidentGroup::MailboxProvider { of } if is_over => format!("{}: ", clean(of, detail.name)),
        IncidentGroup::Provider { of } if is_over => format!("{}: ", lines::provider(of)),
        IncidentGroup::Ours if is_over => "All sources: ".to_owned(),
        IncidentGroup::MailboxProvider { of } => {
            format!("{sources} sources at {}, such as ", clean(of, detail.name))
        }
        IncidentGroup::Provider { of } => {
            format!("{sources} sources of {}, such as ", lines::provider(of))
        }
        IncidentGroup::Ours => format!("{sources} sources, such as "),
    };
    let summary = clean(&incident.lead.summary, detail.summary);
    format!("[{tag}] {change}{group}{summary}")
}
