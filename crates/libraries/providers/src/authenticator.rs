use std::net::IpAddr;
use std::sync::Arc;

use event::Provider;

use crate::examine::Trace;
use crate::{
    Certificate, Received, Refusal, SettingsError, SourceSettings, Verified, brevo, generic,
    mailersend, mailgun, mailjet, mandrill, postal, postmark, resend, sendgrid, ses, sparkpost,
    standardwebhooks,
};

/// Proves that a request comes from the provider of one source. Built once; its keys are parsed.
#[derive(Debug)]
pub struct Authenticator {
    /// Its addresses are looked at for each request, the rest of it to explain a refusal.
    pub(crate) settings: SourceSettings,
    verifier: Verifier,
}

#[derive(Debug)]
enum Verifier {
    SendGrid(sendgrid::Verifier),
    Mailgun(mailgun::Verifier),
    Postmark(postmark::Verifier),
    Ses(ses::Verifier),
    Mandrill(mandrill::Verifier),
    Generic(generic::Verifier),
    SparkPost(sparkpost::Verifier),
    Resend(resend::Verifier),
    StandardWebhooks(standardwebhooks::Verifier),
    Brevo(brevo::Verifier),
    Mailjet(mailjet::Verifier),
    MailerSend(mailersend::Verifier),
    Postal(postal::Verifier),
}

/// How a verifier asks for the certificate at an address; see [`Authenticator::verify`].
pub(crate) type FindCertificate<'f> = dyn Fn(&str) -> Option<Arc<Certificate>> + 'f;

impl Authenticator {
    /// Checks a source's settings and parses its keys.
    pub fn new(settings: &SourceSettings) -> Result<Self, SettingsError> {
        settings.check_options()?;
        let verifier = match settings.provider {
            Provider::SendGrid => Verifier::SendGrid(sendgrid::Verifier::new(settings)?),
            Provider::Mailgun => Verifier::Mailgun(mailgun::Verifier::new(settings)?),
            Provider::Postmark => Verifier::Postmark(postmark::Verifier::new(settings)?),
            Provider::Ses => Verifier::Ses(ses::Verifier::new(settings)?),
            Provider::Mandrill => Verifier::Mandrill(mandrill::Verifier::new(settings)?),
            Provider::Generic => Verifier::Generic(generic::Verifier::new(settings)?),
            Provider::SparkPost => Verifier::SparkPost(sparkpost::Verifier::new(settings)?),
            Provider::Resend => Verifier::Resend(resend::Verifier::new(settings)?),
            Provider::StandardWebhooks => {
                Verifier::StandardWebhooks(standardwebhooks::Verifier::new(settings)?)
            }
            Provider::Brevo => Verifier::Brevo(brevo::Verifier::new(settings)?),
            Provider::Mailjet => Verifier::Mailjet(mailjet::Verifier::new(settings)?),
            Provider::MailerSend => Verifier::MailerSend(mailersend::Verifier::new(settings)?),
            Provider::Postal => Verifier::Postal(postal::Verifier::new(settings)?),
        };
        Ok(Self { settings: settings.clone(), verifier })
    }

    /// Whether this request is the provider's, over the bytes as received.
    ///
    /// SES alone asks for `certificate`: it is given the address that the message names, already
    /// known to be one of Amazon SNS. When it answers `None`, the refusal is
    /// [`Refusal::CertificateNeeded`] with that address; fetch it and call again.
    pub fn verify(
        &self,
        received: &Received<'_>,
        certificate: &FindCertificate<'_>,
    ) -> Result<Verified, Refusal> {
        self.check(received, certificate, &mut Trace::off())
    }

    /// What both [`Self::verify`] and [`Self::examine`] do.
    pub(crate) fn check(
        &self,
        received: &Received<'_>,
        certificate: &FindCertificate<'_>,
        trace: &mut Trace,
    ) -> Result<Verified, Refusal> {
        self.check_address(received.remote_ip, trace)?;
        trace.body(received.body);
        match &self.verifier {
            Verifier::SendGrid(verifier) => verifier.verify(received, trace),
            Verifier::Mailgun(verifier) => verifier.verify(received, trace),
            Verifier::Postmark(verifier) => verifier.verify(received, trace),
            Verifier::Ses(verifier) => verifier.verify(received, certificate, trace),
            Verifier::Mandrill(verifier) => verifier.verify(received, trace),
            Verifier::Generic(verifier) => verifier.verify(received, trace),
            Verifier::SparkPost(verifier) => verifier.verify(received, trace),
            Verifier::Resend(verifier) => verifier.verify(received, trace),
            Verifier::StandardWebhooks(verifier) => verifier.verify(received, trace),
            Verifier::Brevo(verifier) => verifier.verify(received, trace),
            Verifier::Mailjet(verifier) => verifier.verify(received, trace),
            Verifier::MailerSend(verifier) => verifier.verify(received, trace),
            Verifier::Postal(verifier) => verifier.verify(received, trace),
        }
    }

    /// An IPv4 address inside an IPv6 one (RFC 4291 §2.5.5.2) counts as the IPv4 address it is.
    fn check_address(&self, remote_ip: Option<IpAddr>, trace: &mut Trace) -> Result<(), Refusal> {
        const NAME: &str = "address";
        let shown = |ip: Option<IpAddr>| ip.map_or("unknown".to_owned(), |ip| ip.to_string());
        let remote_ip = remote_ip.map(|ip| ip.to_canonical());
        let allowed = &self.settings.options.allow_ips;
        if allowed.is_empty() {
            trace.skipped(NAME, || format!("{}; any is allowed", shown(remote_ip)));
            return Ok(());
        }
        let found = remote_ip.and_then(|ip| allowed.iter().find(|net| net.contains(&ip)));
        let Some(net) = found else {
            trace.failed(NAME, || format!("{} is not in `allow_ips`", shown(remote_ip)));
            return Err(Refusal::AddressNotAllowed);
        };
        trace.passed(NAME, || format!("{} is in {net}", shown(remote_ip)));
        Ok(())
    }
}
