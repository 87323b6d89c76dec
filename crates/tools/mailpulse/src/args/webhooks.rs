//! The arguments of `verify`, `parse` and `sign`.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::Args;
use event::Provider;
use jiff::Timestamp;
use toml::{Table, Value};

use super::providers;

#[derive(Debug, Args)]
pub(crate) struct Verify {
    /// Who is said to have posted it.
    #[arg(long, value_name = "PROVIDER", value_parser = providers())]
    pub(crate) provider: Provider,
    /// Verify as this `[[source]]` of the configuration would; further options override its own.
    #[arg(long, value_name = "NAME", conflicts_with = "secret_files")]
    pub(crate) source: Option<String>,
    #[command(flatten)]
    pub(crate) scheme: Scheme,
    /// The time it came in: RFC 3339, or unix seconds. Now, if not given.
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub(crate) at: Option<Timestamp>,
    /// The address it came from.
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) remote_ip: Option<IpAddr>,
    /// One JSON object in place of the report.
    #[arg(long)]
    pub(crate) json: bool,
    /// The captured request: request line, headers, empty line, body bytes. `-` is standard input.
    pub(crate) request: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct Parse {
    /// Who posted it.
    #[arg(long, value_name = "PROVIDER", value_parser = providers())]
    pub(crate) provider: Provider,
    /// The configured source it came in by, which is part of every `event_id`.
    #[arg(long, value_name = "NAME", default_value = "default")]
    pub(crate) source: String,
    /// The time it came in: RFC 3339, or unix seconds. Now, if not given.
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub(crate) received_at: Option<Timestamp>,
    /// The `request_id` of the events.
    #[arg(long, value_name = "ID", default_value = "parse")]
    pub(crate) request_id: String,
    /// The body comes out of Kafka (`dead-letters show --raw`, a record of `mail.raw.*`): where
    /// there is a key for pseudonyms, its addresses are such already.
    #[arg(long)]
    pub(crate) published: bool,
    /// The body, or a captured request (a file that ends in `.http`, or begins with a request
    /// line). `-` is standard input.
    pub(crate) body: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct Sign {
    /// Whose scheme.
    #[arg(long, value_name = "PROVIDER", value_parser = providers())]
    pub(crate) provider: Provider,
    /// The configured source it is for: the last segment of the path.
    #[arg(long, value_name = "NAME", default_value = "default")]
    pub(crate) source: String,
    #[command(flatten)]
    pub(crate) scheme: Scheme,
    /// The time to sign for: RFC 3339, or unix seconds. Now, if not given.
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub(crate) at: Option<Timestamp>,
    /// Make fresh keys in this directory, and sign with them: what signs, and what verifies.
    #[arg(long, value_name = "DIRECTORY", conflicts_with = "secret_files")]
    pub(crate) generate_key: Option<PathBuf>,
    /// Postal: the id of the key, for its header.
    #[arg(long, value_name = "ID", default_value = "mailpulse")]
    pub(crate) key_id: String,
    /// A curl command in place of the request.
    #[arg(long)]
    pub(crate) curl: bool,
    /// What to sign: the body as the provider would post it, or what its envelope is put around
    /// (Mailgun: the event; SES: the record; Mandrill: the array). `-` is standard input. May be
    /// left out with --generate-key.
    #[arg(required_unless_present = "generate_key")]
    pub(crate) body: Option<PathBuf>,
}

/// How the provider proves who it is: the options of a `[[source]]`, by the same names.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Scheme {
    /// A file with a secret, whose line end is not part of it; repeatable, any may be the right
    /// one. SES: a certificate in PEM (`sign`: a private key).
    #[arg(long = "secret-file", value_name = "FILE")]
    pub(crate) secret_files: Vec<PathBuf>,
    /// Mandrill: the webhook's address exactly as configured there. `sign`: where to post to.
    #[arg(long, value_name = "URL", visible_alias = "public-url")]
    pub(crate) url: Option<String>,
    /// SES: a TopicArn whose messages are taken; repeatable.
    #[arg(long = "topic", value_name = "ARN")]
    pub(crate) topics: Vec<String>,
    /// A network that requests may come from, such as 192.0.2.0/24; repeatable.
    #[arg(long = "allow-ip", value_name = "NETWORK")]
    pub(crate) allow_ips: Vec<String>,
    /// Greatest distance between the signed time and the time of arrival: seconds, or like 5m.
    #[arg(long, value_name = "TIME", value_parser = tolerance)]
    pub(crate) tolerance: Option<u64>,
    /// SES: the version of the signature; `verify` takes this one or a later.
    #[arg(long, value_name = "VERSION", value_parser = clap::value_parser!(u8).range(1..=2))]
    pub(crate) signature_version: Option<u8>,
    /// Postmark, SparkPost, Brevo, Mailjet: how the secret stands in `Authorization`.
    #[arg(long, value_name = "SCHEME", value_parser = ["basic", "bearer"])]
    pub(crate) scheme: Option<String>,
    /// Generic: the header of the signature. Postmark, SparkPost, Brevo, Mailjet: the header of the
    /// secret, in place of `Authorization`.
    #[arg(long, value_name = "NAME")]
    pub(crate) header: Option<String>,
    /// Generic: the hash of the HMAC.
    #[arg(long, value_name = "HASH", value_parser = ["sha1", "sha256", "sha512"])]
    pub(crate) algorithm: Option<String>,
    /// Generic: how the signature is written.
    #[arg(long, value_name = "ENCODING", value_parser = ["hex", "base64"])]
    pub(crate) encoding: Option<String>,
    /// Generic: what stands before the signature in its header.
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pub(crate) prefix: Option<String>,
    /// Generic: what is signed, such as `{body}`, `{timestamp}.{body}` or
    /// `{id}.{timestamp}.{body}`.
    #[arg(long, value_name = "TEMPLATE")]
    pub(crate) signed: Option<String>,
    /// Generic: the header of the signed time.
    #[arg(long, value_name = "NAME")]
    pub(crate) timestamp_header: Option<String>,
    /// Generic: the unit of the signed time.
    #[arg(long, value_name = "UNIT", value_parser = ["seconds", "milliseconds"])]
    pub(crate) timestamp_unit: Option<String>,
    /// Generic: the header of the signed id.
    #[arg(long, value_name = "NAME")]
    pub(crate) id_header: Option<String>,
    /// Generic: how the secrets are written.
    #[arg(long, value_name = "ENCODING", value_parser = ["raw", "hex", "base64"])]
    pub(crate) secret_encoding: Option<String>,
}

