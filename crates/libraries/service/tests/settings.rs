//! The settings: defaults, file, environment, and errors that help.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use service::{ClickHouseSettings, LogFormat, Secret, ServiceSettings, Settings, SettingsError};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Monitor {
    admin: SocketAddr,
    batch_records: usize,
    batch_bytes: usize,
    #[serde(with = "service::units::duration")]
    batch_wait: Duration,
    refusal_limit: u32,
    #[serde(with = "service::units::duration")]
    out_of_orderness: Duration,
    #[serde(with = "service::units::duration")]
    idle_after: Duration,
    scopes: Vec<String>,
    max_scopes_per_source: usize,
    max_scope_bytes: usize,
    publish: String,
    rule: Vec<Rule>,
    #[serde(rename = "override")]
    overrides: Vec<toml::Table>,
    incidents: Incidents,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(dead_code)]
struct Incidents {
    join_sources: u32,
    #[serde(with = "service::units::duration")]
    join_within: Duration,
    #[serde(with = "service::units::duration")]
    join_wait: Duration,
    #[serde(with = "service::units::duration")]
    join_wait_page: Duration,
    join_share: f64,
    join_share_ours: f64,
    notifications_per_hour: usize,
    #[serde(with = "service::units::duration")]
    remind: Duration,
    #[serde(with = "service::units::duration")]
    remind_page: Duration,
    #[serde(with = "service::units::duration")]
    update_every: Duration,
    #[serde(with = "service::units::duration")]
    keep_ended: Duration,
    max_open: usize,
    max_ended: usize,
    max_episodes: usize,
    max_all_episodes: usize,
}

/// Some fields of an alert rule.
#[derive(Debug, Deserialize)]
#[allow(dead_code)]
struct Rule {
    name: String,
    min_volume: u64,
    runbook: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kafka {
    bootstrap: String,
    prefix: String,
    group_protocol: Protocol,
    #[serde(with = "service::units::duration")]
    session_timeout: Duration,
    #[serde(rename = "compression")]
    _compression: String,
    max_message_bytes: usize,
    properties: BTreeMap<String, Property>,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Protocol {
    Auto,
    Consumer,
    Classic,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(untagged)]
enum Property {
    Number(i64),
    Text(String),
    Group(BTreeMap<String, Property>),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Topics {
    recipient_partitions: i32,
    scope_partitions: i32,
    replication: i32,
    create: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(dead_code)]
struct Source {
    provider: String,
    name: String,
    secrets: Vec<Secret>,
}

fn load(file: &str, env: &[(&str, &str)]) -> Result<Settings, SettingsError> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("mine.toml");
    std::fs::write(&path, file).unwrap();
    Settings::load(Some(&path), env.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())))
}

fn refusal<T: serde::de::DeserializeOwned + std::fmt::Debug>(
    file: &str,
    env: &[(&str, &str)],
    section: &str,
) -> (&'static str, String) {
    let error = match load(file, env) {
        Err(error) => error,
        Ok(settings) => settings.section::<T>(section).unwrap_err(),
    };
    (error.code(), error.to_string())
}

#[test]
fn the_reference_file_parses_into_the_shared_sections() {
    let settings = Settings::load(None, std::iter::empty()).unwrap();
    let service: ServiceSettings = settings.section("service").unwrap();
    assert_eq!((service.instance.as_str(), service.log.as_str()), ("", "info"));
    assert_eq!(service.log_format, LogFormat::Text);
    let kafka: Kafka = settings.section("kafka").unwrap();
    assert_eq!(kafka.bootstrap, "127.0.0.1:9092");
    assert_eq!(kafka.group_protocol, Protocol::Auto);
    assert_eq!(kafka.session_timeout, Duration::from_secs(10));
    assert_eq!(kafka.max_message_bytes, 20 << 20);
    assert!(kafka.properties.is_empty());
    let topics: Topics = settings.section("topics").unwrap();
    assert_eq!((topics.recipient_partitions, topics.replication, topics.create), (6, 3, true));
    let clickhouse: ClickHouseSettings = settings.section("clickhouse").unwrap();
    assert_eq!((clickhouse.ca_file.as_str(), clickhouse.password.expose()), ("", ""));
    assert_eq!((clickhouse.certificate_file.as_str(), clickhouse.key_file.as_str()), ("", ""));
    assert_eq!(clickhouse.cluster, "");
    assert_eq!(clickhouse.urls(), ["http://127.0.0.1:8123"]);
    assert!(settings.list::<Source>("source").unwrap().is_empty());
}

