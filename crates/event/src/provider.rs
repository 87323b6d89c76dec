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
    Ses = 4,
    /// Mandrill (Mailchimp Transactional).
    Mandrill = 5,
    /// Any sender that posts our generic JSON and signs it with an HMAC.
    Generic = 6,
}

impl Provider {
    /// Every provider.
    pub const ALL: [Self; 6] =
        [Self::SendGrid, Self::Mailgun, Self::Postmark, Self::Ses, Self::Mandrill, Self::Generic];

    /// The stable lower-case name: URL segment, header, JSON value, metric label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::SendGrid => "sendgrid",
            Self::Mailgun => "mailgun",
            Self::Postmark => "postmark",
            Self::Ses => "ses",
            Self::Mandrill => "mandrill",
            Self::Generic => "generic",
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
            .find(|provider| provider.as_str() == name)
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
}
