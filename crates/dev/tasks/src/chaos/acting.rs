//! Compares what the services that act on events have decided and delivered with the rows of `events`.

use std::time::Instant;

use super::attack::GENUINE;
use super::balance::{Balance, Matched};
use super::{POLL, Scale};
use crate::acting::{Acting, Done, TO_ACT_ON, TO_FORWARD};
use crate::clickhouse::Database;

const PART: &str = "acting on events";

/// Waits until everything is decided and delivered, and compares. Repeats it until it balances or the time is over.
pub(super) async fn settle(
    balance: &mut Balance,
    acting: &Acting,
    database: &Database,
    scale: &Scale,
) -> anyhow::Result<()> {
    let deadline = Instant::now() + scale.settle_timeout;
    loop {
        let mut found = Balance::default();
        prove(&mut found, acting, database).await?;
        if found.is_balanced() || Instant::now() > deadline {
            balance.0.extend(found.0);
            return Ok(());
        }
        tokio::time::sleep(POLL).await;
    }
}

async fn prove(balance: &mut Balance, acting: &Acting, database: &Database) -> anyhow::Result<()> {
    let done = acting.done(database, GENUINE).await?;
    let Done { suppressed, blameless, wrong, forwarded, acted } = done;
    balance.line(PART, "recipients who must not be mailed", suppressed.0, suppressed.1);
    balance.line(PART, "others of whom suppress says so", blameless, 0);
    balance.line(PART, "requests with a wrong signature", wrong, 0);

    let ids = async |sql: &str| database.text(&format!("{sql} FORMAT TSV")).await;
    let events = ids(TO_FORWARD).await?;
    let forwarded: Vec<String> = forwarded.into_iter().collect();
    let matched = of(&events, &forwarded);
    balance.line(PART, "events forwarded", matched.once, lines(&events));
    balance.none(PART, "events not forwarded", &matched.lost);
    balance.none(PART, "forwarded events without a row", &matched.unknown);

    // The rule has one action for each of these events, decided once.
    let (events, decided) = (ids(TO_ACT_ON).await?, ids("SELECT event_id FROM actions").await?);
    let decided: Vec<String> = decided.lines().map(str::to_owned).collect();
    let matched = of(&events, &decided);
    balance.line(PART, "events with one action", matched.once, lines(&events));
    balance.none(PART, "events without an action", &matched.lost);
    balance.none(PART, "events with several actions", &matched.doubled);
    balance.none(PART, "actions without an event", &matched.unknown);

    let decided = ids("SELECT action_id FROM actions").await?;
    let delivered: Vec<String> = acted.into_iter().collect();
    let matched = of(&decided, &delivered);
    balance.line(PART, "actions delivered", matched.once, lines(&decided));
    balance.none(PART, "actions not delivered", &matched.lost);
    balance.none(PART, "delivered actions that were not decided", &matched.unknown);
    Ok(())
}

fn of(expected: &str, found: &[String]) -> Matched {
    Matched::of(expected.lines().map(|id| (id, &"")), &found.join("\n"))
}

fn lines(ids: &str) -> u64 {
    ids.lines().count() as u64
}
