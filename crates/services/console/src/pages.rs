//! The pages. Each module asks for what one page shows, and renders its template in `templates/`.

pub mod automation;
pub mod campaign;
pub mod chart;
pub mod dead_letters;
pub mod incident;
pub mod incidents;
pub mod login;
pub mod mailbox_providers;
pub mod message;
pub mod overview;
pub mod predictions;
pub mod problem;
pub mod recipient;
pub mod story;
pub mod suppressions;

use std::collections::BTreeSet;
use std::sync::Arc;

use alerting::RuleSet;
use alerting::page::PageSettings;
use jiff::Timestamp;
use kafka::Cluster;

use crate::access::{Role, Visitor};
use crate::archived::Archived;
use crate::audit::Audit;
use crate::format;
use crate::live::Live;
use crate::parameters::Parameters;
use crate::store::{Store, StoreError};
use crate::traffic::Rate;

/// What pages are made from.
pub struct Pages {
    /// The rows.
    pub store: Store,
    /// What is happening now.
    pub live: Arc<Live>,
    /// How pages of incidents are written.
    pub page_settings: PageSettings,
    /// How far archive is.
    pub archived: Archived,
    /// Logs which investigator has asked for the data of which recipients.
    pub audit: Audit,
    /// The rules whose alerts cannot be recomputed.
    pub rules_by_weekday: BTreeSet<String>,
}

impl Pages {
    /// Returns the pages of an installation.
    pub fn new(
        store: Store,
        live: Arc<Live>,
        page_settings: PageSettings,
        rules: &RuleSet,
        cluster: &Cluster,
        audit: Audit,
    ) -> Self {
        let archived = Archived::new(cluster.connection.clone(), cluster.topics.clone());
        let rules_by_weekday = recount::rules_by_weekday(rules);
        Self { store, live, page_settings, archived, audit, rules_by_weekday }
    }
}

/// A request for a page by somebody who may see it.
pub struct Ask<'a> {
    pub pages: &'a Pages,
    pub visitor: &'a Visitor,
    pub parameters: &'a Parameters,
    pub now: Timestamp,
}

impl Ask<'_> {
    /// Returns what surrounds a page. `section` is the entry of the navigation.
    fn frame(&self, title: impl Into<String>, section: &'static str) -> Frame {
        Frame::new(self.pages, Some(self.visitor), title.into(), section)
    }

    const fn role(&self) -> Role {
        self.visitor.role
    }
}

/// What surrounds every page.
pub struct Frame {
    title: String,
    section: &'static str,
    visitor: String,
    role: &'static str,
    is_investigator: bool,
    has_session: bool,
    open_incidents: usize,
}

impl Frame {
    fn new(pages: &Pages, visitor: Option<&Visitor>, title: String, section: &'static str) -> Self {
        Self {
            title,
            section,
            visitor: visitor.map_or_else(String::new, |it| it.name.clone()),
            role: visitor.map_or("", |it| it.role.as_str()),
            is_investigator: visitor.is_some_and(|it| it.role == Role::Investigator),
            has_session: visitor.is_some_and(|it| it.has_session),
            open_incidents: visitor.map_or(0, |_| pages.live.open_incident_count()),
        }
    }
}

/// A part of a page, or why it cannot be shown.
struct Part<T> {
    value: Option<T>,
    problem: String,
    code: &'static str,
}

impl<T> From<Result<T, StoreError>> for Part<T> {
    fn from(result: Result<T, StoreError>) -> Self {
        match result {
            Ok(value) => Self { value: Some(value), problem: String::new(), code: "" },
            Err(error) => Self { value: None, problem: error.to_string(), code: error.code() },
        }
    }
}

/// A rate in a table.
struct RateCell {
    percent: String,
    /// Numerator and denominator as text, such as `12 of 3 456`.
    of: String,
    interval: String,
    numerator: u64,
    denominator: u64,
    /// The width of the bar, from 0 to 100. Empty: there is no bar.
    bar: String,
}

impl RateCell {
    /// `full` is the share at which the bar is full; 0: there is no bar.
    fn new(rate: Rate, full: f64) -> Self {
        let share = rate.share().unwrap_or(0.0);
        let width = || format!("{:.1}", (100.0 * share / full).clamp(0.0, 100.0));
        Self {
            percent: rate.percent(),
            of: format!("{} of {}", format::count(rate.numerator), format::count(rate.denominator)),
            interval: rate.interval_text(),
            numerator: rate.numerator,
            denominator: rate.denominator,
            bar: if full > 0.0 { width() } else { String::new() },
        }
    }
}

/// A time on a page.
pub(crate) struct TimeCell {
    datetime: String,
    text: String,
}

impl TimeCell {
    /// `micros` are since the Unix epoch.
    fn new(micros: i64) -> Self {
        Self { datetime: format::datetime(micros), text: format::time(micros) }
    }
}
