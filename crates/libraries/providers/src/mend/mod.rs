//! What would make a refused request pass. Found by trying: the request is verified again with its
//! body as it may have been before something rewrote it, and with the settings that people mistake.

mod bodies;
mod settings;

use event::Provider;

use crate::authenticator::FindCertificate;
use crate::examine::{Examination, Trace};
use crate::{Authenticator, Received, Refusal, SourceSettings, Step, Verified};

impl Authenticator {
    /// [`verify`](Self::verify), with everything it looked at and what would mend a refusal: for
    /// people. Slower.
    pub fn examine(
        &self,
        received: &Received<'_>,
        certificate: &FindCertificate<'_>,
    ) -> Examination {
        let mut trace = Trace::on();
        let verdict = self.check(received, certificate, &mut trace);
        let steps = trace.into_steps();
        let mends = verdict.as_ref().map_or_else(
            |refusal| {
                let (authenticator, settings, steps) = (self, &self.settings, &steps[..]);
                Refused { settings, authenticator, received, certificate, steps }.mends(refusal)
            },
            |_| Vec::new(),
        );
        Examination { verdict, steps, mends }
    }
}

/// A request that was refused, and by what.
struct Refused<'a> {
    settings: &'a SourceSettings,
    authenticator: &'a Authenticator,
    received: &'a Received<'a>,
    certificate: &'a FindCertificate<'a>,
    steps: &'a [Step],
}

impl Refused<'_> {
    /// What is to be done about it, a sentence each, the likeliest first.
    fn mends(&self, refusal: &Refusal) -> Vec<String> {
        match refusal {
            Refusal::WrongSignature | Refusal::MalformedSignature(_) => self.by_trying(),
            Refusal::MissingSignature => self.other_headers(),
            Refusal::Stale { skew_seconds } => vec![self.stale(*skew_seconds)],
            Refusal::AddressNotAllowed => vec![
                "add the address to `allow_ips`, or, where it is that of a balancer of ours, to \
                 the ingress's `trusted_proxies`"
                    .to_owned(),
            ],
            Refusal::TopicNotAllowed => {
                vec!["add the TopicArn to `topics` if the topic is yours".to_owned()]
            }
            Refusal::RawDelivery => {
                vec!["turn raw message delivery off for the SNS subscription".to_owned()]
            }
            Refusal::CertificateNeeded(url) => vec![format!("fetch {url} and pin it as a secret")],
            Refusal::SignatureVersionNotAllowed => vec![
                "set the topic's SignatureVersion to 2 at Amazon SNS, or remove \
                 `signature_version` from the source"
                    .to_owned(),
            ],
            Refusal::MissingCredentials => {
                vec!["put the credentials into the webhook's URL or headers".to_owned()]
            }
            Refusal::Replayed
            | Refusal::UntrustedCertificateUrl
            | Refusal::CertificateInvalid
            | Refusal::WrongCredentials => Vec::new(),
        }
    }

    fn by_trying(&self) -> Vec<String> {
        let settings = settings::variants(self.settings, self.received).into_iter();
        let by_settings = settings.filter_map(|(what, settings)| {
            let other = Authenticator::new(&settings).ok()?;
            passes(&other.verify(self.received, self.certificate)).then_some(what)
        });
        let bodies = bodies::variants(self.received.body).into_iter();
        let by_body = bodies.filter_map(|(what, body)| {
            let received = Received { body: &body, ..*self.received };
            passes(&self.authenticator.verify(&received, self.certificate)).then_some(what)
        });
        let found: Vec<_> = by_settings.chain(by_body).collect();
        if found.is_empty() { vec![self.unexplained()] } else { found }
    }

    fn unexplained(&self) -> String {
        let secret = match self.settings.provider {
            Provider::SendGrid => "every webhook of SendGrid has a key of its own",
            Provider::Mailgun => "Mailgun signs with the HTTP webhook signing key, not an API key",
            Provider::Mandrill => "every webhook URL of Mandrill has a key of its own",
            Provider::Postal => "compare the key with the installation's /.well-known/jwks.json",
            Provider::Resend | Provider::StandardWebhooks => "every endpoint has its own secret",
            _ => "compare it with what the sender shows",
        };
        format!(
            "no usual rewriting of the body explains it: either the secret is another one \
             ({secret}), or the bytes were changed on the way"
        )
    }

    fn stale(&self, skew_seconds: i64) -> String {
        let told = self.steps.iter().rfind(|step| step.name == "timestamp");
        let told = told.map_or("", |step| step.detail.as_str());
        let distance = span(skew_seconds.unsigned_abs());
        if skew_seconds < 0 {
            return format!("the timestamp is {distance} ahead ({told}): set this machine's clock");
        }
        format!(
            "the timestamp is {distance} old ({told}): the signature itself is good, so it was \
             sent or replayed late; `tolerance_seconds` of {skew_seconds} would take it"
        )
    }

    /// Where a signature should have been.
    fn other_headers(&self) -> Vec<String> {
        let switch = match self.settings.provider {
            Provider::SendGrid => "turn Signed Event Webhook on in SendGrid's settings",
            Provider::Mailgun => "the body is none of Mailgun's webhooks, which carry it inside",
            Provider::Ses => "the body is no message of Amazon SNS, which carries it inside",
            Provider::Generic => "name the sender's headers in `header` and `timestamp_header`",
            _ => "it was not sent by this provider, or a proxy took the header away",
        };
        vec![switch.to_owned()]
    }
}

/// Whether the signature is good: that it is old is another matter.
fn passes(verdict: &Result<Verified, Refusal>) -> bool {
    matches!(verdict, Ok(_) | Err(Refusal::Stale { .. } | Refusal::TopicNotAllowed))
}

/// Seconds in the unit that people would use.
fn span(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} days", seconds / 86_400),
    }
}
