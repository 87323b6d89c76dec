//! `mailpulse parse`: what enrich adds, with its code and with the operator's files.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../../../services/enrich/tests/common/dns.rs"]
mod dns;
#[path = "../../../services/enrich/tests/common/mmdb.rs"]
mod mmdb;
mod tool;

use std::collections::BTreeSet;
use std::time::Duration;

use dns::Reply;
use enrich::{EnrichSettings, Enrichment, RawRecord};
use event::{Event, Provider, ReceivedAt};
use privacy::Pseudonymizer;
use providers::Envelope;
use serde_json::{Value, json};
use service::Settings;
use testkit::{Credentials, Plan, SignedRequest, Traffic};
use tool::{AT, Output, Tool};

/// [`AT`] in microseconds.
const RECEIVED_AT: ReceivedAt = ReceivedAt(1_795_255_200_000_000);
/// The delay of the name server, longer than the default of `mx_timeout`.
const SLOW: Duration = Duration::from_millis(300);
const KEY: &str = "a key for these tests";
const FIREFOX: &str = "Mozilla/5.0 (X11; Linux x86_64; rv:144.0) Gecko/20100101 Firefox/144.0";

/// Returns the only event or dead letter that was printed.
fn line(output: &Output) -> Value {
    let [line] = &output.text.lines().collect::<Vec<_>>()[..] else { panic!("{output:?}") };
    serde_json::from_str(line).unwrap()
}

fn parse(tool: &Tool, further: &[&str], body: &str) -> Output {
    let common = ["parse", "--provider", "generic", "--source", "acme", "--received-at", AT, "-"];
    tool.run_with(&[&common, further].concat(), body.as_bytes())
}

/// Returns an open of the generic provider.
fn opened(recipient: &str, fields: &Value) -> String {
    let mut event = json!({
        "id": "1", "event": "opened", "recipient": recipient, "timestamp": 1_795_255_199,
        "ip": "192.0.2.7", "user_agent": FIREFOX, "campaign": "spring",
    });
    event.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    event.to_string()
}

/// Returns requests of all providers; some have several events.
fn requests() -> Vec<SignedRequest> {
    let credentials = Credentials::new("http://127.0.0.1");
    let sources = testkit::PROVIDERS.map(|provider| (provider, "acme".to_owned())).to_vec();
    let plan = Plan { messages_per_source: 3, sources, ..Plan::small(&credentials, 1_795_255_200) };
    Traffic::new(3, plan).requests().collect()
}

#[test]
fn a_line_is_the_value_that_enrich_publishes() {
    let tool = Tool::new();
    let settings = Settings::load(None, std::iter::empty()).unwrap();
    let mut enrichment = Enrichment::open(&EnrichSettings::read(&settings).unwrap()).unwrap();
    let mut seen = BTreeSet::new();
    for SignedRequest { path, body, .. } in requests() {
        let [.., provider, source] = path.split('/').collect::<Vec<_>>()[..] else { panic!() };
        let further = ["--source", source, "--received-at", AT, "--request-id", "r1", "-"];
        let output =
            tool.run_with(&[&["parse", "--provider", provider], &further[..]].concat(), &body);
        let mut lines = output.text.lines();
        let provider: Provider = provider.parse().unwrap();
        for raw in providers::split(provider, &body).unwrap().events() {
            let (received_at, recipient) = (RECEIVED_AT, raw.recipient);
            let envelope = Envelope { source, recipient, received_at, request_id: "r1" };
            let record = RawRecord {
                provider,
                envelope,
                value: raw.raw,
                is_mapped: false,
                is_authentic: true,
            };
            let json = |event: &Event<'_>, _| serde_json::to_string(event).unwrap();
            // Messages of SNS have line breaks.
            let published = enrichment.read(&record, json).unwrap().replace('\n', " ");
            assert_eq!(lines.next(), Some(&*published), "{path}: {}", output.err);
            adds_only(&published, &providers::parse(provider, raw.raw, &envelope).unwrap());
            seen.insert((provider, raw.kind));
        }
        assert_eq!((output.code, lines.next()), (0, None), "{path}");
    }
    let providers: BTreeSet<_> = seen.iter().map(|(provider, _)| provider).collect();
    assert!(providers.len() == testkit::PROVIDERS.len() && seen.len() > 30, "{seen:?}");
}

