//! The labelled lines of a page.

use event::Dimension;
use jiff::tz::TimeZone;
use window::{Metric, Scope, ScopeKind};

use super::text::{clean, clip, span, time};
use super::{Explanation, PageSettings};
use crate::wording::{count, percent, provider_name};
use crate::{
    Alert, Cause, Change, Family, Incident, IncidentGroup, IncidentState, Measure, ResolveReason,
    Share,
};

/// How much of everything a page shows, in numbers and characters.
#[derive(Debug, Clone, Copy)]
pub(super) struct Detail {
    pub(super) summary: usize,
    pub(super) name: usize,
    wording: usize,
    answers: usize,
    others: usize,
    url: usize,
}

impl Detail {
    /// The most first. The last level fits for every incident and explanation.
    pub(super) const LEVELS: [Self; 4] = [
        Self { summary: 300, name: 60, wording: 90, answers: 3, others: 5, url: 200 },
        Self { summary: 240, name: 40, wording: 60, answers: 3, others: 3, url: 160 },
        Self { summary: 200, name: 24, wording: 40, answers: 2, others: 1, url: 120 },
        Self { summary: 160, name: 16, wording: 20, answers: 1, others: 0, url: 100 },
    ];
}

pub(super) fn lines(
    incident: &Incident,
    explanation: Option<&Explanation>,
    settings: &PageSettings,
    detail: Detail,
) -> Vec<(String, String)> {
    let is_over = incident.state == IncidentState::Resolved;
    let mut lines = Vec::new();
    let mut add = |label: &str, line: String| lines.push((label.to_owned(), line));
    if let Some(merged_into) = incident.merged_into {
        add("Merged", format!("other sources have the same problem: see incident {merged_into}."));
    }
    if !incident.held_back.is_empty() {
        add("Held back", held_back(incident, detail));
    }
    if let Some(cause) = cause(incident, detail).filter(|_| incident.merged_into.is_none()) {
        add("Cause", cause);
    }
    if let Some(explanation) = explanation.filter(|_| !is_over) {
        for (index, answer) in answers(explanation, detail).into_iter().enumerate() {
            add(if index == 0 { "Servers" } else { "" }, answer);
        }
    }
    if is_over {
        add("Lasted", lasted(incident, settings));
    } else {
        add("Since", since(incident, explanation, settings));
        add("Do", instructions(incident, settings, detail));
    }
    add("Look", look(incident, settings, detail));
    add("Also", also(incident, detail));
    lines
}

fn held_back(incident: &Incident, detail: Detail) -> String {
    let all: u64 = incident.held_back.values().map(|count| u64::from(*count)).sum();
    let rules = incident.held_back.iter().take(detail.others.max(1));
    let rules = rules.map(|(rule, count)| format!("{} {count}", clean(rule, detail.name)));
    let rules = join_with_rest(rules, incident.held_back.len());
    format!("{all} notifications of the last hour, by rule: {rules}.")
}

fn cause(incident: &Incident, detail: Detail) -> Option<String> {
    match &incident.group {
        IncidentGroup::Ours => {
            let advice = "probably ours: check certificate, DNS, Kafka and the ingress";
            return Some(format!("the same at all sources at once, so {advice}."));
        }
        IncidentGroup::MailboxProvider { .. } | IncidentGroup::Provider { .. } => {
            let sources = incident.sources.iter().take(detail.others.max(1));
            let sources = sources.map(|source| clean(source, detail.name));
            let all = usize::try_from(incident.source_count).unwrap_or(usize::MAX);
            return (all > 0).then(|| format!("the same at {}.", join_with_rest(sources, all)));
        }
        IncidentGroup::Source { .. } | IncidentGroup::Tenant { .. } => {}
    }
    let Some(cause) = &incident.cause else {
        let is_whole = incident.lead.scope == incident.lead.scope.whole();
        let is_known = is_whole && !incident.others.is_empty();
        return is_known.then(|| "no campaign or other group has most of it.".to_owned());
    };
    let of = cause.numerator.saturating_add(cause.rest_numerator);
    // Of another moment than the first line, whose counts can be others.
    let details = if cause.to == 0 || cause.to == incident.lead.to {
        let parts = parts(incident, cause, detail);
        if parts.is_empty() { parts } else { format!(" ({parts})") }
    } else {
        format!(" at {}", time(cause.to, incident.at, &TimeZone::UTC))
    };
    let name = name(&cause.scope, detail);
    let counts = format!("{} of the {}{details}", count(cause.numerator), count(of));
    let whole = subject(&cause.scope.whole(), detail);
    let rest = match cause.rest_volume {
        0 => String::new(),
        volume => {
            let rate = percent(cause.rest_numerator.min(volume) as f64 / volume as f64);
            format!(" Everything else of {whole} is at {rate} of {}.", count(volume))
        }
    };
    Some(format!("{name}: {counts}.{rest}"))
}

