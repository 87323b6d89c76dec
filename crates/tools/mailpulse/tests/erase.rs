//! `mailpulse erase` and `export` on real ClickHouse and Kafka: what the tables, the projections and the files of
//! ClickHouse still contain.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod stored;

use std::path::{Path, PathBuf};
use std::process::Command;

use archive::tables::{Actions, Coordinates, DeadLetters, Events, Table};
use devstack::{ClickHouse, Dirs};
use harness::{DEADLINE, Database, eventually};
use stored::{Output, Setup};

/// The recipient who is erased. Nothing else has this local part.
const ERASED: &str = "quentina@example.com";
/// Somebody whose address ends like hers, and somebody at a longer domain.
const OTHERS: [&str; 2] = ["x.quentina@example.com", "quentina@example.com.au"];

const SETTINGS: &str = "[privacy]\nerasure_key = \"a key of the tests alone\"\n";

/// Tables that name the erased recipient.
struct Stored {
    setup: Setup,
}

impl Stored {
    fn new() -> Self {
        Self::on(Database::new("erase"))
    }

    fn on(database: Database) -> Self {
        let stored = Self { setup: Setup::with("erase", database, SETTINGS) };
        // By default, ClickHouse looks for old parts twice a minute.
        for table in ["events", "message_life", "recipients", "links", "actions", "dead_letters"] {
            stored.setup.database.execute(&format!(
                "ALTER TABLE {table} MODIFY SETTING old_parts_lifetime = 1, cleanup_delay_period = 1, \
                 cleanup_delay_period_random_add = 0, max_cleanup_delay_period = 1"
            ));
        }
        stored.insert_events();
        stored.insert_actions();
        stored.insert_dead_letters();
        let view = format!("{}.recipients_refresh", stored.setup.database.name);
        stored.setup.database.execute(&format!("SYSTEM REFRESH VIEW {view}"));
        stored.setup.database.execute(&format!("SYSTEM WAIT VIEW {view}"));
        stored
    }

    fn insert_events(&self) {
        let mut rows = Events::default();
        let recipients = [ERASED, "bob@example.com", OTHERS[0], OTHERS[1]];
        for (offset, recipient) in (0..400).zip(recipients.into_iter().cycle()) {
            let kind = if offset % 8 < 4 { "clicked" } else { "bounced" };
            let value = event(offset, kind, recipient);
            let header = |name: &str| (name == "tally").then_some(&b"1;;clicked"[..]);
            let at = Coordinates { partition: 0, offset };
            rows.push(at, value.as_bytes(), header).unwrap();
        }
        self.setup.insert(Table::Events, &rows.finish());
    }

    fn insert_actions(&self) {
        let mut rows = Actions::default();
        for (offset, recipient) in (0..).zip([ERASED, "bob@example.com", OTHERS[1]]) {
            let at = Coordinates { partition: 0, offset };
            rows.push(at, None, action(offset, recipient).as_bytes()).unwrap();
        }
        self.setup.insert(Table::Actions, &rows.finish());
    }

    fn insert_dead_letters(&self) {
        let mut rows = DeadLetters::default();
        for (offset, recipient) in (0..).zip([ERASED, "bob@example.com"]) {
            let value = format!("to=bob@example.com&cc={}", ERASED.replace('@', "%40"));
            let headers: [(&str, &[u8]); 2] =
                [("reason", b"not_json"), ("detail", b"quentina@example.com is no JSON")];
            let at = Coordinates { partition: 0, offset };
            rows.push(at, recipient.as_bytes(), value.as_bytes(), &headers);
        }
        self.setup.insert(Table::DeadLetters, &rows.finish());
    }

    fn erase(&self, more: &[&str]) -> Output {
        self.setup.run(&[&["erase", "--recipient", "Quentina@Example.com"], more].concat())
    }

    fn one<T: serde::de::DeserializeOwned>(&self, sql: &str) -> T {
        self.setup.database.one(sql)
    }