/// Asserts that every field of the event without enrichment is in the line, except for the place of a
/// proxy, which is not the reader's.
fn adds_only(line: &str, bare: &Event<'_>) {
    let line: Value = serde_json::from_str(line).unwrap();
    let is_proxy = line["client"]["device"] == "proxy";
    for (field, value) in serde_json::to_value(bare).unwrap().as_object().unwrap() {
        if field == "geo" && is_proxy {
            assert_eq!(line[field], Value::Null, "{line}");
        } else {
            assert_eq!(&line[field], value, "{field} of {line}");
        }
    }
}

#[test]
fn mailbox_provider_client_and_automation_need_no_configuration() {
    let tool = Tool::new();
    // Without --config, no file is read.
    tool.write("mailpulse.toml", "nonsense = true");
    let output = parse(&tool, &[], &opened("ada@hotmail.co.uk", &json!({})));
    assert_eq!((output.code, &*output.err), (0, "1 event, 0 dead letters\n"), "{output:?}");
    let event = line(&output);
    assert_eq!(event["mailbox_provider"], "outlook");
    let client = json!({"device": "desktop", "os": "Linux", "name": "Firefox"});
    assert_eq!(event["client"], client);
    assert_eq!((&event["automation"], &event["geo"]), (&Value::Null, &Value::Null));

    let scanner = json!({"user_agent": "Barracuda Sentinel (EE)"});
    let event = line(&parse(&tool, &[], &opened("ada@example.com", &scanner)));
    assert_eq!(event["mailbox_provider"], "other");
    assert_eq!(event["automation"]["reason"], "scanner");
    assert_eq!(event["client"]["device"], "bot");
}

#[test]
fn configured_enrichment_is_applied() {
    let tool = Tool::new();
    mmdb::write_cities(&tool.path("city.mmdb"), &[("192.0.2.0/24", "NL", "NH", "Amsterdam")]);
    mmdb::write_networks(&tool.path("asn.mmdb"), &[("192.0.2.0/24", 24_940, "Servers Ltd")]);
    tool.write("tenants.csv", "campaign,tenant,team\nautumn,globex,growth\n");
    let (server, _) = dns::serve(|name| {
        std::thread::sleep(SLOW);
        Some(match name {
            "northwind.example" => Reply::Hosts(&[(1, "aspmx.l.google.com")]),
            _ => Reply::NoSuchName,
        })
    });
    let config = format!(
        "[enrich]\nmx_lookups = true\nmx_resolver = \"{server}\"\n\
         geo_city = \"city.mmdb\"\ngeo_asn = \"asn.mmdb\"\nlookup = [\"tenants.csv\"]\n\
         [[enrich.extract]]\nprovider = \"generic\"\nsource = \"acme\"\n\
         campaign = \"/custom/campaign\"\nstream = \"/custom/pool\"\ntags = \"/custom/tags\"\n"
    );
    tool.write("own.toml", config);
    let custom = json!({"custom": {"campaign": "autumn", "pool": "bulk", "tags": ["a", 2]}});
    let body = opened("ada@northwind.example", &custom);
    let event = line(&parse(&tool, &["--config", "own.toml"], &body));
    assert_eq!(event["mailbox_provider"], "google_workspace", "the slow answer was used");
    assert_eq!(event["campaign"], "autumn", "the rule overrides the provider's campaign");
    assert_eq!((&event["stream"], &event["tags"]), (&"bulk".into(), &json!(["a", "2"])));
    assert_eq!(
        (&event["tenant"], &event["labels"]),
        (&"globex".into(), &json!({"team": "growth"}))
    );
    let geo = json!({
        "country": "NL", "region": "NH", "city": "Amsterdam", "asn": 24_940,
        "network": "Servers Ltd", "time_zone": mmdb::TIME_ZONE,
    });
    assert_eq!(event["geo"], geo);
    assert_eq!(event["automation"]["reason"], "data_centre");

    let other = ["--config", "own.toml", "--source", "globex"];
    let common = ["parse", "--provider", "generic", "--received-at", AT, "-"];
    let event = line(&tool.run_with(&[&common[..], &other].concat(), body.as_bytes()));
    assert_eq!((&event["campaign"], &event["tenant"]), (&"spring".into(), &Value::Null));
}