impl Scheme {
    /// What was given, as the keys of a `[[source]]` table.
    pub(crate) fn options(&self) -> Table {
        let texts = [
            ("public_url", &self.url),
            ("scheme", &self.scheme),
            ("header", &self.header),
            ("algorithm", &self.algorithm),
            ("encoding", &self.encoding),
            ("prefix", &self.prefix),
            ("signed", &self.signed),
            ("timestamp_header", &self.timestamp_header),
            ("timestamp_unit", &self.timestamp_unit),
            ("id_header", &self.id_header),
            ("secret_encoding", &self.secret_encoding),
        ];
        let texts = texts.into_iter().filter_map(|(key, text)| Some((key, text.clone()?.into())));
        let lists = [("topics", &self.topics), ("allow_ips", &self.allow_ips)];
        let lists = lists.into_iter().filter(|(_, list)| !list.is_empty());
        let lists = lists.map(|(key, list)| (key, Value::from(list.clone())));
        let tolerance = self.tolerance.and_then(|seconds| i64::try_from(seconds).ok());
        let numbers = [
            ("tolerance_seconds", tolerance),
            ("signature_version", self.signature_version.map(i64::from)),
        ];
        let numbers =
            numbers.into_iter().filter_map(|(key, number)| Some((key, Value::from(number?))));
        texts.chain(lists).chain(numbers).map(|(key, value)| (key.to_owned(), value)).collect()
    }
}

fn moment(text: &str) -> Result<Timestamp, String> {
    let unix = text.parse().ok().and_then(|seconds| Timestamp::from_second(seconds).ok());
    unix.or_else(|| text.parse().ok())
        .ok_or_else(|| "write it like 2026-11-21T10:00:00Z, or in unix seconds".to_owned())
}

fn tolerance(text: &str) -> Result<u64, String> {
    if let Ok(seconds) = text.parse() {
        return Ok(seconds);
    }
    let duration = service::units::parse_duration(text);
    duration.map(|time| time.as_secs()).map_err(|_| "write it in seconds, or like 5m".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_rfc_3339_or_unix_seconds() {
        let of = |text| moment(text).map(|moment| moment.to_string());
        assert_eq!(of("2026-11-21T12:00:00+02:00").unwrap(), "2026-11-21T10:00:00Z");
        assert_eq!(of("1795255200").unwrap(), "2026-11-21T10:00:00Z");
        for text in ["now", "2026-11-21", "99999999999999999"] {
            assert!(of(text).unwrap_err().contains("unix seconds"), "{text}");
        }
        assert_eq!((tolerance("300"), tolerance("5m")), (Ok(300), Ok(300)));
        assert!(tolerance("long").is_err());
    }

    #[test]
    fn options_have_the_names_of_the_settings_file() {
        let everything = Scheme {
            secret_files: vec!["s".into()],
            url: Some("https://x.test/".into()),
            topics: vec!["arn:aws:sns:r:1:t".into()],
            allow_ips: vec!["192.0.2.0/24".into()],
            tolerance: Some(300),
            signature_version: Some(2),
            scheme: Some("bearer".into()),
            header: Some("X-Sig".into()),
            algorithm: Some("sha512".into()),
            encoding: Some("base64".into()),
            prefix: Some("v1=".into()),
            signed: Some("{id}.{body}".into()),
            timestamp_header: Some("X-T".into()),
            timestamp_unit: Some("milliseconds".into()),
            id_header: Some("X-Id".into()),
            secret_encoding: Some("hex".into()),
        };
        let options = everything.options();
        assert_eq!(options.len(), 15);
        let read: providers::Options = options.try_into().unwrap();
        assert_eq!((read.tolerance_seconds, read.signature_version), (Some(300), Some(2)));
        assert_eq!(read.allow_ips.len(), 1);
        assert!(Scheme::default().options().is_empty());
    }
}
