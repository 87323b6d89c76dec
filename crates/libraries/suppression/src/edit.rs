//! What operators add and lift.

use std::borrow::Cow;

use crate::entry::{EntryValue, name};
use crate::standing;
use crate::table::Found;
use crate::{Author, EntryKey, Purpose, Reason, RecipientDigest, State};

const MICROS: i64 = 1_000_000;

/// An entry that an operator adds.
#[derive(Debug, Clone)]
pub struct Addition {
    pub list: String,
    pub reason: Reason,
    pub scope: String,
    pub purpose: Option<Purpose>,
    /// When it ends by itself, seconds since 1970.
    pub expires_at: Option<i64>,
    pub note: Option<String>,
}

/// What an operator lifts. `None` matches everything.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    pub list: Option<String>,
    pub reason: Option<Reason>,
    pub scope: Option<String>,
}

/// A record to publish.
pub type Edit = (EntryKey<'static>, EntryValue);

/// Returns the record that adds an entry. Its time is `at` (seconds since 1970), or later than a lift that is there, so
/// that it counts.
pub fn add(
    recipient: RecipientDigest,
    rows: &[Found],
    addition: &Addition,
    at: i64,
    who: &str,
) -> Edit {
    let key = EntryKey {
        list: Cow::Owned(name(&addition.list).into_owned()),
        recipient,
        reason: addition.reason,
        scope: Cow::Owned(name(&addition.scope).into_owned()),
        author: Author::Operator,
    };
    let lifts = rows.iter().filter(|row| {
        let form = &row.form;
        form.state == State::Lifted
            && (form.reason, &*form.list, &*form.scope) == (key.reason, &*key.list, &*key.scope)
    });
    let since = lifts.map(|row| row.since + 1).fold(at, i64::max);
    let mut value = EntryValue::new(&key, State::Suppressed, since * MICROS);
    value.purpose = addition.purpose;
    value.expires_at = addition.expires_at.map(|at| at.saturating_mul(MICROS));
    value.evidence.note = addition.note.as_deref().map(|note| name(note).into_owned());
    value.evidence.who = Some(who.to_owned());
    (key, value)
}

/// Returns the records that lift the selected entries that suppress at `now` (seconds since 1970).
pub fn lift(
    recipient: RecipientDigest,
    rows: &[Found],
    selection: &Selection,
    note: Option<&str>,
    now: i64,
    who: &str,
) -> Vec<Edit> {
    let is_selected = |entry: &standing::Entry| {
        entry.state == State::Suppressed
            && selection.list.as_ref().is_none_or(|list| *list == entry.list)
            && selection.reason.is_none_or(|reason| reason == entry.reason)
            && selection.scope.as_ref().is_none_or(|scope| *scope == entry.scope)
    };
    let entries = standing::entries(rows, None, now).into_iter().filter(is_selected);
    let edits = entries.map(|entry| {
        let key = EntryKey {
            list: Cow::Owned(entry.list),
            recipient,
            reason: entry.reason,
            scope: Cow::Owned(entry.scope),
            author: Author::Lift,
        };
        let mut value = EntryValue::new(&key, State::Lifted, now.max(entry.since) * MICROS);
        value.evidence.note = note.map(|note| name(note).into_owned());
        value.evidence.who = Some(who.to_owned());
        (key, value)
    });
    edits.collect()
}

#[cfg(test)]
mod tests {
    use crate::entry::EntryFacts;
    use crate::table::Table;

    use super::*;
    use crate::standing::Question;

    const ADA: RecipientDigest = RecipientDigest([1; 16]);

    fn addition(reason: Reason) -> Addition {
        Addition {
            list: "ses/news".to_owned(),
            reason,
            scope: String::new(),
            purpose: None,
            expires_at: None,
            note: Some("asked by phone".to_owned()),
        }
    }

    fn is_suppressed(table: &Table) -> bool {
        let question = Question { list: None, purpose: Purpose::Marketing, scope: None, now: 100 };
        !standing::stopping(&table.of(ADA), &question).is_empty()
    }

    #[test]
    fn every_edit_counts_even_within_one_second() {
        let table = Table::default();
        let put = |(key, value): &Edit| table.apply(key, Some(EntryFacts::from(value)));
        for _ in 0..3 {
            put(&add(ADA, &table.of(ADA), &addition(Reason::Manual), 100, "ops"));
            assert!(is_suppressed(&table));
            let lifts = lift(ADA, &table.of(ADA), &Selection::default(), None, 100, "ops");
            assert_eq!(lifts.len(), 1);
            put(&lifts[0]);
            assert!(!is_suppressed(&table));
            assert_eq!(lift(ADA, &table.of(ADA), &Selection::default(), None, 100, "ops"), []);
        }
    }

    #[test]
    fn only_what_is_selected_is_lifted() {
        let table = Table::default();
        for reason in [Reason::Manual, Reason::Complaint] {
            let (key, value) = add(ADA, &table.of(ADA), &addition(reason), 90, "ops");
            table.apply(&key, Some(EntryFacts::from(&value)));
        }
        let lifted = |selection: &Selection| {
            let lifts = lift(ADA, &table.of(ADA), selection, None, 100, "ops");
            lifts.iter().map(|(key, _)| key.reason).collect::<Vec<_>>()
        };
        let of = |reason| Selection { reason: Some(reason), ..Selection::default() };
        assert_eq!(lifted(&of(Reason::Complaint)), [Reason::Complaint]);
        assert_eq!(lifted(&of(Reason::HardBounce)), []);
        let elsewhere = Selection { list: Some("other".to_owned()), ..Selection::default() };
        assert_eq!(lifted(&elsewhere), []);
        assert_eq!(lifted(&Selection::default()).len(), 2);
    }
}