#[test]
fn addresses_are_pseudonymised_once() {
    let tool = Tool::new();
    tool.write("own.toml", format!("[privacy]\npseudonym_key = {KEY:?}\n"));
    let pseudonym = Pseudonymizer::new(KEY.as_bytes()).unwrap().pseudonym("ada@gmail.com").unwrap();
    let output = parse(&tool, &["--config", "own.toml"], &opened("Ada@gmail.com", &json!({})));
    let event = line(&output);
    assert_eq!(event["recipient"], pseudonym);
    assert_eq!(event["mailbox_provider"], "gmail");
    assert!(!output.text.to_lowercase().contains("ada@"), "{}", output.text);

    let raw = event["raw"].to_string();
    let again = parse(&tool, &["--config", "own.toml", "--published"], &raw);
    assert_eq!(line(&again), event, "as its record on mail.raw");
    let undated = raw.replace("timestamp", "when");
    let undated = line(&parse(&tool, &["--config", "own.toml", "--published"], &undated));
    assert_eq!(undated["recipient"], pseudonym);
}

#[test]
fn an_unusable_configuration_exits_with_2_and_its_code() {
    let tool = Tool::new();
    tool.write("twice.csv", "campaign,tenant\na,b\na,c\n");
    tool.write("no.mmdb", "no database");
    for (config, code, expected) in [
        ("[enrich]\nlookups = []", "settings_unknown_key", "`enrich.lookups`"),
        ("[enrich]\nmx_lookups = 1", "settings_wrong_type", "`enrich.mx_lookups`"),
        ("[enrich]\nmx_resolver = \"here\"", "settings_invalid_value", "`enrich.mx_resolver`"),
        ("[enrich", "settings_not_toml", "broken.toml"),
        ("[privacy]\npseudonym_key = \"short\"", "settings_invalid_value", "pseudonym_key"),
        (
            "[[enrich.extract]]\nprovider = \"ses\"\ncampaign = \"a.b\"",
            "settings_invalid_value",
            "JSON pointer",
        ),
        ("[enrich]\nlookup = [\"none.csv\"]", "enrich_file_unusable", "enrich.lookup: none.csv"),
        (
            "[enrich]\nlookup = [\"twice.csv\"]",
            "enrich_file_unusable",
            "line 3: an earlier line also has the campaign a",
        ),
        ("[enrich]\ngeo_city = \"no.mmdb\"", "enrich_file_unusable", "enrich.geo_city: no.mmdb"),
    ] {
        tool.write("broken.toml", config);
        let output =
            parse(&tool, &["--config", "broken.toml"], &opened("ada@example.com", &json!({})));
        assert_eq!((output.code, &*output.text), (2, ""), "{config}: {output:?}");
        assert!(output.err.starts_with(&format!("mailpulse: {code}: ")), "{config}: {output:?}");
        assert!(
            output.err.contains(expected) && output.err.lines().count() == 1,
            "{config}: {output:?}"
        );
    }
    let output = parse(&tool, &["--config", "absent.toml"], "{}");
    assert_eq!(output.code, 2);
    assert!(output.err.starts_with("mailpulse: settings_unreadable: "), "{output:?}");
}
