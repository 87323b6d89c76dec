//! The real binary on real Kafka and ClickHouse: look-up queries, rules about URLs, and labels.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::process::Command;

use common::Stage;
use devstack::{Authority, Dirs, TlsFront};
use event::{Event, Kind, Provider};
use harness::{DEADLINE, Database, Record, eventually, seen};
use serde_json::json;

/// Publishes a click in the generic form; `number` makes it an event of its own.
fn click(stage: &Stage, number: usize, campaign: &str, url: &str) {
    let raw = json!({
        "id": number.to_string(), "event": "clicked", "recipient": "ada@example.com", "url": url,
        "timestamp": 1_800_000_000, "message_id": "m1", "campaign": campaign,
        "custom": {"list": "trade fair"},
    });
    let source = (Provider::Generic, "acme");
    stage.publish(source, Kind::Clicked, "ada@example.com", raw.to_string().as_bytes());
}

fn event(record: &Record) -> Event<'_> {
    serde_json::from_slice(record.value()).unwrap()
}

/// Publishes a click and returns tenant and labels of its event.
fn tenant_and_labels(stage: &Stage, published: &mut usize) -> (String, String) {
    click(stage, *published, "spring", "https://shop.example.com/");
    *published += 1;
    let records = stage.enriched(*published);
    let event = event(records.last().unwrap());
    let labels: Vec<_> = event.labels.iter().map(|(k, v)| format!("{k}={v}")).collect();
    (event.tenant.map(|it| it.to_string()).unwrap_or_default(), labels.join(" "))
}

#[test]
fn clicks_get_conversion_interest_and_labels() {
    let stage = Stage::start(
        "[[enrich.conversion]]\nname = \"purchase\"\nurl = \"shop.example.com/order/*\"\n\
         value_parameter = \"total\"\nsources = [\"generic/ac*\"]\n\
         [[enrich.interest]]\nname = \"shoes\"\nurl = \"*.example.com/**\"\n\
         [[enrich.extract]]\nprovider = \"generic\"\n\
         labels = { list = \"/custom/list\", medium = \"?utm_medium\" }\n",
    );
    let link = "https://shop.example.com/order/7?total=49.90&utm_medium=email";
    click(&stage, 1, "spring", link);
    click(&stage, 2, "spring", "https://elsewhere.example/");
    let records = stage.enriched(2);
    let [bought, other] = &records[..] else { panic!("{} events", records.len()) };
    let bought = event(bought);
    let conversion = bought.conversion.unwrap();
    assert_eq!((conversion.name.as_str(), conversion.value), ("purchase", Some(49.9)));
    assert_eq!(bought.interest.as_deref(), Some("shoes"));
    let labels = [("list".into(), "trade fair".into()), ("medium".into(), "email".into())];
    assert_eq!(bought.labels, labels.into());
    let other = event(other);
    assert_eq!((other.conversion, other.interest), (None, None));
    assert_eq!(other.labels, [("list".into(), "trade fair".into())].into());
}

/// The tables `campaigns` and the dictionary `teams` of one test.
fn tables(name: &str) -> Database {
    let database = Database::new(name);
    database.create();
    database.execute(
        "CREATE TABLE campaigns (campaign String, tenant String, budget Nullable(UInt32)) \
         ENGINE = MergeTree ORDER BY campaign",
    );
    database
        .execute("INSERT INTO campaigns VALUES ('spring', 'acme', 42), ('autumn', 'acme', NULL)");
    database.execute(
        "CREATE TABLE team_of (campaign String, team String) ENGINE = MergeTree ORDER BY campaign",
    );
    database.execute("INSERT INTO team_of VALUES ('spring', 'growth')");
    database.execute(&format!(
        "CREATE DICTIONARY teams (campaign String, team String) PRIMARY KEY campaign \
         SOURCE(CLICKHOUSE(DB '{}' TABLE 'team_of')) LAYOUT(COMPLEX_KEY_HASHED()) LIFETIME(1)",
        database.name
    ));
    database
}

fn settings(url: &str, ca_file: &str, database: &Database, max_rows: u64) -> String {
    format!(
        "[clickhouse]\nurl = {url:?}\nca_file = {ca_file:?}\ndatabase = {:?}\n\
         [[enrich.lookup_query]]\nname = \"campaigns\"\nsql = \"SELECT * FROM campaigns\"\n\
         every = \"1s\"\nmax_rows = {max_rows}\n\
         [[enrich.lookup_query]]\nname = \"teams\"\nsql = \"SELECT * FROM dictionary('teams')\"\n",
        database.name
    )
}

