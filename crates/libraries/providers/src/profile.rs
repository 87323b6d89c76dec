use std::time::Duration;

use crate::Rejection;

pub(crate) const MIB: usize = 1024 * 1024;

/// The facts about a provider's webhooks that do not concern the content of its events. Each
/// provider's folder defines one as `PROFILE`; [`crate::profile`] returns it. The sources of the
/// facts are in `docs/providers.md`.
#[derive(Debug, Clone, Copy)]
pub struct Profile {
    /// The longest accepted body in bytes, after decoding. A longer one is rejected and its events
    /// are lost, so the limits are generous.
    pub body_limit: usize,
    /// How much memory a verification allocates besides the body, as a multiple of the body: decoded
    /// forms, unescaped texts and the signed message.
    pub verification_copies: usize,
    /// How long the provider waits for the response. After that it closes the connection and posts
    /// the request again, so a later response is useless.
    pub request_timeout: Duration,
    /// The HTTP status for a wrong signature or wrong credentials.
    pub rejected_status: u16,
    /// The HTTP status that makes the provider retry later.
    pub unavailable_status: u16,
    /// True if the provider drops the request after most 4xx. A temporary failure is
    /// then answered with `unavailable_status` instead of 408 or 429.
    pub drops_after_4xx: bool,
    /// For the diagnosis of a wrong signature: the most common mistake about the secret.
    pub(crate) secret_hint: &'static str,
    /// For the diagnosis of a missing signature: what to do.
    pub(crate) missing_signature_fix: &'static str,
}

impl Profile {
    /// The values of a provider that documents none. Each folder overrides the documented ones.
    ///
    /// 401 makes SendGrid, Postmark, Svix, Mandrill, SparkPost, Mailjet and Postal retry, so no
    /// event is lost while a wrong secret of the source is corrected. Brevo and SNS do not retry.
    pub(crate) const DEFAULT: Self = Self {
        body_limit: MIB,
        verification_copies: 0,
        request_timeout: Duration::from_secs(10),
        rejected_status: 401,
        unavailable_status: 503,
        drops_after_4xx: false,
        secret_hint: "compare it with the secret that the provider shows",
        missing_signature_fix: "another sender made the request, or a proxy removed the header",
    };

    /// Returns the HTTP status for a rejected request.
    ///
    /// - 403 if an address or a topic is not on the source's list. It ends the retries of Postmark
    ///   and Brevo; no secret of the source can be wrong here.
    /// - 503 if a certificate could not be fetched or is not valid yet: Amazon SNS drops the
    ///   message after any 4xx.
    /// - [`Self::rejected_status`] otherwise.
    pub const fn rejection_status(&self, rejection: &Rejection) -> u16 {
        match rejection {
            Rejection::AddressNotAllowed | Rejection::TopicNotAllowed => 403,
            Rejection::CertificateNeeded(_) | Rejection::CertificateInvalid => 503,
            _ => self.rejected_status,
        }
    }

    /// Returns the HTTP status for a temporary failure: `status` (408 or 429), unless the provider
    /// would drop the request after it.
    pub const fn temporary_status(&self, status: u16) -> u16 {
        if self.drops_after_4xx { self.unavailable_status } else { status }
    }
}

#[cfg(test)]
mod tests {
    use event::Provider;

    use super::*;
    use crate::profile;

    #[test]
    fn a_rejection_stops_mailgun_and_never_loses_an_sns_message() {
        for rejection in [
            Rejection::MissingSignature,
            Rejection::WrongSignature,
            Rejection::Stale { skew_seconds: 90_000 },
            Rejection::Replayed,
        ] {
            let status = profile(Provider::Mailgun).rejection_status(&rejection);
            assert_eq!(status, 406, "{rejection}");
        }
        let ses = profile(Provider::Ses);
        for temporary in
            [Rejection::CertificateNeeded(String::new()), Rejection::CertificateInvalid]
        {
            assert_eq!(ses.rejection_status(&temporary), 503, "{temporary}");
        }
        assert_eq!(ses.rejection_status(&Rejection::TopicNotAllowed), 403);
        for provider in Provider::ALL.into_iter().filter(|known| *known != Provider::Mailgun) {
            let status = profile(provider).rejection_status(&Rejection::WrongSignature);
            assert_eq!(status, 401, "{provider}");
        }
    }

    /// Postmark stops retrying after 403 and retries after 401.
    #[test]
    fn postmark_stops_only_if_no_secret_can_be_wrong() {
        for secret in [Rejection::MissingCredentials, Rejection::WrongCredentials] {
            assert_eq!(profile(Provider::Postmark).rejection_status(&secret), 401);
        }
        for provider in Provider::ALL {
            let status = profile(provider).rejection_status(&Rejection::AddressNotAllowed);
            assert_eq!(status, 403, "{provider}");
        }
    }

    #[test]
    fn every_provider_retries_while_we_are_unavailable() {
        for provider in Provider::ALL {
            let expected = if provider == Provider::Brevo { 429 } else { 503 };
            assert_eq!(profile(provider).unavailable_status, expected, "{provider}");
        }
    }

    #[test]
    fn a_temporary_failure_is_never_final() {
        for (provider, late, too_fast) in
            [(Provider::SendGrid, 408, 429), (Provider::Ses, 503, 503), (Provider::Brevo, 429, 429)]
        {
            assert_eq!(profile(provider).temporary_status(408), late, "{provider}");
            assert_eq!(profile(provider).temporary_status(429), too_fast, "{provider}");
        }
    }

    #[test]
    fn postal_waits_for_the_shortest_time() {
        let seconds = |provider| profile(provider).request_timeout.as_secs();
        assert_eq!(seconds(Provider::Postal), 5);
        assert_eq!(seconds(Provider::SparkPost), 10);
        assert_eq!(seconds(Provider::Ses), 15);
        assert_eq!(Provider::ALL.into_iter().map(seconds).min(), Some(5));
    }

    #[test]
    fn the_largest_documented_body_fits() {
        let kib = |provider| profile(provider).body_limit / 1024;
        assert!(kib(Provider::SendGrid) > 768);
        // 256 KiB in which every byte is escaped as two, and an envelope.
        assert!(kib(Provider::Ses) > 2 * 256);
        // 1,000, 350 and 500 events of 4 KiB; percent-encoding triples Mandrill's.
        assert!(kib(Provider::Mandrill) >= 3 * 4 * 1_000);
        assert!(kib(Provider::SparkPost) >= 4 * 350);
        assert!(kib(Provider::Brevo) >= 4 * 500);
        // A message of 10 MB inside the JSON of its bounce.
        assert!(kib(Provider::Postmark) >= 10 * 1024);
    }
}
