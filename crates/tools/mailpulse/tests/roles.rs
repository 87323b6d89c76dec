//! `schemas/clickhouse/roles/roles.sql` on a real ClickHouse: which questions and panels each role may run, that no role
//! but `investigator` sees an address, and that `writer` is enough for archive and the tool.
//!
//! The embedded ClickHouse cannot store users, but it reads them from a file. So a role is tested as the user
//! `default` of a server of its own on the same data.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod panels;
mod stored;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::Path;

use archive::schema::{MIGRATIONS, Migration};
use archive::tables::{Actions, Coordinates, Events, Table};
use devstack::{ClickHouse, Dirs};
use harness::Database;
use jiff::Timestamp;
use panels::{Query, dashboards, queries, read, send};
use stored::Setup;
use tempfile::TempDir;

const FILE: &str = "schemas/clickhouse/roles/roles.sql";
const DEFINER: &str = "mailpulse_definer";
/// In every column that can contain an address or a text about it.
const ADDRESS: &str = "quentina@example.com";

/// The statements of the file.
struct Roles(Vec<String>);

impl Roles {
    fn read() -> Self {
        let content = read(FILE);
        let statements = content.split(";\n").map(|statement| {
            let lines = statement.lines().filter(|line| !line.starts_with("--"));
            lines.flat_map(str::split_whitespace).collect::<Vec<_>>().join(" ")
        });
        Self(statements.filter(|statement| !statement.is_empty()).collect())
    }

    /// Returns the statements that take rights from a role, as `REVOKE ALTER ON mailpulse.audit`.
    fn revokes(&self, from: &str) -> Vec<&str> {
        let revokes = self.0.iter().filter_map(|it| it.rsplit_once(" FROM "));
        revokes
            .filter(|(what, role)| *role == from && what.starts_with("REVOKE "))
            .map(|(what, _)| what)
            .collect()
    }

    /// Returns what is granted to a role or user, with the grants of its roles, as `SELECT ON mailpulse.traffic`.
    fn grants(&self, to: &str) -> Vec<&str> {
        let grants = self.0.iter().filter_map(|it| it.strip_prefix("GRANT ")?.rsplit_once(" TO "));
        let own = grants.filter(|(_, role)| *role == to).map(|(grant, _)| grant);
        own.flat_map(|grant| if grant.contains(' ') { vec![grant] } else { self.grants(grant) })
            .collect()
    }

    /// Returns the settings of a role.
    fn settings(&self, of: &str) -> Vec<(&str, &str)> {
        let prefix = format!("ALTER ROLE {of} MODIFY SETTING ");
        self.0.iter().filter_map(|it| it.strip_prefix(&prefix)?.split_once(" = ")).collect()
    }

    /// Returns the tables and views that are granted to anybody by name, with their columns if they are named.
    fn granted(&self) -> BTreeMap<&str, BTreeSet<&str>> {
        let mut granted = BTreeMap::<_, BTreeSet<_>>::new();
        for (what, _) in
            self.0.iter().filter_map(|it| it.strip_prefix("GRANT ")?.rsplit_once(" TO "))
        {
            let Some((rights, table)) = what.split_once(" ON mailpulse.") else { continue };
            if table != "*" {
                let columns = rights.split_once('(').map_or("", |(_, list)| list);
                let columns = columns.trim_end_matches(')').split(',').map(str::trim);
                granted.entry(table).or_default().extend(columns.filter(|name| !name.is_empty()));
            }
        }
        granted
    }
}

/// A directory with the data of a ClickHouse, on which a server runs as one role at a time.
struct Home {
    directory: TempDir,
    dirs: Dirs,
    roles: Roles,
}

impl Home {
    fn new() -> Self {
        let (directory, dirs) = (tempfile::tempdir().unwrap(), Dirs::new().unwrap());
        Self { directory, dirs, roles: Roles::read() }
    }