#[test]
fn a_comma_separates_two_urls_and_may_be_part_of_one() {
    let urls = |url: &str| -> Vec<String> {
        let settings = load(&format!("[clickhouse]\nurl = '{url}'\n"), &[]).unwrap();
        let clickhouse: ClickHouseSettings = settings.section("clickhouse").unwrap();
        clickhouse.urls().into_iter().map(str::to_owned).collect()
    };
    assert_eq!(urls("http://one:8123"), ["http://one:8123"]);
    assert_eq!(
        urls(" http://one:8123 ,https://two:8443,\thttps://three "),
        ["http://one:8123", "https://two:8443", "https://three"]
    );
    let one = "http://u:p,w@one:8123/?settings=a,b";
    assert_eq!(urls(one), [one]);
    assert_eq!(urls(&format!("{one},{one}")), [one, one]);
}

#[test]
fn the_reference_file_parses_into_a_section_of_a_binary() {
    let settings = Settings::load(None, std::iter::empty()).unwrap();
    let monitor: Monitor = settings.section("monitor").unwrap();
    assert_eq!(monitor.admin.port(), 9104);
    assert_eq!((monitor.batch_records, monitor.batch_bytes), (10_000, 32 << 20));
    assert_eq!(monitor.batch_wait, Duration::from_millis(50));
    assert_eq!(monitor.refusal_limit, 1000);
    assert_eq!(monitor.out_of_orderness, Duration::from_secs(5));
    assert_eq!((monitor.scopes.len(), monitor.publish.as_str()), (5, "changes"));
    assert_eq!(monitor.max_scope_bytes, 256 << 20);
    assert_eq!(monitor.idle_after, Duration::from_secs(5));
    assert_eq!(monitor.max_scopes_per_source, 10_000);
    assert!(monitor.rule.is_empty() && monitor.overrides.is_empty(), "the default rules apply");
    let incidents = monitor.incidents;
    assert_eq!((incidents.join_sources, incidents.notifications_per_hour), (3, 6));
    assert_eq!(incidents.remind_page, Duration::from_secs(4 * 3600));
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Privacy {
    #[serde(deserialize_with = "service::secret::optional")]
    pseudonym_key: Secret,
    #[serde(deserialize_with = "service::secret::optional")]
    erasure_key: Secret,
}

#[derive(Debug, Deserialize)]
struct Archive {
    retention: BTreeMap<String, String>,
}

#[derive(Debug, Deserialize)]
struct Ingress {
    spool_keys: Vec<Secret>,
}

#[test]
fn by_default_nothing_is_encrypted_or_erased_and_rows_expire() {
    let settings = Settings::load(None, std::iter::empty()).unwrap();
    let privacy: Privacy = settings.section("privacy").unwrap();
    assert_eq!((privacy.pseudonym_key.expose(), privacy.erasure_key.expose()), ("", ""));
    assert!(settings.section::<Ingress>("ingress").unwrap().spool_keys.is_empty());
    let Archive { retention } = settings.section("archive").unwrap();
    let days = |table: &str| {
        let kept = service::units::parse_duration(&retention[table]).unwrap();
        kept.as_secs() / 86_400
    };
    assert_eq!(["raw", "events", "message_life"].map(days), [30, 90, 400]);
    assert_eq!(["traffic", "cohorts", "rates", "dead_letters"].map(days), [762, 396, 30, 30]);
    assert_eq!(["alerts", "incidents", "actions", "audit"].map(days), [1827, 1827, 400, 1827]);
    assert_eq!(retention.len(), 11);
}

#[test]
fn the_file_overrides_defaults_and_the_environment_overrides_the_file() {
    let file = "[kafka]\nbootstrap = \"a:1\"\nprefix = \"file.\"\n[topics]\nreplication = 1\n";
    let env = [
        ("MAILPULSE__KAFKA__PREFIX", "env."),
        ("mailpulse__topics__Create", "false"),
        ("MAILPULSE__TOPICS__SCOPE_PARTITIONS", "12"),
        ("MAILPULSE_KAFKA", "not ours"),
        ("PATH", "not ours"),
    ];
    let settings = load(file, &env).unwrap();
    let kafka: Kafka = settings.section("kafka").unwrap();
    assert_eq!((kafka.bootstrap.as_str(), kafka.prefix.as_str()), ("a:1", "env."));
    let topics: Topics = settings.section("topics").unwrap();
    assert_eq!((topics.recipient_partitions, topics.scope_partitions), (6, 12));
    assert_eq!((topics.replication, topics.create), (1, false));
}

#[test]
fn a_list_replaces_the_whole_list() {
    let rule = r#"{name="one", min_volume=5, runbook="r"}"#;
    let file = format!("[monitor]\nrule = [{rule}]\n");
    let monitor: Monitor = load(&file, &[]).unwrap().section("monitor").unwrap();
    assert_eq!(monitor.rule.len(), 1);
    let env = format!("[{rule}, {rule}]");
    let settings = load(&file, &[("MAILPULSE__MONITOR__RULE", &env)]).unwrap();
    assert_eq!(settings.section::<Monitor>("monitor").unwrap().rule.len(), 2);
    let source = r#"[{provider = "resend", name = "acme", secrets = ["whsec_x"]}]"#;
    let settings = load("", &[("MAILPULSE__SOURCE", source)]).unwrap();
    let sources: Vec<Source> = settings.list("source").unwrap();
    assert_eq!(sources[0].secrets[0].expose(), "whsec_x");
}

#[test]
fn kafka_properties_are_free_and_their_dots_are_underscores_in_the_environment() {
    let file = "[kafka.properties]\nssl.ca.location = \"/ca\"\n\"sasl.username\" = \"u\"\n\
                linger.ms = 7\n";
    let env = [("MAILPULSE__KAFKA__PROPERTIES__SECURITY_PROTOCOL", "SASL_SSL")];
    let kafka: Kafka = load(file, &env).unwrap().section("kafka").unwrap();
    let text = |text: &str| Property::Text(text.to_owned());
    let group = |key: &str, inner| Property::Group([(key.to_owned(), inner)].into());
    let expected = [
        ("linger", group("ms", Property::Number(7))),
        ("sasl.username", text("u")),
        ("security.protocol", text("SASL_SSL")),
        ("ssl", group("ca", group("location", text("/ca")))),
    ];
    assert_eq!(kafka.properties, expected.map(|(key, value)| (key.to_owned(), value)).into());
}

#[test]
fn unknown_keys_are_refused_with_the_nearest_known_one() {
    let (code, message) = refusal::<Kafka>("[kafka]\nbootsrap = \"x\"\n", &[], "kafka");
    assert_eq!(code, "settings_unknown_key");
    assert!(message.contains("`kafka.bootsrap`"), "{message}");
    assert!(message.contains("mine.toml"), "{message}");
    assert!(message.contains("nearest known key is `kafka.bootstrap`"), "{message}");

    let (_, message) = refusal::<Kafka>("[kafak]\n", &[], "kafka");
    assert!(message.contains("unknown key `kafak`") && message.contains("is `kafka`"), "{message}");

    let env = [("MAILPULSE__INGRESS__MAX_CONECTIONS", "9")];
    let (_, message) = refusal::<Kafka>("", &env, "kafka");
    assert!(message.contains("(MAILPULSE__INGRESS__MAX_CONECTIONS)"), "{message}");
    assert!(message.contains("is `ingress.max_connections`"), "{message}");

    // Lists have no defaults, so the fields of the type are the known keys.
    let file = "[[source]]\nprovider = \"p\"\nname = \"n\"\nsecrets = []\n\
                [[source]]\nprovider = \"p\"\nname = \"n\"\nsecret = []\n";
    let (code, message) = refusal::<Vec<Source>>(file, &[], "source");
    assert_eq!(code, "settings_unknown_key");
    assert!(message.contains("`source[1].secret`"), "{message}");
    assert!(message.contains("is `source[1].secrets`"), "{message}");
}

#[test]
fn wrong_types_are_refused_with_an_example() {
    let (code, message) = refusal::<Monitor>("[monitor]\nbatch_records = \"9\"\n", &[], "monitor");
    assert_eq!(code, "settings_wrong_type");
    assert!(message.contains("`monitor.batch_records`"), "{message}");
    assert!(message.contains("must be a whole number such as 10000, not a text"), "{message}");

    let env = [("MAILPULSE__MONITOR__BATCH_RECORDS", "many")];
    let (code, message) = refusal::<Monitor>("", &env, "monitor");
    assert_eq!(code, "settings_wrong_type");
    assert!(message.contains("(MAILPULSE__MONITOR__BATCH_RECORDS)"), "{message}");

    let (_, message) = refusal::<Monitor>("kafka = 1\n", &[], "monitor");
    assert!(message.contains("write [kafka]"), "{message}");
    let (_, message) = refusal::<Monitor>("[source]\n", &[], "monitor");
    assert!(message.contains("write [[source]]"), "{message}");
}

#[test]
fn a_value_of_the_wrong_type_is_not_shown_because_it_may_be_a_secret() {
    let file = "[kafka]\nproperties = \"s3cret\"\n";
    let (_, message) = refusal::<Kafka>(file, &[], "kafka");
    assert!(message.contains("`kafka.properties`") && message.contains("a text"), "{message}");
    assert!(!message.contains("s3cret"), "{message}");
    let file = "[topics]\nreplication = \"s3cret\"\n";
    let (_, message) = refusal::<Topics>(file, &[], "topics");
    assert!(!message.contains("s3cret"), "{message}");
    let file = "[[source]]\nprovider = \"p\"\nname = \"n\"\nsecrets = \"s3cret\"\n";
    let message = load(file, &[]).unwrap().list::<Source>("source").unwrap_err().to_string();
    assert!(message.contains("a text, expected a sequence"), "{message}");
    assert!(!message.contains("s3cret"), "{message}");
}

#[test]
fn unusable_values_are_refused_by_key_and_origin() {
    let env = [("MAILPULSE__MONITOR__IDLE_AFTER", "5 seconds")];
    let (code, message) = refusal::<Monitor>("", &env, "monitor");
    assert_eq!(code, "settings_invalid_value");
    assert!(message.contains("`monitor.idle_after` (MAILPULSE__MONITOR__IDLE_AFTER)"), "{message}");
    assert!(message.contains("write a whole number and a unit"), "{message}");

    let file = "[kafka]\ngroup_protocol = \"classical\"\n";
    let (_, message) = refusal::<Kafka>(file, &[], "kafka");
    assert!(message.contains("`kafka.group_protocol`"), "{message}");
    assert!(message.contains("expected one of `auto`, `consumer`, `classic`"), "{message}");

    let (_, message) = refusal::<Topics>("[topics]\nreplication = 9999999999\n", &[], "topics");
    assert!(message.contains("`topics.replication`") && message.contains("i32"), "{message}");

    let file = "[[monitor.rule]]\nname = \"n\"\nrunbook = \"\"\n";
    let (code, message) = refusal::<Monitor>(file, &[], "monitor");
    assert_eq!(code, "settings_missing_key");
    assert!(message.contains("`monitor.rule[0].min_volume` is missing"), "{message}");
}

#[test]
fn files_that_are_not_there_or_not_toml_are_named() {
    let path = PathBuf::from("/nonexistent/mailpulse.toml");
    let error = Settings::load(Some(&path), std::iter::empty()).unwrap_err();
    assert_eq!(error.code(), "settings_unreadable");
    assert!(error.to_string().contains("/nonexistent/mailpulse.toml"), "{error}");
    let error = load("[service]\n[kafka\n", &[]).unwrap_err();
    assert_eq!(error.code(), "settings_not_toml");
    assert!(error.to_string().contains("mine.toml is not TOML: line 2"), "{error}");
    let error = load("", &[("MAILPULSE__SOURCE", "[{secrets = [hunter2]}]")]).unwrap_err();
    assert_eq!(error.code(), "settings_not_toml");
    assert!(error.to_string().contains("MAILPULSE__SOURCE"), "{error}");
    assert!(!format!("{error} {error:?}").contains("hunter2"), "{error:?}");
}

#[test]
fn secrets_come_from_where_they_say_and_do_not_show() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("password");
    std::fs::write(&path, "from a file\n").unwrap();
    let password = |text: &str| {
        let settings = load("", &[("MAILPULSE__CLICKHOUSE__PASSWORD", text)])?;
        settings.section::<ClickHouseSettings>("clickhouse").map(|section| section.password)
    };
    assert_eq!(password("hunter2").unwrap().expose(), "hunter2");
    assert_eq!(password("env:CARGO_PKG_NAME").unwrap().expose(), "service");
    assert_eq!(password(&format!("file:{}", path.display())).unwrap().expose(), "from a file");
    assert_eq!(format!("{:?}", password("hunter2").unwrap()), "Secret(hidden)");

    let error = password("env:NO_SUCH_VARIABLE_HERE").unwrap_err().to_string();
    assert!(error.contains("`clickhouse.password`"), "{error}");
    assert!(error.contains("NO_SUCH_VARIABLE_HERE is not set"), "{error}");
    let error = password("file:/nonexistent").unwrap_err().to_string();
    assert!(error.contains("/nonexistent"), "{error}");
    let shown = format!("{:?}", load("", &[("MAILPULSE__CLICKHOUSE__PASSWORD", "hunter2")]));
    assert!(shown.contains("clickhouse.password") && !shown.contains("hunter2"), "{shown}");
}

