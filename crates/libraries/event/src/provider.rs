use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// An email service provider whose webhooks we take. A closed set: adding one is a folder in the
/// `providers` crate and the matches the compiler then names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum Provider {
    /// Twilio SendGrid's Event Webhook.
    SendGrid = 1,
    /// Mailgun (Sinch).
    Mailgun = 2,
    /// Postmark (ActiveCampaign).
    Postmark = 3,
    /// Amazon SES, delivered by Amazon SNS over HTTP.
    #[serde(alias = "sns", alias = "amazon-ses")]
    Ses = 4,
    /// Mandrill (Mailchimp Transactional).
    #[serde(alias = "mailchimp")]
    Mandrill = 5,
    /// Any sender that posts our generic JSON and signs it with an HMAC.
    Generic = 6,
    /// SparkPost (Bird).
    #[serde(alias = "bird")]
    SparkPost = 7,
    /// Resend.
    Resend = 8,
    /// Any sender that signs as the Standard Webhooks specification says, Svix among them.
    #[serde(alias = "standard-webhooks", alias = "svix")]
    StandardWebhooks = 9,
    /// Brevo, once Sendinblue.
    #[serde(alias = "sendinblue")]
    Brevo = 10,
    /// Mailjet (Sinch).
    Mailjet = 11,
    /// MailerSend.
    MailerSend = 12,
    /// Postal, a mail server one runs oneself.
    Postal = 13,
}

impl Provider {
    /// Every provider.
    pub const ALL: [Self; 13] = [
        Self::SendGrid,
        Self::Mailgun,
        Self::Postmark,
        Self::Ses,
        Self::Mandrill,
        Self::Generic,
        Self::SparkPost,
        Self::Resend,
        Self::StandardWebhooks,
        Self::Brevo,
        Self::Mailjet,
        Self::MailerSend,
        Self::Postal,
    ];

    /// The stable lower-case name: URL segment, header, JSON value, metric label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::SendGrid => "sendgrid",
            Self::Mailgun => "mailgun",
            Self::Postmark => "postmark",
            Self::Ses => "ses",
            Self::Mandrill => "mandrill",
            Self::Generic => "generic",
            Self::SparkPost => "sparkpost",
            Self::Resend => "resend",
            Self::StandardWebhooks => "standardwebhooks",
            Self::Brevo => "brevo",
            Self::Mailjet => "mailjet",
            Self::MailerSend => "mailersend",
            Self::Postal => "postal",
        }
    }

    /// Other names that people know it by: taken where a name is read, never written.
    pub const fn aliases(self) -> &'static [&'static str] {
        match self {
            Self::Ses => &["sns", "amazon-ses"],
            Self::Mandrill => &["mailchimp"],
            Self::SparkPost => &["bird"],
            Self::StandardWebhooks => &["standard-webhooks", "svix"],
            Self::Brevo => &["sendinblue"],
            _ => &[],
        }
    }
}

impl fmt::Display for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The name is none of the providers.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a provider")]
pub struct UnknownProvider(pub String);

impl FromStr for Provider {
    type Err = UnknownProvider;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|provider| provider.as_str() == name || provider.aliases().contains(&name))
            .ok_or_else(|| UnknownProvider(name.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip_through_text_and_json() {
        for provider in Provider::ALL {
            assert_eq!(provider.as_str().parse(), Ok(provider));
            assert_eq!(serde_json::to_string(&provider).unwrap(), format!("\"{provider}\""));
        }
    }

    #[test]
    fn aliases_are_read_and_are_nobody_elses_name() {
        for provider in Provider::ALL {
            for &alias in provider.aliases() {
                assert_eq!(alias.parse(), Ok(provider));
                let read: Provider = serde_json::from_str(&format!("\"{alias}\"")).unwrap();
                assert_eq!(read, provider);
                assert!(Provider::ALL.iter().all(|other| other.as_str() != alias), "{alias}");
            }
        }
        assert_eq!("svix".parse(), Ok(Provider::StandardWebhooks));
        assert!("Svix".parse::<Provider>().is_err());
    }
}