    /// Returns the sums that erasing must not change, and the rows of every table.
    fn totals(&self) -> Vec<String> {
        let queries = [
            "SELECT count(), sum(kafka_offset), uniqExact(recipient) FROM events",
            "SELECT sum(events), sum(clicked) FROM traffic",
            "SELECT sum(clicks), uniqExact(url) FROM links",
            "SELECT sum(clicked) FROM traffic_domain WHERE recipient_domain = 'example.com'",
            "SELECT count(), uniqExact(recipient), sum(clicks) FROM (SELECT * FROM message_life FINAL)",
            "SELECT count(), uniqExact(recipient) FROM actions",
            "SELECT sum(actions), sum(recipients) FROM automation_rules",
            "SELECT count() FROM dead_letters",
        ];
        queries
            .iter()
            .map(|sql| format!("{sql}: {:?}", self.one::<serde_json::Value>(sql)))
            .collect()
    }
}

/// Returns the files in a directory that contain a text.
fn files_with(directory: &Path, text: &str) -> Vec<PathBuf> {
    let found = Command::new("grep").args(["-rlF", text]).arg(directory).output().unwrap();
    String::from_utf8(found.stdout).unwrap().lines().map(PathBuf::from).collect()
}

/// Returns an event of any recipient. Its texts name the erased recipient in every encoding.
fn event(n: u64, kind: &str, recipient: &str) -> String {
    let at = 1_790_000_000_000_000_i64 + n.cast_signed();
    format!(
        r#"{{"event_id":"{n:032x}","kind":"{kind}","provider":"sendgrid","source":"acme","occurred_at":{at},"received_at":{at},"recipient":"{recipient}","recipient_domain":"example.com","mailbox_provider":"other","message_id":"m{}","campaign":"c","tags":["QUENTINA@example.com"],"bounce":{{"permanence":"hard","class":"invalid_recipient","side":"recipient","diagnostic":"550 <quentina@example.com>,<quentina@example.com> unknown"}},"user_agent":"agent of {recipient}","ip":"192.0.2.1","url":"https://example.com/u/quentina%2540example.com?email=quentina%40example.com","provider_event":"x","request_id":"r","sender":"bounce+{}@acme.example","geo":{{"country":"NL","region":"NH","city":"Amsterdam","asn":1103,"network":"SURF","time_zone":"Europe/Amsterdam"}},"labels":{{"note":"quentina@example.com"}},"raw":{{"to":["\u0071uentina\u0040example.com","bob@example.com","{}"]}}}}"#,
        n / 4,
        recipient.replace('@', "="),
        OTHERS[0],
    )
}

/// Returns an action for any recipient. Its campaign names the erased recipient.
fn action(n: u64, recipient: &str) -> String {
    format!(
        r#"{{"action_id":"{n:032x}","rule":"clicked","index":"0","type":"points","add":1,"at":{n},"intent_id":"{n:032x}","event":{{"event_id":"{n:032x}","kind":"clicked","provider":"sendgrid","source":"acme","occurred_at":{n},"received_at":{n},"recipient":"{recipient}","message_id":"m{n}","campaign":"to Quentina@example.com","human":true,"authentic":true}}}}"#
    )
}

/// Returns the columns of every table, and the projections, that contain a text in any case.
fn places(stored: &Stored, text: &str) -> Vec<String> {
    let tables: Vec<String> = stored.one(&format!(
        "SELECT groupArray(name) FROM system.tables WHERE database = '{}' AND engine LIKE '%MergeTree'",
        stored.setup.database.name
    ));
    let database = &stored.setup.database.name;
    let projections = ["by_recipient", "by_message"]
        .map(|name| format!("mergeTreeProjection('{database}', 'events', '{name}')"));
    let sources = tables.into_iter().chain(projections);
    let is_there = |from: &String| {
        let text = text.to_lowercase();
        let sql = format!(
            "SELECT countIf(position(decodeURLComponent(decodeURLComponent(replaceAll(replaceAll(\
             replaceAll(lower(toString(tuple(*))), '\\\\', ''), 'u0040', '@'), 'u0071', 'q'))), '{text}') > 0) FROM {from}"
        );
        stored.one::<u64>(&sql) > 0
    };
    sources.filter(is_there).collect()
}

