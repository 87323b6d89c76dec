//! `mailpulse verify`: what the ingress would say of a captured request, step by step.

mod report;

use std::io::{self, Write};
use std::path::Path;

use event::Provider;
use http::Method;
use jiff::Timestamp;
use providers::{Authenticator, Received, Refusal, body_limit};
use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::args::Verify;
use crate::request::Captured;
use crate::source::Source;
use crate::{Outcome, Unusable, input};
use report::Report;

/// What the ingress knows beyond the request itself.
const REPLAY: &str = "the signature does not cover the event: the ingress remembers it, and refuses \
                      another event under it";

/// Verifies a request and says how; its report is the whole of standard output.
pub(crate) fn run(config: Option<&Path>, how: &Verify) -> anyhow::Result<Outcome> {
    let captured = Captured::read(&input::read(&how.request)?).map_err(|error| {
        Unusable(format!("{} is no HTTP request: {error}", how.request.display()))
    })?;
    let mut source = match &how.source {
        Some(name) => Source::configured(config, how.provider, name, &how.scheme)?,
        None => Source::given(how.provider, &how.scheme)?,
    };
    complete(&mut source, &captured)?;
    let authenticator = authenticator(&source)?;

    let at = how.at.unwrap_or_else(Timestamp::now);
    let received = Received {
        headers: &captured.headers,
        body: &captured.body,
        remote_ip: how.remote_ip,
        now: at.as_second(),
    };
    let examination = authenticator.examine(&received, &|_| None);
    let is_once = examination.verdict.as_ref().is_ok_and(|verified| verified.once.is_some());
    let once = is_once.then(|| REPLAY.to_owned());
    let notes = source.notes.iter().chain(&captured.notes).cloned().chain(once);
    let report = Report {
        provider: how.provider,
        source: how.source.as_deref(),
        at,
        remote_ip: how.remote_ip,
        captured: &captured,
        digest: hex::encode(Sha256::digest(&captured.body)),
        notes: notes.chain(remarks(how.provider, &captured)).collect(),
        examination: &examination,
        secret_names: &source.secret_names,
    };
    print(if how.json { report.json()? } else { report.text() })?;
    if let Err(Refusal::CertificateNeeded(url)) = &examination.verdict {
        return Err(certificate_needed(url).into());
    }
    let is_authentic = examination.verdict.is_ok();
    Ok(if is_authentic { Outcome::Done } else { Outcome::Incomplete })
}

/// Fills in what a request itself may say, or asks for it.
fn complete(source: &mut Source, captured: &Captured) -> Result<(), Unusable> {
    let options = &mut source.settings.options;
    match source.settings.provider {
        Provider::Ses if options.topics.is_empty() => {
            if let Some(topic) = topic_of(&captured.body) {
                options.topics.push(topic);
                source.notes.push(
                    "any topic is taken here: give --topic to have it checked, as the ingress does"
                        .to_owned(),
                );
            }
        }
        Provider::Mandrill if options.public_url.is_none() => {
            let guess = captured.apparent_url().map_or(String::new(), |url| {
                format!("; it may have been {}", crate::text::line(url.as_bytes()))
            });
            return Err(Unusable(format!(
                "Mandrill signs the webhook's address: give it with --url, letter for letter as \
                 configured there{guess}"
            )));
        }
        _ => {}
    }
    Ok(())
}

/// The topic that an SNS envelope names.
fn topic_of(body: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Envelope {
        #[serde(rename = "TopicArn")]
        topic_arn: String,
    }
    let envelope: Envelope = serde_json::from_slice(body).ok()?;
    envelope.topic_arn.starts_with("arn:").then_some(envelope.topic_arn)
}

/// The mends of the settings speak of the configuration; here the secrets are files.
fn authenticator(source: &Source) -> Result<Authenticator, Unusable> {
    use providers::SettingsError::{BadOption, BadSecret, NoSecret};
    Authenticator::new(&source.settings).map_err(|error| {
        Unusable(match error {
            NoSecret { provider, mend, .. } => {
                format!("{provider} needs a secret (--secret-file, or --source): {mend}")
            }
            BadSecret { index, mend, .. } => match source.secret_names.get(index) {
                Some(name) => format!("the secret in {name} cannot be used; {mend}"),
                None => format!("secrets[{index}] cannot be used; {mend}"),
            },
            BadOption { key, mend, .. } => format!("`{key}` {mend}"),
        })
    })
}

/// What the ingress would do with such a request whatever its signature.
fn remarks(provider: Provider, captured: &Captured) -> Vec<String> {
    let mut remarks = Vec::new();
    let limit = body_limit(provider);
    if captured.body.len() > limit {
        remarks.push(format!("the ingress takes bodies of at most {limit} bytes of {provider}"));
    }
    if captured.method == Method::HEAD {
        remarks.push("the ingress answers HEAD with 200, whoever asks".to_owned());
    } else if captured.method != Method::POST {
        remarks.push(format!("the ingress takes POST, not {}", captured.method));
    }
    remarks
}

fn certificate_needed(url: &str) -> Unusable {
    Unusable(format!(
        "nothing is fetched here, and this message can only be judged by its certificate: \
         `curl -o sns.pem '{url}'`, then give --secret-file sns.pem"
    ))
}

/// The verdict stands whether or not anyone reads the report to its end.
fn print(report: String) -> Result<(), Unusable> {
    match io::stdout().write_all(report.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Unusable(format!("the report cannot be written: {error}")))
        }
        _ => Ok(()),
    }
}
