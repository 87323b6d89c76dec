//! Words and numbers as people read them in alerts and pages.

use event::{Dimension, Provider};
use jiff::Timestamp;
use window::Scope;

use crate::Severity;
use crate::rule::RuleWindow;

/// Returns the name of a provider as it writes it.
pub(crate) const fn provider_name(provider: Provider) -> &'static str {
    match provider {
        Provider::SendGrid => "SendGrid",
        Provider::Mailgun => "Mailgun",
        Provider::Postmark => "Postmark",
        Provider::Ses => "Amazon SES",
        Provider::Mandrill => "Mandrill",
        Provider::Generic => "generic",
        Provider::SparkPost => "SparkPost",
        Provider::Resend => "Resend",
        Provider::StandardWebhooks => "Standard Webhooks",
        Provider::Brevo => "Brevo",
        Provider::Mailjet => "Mailjet",
        Provider::MailerSend => "MailerSend",
        Provider::Postal => "Postal",
    }
}

/// Returns a scope as people say it: `acme at SendGrid`, `campaign spring-sale of acme at SendGrid`.
pub(crate) fn scope_name(scope: &Scope) -> String {
    let of_source = scope.of_source();
    let whole =
        of_source.map(|(provider, source)| format!("{source} at {}", provider_name(provider)));
    let parts = scope.kind().dimensions().iter().filter_map(|dimension| {
        let name = match dimension {
            Dimension::MailboxProvider => "mailbox provider",
            Dimension::Campaign => "campaign",
            Dimension::SenderDomain => "sending domain",
            Dimension::SendingIp => "sending address",
            Dimension::Tenant => "tenant",
        };
        Some(format!("{name} {}", scope.value(*dimension)?))
    });
    let parts = parts.collect::<Vec<_>>().join(", ");
    match whole {
        None => parts,
        Some(whole) if parts.is_empty() => whole,
        Some(whole) => format!("{parts} of {whole}"),
    }
}

/// Returns a rate in per cent: `16.4 %`, `0.083 %`. Rates below 1 % have three decimals, others one.
pub(crate) fn percent(rate: f64) -> String {
    let percent = rate * 100.0;
    let digits = if percent < 1.0 { format!("{percent:.3}") } else { format!("{percent:.1}") };
    format!("{} %", trim(&digits))
}

/// Returns a threshold in per cent, with up to three decimals: `0.05 %`, `97 %`, `2.25 %`.
pub(crate) fn limit(rate: f64) -> String {
    format!("{} %", trim(&format!("{:.3}", rate * 100.0)))
}

/// Returns a number with one decimal, unless it is 0.
pub(crate) fn decimal(number: f64) -> String {
    trim(&format!("{number:.1}")).to_owned()
}

fn trim(digits: &str) -> &str {
    digits.trim_end_matches('0').trim_end_matches('.')
}

/// Returns a count with separators: `2,310`.
pub(crate) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Returns when something was, such as `10:42 UTC`, from UTC microseconds.
pub(crate) fn clock(micros: i64) -> String {
    Timestamp::from_microsecond(micros)
        .map_or_else(|_| "an unknown time".to_owned(), |at| at.strftime("%H:%M UTC").to_string())
}

/// Returns a day and a time in UTC: `27 Nov 09:59 UTC`.
pub(crate) fn clock_and_day(micros: i64) -> String {
    Timestamp::from_microsecond(micros).map_or_else(
        |_| "an unknown time".to_owned(),
        |at| at.strftime("%-d %b %H:%M UTC").to_string(),
    )
}

/// Returns a time without events: `7 min`, `2 h 5 min`.
pub(crate) fn duration(seconds: u64) -> String {
    let minutes = seconds / 60;
    match (minutes / 60, minutes % 60) {
        (0, minutes) => format!("{minutes} min"),
        (hours, 0) => format!("{hours} h"),
        (hours, minutes) => format!("{hours} h {minutes} min"),
    }
}

/// Returns a window as it follows a rate: `in 5 min`, `of mail sent 24 to 48 h ago`.
pub(crate) fn window_words(window: &RuleWindow) -> String {
    match window {
        RuleWindow::Arrival(width) => match width.seconds() {
            seconds if seconds >= 2 * 3600 => format!("in {} h", seconds / 3600),
            seconds => format!("in {} min", seconds / 60),
        },
        RuleWindow::Cohort { youngest: 0, oldest } => {
            format!("of mail sent in the last {oldest} h")
        }
        RuleWindow::Cohort { youngest, oldest } => {
            format!("of mail sent {youngest} to {oldest} h ago")
        }
        RuleWindow::Campaign => "since the campaign began".to_owned(),
        RuleWindow::Gap => String::new(),
    }
}

impl Severity {
    /// Returns the stable name, as in JSON and in metric labels.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Warning => "warning",
            Self::Critical => "critical",
            Self::Page => "page",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short_and_exact_enough() {
        for (rate, text) in [
            (82.0 / 501.0, "16.4 %"),
            (0.1, "10 %"),
            (0.0, "0 %"),
            (0.000_8, "0.08 %"),
            (0.003_994, "0.399 %"),
            (1.0, "100 %"),
        ] {
            assert_eq!(percent(rate), text);
        }
        for (rate, text) in
            [(0.05, "5 %"), (0.000_8, "0.08 %"), (0.022_5, "2.25 %"), (0.97, "97 %")]
        {
            assert_eq!(limit(rate), text);
        }
        for (number, text) in [(0, "0"), (999, "999"), (2310, "2,310"), (1_234_567, "1,234,567")] {
            assert_eq!(count(number), text);
        }
        for (seconds, text) in [(300, "5 min"), (7200, "2 h"), (7500, "2 h 5 min")] {
            assert_eq!(duration(seconds), text);
        }
    }

    #[test]
    fn scopes_are_named_from_the_part_to_the_whole() {
        let (provider, source) = (Provider::SendGrid, "acme".to_owned());
        let campaign = Scope::Campaign { provider, source, campaign: "spring-sale".to_owned() };
        assert_eq!(scope_name(&campaign), "campaign spring-sale of acme at SendGrid");
        assert_eq!(scope_name(&campaign.whole()), "acme at SendGrid");
        let tenant = Scope::TenantMailboxProvider {
            tenant: "shop".to_owned(),
            mailbox_provider: "gmail".to_owned(),
        };
        assert_eq!(scope_name(&tenant), "tenant shop, mailbox provider gmail");
    }
}