/// Returns how the numerator of the source is spread in the other dimension: `gmail 61, outlook 15`.
fn parts(incident: &Incident, cause: &Cause, detail: Detail) -> String {
    let dimension = match cause.scope.kind() {
        ScopeKind::MailboxProvider | ScopeKind::TenantMailboxProvider => Dimension::Campaign,
        _ => Dimension::MailboxProvider,
    };
    let alerts = incident.others.iter().map(|line| &line.alert);
    let lead = &incident.lead;
    let mut parts: Vec<(u64, String)> = alerts
        .filter(|alert| alert.metric == lead.metric && alert.scope.whole() == lead.scope.whole())
        .filter(|alert| alert.scope.kind().dimensions() == [dimension])
        .filter_map(|alert| {
            let (numerator, _) = alert.counts_in(&lead.width)?;
            Some((numerator, clean(alert.scope.value(dimension)?, detail.name)))
        })
        .collect();
    parts.sort_by(|left, right| right.cmp(left));
    let parts = parts.iter().take(3).map(|(part, name)| format!("{name} {}", count(*part)));
    parts.collect::<Vec<_>>().join(", ")
}

fn answers(explanation: &Explanation, detail: Detail) -> Vec<String> {
    if let Some(why) = &explanation.unavailable {
        return vec![format!("not known: {}.", clean(why, detail.wording))];
    }
    let answers = explanation.answers.iter().take(detail.answers);
    answers
        .map(|answer| {
            let mut text = format!("{}×", count(answer.count));
            let class = Some(&answer.class).filter(|_| answer.status.is_empty());
            for part in [Some(&answer.status), class].into_iter().flatten() {
                if !part.is_empty() {
                    text = format!("{text} {}", clean(part, detail.name));
                }
            }
            if !answer.wording.is_empty() {
                text = format!("{text} \"{}\"", clean(&answer.wording, detail.wording));
            }
            let example = [&answer.example, &answer.mailbox_provider];
            if let Some(example) = example.into_iter().find(|example| !example.is_empty()) {
                text = format!("{text}  {}", clean(example, detail.name));
            }
            text
        })
        .collect()
}

fn since(
    incident: &Incident,
    explanation: Option<&Explanation>,
    settings: &PageSettings,
) -> String {
    let Incident { opened_at, at, .. } = *incident;
    let ago = span(at.saturating_sub(opened_at));
    let mut text = format!("{}, {ago} ago", time(opened_at, at, &settings.zone));
    let before = explanation.and_then(|known| known.hour_before).filter(|(_, volume)| *volume > 0);
    if let Some((numerator, volume)) = before {
        let rate = percent(numerator as f64 / volume as f64);
        text = format!("{text}; the hour before: {rate} of {}", count(volume));
    }
    if incident.state == IncidentState::Stale {
        return format!("{text}. Too little mail since then to judge it.");
    }
    match explanation.and_then(|known| known.per_minute) {
        Some(0) => format!("{text}. Nothing is sent any more."),
        Some(rate) => format!("{text}. Still sending, about {} a minute.", count(rate)),
        None => format!("{text}."),
    }
}

