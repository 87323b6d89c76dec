//! Compares what a run has decided and delivered with the model and with the recomputation.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Debug;

use super::log::{Action, Intent, Log};
use super::model::{self, Model};
use super::receiver::Delivery;
use super::recompute;
use super::rules::{self, CONTROL, REFUSING};
use super::traffic::Traffic;
use crate::chaos::{Balance, Errors};

/// Adds lines about everything.
pub(super) fn compare(
    balance: &mut Balance,
    log: &Log,
    deliveries: &[Delivery],
) -> anyhow::Result<()> {
    let model = Model::of(&log.events);
    intents(balance, log, &model)?;
    actions(balance, log)?;
    limits(balance, log);
    machines(balance, log);
    follow_ups(balance, log, &model);
    segments(balance, log, &model);
    self::deliveries(balance, log, deliveries);
    Ok(())
}

/// Compares `mail.intents` with what the rules want because of `mail.events`. It does not depend on which member has read
/// an event.
fn intents(balance: &mut Balance, log: &Log, model: &Model) -> anyhow::Result<()> {
    const PART: &str = "mail.intents: what rules want";
    let found = log.intents.iter().map(|it| (it.rule.clone(), it.event.id.clone(), it.follow_up));
    ids(balance, PART, "by the model", found, &model.wanted);
    let found = recompute::intended(&log.intent_records)?;
    let expected = recompute::wanted(&log.event_records)?;
    ids(balance, PART, "by Replay", found, &expected);

    let mut acted: HashMap<&str, i64> = HashMap::new();
    let (mut early, mut acts) = (Errors::default(), 0);
    let cooled = |it: &&Intent| it.rule == "cooled" && it.follow_up.is_none();
    for intent in log.intents.iter().filter(cooled) {
        acts += 1;
        let last = acted.insert(&intent.event.recipient, intent.event.at);
        if last.is_some_and(|last| intent.event.at - last < model::COOLDOWN) {
            early.add(|| format!("{} {}", intent.event.recipient, intent.event.id));
        }
    }
    balance.none(PART, "acts of a rule within its cooldown", &early);
    // The order of the topic is that of the recipient, because intents of one recipient have one writer at a time.
    let recipients = acted.len();
    exercised(balance, PART, "acts after a cooldown was over", acts - recipients);
    exercised(balance, PART, "acts that a cooldown prevented", model.cooling);
    exercised(balance, PART, "acts that higher priorities prevented", model.crowded_out);
    let patterned = log.intents.iter().filter(|it| it.rule == "patterned").count();
    exercised(balance, PART, "acts because of a pattern", patterned);
    Ok(())
}

/// What is done follows from the order of `mail.intents`.
fn actions(balance: &mut Balance, log: &Log) -> anyhow::Result<()> {
    const PART: &str = "mail.actions: what is done";
    let model::Allowed { done, refused } = model::allowed(&log.intents);
    let triple = |it: &Action| (it.rule.clone(), it.event.id.clone(), it.index.clone());
    let done: BTreeSet<_> =
        done.into_iter().map(|(rule, id, index)| (rule, id, index.to_owned())).collect();
    ids(balance, PART, "by the model", log.actions.iter().map(triple), &done);
    let expected = recompute::allowed(&log.intent_records)?;
    let found = log.actions.iter().map(|it| it.id.clone());
    ids(balance, PART, "by the limits of automation", found, &expected);
    for (rule, reason) in [
        ("capped", "limit"),
        ("capped-clicks", "limit"),
        ("capped-clicks", "parent"),
        ("per-campaign", "campaign_limit"),
    ] {
        let found = refused.get(&(rule.to_owned(), reason)).copied().unwrap_or(0);
        exercised(balance, PART, &format!("refused: {rule}, {reason}"), found);
    }
    Ok(())
}

