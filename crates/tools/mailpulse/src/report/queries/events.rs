//! What no rollup has: it is counted from the events of the period.

use alerting::page::mask_text_about;
use clickhouse::Row;
use serde::Deserialize;
use window::BOUNCES;

use super::{Number, Source};
use crate::database::literal;
use crate::report::data::{BounceReason, KindLine, Processing};
use crate::text::truncate_line;

/// How many reasons of bounces a report has.
const REASONS: usize = 15;
/// The longest answer of a server in a report, in characters.
const EXAMPLE: usize = 200;

/// What the events of the period say.
#[derive(Row, Deserialize)]
pub(super) struct Facts {
    events: u64,
    pub(super) recipients: u64,
    avg: f64,
    quantiles: Vec<f64>,
    max: f64,
}

#[derive(Row, Deserialize)]
struct ReasonRow {
    permanence: String,
    class: String,
    side: String,
    status: String,
    messages: u64,
    example: String,
    about: String,
}

impl Source<'_> {
    pub(super) fn kinds(self) -> anyhow::Result<Vec<KindLine>> {
        let sql = format!(
            "SELECT toString(kind) AS name, count() AS number FROM events WHERE {} GROUP BY name \
             ORDER BY number DESC, name",
            self.period.of_events()
        );
        let rows: Vec<Number> = self.rows(&sql)?;
        Ok(rows.into_iter().map(|row| KindLine { kind: row.name, events: row.number }).collect())
    }

    pub(super) fn facts(self) -> anyhow::Result<Facts> {
        let seconds = "dateDiff('millisecond', received_at, archived_at) / 1000";
        let sql = format!(
            "SELECT count() AS events, \
             uniqExactIf(sipHash64(recipient), recipient != '') AS recipients, \
             ifNotFinite(avg({seconds}), 0) AS avg, \
             arrayMap(it -> ifNotFinite(toFloat64(it), 0), quantilesTDigest(0.5, 0.95)({seconds})) AS quantiles, \
             toFloat64(max({seconds})) AS max \
             FROM events WHERE {}",
            self.period.of_events()
        );
        let none = Facts { events: 0, recipients: 0, avg: 0.0, quantiles: Vec::new(), max: 0.0 };
        Ok(self.first(&sql)?.unwrap_or(none))
    }

    pub(super) fn bounce_reasons(self) -> anyhow::Result<Vec<BounceReason>> {
        let counters: Vec<_> = BOUNCES.iter().map(|counter| literal(counter.as_str())).collect();
        let sql = format!(
            "SELECT toString(bounce_permanence) AS permanence, toString(bounce_class) AS class, \
             toString(bounce_side) AS side, toString(bounce_status) AS status, count() AS messages, \
             argMin(substringUTF8(bounce_diagnostic, 1, {EXAMPLE}), event_id) AS example, \
             argMin(recipient, event_id) AS about \
             FROM events WHERE kind = 'bounced' AND {} AND hasAny(counts, [{}]) \
             GROUP BY permanence, class, side, status \
             ORDER BY messages DESC, permanence, class, side, status LIMIT {REASONS}",
            self.period.of_events(),
            counters.join(", ")
        );
        let rows: Vec<ReasonRow> = self.rows(&sql)?;
        let reason = |row: ReasonRow| BounceReason {
            permanence: row.permanence,
            class: row.class,
            side: row.side,
            status: row.status,
            messages: row.messages,
            // A report is made for being passed on.
            example: mask_text_about(&truncate_line(row.example.as_bytes(), EXAMPLE), &row.about),
        };
        Ok(rows.into_iter().map(reason).collect())
    }
}

impl Facts {
    pub(super) fn processing(&self) -> Option<Processing> {
        let quantile = |index| self.quantiles.get(index).copied().unwrap_or_default();
        (self.events > 0).then(|| Processing {
            avg: self.avg,
            p50: quantile(0),
            p95: quantile(1),
            max: self.max,
        })
    }
}
