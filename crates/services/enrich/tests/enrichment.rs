//! The real binary on real Kafka, with the operator's own files and a name server.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;

use common::Stage;
use common::dns::{Reply, serve};
use common::mmdb::{TIME_ZONE, write_cities, write_networks};
use event::{AutomationReason, Device, Event, Kind, Provider};
use harness::{DEADLINE, Record, eventually, seen};
use record::EnrichedHeaders;
use serde_json::json;

const FIREFOX: &str = "Mozilla/5.0 (X11; Linux x86_64; rv:144.0) Gecko/20100101 Firefox/144.0";
const GMAIL: &str =
    "Mozilla/5.0 (Windows NT 5.1; rv:11.0) Gecko Firefox/11.0 (via ggpht.com GoogleImageProxy)";

/// Files of an operator, and the settings that name them.
struct Files {
    directory: tempfile::TempDir,
}

impl Files {
    fn new() -> Self {
        let files = Self { directory: tempfile::tempdir().unwrap() };
        write_cities(
            &files.path("city.mmdb"),
            &[("192.0.2.0/24", "NL", "NH", "Amsterdam"), ("203.0.113.0/24", "DE", "BE", "Berlin")],
        );
        write_networks(
            &files.path("asn.mmdb"),
            &[("192.0.2.0/24", 64_496, "Example Net"), ("203.0.113.0/24", 24_940, "Servers Ltd")],
        );
        files.write("tenants.csv", "campaign,tenant,team\nspring,acme,growth\n");
        files
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Replaces a file as a whole.
    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path("new"), text).unwrap();
        std::fs::rename(self.path("new"), self.path(name)).unwrap();
    }

    fn settings(&self) -> String {
        format!(
            "[enrich]\ngeo_city = {:?}\ngeo_asn = {:?}\nlookup = [{:?}]\n",
            self.path("city.mmdb"),
            self.path("asn.mmdb"),
            self.path("tenants.csv")
        )
    }
}

/// Publishes an event in the generic form.
fn publish(stage: &Stage, kind: Kind, recipient: &str, fields: serde_json::Value) {
    let mut raw = json!({
        "id": format!("{recipient}-{}", fields["ip"]), "event": kind.as_str(),
        "recipient": recipient, "timestamp": 1_800_000_000, "message_id": "m1",
    });
    let object = raw.as_object_mut().unwrap();
    object.extend(fields.as_object().unwrap().clone());
    stage.publish((Provider::Generic, "acme"), kind, recipient, raw.to_string().as_bytes());
}

fn event(record: &Record) -> Event<'_> {
    serde_json::from_slice(record.value()).unwrap()
}

#[test]
fn events_get_mailbox_provider_client_location_and_tenant() {
    let files = Files::new();
    let (server, _) = serve(|name| {
        Some(match name {
            "northwind.example" => Reply::Hosts(&[(1, "aspmx.l.google.com")]),
            _ => Reply::NoSuchName,
        })
    });
    let stage = Stage::start(&format!(
        "{}mx_lookups = true\nmx_resolver = \"{server}\"\nmx_timeout = \"10s\"\n\
         [[enrich.extract]]\nprovider = \"generic\"\nsource = \"acme\"\n\
         campaign = \"/custom/campaign\"\nstream = \"/custom/pool\"\ntags = \"/custom/tags\"\n",
        files.settings()
    ));
    let custom = json!({"campaign": "spring", "pool": "bulk", "tags": ["a", 2]});
    let opened = json!({"ip": "192.0.2.7", "user_agent": FIREFOX, "custom": custom});
    publish(&stage, Kind::Opened, "ada@northwind.example", opened);
    let proxied = json!({"ip": "203.0.113.7", "user_agent": GMAIL});
    publish(&stage, Kind::Opened, "bob@gmail.com", proxied);
    let server = json!({
        "ip": "203.0.113.9", "user_agent": FIREFOX, "url": "https://example.com/a",
    });
    publish(&stage, Kind::Clicked, "eve@fabrikam.example", server);
    let sent = json!({"ip": "192.0.2.1", "user_agent": FIREFOX});
    publish(&stage, Kind::Delivered, "tom@northwind.example", sent);

    let records = stage.enriched(4);
    let of = |name: &[u8]| records.iter().find(|record| record.key.starts_with(name)).unwrap();
    let (ada, bob, eve, tom) = (of(b"ada"), of(b"bob"), of(b"eve"), of(b"tom"));
    let headers = |record: &Record| EnrichedHeaders::read(&|name| record.header(name)).unwrap();

    let opened = event(ada);
    let client = opened.client.unwrap();
    assert_eq!(client.device, Some(Device::Desktop));
    assert_eq!((client.os.as_deref(), client.name.as_deref()), (Some("Linux"), Some("Firefox")));
    let geo = opened.geo.unwrap();
    let location = [&geo.country, &geo.region, &geo.city].map(|text| text.as_deref().unwrap());
    assert_eq!(location, ["NL", "NH", "Amsterdam"]);
    assert_eq!(geo.time_zone.as_deref(), Some(TIME_ZONE));
    assert_eq!((geo.asn, geo.network.as_deref()), (Some(64_496), Some("Example Net")));
    assert_eq!(opened.mailbox_provider.as_deref(), Some("google_workspace"));
    assert_eq!(opened.automation, None);
    assert_eq!(opened.campaign.as_deref(), Some("spring"));
    assert_eq!(opened.stream.as_deref(), Some("bulk"));
    assert_eq!(opened.tags.iter().map(|tag| tag.as_str()).collect::<Vec<_>>(), ["a", "2"]);
    assert_eq!(opened.tenant.as_deref(), Some("acme"));
    assert_eq!(opened.labels, [("team".into(), "growth".into())].into());
    assert!(!headers(ada).machine);

    let proxied = event(bob);
    assert_eq!(proxied.client.unwrap().device, Some(Device::Proxy));
    assert_eq!(proxied.automation, None, "a proxy in a data centre acts for a person");
    let geo = proxied.geo.unwrap();
    assert_eq!(
        (geo.country, geo.asn),
        (None, Some(24_940)),
        "a proxy's location is not the recipient's"
    );
    assert_eq!((proxied.tenant, proxied.mailbox_provider.as_deref()), (None, Some("gmail")));

    let clicked = event(eve);
    assert_eq!(clicked.automation.unwrap().reason, AutomationReason::DataCentre);
    assert_eq!(clicked.mailbox_provider.as_deref(), Some("other"));
    assert!(headers(eve).machine && headers(eve).link.is_some());

    let delivered = event(tom);
    assert!(delivered.client.is_none() && delivered.geo.is_none(), "the address is the sender's");
    assert_eq!(delivered.mailbox_provider.as_deref(), Some("google_workspace"));
    assert_eq!(headers(tom).engagement_id, delivered.engagement_id());
    assert!(delivered.engagement_id().is_some());
}

