//! The settings of an installation that is recorded. They contain every section and key, most of them
//! with another value than the default, so that a later release that renames one must still read it.

use event::Provider;
use testkit::Credentials;

/// By how much events may be out of order, in microseconds; as in the settings.
pub(crate) const OUT_OF_ORDERNESS: i64 = 60 * 60_000_000;

/// The environment variable with SendGrid's public key.
pub(crate) const SENDGRID_KEY: &str = "SENDGRID_PUBLIC_KEY";

/// The other environment variables that the settings refer to, with their values.
pub(crate) const ENVIRONMENT: [(&str, &str); 3] = [
    ("MAILGUN_SIGNING_KEY_NEXT", "key-that-mailgun-does-not-use-yet"),
    ("SPARKPOST_TOKEN", EU_TOKEN),
    ("MAILPULSE_HOOK_SECRET", "whsec_bWFpbHB1bHNlLXJlY29yZGluZy1ob29rLXNlY3JldA=="),
];

/// The token that SparkPost sends to the source `eu`, and the header that contains it.
pub(crate) const EU_TOKEN: &str = "recording-sparkpost-token-4c1f";
pub(crate) const EU_HEADER: &str = "x-mailpulse-token";

/// Sources that the testkit does not have, by what is special about their verification.
pub(crate) const UNVERIFIED: (Provider, &str) = (Provider::Postmark, "open-gate");
pub(crate) const OWN_HEADER: (Provider, &str) = (Provider::SparkPost, "eu");
pub(crate) const SHADOW: (Provider, &str) = (Provider::SendGrid, "trial");
pub(crate) const DEFAULT: (Provider, &str) = (Provider::Mailgun, "default");

/// Other files to which the settings refer, with their content.
pub(crate) const FILES: [(&str, &str); 2] = [
    (
        "lookups/campaigns.csv",
        "campaign,tenant,team,budget\nautumn-sale,acme-retail,growth,42\n\
         weekly-digest,acme-media,editorial,7\nwelcome,acme-retail,crm,\n",
    ),
    ("secrets/pseudonym-key", "6d61696c70756c73652d7265636f7264\n"),
];

/// Returns the settings, and the names and contents of the files under `secrets/` to which they refer.
pub(crate) fn generate(credentials: &Credentials) -> (String, Vec<(String, String)>) {
    let mut toml = format!("{BEFORE_RULES}\n{RULES}\n{AFTER_RULES}");
    let mut secrets = Vec::new();
    for (provider, name, options) in SOURCES {
        let mut table = credentials.source_toml(*provider, name);
        match (provider, name) {
            (Provider::SendGrid, _) => {
                let key = format!("\"{}\"", credentials.sendgrid_public_key());
                table = table.replace(&key, &format!("\"env:{SENDGRID_KEY}\""));
            }
            (Provider::Mailgun | Provider::Postmark | Provider::MailerSend, _) => {
                let file = format!("{provider}-{name}");
                let secret = secret_of(&table).to_owned();
                let next = if *provider == Provider::Mailgun {
                    ", \"env:MAILGUN_SIGNING_KEY_NEXT\""
                } else {
                    ""
                };
                let literal = format!("\"{secret}\"");
                table = table.replace(&literal, &format!("\"file:secrets/{file}\"{next}"));
                secrets.push((file, secret));
            }
            (Provider::Generic, _) => {
                table = table.replace("tolerance_seconds = 300", "tolerance_seconds = 900");
            }
            _ => {}
        }
        toml.push_str(&format!("\n{table}{options}"));
    }
    toml.push_str(MORE_SOURCES);
    (toml, secrets)
}

/// Returns the secret in a `[[source]]` table.
fn secret_of(table: &str) -> &str {
    table.split_once("secrets = [\"").and_then(|(_, rest)| rest.split('"').next()).unwrap_or("")
}

