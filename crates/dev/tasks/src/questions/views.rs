//! Compares views that no question reads with the truth: what has become of messages, and events by reason, link
//! and interest.

use std::collections::BTreeMap;

use anyhow::ensure;

use super::mail::{Form, Mail, SOURCES};
use super::truth::Truth;
use crate::clickhouse::Database;
use crate::truth::message::{By, What};

/// The part of links that the rule for interests selects.
const INTEREST: &str = "/articles/";

/// What a view counts, with the numbers.
type Numbers = BTreeMap<String, u64>;

/// Compares the views of each source.
pub(super) async fn check(database: &Database, truth: &Truth<'_>) -> anyhow::Result<()> {
    for source in SOURCES.map(|source| source.name) {
        let of_source = format!("WHERE source = '{source}'");
        let outcomes =
            format!("SELECT outcome, count() FROM messages {of_source} GROUP BY outcome");
        compare(database, &outcomes, &outcomes_of(truth, source)).await?;
        for (view, link) in [("link_performance", ""), ("content_interest", INTEREST)] {
            let clicks = format!(
                "SELECT by, number FROM (SELECT ['people', 'machines'] AS names, \
                 [sum(clicks), sum(machine_clicks)] AS numbers FROM {view} {of_source}) \
                 ARRAY JOIN names AS by, numbers AS number"
            );
            compare(database, &clicks, &clicks_of(truth, source, link)).await?;
        }
        let bounces = format!("SELECT 'bounces', sum(events) FROM bounce_reasons {of_source}");
        compare(database, &bounces, &bounces_of(truth, source)).await?;
    }
    Ok(())
}

async fn compare(database: &Database, sql: &str, expected: &Numbers) -> anyhow::Result<()> {
    let text = database.text(&format!("{sql} FORMAT TSV")).await?;
    let pairs = text.lines().filter_map(|line| line.split_once('\t'));
    let found: Numbers = pairs
        .map(|(name, number)| Ok((name.to_owned(), number.parse()?)))
        .collect::<anyhow::Result<_>>()?;
    ensure!(found == *expected, "{sql}:\n  truth: {expected:?}\n  found: {found:?}");
    Ok(())
}

fn outcomes_of(truth: &Truth<'_>, source: &str) -> Numbers {
    let mut outcomes = Numbers::new();
    let of_source = truth.mails.iter().filter(|mail| mail.message.source.name == source);
    for mail in of_source.filter(|mail| mail.form != Form::WithoutMessageId) {
        *outcomes.entry(outcome(mail).to_owned()).or_default() += 1;
    }
    outcomes
}

/// Returns what has become of a message, by the comment of the column `outcome`.
pub(super) fn outcome(mail: &Mail) -> &'static str {
    let happened = |what: What| mail.first(|it| it == what).is_some();
    let delivered = mail.first(|it| it == What::Delivered);
    let bounced = mail.last(|it| matches!(it, What::Bounced(_)));
    match (delivered, bounced) {
        (Some(delivered), Some(bounced)) if bounced >= delivered => "late_bounce",
        (Some(_), _) => "delivered",
        (None, Some(_)) => "bounced",
        _ if happened(What::Suppressed) => "suppressed",
        _ if happened(What::Dropped) => "dropped",
        _ if mail.first(|it| matches!(it, What::Deferred(_))).is_some() => "deferred",
        _ if happened(What::Accepted) => "accepted",
        _ => "unknown",
    }
}

/// Counts the clicks on links that contain a text.
fn clicks_of(truth: &Truth<'_>, source: &str, text: &str) -> Numbers {
    let count = |by: By| {
        let of_source = truth.happened.iter().filter(|it| it.mail.message.source.name == source);
        let clicks = of_source.filter(|it| it.what == What::Clicked(by));
        let link = |place: usize, mail: &Mail| mail.link(&mail.message.facts[place]).0;
        clicks.filter(|it| link(it.place, it.mail).contains(text)).count() as u64
    };
    [("people", By::Person), ("machines", By::Machine)]
        .map(|(name, by)| (name.to_owned(), count(by)))
        .into()
}

fn bounces_of(truth: &Truth<'_>, source: &str) -> Numbers {
    let of_source = truth.happened.iter().filter(|it| it.mail.message.source.name == source);
    let bounces = of_source.filter(|it| matches!(it.what, What::Bounced(_))).count() as u64;
    [("bounces".to_owned(), bounces)].into()
}