    /// Starts a server whose user has the rights and settings of a role, or all rights.
    fn start(&self, role: Option<&str>) -> (ClickHouse, Database) {
        let path = |name: &str| self.directory.path().join(name);
        let grants = role
            .map_or_else(|| vec!["ALL ON *.* WITH GRANT OPTION"], |role| self.roles.grants(role));
        assert!(!grants.is_empty(), "{role:?} has no rights");
        let settings = self.roles.settings(role.unwrap_or_default());
        let settings = settings.iter().fold(String::new(), |mut xml, (name, value)| {
            let _ = write!(xml, "<{name}>{value}</{name}>");
            xml
        });
        let revokes = role.map_or_else(Vec::new, |role| self.roles.revokes(role));
        let users =
            user("default", &grants, &revokes) + &user(DEFINER, &self.roles.grants(DEFINER), &[]);
        let users = format!(
            "<clickhouse><profiles><default>{settings}</default></profiles><quotas><default/></quotas>\
             <users>{users}</users></clickhouse>"
        );
        std::fs::write(path("users.xml"), users).unwrap();
        let config = format!(
            "<clickhouse><user_directories><users_xml><path>{}</path></users_xml></user_directories></clickhouse>",
            path("users.xml").display()
        );
        std::fs::write(path("config.xml"), config).unwrap();
        let server =
            ClickHouse::start_configured(&self.dirs, &path("data"), &path("config.xml")).unwrap();
        // Roles name the database.
        let database = Database::existing(server.url(), "mailpulse");
        (server, database)
    }
}

fn user(name: &str, grants: &[&str], revokes: &[&str]) -> String {
    let grants = grants.iter().map(|grant| format!("GRANT {grant}"));
    let statements = grants.chain(revokes.iter().map(|revoke| (*revoke).to_owned()));
    let grants = statements.fold(String::new(), |mut xml, statement| {
        let _ = write!(xml, "<query>{statement}</query>");
        xml
    });
    format!(
        "<{name}><password></password><networks><ip>::/0</ip></networks><profile>default</profile>\
         <quota>default</quota><grants>{grants}</grants></{name}>"
    )
}

/// Creates the tables, stores a message that names its recipient wherever it can, and sets the definers of views.
fn fill(home: &Home, database: &Database) {
    database.create();
    for statement in MIGRATIONS.iter().flat_map(Migration::statements) {
        database.execute(statement);
    }
    for statement in home.roles.0.iter().filter(|it| it.contains(" MODIFY DEFINER = ")) {
        database.execute(statement);
    }
    for (offset, kind) in ["delivered", "clicked", "bounced", "complained"].iter().enumerate() {
        database.execute(&format!(
            "INSERT INTO events (event_id, kind, provider, source, occurred_at, received_at, recipient, recipient_domain, \
                 message_id, campaign, bounce_class, bounce_diagnostic, user_agent, url, raw, sender, delivery_response, \
                 provider_event_id, request_id, labels, conversion, interest, counts, seen, sent, kafka_offset) \
             SELECT '{offset}', '{kind}', 'sendgrid', 'acme', now(), now(), '{ADDRESS}', 'example.com', 'of {ADDRESS}', \
                 'spring', 'invalid_recipient', '550 {ADDRESS}', '{ADDRESS}', 'https://shop.test/?{ADDRESS}', \
                 '{ADDRESS}', '{ADDRESS}', '{ADDRESS}', '{ADDRESS}', '{ADDRESS}', map('origin', '{ADDRESS}'), 'purchase', \
                 'shoes', ['{kind}'], 1, now(), {offset}"
        ));
    }
    database.execute(&format!(
        "INSERT INTO recipients (source, recipient, received, refreshed_at) VALUES ('acme', '{ADDRESS}', 1, now())"
    ));
    database.execute(&format!(
        "INSERT INTO actions (rule, type, source, recipient, message_id) \
         VALUES ('clicked', 'points', 'acme', '{ADDRESS}', 'of {ADDRESS}')"
    ));
    // The digest and the wording name nobody, but nobody else than an investigator needs them.
    database.execute(&format!(
        "INSERT INTO suppressions (list, recipient, reason, author, state, since, wording) \
         VALUES ('sendgrid/acme', '{ADDRESS}', 'hard_bounce', 'event', 'suppressed', now(), '550 {ADDRESS}')"
    ));
    for table in ["engagement_histories", "best_times"] {
        database.execute(&format!(
            "INSERT INTO {table} (source, recipient, written_at) VALUES ('acme', '{ADDRESS}', '2100-01-01 00:00:00')"
        ));
    }
    database.execute(
        "INSERT INTO fits (source, model, written_at) VALUES ('acme', 'unknown', '2100-01-01 00:00:00')",
    );
    database.execute(&format!(
        "INSERT INTO dead_letters (reason, detail, stage, source, key, value, headers) \
         VALUES ('not_json', '{ADDRESS}', 'enrich', 'acme', '{ADDRESS}', '{ADDRESS}', map('x', '{ADDRESS}'))"
    ));
}