/// Counts what was done in every span, from `mail.actions` and the clock of each rule.
fn limits(balance: &mut Balance, log: &Log) {
    const PART: &str = "limits: the most in any span";
    let done: BTreeSet<(&str, &str, &str)> =
        log.actions.iter().map(|it| (&*it.rule, &*it.event.id, &*it.index)).collect();
    let was_done = |it: &&Intent| {
        let index = if it.follow_up.is_some() { "1.0" } else { "0" };
        done.contains(&(&*it.rule, &*it.event.id, index))
    };
    for (rule, count, span) in model::LIMITS {
        let mut times: Vec<i64> = Vec::new();
        for intent in log.intents.iter().filter(|it| it.rule == rule).filter(was_done) {
            times.push(times.last().map_or(intent.at, |last| intent.at.max(*last)));
        }
        let what = format!("{rule}, of {} in all", times.len());
        balance.line(PART, &what, model::most_within(&times, span) as u64, count as u64);
    }
    let (rule, count) = model::CAMPAIGN_LIMIT;
    let mut campaigns: BTreeMap<&str, usize> = BTreeMap::new();
    for action in log.actions.iter().filter(|it| it.rule == rule) {
        *campaigns.entry(&action.event.campaign).or_default() += 1;
    }
    for (campaign, found) in campaigns {
        let what = format!("{rule}, campaign {campaign}");
        balance.line(PART, &what, found as u64, count as u64);
    }
}

/// Clicks and opens of machines, and events of requests that were not verified, start nothing.
fn machines(balance: &mut Balance, log: &Log) {
    const PART: &str = "machines and requests that were not verified";
    let machine: BTreeSet<&str> =
        log.all_events().filter(|it| it.is_machine()).map(|it| &*it.id).collect();
    let unverified: BTreeSet<&str> =
        log.all_events().filter(|it| !it.authentic).map(|it| &*it.id).collect();
    let (mut by_machines, mut by_unverified, mut controls) =
        (Errors::default(), Errors::default(), 0);
    for action in &log.actions {
        let id = &*action.event.id;
        let name = || format!("{} {} of {id}", action.rule, action.index);
        if unverified.contains(id) {
            by_unverified.add(name);
        } else if machine.contains(id) && action.rule == CONTROL {
            controls += 1;
        } else if machine.contains(id) {
            by_machines.add(name);
        }
    }
    let what = format!("actions because of {} clicks and opens by machines", machine.len());
    balance.none(PART, &what, &by_machines);
    let what = format!("actions because of {} events not verified", unverified.len());
    balance.none(PART, &what, &by_unverified);
    let clicks = log.all_events().filter(|it| it.authentic && it.is_machine());
    let clicks = clicks.filter(|it| it.kind == "clicked").count();
    balance.line(PART, "of the control rule with human = false", controls, clicks as u64);
}

/// A follow-up comes once, also if it was due while automate was away, and not if it was answered.
fn follow_ups(balance: &mut Balance, log: &Log, model: &Model) {
    const PART: &str = "follow-ups unless the mail is opened";
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    for action in log.actions.iter().filter(|it| it.rule == "cooled" && it.index == "1.0") {
        *counts.entry(&action.event.id).or_default() += 1;
    }
    let is_due = |it: &&model::Wanted| it.0 == "cooled" && it.2.is_some();
    let due: Vec<&str> = model.wanted.iter().filter(is_due).map(|it| &*it.1).collect();
    let once = due.iter().filter(|id| counts.get(*id) == Some(&1)).count();
    balance.line(PART, "came exactly once", once as u64, due.len() as u64);
    let came = |ids: &BTreeSet<&str>| counts.keys().filter(|id| ids.contains(*id)).count() as u64;
    let answered: BTreeSet<&str> = model.answered.iter().map(String::as_str).collect();
    balance.line(
        PART,
        &format!("came of {} that were answered", answered.len()),
        came(&answered),
        0,
    );
    let (of_away, answered_away) = Traffic::due_while_away();
    let away: BTreeSet<&str> = log
        .all_events()
        .filter(|it| it.kind == "clicked" && Traffic::clicked_before_away(&it.recipient))
        .map(|it| &*it.id)
        .collect();
    balance.line(PART, "came of those due while automate was away", came(&away), of_away);
    let found = answered.intersection(&away).count() as u64;
    balance.line(PART, "answered while automate was away", found, answered_away);
}