#[test]
fn an_erased_recipient_is_in_no_column_projection_or_file_and_sums_stay() {
    let files = tempfile::tempdir().unwrap();
    let server = ClickHouse::start_on(&Dirs::new().unwrap(), files.path()).unwrap();
    let stored = Stored::on(Database::on(server.url(), "erase"));
    let totals = stored.totals();
    assert_eq!(places(&stored, ERASED).len(), 7, "{:?}", places(&stored, ERASED));
    assert!(
        !files_with(files.path(), "quentina").is_empty(),
        "the files are not those of the tables"
    );

    let dry = stored.erase(&["--dry-run"]);
    assert_eq!(
        dry.out,
        "events\t400\nmessage_life\t100\nactions\t3\ndead_letters\t2\nlinks\t1\nrecipients\t1\n",
        "{dry:?}"
    );
    assert_eq!(stored.totals(), totals, "a dry run changes nothing");

    let erased = stored.erase(&[]);
    assert_eq!((erased.code, &erased.out), (0, &dry.out), "{erased:?}");
    assert!(erased.err.contains("mail.raw.* that were written before expire by 20"), "{erased:?}");
    assert_eq!(stored.totals(), totals);

    // What is left names only the two others, whose addresses contain hers.
    for other in OTHERS {
        let rows: u64 =
            stored.one(&format!("SELECT count() FROM events WHERE recipient = '{other}'"));
        assert_eq!(rows, 100, "{other}");
    }
    for (other, table) in OTHERS
        .iter()
        .flat_map(|other| ["events", "message_life", "recipients"].map(|table| (other, table)))
    {
        stored.setup.database.execute(&format!(
            "ALTER TABLE {table} DELETE WHERE recipient = '{other}' SETTINGS mutations_sync = 2"
        ));
    }
    stored.setup.database.execute(&format!(
        "ALTER TABLE actions DELETE WHERE recipient = '{}' SETTINGS mutations_sync = 2",
        OTHERS[1]
    ));
    let sql = format!(
        "ALTER TABLE events UPDATE raw = replaceAll(raw, '{}', '') WHERE 1 SETTINGS mutations_sync = 2",
        OTHERS[0]
    );
    stored.setup.database.execute(&sql);
    assert_eq!(places(&stored, "quentina"), Vec::<String>::new());
    // Those statements are beside the parts, and contain only the others.
    eventually("ClickHouse to remove old parts", DEADLINE, || {
        let parts = files_with(files.path(), "quentina");
        let parts: Vec<_> =
            parts.iter().filter(|it| !it.to_string_lossy().contains("mutation_")).collect();
        if parts.is_empty() { Ok(()) } else { Err(format!("{parts:?}")) }
    });
    for mutation in files_with(files.path(), "quentina") {
        let text = std::fs::read_to_string(&mutation).unwrap();
        let text = OTHERS.iter().fold(text, |text, other| text.replace(other, ""));
        assert!(!text.contains("quentina"), "{}: {text}", mutation.display());
    }

    let audit: (String, String, String) =
        stored.one("SELECT command, result, toString(counts) FROM audit");
    assert_eq!((&*audit.0, &*audit.1), ("erase", "done"));
    assert!(audit.2.contains("'events':400"), "{audit:?}");
    let again = stored.erase(&[]);
    assert_eq!((again.code, &*again.out), (0, ""), "{again:?}");
    // With tombstones of two keys in the topic, no service could start, and --reapply would find nobody.
    let other = [("MAILPULSE__PRIVACY__ERASURE_KEY", "another key of the tests alone")];
    for arguments in [&["erase", "--recipient", OTHERS[0]][..], &["erase", "--reapply"]] {
        let refused = stored.setup.run_with(arguments, &other);
        assert!(refused.code != 0 && refused.err.contains("with another key"), "{refused:?}");
    }
}