/// Returns whether a query is allowed. Any other error than that of missing rights fails the test.
fn is_allowed(database: &Database, sql: &str, parameters: &[(String, String)]) -> Option<String> {
    let response = send(database, sql, parameters);
    let text = String::from_utf8_lossy(&response.body_bytes()).into_owned();
    if response.status == 200 {
        return Some(text);
    }
    assert!(text.contains("ACCESS_DENIED"), "{text}\n{sql}");
    None
}

/// The questions of the analysts by number, with the parameters of their examples.
fn questions() -> BTreeMap<u32, (String, Vec<(String, String)>)> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../docs/questions");
    let files = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let questions =
        files.filter(|path| path.extension().is_some_and(|it| it == "sql")).map(|path| {
            let number = path.file_name().unwrap().to_str().unwrap()[..2].parse().unwrap();
            let text = std::fs::read_to_string(&path).unwrap();
            let examples =
                text.lines().filter_map(|line| line.strip_prefix("--   ")?.split_once(" = "));
            let is_name = |name: &str| name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
            let examples = examples.filter(|(name, _)| is_name(name));
            let parameters =
                examples.map(|(name, value)| (format!("param_{name}"), value.to_owned()));
            let parameters = parameters.collect();
            (number, (text.trim_end().trim_end_matches(';').to_owned(), parameters))
        });
    questions.collect()
}

/// Returns the questions that `docs/analysts.md` names for a role.
fn documented(role: &str) -> BTreeSet<u32> {
    let page = read("docs/analysts.md");
    let line = page.lines().find(|line| line.starts_with(&format!("| `{role}` |")));
    let line = line.unwrap_or_else(|| panic!("docs/analysts.md has no row of the role {role}"));
    let cell = line.trim_end_matches(" |").rsplit(" | ").next().unwrap();
    cell.split(|c: char| !c.is_ascii_digit()).filter_map(|word| word.parse().ok()).collect()
}

/// Returns every column that can contain text, and the views with parameters as tables.
fn text_columns(database: &Database) -> Vec<(String, String)> {
    let columns: Vec<(String, String)> = database.one(
        "SELECT groupArray((table, name)) FROM system.columns WHERE database = 'mailpulse' \
         AND (type LIKE '%String%') AND table NOT LIKE '%\\\\_feed' AND table != 'recipients_refresh' \
         AND table NOT IN (SELECT name FROM system.tables WHERE database = 'mailpulse' AND engine = 'View' \
             AND create_table_query LIKE '%{%:%}%')",
    );
    let stories = [
        format!("message_story(id = 'of {ADDRESS}')"),
        format!("message_story_masked(id = 'of {ADDRESS}')"),
        format!("recipient_story(address = '{ADDRESS}')"),
        format!("recipient(address = '{ADDRESS}')"),
        format!("message_summary(ids = ['of {ADDRESS}'])"),
        "report(from = '2020-01-01 00:00:00', to = '2040-01-01 00:00:00')".to_owned(),
    ];
    let stories = stories.map(|story| (story, "*".to_owned()));
    columns.into_iter().chain(stories).collect()
}

