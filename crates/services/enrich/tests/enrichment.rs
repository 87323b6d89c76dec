//! The real binary on real Kafka, with the operator's own files and a name server.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod common;

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use common::dns::{Reply, serve};
use common::mmdb::{write_cities, write_networks};
use common::{DEADLINE, RECEIVED_AT, Stage};
use event::{AutomationReason, Device, Event, Kind};
use record::{EnrichedHeaders, names};
use serde_json::json;
use kafka::feed::Item;

const FIREFOX: &str = "Mozilla/5.0 (X11; Linux x86_64; rv:144.0) Gecko/20100101 Firefox/144.0";
const GMAIL: &str =
    "Mozilla/5.0 (Windows NT 5.1; rv:11.0) Gecko Firefox/11.0 (via ggpht.com GoogleImageProxy)";

/// Files of the operator's, and the settings that name them.
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

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.directory.path().join(name)
    }

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
    let headers = [
        (names::PROVIDER, &b"generic"[..]),
        (names::SOURCE, b"acme"),
        (names::RECEIVED_AT, RECEIVED_AT.as_bytes()),
        (names::REQUEST_ID, b"r1"),
    ];
    let topic = stage.topics.raw(kind).to_owned();
    stage.publish(&topic, recipient.as_bytes(), raw.to_string().as_bytes(), &headers);
}

fn event(item: &Item) -> Event<'_> {
    serde_json::from_slice(item.value.as_deref().unwrap()).unwrap()
}

#[test]
fn an_event_says_who_what_and_where() {
    let files = Files::new();
    let (server, _) = serve(|name| {
        Some(match name {
            "northwind.example" => Reply::Hosts(&[(1, "aspmx.l.google.com")]),
            _ => Reply::NoSuchName,
        })
    });
    let stage = Stage::start(&format!(
        "{}mx = true\nmx_resolver = \"{server}\"\nmx_wait = \"10s\"\n\
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

    let items = stage.records(&stage.topics.enriched, 4);
    let of = |name: &[u8]| items.iter().find(|item| item.key.starts_with(name)).unwrap();
    let (ada, bob, eve, tom) = (of(b"ada"), of(b"bob"), of(b"eve"), of(b"tom"));
    let headers = |item: &Item| EnrichedHeaders::read(&|name| item.header(name)).unwrap();

    let opened = event(ada);
    let client = opened.client.unwrap();
    assert_eq!(client.device, Some(Device::Desktop));
    assert_eq!((client.os.as_deref(), client.name.as_deref()), (Some("Linux"), Some("Firefox")));
    let geo = opened.geo.unwrap();
    let place = [&geo.country, &geo.region, &geo.city].map(|text| text.as_deref().unwrap());
    assert_eq!(place, ["NL", "NH", "Amsterdam"]);
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
    assert_eq!(proxied.automation, None, "a reader is behind it, although in a data centre");
    let geo = proxied.geo.unwrap();
    assert_eq!((geo.country, geo.asn), (None, Some(24_940)), "the proxy's place says nothing");
    assert_eq!((proxied.tenant, proxied.mailbox_provider.as_deref()), (None, Some("gmail")));

    let clicked = event(eve);
    assert_eq!(clicked.automation.unwrap().reason, AutomationReason::DataCentre);
    assert_eq!(clicked.mailbox_provider.as_deref(), Some("other"));
    assert!(headers(eve).machine && headers(eve).link.is_some());

    let delivered = event(tom);
    assert!(delivered.client.is_none() && delivered.geo.is_none(), "the sender's address");
    assert_eq!(delivered.mailbox_provider.as_deref(), Some("google_workspace"));
    assert_eq!(headers(tom).engagement_id, delivered.engagement_id());
    assert!(delivered.engagement_id().is_some());
}

#[test]
fn changed_files_are_taken_and_broken_ones_are_not() {
    let files = Files::new();
    let stage = Stage::start(&files.settings());
    let mut published = 0;
    let mut look = || {
        let fields = json!({"ip": "192.0.2.7", "user_agent": FIREFOX, "campaign": "spring", "id": published});
        publish(&stage, Kind::Opened, "ada@example.com", fields);
        published += 1;
        let items = stage.records(&stage.topics.enriched, published);
        let event = event(items.last().unwrap());
        (event.geo.unwrap().city.unwrap().to_string(), event.tenant.unwrap().to_string())
    };
    let of = |city: &str, tenant: &str| (city.to_owned(), tenant.to_owned());
    assert_eq!(look(), of("Amsterdam", "acme"));

    write_cities(&files.path("city.mmdb"), &[("192.0.2.0/24", "NL", "UT", "Utrecht")]);
    files.write("tenants.csv", "campaign,tenant\nspring,globex\n");
    let deadline = Instant::now() + DEADLINE;
    while look() != of("Utrecht", "globex") {
        assert!(Instant::now() < deadline, "{}", stage.enrich.log_tail(20));
    }
    let reads = stage.enrich.metric("mailpulse_enrich_file_reads_total");
    files.write("city.mmdb", "no database");
    files.write("tenants.csv", "campaign,tenant\nspring\n");
    while stage.enrich.metric("mailpulse_enrich_file_reads_total") < reads + 2.0 {
        assert!(Instant::now() < deadline, "{}", stage.enrich.log_tail(20));
        std::thread::yield_now();
    }
    assert_eq!(look(), of("Utrecht", "globex"));
    assert!(stage.enrich.log_tail(50).contains("going on with the former"));
}

#[test]
fn a_file_that_is_not_there_is_told_before_anything_starts() {
    let directory = tempfile::tempdir().unwrap();
    let refused = |settings: &str| {
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
    let told = refused("geo_asn = \"/nowhere/asn.mmdb\"");
    assert!(told.contains("enrich.geo_asn: /nowhere/asn.mmdb"), "{told}");
    let told = refused("lookup = [\"/nowhere/tenants.csv\"]");
    assert!(told.contains("enrich.lookup: /nowhere/tenants.csv"), "{told}");
    let told = refused("mx_resolver = \"localhost\"");
    assert!(told.contains("enrich.mx_resolver") && told.contains("127.0.0.1:53"), "{told}");
    let told = refused("[[enrich.extract]]\nprovider = \"ses\"\ncampaign = \"a.b\"");
    assert!(told.contains("enrich.extract[0].campaign") && told.contains("JSON pointer"), "{told}");
}