/// An empty variable is what a missing key in a deployment looks like. It must never turn off what the
/// secret protects.
#[test]
fn a_secret_that_is_named_is_never_empty() {
    let directory = tempfile::tempdir().unwrap();
    let read = |file: &str| load(file, &[]).unwrap().sources().map(|mut all| all.remove(0));
    let source = |secret: &str| {
        format!("[[source]]\nprovider = 'mailgun'\nname = 'a'\nsecrets = ['{secret}']\n")
    };
    for (name, content) in [("nothing", ""), ("line", "\r\n"), ("blank", " \t\n")] {
        let path = directory.path().join(name);
        std::fs::write(&path, content).unwrap();
        let path = format!("file:{}", path.display());
        let error = read(&source(&path)).unwrap_err().to_string();
        assert!(error.contains("is empty") && error.contains(name), "{error}");
        // The same where a secret may be left out: only `""` leaves it out.
        let clickhouse = load(&format!("[clickhouse]\npassword = '{path}'\n"), &[]).unwrap();
        let error = clickhouse.section::<ClickHouseSettings>("clickhouse").unwrap_err();
        assert!(error.to_string().contains("`clickhouse.password`"), "{error}");
    }
    for literal in ["", "  "] {
        let error = read(&source(literal)).unwrap_err().to_string();
        assert!(error.contains("the secret is empty"), "{error}");
    }
    // Cargo sets this variable to nothing, because the package has no home page.
    assert_eq!(std::env::var("CARGO_PKG_HOMEPAGE").as_deref(), Ok(""));
    let error = read(&source("env:CARGO_PKG_HOMEPAGE")).unwrap_err().to_string();
    assert!(error.contains("variable CARGO_PKG_HOMEPAGE is empty"), "{error}");
}

