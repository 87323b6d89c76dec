//! Asks ClickHouse why an incident is open: the most frequent answers of recipients' servers, and how
//! much is still being sent. The numbers of a page never depend on it.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use alerting::{Basis, Family, Incident, Measure, Share};
use clickhouse_http::{Client, Limits, SettingError};
use serde::Deserialize;
use service::ClickHouseSettings;
use window::{Metric, Scope};

use alerting::page::{Answer, Explanation, mask_address, mask_addresses};

/// The largest response, in bytes. Four rows have a few hundred.
const MAX_RESPONSE: usize = 64 << 10;

/// The regular expression of the SMTP code at the start of a server's answer.
const CODE: &str = "^[^0-9]{0,20}([245][0-9][0-9])[ -]";

/// The text of a server's answer: without the codes at its start, and without addresses and the ids of
/// single messages, so that equal answers are counted together.
const WORDING: &str = "substringUTF8(\
    replaceRegexpAll(replaceRegexpAll(replaceRegexpOne(bounce_diagnostic, \
    '^[^0-9A-Za-z]*[245][0-9][0-9][ -]+([245][.][0-9]{1,3}[.][0-9]{1,3} *)?', ''), \
    '[^ <>\"]+@[^ <>\",;:]+', '…'), \
    '[0-9A-Za-z-]*[0-9][0-9A-Za-z_-]{7,}[0-9A-Za-z._-]*', '…'), 1, 120)";

/// The counters of messages that were sent, by docs/metrics.md.
const SENT: &str =
    "['delivered', 'bounced_hard', 'bounced_soft', 'bounced_block', 'bounced_undetermined']";

/// Asks ClickHouse.
pub struct Explainer {
    client: Client,
    within: Duration,
    masks: bool,
}

