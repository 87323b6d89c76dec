//! Who is suppressed. What `suppress` decides is proven elsewhere; here everybody with a complaint or an unsubscription
//! has an entry, unless it was lifted.

use std::collections::BTreeMap;

use super::Parameters;
use super::events::Truth;
use super::text::{Row, row};
use crate::clickhouse::Database;
use crate::questions::mail::{Form, Mail, SECOND};
use crate::questions::views::outcome;
use crate::truth::payload;

/// The kinds of events that begin an entry, with its reason.
const REASONS: [(&str, &str); 2] = [("complained", "complaint"), ("unsubscribed", "unsubscribe")];

/// What has become of messages that were sent.
const SENT: [&str; 5] = ["accepted", "deferred", "delivered", "bounced", "late_bounce"];

/// Inserts an entry for every recipient with such an event, with the newest one as its evidence: on the list of the source,
/// and for some also on the global one. The first is lifted for addresses with an even number of letters.
pub(crate) async fn insert(database: &Database) -> anyhow::Result<()> {
    const OF_SOURCE: &str = "concat(provider, '/', source)";
    for (kind, reason) in REASONS {
        for (list, author, state, days, recipients) in [
            (OF_SOURCE, "event", "suppressed", 0, "true"),
            (OF_SOURCE, "lift", "lifted", 1, "length(recipient) % 2 = 0"),
            ("'global'", "event", "suppressed", 0, "length(recipient) % 3 = 0"),
        ] {
            let sql = format!(
                "INSERT INTO suppressions (list, recipient, reason, author, state, since, event_id, provider, \
                 mailbox_provider, kafka_partition, kafka_offset) SETTINGS async_insert = 0 \
                 SELECT {list}, lower(hex(sipHash128(events.recipient))), '{reason}', '{author}', \
                 '{state}', max(occurred_at) + INTERVAL {days} DAY, argMax(event_id, (occurred_at, event_id)), \
                 any(provider), any(mailbox_provider), 65535, \
                 cityHash64({list}, '{author}', '{kind}', source, events.recipient) \
                 FROM events WHERE kind = '{kind}' AND {recipients} GROUP BY provider, source, recipient"
            );
            database.text(&sql).await?;
        }
    }
    Ok(())
}

/// Returns on how many lists an address is suppressed.
const fn lists_of(recipient: &str) -> usize {
    let letters = recipient.len();
    (letters % 2 == 1) as usize + letters.is_multiple_of(3) as usize
}

pub(super) fn suppressed(truth: &Truth<'_>, p: &Parameters) -> anyhow::Result<Vec<Row>> {
    let ((from, to), source) = (p.period()?, p.text("source")?);
    let line = |(kind, reason): (&str, &str)| {
        let mut since: BTreeMap<&str, i64> = BTreeMap::new();
        let of_source = truth.happened.iter().filter(|it| it.mail.message.source.name == source);
        for it in of_source {
            let message = &it.mail.message;
            if payload::kind(message.source.provider, it.what).as_str() == kind
                && lists_of(&message.recipient) > 0
            {
                let first = since.entry(&message.recipient).or_insert(it.at);
                *first = it.at.min(*first);
            }
        }
        let is_sent_to = |mail: &&Mail, recipient: &str, since: i64| {
            let message = &mail.message;
            let times = message.facts.iter().filter_map(|fact| message.cohort(fact.what));
            let sent = times.min().map(|sent| sent / SECOND);
            message.source.name == source
                && message.recipient == recipient
                && mail.form != Form::WithoutMessageId
                && SENT.contains(&outcome(mail))
                && sent.is_some_and(|sent| (from..to).contains(&sent) && sent > since)
        };
        let messages: Vec<usize> = since
            .iter()
            .map(|(recipient, since)| {
                truth.mails.iter().filter(|mail| is_sent_to(mail, recipient, *since)).count()
            })
            .collect();
        let mailed = messages.iter().filter(|&&messages| messages > 0).count();
        let all: usize = messages.iter().sum();
        let entries: usize = since.keys().map(|recipient| lists_of(recipient)).sum();
        (!since.is_empty()).then(|| row(&[&reason, &entries, &since.len(), &mailed, &all]))
    };
    Ok(REASONS.into_iter().filter_map(line).collect())
}
