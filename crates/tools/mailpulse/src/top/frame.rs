//! The lines of one frame.

use std::cmp::Reverse;
use std::fmt::Write;
use std::time::Instant;

use event::Kind;
use jiff::Timestamp;
use window::{ScopeRate, Width};

use super::lag::Lags;
use super::live::{KindCounts, Live, State as LiveState, WINDOW};
use super::members::{Member, Members, State};

/// The number of sources and incidents that are shown.
const MAX_LINES: usize = 20;

pub(super) fn lines(live: &Live, lags: &Lags, members: &Members, now: Timestamp) -> Vec<String> {
    let mut lines = vec![format!("mailpulse top  {now:.0}")];
    if let Some(reason) = &live.state.away {
        lines.push(format!("Kafka does not answer: {reason}; the numbers are old"));
    }
    services(&mut lines, members);
    lag(&mut lines, lags);
    freshness(&mut lines, &live.state, now);
    throughput(&mut lines, &live.state, Instant::now());
    rates(&mut lines, &live.state);
    incidents(&mut lines, &live.state);
    lines
}

fn services(lines: &mut Vec<String>, members: &Members) {
    lines.push(String::new());
    lines.push("services".to_owned());
    for (service, members) in members.by_service() {
        for member in members {
            let state = match &member.state {
                State::Ready => "ready".to_owned(),
                State::Unready(reason) => {
                    format!(
                        "not ready: {}",
                        reason.split_whitespace().collect::<Vec<_>>().join(" ")
                    )
                }
                State::Away => "no answer".to_owned(),
            };
            lines.push(format!("  {service:<10} {:<21} {state}{}", member.admin, counters(member)));
        }
    }
}

/// Returns the counters that are not 0.
fn counters(member: &Member) -> String {
    let sums = &member.sums;
    let mut text = String::new();
    let mut add = |count: f64, what: &str| {
        if count > 0.0 {
            // Writing to a string cannot fail.
            let _ = write!(text, ", {count} {what}");
        }
    };
    add(sums.requests, "requests");
    add(sums.requests - sums.accepted, "of them not accepted");
    add(sums.dead_letters, "dead letters");
    add(sums.held, "partitions held");
    text
}

fn lag(lines: &mut Vec<String>, lags: &Lags) {
    let known = lags.lags.iter().filter_map(|lag| Some(format!("{} {}", lag.name, lag.records?)));
    let known: Vec<String> = known.collect();
    let text = if known.is_empty() {
        "no stage has committed an offset".to_owned()
    } else {
        known.join("  ")
    };
    lines.push(String::new());
    lines.push(format!("lag (records)  {text}"));
    if let Some(problem) = &lags.problem {
        lines.push(format!("  not known: {problem}"));
    }
}

fn freshness(lines: &mut Vec<String>, state: &LiveState, now: Timestamp) {
    let text = match state.newest {
        Some(newest) => {
            #[expect(clippy::cast_precision_loss, reason = "rounded to tenths of a second")]
            let age = (now.as_microsecond() - newest).max(0) as f64 / 1e6;
            format!("the newest event of mail.events was received {age:.1} s ago")
        }
        None => format!("no event in mail.events in the last {WINDOW} s"),
    };
    lines.push(format!("freshness      {text}"));
}

fn throughput(lines: &mut Vec<String>, state: &LiveState, now: Instant) {
    let by_source = state.by_source(now);
    let sum_of = |counts: &KindCounts| counts.iter().sum::<u64>();
    let total: u64 = by_source.values().map(sum_of).sum();
    // Columns of kinds that do not occur are left out.
    let kinds: Vec<Kind> = Kind::ALL
        .into_iter()
        .filter(|kind| by_source.values().any(|counts| of_kind(counts, *kind) > 0))
        .collect();
    lines.push(String::new());
    let mut header = format!("{:<28} {:>10}", format!("events per second ({WINDOW} s)"), "all");
    for kind in &kinds {
        header += &format!(" {:>12}", kind.as_str());
    }
    lines.push(header);
    let mut sources: Vec<_> = by_source.into_iter().collect();
    sources.sort_by_key(|(name, counts)| (Reverse(sum_of(counts)), *name));
    for (source, counts) in sources.iter().take(MAX_LINES) {
        let mut line = format!("  {source:<26} {:>10}", per_second(sum_of(counts)));
        for kind in &kinds {
            line += &format!(" {:>12}", per_second(of_kind(counts, *kind)));
        }
        lines.push(line);
    }
    let more = sources.len().saturating_sub(MAX_LINES);
    let more = if more > 0 { format!(" (and {more} more sources)") } else { String::new() };
    lines.push(format!("  {:<26} {:>10}{more}", "all sources", per_second(total)));
}

