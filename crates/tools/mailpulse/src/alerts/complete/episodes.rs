//! When episodes were open, from the table `alerts`.

use std::collections::BTreeMap;

use alerting::Rule;
use clickhouse::Row;
use event::Dimension;
use serde::Deserialize;
use window::{Scope, ScopeKind};

use crate::alerts::Stack;
use crate::database::time_literal;

/// By rule and key of the scope: when episodes were open.
#[derive(Debug, Default)]
pub(super) struct Episodes(BTreeMap<(String, String), Vec<Open>>);

/// From the first alert of an episode to its end, in UTC microseconds.
#[derive(Debug, Clone, Copy)]
struct Open {
    from: i64,
    to: i64,
    /// Whether the mail was good at the end. If not, the old windows open no further episode.
    is_recovered: bool,
}

#[derive(Debug, Row, Deserialize)]
struct EpisodeRow {
    rule: String,
    scope: String,
    provider: String,
    source: String,
    mailbox_provider: String,
    campaign: String,
    sender_domain: String,
    sending_ip: String,
    tenant: String,
    opened: i64,
    /// 0 if it is open.
    ended: i64,
    reason: String,
}

impl Episodes {
    /// Reads the episodes that were open after a time, and those that ended up to a week before.
    ///
    /// # Errors
    /// If ClickHouse cannot be reached.
    pub(super) fn read(stack: &Stack, from: i64) -> anyhow::Result<Self> {
        const WEEK: i64 = 7 * 24 * 3_600_000_000;
        let rows: Vec<EpisodeRow> = stack.database.rows(
            &format!(
                "SELECT any(a.rule) AS rule, any(a.scope) AS scope, any(a.provider) AS provider, \
                 any(a.source) AS source, any(a.mailbox_provider) AS mailbox_provider, \
                 any(a.campaign) AS campaign, any(a.sender_domain) AS sender_domain, \
                 any(a.sending_ip) AS sending_ip, any(a.tenant) AS tenant, \
                 toUnixTimestamp64Micro(min(a.at)) AS opened, \
                 maxIf(toUnixTimestamp64Micro(a.at), a.state = 'resolved') AS ended, \
                 anyIf(toString(a.reason), a.state = 'resolved') AS reason \
                 FROM alerts AS a GROUP BY a.episode_id \
                 HAVING ended = 0 OR max(a.at) >= {}",
                time_literal(from.saturating_sub(WEEK))
            ),
            &[],
        )?;
        let mut episodes = Self::default();
        for row in rows {
            let Some(scope) = row.scope() else { continue };
            let to = if row.ended == 0 { i64::MAX } else { row.ended };
            let open = Open { from: row.opened, to, is_recovered: row.reason == "recovered" };
            episodes.0.entry((row.rule, scope.key())).or_default().push(open);
        }
        Ok(episodes)
    }

    /// Returns whether an episode of the rule and scope was open between two times, or whether one had ended that
    /// was about the same windows.
    pub(super) fn has(&self, rule: &Rule, scope: &Scope, first: i64, due: i64) -> bool {
        let episodes = self.0.get(&(rule.name.clone(), scope.key()));
        episodes.into_iter().flatten().any(|episode| {
            let after = if episode.is_recovered { 0 } else { rule.longest() };
            episode.from <= due && episode.to.saturating_add(after) >= first
        })
    }
}

impl EpisodeRow {
    fn scope(&self) -> Option<Scope> {
        let kind = ScopeKind::ALL.into_iter().find(|kind| kind.as_str() == self.scope)?;
        let value = |dimension: Dimension| {
            Some(match dimension {
                Dimension::MailboxProvider => &*self.mailbox_provider,
                Dimension::Campaign => &*self.campaign,
                Dimension::SenderDomain => &*self.sender_domain,
                Dimension::SendingIp => &*self.sending_ip,
                Dimension::Tenant => &*self.tenant,
            })
        };
        let provider =
            if kind.has_source() { self.provider.parse().ok()? } else { event::Provider::Generic };
        Scope::new(kind, provider, &self.source, value)
    }
}
