//! What each provider makes of an HTTP status, what it may post, and how long it waits. The facts
//! are listed per provider in `docs/providers.md`.

use std::time::Duration;

use event::Provider;

use crate::Refusal;

/// The HTTP status for a refused request.
///
/// - 403 for what is no question of keys: an address or a topic that is not on the source's list.
///   It ends Postmark's and Brevo's attempts.
/// - 503 for what may pass, a certificate that could not be fetched or is not valid yet: Amazon
///   SNS takes any 4xx for final, and the message is lost.
/// - 406 from Mailgun's sources: it tries anything but 200 and 406 again for eight hours, and a
///   signature that is wrong, stale or used before stays so.
/// - 401 otherwise. SendGrid, Postmark, Svix, Mandrill, SparkPost, Mailjet and Postal try again
///   after it, which mends a secret that was wrong on our side. Brevo and SNS do not.
pub const fn refusal_status(provider: Provider, refusal: &Refusal) -> u16 {
    match (provider, refusal) {
        (_, Refusal::AddressNotAllowed | Refusal::TopicNotAllowed) => 403,
        (_, Refusal::CertificateNeeded(_) | Refusal::CertificateInvalid) => 503,
        (Provider::Mailgun, _) => 406,
        _ => 401,
    }
}

/// The HTTP status that makes the provider try again later: 429 for Brevo, which by one wording of
/// its documents gives up after a 5xx; 503 for all others.
pub const fn unavailable_status(provider: Provider) -> u16 {
    match provider {
        Provider::Brevo => 429,
        Provider::SendGrid
        | Provider::Mailgun
        | Provider::Postmark
        | Provider::Ses
        | Provider::Mandrill
        | Provider::Generic
        | Provider::SparkPost
        | Provider::Resend
        | Provider::StandardWebhooks
        | Provider::Mailjet
        | Provider::MailerSend
        | Provider::Postal => 503,
    }
}

/// How long the provider waits for an answer. One that comes later is for nothing: the provider
/// has hung up and will post the request again.
///
/// Postal, SparkPost, Amazon SNS and Svix publish theirs; the others are taken to be as impatient
/// as SparkPost.
pub const fn client_timeout(provider: Provider) -> Duration {
    Duration::from_secs(match provider {
        Provider::Postal => 5,
        Provider::Ses | Provider::Resend | Provider::StandardWebhooks => 15,
        Provider::SparkPost
        | Provider::SendGrid
        | Provider::Mailgun
        | Provider::Postmark
        | Provider::Mandrill
        | Provider::Generic
        | Provider::Brevo
        | Provider::Mailjet
        | Provider::MailerSend => 10,
    })
}

/// The longest body taken, in bytes once decoded: a refused one is lost, so these are generous.
pub const fn body_limit(provider: Provider) -> usize {
    const MIB: usize = 1024 * 1024;
    match provider {
        // A batch is closed at 768 KB.
        Provider::SendGrid => 4 * MIB,
        // Up to 1,000 events, each with its history, percent-encoded.
        Provider::Mandrill => 16 * MIB,
        // With `IncludeContent` a bounce carries the whole message.
        Provider::Postmark => 16 * MIB,
        // 350 events and more in a batch.
        Provider::SparkPost => 8 * MIB,
        Provider::Generic => 4 * MIB,
        // Up to 500 events in a batch.
        Provider::Brevo => 2 * MIB,
        // An SNS message is at most 256 KiB, escaped once more in its envelope.
        Provider::Ses => MIB,
        // The specification asks for less than 20 KB.
        Provider::Resend | Provider::StandardWebhooks => MIB,
        // One event, or those of one second.
        Provider::Mailgun | Provider::Mailjet | Provider::MailerSend | Provider::Postal => MIB,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BY_NOBODY: &Refusal = &Refusal::WrongSignature;

    #[test]
    fn a_refusal_stops_mailgun_and_never_loses_an_sns_message() {
        for refusal in [
            Refusal::MissingSignature,
            Refusal::WrongSignature,
            Refusal::Stale { skew_seconds: 90_000 },
            Refusal::Replayed,
        ] {
            assert_eq!(refusal_status(Provider::Mailgun, &refusal), 406, "{refusal}");
        }
        for passing in [Refusal::CertificateNeeded(String::new()), Refusal::CertificateInvalid] {
            assert_eq!(refusal_status(Provider::Ses, &passing), 503, "{passing}");
        }
        assert_eq!(refusal_status(Provider::Ses, &Refusal::TopicNotAllowed), 403);
        for provider in Provider::ALL.into_iter().filter(|known| *known != Provider::Mailgun) {
            assert_eq!(refusal_status(provider, BY_NOBODY), 401, "{provider}");
        }
    }

    /// 403 is Postmark's word for "no more", 401 for "later".
    #[test]
    fn postmark_gives_up_only_where_nothing_of_ours_can_be_wrong() {
        for secret in [Refusal::MissingCredentials, Refusal::WrongCredentials] {
            assert_eq!(refusal_status(Provider::Postmark, &secret), 401);
        }
        for provider in Provider::ALL {
            assert_eq!(refusal_status(provider, &Refusal::AddressNotAllowed), 403, "{provider}");
        }
    }

    #[test]
    fn every_provider_comes_back_when_we_are_away() {
        for provider in Provider::ALL {
            let expected = if provider == Provider::Brevo { 429 } else { 503 };
            assert_eq!(unavailable_status(provider), expected, "{provider}");
        }
    }

    #[test]
    fn the_least_patient_is_postal() {
        let waits = |provider| client_timeout(provider).as_secs();
        assert_eq!(waits(Provider::Postal), 5);
        assert_eq!(waits(Provider::SparkPost), 10);
        assert_eq!(waits(Provider::Ses), 15);
        assert_eq!(Provider::ALL.into_iter().map(waits).min(), Some(5));
    }

    #[test]
    fn the_largest_documented_body_fits() {
        let kib = |provider| body_limit(provider) / 1024;
        assert!(kib(Provider::SendGrid) > 768);
        // 256 KiB of which every byte is escaped as two, and an envelope.
        assert!(kib(Provider::Ses) > 2 * 256);
        // 1,000, 350 and 500 events of 4 KiB, Mandrill's three times as long in a form.
        assert!(kib(Provider::Mandrill) >= 3 * 4 * 1_000);
        assert!(kib(Provider::SparkPost) >= 4 * 350);
        assert!(kib(Provider::Brevo) >= 4 * 500);
        // A message of 10 MB, in the JSON of its bounce.
        assert!(kib(Provider::Postmark) >= 10 * 1024);
    }
}