#[test]
fn secrets_that_are_short_or_literal_are_known() {
    let file = "[[source]]\nprovider = 'mailgun'\nname = 'a'\n\
                secrets = ['fifteen-bytes-x', 'sixteen-bytes-xy', 'env:CARGO_PKG_NAME']\n";
    let source = load(file, &[]).unwrap().sources().unwrap().remove(0);
    let found: Vec<_> = source.secrets.iter().map(|s| (s.is_short(), s.is_literal())).collect();
    assert_eq!(found, [(true, true), (false, true), (true, false)]);
}

#[test]
fn sources_are_read_with_the_options_of_their_provider() {
    let file = "[[source]]\nprovider = \"postmark\"\nname = \"a\"\nsecrets = [\"u:p\"]\n\
                shadow = true\nrate = 5\nscheme = \"basic\"\n\
                [[source]]\nprovider = \"brevo\"\nname = \"a\"\n";
    let sources = load(file, &[]).unwrap().sources().unwrap();
    let [postmark, brevo] = &sources[..] else { panic!("{sources:?}") };
    assert_eq!((postmark.provider.as_str(), postmark.name.as_str()), ("postmark", "a"));
    assert_eq!(postmark.secrets[0].expose(), "u:p");
    assert_eq!((postmark.shadow, postmark.rate.unwrap().get(), postmark.burst), (true, 5, None));
    assert_eq!(postmark.options.keys().collect::<Vec<_>>(), ["scheme"]);
    assert!(brevo.secrets.is_empty() && brevo.options.is_empty() && !brevo.shadow);
}

