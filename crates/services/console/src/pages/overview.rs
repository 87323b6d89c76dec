//! `/`: what is happening now and in the last hours.

use askama::Template;
use http::StatusCode;
use serde::Deserialize;
use window::Metric;

use super::{Ask, Frame, Part, RateCell, TimeCell};
use crate::format;
use crate::live::Snapshot;
use crate::pages::dead_letters::{ReasonRow, by_reason};
use crate::parameters::{Period, SourceFilter, path};
use crate::problem::Problem;
use crate::response::{self, Response};
use crate::store::{Query, Store, StoreError};
use crate::traffic::{self, By, Rate, Traffic};

/// How many hours the table of mailbox providers covers.
const HOURS: i64 = 6;

/// How many mailbox providers and campaigns are shown.
const SHOWN: usize = 12;

#[derive(Template)]
#[template(path = "overview.html")]
struct Page {
    frame: Frame,
    hours: i64,
    live: Snapshot,
    live_json: String,
    mailbox_providers: Part<Vec<MailboxProviderRow>>,
    campaigns: Part<Vec<CampaignRow>>,
    sources: Part<Vec<SourceRow>>,
    dead_letters: Part<Vec<ReasonRow>>,
}

/// A mailbox provider and its rates.
pub(super) struct MailboxProviderRow {
    pub(super) name: String,
    pub(super) sent: String,
    pub(super) bounce: RateCell,
    pub(super) deferral: RateCell,
    pub(super) complaint: RateCell,
    pub(super) open: RateCell,
    pub(super) click: RateCell,
}

/// A campaign and its rates.
struct CampaignRow {
    name: String,
    link: String,
    source: String,
    sent: String,
    bounce: RateCell,
    open: RateCell,
}

/// A source and when it was last heard from.
pub(crate) struct SourceRow {
    pub(crate) source: String,
    pub(crate) heard_at: i64,
    pub(crate) heard: TimeCell,
    pub(crate) ago: String,
    pub(crate) events: u64,
    pub(crate) events_text: String,
    /// Whether it was heard from within the last hour.
    pub(crate) is_recent: bool,
}

#[derive(Deserialize)]
struct Heard {
    source: String,
    heard_at: i64,
    events: u64,
}

/// Renders the page. What ClickHouse does not answer is named in its place.
///
/// # Errors
/// If the template fails.
pub async fn render(ask: &Ask<'_>) -> Result<Response, Problem> {
    let store = &ask.pages.store;
    let now = ask.now.as_second();
    let period = Period { from: now - HOURS * 3_600, to: now / 60 * 60 + 60 };
    let all = SourceFilter::default();
    let (mailbox_providers, campaigns, sources, dead_letters) = tokio::join!(
        traffic::ask(store, By::MailboxProvider, 0, period, &all),
        traffic::ask(store, By::Campaign, 0, period, &all),
        sources(store, now),
        by_reason(store, now - 7 * 86_400),
    );
    let live = ask.pages.live.snapshot();
    let page = Page {
        frame: ask.frame("Overview", "overview"),
        hours: HOURS,
        live_json: live.json(),
        live,
        mailbox_providers: mailbox_providers.map(mailbox_provider_rows).into(),
        campaigns: campaigns.map(campaign_rows).into(),
        sources: sources.into(),
        dead_letters: dead_letters.into(),
    };
    response::page(StatusCode::OK, &page)
}

/// Returns every source and when it was last heard from.
///
/// # Errors
/// See [`StoreError`].
pub(crate) async fn sources(store: &Store, now: i64) -> Result<Vec<SourceRow>, StoreError> {
    let query = Query::new("sources", include_str!("../sql/sources.sql"));
    let rows: Vec<Heard> = store.rows(&query).await?;
    let rows = rows.into_iter().map(|Heard { source, heard_at, events }| SourceRow {
        source,
        heard_at,
        heard: TimeCell::new(heard_at * 1_000_000),
        ago: format::ago(heard_at, now),
        events,
        events_text: format::count(events),
        is_recent: now - heard_at < 3_600,
    });
    Ok(rows.collect())
}

/// Returns the mailbox providers with the most mail. The bars of a column have one scale.
pub(super) fn mailbox_provider_rows(mut rows: Vec<Traffic>) -> Vec<MailboxProviderRow> {
    rows.sort_by_key(|row| std::cmp::Reverse(window::sent(&row.counts)));
    rows.truncate(SHOWN);
    let full = |metric| {
        let shares = rows.iter().filter_map(|row| Rate::of(metric, &row.counts).share());
        shares.fold(0.0, f64::max)
    };
    let metrics =
        [Metric::Bounce, Metric::Deferral, Metric::Complaint, Metric::Open, Metric::Click];
    let [bounces, deferrals, complaints, opens, clicks] = metrics.map(full);
    let rows = rows.iter().map(|Traffic { name, counts, .. }| {
        let cell = |metric, full| RateCell::new(Rate::of(metric, counts), full);
        MailboxProviderRow {
            name: if name.is_empty() { "(unknown)".to_owned() } else { name.clone() },
            sent: format::count(window::sent(counts)),
            bounce: cell(Metric::Bounce, bounces),
            deferral: cell(Metric::Deferral, deferrals),
            complaint: cell(Metric::Complaint, complaints),
            open: cell(Metric::Open, opens),
            click: cell(Metric::Click, clicks),
        }
    });
    rows.collect()
}

fn campaign_rows(mut rows: Vec<Traffic>) -> Vec<CampaignRow> {
    rows.sort_by_key(|row| std::cmp::Reverse(window::sent(&row.counts)));
    rows.truncate(SHOWN);
    let rows = rows.iter().filter_map(|Traffic { name, counts, .. }| {
        let mut parts = name.splitn(3, '/');
        let (provider, source, campaign) = (parts.next()?, parts.next()?, parts.next()?);
        Some(CampaignRow {
            name: campaign.to_owned(),
            link: path(&["campaign", provider, source, campaign]),
            source: format!("{provider}/{source}"),
            sent: format::count(window::sent(counts)),
            bounce: RateCell::new(Rate::of(Metric::Bounce, counts), 0.0),
            open: RateCell::new(Rate::of(Metric::Open, counts), 0.0),
        })
    });
    rows.collect()
}
