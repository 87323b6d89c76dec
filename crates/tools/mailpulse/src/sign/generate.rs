//! Generates keys: the key that signs, and the key for the configuration of a source.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der, PublicKeyX509Der};
use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RsaKeyPair,
};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use event::Provider;

use crate::InputError;
use crate::args::Scheme;

struct KeyFile {
    name: &'static str,
    text: String,
    /// Whether this key signs requests. Otherwise it verifies them.
    signs: bool,
}

/// Generates the keys of a provider and writes them into `directory`, which is created if it is
/// missing. Never overwrites a file. Returns the keys that sign.
pub(super) fn keys(
    provider: Provider,
    scheme: &Scheme,
    directory: &Path,
) -> anyhow::Result<Vec<String>> {
    let files = match provider {
        Provider::SendGrid => sendgrid()?,
        Provider::Ses => ses()?,
        Provider::Postal => postal()?,
        Provider::StandardWebhooks => standard_webhooks()?,
        Provider::Resend => {
            vec![shared_secret(format!("whsec_{}", STANDARD.encode(random::<24>()?)))]
        }
        Provider::Postmark | Provider::SparkPost | Provider::Brevo | Provider::Mailjet => {
            let is_basic = scheme.header.is_none() && scheme.scheme.as_deref() != Some("bearer");
            let user = if is_basic { format!("{provider}:") } else { String::new() };
            vec![shared_secret(format!("{user}{}", hex::encode(random::<24>()?)))]
        }
        Provider::Generic if scheme.secret_encoding.as_deref() == Some("base64") => {
            vec![shared_secret(STANDARD.encode(random::<32>()?))]
        }
        // Most providers share one secret with their customer.
        _ => vec![shared_secret(hex::encode(random::<32>()?))],
    };
    std::fs::create_dir_all(directory).map_err(|error| {
        InputError(format!("{} cannot be created: {error}", directory.display()))
    })?;
    for file in &files {
        write(&directory.join(format!("{provider}-{}", file.name)), file)?;
    }
    Ok(files.into_iter().filter(|file| file.signs).map(|file| file.text).collect())
}

fn write(path: &PathBuf, file: &KeyFile) -> anyhow::Result<()> {
    let mode = if file.signs { 0o600 } else { 0o644 };
    let opened = OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
    let mut out = opened
        .map_err(|error| InputError(format!("{} cannot be written: {error}", path.display())))?;
    writeln!(out, "{}", file.text.trim_end())?;
    let what = if file.signs { "signs" } else { "verifies" };
    // An error of standard error cannot be reported.
    let _ = writeln!(io::stderr(), "{} {what}", path.display());
    Ok(())
}

/// A secret for signing and verifying.
fn shared_secret(text: String) -> KeyFile {
    KeyFile { name: "secret.txt", text, signs: true }
}

fn sendgrid() -> anyhow::Result<Vec<KeyFile>> {
    let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).map_err(no_key)?;
    let private = pair.to_pkcs8v1().map_err(no_key)?;
    let public: PublicKeyX509Der<'_> = pair.public_key().as_der().map_err(no_key)?;
    Ok(vec![
        KeyFile {
            name: "private-key.pem",
            text: pem("PRIVATE KEY", private.as_ref()),
            signs: true,
        },
        KeyFile { name: "public-key.txt", text: STANDARD.encode(public.as_ref()), signs: false },
    ])
}

fn postal() -> anyhow::Result<Vec<KeyFile>> {
    let (pair, private) = rsa()?;
    let public: PublicKeyX509Der<'_> = pair.public_key().as_der().map_err(no_key)?;
    Ok(vec![
        private,
        KeyFile { name: "public-key.pem", text: pem("PUBLIC KEY", public.as_ref()), signs: false },
    ])
}

/// Returns a key and a self-signed certificate, which replaces Amazon's.
fn ses() -> anyhow::Result<Vec<KeyFile>> {
    let (_, private) = rsa()?;
    let key = rcgen::KeyPair::from_pem(&private.text)?;
    let mut params = rcgen::CertificateParams::default();
    params.distinguished_name.push(rcgen::DnType::CommonName, "mailpulse sign, not Amazon SNS");
    let certificate = params.self_signed(&key)?.pem();
    Ok(vec![private, KeyFile { name: "certificate.pem", text: certificate, signs: false }])
}

/// Returns a secret for `v1` and a key pair for `v1a`. Requests have a signature of each.
fn standard_webhooks() -> anyhow::Result<Vec<KeyFile>> {
    let seed = random::<32>()?;
    let pair = Ed25519KeyPair::from_seed_unchecked(&seed)
        .map_err(|_| anyhow!("an Ed25519 key could not be generated"))?;
    let public = pair.public_key().as_ref();
    let private = STANDARD.encode([&seed[..], public].concat());
    Ok(vec![
        shared_secret(format!("whsec_{}", STANDARD.encode(random::<24>()?))),
        KeyFile { name: "private-key.txt", text: format!("whsk_{private}"), signs: true },
        KeyFile {
            name: "public-key.txt",
            text: format!("whpk_{}", STANDARD.encode(public)),
            signs: false,
        },
    ])
}

fn rsa() -> anyhow::Result<(RsaKeyPair, KeyFile)> {
    let pair = RsaKeyPair::generate(KeySize::Rsa2048).map_err(no_key)?;
    let der: Pkcs8V1Der<'_> = pair.as_der().map_err(no_key)?;
    let text = pem("PRIVATE KEY", der.as_ref());
    drop(der);
    Ok((pair, KeyFile { name: "private-key.pem", text, signs: true }))
}

/// Writes PEM (RFC 7468): base64 in lines of 64 characters.
fn pem(label: &str, der: &[u8]) -> String {
    let base64 = STANDARD.encode(der);
    let mut text = format!("-----BEGIN {label}-----\n");
    for line in base64.as_bytes().chunks(64) {
        text.extend(line.iter().map(|&byte| char::from(byte)));
        text.push('\n');
    }
    text + &format!("-----END {label}-----\n")
}

fn random<const N: usize>() -> anyhow::Result<[u8; N]> {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).map_err(no_key).context("the system has no randomness")?;
    Ok(bytes)
}

fn no_key(_: aws_lc_rs::error::Unspecified) -> anyhow::Error {
    anyhow!("a key could not be generated")
}
