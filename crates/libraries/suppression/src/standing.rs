//! Whether a recipient may be mailed, from the rows of the table.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::entry::{Author, Purpose, Reason, State};
use crate::list::GLOBAL;
use crate::table::Found;

/// What somebody asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Question<'q> {
    /// The list. The global list counts too. `None`: every list.
    pub list: Option<&'q str>,
    /// What the mail is for.
    pub purpose: Purpose,
    /// The group or stream of the mail. `None`: an unsubscription from any group counts.
    pub scope: Option<&'q str>,
    /// The present, in seconds since 1970.
    pub now: i64,
}

/// One list, reason and scope of a recipient.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Entry {
    pub list: String,
    pub reason: Reason,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub scope: String,
    /// The mail that the entry stops. Absent: all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub purpose: Option<Purpose>,
    pub state: State,
    /// When the newest evidence happened, or the entry was added or lifted. Seconds since 1970.
    pub since: i64,
    /// When it ends by itself, seconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<i64>,
    /// Who added or lifted it.
    pub author: Author,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub provisional: bool,
}

impl Entry {
    fn of(found: &Found) -> Self {
        let Found { form, since, .. } = found;
        let hours = i64::from(form.hours);
        Self {
            list: form.list.to_string(),
            reason: form.reason,
            scope: form.scope.to_string(),
            purpose: form.purpose,
            state: form.state,
            since: *since,
            expires_at: (hours > 0).then(|| since + hours * 3600),
            author: form.author,
            provisional: form.provisional,
        }
    }

    /// Returns whether the entry stops the mail that the question is about.
    pub fn stops(&self, question: &Question<'_>) -> bool {
        let is_purpose = self.purpose.is_none_or(|purpose| purpose == question.purpose);
        let is_scope = self.scope.is_empty()
            || question.scope.is_none_or(|scope| scope == self.scope)
            || self.reason != Reason::Unsubscribe;
        self.state == State::Suppressed && is_purpose && is_scope
    }

    fn is_over(&self, now: i64) -> bool {
        self.expires_at.is_some_and(|at| at <= now)
    }
}

/// Returns the state of each entry of a recipient at `now` (seconds since 1970): what its newest record says. Of records
/// with the same time, a lift counts. With a list, only its entries and those of the global one.
pub fn entries(rows: &[Found], list: Option<&str>, now: i64) -> Vec<Entry> {
    let mut entries: BTreeMap<(&str, Reason, &str), Entry> = BTreeMap::new();
    let mut expired = Vec::new();
    for row in rows {
        let its_list = &*row.form.list;
        if list.is_some_and(|wanted| its_list != wanted && its_list != GLOBAL) {
            continue;
        }
        let (key, entry) = ((its_list, row.form.reason, &*row.form.scope), Entry::of(row));
        if entry.state == State::Suppressed && entry.is_over(now) {
            expired.push((key, Entry { state: State::Lifted, ..entry }));
            continue;
        }
        let rank = |entry: &Entry| (entry.since, entry.state == State::Lifted);
        match entries.get_mut(&key) {
            Some(known) if rank(known) >= rank(&entry) => {}
            Some(known) => *known = entry,
            None => drop(entries.insert(key, entry)),
        }
    }
    // A record that has expired must not hide another one that has not.
    for (key, entry) in expired {
        entries.entry(key).or_insert(entry);
    }
    entries.into_values().collect()
}

