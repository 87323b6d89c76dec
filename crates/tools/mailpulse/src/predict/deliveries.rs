//! The deliveries to recipients whose time zone is known, by slots of their local day.

use clickhouse::Row;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use predict::{SLOTS, Slot, SlotCount, SlotCounts};
use serde::Deserialize;

use super::mails::{self, HISTORY, IS_KEPT, NEVER, Scope, before, sql_time};
use crate::database::Database;

/// An open within this time of the delivery counts. A delivery counts when this time has passed.
pub(super) const OPENED_WITHIN: SignedDuration = SignedDuration::from_hours(2);

/// The most deliveries of one recipient that are read: the newest. It bounds the memory of a page of recipients.
const MOST_DELIVERIES: usize = 1_000;

#[derive(Debug, Row, Deserialize)]
struct DeliveriesRow {
    recipient: String,
    zone: String,
    /// Unix seconds, and 1 if it was opened in time. The newest first.
    deliveries: Vec<(u32, u8)>,
}

/// The deliveries to one recipient.
#[derive(Debug)]
pub(super) struct Deliveries {
    pub(super) recipient: String,
    pub(super) zone: String,
    /// In the order of time.
    deliveries: Vec<Delivery>,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Delivery {
    /// Unix seconds.
    at: i64,
    pub(super) slot: Slot,
    pub(super) is_opened: bool,
}

/// Which deliveries are read.
pub(super) struct Selection<'a> {
    pub(super) source: &'a str,
    /// A query of `recipient` and `zone`.
    pub(super) zones: String,
    /// A condition on recipients, which begins with AND, so that not the mail of all is read. Empty: none.
    pub(super) recipients: String,
    pub(super) from: Timestamp,
    /// The end. Deliveries of the last two hours before it do not count.
    pub(super) to: Timestamp,
}

impl Selection<'_> {
    /// Reads the deliveries, in the order of recipients.
    ///
    /// # Errors
    /// If ClickHouse cannot be reached, or has no such tables.
    pub(super) fn read(&self, database: &Database) -> anyhow::Result<Vec<Deliveries>> {
        let Self { source, zones, recipients, from, to } = self;
        let rows: Vec<DeliveriesRow> = database.long_rows(&format!(
            "SELECT life.recipient AS recipient, toString(zones.zone) AS zone, life.deliveries AS deliveries FROM \
             (SELECT recipient, arraySlice(arrayReverseSort(groupArray((toUInt32(toUnixTimestamp(delivered_at)), \
             toUInt8(first_opened_at < delivered_at + toIntervalHour({hours}) AND first_opened_at < {NEVER})))), \
             1, {MOST_DELIVERIES}) AS deliveries \
             FROM message_life FINAL WHERE {of_source}{recipients} AND {IS_KEPT} \
             AND delivered_at >= {from} AND delivered_at < {to} \
             GROUP BY recipient) AS life \
             INNER JOIN ({zones}) AS zones ON zones.recipient = life.recipient \
             ORDER BY recipient SETTINGS {bounds}",
            hours = OPENED_WITHIN.as_hours(),
            of_source = Scope::Source(source).condition(),
            from = sql_time(*from),
            to = sql_time(before(*to, OPENED_WITHIN)),
            bounds = mails::BOUNDS,
        ))?;
        Ok(rows.into_iter().filter_map(Deliveries::new).collect())
    }
}

/// Returns where the time begins of which deliveries are read for predictions at a time.
pub(super) fn beginning(at: Timestamp) -> Timestamp {
    before(at, HISTORY)
}

impl Deliveries {
    /// Returns `None` if the zone is not in the database of time zones.
    fn new(row: DeliveriesRow) -> Option<Self> {
        let zone = TimeZone::get(&row.zone).ok()?;
        let deliveries = row.deliveries.iter().rev().filter_map(|&(at, opened)| {
            let at = i64::from(at);
            let local = zone.to_datetime(Timestamp::from_second(at).ok()?);
            let slot = Slot::of_hour(local.hour().try_into().ok()?)?;
            Some(Delivery { at, slot, is_opened: opened == 1 })
        });
        let deliveries = deliveries.collect();
        Some(Self { recipient: row.recipient, zone: row.zone, deliveries })
    }

    /// Returns the counts of what was known at a time.
    pub(super) fn counts(&self, at: Timestamp) -> SlotCounts {
        let end = before(at, OPENED_WITHIN).as_second();
        let mut numbers = [(0, 0); SLOTS];
        for delivery in self.deliveries.iter().take_while(|delivery| delivery.at < end) {
            let (delivered, opened) = &mut numbers[delivery.slot.index()];
            *delivered += 1;
            *opened += u32::from(delivery.is_opened);
        }
        // No more mails can be opened than delivered, so that no count becomes the default.
        SlotCounts(
            numbers
                .map(|(delivered, opened)| SlotCount::new(delivered, opened).unwrap_or_default()),
        )
    }

    /// Returns the first delivery at a time or later.
    pub(super) fn first_from(&self, at: Timestamp) -> Option<Delivery> {
        self.deliveries.iter().find(|delivery| delivery.at >= at.as_second()).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deliveries(zone: &str, deliveries: &[(u32, u8)]) -> Option<Deliveries> {
        let (recipient, zone) = ("ada@example.com".to_owned(), zone.to_owned());
        Deliveries::new(DeliveriesRow { recipient, zone, deliveries: deliveries.to_vec() })
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn slots_are_those_of_the_local_day_also_when_clocks_change() {
        // Both are at 06:30 UTC, before and after the end of summer time.
        let times = ["2026-10-26T06:30:00Z", "2026-10-24T06:30:00Z"];
        let times = times.map(|time| (at(time).as_second().try_into().unwrap(), 1));
        let of = |zone: &str| {
            let all = deliveries(zone, &times).unwrap().deliveries;
            all.into_iter().map(|it| it.slot.first_hour()).collect::<Vec<_>>()
        };
        assert_eq!(of("Europe/Berlin"), [8, 6]);
        assert_eq!(of("Asia/Kolkata"), [12, 12]);
        assert!(deliveries("Mars/Olympus", &times).is_none());
    }

    #[test]
    fn what_came_later_is_not_in_the_counts() {
        let noon = at("2026-10-26T12:00:00Z");
        let second = |hours: i64| (noon.as_second() + hours * 3600).try_into().unwrap();
        let all =
            deliveries("UTC", &[(second(5), 1), (second(-1), 1), (second(-3), 1), (second(-4), 0)]);
        let all = all.unwrap();
        let counts = all.counts(noon).0;
        // 08:00 and 09:00 are one slot. At 11:00 it was not known yet whether the mail is opened.
        assert_eq!((counts[4].delivered(), counts[4].opened()), (2, 1));
        assert_eq!(counts.iter().map(|count| count.delivered()).sum::<u32>(), 2);
        let first = all.first_from(noon).unwrap();
        assert_eq!((first.slot.first_hour(), first.is_opened), (16, true));
    }
}
