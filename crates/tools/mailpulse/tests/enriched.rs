//! `mailpulse parse`: what `enrich` adds, by its own code and by the operator's own files.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

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
use privacy::Pseudonyms;
use providers::Envelope;
use serde_json::{Value, json};
use service::Settings;
use testkit::{Credentials, Plan, SignedRequest, Traffic};
use tool::{AT, Said, Tool};

/// [`AT`].
const RECEIVED_AT: ReceivedAt = ReceivedAt(1_795_255_200_000_000);
/// How long the name server takes: longer than `mx_wait`.
const TARDY: Duration = Duration::from_millis(300);
const KEY: &str = "a key of the tests alone";
const FIREFOX: &str = "Mozilla/5.0 (X11; Linux x86_64; rv:144.0) Gecko/20100101 Firefox/144.0";

/// The only event, or dead letter, of a run that found one.
fn line(said: &Said) -> Value {
    let [line] = &said.text.lines().collect::<Vec<_>>()[..] else { panic!("{said:?}") };
    serde_json::from_str(line).unwrap()
}

fn parse(tool: &Tool, further: &[&str], body: &str) -> Said {
    let common = ["parse", "--provider", "generic", "--source", "acme", "--received-at", AT, "-"];
    tool.run_with(&[&common, further].concat(), body.as_bytes())
}

/// An open in the generic form.
fn opened(recipient: &str, fields: &Value) -> String {
    let mut event = json!({
        "id": "1", "event": "opened", "recipient": recipient, "timestamp": 1_795_255_199,
        "ip": "192.0.2.7", "user_agent": FIREFOX, "campaign": "spring",
    });
    event.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    event.to_string()
}

/// Bodies of all providers as they post them, several events in some of them.
fn requests() -> Vec<SignedRequest> {
    let credentials = Credentials::new("http://127.0.0.1");
    let sources = Provider::ALL.map(|provider| (provider, "acme".to_owned())).to_vec();
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
        let said =
            tool.run_with(&[&["parse", "--provider", provider], &further[..]].concat(), &body);
        let mut lines = said.text.lines();
        let provider: Provider = provider.parse().unwrap();
        providers::split(provider, &body, &mut |raw| {
            let (received_at, recipient) = (RECEIVED_AT, raw.recipient);
            let envelope = Envelope { source, recipient, received_at, request_id: "r1" };
            let record = RawRecord { provider, envelope, value: raw.raw };
            let json = |event: &Event<'_>| serde_json::to_string(event).unwrap();
            // SNS writes over several lines.
            let published = enrichment.read(&record, json).unwrap().replace('\n', " ");
            assert_eq!(lines.next(), Some(&*published), "{path}: {}", said.err);
            adds_only(&published, &providers::parse(provider, raw.raw, &envelope).unwrap());
            seen.insert((provider, raw.kind));
        })
        .unwrap();
        assert_eq!((said.code, lines.next()), (0, None), "{path}");
    }
    let providers: BTreeSet<_> = seen.iter().map(|(provider, _)| provider).collect();
    assert!(providers.len() == Provider::ALL.len() && seen.len() > 30, "{seen:?}");
}

/// What the provider says stands in the line, too.
fn adds_only(line: &str, bare: &Event<'_>) {
    let line: Value = serde_json::from_str(line).unwrap();
    for (field, value) in serde_json::to_value(bare).unwrap().as_object().unwrap() {
        assert_eq!(&line[field], value, "{field} of {line}");
    }
}