/// Returns the entries because of which the recipient must not be mailed. Empty: the mail may be sent.
pub fn stopping(rows: &[Found], question: &Question<'_>) -> Vec<Entry> {
    let mut entries = entries(rows, question.list, question.now);
    entries.retain(|entry| entry.stops(question));
    entries
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::table::Form;

    fn row(list: &str, reason: Reason, author: Author, state: State, since: i64) -> Found {
        let form = Form {
            list: Arc::from(list),
            scope: Arc::from(""),
            reason,
            author,
            state,
            purpose: None,
            hours: 0,
            provisional: false,
            incident: None,
        };
        Found { form, number: 0, since }
    }

    const QUESTION: Question<'static> =
        Question { list: Some("a"), purpose: Purpose::Marketing, scope: None, now: 1_000_000 };

    fn reasons(rows: &[Found], question: &Question<'_>) -> Vec<Reason> {
        stopping(rows, question).iter().map(|entry| entry.reason).collect()
    }

    use Author::{Event, Lift, Operator};
    use Reason::{Complaint, HardBounce, Unsubscribe};
    use State::{Lifted, Suppressed};

    #[test]
    fn the_newest_record_of_an_entry_counts_and_a_lift_wins_a_tie() {
        let bounced = |since| row("a", HardBounce, Event, Suppressed, since);
        let lifted = |since| row("a", HardBounce, Lift, Lifted, since);
        for (rows, expected) in [
            (vec![bounced(5)], true),
            (vec![bounced(5), lifted(4)], true),
            (vec![bounced(5), lifted(5)], false),
            (vec![lifted(6), bounced(5)], false),
            (vec![bounced(7), lifted(6)], true),
            (vec![bounced(5), lifted(6), row("a", HardBounce, Operator, Suppressed, 7)], true),
        ] {
            let reasons = reasons(&rows, &QUESTION);
            assert_eq!(reasons == [HardBounce], expected, "{rows:?}");
        }
    }

    #[test]
    fn reasons_do_not_merge_and_lists_do_not_mix() {
        let rows = [
            row("a", HardBounce, Event, Suppressed, 5),
            row("a", HardBounce, Lift, Lifted, 6),
            row("a", Complaint, Event, Suppressed, 3),
            row("b", Unsubscribe, Event, Suppressed, 3),
            row("global", Reason::Manual, Operator, Suppressed, 3),
        ];
        assert_eq!(reasons(&rows, &QUESTION), [Complaint, Reason::Manual]);
        let every = Question { list: None, ..QUESTION };
        assert_eq!(reasons(&rows, &every).len(), 3);
        let other = Question { list: Some("c"), ..QUESTION };
        assert_eq!(reasons(&rows, &other), [Reason::Manual]);
    }

    #[test]
    fn leaving_a_newsletter_does_not_stop_receipts() {
        let mut left = row("a", Unsubscribe, Event, Suppressed, 5);
        left.form.purpose = Some(Purpose::Marketing);
        left.form.scope = Arc::from("weekly");
        let rows = [left];
        assert_eq!(reasons(&rows, &QUESTION), [Unsubscribe]);
        let receipt = Question { purpose: Purpose::Transactional, ..QUESTION };
        assert_eq!(reasons(&rows, &receipt), []);
        let scoped = |scope| Question { scope: Some(scope), ..QUESTION };
        assert_eq!(reasons(&rows, &scoped("weekly")), [Unsubscribe]);
        assert_eq!(reasons(&rows, &scoped("daily")), []);
        let bounced = [row("a", HardBounce, Event, Suppressed, 5)];
        assert_eq!(reasons(&bounced, &receipt), [HardBounce], "all mail");
    }

    #[test]
    fn an_entry_ends_at_its_time_and_does_not_hide_another() {
        let mut soft = row("a", Reason::SoftBounces, Event, Suppressed, 100);
        soft.form.hours = 1;
        let at = |now| Question { now, ..QUESTION };
        let imported = row("a", Reason::SoftBounces, Operator, Suppressed, 50);
        for rows in [[soft.clone(), imported.clone()], [imported, soft.clone()]] {
            assert_eq!(reasons(&rows, &at(3_800)).len(), 1, "{rows:?}");
        }
        let lifted = row("a", Reason::SoftBounces, Lift, Lifted, 60);
        let imported = row("a", Reason::SoftBounces, Operator, Suppressed, 50);
        assert_eq!(reasons(&[soft.clone(), lifted, imported], &at(3_800)), []);
        assert_eq!(reasons(std::slice::from_ref(&soft), &at(3_699)).len(), 1);
        assert_eq!(reasons(&[soft], &at(3_700)).len(), 0);
    }
}
