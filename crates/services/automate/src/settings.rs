//! The sections `[automate]` and `[automation]`. Their keys are explained in `deploy/mailpulse.toml`.

use std::net::SocketAddr;
use std::time::Duration;

use automation::{Action, AutomationSettings, RuleSet};
use courier::{
    AddressGuard, AttemptSettings, BreakerSettings, Encryption, Retry, Smtp, SmtpSettings,
};
use kafka::BatchSettings;
use lettre::message::Mailbox;
use serde::Deserialize;
use service::{Secret, Settings, SettingsError};

/// The section `[automate]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AutomateSettings {
    pub(crate) admin: SocketAddr,
    batch_records: usize,
    batch_bytes: usize,
    #[serde(with = "service::units::duration")]
    batch_wait: Duration,
    refusal_limit: u32,
    #[serde(with = "service::units::duration")]
    retry_min: Duration,
    #[serde(with = "service::units::duration")]
    retry_max: Duration,
    #[serde(with = "service::units::duration")]
    give_up_after: Duration,
    #[serde(with = "service::units::duration")]
    pub(crate) timeout: Duration,
    concurrent: usize,
    max_waiting: usize,
    allow_private: bool,
    smtp: MailSettings,
}

/// The section `[automate.smtp]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct MailSettings {
    host: String,
    /// 0: that of `encryption`.
    port: u16,
    encryption: Encryption,
    ca_file: String,
    user: String,
    #[serde(deserialize_with = "service::secret::optional")]
    password: Secret,
    from: String,
}

/// How much may wait for one receiver.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// The number of actions.
    pub(crate) waiting: usize,
    /// Their size.
    pub(crate) bytes: usize,
}

/// How mails are sent.
pub(crate) struct Mailer {
    pub(crate) server: Smtp,
    pub(crate) from: Mailbox,
}

/// The size of everything that waits for one receiver, in bytes.
const WAITING_BYTES: usize = 16 << 20;

impl AutomateSettings {
    pub(crate) fn read(settings: &Settings) -> Result<Self, SettingsError> {
        let automate: Self = settings.section("automate")?;
        let problems = [
            (automate.retry_min.is_zero(), "retry_min", "must be at least 1ms"),
            (automate.retry_max < automate.retry_min, "retry_max", "must be at least retry_min"),
            (automate.timeout.is_zero(), "timeout", "must be at least 1ms"),
            (automate.concurrent == 0, "concurrent", "must be at least 1"),
            (automate.max_waiting == 0, "max_waiting", "must be at least 1"),
        ];
        match problems.iter().find(|(is_wrong, ..)| *is_wrong) {
            Some((_, key, problem)) => Err(settings.invalid(&format!("automate.{key}"), *problem)),
            None => Ok(automate),
        }
    }

    /// The size of a transaction, and the refusal limit.
    pub(crate) const fn batch(&self) -> BatchSettings {
        BatchSettings {
            records: self.batch_records,
            bytes: self.batch_bytes,
            wait: self.batch_wait,
            refusal_limit: self.refusal_limit,
        }
    }

    pub(crate) const fn guard(&self) -> AddressGuard {
        AddressGuard::new(self.allow_private)
    }

    pub(crate) fn attempts(&self) -> AttemptSettings {
        AttemptSettings {
            retry: Retry::exponential(self.retry_min, self.retry_max, self.give_up_after),
            breaker: BreakerSettings::default(),
            concurrent: self.concurrent,
            max_per_minute: None,
        }
    }

    /// How much may wait for one receiver.
    pub(crate) const fn limits(&self) -> Limits {
        Limits { waiting: self.max_waiting, bytes: WAITING_BYTES }
    }

    /// Returns how mails are sent, if a rule sends any.
    pub(crate) fn mailer(
        &self,
        rules: &RuleSet,
        settings: &Settings,
    ) -> Result<Option<Mailer>, SettingsError> {
        if !has_mail(rules) {
            return Ok(None);
        }
        let invalid =
            |key: &str, problem: String| settings.invalid(&format!("automate.smtp.{key}"), problem);
        let MailSettings { host, port, encryption, ca_file, user, password, from } = &self.smtp;
        if host.is_empty() {
            let problem = "must be set, because a rule sends mail".to_owned();
            return Err(invalid("host", problem));
        }
        let from: Mailbox = from.parse().map_err(|_| {
            let problem = "must be the sender, such as \"Acme <news@acme.example>\"".to_owned();
            invalid("from", problem)
        })?;
        let login = match (user.is_empty(), password.expose().is_empty()) {
            (false, false) => Some((user.clone(), password.clone())),
            (true, true) => None,
            _ => return Err(invalid("user", "set both user and password, or neither".to_owned())),
        };
        if *encryption == Encryption::None && login.is_some() {
            let problem = "must be starttls or tls if there is a password".to_owned();
            return Err(invalid("encryption", problem));
        }
        let server = SmtpSettings {
            host: host.clone(),
            port: if *port == 0 { encryption.port() } else { *port },
            encryption: *encryption,
            ca_file: ca_file.clone(),
            login,
        };
        let server = Smtp::new(server, self.guard());
        let server = server.map_err(|(key, problem)| invalid(key, problem))?;
        Ok(Some(Mailer { server, from }))
    }
}

/// Returns whether a rule sends mail.
fn has_mail(rules: &RuleSet) -> bool {
    has_action(rules, |action| matches!(action, Action::Email { .. }))
}

/// Returns whether a rule sends mail to recipients, who may be suppressed.
pub(crate) fn mails_recipients(rules: &RuleSet) -> bool {
    has_action(rules, |action| matches!(action, Action::Email { to: None, .. }))
}

fn has_action(rules: &RuleSet, is_meant: impl Fn(&Action) -> bool) -> bool {
    rules.rules().iter().flat_map(|rule| &rule.actions).any(|action| match action {
        Action::FollowUp(follow_up) => follow_up.actions.iter().any(&is_meant),
        action => is_meant(action),
    })
}

/// Reads `[[automation.rule]]` and `[[automation.template]]`.
pub(crate) fn rules(settings: &Settings) -> Result<RuleSet, SettingsError> {
    let automation: AutomationSettings = settings.section("automation")?;
    RuleSet::new(&automation).map_err(|error| settings.invalid("automation", error.to_string()))
}