fn lasted(incident: &Incident, settings: &PageSettings) -> String {
    let Incident { opened_at, at, .. } = *incident;
    let (from, to) = (time(opened_at, at, &settings.zone), time(at, at, &settings.zone));
    let why = match incident.reason {
        Some(ResolveReason::Recovered) => ": recovered",
        Some(ResolveReason::NoTraffic) => ": no mail for an hour",
        Some(ResolveReason::RuleRemoved) => ": the rule was removed",
        Some(ResolveReason::Closed) => ": closed",
        None => "",
    };
    let by = match &incident.people.closed_by {
        Some(by) => format!(" by {}", clean(by, 40)),
        None => String::new(),
    };
    format!("{} from {from} to {to}{why}{by}.", span(at.saturating_sub(opened_at)))
}

fn instructions(incident: &Incident, settings: &PageSettings, detail: Detail) -> String {
    let lead = &incident.lead;
    let scope = incident.cause.as_ref().map_or(&lead.scope, |cause| &cause.scope);
    let campaign = scope.value(Dimension::Campaign).map(|campaign| clean(campaign, detail.name));
    let mailbox_provider = match &incident.group {
        IncidentGroup::MailboxProvider { of } => Some(of.as_str()),
        _ => scope.value(Dimension::MailboxProvider),
    };
    let mailbox_provider = mailbox_provider.map(|of| clean(of, detail.name));
    let esp = scope.provider().map_or(String::new(), |of| format!(" at {}", provider_name(of)));
    let of_metric = advice(lead.metric, campaign.as_deref(), mailbox_provider.as_deref());
    let of_family = || match (incident.family, campaign, mailbox_provider) {
        (Family::Bounces | Family::Complaints, Some(campaign), _) => {
            format!("stop {campaign}{esp} now")
        }
        (Family::Bounces, None, _) => format!("find and stop the newest list{esp}"),
        (Family::Complaints, None, _) => format!("find and stop the newest campaign{esp}"),
        (Family::Blocks, _, Some(to)) => format!("slow down mail to {to}, do not retry by hand"),
        (Family::Blocks, _, None) => format!("slow down{esp}, do not retry by hand"),
        (Family::Engagement, _, Some(at)) => format!("send a test to {at} and look into spam"),
        (Family::Engagement, _, None) => "send a test and look into spam".to_owned(),
        (Family::Silence, _, _) => format!("check that webhooks are switched on{esp}"),
        (Family::ListQuality, _, _) => "clean the list before the next send".to_owned(),
    };
    let advice = of_metric.unwrap_or_else(of_family);
    match runbook(lead, settings) {
        Some(url) => format!("{advice}; then {}", clip(&url, detail.url)),
        None => format!("{advice}."),
    }
}

/// Returns what to do first about a metric that needs something else than the rest of its family.
fn advice(
    metric: Measure,
    campaign: Option<&str>,
    mailbox_provider: Option<&str>,
) -> Option<String> {
    let at = mailbox_provider.unwrap_or("the mailbox providers");
    Some(match metric {
        Measure::Share(Share::AuthRefused) => {
            "check SPF, DKIM and DMARC of the sending domain".to_owned()
        }
        Measure::Share(Share::Listed) => {
            format!("find the block list in the answers of {at}, and ask it for removal")
        }
        Measure::Share(Share::Unclassified) => {
            "read the answers that have no class: they can be blocks".to_owned()
        }
        Measure::Rate(Metric::Unsubscribe) => {
            format!(
                "check to whom {} goes, and how often",
                campaign.unwrap_or("the newest campaign")
            )
        }
        Measure::Rate(Metric::Delivery) => format!("read why {at} refuses mail, and slow down"),
        _ => return None,
    })
}