#[test]
fn sources_say_who_sends_and_who_reports_complaints() {
    let file = "[[source]]\nprovider = \"sendgrid\"\nname = \"a\"\n\
                sender = \"news@acme.example\"\nsender_pointer = \"/brand/from\"\n\
                feedback_loops = [\"yahoo\"]\ntime_zone = \"Europe/Berlin\"\n\
                [[source]]\nprovider = \"brevo\"\nname = \"a\"\n";
    let sources = load(file, &[]).unwrap().sources().unwrap();
    let [sendgrid, brevo] = &sources[..] else { panic!("{sources:?}") };
    assert_eq!(sendgrid.sender.as_deref(), Some("news@acme.example"));
    assert_eq!(sendgrid.sender_pointer.as_deref(), Some("/brand/from"));
    assert_eq!(sendgrid.feedback_loops.as_deref(), Some(&["yahoo".to_owned()][..]));
    assert_eq!((sendgrid.time_zone.as_deref(), &brevo.time_zone), (Some("Europe/Berlin"), &None));
    assert!(sendgrid.options.is_empty(), "no options of the provider");
    assert_eq!((&brevo.sender, &brevo.feedback_loops), (&None, &None));
    let wrong = file.replace("[\"yahoo\"]", "\"yahoo\"");
    let error = load(&wrong, &[]).unwrap().sources().unwrap_err().to_string();
    assert!(error.contains("source[0].feedback_loops"), "{error}");
}