#[test]
fn mailbox_provider_client_and_machine_are_there_without_any_configuration() {
    let tool = Tool::new();
    // Neither is meant where no configuration is named.
    tool.write("mailpulse.toml", "nonsense = true");
    let said = parse(&tool, &[], &opened("ada@hotmail.co.uk", &json!({})));
    assert_eq!((said.code, &*said.err), (0, "1 event, 0 dead letters\n"), "{said:?}");
    let event = line(&said);
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
fn what_is_configured_shows() {
    let tool = Tool::new();
    mmdb::write_cities(&tool.path("city.mmdb"), &[("192.0.2.0/24", "NL", "NH", "Amsterdam")]);
    mmdb::write_networks(&tool.path("asn.mmdb"), &[("192.0.2.0/24", 24_940, "Servers Ltd")]);
    tool.write("tenants.csv", "campaign,tenant,team\nautumn,globex,growth\n");
    let (server, _) = dns::serve(|name| {
        std::thread::sleep(TARDY);
        Some(match name {
            "northwind.example" => Reply::Hosts(&[(1, "aspmx.l.google.com")]),
            _ => Reply::NoSuchName,
        })
    });
    let config = format!(
        "[enrich]\nmx = true\nmx_resolver = \"{server}\"\n\
         geo_city = \"city.mmdb\"\ngeo_asn = \"asn.mmdb\"\nlookup = [\"tenants.csv\"]\n\
         [[enrich.extract]]\nprovider = \"generic\"\nsource = \"acme\"\n\
         campaign = \"/custom/campaign\"\nstream = \"/custom/pool\"\ntags = \"/custom/tags\"\n"
    );
    tool.write("ours.toml", config);
    let custom = json!({"custom": {"campaign": "autumn", "pool": "bulk", "tags": ["a", 2]}});
    let body = opened("ada@northwind.example", &custom);
    let event = line(&parse(&tool, &["--config", "ours.toml"], &body));
    assert_eq!(event["mailbox_provider"], "google_workspace", "the answer was waited for");
    assert_eq!(event["campaign"], "autumn", "the rule's, in place of the provider's own");
    assert_eq!((&event["stream"], &event["tags"]), (&"bulk".into(), &json!(["a", "2"])));
    assert_eq!(
        (&event["tenant"], &event["labels"]),
        (&"globex".into(), &json!({"team": "growth"}))
    );
    let geo = json!({
        "country": "NL", "region": "NH", "city": "Amsterdam", "asn": 24_940,
        "network": "Servers Ltd",
    });
    assert_eq!(event["geo"], geo);
    assert_eq!(event["automation"]["reason"], "data_centre");

    let other = ["--config", "ours.toml", "--source", "globex"];
    let common = ["parse", "--provider", "generic", "--received-at", AT, "-"];
    let event = line(&tool.run_with(&[&common[..], &other].concat(), body.as_bytes()));
    assert_eq!((&event["campaign"], &event["tenant"]), (&"spring".into(), &Value::Null));
}

#[test]
fn addresses_become_pseudonyms_once() {
    let tool = Tool::new();
    tool.write("ours.toml", format!("[privacy]\npseudonym_key = {KEY:?}\n"));
    let pseudonym = Pseudonyms::new(KEY.as_bytes()).unwrap().of("ada@gmail.com").unwrap();
    let said = parse(&tool, &["--config", "ours.toml"], &opened("Ada@gmail.com", &json!({})));
    let event = line(&said);
    assert_eq!(event["recipient"], pseudonym);
    assert_eq!(event["mailbox_provider"], "gmail");
    assert!(!said.text.to_lowercase().contains("ada@"), "{}", said.text);

    let raw = event["raw"].to_string();
    let again = parse(&tool, &["--config", "ours.toml", "--published"], &raw);
    assert_eq!(line(&again), event, "as its record on mail.raw");
    let timeless = raw.replace("timestamp", "when");
    let letter = line(&parse(&tool, &["--config", "ours.toml", "--published"], &timeless));
    assert_eq!(letter["dead_letter"]["key"], pseudonym);
}

#[test]
fn a_configuration_that_cannot_be_used_is_2_with_its_code() {
    let tool = Tool::new();
    tool.write("twice.csv", "campaign,tenant\na,b\na,c\n");
    tool.write("no.mmdb", "no database");
    for (config, code, told) in [
        ("[enrich]\nlookups = []", "settings_unknown_key", "`enrich.lookups`"),
        ("[enrich]\nmx = 1", "settings_wrong_type", "`enrich.mx`"),
        ("[enrich]\nmx_resolver = \"here\"", "settings_invalid_value", "`enrich.mx_resolver`"),
        ("[enrich", "settings_not_toml", "broken.toml"),
        ("[privacy]\npseudonym_key = \"short\"", "settings_invalid_value", "pseudonym_key"),
        (
            "[[enrich.extract]]\nprovider = \"ses\"\ncampaign = \"a.b\"",
            "settings_invalid_value",
            "JSON pointer",
        ),
        ("[enrich]\nlookup = [\"none.csv\"]", "enrich_file_unusable", "enrich.lookup: none.csv"),
        ("[enrich]\nlookup = [\"twice.csv\"]", "enrich_file_unusable", "line 3: a is there twice"),
        ("[enrich]\ngeo_city = \"no.mmdb\"", "enrich_file_unusable", "enrich.geo_city: no.mmdb"),
    ] {
        tool.write("broken.toml", config);
        let said =
            parse(&tool, &["--config", "broken.toml"], &opened("ada@example.com", &json!({})));
        assert_eq!((said.code, &*said.text), (2, ""), "{config}: {said:?}");
        assert!(said.err.starts_with(&format!("mailpulse: {code}: ")), "{config}: {said:?}");
        assert!(said.err.contains(told) && said.err.lines().count() == 1, "{config}: {said:?}");
    }
    let said = parse(&tool, &["--config", "absent.toml"], "{}");
    assert_eq!(said.code, 2);
    assert!(said.err.starts_with("mailpulse: settings_unreadable: "), "{said:?}");
}
