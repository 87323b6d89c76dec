//! The output.

use std::borrow::Cow;
use std::io::{self, Write};

use alerting::{AlertState, EpisodeId};
use serde::Serialize;

use super::comparison::{Comparison, Difference};
use super::grounds::Grounds;
use crate::Outcome;
use crate::text::escape_line;

/// One line of the output in JSON. The field names are stable.
#[derive(Debug, Serialize)]
struct Line<'a> {
    result: &'static str,
    scope: &'a str,
    episode_id: Option<EpisodeId>,
    seq: Option<u32>,
    rule: Option<&'a str>,
    state: Option<AlertState>,
    /// Why the alert is unverifiable.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// The value in `mail.alerts`, as text because its bytes are compared.
    #[serde(skip_serializing_if = "Option::is_none")]
    recorded: Option<Cow<'a, str>>,
    /// The value that follows from `mail.panes`.
    #[serde(skip_serializing_if = "Option::is_none")]
    recomputed: Option<Cow<'a, str>>,
}

/// Prints every alert that is not equal, and how many there are.
pub(super) fn report(
    comparison: &Comparison,
    grounds: &Grounds,
    json: bool,
) -> anyhow::Result<Outcome> {
    let mut out = io::stdout().lock();
    let (mut different, mut unverifiable) = (0_u64, 0_u64);
    for difference in comparison.differences() {
        let doubt = grounds.doubt(&difference, comparison);
        *if doubt.is_some() { &mut unverifiable } else { &mut different } += 1;
        let Difference { scope, recorded, recorded_value, recomputed } = difference;
        let of_recomputed = recomputed.map(|it| it.transition());
        let transition = recorded.and_then(|it| it.transition.as_ref()).or(of_recomputed.as_ref());
        let text = |value: &'_ [u8]| String::from_utf8_lossy(value).into_owned().into();
        let is_different = doubt.is_none();
        let line = Line {
            result: if is_different { "different" } else { "unverifiable" },
            scope,
            episode_id: transition.map(|it| it.episode),
            seq: transition.map(|it| it.seq),
            rule: transition.map(|it| &*it.rule),
            state: transition.map(|it| it.state),
            reason: doubt,
            recorded: recorded_value.filter(|_| is_different).map(text),
            recomputed: recomputed.filter(|_| is_different).map(|it| text(&it.alert.value)),
        };
        if json {
            serde_json::to_writer(&mut out, &line)?;
            writeln!(out)?;
        } else {
            print(&mut out, &line)?;
        }
    }
    let mut error = io::stderr().lock();
    if different > 0 {
        writeln!(
            error,
            "a difference is a fault, unless other rules or another release were in use when the alert was published"
        )?;
    }
    writeln!(
        error,
        "{} equal, {different} different, {unverifiable} unverifiable",
        comparison.equal
    )?;
    Ok(if different > 0 { Outcome::Incomplete } else { Outcome::Done })
}

fn print(out: &mut impl Write, line: &Line<'_>) -> io::Result<()> {
    let Line { result, scope, episode_id, seq, rule, state, reason, recorded, recomputed } = line;
    let episode = episode_id.map_or_else(String::new, |it| it.to_string());
    write!(
        out,
        "{result}\t{}\t{}\t{}\t{}\t{}",
        episode.get(..16).unwrap_or("-"),
        seq.map_or_else(|| "-".to_owned(), |seq| seq.to_string()),
        state.map_or("-", AlertState::as_str),
        escape_line(rule.unwrap_or("-").as_bytes()),
        escape_line(scope.as_bytes()),
    )?;
    if let Some(reason) = reason {
        return writeln!(out, "\t{}", escape_line(reason.as_bytes()));
    }
    if recorded.is_some() && recorded == recomputed {
        return writeln!(
            out,
            "\n  mail.alerts has this alert at another place among those of the scope"
        );
    }
    let value = |value: &Option<Cow<'_, str>>| {
        value.as_ref().map_or_else(|| "no such alert".to_owned(), |it| escape_line(it.as_bytes()))
    };
    writeln!(out, "\n  mail.alerts has\t{}", value(recorded))?;
    writeln!(out, "  mail.panes gives\t{}", value(recomputed))
}