/// Why there is no explanation.
#[derive(Debug, thiserror::Error)]
enum QueryError {
    #[error(transparent)]
    ClickHouse(#[from] clickhouse_http::Error),
    #[error("the response cannot be read: {0}")]
    Unreadable(#[from] serde_json::Error),
}

/// One row of the response.
#[derive(Deserialize)]
struct Row {
    /// 1: an answer of servers. 0: `count` messages were sent in the last five minutes. 2: in the hour
    /// before the incident, `count` of `volume` messages.
    part: u8,
    count: u64,
    volume: u64,
    status: String,
    class: String,
    wording: String,
    mailbox_provider: String,
    example: String,
}

impl Explainer {
    /// Waits at most `within` for an answer. If `masks`, examples have no complete addresses.
    ///
    /// # Errors
    /// Names the setting that cannot be used.
    pub fn new(
        settings: &ClickHouseSettings,
        within: Duration,
        masks: bool,
    ) -> Result<Self, SettingError> {
        let user_agent = concat!("mailpulse-notify/", env!("CARGO_PKG_VERSION"));
        // ClickHouse counts whole seconds.
        let seconds = within.as_secs().saturating_add(1).to_string();
        let query_settings = [
            ("default_format", "JSONEachRow"),
            ("output_format_json_quote_64bit_integers", "0"),
            ("max_execution_time", &seconds),
        ];
        let client = Client::new(settings, user_agent, &query_settings)?;
        Ok(Self { client, within, masks })
    }

    /// Returns what ClickHouse knows about the incident, or why it does not answer. Returns `None` if
    /// answers of servers do not explain the incident.
    pub async fn explain(&self, incident: &Incident) -> Option<Arc<Explanation>> {
        let query = Query::about(incident)?;
        let answer = self.ask(&query).await;
        let outcome = if answer.is_ok() { "found" } else { "unavailable" };
        metrics::counter!("mailpulse_notify_explanations_total", "outcome" => outcome).increment(1);
        let explanation = answer.unwrap_or_else(|error| {
            tracing::warn!(incident = %incident.id, %error, "incident is delivered without an explanation");
            Explanation::unavailable("ClickHouse did not answer in time")
        });
        Some(Arc::new(explanation))
    }

    async fn ask(&self, query: &Query) -> Result<Explanation, QueryError> {
        let limits = Limits { timeout: self.within, answer_bytes: MAX_RESPONSE };
        let body = self.client.query(&query.sql, &query.parameters, limits).await?;
        let mut explanation = Explanation::default();
        for line in body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            let row: Row = serde_json::from_slice(line)?;
            match row.part {
                0 => explanation.per_minute = Some(row.count / 5),
                2 => explanation.hour_before = Some((row.count, row.volume)),
                _ => explanation.answers.push(self.answer(row)),
            }
        }
        Ok(explanation)
    }

    fn answer(&self, row: Row) -> Answer {
        let Row { count, status, class, wording, mailbox_provider, example, .. } = row;
        let wording = if self.masks { mask_addresses(&wording) } else { wording };
        let example = if self.masks { mask_address(&example) } else { example };
        Answer { count, status, class, wording, mailbox_provider, example }
    }
}

/// A query and its parameters, which ClickHouse inserts as values.
#[derive(Debug, PartialEq, Eq)]
struct Query {
    sql: String,
    parameters: Vec<(&'static str, String)>,
}

impl Query {
    /// Returns the query about an incident, or `None` if answers of servers do not explain it.
    fn about(incident: &Incident) -> Option<Self> {
        let lead = &incident.lead;
        let (kinds, counters) = kinds_and_counters(incident)?;
        let mut parameters = vec![
            ("from", lead.from.to_string()),
            ("to", lead.to.to_string()),
            ("now", incident.at.to_string()),
        ];
        let scope = conditions(&lead.scope, &mut parameters);
        // The table is sorted by source, kind and occurred_at, so these limits come first. The time by
        // which an event counts is the earlier one of both times.
        let (limits, window) = match lead.basis {
            Basis::Cohort => (
                "occurred_at >= {from} AND occurred_at < {now} + 1h",
                "sent >= {from} AND sent < {to}",
            ),
            Basis::Arrival | Basis::Campaign | Basis::Gap => (
                "occurred_at >= {from} AND occurred_at < {to} + 1h AND received_at >= {from} \
                 AND received_at < {to} + 1h",
                "least(occurred_at, received_at) < {to}",
            ),
        };
        let (limits, window) = (with_times(limits), with_times(window));
        let last_minutes = with_times(
            "occurred_at >= {now} - 5m AND occurred_at < {now} AND received_at >= {now} - 5m",
        );
        let counted = counters.map_or(String::new(), |list| format!(" AND hasAny(counts, {list})"));
        let mut sql = format!(
            "SELECT * FROM (\
             SELECT toUInt8(1) AS part, count() AS count, toUInt64(0) AS volume, \
             trimBoth(concat(extract(bounce_diagnostic, '{CODE}'), ' ', bounce_status)) AS status, \
             toString(bounce_class) AS class, {WORDING} AS wording, \
             toString(mailbox_provider) AS mailbox_provider, any(recipient) AS example \
             FROM events WHERE {scope} AND kind IN ({kinds}) AND {limits} AND {window}{counted} \
             GROUP BY status, class, wording, mailbox_provider \
             ORDER BY count DESC, status, wording, mailbox_provider LIMIT 3) \
             UNION ALL SELECT toUInt8(0), count(), toUInt64(0), '', '', '', '', '' \
             FROM events WHERE {scope} AND kind IN ('delivered', 'bounced') AND {last_minutes}"
        );
        let of_sent = counters.filter(|_| incident.family == Family::Bounces);
        if let Some(counters) = of_sent.filter(|_| lead.basis == Basis::Arrival) {
            let hour = with_times(
                "occurred_at >= {from} - 1h AND occurred_at < {from} AND received_at >= {from} - 1h",
            );
            let counted =
                format!("countIf(hasAny(counts, {counters})), countIf(hasAny(counts, {SENT}))");
            let _ = write!(
                sql,
                " UNION ALL SELECT toUInt8(2), {counted}, '', '', '', '', '' FROM events WHERE {scope} \
                 AND kind IN ('delivered', 'bounced') AND {hour}"
            );
        }
        Some(Self { sql, parameters })
    }
}

/// Returns the kinds of the events that an incident is about, and the counters that they count for: both
/// as lists of SQL.
fn kinds_and_counters(incident: &Incident) -> Option<(&'static str, Option<&'static str>)> {
    let counters = match incident.lead.metric {
        Measure::Rate(Metric::Bounce) => {
            Some("['bounced_hard', 'bounced_soft', 'bounced_block', 'bounced_undetermined']")
        }
        Measure::Rate(Metric::HardBounce) => Some("['bounced_hard']"),
        Measure::Rate(Metric::BlockBounce) => Some("['bounced_block']"),
        Measure::Rate(Metric::SoftBounce) => Some("['bounced_soft']"),
        Measure::Share(Share::AuthRefused) => Some("['auth_refused']"),
        Measure::Share(Share::Throttled) => Some("['throttled']"),
        Measure::Share(Share::Listed) => Some("['listed']"),
        Measure::Share(Share::Unclassified) => Some("['unclassified']"),
        Measure::Share(Share::Suppressed) => Some("['suppressed']"),
        _ => None,
    };
    let kinds = match incident.family {
        Family::Bounces => "'bounced'",
        Family::Blocks => "'bounced', 'deferred'",
        Family::Complaints => "'complained'",
        Family::ListQuality => "'bounced', 'dropped'",
        Family::Engagement | Family::Silence => return None,
    };
    Some((kinds, counters))
}

/// Returns the conditions for the events of a scope, and adds the parameters that they use.
fn conditions(scope: &Scope, parameters: &mut Vec<(&'static str, String)>) -> String {
    let mut conditions = Vec::new();
    let mut add = |name: &'static str, value: &str| {
        let column = match name {
            // Where the address is not known, the scope has the stream.
            "sending_ip" => "if(sending_ip = '', stream, sending_ip)",
            other => other,
        };
        conditions.push(format!("{column} = {{{name}:String}}"));
        parameters.push((name, value.to_owned()));
    };
    if let Some((provider, source)) = scope.of_source() {
        add("source", source);
        add("provider", provider.as_str());
    }
    for (name, value) in scope.values() {
        add(name, value);
    }
    conditions.join(" AND ")
}

/// Replaces `{from}`, `{to}` and `{now}` by times, and `1h` and `5m` by intervals.
fn with_times(text: &str) -> String {
    let time = |name: &str| format!("fromUnixTimestamp64Micro({{{name}:Int64}}, 'UTC')");
    text.replace("{from}", &time("from"))
        .replace("{to}", &time("to"))
        .replace("{now}", &time("now"))
        .replace("1h", "INTERVAL 1 HOUR")
        .replace("5m", "INTERVAL 5 MINUTE")
}

#[cfg(test)]
mod tests {
    use alerting::Change;

    use super::*;
    use crate::sample;

    #[test]
    fn values_are_parameters_and_never_part_of_the_statement() {
        let mut incident = sample::received(Change::Opened, 1, "x' OR 1=1 --").incident;
        let query = Query::about(&incident).unwrap();
        assert!(!query.sql.contains("OR 1=1"), "{}", query.sql);
        assert!(query.parameters.contains(&("source", "x' OR 1=1 --".to_owned())));
        assert!(query.parameters.contains(&("to", sample::START.to_string())));
        incident.family = Family::Silence;
        assert_eq!(Query::about(&incident), None);
    }
}