/// Returns the link to the instructions of a rule.
fn runbook(lead: &Alert, settings: &PageSettings) -> Option<String> {
    let (base, rule) = (settings.runbook_base.trim_end_matches('/'), lead.rule.replace('_', "-"));
    match lead.runbook.as_str() {
        url if url.contains("://") => Some(clean(url, usize::MAX)),
        "" if base.is_empty() => None,
        "" => Some(format!("{base}/{rule}")),
        path if base.is_empty() => Some(clean(path, usize::MAX)),
        path => Some(format!("{base}/{}", clean(path.trim_start_matches('/'), usize::MAX))),
    }
}

fn look(incident: &Incident, settings: &PageSettings, detail: Detail) -> String {
    let verify = format!("verify: mailpulse alerts verify {}", incident.lead.episode_id);
    if settings.dashboard_url.is_empty() {
        return verify;
    }
    format!("{}{}  {verify}", clip(&settings.dashboard_url, detail.url), incident.id)
}

fn also(incident: &Incident, detail: Detail) -> String {
    let mut text = format!("incident {}", incident.id);
    if incident.page > 0 {
        text = format!("{text}, notification {}", incident.page);
    }
    let people = &incident.people;
    for (what, who) in
        [("acknowledged by", &people.acknowledged_by), ("assigned to", &people.assigned_to)]
    {
        if let Some(who) = who {
            text = format!("{text}, {what} {}", clean(who, detail.name));
        }
    }
    let all = incident.open_episodes.saturating_sub(1);
    if all == 0 || incident.change == Change::Resolved {
        return format!("{text}.");
    }
    let mut scopes = Vec::new();
    for line in &incident.others {
        let scope = &line.alert.scope;
        let is_cause = incident.cause.as_ref().is_some_and(|cause| cause.scope == *scope);
        let name = name(scope, detail);
        if !is_cause && *scope != incident.lead.scope && !scopes.contains(&name) {
            scopes.push(name);
        }
    }
    let shown: Vec<_> = scopes.into_iter().take(detail.others).collect();
    let shown = if shown.is_empty() { String::new() } else { format!(": {}", shown.join(", ")) };
    let alerts = if all == 1 { "1 more alert".to_owned() } else { format!("{all} more alerts") };
    format!("{alerts} without pages of their own{shown}; {text}.")
}

/// Returns a list that ends with how many are not named.
fn join_with_rest(shown: impl Iterator<Item = String>, all: usize) -> String {
    let shown: Vec<_> = shown.collect();
    match all.saturating_sub(shown.len()) {
        0 => shown.join(", "),
        rest => format!("{} and {rest} more", shown.join(", ")),
    }
}

/// Returns what a scope is about: its dimensions, or the source or tenant itself.
fn name(scope: &Scope, detail: Detail) -> String {
    let dimensions = scope.kind().dimensions().iter().filter(|of| **of != Dimension::Tenant);
    let names: Vec<_> = dimensions
        .filter_map(|dimension| {
            let value = clean(scope.value(*dimension)?, detail.name);
            Some(format!("{} {value}", word(*dimension)))
        })
        .collect();
    if names.is_empty() { subject(scope, detail) } else { names.join(", ") }
}

const fn word(dimension: Dimension) -> &'static str {
    match dimension {
        Dimension::MailboxProvider => "mailbox provider",
        Dimension::Campaign => "campaign",
        Dimension::SenderDomain => "sending domain",
        Dimension::SendingIp => "sending address",
        Dimension::Tenant => "tenant",
    }
}

/// Returns the name of a source or tenant.
fn subject(whole: &Scope, detail: Detail) -> String {
    match (whole.source(), whole.value(Dimension::Tenant)) {
        (Some(source), _) => clean(source, detail.name),
        (None, tenant) => format!("tenant {}", clean(tenant.unwrap_or_default(), detail.name)),
    }
}

/// Returns the name of an email service provider from its stable name.
pub(super) fn provider(name: &str) -> String {
    name.parse().map_or_else(|_| clean(name, 40), |known| provider_name(known).to_owned())
}