#[test]
fn events_of_shadow_mode_do_not_count_by_default() {
    #[derive(Debug, Deserialize)]
    struct Enrich {
        count_unauthentic: bool,
        mx_lookups: bool,
    }
    let read = |file: &str| load(file, &[]).unwrap().section::<Enrich>("enrich").unwrap();
    let enrich = read("");
    assert!(!enrich.count_unauthentic && !enrich.mx_lookups);
    assert!(read("[enrich]\ncount_unauthentic = true\n").count_unauthentic);
}

#[test]
fn sources_need_unique_names_and_a_rate_for_a_burst() {
    let source = "[[source]]\nprovider = \"brevo\"\nname = \"a\"\n";
    let error = |file: &str| load(file, &[]).unwrap().sources().unwrap_err().to_string();
    let twice = error(&format!("{source}{source}"));
    assert!(twice.contains("`source[1].name`") && twice.contains("configured twice"), "{twice}");
    let name = error(&source.replace("\"a\"", "\"a/b\""));
    assert!(name.contains("`source[0].name`") && name.contains("1 to 64 ASCII"), "{name}");
    let burst = error(&format!("{source}burst = 3\n"));
    assert!(burst.contains("`source[0].burst`") && burst.contains("add `rate`"), "{burst}");
}

#[test]
fn networks_of_a_source_may_be_in_files() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("networks");
    std::fs::write(&path, "192.0.2.0/24 # theirs\n2001:db8::/32\n").unwrap();
    let file = format!(
        "[[source]]\nprovider = 'brevo'\nname = 'a'\n\
         allow_ips = ['198.51.100.7', 'file:{}', '10.0.0.0/8']\n",
        path.display()
    );
    let source = load(&file, &[]).unwrap().sources().unwrap().remove(0);
    let networks: Vec<_> = source.options["allow_ips"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it.as_str().unwrap())
        .collect();
    assert_eq!(networks, ["198.51.100.7", "192.0.2.0/24", "2001:db8::/32", "10.0.0.0/8"]);
    std::fs::write(&path, "192.0.2.0/24\nall\n").unwrap();
    let error = load(&file, &[]).unwrap().sources().unwrap_err();
    assert_eq!(error.code(), "settings_invalid_value");
    let error = error.to_string();
    assert!(error.contains("`source[0].allow_ips[1]`") && error.contains("line 2 "), "{error}");
}

#[test]
fn the_files_of_a_list_are_known_before_they_are_read() {
    let file = "[[source]]\nprovider = 'brevo'\nname = 'a'\nsecrets = ['file:/one', 'env:TWO', 'three']\n\
                allow_ips = ['192.0.2.0/24', 'file:four']\n[clickhouse]\npassword = 'file:/five'\n";
    let files = load(file, &[]).unwrap().files_of("source");
    let mut names: Vec<_> = files.iter().map(|path| path.to_str().unwrap()).collect();
    names.sort_unstable();
    assert_eq!(names, ["/one", "four"]);
}

#[test]
fn settings_that_differ_are_named_without_their_values() {
    let before = load("", &[]).unwrap();
    let file = "[ingress]\nmax_events = 7\ntrusted_proxies = ['10.0.0.0/8']\n\
                [kafka.properties]\n\"client.id\" = 'x'\n[clickhouse]\nuser = 'me'\n";
    let after = load(file, &[]).unwrap();
    let mut keys = before.differences(&after, &["ingress", "kafka"]);
    keys.sort_unstable();
    assert_eq!(
        keys,
        ["ingress.max_events", "ingress.trusted_proxies", "kafka.properties.client.id"]
    );
    assert!(before.differences(&before, &["ingress", "kafka"]).is_empty());
}