/// The testkit's sources, and options in addition to their secrets.
const SOURCES: &[(Provider, &str, &str)] = &[
    (Provider::SendGrid, "acme", "tolerance_seconds = 86400\nrate = 5000\nburst = 20000\n"),
    (Provider::Mailgun, "blue-shop", "tolerance_seconds = 28800\n"),
    (Provider::Postmark, "receipts", "allow_ips = [\"127.0.0.0/8\", \"::1\"]\n"),
    (Provider::Ses, "news", "signature_version = 2\n"),
    (Provider::Mandrill, "city-press", ""),
    (
        Provider::Generic,
        "inhouse",
        "timestamp_unit = \"seconds\"\nencoding = \"hex\"\nalgorithm = \"sha256\"\n\
         secret_encoding = \"raw\"\n",
    ),
    (Provider::SparkPost, "harbour", "scheme = \"basic\"\n"),
    (Provider::Resend, "dev-tools", "tolerance_seconds = 900\n"),
    (Provider::StandardWebhooks, "forum", "tolerance_seconds = 900\n"),
    (Provider::Brevo, "bakery", ""),
    (Provider::Mailjet, "festival", "allow_ips = [\"127.0.0.1/32\"]\n"),
    (Provider::MailerSend, "clinic", "rate = 2000\nburst = 4000\n"),
    (Provider::Postal, "campus", ""),
    (Provider::Generic, "legacy", ""),
];

const MORE_SOURCES: &str = r#"
# The load balancer admits only Postmark's addresses.
[[source]]
provider = "postmark"
name = "open-gate"
unverified = true

[[source]]
provider = "sparkpost"
name = "eu"
header = "X-Mailpulse-Token"
secrets = ["env:SPARKPOST_TOKEN"]
allow_ips = ["127.0.0.0/8"]

# A new source. Verification is enforced when its counter of rejected requests no longer grows.
[[source]]
provider = "sendgrid"
name = "trial"
shadow = true
secrets = ["env:SENDGRID_PUBLIC_KEY"]

# POST /webhooks/mailgun
[[source]]
provider = "mailgun"
name = "default"
secrets = ["file:secrets/mailgun-blue-shop"]

[[source]]
provider = "generic"
name = "partner"
secrets = ["cGFydG5lci1rZXktb2YtMjQtYnl0ZXM="]
header = "X-Partner-Signature"
prefix = "v2="
encoding = "base64"
algorithm = "sha512"
signed = "{id}.{timestamp}.{body}"
id_header = "X-Partner-Id"
timestamp_header = "X-Partner-Time"
timestamp_unit = "milliseconds"
secret_encoding = "base64"
tolerance_seconds = 120
"#;

const BEFORE_RULES: &str = r#"# Mailpulse at Example Mail, Inc.

[service]
# Set for each process: MAILPULSE__SERVICE__INSTANCE.
instance = ""
log = "info,kafka=debug"
log_format = "json"

[kafka]
bootstrap = "127.0.0.1:9092"
prefix = "eu1."
group_protocol = "consumer"
compression = "none"

[kafka.properties]
"max.poll.interval.ms" = 120000
"socket.nagle.disable" = true

[topics]
recipient_partitions = 3
scope_partitions = 2
replication = 1
create = true

[clickhouse]
url = "http://127.0.0.1:8123"
database = "mailpulse"
user = "default"
password = ""

[ingress]
listen = "127.0.0.1:8080"
admin = "127.0.0.1:9101"
max_connections = 512
read_timeout = "8s"
body_memory_bytes = 67108864
trusted_proxies = ["10.0.0.0/8", "fd00::/8"]
client_header = "forwarded"
rejection_burst = 50
rejections_per_minute = 30
replay_cache_tokens = 100000
ack_timeout = "2s"
queue_bytes = 67108864
spool_directory = "state/spool"
spool_bytes = 268435456
linger = "5ms"
drain_delay = "500ms"
drain_timeout = "10s"
sns_certificates = "certificates"

[privacy]
pseudonym_key = "file:secrets/pseudonym-key"

[enrich]
admin = "127.0.0.1:9102"
batch_records = 2000
batch_wait = "40ms"
refusal_limit = 500
mx_lookups = false
mx_resolver = "127.0.0.1:53"
mx_timeout = "100ms"
mx_cache_domains = 5000
geo_city = ""
geo_asn = ""
lookup = ["lookups/campaigns.csv"]

[[enrich.extract]]
provider = "postmark"
stream = "/MessageStream"

[[enrich.extract]]
provider = "ses"
stream = "/Message/mail/tags/ses:configuration-set"

[[enrich.extract]]
provider = "sendgrid"
source = "acme"
stream = "/pool/name"
tags = "/category"