fn segments(balance: &mut Balance, log: &Log, model: &Model) {
    const PART: &str = "mail.segments: who is a member";
    let key = |recipient: &String| {
        automation::segment_key("vip", automation::recipient_digest(recipient.as_bytes()))
    };
    let expected = model.members.iter().map(key).collect();
    ids(balance, PART, "by the model", log.members.iter().cloned(), &expected);
    let by_member = log.intents.iter().filter(|it| it.rule == "vip-clicked").count();
    exercised(balance, PART, "acts because of a membership", by_member);
}

/// Every action arrives at its endpoint, and nothing else does.
fn deliveries(balance: &mut Balance, log: &Log, deliveries: &[Delivery]) {
    const PART: &str = "deliveries";
    let mut places: HashMap<&str, &str> = HashMap::new();
    // In the order of each recipient at each endpoint.
    let mut queues: BTreeMap<(&str, &str), Vec<&str>> = BTreeMap::new();
    for action in &log.actions {
        if let Some(path) = rules::path_of(&action.rule, &action.index) {
            places.insert(&action.id, path);
            queues.entry((path, &action.event.recipient)).or_default().push(&action.id);
        }
    }
    let (mut unknown, mut unverified) = (Errors::default(), Errors::default());
    let mut accepted: HashMap<&str, usize> = HashMap::new();
    for (number, delivery) in deliveries.iter().enumerate() {
        let Delivery { path, id, .. } = delivery;
        if places.get(&**id) != Some(&&**path) {
            unknown.add(|| format!("{path} {id}"));
        }
        if !delivery.is_verified {
            unverified.add(|| format!("{path} {id}"));
        }
        if delivery.accepted_at.is_some() {
            accepted.entry(id).or_insert(number);
        }
    }
    let arrived = places.keys().filter(|id| accepted.contains_key(*id)).count();
    balance.line(
        PART,
        "actions that an endpoint has accepted",
        arrived as u64,
        places.len() as u64,
    );
    balance.none(PART, "requests about actions that were not decided", &unknown);
    balance.none(PART, "requests without the right signature and id", &unverified);
    let mut overtaken = Errors::default();
    for ((path, recipient), ids) in &queues {
        let order = ids.iter().filter_map(|id| accepted.get(id)).collect::<Vec<_>>();
        if !order.is_sorted() {
            overtaken.add(|| format!("{path} {recipient}"));
        }
    }
    balance.none(PART, "recipients whose actions arrived out of order", &overtaken);
    let refused = deliveries.iter().filter(|it| it.path == REFUSING && it.accepted_at.is_none());
    exercised(balance, PART, "requests that the refusing endpoint refused", refused.count());
    balance.line(PART, "dead letters", log.dead_letters.len() as u64, 0);
}

/// Adds lines that compare ids. None may be missing, unknown, or there twice.
fn ids<T: Ord + Debug>(
    balance: &mut Balance,
    part: &'static str,
    by: &str,
    found: impl IntoIterator<Item = T>,
    expected: &BTreeSet<T>,
) {
    let (mut once, mut twice, mut unknown) =
        (BTreeSet::new(), Errors::default(), Errors::default());
    for id in found {
        if !expected.contains(&id) {
            unknown.add(|| format!("{id:?}"));
        }
        if let Some(id) = once.replace(id) {
            twice.add(|| format!("{id:?}"));
        }
    }
    let right = expected.intersection(&once).count();
    balance.line(part, &format!("decided, {by}"), right as u64, expected.len() as u64);
    let mut missing = Errors::default();
    expected.difference(&once).for_each(|id| missing.add(|| format!("{id:?}")));
    balance.none(part, &format!("missing, {by}"), &missing);
    balance.none(part, &format!("not expected, {by}"), &unknown);
    balance.none(part, &format!("twice, {by}"), &twice);
}

/// Adds a line that fails if the run did not exercise something, because its other lines then prove nothing.
fn exercised(balance: &mut Balance, part: &'static str, what: &str, count: usize) {
    balance.line(part, &format!("{what}: {count}, at least 1"), count.min(1) as u64, 1);
}
