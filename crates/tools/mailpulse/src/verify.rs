//! `mailpulse verify`: verifies a captured request like the ingress, and reports every step.

mod report;

use std::io::{self, Write};
use std::path::Path;

use event::Provider;
use http::Method;
use providers::{Authenticator, Options, ReceivedRequest, Rejection, profile};
use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::args::Verify;
use crate::request::CapturedRequest;
use crate::source::Source;
use crate::{InputError, Outcome, input};
use report::Report;

/// A note about what a single request cannot sargs.
const SINGLE_USE: &str = "the signature does not cover the event: the ingress remembers it, and \
                          rejects another event with the same signature";

/// Verifies a request and prints the report.
pub(crate) fn run(config: Option<&Path>, args: &Verify) -> anyhow::Result<Outcome> {
    let captured = CapturedRequest::read(&input::read(&args.request)?).map_err(|error| {
        InputError(format!("{} is not an HTTP request: {error}", args.request.display()))
    })?;
    let mut source = match &args.source {
        Some(name) => Source::from_config(config, args.provider, name, &args.scheme)?,
        None => Source::from_arguments(args.provider, &args.scheme)?,
    };
    complete_options(&mut source, &captured)?;
    let authenticator = authenticator(&source)?;

    let at = args.at.unwrap_or_else(crate::now);
    let request = ReceivedRequest {
        headers: &captured.headers,
        body: &captured.body,
        remote_ip: args.remote_ip,
        now: at.as_second(),
    };
    let diagnosis = authenticator.diagnose(&request, &|_| None);
    let is_single_use =
        diagnosis.verdict.as_ref().is_ok_and(|verified| verified.single_use.is_some());
    let single_use = is_single_use.then(|| SINGLE_USE.to_owned());
    let notes = source.notes.iter().chain(&captured.notes).cloned().chain(single_use);
    let report = Report {
        provider: args.provider,
        source: args.source.as_deref(),
        at,
        remote_ip: args.remote_ip,
        captured: &captured,
        digest: hex::encode(Sha256::digest(&captured.body)),
        notes: notes.chain(ingress_notes(args.provider, &captured)).collect(),
        diagnosis: &diagnosis,
        secret_names: &source.secret_names,
    };
    print(&if args.json { report.json()? } else { report.text() })?;
    if let Err(Rejection::CertificateNeeded(url)) = &diagnosis.verdict {
        return Err(certificate_needed(url).into());
    }
    let is_authentic = diagnosis.verdict.is_ok();
    Ok(if is_authentic { Outcome::Done } else { Outcome::Incomplete })
}

/// Fills in options that the command line does not give. The topic of the request is accepted.
/// Without Mandrill's URL, verification is impossible.
fn complete_options(source: &mut Source, captured: &CapturedRequest) -> Result<(), InputError> {
    match &mut source.settings.options {
        Options::Ses(options) if options.topics.is_empty() => {
            if let Some(topic) = topic_arn(&captured.body) {
                options.topics.push(topic);
                source.notes.push(
                    "any topic is accepted here: give --topic to check it like the ingress"
                        .to_owned(),
                );
            }
        }
        Options::Mandrill(options) if options.public_url.is_none() => {
            let guess = captured.apparent_url().map_or(String::new(), |url| {
                format!("; it may be {}", crate::text::escape_line(url.as_bytes()))
            });
            return Err(InputError(format!(
                "Mandrill signs the webhook's URL: give it with --url, exactly as configured at \
                 Mandrill{guess}"
            )));
        }
        _ => {}
    }
    Ok(())
}

/// Returns the TopicArn of an SNS envelope.
fn topic_arn(body: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Envelope {
        #[serde(rename = "TopicArn")]
        topic_arn: String,
    }
    let envelope: Envelope = serde_json::from_slice(body).ok()?;
    envelope.topic_arn.starts_with("arn:").then_some(envelope.topic_arn)
}

/// Creates the authenticator. Errors name the secret files instead of settings.
fn authenticator(source: &Source) -> Result<Authenticator, InputError> {
    use providers::SettingsError::{BadOption, BadSecret, NoSecret};
    Authenticator::new(&source.settings).map_err(|error| {
        InputError(match error {
            NoSecret { provider, fix, .. } => {
                format!("{provider} needs a secret (--secret-file, or --source): {fix}")
            }
            BadSecret { index, fix, .. } => match source.secret_names.get(index) {
                Some(name) => format!("the secret in {name} cannot be used; {fix}"),
                None => format!("secrets[{index}] cannot be used; {fix}"),
            },
            BadOption { key, fix, .. } => format!("`{key}` {fix}"),
        })
    })
}

/// Returns notes about what the ingress does with such a request regardless of its signature.
fn ingress_notes(provider: Provider, captured: &CapturedRequest) -> Vec<String> {
    let mut notes = Vec::new();
    let limit = profile(provider).body_limit;
    if captured.body.len() > limit {
        notes.push(format!("the ingress accepts bodies of at most {limit} bytes from {provider}"));
    }
    if captured.method == Method::HEAD {
        notes.push("the ingress answers every HEAD request with 200".to_owned());
    } else if captured.method != Method::POST {
        notes.push(format!("the ingress accepts POST, not {}", captured.method));
    }
    notes
}

fn certificate_needed(url: &str) -> InputError {
    InputError(format!(
        "this message can only be verified with its certificate, which is not downloaded here: \
         run `curl -o sns.pem '{url}'`, then give --secret-file sns.pem"
    ))
}

/// Prints the report. If the reader of the output ends early, the verdict is still the exit status.
fn print(report: &str) -> Result<(), InputError> {
    match io::stdout().write_all(report.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(InputError(format!("the report cannot be written: {error}")))
        }
        _ => Ok(()),
    }
}
