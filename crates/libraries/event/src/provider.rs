use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Declares [`Provider`] from one line per provider: number, name, and other names that settings
/// and URLs accept. Numbers and names are stored in Kafka and ClickHouse and never change.
macro_rules! providers {
    ($($(#[$doc:meta])* $variant:ident = $number:literal, $name:literal $(, alias $alias:literal)*;)+) => {
        /// An email service provider that posts webhooks. The set is closed; see
        /// `docs/adding-a-provider.md`.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[repr(u8)]
        pub enum Provider {
            $($(#[$doc])* #[serde(rename = $name $(, alias = $alias)*)] $variant = $number,)+
        }

        impl Provider {
            /// Every provider, in numeric order.
            pub const ALL: [Self; [$($number),+].len()] = [$(Self::$variant),+];

            /// The stable name in URLs, record headers, JSON and metric labels.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            /// Other names that are accepted in settings and URLs. They are never written.
            pub const fn aliases(self) -> &'static [&'static str] {
                match self { $(Self::$variant => &[$($alias),*],)+ }
            }
        }
    };
}

providers! {
    /// Twilio SendGrid's Event Webhook.
    SendGrid = 1, "sendgrid";
    /// Mailgun (Sinch).
    Mailgun = 2, "mailgun";
    /// Postmark (ActiveCampaign).
    Postmark = 3, "postmark";
    /// Amazon SES, delivered by Amazon SNS over HTTP.
    Ses = 4, "ses", alias "sns", alias "amazon-ses";
    /// Mandrill (Mailchimp Transactional).
    Mandrill = 5, "mandrill", alias "mailchimp";
    /// Any sender that posts Mailpulse's own JSON form and signs it with an HMAC.
    Generic = 6, "generic";
    /// SparkPost (Bird).
    SparkPost = 7, "sparkpost", alias "bird";
    /// Resend.
    Resend = 8, "resend";
    /// Any sender that signs according to the Standard Webhooks specification, such as Svix.
    StandardWebhooks = 9, "standardwebhooks", alias "standard-webhooks", alias "svix";
    /// Brevo, formerly Sendinblue.
    Brevo = 10, "brevo", alias "sendinblue";
    /// Mailjet (Sinch).
    Mailjet = 11, "mailjet";
    /// MailerSend.
    MailerSend = 12, "mailersend";
    /// Postal, a self-hosted mail server.
    Postal = 13, "postal";
}

impl fmt::Display for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// No provider has this name.
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
    fn aliases_are_read_and_are_no_other_providers_name() {
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
