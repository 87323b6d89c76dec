//! `/campaign/{provider}/{source}/{campaign}`: what has become of a campaign.

use askama::Template;
use event::Counter;
use http::StatusCode;
use serde::Deserialize;
use window::{Counts, Metric};

use super::{Ask, Frame, RateCell, TimeCell};
use crate::access::Role;
use crate::problem::Problem;
use crate::response::{self, Response};
use crate::store::Query;
use crate::traffic::Rate;
use crate::{format, mask};

#[derive(Template)]
#[template(path = "campaign.html")]
struct Page {
    frame: Frame,
    source: String,
    campaign: String,
    began: TimeCell,
    latest: TimeCell,
    steps: Vec<Step>,
    rates: Vec<(&'static str, RateCell)>,
    reasons: Vec<ReasonRow>,
    links: Vec<LinkRow>,
}

/// A step of the funnel.
struct Step {
    name: &'static str,
    messages: u64,
    messages_text: String,
    /// What the share is of.
    of: &'static str,
    share: String,
    /// The width of the bar, from 0 to 100.
    bar: String,
}

struct ReasonRow {
    reason: Reason,
    messages: String,
    share: String,
}

struct LinkRow {
    url: String,
    clicked: String,
    clicks: String,
    machine_clicks: String,
}

#[derive(Deserialize)]
struct Campaign {
    began: i64,
    latest: i64,
    #[serde(flatten)]
    counts: Counts,
}

#[derive(Deserialize)]
struct Reason {
    permanence: String,
    class: String,
    status: String,
    messages: u64,
    example: String,
    example_event_id: String,
}

#[derive(Deserialize)]
struct Example {
    event_id: String,
    recipient: String,
}

#[derive(Deserialize)]
struct Link {
    url: String,
    clicks: i64,
    clicked: i64,
    machine_clicks: i64,
}

/// The rates below the funnel.
const RATES: [(Metric, &str); 8] = [
    (Metric::Bounce, "Bounces"),
    (Metric::HardBounce, "Hard bounces"),
    (Metric::BlockBounce, "Blocks"),
    (Metric::Deferral, "Deferrals"),
    (Metric::Complaint, "Complaints"),
    (Metric::Unsubscribe, "Unsubscribes"),
    (Metric::Open, "Opens by people"),
    (Metric::Click, "Clicks by people"),
];

/// Renders the page.
///
/// # Errors
/// [`Problem::NothingFound`] or [`Problem::Store`].
pub async fn render(
    ask: &Ask<'_>,
    provider: &str,
    source: &str,
    campaign: &str,
) -> Result<Response, Problem> {
    let (store, role) = (&ask.pages.store, ask.role());
    let about = |name, sql| {
        let query = Query::new(name, sql).with("provider", provider).with("source", source);
        query.with("campaign", campaign)
    };
    let found: Vec<Campaign> =
        store.rows(&about("campaign", include_str!("../sql/campaign.sql"))).await?;
    let Some(Campaign { began, latest, counts }) = found.into_iter().next() else {
        let text = format!("the source {provider}/{source} has no campaign `{campaign}`");
        return Err(Problem::NothingFound(text));
    };
    let reasons = about("campaign_reasons", include_str!("../sql/campaign_reasons.sql"));
    let links = about("campaign_links", include_str!("../sql/campaign_links.sql"));
    let (reasons, links) = (reasons.with("from", began), links.with("from", began));
    let (reasons, links) = tokio::join!(store.rows::<Reason>(&reasons), store.rows::<Link>(&links));
    let bounced = Rate::of(Metric::Bounce, &counts).numerator;
    let mut reasons = reasons?;
    if role == Role::Viewer && !reasons.is_empty() {
        let ids = list(reasons.iter().map(|reason| reason.example_event_id.as_str()));
        let query = about("campaign_examples", include_str!("../sql/campaign_examples.sql"));
        mask_examples(&mut reasons, &store.rows(&query.with("ids", ids)).await?);
    }
    let reasons = reasons.into_iter().map(|reason| ReasonRow {
        messages: format::count(reason.messages),
        share: Rate { numerator: reason.messages, denominator: bounced }.percent(),
        reason,
    });
    let number = |number: i64| format::count(number.max(0).cast_unsigned());
    let links = links?.into_iter().map(|link| LinkRow {
        url: mask::url(role, &link.url),
        clicked: number(link.clicked),
        clicks: number(link.clicks),
        machine_clicks: number(link.machine_clicks),
    });
    let page = Page {
        frame: ask.frame(format!("Campaign {campaign}"), "campaigns"),
        source: format!("{provider}/{source}"),
        campaign: campaign.to_owned(),
        began: TimeCell::new(began * 1_000_000),
        latest: TimeCell::new(latest * 1_000_000),
        steps: steps(&counts),
        rates: RATES
            .map(|(metric, name)| (name, RateCell::new(Rate::of(metric, &counts), 0.0)))
            .into(),
        reasons: reasons.collect(),
        links: links.collect(),
    };
    response::page(StatusCode::OK, &page)
}

/// Masks the answers of servers for a viewer. They can name their recipients without the domain.
fn mask_examples(reasons: &mut [Reason], examples: &[Example]) {
    for Reason { example, example_event_id, .. } in reasons {
        let of = examples.iter().find(|it| it.event_id == *example_event_id);
        let recipient = of.map_or("", |it| it.recipient.as_str());
        *example = mask::text_about(Role::Viewer, example, recipient);
    }
}

/// Returns ids of events in ClickHouse's form of an array. They are hexadecimal.
fn list<'a>(ids: impl Iterator<Item = &'a str>) -> String {
    let ids = ids.filter(|id| id.bytes().all(|byte| byte.is_ascii_alphanumeric()));
    let ids: Vec<String> = ids.map(|id| format!("'{id}'")).collect();
    format!("[{}]", ids.join(","))
}

/// Returns the funnel from sent to clicked.
fn steps(counts: &Counts) -> Vec<Step> {
    let sent = window::sent(counts);
    let delivered = counts.get(Counter::Delivered);
    let step = |name, messages, of, whole| {
        let part = |whole| Rate { numerator: messages, denominator: whole };
        Step {
            name,
            messages,
            messages_text: format::count(messages),
            of,
            share: part(whole).percent(),
            bar: format!("{:.1}", 100.0 * part(sent).share().unwrap_or(0.0)),
        }
    };
    vec![
        step("Sent", sent, "", sent),
        step("Delivered", delivered, "of sent", sent),
        step("Opened by people", counts.get(Counter::Opened), "of delivered", delivered),
        step("Clicked by people", counts.get(Counter::Clicked), "of delivered", delivered),
    ]
}
