//! `/recipient/{address}`: the story of a recipient. Only for investigators.

use askama::Template;
use http::StatusCode;
use serde::Deserialize;

use super::story::{MAX_EVENTS, StoryEvent, StoryLine};
use super::{Ask, Frame};
use crate::access::Role;
use crate::problem::Problem;
use crate::response::{self, Response};
use crate::store::Query;

#[derive(Template)]
#[template(path = "recipient.html")]
struct Page {
    frame: Frame,
    address: String,
    profiles: Vec<ProfileRow>,
    lines: Vec<StoryLine>,
    is_cut: bool,
}

/// What is known of the address at one source.
struct ProfileRow {
    profile: Profile,
    score: String,
}

#[derive(Deserialize)]
struct Profile {
    source: String,
    mailbox_provider: String,
    received: u64,
    opened: u64,
    clicked: u64,
    bounces: u64,
    complaints: u64,
    engagement_cohort: String,
    score: Option<f64>,
    has_unsubscribed: bool,
}

/// Renders the page.
///
/// # Errors
/// [`Problem::InvestigatorsOnly`], [`Problem::InvalidParameter`], [`Problem::NothingFound`] or
/// [`Problem::Store`].
pub async fn render(ask: &Ask<'_>, address: &str) -> Result<Response, Problem> {
    if ask.role() < Role::Investigator {
        return Err(Problem::InvestigatorsOnly);
    }
    if address.is_empty() {
        return Err(Problem::InvalidParameter("`address` must be an e-mail address".to_owned()));
    }
    // As enrich writes it.
    let address = event::recipient_key(address);
    let store = &ask.pages.store;
    ask.pages.audit.log(ask.visitor, "recipient", [&*address]);
    let story =
        Query::new("recipient", include_str!("../sql/recipient.sql")).with("address", &address);
    let profile = Query::new("recipient_profile", include_str!("../sql/recipient_profile.sql"))
        .with("address", &address);
    let (events, profiles) =
        tokio::join!(store.rows::<StoryEvent>(&story), store.rows::<Profile>(&profile));
    let mut events = events?;
    if events.is_empty() {
        return Err(Problem::NothingFound(format!("no event is about `{address}`")));
    }
    let is_cut = events.len() > MAX_EVENTS;
    events.truncate(MAX_EVENTS);
    let profiles = profiles?.into_iter().map(|profile| ProfileRow {
        score: profile.score.map_or_else(|| "–".to_owned(), |score| format!("{score:.2}")),
        profile,
    });
    let page = Page {
        frame: ask.frame("Story of a recipient", "stories"),
        address: address.to_string(),
        profiles: profiles.collect(),
        lines: events.iter().map(|event| event.line(ask.role())).collect(),
        is_cut,
    };
    response::page(StatusCode::OK, &page)
}
