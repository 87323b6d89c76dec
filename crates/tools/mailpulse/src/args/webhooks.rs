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
    /// The provider whose scheme to verify.
    #[arg(long, value_name = "PROVIDER", value_parser = providers())]
    pub(crate) provider: Provider,
    /// Verify with the settings of this `[[source]]`; further options override them.
    #[arg(long, value_name = "NAME", conflicts_with = "secret_files")]
    pub(crate) source: Option<String>,
    #[command(flatten)]
    pub(crate) scheme: Scheme,
    /// When the request was received: RFC 3339, or unix seconds. The default is now.
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub(crate) at: Option<Timestamp>,
    /// The client's address.
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) remote_ip: Option<IpAddr>,
    /// Print a JSON object instead of the report.
    #[arg(long)]
    pub(crate) json: bool,
    /// The captured request: request line, headers, an empty line, body. `-` is standard input.
    pub(crate) request: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct Parse {
    /// The provider that posted the body.
    #[arg(long, value_name = "PROVIDER", value_parser = providers())]
    pub(crate) provider: Provider,
    /// The configured source. It is part of every `event_id`.
    #[arg(long, value_name = "NAME", default_value = "default")]
    pub(crate) source: String,
    /// When the request was received: RFC 3339, or unix seconds. The default is now.
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub(crate) received_at: Option<Timestamp>,
    /// The `request_id` of the events.
    #[arg(long, value_name = "ID", default_value = "parse")]
    pub(crate) request_id: String,
    /// The body is from Kafka (`dead-letters show --raw`, a record of `mail.raw.*`): if a key for
    /// pseudonyms is configured, its addresses have already been replaced.
    #[arg(long)]
    pub(crate) published: bool,
    /// The body, or a captured request (if its name ends with `.http`, or it begins with a request
    /// line). `-` is standard input.
    pub(crate) body: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct Sign {
    /// The provider whose scheme to use.
    #[arg(long, value_name = "PROVIDER", value_parser = providers())]
    pub(crate) provider: Provider,
    /// The configured source, which is the last segment of the path.
    #[arg(long, value_name = "NAME", default_value = "default")]
    pub(crate) source: String,
    #[command(flatten)]
    pub(crate) scheme: Scheme,
    /// The time of the signature: RFC 3339, or unix seconds. The default is now.
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub(crate) at: Option<Timestamp>,
    /// Generate keys in this directory, for signing and for verifying, and sign with them.
    #[arg(long, value_name = "DIRECTORY", conflicts_with = "secret_files")]
    pub(crate) generate_key: Option<PathBuf>,
    /// Postal: the id of the key, which is sent in a header.
    #[arg(long, value_name = "ID", default_value = "mailpulse")]
    pub(crate) key_id: String,
    /// Print a curl command instead of the request.
    #[arg(long)]
    pub(crate) curl: bool,
    /// The body as the provider would post it, or without its envelope (Mailgun: the event; SES:
    /// the record; Mandrill: the array). `-` is standard input. Optional with --generate-key.
    #[arg(required_unless_present = "generate_key")]
    pub(crate) body: Option<PathBuf>,
}

/// The secrets and options of a `[[source]]`, with the same names.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Scheme {
    /// A file with a secret. A line end after it is ignored. Repeatable: any of the secrets may
    /// match. SES: a certificate in PEM (`sign`: a private key).
    #[arg(long = "secret-file", value_name = "FILE")]
    pub(crate) secret_files: Vec<PathBuf>,
    /// Mandrill: the webhook's URL exactly as configured at Mandrill. `sign`: where to post.
    #[arg(long, value_name = "URL", visible_alias = "public-url")]
    pub(crate) url: Option<String>,
    /// SES: a TopicArn whose messages are accepted; repeatable.
    #[arg(long = "topic", value_name = "ARN")]
    pub(crate) topics: Vec<String>,
    /// A network that requests may come from, such as 192.0.2.0/24; repeatable.
    #[arg(long = "allow-ip", value_name = "NETWORK")]
    pub(crate) allow_ips: Vec<String>,
    /// The greatest difference between the signed time and the time of receipt: seconds, or such as
    /// 5m.
    #[arg(long, value_name = "TIME", value_parser = tolerance)]
    pub(crate) tolerance: Option<u64>,
    /// SES: the version of the signature; `verify` accepts this one and later ones.
    #[arg(long, value_name = "VERSION", value_parser = clap::value_parser!(u8).range(1..=2))]
    pub(crate) signature_version: Option<u8>,
    /// Postmark, SparkPost, Brevo, Mailjet: the scheme of the header `Authorization`.
    #[arg(long, value_name = "SCHEME", value_parser = ["basic", "bearer"])]
    pub(crate) scheme: Option<String>,
    /// Generic: the header of the signature. Postmark, SparkPost, Brevo, Mailjet: the header of the
    /// secret, instead of `Authorization`.
    #[arg(long, value_name = "NAME")]
    pub(crate) header: Option<String>,
    /// Generic: the hash of the HMAC.
    #[arg(long, value_name = "HASH", value_parser = ["sha1", "sha256", "sha512"])]
    pub(crate) algorithm: Option<String>,
    /// Generic: the encoding of the signature.
    #[arg(long, value_name = "ENCODING", value_parser = ["hex", "base64"])]
    pub(crate) encoding: Option<String>,
    /// Generic: the text before the signature in its header.
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pub(crate) prefix: Option<String>,
    /// Generic: the template of the signed text, such as `{body}`, `{timestamp}.{body}` or
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
    /// Generic: the encoding of the secrets.
    #[arg(long, value_name = "ENCODING", value_parser = ["raw", "hex", "base64"])]
    pub(crate) secret_encoding: Option<String>,
}