fn of_kind(counts: &KindCounts, kind: Kind) -> u64 {
    counts.get(kind as usize).copied().unwrap_or_default()
}

#[expect(clippy::cast_precision_loss, reason = "printed with one digit")]
fn per_second(count: u64) -> String {
    format!("{:.1}", count as f64 / WINDOW as f64)
}

fn rates(lines: &mut Vec<String>, state: &LiveState) {
    lines.push(String::new());
    lines.push(format!(
        "{:<28} {:>6} {:>10} {:>9} {:>9} {:>9} {:>9} {:>9}",
        "rates", "window", "sent", "delivery", "bounce", "hard", "complaint", "open"
    ));
    if state.rates.is_empty() {
        lines.push("  no window of a source in mail.rates in the last 15 minutes".to_owned());
    }
    let mut sources: Vec<&String> = state.rates.keys().map(|(source, _)| source).collect();
    sources.dedup();
    let more = sources.len().saturating_sub(MAX_LINES);
    for ((source, width), rate) in &state.rates {
        let is_shown = sources.iter().take(MAX_LINES).any(|shown| *shown == source);
        if is_shown {
            lines.push(rate_line(source, *width, rate));
        }
    }
    if more > 0 {
        lines.push(format!("  and {more} more sources"));
    }
}

fn rate_line(source: &str, width: usize, rate: &ScopeRate) -> String {
    let percent = |rate: Option<f64>| {
        rate.map_or_else(|| "-".to_owned(), |rate| format!("{:.2} %", rate * 100.0))
    };
    let rates = &rate.window.rates;
    let width = Width::ALL.get(width).map_or("", |width| width.as_str());
    format!(
        "  {source:<26} {width:>6} {:>10} {:>9} {:>9} {:>9} {:>9} {:>9}",
        rates.sent,
        percent(rates.delivery),
        percent(rates.bounce),
        percent(rates.hard_bounce),
        percent(rates.complaint),
        percent(rates.open)
    )
}

fn incidents(lines: &mut Vec<String>, state: &LiveState) {
    let mut open: Vec<_> = state.incidents.values().collect();
    open.sort_by_key(|it| (Reverse((it.severity, it.opened_at)), it.id));
    lines.push(String::new());
    lines.push(format!("open incidents: {}", open.len()));
    for incident in open.iter().take(MAX_LINES) {
        let opened = Timestamp::from_microsecond(incident.opened_at).unwrap_or_default();
        let id = incident.id.to_string();
        // As in mail.incidents.
        let family = serde_json::to_value(incident.family).unwrap_or_default();
        let seen = if incident.people.acknowledged_by.is_some() { ", acknowledged" } else { "" };
        lines.push(format!(
            "  {:<16} {:<8} since {opened:.0}  {}, {}, {} open episodes{seen}",
            id.get(..16).unwrap_or(&id),
            incident.severity.as_str(),
            family.as_str().unwrap_or_default(),
            incident.sources.join(" "),
            incident.open_episodes
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::super::live::tests::event;
    use super::*;

    #[test]
    fn events_per_second_have_a_column_for_each_kind_that_occurs() {
        let (mut state, now) = (LiveState::default(), Instant::now());
        for _ in 0..30 {
            state.add_event(&event("shop", "delivered", 0), now);
        }
        for _ in 0..5 {
            state.add_event(&event("acme", "bounced", 0), now);
        }
        let mut lines = Vec::new();
        throughput(&mut lines, &state, now);
        let words: Vec<Vec<&str>> =
            lines.iter().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(words[1][5..], ["all", "delivered", "bounced"]);
        assert_eq!(
            words[2],
            ["sendgrid/shop", "3.0", "3.0", "0.0"],
            "the one with the most comes first"
        );
        assert_eq!(words[3], ["sendgrid/acme", "0.5", "0.0", "0.5"]);
        assert_eq!(words[4], ["all", "sources", "3.5"]);
    }

    #[test]
    fn what_is_absent_is_said() {
        let (state, mut lines) = (LiveState::default(), Vec::new());
        freshness(&mut lines, &state, Timestamp::UNIX_EPOCH);
        rates(&mut lines, &state);
        incidents(&mut lines, &state);
        let text = lines.join("\n");
        assert!(text.contains("no event in mail.events in the last 10 s"), "{text}");
        assert!(text.contains("no window of a source"), "{text}");
        assert!(text.contains("open incidents: 0"), "{text}");
    }
}