#[test]
fn roles_may_run_what_the_documents_say_and_see_no_address() {
    let home = Home::new();
    let (server, database) = home.start(None);
    fill(&home, &database);
    let now = Timestamp::from_second(database.one("SELECT toUnixTimestamp(now())")).unwrap();
    let panels = dashboards()
        .into_iter()
        .flat_map(|(name, dashboard)| queries(&database, &name, &dashboard, now).0);
    let panels: Vec<Query> = panels.collect();
    let texts = text_columns(&database);
    let tables: BTreeSet<String> =
        database.one("SELECT groupArray(name) FROM system.tables WHERE database = 'mailpulse'");
    for (table, columns) in home.roles.granted() {
        assert!(tables.contains(table), "{FILE} grants {table}, which does not exist");
        for column in columns {
            database.execute(&format!("SELECT {column} FROM {table} LIMIT 0"));
        }
    }
    drop(server);

    let mut answered = BTreeMap::new();
    for role in ["analyst", "analyst_of_all_sources", "dashboards", "investigator"] {
        let (_server, database) = home.start(Some(role));
        let mut numbers = BTreeSet::new();
        for (number, (sql, parameters)) in questions() {
            if is_allowed(&database, &sql, &parameters).is_some() {
                numbers.insert(number);
            }
        }
        answered.insert(role, numbers);
        let denied: Vec<&str> = panels
            .iter()
            .filter(|panel| is_allowed(&database, &panel.sql, &[]).is_none())
            .map(|panel| panel.of.as_str())
            .collect();
        let shows: BTreeSet<String> = texts
            .iter()
            .filter(|(table, column)| {
                let sql = format!("SELECT {column} FROM {table}");
                is_allowed(&database, &sql, &[]).is_some_and(|text| text.contains(ADDRESS))
            })
            .map(|(table, column)| format!("{table}.{column}"))
            .collect();
        // Servers quote the address in their answers, and operators choose the labels.
        let of_dashboards = [
            "bounce_reason_changes.example",
            "bounce_reasons.example",
            "dead_letters.detail",
            "events.bounce_diagnostic",
            "events.labels",
        ];
        match role {
            "dashboards" => {
                assert!(denied.is_empty(), "{role} may not run {denied:?}");
                assert_eq!(shows, of_dashboards.map(str::to_owned).into());
            }
            "investigator" => {
                assert!(denied.is_empty(), "{role} may not run {denied:?}");
                assert!(shows.contains("events.recipient") && shows.len() > 15, "{shows:?}");
            }
            _ => {
                assert_eq!(denied.len(), if role == "analyst" { 11 } else { 5 }, "{denied:?}");
                // The id of a message is the provider's. Here it contains the address.
                let allowed: BTreeSet<String> = match role {
                    "analyst" => BTreeSet::new(),
                    _ => ["messages_masked.message_id".to_owned()].into(),
                };
                assert_eq!(shows, allowed, "{role}");
            }
        }
    }
    let all: BTreeSet<u32> = questions().into_keys().collect();
    assert_eq!(answered["investigator"], all);
    let of_analyst = &answered["analyst"];
    for role in ["analyst_of_all_sources", "dashboards"] {
        let more: BTreeSet<u32> = answered[role].difference(of_analyst).copied().collect();
        assert!(of_analyst.is_subset(&answered[role]), "{role}");
        assert_eq!(documented(role), more, "docs/analysts.md about {role}");
    }
    let others: BTreeSet<u32> = answered
        .iter()
        .filter(|(role, _)| **role != "investigator")
        .flat_map(|(_, it)| it)
        .copied()
        .collect();
    let alone: BTreeSet<u32> = all.difference(&others).copied().collect();
    assert_eq!(documented("investigator"), alone, "docs/analysts.md about investigator");
    let elsewhere: BTreeSet<u32> = all.difference(of_analyst).copied().collect();
    assert_eq!(documented("analyst"), elsewhere, "docs/analysts.md about analyst");
}