impl Scheme {
    /// Returns the given options as a `[[source]]` table.
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

impl Scheme {
    /// Returns the options of a `[[source]]` table. Other keys of the table are left out.
    pub(crate) fn of_source(table: &Table) -> Self {
        let text = |key: &str| Some(table.get(key)?.as_str()?.to_owned());
        let list = |key: &str| {
            let values = table.get(key).and_then(Value::as_array).into_iter().flatten();
            values.filter_map(|value| Some(value.as_str()?.to_owned())).collect()
        };
        let number = |key: &str| table.get(key).and_then(Value::as_integer);
        // A source whose time is in the body signs only the body, unless it says otherwise.
        let body_only = || table.contains_key("timestamp").then(|| "{body}".to_owned());
        Self {
            secret_files: Vec::new(),
            url: text("public_url"),
            topics: list("topics"),
            allow_ips: list("allow_ips"),
            tolerance: number("tolerance_seconds").and_then(|seconds| seconds.try_into().ok()),
            signature_version: number("signature_version").and_then(|it| it.try_into().ok()),
            scheme: text("scheme"),
            header: text("header"),
            algorithm: text("algorithm"),
            encoding: text("encoding"),
            prefix: text("prefix"),
            signed: text("signed").or_else(body_only),
            timestamp_header: text("timestamp_header"),
            timestamp_unit: text("timestamp_unit"),
            id_header: text("id_header"),
            secret_encoding: text("secret_encoding"),
        }
    }
}

fn time(text: &str) -> Result<Timestamp, String> {
    let unix = text.parse().ok().and_then(|seconds| Timestamp::from_second(seconds).ok());
    unix.or_else(|| text.parse().ok())
        .ok_or_else(|| "write a time such as 2026-11-21T10:00:00Z, or unix seconds".to_owned())
}

fn tolerance(text: &str) -> Result<u64, String> {
    if let Ok(seconds) = text.parse() {
        return Ok(seconds);
    }
    let duration = service::units::parse_duration(text);
    duration
        .map(|duration| duration.as_secs())
        .map_err(|_| "write seconds, or a duration such as 5m".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_rfc_3339_or_unix_seconds() {
        let of = |text| time(text).map(|time| time.to_string());
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
        assert_eq!(Scheme::of_source(&options).options(), options);
        let timed: Table = "timestamp = \"/at\"".parse().unwrap();
        assert_eq!(Scheme::of_source(&timed).signed.as_deref(), Some("{body}"));
        for key in options.keys() {
            let is_option = |provider| providers::Options::keys(provider).contains(&&**key);
            assert!(Provider::ALL.into_iter().any(is_option), "{key}");
        }
        for provider in Provider::ALL {
            let mut options = options.clone();
            options.retain(|key, _| providers::Options::keys(provider).contains(&key));
            options.remove(if provider == Provider::Generic { "" } else { "scheme" });
            let read = providers::Options::read(provider, options).unwrap();
            assert_eq!(read.allow_ips().0.len(), 1, "{provider}");
        }
        assert!(Scheme::default().options().is_empty());
    }
}
