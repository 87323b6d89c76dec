//! What each provider makes of an HTTP status, and what it may post.

use event::Provider;

use crate::Refusal;

/// The HTTP status for a refused request.
///
/// 401, with two exceptions. Mailgun tries again for eight hours after anything but 200 and 406,
/// and a signature that is wrong or stale stays so. Amazon SNS takes any 4xx for final, so what
/// may pass (a certificate that could not be fetched or is not valid yet) is 503.
pub const fn refusal_status(provider: Provider, refusal: &Refusal) -> u16 {
    match (provider, refusal) {
        (Provider::Mailgun, _) => 406,
        (_, Refusal::CertificateNeeded(_) | Refusal::CertificateInvalid) => 503,
        (_, Refusal::TopicNotAllowed) => 403,
        _ => 401,
    }
}

/// The HTTP status that makes the provider try again later. All of these retry after a 5xx.
pub const fn unavailable_status(provider: Provider) -> u16 {
    match provider {
        Provider::SendGrid
        | Provider::Mailgun
        | Provider::Postmark
        | Provider::Ses
        | Provider::Mandrill
        | Provider::Generic => 503,
    }
}

/// The longest body taken, in bytes: a refused one is lost, so these are generous.
pub const fn body_limit(provider: Provider) -> usize {
    const MIB: usize = 1024 * 1024;
    match provider {
        // SendGrid closes a batch at 768 KB.
        Provider::SendGrid => 4 * MIB,
        Provider::Mailgun => MIB,
        // With `IncludeContent` a bounce carries the whole message.
        Provider::Postmark => 16 * MIB,
        // An SNS message is at most 256 KiB, escaped once more in its envelope.
        Provider::Ses => MIB,
        // Up to 1,000 events, each with its history, percent-encoded.
        Provider::Mandrill => 16 * MIB,
        Provider::Generic => 4 * MIB,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_stops_mailgun_and_never_loses_an_sns_message() {
        assert_eq!(refusal_status(Provider::SendGrid, &Refusal::WrongSignature), 401);
        assert_eq!(refusal_status(Provider::Mailgun, &Refusal::Stale { skew_seconds: 9 }), 406);
        let needed = Refusal::CertificateNeeded(String::new());
        assert_eq!(refusal_status(Provider::Ses, &needed), 503);
        assert_eq!(refusal_status(Provider::Ses, &Refusal::CertificateInvalid), 503);
        assert_eq!(refusal_status(Provider::Ses, &Refusal::TopicNotAllowed), 403);
        for provider in Provider::ALL {
            assert_eq!(unavailable_status(provider), 503);
            assert!(body_limit(provider) >= 1024 * 1024);
        }
    }
}