#[test]
fn changed_files_are_reloaded_and_broken_ones_are_not() {
    let files = Files::new();
    let stage = Stage::start(&files.settings());
    let mut published = 0;
    let mut city_and_tenant = || {
        let fields = json!({"ip": "192.0.2.7", "user_agent": FIREFOX, "campaign": "spring", "id": published});
        publish(&stage, Kind::Opened, "ada@example.com", fields);
        published += 1;
        let records = stage.enriched(published);
        let event = event(records.last().unwrap());
        (event.geo.unwrap().city.unwrap().to_string(), event.tenant.unwrap().to_string())
    };
    let of = |city: &str, tenant: &str| (city.to_owned(), tenant.to_owned());
    assert_eq!(city_and_tenant(), of("Amsterdam", "acme"));

    write_cities(&files.path("city.mmdb"), &[("192.0.2.0/24", "NL", "UT", "Utrecht")]);
    files.write("tenants.csv", "campaign,tenant\nspring,globex\n");
    let changed = of("Utrecht", "globex");
    eventually("the changed files to be loaded", DEADLINE, || {
        seen(city_and_tenant(), |found| *found == changed)
    });
    files.write("city.mmdb", "no database");
    files.write("tenants.csv", "campaign,tenant\nspring\n");
    let failed = [("outcome", "failed")];
    stage.enrich.await_metric("mailpulse_enrich_file_reads_total", &failed, |n| n >= 2.0);
    assert_eq!(city_and_tenant(), changed);
    stage.enrich.await_log("keeping its former content");
}

#[test]
fn a_missing_file_is_reported_before_the_service_starts() {
    let directory = tempfile::tempdir().unwrap();
    let rejection = |settings: &str| {
        let config = directory.path().join("mailpulse.toml");
        std::fs::write(&config, format!("[enrich]\n{settings}")).unwrap();
        let output = Command::new(Path::new(env!("CARGO_BIN_EXE_enrich")))
            .args(["--check", "--config"])
            .arg(&config)
            .output()
            .unwrap();
        assert!(!output.status.success(), "{settings}");
        String::from_utf8(output.stderr).unwrap()
    };
    let error = rejection("geo_asn = \"/nowhere/asn.mmdb\"");
    assert!(error.contains("enrich.geo_asn: /nowhere/asn.mmdb"), "{error}");
    let error = rejection("lookup = [\"/nowhere/tenants.csv\"]");
    assert!(error.contains("enrich.lookup: /nowhere/tenants.csv"), "{error}");
    let error = rejection("mx_resolver = \"localhost\"");
    assert!(error.contains("enrich.mx_resolver") && error.contains("127.0.0.1:53"), "{error}");
    let error = rejection("[[enrich.extract]]\nprovider = \"ses\"\ncampaign = \"a.b\"");
    assert!(
        error.contains("enrich.extract[0].campaign") && error.contains("JSON pointer"),
        "{error}"
    );
}

#[test]
fn an_event_that_is_larger_than_a_record_becomes_a_dead_letter_and_the_others_pass() {
    let stage =
        Stage::launch(|launch| launch.env("MAILPULSE__KAFKA__MAX_MESSAGE_BYTES", "1048576"));
    let source = (Provider::SendGrid, "acme");
    let publish = |reason: &str| {
        let raw = json!({"event": "bounce", "email": "ada@example.com", "timestamp": 1_800_000_000,
            "sg_event_id": reason.len().to_string(), "reason": reason});
        stage.publish(source, Kind::Bounced, "ada@example.com", raw.to_string().as_bytes());
    };
    publish("550 no such user");
    // The event has the raw event, and the reason once more.
    let large = "x".repeat(1_043_000);
    publish(&large);
    publish("550 5.1.1 no such user");
    assert_eq!(stage.enriched(2).len(), 2);
    let dead_letters = stage.dead_letters(1);
    let [dead_letter] = &dead_letters[..] else { panic!("{} dead letters", dead_letters.len()) };
    let header = |name| dead_letter.header(name).map(String::from_utf8_lossy);
    assert_eq!(header("reason").as_deref(), Some("too_large"));
    assert_eq!(header("stage").as_deref(), Some("enrich"));
    assert_eq!(header("source").as_deref(), Some("acme"));
    assert_eq!(header("original-length"), None, "the raw event fits");
    assert!(dead_letter.text().contains(&large));
    let refused = [("component", "enrich"), ("source", "acme")];
    stage.enrich.await_metric("mailpulse_source_refusals_total", &refused, |count| count >= 1.0);
}