#[test]
fn rows_of_the_recipient_keep_only_what_sums_are_made_of() {
    let stored = Stored::new();
    assert_eq!(stored.erase(&[]).code, 0);
    let key = privacy::ErasureKey::new(b"a key of the tests alone").unwrap();
    let pseudonym = key.pseudonym(ERASED).unwrap();
    let local = pseudonym.split('@').next().unwrap();
    let row: Vec<String> = stored.one(&format!(
        "SELECT [recipient, raw, ip, user_agent, url, sender, toString(labels), recipient_domain, message_id] \
         FROM events WHERE kafka_offset = 0 AND recipient = '{pseudonym}'"
    ));
    let url = format!("https://example.com/u/{local}%2540example.com");
    let expected = [&pseudonym, "{}", "", "", &url, "", "{}", "example.com", "m0"];
    assert_eq!(row, expected);
    let places: Vec<[String; 6]> = stored.one(
        "SELECT groupArray([toString(geo_country), geo_region, geo_city, geo_network, geo_time_zone, toString(geo_asn)]) \
         FROM (SELECT * FROM events WHERE kafka_offset < 2 ORDER BY kafka_offset)",
    );
    let elsewhere = ["NL", "NH", "Amsterdam", "SURF", "Europe/Amsterdam", "1103"];
    assert_eq!(places, [["NL", "", "", "", "", "0"], elsewhere], "only the country stays");
    let other: (String, String, String) =
        stored.one("SELECT raw, user_agent, bounce_diagnostic FROM events WHERE kafka_offset = 1");
    let raw = format!(r#"{{"to":["{local}\u0040example.com","bob@example.com","{}"]}}"#, OTHERS[0]);
    assert_eq!((other.0, &*other.1), (raw, "agent of bob@example.com"));
    assert_eq!(other.2, format!("550 <{pseudonym}>,<{pseudonym}> unknown"));
    let dead: (String, String) =
        stored.one("SELECT key, value FROM dead_letters WHERE kafka_offset = 0");
    assert_eq!(dead, (pseudonym.clone(), String::new()));
    let actions: Vec<[String; 4]> = stored.one(
        "SELECT groupArray([recipient, campaign, message_id, index]) FROM (SELECT * FROM actions ORDER BY kafka_offset)",
    );
    let campaign = format!("to {pseudonym}");
    let expected = [(&*pseudonym, "m0"), ("bob@example.com", "m1"), (OTHERS[1], "m2")]
        .map(|(recipient, id)| [recipient, &campaign, id, "0"].map(str::to_owned));
    assert_eq!(actions, expected);
    let erasures = stored.setup.cluster.read(&stored.setup.cluster.topics.erased);
    assert_eq!(erasures.len(), 1);
    assert_eq!(erasures[0].key, key.digest(ERASED).to_string().as_bytes());
}

#[test]
fn a_restored_backup_is_erased_again_by_the_tombstones_alone() {
    let stored = Stored::new();
    assert_eq!(stored.erase(&[]).code, 0);
    stored.setup.database.execute("TRUNCATE TABLE events");
    stored.setup.database.execute("TRUNCATE TABLE message_life");
    stored.insert_events();
    let reapplied = stored.setup.run(&["erase", "--reapply"]);
    assert_eq!(reapplied.code, 0, "{reapplied:?}");
    assert!(reapplied.err.contains("1 recipients were erased before"), "{reapplied:?}");
    assert!(reapplied.out.contains("events\t400\n"), "{reapplied:?}");
    let rows: u64 = stored.one(&format!("SELECT count() FROM events WHERE recipient = '{ERASED}'"));
    assert_eq!(rows, 0);
    // Actions are kept longer than events, so the recipient may be in no other table.
    stored.setup.database.execute("TRUNCATE TABLE actions");
    stored.insert_actions();
    let reapplied = stored.setup.run(&["erase", "--reapply"]);
    assert_eq!((reapplied.code, &*reapplied.out), (0, "actions\t3\n"), "{reapplied:?}");
}

#[test]
fn an_export_has_every_row_about_the_recipient_and_nothing_else() {
    let setup = Setup::with("export", Database::new("export"), SETTINGS);
    let mut rows = Events::default();
    for (offset, recipient) in (0..9).zip([ERASED, "bob@example.com", OTHERS[0]].iter().cycle()) {
        let value = event(offset, "clicked", recipient);
        rows.push(Coordinates { partition: 0, offset }, value.as_bytes(), |_| None).unwrap();
    }
    setup.insert(Table::Events, &rows.finish());
    let mut actions = Actions::default();
    for (offset, recipient) in (0..).zip([ERASED, "bob@example.com", ERASED]) {
        let at = Coordinates { partition: 0, offset };
        actions.push(at, None, action(offset, recipient).as_bytes()).unwrap();
    }
    setup.insert(Table::Actions, &actions.finish());
    let digest = |address: &str| {
        let digest = privacy::ErasureKey::new(b"a key of the tests alone")
            .unwrap()
            .digest(address)
            .to_string();
        digest[..32].to_owned()
    };
    for (offset, recipient) in [ERASED, "bob@example.com"].into_iter().enumerate() {
        setup.database.execute(&format!(
            "INSERT INTO suppressions (list, recipient, reason, kafka_offset) VALUES ('global', '{}', 'manual', {offset})",
            digest(recipient)
        ));
    }
    let exported = setup.run(&["export", "--recipient", ERASED]);
    assert_eq!(exported.code, 0, "{exported:?}");
    let lines = exported.out.lines().map(|line| serde_json::from_str(line).unwrap());
    let lines: Vec<serde_json::Value> = lines.collect();
    let of = |table: &str| lines.iter().filter(|line| line["table"] == table).count();
    let counts = (of("actions"), of("events"), of("message_life"), of("suppressions"), lines.len());
    assert_eq!(counts, (2, 3, 2, 1, 8), "{exported:?}");
    let name = |line: &serde_json::Value| match line["table"].as_str() {
        Some("suppressions") => digest(ERASED),
        _ => ERASED.to_owned(),
    };
    assert!(lines.iter().all(|line| line["row"]["recipient"] == name(line)), "{exported:?}");
    let event = lines.iter().find(|line| line["table"] == "events").unwrap();
    assert!(event["row"]["raw"].as_str().unwrap().contains("bob@example.com"));
    // The first row is written before anything is read. The name alone proves nothing, because users can set it.
    let audit: (String, String, u64) = setup.database.one(
        "SELECT arrayStringConcat(groupArray(concat(command, ' ', result)), ', '), \
         anyIf(toString(counts), result = 'done'), countIf(who LIKE 'uid %@%') \
         FROM (SELECT * FROM audit ORDER BY at)",
    );
    let counts = "{'actions':2,'events':3,'message_life':2,'suppressions':1}";
    let expected = ("export started, export done", counts, 2);
    assert_eq!((&*audit.0, &*audit.1, audit.2), expected);
}

#[test]
fn without_a_key_or_with_a_wrong_address_nothing_happens() {
    let setup = Setup::new("erase");
    let refused = setup.run(&["erase", "--recipient", ERASED]);
    assert_eq!(refused.code, 2, "{refused:?}");
    assert!(refused.err.contains("set it to a secret"), "{refused:?}");
    let setup = Setup::with("erase", Database::new("erase"), SETTINGS);
    let refused = setup.run(&["erase", "--recipient", "quentina"]);
    assert_eq!(refused.code, 2, "{refused:?}");
    assert!(setup.cluster.read(&setup.cluster.topics.erased).is_empty());
}
