//! `/message/{id}`: the story of a message.

use std::collections::BTreeMap;

use askama::Template;
use http::StatusCode;

use super::story::{MAX_EVENTS, StoryEvent, StoryLine};
use super::{Ask, Frame};
use crate::mask;
use crate::problem::Problem;
use crate::response::{self, Response};
use crate::store::Query;

#[derive(Template)]
#[template(path = "message.html")]
struct Page {
    frame: Frame,
    id: String,
    /// One for each recipient, in the order of their first events.
    stories: Vec<Story>,
    is_cut: bool,
}

struct Story {
    recipient: String,
    recipient_link: String,
    mailbox_provider: String,
    source: String,
    campaign: String,
    campaign_link: String,
    lines: Vec<StoryLine>,
}

/// Renders the page.
///
/// # Errors
/// [`Problem::InvalidParameter`], [`Problem::NothingFound`] or [`Problem::Store`].
pub async fn render(ask: &Ask<'_>, id: &str) -> Result<Response, Problem> {
    if id.is_empty() {
        return Err(Problem::InvalidParameter("`id` must be the id of a message".to_owned()));
    }
    let query = Query::new("message", include_str!("../sql/message.sql")).with("id", id);
    let mut events: Vec<StoryEvent> = ask.pages.store.rows(&query).await?;
    if events.is_empty() {
        let text = format!("no event has the message id `{}`", mask::text(ask.role(), id));
        return Err(Problem::NothingFound(text));
    }
    let is_cut = events.len() > MAX_EVENTS;
    events.truncate(MAX_EVENTS);
    let recipients = events.iter().map(|event| event.recipient.as_str());
    ask.pages.audit.log(ask.visitor, "message", recipients);
    let page = Page {
        frame: ask.frame("Story of a message", "stories"),
        id: mask::text(ask.role(), id),
        stories: stories(ask, &events),
        is_cut,
    };
    response::page(StatusCode::OK, &page)
}

fn stories(ask: &Ask<'_>, events: &[StoryEvent]) -> Vec<Story> {
    let mut stories: Vec<Story> = Vec::new();
    let mut by_recipient: BTreeMap<&str, usize> = BTreeMap::new();
    for event in events {
        let line = event.line(ask.role());
        let index = *by_recipient.entry(&event.recipient).or_insert_with(|| {
            stories.push(Story {
                recipient: line.recipient.clone(),
                recipient_link: line.recipient_link.clone(),
                mailbox_provider: event.mailbox_provider.clone(),
                source: event.source.clone(),
                campaign: line.campaign.clone(),
                campaign_link: line.campaign_link.clone(),
                lines: Vec::new(),
            });
            stories.len() - 1
        });
        if let Some(story) = stories.get_mut(index) {
            if story.campaign.is_empty() {
                story.campaign.clone_from(&line.campaign);
                story.campaign_link.clone_from(&line.campaign_link);
            }
            story.lines.push(line);
        }
    }
    stories
}
