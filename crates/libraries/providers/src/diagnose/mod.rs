//! Explains to people why a request was rejected, and what would make it pass. The fixes are found
//! by trying: the request is verified again with the body as it may have been before a proxy
//! rewrote it, and with settings that are often mistaken for the right ones.

mod bodies;
mod settings;

use crate::{
    Authenticator, Check, FindCertificate, Profile, ReceivedRequest, Rejection, SourceSettings,
    Trace, Verified, profile,
};

/// The result of a verification, explained.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnosis {
    /// The result of [`Authenticator::verify`].
    pub verdict: Result<Verified, Rejection>,
    /// What was checked, in order.
    pub checks: Vec<Check>,
    /// What to do about a rejection, one sentence each, the most likely fix first.
    pub fixes: Vec<String>,
}

impl Authenticator {
    /// Verifies a request like [`verify`](Self::verify), and explains the result. This is slower.
    pub fn diagnose(
        &self,
        request: &ReceivedRequest<'_>,
        certificates: &FindCertificate<'_>,
    ) -> Diagnosis {
        let mut trace = Trace::on();
        let verdict = self.verify_traced(request, certificates, &mut trace);
        let checks = trace.into_checks();
        let fixes = match &verdict {
            Ok(_) => Vec::new(),
            Err(rejection) => {
                let settings = &self.settings;
                let profile = profile(settings.provider());
                Rejected {
                    authenticator: self,
                    settings,
                    profile,
                    request,
                    certificates,
                    checks: &checks,
                }
                .fixes(rejection)
            }
        };
        Diagnosis { verdict, checks, fixes }
    }
}

/// A rejected request, and what rejected it.
struct Rejected<'a> {
    authenticator: &'a Authenticator,
    settings: &'a SourceSettings,
    profile: &'a Profile,
    request: &'a ReceivedRequest<'a>,
    certificates: &'a FindCertificate<'a>,
    checks: &'a [Check],
}

impl Rejected<'_> {
    fn fixes(&self, rejection: &Rejection) -> Vec<String> {
        let fix = |text: &str| vec![text.to_owned()];
        match rejection {
            Rejection::WrongSignature | Rejection::MalformedSignature(_) => self.by_trying(),
            Rejection::MissingSignature => fix(self.profile.missing_signature_fix),
            Rejection::Stale { skew_seconds } => vec![self.stale(*skew_seconds)],
            Rejection::AddressNotAllowed => fix(
                "add the address to `allow_ips`; if it belongs to your load balancer, add it to \
                 the ingress's `trusted_proxies`",
            ),
            Rejection::TopicNotAllowed => fix("add the TopicArn to `topics` if the topic is yours"),
            Rejection::RawDelivery => fix("turn raw message delivery off for the SNS subscription"),
            Rejection::CertificateNeeded(url) => {
                vec![format!("fetch {url} and pin it as a secret")]
            }
            Rejection::SignatureVersionNotAllowed => {
                fix("set the topic's SignatureVersion to 2 at Amazon SNS, or remove \
                 `signature_version` from the source")
            }
            Rejection::MissingCredentials => {
                fix("put the credentials into the webhook's URL or headers")
            }
            Rejection::Replayed
            | Rejection::UntrustedCertificateUrl
            | Rejection::CertificateInvalid
            | Rejection::WrongCredentials => Vec::new(),
        }
    }

    fn by_trying(&self) -> Vec<String> {
        let settings = settings::variants(self.settings, self.request).into_iter();
        let by_settings = settings.filter_map(|(fix, settings)| {
            let other = Authenticator::new(&settings).ok()?;
            has_good_signature(&other.verify(self.request, self.certificates)).then_some(fix)
        });
        let bodies = bodies::variants(self.request.body).into_iter();
        let by_body = bodies.filter_map(|(fix, body)| {
            let request = ReceivedRequest { body: &body, ..*self.request };
            let verdict = self.authenticator.verify(&request, self.certificates);
            has_good_signature(&verdict).then_some(fix)
        });
        let found: Vec<_> = by_settings.chain(by_body).collect();
        if found.is_empty() { vec![self.wrong_secret()] } else { found }
    }

    fn wrong_secret(&self) -> String {
        format!(
            "no known rewriting of the body explains it: either the secret is a different one \
             ({}), or the body was changed in transit",
            self.profile.secret_hint
        )
    }

    fn stale(&self, skew_seconds: i64) -> String {
        let check = self.checks.iter().rfind(|check| check.name == "timestamp");
        let detail = check.map_or("", |check| check.detail.as_str());
        let distance = span(skew_seconds.unsigned_abs());
        if skew_seconds < 0 {
            return format!(
                "the timestamp is {distance} ahead ({detail}): correct this machine's clock"
            );
        }
        format!(
            "the timestamp is {distance} old ({detail}): the signature itself is good, so the \
             request was sent or replayed late; `tolerance_seconds` of {skew_seconds} would accept \
             it"
        )
    }
}

/// True if the signature is good, even if it is too old or the topic is not allowed.
fn has_good_signature(verdict: &Result<Verified, Rejection>) -> bool {
    matches!(verdict, Ok(_) | Err(Rejection::Stale { .. } | Rejection::TopicNotAllowed))
}

/// Formats seconds in a suitable unit.
fn span(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} days", seconds / 86_400),
    }
}