/// Returns a click, or a bounce that is classified wrongly, of the recipient who is erased.
fn event(offset: u64, at: i64) -> String {
    let (kind, name, bounce) = if offset.is_multiple_of(2) {
        ("clicked", "click", "")
    } else {
        let wrong = r#""bounce":{"permanence":"soft","class":"mailbox_full","side":"recipient","status":"4.2.2","diagnostic":"550 5.1.1 no such user"},"#;
        ("bounced", "bounce", wrong)
    };
    let seconds = at / 1_000_000;
    format!(
        r#"{{"event_id":"{offset:032x}","kind":"{kind}","provider":"sendgrid","source":"acme","occurred_at":{at},"received_at":{at},"recipient":"{ADDRESS}","recipient_domain":"example.com","mailbox_provider":"other","message_id":"m{offset}",{bounce}"url":"https://example.com/{ADDRESS}","provider_event":"{name}","request_id":"r","raw":{{"email":"{ADDRESS}","event":"{name}","url":"https://example.com/","timestamp":{seconds},"sg_event_id":"e{offset}","sg_message_id":"m{offset}","smtp-id":"<m{offset}>","reason":"550 5.1.1 no such user","status":"5.1.1","type":"bounce"}}}}"#
    )
}

/// archive creates the tables, inserts and looks for its rows; the tool changes them.
#[test]
fn the_writer_may_do_what_archive_and_the_tool_do() {
    let home = Home::new();
    let (_server, database) = home.start(Some("writer"));
    let settings = "[privacy]\nerasure_key = \"a key of the tests alone\"\n";
    let setup = Setup::with("writer", database, settings);
    // By default, ClickHouse looks for old parts twice a minute.
    for table in ["events", "message_life", "recipients", "links", "actions", "dead_letters"] {
        setup.database.execute(&format!(
            "ALTER TABLE {table} MODIFY SETTING old_parts_lifetime = 1, cleanup_delay_period = 1, \
             cleanup_delay_period_random_add = 0, max_cleanup_delay_period = 1"
        ));
    }
    let at: i64 = setup.database.one("SELECT toUnixTimestamp64Micro(now64(6))");
    let mut rows = Events::default();
    for offset in 0..10_u64 {
        let tally =
            format!("1;{at};{}", if offset.is_multiple_of(2) { "clicked" } else { "bounced_soft" });
        let header = |name: &str| (name == "tally").then_some(tally.as_bytes());
        rows.push(Coordinates { partition: 0, offset }, event(offset, at).as_bytes(), header)
            .unwrap();
    }
    setup.insert(Table::Events, &rows.finish());
    let mut actions = Actions::default();
    let action = format!(
        r#"{{"action_id":"{0}","rule":"clicked","index":"0","type":"points","add":1,"at":1,"intent_id":"{0}","event":{{"event_id":"{0}","kind":"clicked","provider":"sendgrid","source":"acme","recipient":"{ADDRESS}"}}}}"#,
        "1".repeat(32)
    );
    actions.push(Coordinates { partition: 0, offset: 0 }, None, action.as_bytes()).unwrap();
    setup.insert(Table::Actions, &actions.finish());
    let (from, to) = ("2026-01-01T00:00:00Z", "2040-01-01T00:00:00Z");
    for command in [
        ["migrate"].as_slice(),
        &["heal"],
        &["heal", "--repair"],
        &["reclassify", "--from", from, "--to", to],
        &["export", "--recipient", ADDRESS],
        &["erase", "--recipient", ADDRESS],
    ] {
        let output = setup.run(command);
        assert_eq!(output.code, 0, "{command:?}: {output:?}");
        if command[0] == "reclassify" {
            assert!(output.err.contains("5 events are corrected"), "{output:?}");
        }
    }
    let left: u64 =
        setup.database.one(&format!("SELECT count() FROM events WHERE recipient = '{ADDRESS}'"));
    assert_eq!(left, 0);
    audit_is_append_only(&setup.database);
}