[dedupe]
admin = "127.0.0.1:9103"
batch_records = 3000
batch_wait = "30ms"
refusal_limit = 500
horizon = "96h"
directory = "state/dedupe"
immediate_within = "1s"
link_burst_links = 4
link_burst_within = "8s"

[monitor]
admin = "127.0.0.1:9104"
batch_records = 4000
batch_wait = "60ms"
refusal_limit = 500
out_of_orderness = "60m"
allowed_lateness = "60m"
idle_after = "2h"
"#;

/// The rules. The last one cannot fire. The others resolve at once: the recomputation of alerts does not
/// support `resolve_ratio` and `resolve_after`.
pub(crate) const RULES: &str = r#"
[[monitor.rule]]
name = "bounce_rate"
metric = "bounce"
direction = "over"
threshold = 0.04
critical = 0.12
min_volume = 150
widths = ["5m", "15m", "60m"]
runbook = "https://wiki.example.com/bounces"

[[monitor.rule]]
name = "complaint_rate"
metric = "complaint"
direction = "over"
threshold = 0.002
min_volume = 800
widths = ["60m"]
runbook = "https://wiki.example.com/complaints"

[[monitor.rule]]
name = "low_engagement"
metric = "engagement"
direction = "under"
threshold = 0.12
critical = 0.05
min_volume = 250
widths = ["60m"]

[[monitor.rule]]
name = "unsubscribe_rate"
metric = "unsubscribe"
direction = "over"
threshold = 0.9
min_volume = 100
widths = ["15m", "60m"]
resolve_ratio = 0.8
resolve_after = "30m"
"#;

const AFTER_RULES: &str = r#"
[archive]
admin = "127.0.0.1:9105"
batch_rows = 5000
batch_wait = "200ms"
migrate = true
retry_min = "100ms"
retry_max = "2s"
refusal_limit = 500

[notify]
admin = "127.0.0.1:9106"
retry_min = "250ms"
retry_max = "5s"
give_up_after = "12h"

[[notify.channel]]
name = "log"
kind = "log"

[[notify.channel]]
name = "alertmanager"
kind = "alertmanager"
url = "http://127.0.0.1:9180/alertmanager"
expires_after = "6h"

[[notify.channel]]
name = "hook"
kind = "webhook"
url = "http://127.0.0.1:9180/hooks/mailpulse"
secret = "env:MAILPULSE_HOOK_SECRET"
"#;

#[cfg(test)]
mod tests {
    use toml::{Table, Value};

    use super::*;

    /// Settings that were added after the recorded release. A recording of a later release has them.
    const ADDED: &[&str] = &[
        "max_message_bytes",
        "session_timeout",
        "max_connections_per_client",
        "idle_timeout",
        "write_timeout",
        "body_memory_client_share",
        "body_memory_small_share",
        "min_body_rate",
        "max_events",
        "max_recipients",
        "max_published_bytes",
        "batch_bytes",
        "ca_file",
        "certificate_file",
        "key_file",
        "cluster",
        "max_scopes_per_source",
        "max_scope_bytes",
        "scopes",
        "publish",
        "remember",
        "time_every",
        "tls_certificate",
        "tls_key",
        "override",
        "incidents",
        "gather",
        "explain",
        "explain_within",
        "mask_recipients",
        "zone",
        "dashboard_url",
        "runbook_base",
        "allow_private",
        "count_unauthentic",
        "acknowledgements",
        "conversion",
        "interest",
        "lookup_query",
        "retention",
        "erasure_key",
        "spool_keys",
    ];

    #[test]
    fn the_settings_contain_every_key_of_the_reference() {
        let (text, _) = generate(&Credentials::new("https://hooks.example.com"));
        let settings: Table = toml::from_str(&text).unwrap();
        let reference: Table = toml::from_str(service::REFERENCE).unwrap();
        // Services that the recorded installation did not have.
        let is_added = |section: &String| {
            ["console", "suppress", "forwarding", "automate", "automation"]
                .contains(&section.as_str())
        };
        for (section, keys) in reference.iter().filter(|(section, _)| !is_added(section)) {
            let Value::Table(keys) = keys else { continue };
            for key in keys.keys().filter(|key| !ADDED.contains(&key.as_str())) {
                let present = settings[section].as_table().unwrap().contains_key(key);
                assert!(present, "{section}.{key} is not in the recorded settings");
            }
        }
    }
}