#[test]
fn tenant_and_labels_come_from_clickhouse_and_are_refreshed() {
    let database = tables("lookup");
    let stage = Stage::start(&settings(&database.url, "", &database, 10));
    let mut published = 0;
    let of = |tenant: &str, labels: &str| (tenant.to_owned(), labels.to_owned());
    assert_eq!(tenant_and_labels(&stage, &mut published), of("acme", "budget=42 team=growth"));

    database.execute("INSERT INTO campaigns VALUES ('winter', 'acme', NULL)");
    database.execute("ALTER TABLE campaigns UPDATE tenant = 'globex', budget = NULL WHERE campaign = 'spring' SETTINGS mutations_sync = 2");
    let changed = of("globex", "team=growth");
    eventually("the changed table", DEADLINE, || {
        seen(tenant_and_labels(&stage, &mut published), |found| *found == changed)
    });

    // A table that is gone, and one that has become too large, leave the former answer in use.
    database.execute("RENAME TABLE campaigns TO away");
    let failed = [("query", "campaigns"), ("outcome", "failed")];
    stage.enrich.await_metric("mailpulse_enrich_lookup_queries_total", &failed, |n| n >= 1.0);
    stage.enrich.await_log("keeping its former content");
    assert_eq!(tenant_and_labels(&stage, &mut published), changed);
    database.execute("INSERT INTO away (campaign) SELECT toString(number) FROM numbers(10)");
    database.execute("RENAME TABLE away TO campaigns");
    stage.enrich.await_log("Limit for result exceeded");
    assert_eq!(tenant_and_labels(&stage, &mut published), changed);
}

#[test]
fn enrich_waits_for_the_first_answer() {
    let database = tables("lookup_late");
    database.execute("RENAME TABLE campaigns TO away");
    let config = settings(&database.url, "", &database, 10);
    let stage = Stage::start_unready(&config);
    stage.enrich.await_unready("enrich.lookup_query campaigns: ClickHouse answered 404");
    stage.enrich.await_log("no event is enriched before it is loaded");
    click(&stage, 1, "spring", "https://shop.example.com/");
    database.execute("RENAME TABLE away TO campaigns");
    let records = stage.enriched(1);
    assert_eq!(event(&records[0]).tenant.as_deref(), Some("acme"), "it was not enriched before");
}

#[test]
fn lookup_queries_use_the_private_authority_of_clickhouse() {
    let database = tables("lookup_tls");
    let dirs = Dirs::new().unwrap();
    let authority = Authority::new(&dirs).unwrap();
    let upstream = database.url.strip_prefix("http://").unwrap();
    let front = TlsFront::start(upstream, &authority.server().unwrap()).unwrap();
    let ca_file = authority.ca_file().display().to_string();
    let config = settings(&format!("https://{}", front.address()), &ca_file, &database, 10);
    let stage = Stage::start(&config);
    let (tenant, _) = tenant_and_labels(&stage, &mut 0);
    assert_eq!(tenant, "acme");
}

#[test]
fn a_lookup_query_that_cannot_be_used_is_refused_at_start() {
    let directory = tempfile::tempdir().unwrap();
    let refused = |settings: &str| {
        let config = directory.path().join("mailpulse.toml");
        std::fs::write(&config, settings).unwrap();
        let output = Command::new(env!("CARGO_BIN_EXE_enrich"))
            .args(["--check", "--config"])
            .arg(&config)
            .output()
            .unwrap();
        assert!(!output.status.success(), "{settings}");
        String::from_utf8(output.stderr).unwrap()
    };
    let query = "[[enrich.lookup_query]]\nname = \"a\"\nsql = \"SELECT 1\"\n";
    let error = refused(&format!("{query}{query}"));
    assert!(error.contains("enrich.lookup_query[1].name"), "{error}");
    let error = refused(&format!("{query}every = \"10ms\"\n"));
    assert!(error.contains("enrich.lookup_query[0].every") && error.contains("1s"), "{error}");
    let error = refused(&format!("{query}max_rows = 0\n"));
    assert!(error.contains("enrich.lookup_query[0].max_rows"), "{error}");
    let error = refused(&query.replace("SELECT 1", " "));
    assert!(error.contains("enrich.lookup_query[0].sql"), "{error}");
    let error = refused(&format!("{query}[clickhouse]\nca_file = \"/nowhere/ca.pem\"\n"));
    assert!(error.contains("clickhouse.ca_file: /nowhere/ca.pem"), "{error}");
    let error = refused(&format!("{query}[clickhouse]\nurl = \"clickhouse\"\n"));
    assert!(error.contains("clickhouse.url") && error.contains("https://host:8443"), "{error}");
}