/// The commands above have written rows. Nobody who runs them can change or remove one.
fn audit_is_append_only(database: &Database) {
    let rows = || database.one::<u64>("SELECT count() FROM audit");
    let before = rows();
    assert!(before >= 4, "{before} rows");
    for statement in [
        "ALTER TABLE audit UPDATE who = 'nobody' WHERE true",
        "ALTER TABLE audit DELETE WHERE true",
        "DELETE FROM audit WHERE true",
        "ALTER TABLE audit MODIFY TTL toDateTime(at) + toIntervalSecond(1)",
        "ALTER TABLE audit REMOVE TTL",
        "ALTER TABLE audit DROP PARTITION tuple()",
        "ALTER TABLE audit DETACH PARTITION tuple()",
        "ALTER TABLE audit DROP COLUMN who",
        "ALTER TABLE audit MODIFY COLUMN who String DEFAULT 'nobody'",
        "ALTER TABLE audit MODIFY SETTING merge_with_ttl_timeout = 0",
        "TRUNCATE TABLE audit",
        "DROP TABLE audit",
        "DETACH TABLE audit",
        "RENAME TABLE audit TO audit_of_last_year",
        "CREATE OR REPLACE TABLE audit (at DateTime) ENGINE = MergeTree ORDER BY at",
        "EXCHANGE TABLES audit AND recipients",
    ] {
        assert_eq!(is_allowed(database, statement, &[]), None, "{statement}");
    }
    assert_eq!(rows(), before);
    database.execute("INSERT INTO audit (command) VALUES ('heal')");
    assert_eq!(rows(), before + 1);
}

/// Returns the words of a text that name tables of the database `system`.
fn system_tables(text: &str) -> BTreeSet<String> {
    let names = text.split("system.").skip(1).map(|rest| {
        rest.split(|c: char| !(c.is_ascii_lowercase() || c == '_')).next().unwrap_or_default()
    });
    names.filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

/// The embedded ClickHouse lets everybody read `system`, so we compare with the sources.
#[test]
fn the_writer_may_read_the_system_tables_that_the_sources_read_and_the_documents_list() {
    fn collect(directory: &Path, found: &mut BTreeSet<String>) {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                collect(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.extend(system_tables(&std::fs::read_to_string(&path).unwrap()));
            }
        }
    }
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap();
    let mut read_by_sources = BTreeSet::new();
    for member in ["services/archive", "tools/mailpulse"] {
        collect(&crates.join(member).join("src"), &mut read_by_sources);
    }
    // Everybody may read this one.
    assert!(read_by_sources.remove("settings"));
    let roles = Roles::read();
    let grants = roles.grants("writer");
    assert_eq!(system_tables(&grants.join(" ")), read_by_sources);

    let operations = read("docs/operations.md");
    let (_, rights) = operations.split_once("- **Rights.** ").unwrap();
    let rights = rights.split("\n- **").next().unwrap();
    assert_eq!(system_tables(rights), read_by_sources);
    let on_tables = grants.iter().find_map(|it| it.strip_suffix(" ON mailpulse.*")).unwrap();
    let (listed, _) = rights.split_once(" on its database").unwrap();
    let names = |text: &str| -> BTreeSet<String> {
        let parts = text.split(',').flat_map(|part| part.split(" and "));
        let upper = parts.map(|part| {
            let keep = |c: &char| c.is_ascii_uppercase() || c.is_whitespace();
            let words = part.chars().filter(keep).collect::<String>();
            words.split_whitespace().filter(|it| it.len() > 1).collect::<Vec<_>>().join(" ")
        });
        upper.filter(|name| !name.is_empty()).collect()
    };
    assert_eq!(names(listed), names(on_tables));
}
