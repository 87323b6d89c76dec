//! Tests the server with real clients: the `clickhouse` crate, curl, and Python's clickhouse-connect.
//! With `MAILPULSE_CLICKHOUSE` or Docker they run against a ClickHouse server too.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use clickhouse::{Client, Compression, Row};
use devstack::{ClickHouse, Dirs, ServerKind, fetch, shared_clickhouse};
use serde::{Deserialize, Serialize};
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

#[derive(Debug, Clone, PartialEq, Eq, Row, Serialize, Deserialize)]
struct Line {
    id: u64,
    text: String,
    tags: Vec<String>,
    at: Option<i64>,
}

fn lines(ids: std::ops::Range<u64>) -> Vec<Line> {
    ids.map(|id| Line {
        id,
        // Bytes that would end a statement if they were parsed as SQL.
        text: format!("a;b\n;'{id}'\0;--/*"),
        tags: vec![";".to_owned(); (id % 3) as usize],
        at: (id % 2 == 0).then_some(0x3b3b_3b3b),
    })
    .collect()
}

/// The name of a database of this run: other runs may use the same server.
fn name(database: &str) -> String {
    format!("chdb_{database}_{}", std::process::id())
}

/// Returns a client whose default database is new and empty.
async fn client(url: &str, database: &str) -> Client {
    let database = name(database);
    let client = Client::default().with_url(url);
    let drop = format!("DROP DATABASE IF EXISTS {database} SYNC");
    client.query(&drop).execute().await.unwrap();
    client.query(&format!("CREATE DATABASE {database}")).execute().await.unwrap();
    let client = client.with_database(database);
    client
        .query(
            "CREATE TABLE lines (id UInt64, text String, tags Array(String), at Nullable(Int64)) \
             ENGINE = MergeTree ORDER BY id SETTINGS non_replicated_deduplication_window = 100",
        )
        .execute()
        .await
        .unwrap();
    client
}

async fn insert(client: &Client, lines: &[Line]) -> clickhouse::error::Result<()> {
    let mut insert = client.insert::<Line>("lines").await?;
    for line in lines {
        insert.write(line).await?;
    }
    insert.end().await
}

async fn all(client: &Client) -> Vec<Line> {
    client.query("SELECT ?fields FROM lines ORDER BY id").fetch_all().await.unwrap()
}

async fn count(client: &Client) -> u64 {
    client.query("SELECT count() FROM lines").fetch_one().await.unwrap()
}

#[tokio::test]
async fn typed_rows_round_trip_with_and_without_compression_and_validation() {
    for (compression, validation) in [
        (Compression::None, true),
        (Compression::None, false),
        (Compression::Lz4, true),
        (Compression::Lz4, false),
    ] {
        let client = client(shared_clickhouse(), "round_trip").await;
        let client = client.with_compression(compression).with_validation(validation);
        let written = lines(0..1000);
        insert(&client, &written).await.unwrap();
        assert_eq!(all(&client).await, written, "{compression:?}, validation {validation}");
    }
}

/// The answer is long enough to be sent while the query runs, in many chunks, each of which the engine
/// returns with a head.
#[tokio::test]
async fn long_answers_are_complete() {
    #[derive(Row, Deserialize)]
    struct Pair {
        number: u64,
        text: String,
    }
    for compression in [Compression::None, Compression::Lz4] {
        let client = Client::default().with_url(shared_clickhouse()).with_compression(compression);
        let mut cursor = client
            .query("SELECT number, toString(number) AS text FROM numbers(500000)")
            .fetch::<Pair>()
            .unwrap();
        let mut expected = 0;
        while let Some(pair) = cursor.next().await.unwrap() {
            assert_eq!((pair.number, pair.text), (expected, expected.to_string()));
            expected += 1;
        }
        assert_eq!(expected, 500_000);
    }
}

#[tokio::test]
async fn an_error_after_the_first_byte_of_the_answer_is_reported() {
    for compression in [Compression::None, Compression::Lz4] {
        let client = Client::default().with_url(shared_clickhouse()).with_compression(compression);
        let mut cursor = client
            .query("SELECT throwIf(number = 900000) AS x, toString(number) FROM numbers(1000000)")
            .with_setting("max_block_size", "10000")
            .fetch::<(u8, String)>()
            .unwrap();
        let mut rows = 0;
        let error = loop {
            match cursor.next().await {
                Ok(Some(_)) => rows += 1,
                Ok(None) => panic!("the answer ends without an error after {rows} rows"),
                Err(error) => break error.to_string(),
            }
        };
        assert!(rows > 100_000, "the error precedes the answer: {rows} rows");
        assert!(error.contains("Code: 395"), "{compression:?}: {error}");
    }
}

#[tokio::test]
async fn inserts_in_native_and_json_format_work() {
    let client = client(shared_clickhouse(), "formatted").await;
    let written = lines(0..1000);
    insert(&client, &written).await.unwrap();
    for (format, compression) in [
        ("Native", Compression::None),
        ("Native", Compression::Lz4),
        ("JSONEachRow", Compression::Lz4),
        ("TabSeparated", Compression::None),
        ("CSV", Compression::None),
        ("Values", Compression::None),
    ] {
        let client = client.clone().with_compression(compression);
        let query = "SELECT * FROM lines ORDER BY id";
        let rows = client.query(query).fetch_bytes(format).unwrap().collect().await.unwrap();
        client.query("TRUNCATE TABLE lines").execute().await.unwrap();
        let sql = format!("INSERT INTO lines (id, text, tags, at) FORMAT {format}");
        let mut insert = client.insert_formatted_with(sql);
        // Cut anywhere, not between rows.
        for piece in rows.chunks(1013) {
            insert.send(piece.to_vec().into()).await.unwrap();
        }
        insert.end().await.unwrap();
        assert_eq!(all(&client).await, written, "{format}, {compression:?}");
    }
}

#[tokio::test]
async fn a_deduplication_token_counts_once_and_for_its_own_insert_only() {
    let client = client(shared_clickhouse(), "tokens").await;
    // One view reads the rows themselves, two read what another view passes on.
    const SUMS: [(&str, &str); 3] =
        [("direct", "lines"), ("chained", "passed"), ("again", "passed")];
    let execute = async |sql: String| client.query(&sql).execute().await.unwrap();
    execute("CREATE TABLE passed (id UInt64) ENGINE = Null".to_owned()).await;
    execute("CREATE MATERIALIZED VIEW to_passed TO passed AS SELECT id FROM lines".to_owned())
        .await;
    for (sums, from) in SUMS {
        execute(format!(
            "CREATE TABLE {sums} (tens UInt64, n UInt64) ENGINE = SummingMergeTree ORDER BY tens \
                SETTINGS non_replicated_deduplication_window = 100"
        ))
        .await;
        execute(format!(
            "CREATE MATERIALIZED VIEW to_{sums} TO {sums} AS \
                SELECT intDiv(id, 10) AS tens, count() AS n FROM {from} GROUP BY tens"
        ))
        .await;
    }
    let tokened = client
        .clone()
        .with_setting("insert_deduplication_token", "mail.events/0/0-99")
        .with_setting("deduplicate_blocks_in_dependent_materialized_views", "1")
        .with_setting("async_insert", "0");
    insert(&tokened, &lines(0..100)).await.unwrap();
    insert(&tokened, &lines(0..100)).await.unwrap();
    // Other rows, same token: the token decides.
    insert(&tokened, &lines(500..600)).await.unwrap();
    assert_eq!(all(&client).await, lines(0..100));
    for (sums, _) in SUMS {
        let sql = format!("SELECT sum(n) FROM {sums}");
        let summed: u64 = client.query(&sql).fetch_one().await.unwrap();
        assert_eq!(summed, 100, "the view that fills {sums} saw an insert twice");
    }
    // The token is gone with its request.
    insert(&client, &lines(500..600)).await.unwrap();
    assert_eq!(count(&client).await, 200);
}

#[tokio::test]
async fn parameters_are_bound_by_the_server() {
    let client = client(shared_clickhouse(), "parameters").await;
    insert(&client, &lines(0..10)).await.unwrap();
    let text = lines(3..4)[0].text.replace('\0', "");
    let row: (String, u64, String) = client
        .query("SELECT {text:String}, count(), {name:Identifier} FROM lines WHERE id >= {least:UInt64}")
        .param("text", &text)
        .param("least", 7)
        .param("name", "database")
        .fetch_one()
        .await
        .unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(row.1, 3);
    assert_eq!(row.0, text);
}

#[tokio::test]
async fn errors_keep_their_code() {
    let client = client(shared_clickhouse(), "errors").await;
    for (sql, code) in [
        ("SELECT * FROM missing", 60),
        ("SELECT * FROM missing.missing", 81),
        ("SELEC 1", 62),
        ("SELECT 1; SELECT 2", 62),
        ("SELECT nothing", 47),
        ("SELECT toUInt8('x')", 6),
    ] {
        let error = client.query(sql).execute().await.expect_err(sql).to_string();
        assert!(error.contains(&format!("Code: {code}.")), "{sql}: {error}");
    }
    let mut insert = client.insert_formatted_with("INSERT INTO lines (id) FORMAT JSONEachRow");
    insert.send("{\"id\": 1}\n{\"id\": \"no number\"}\n".into()).await.unwrap();
    let error = insert.end().await.expect_err("no number").to_string();
    assert!(error.contains("Code: 27.") || error.contains("Code: 72."), "{error}");
    assert_eq!(count(&client).await, 0, "a rejected insert left rows");
    let nowhere = client.clone().with_database("missing");
    let error = nowhere.query("SELECT 1").execute().await.expect_err("no database").to_string();
    assert!(error.contains("Code: 81."), "{error}");
}

#[tokio::test]
async fn rows_of_a_wrong_type_are_rejected() {
    #[derive(Row, Serialize)]
    struct Wrong {
        id: u64,
        text: u64,
    }
    let client = client(shared_clickhouse(), "types").await;
    let types = tokio::spawn(async move {
        let mut insert = client.insert::<Wrong>("lines").await?;
        insert.write(&Wrong { id: 1, text: 2 }).await?;
        insert.end().await
    });
    // The crate panics if a row does not match the schema from the server.
    let rejected = types.await.map_or(true, |result| result.is_err());
    assert!(rejected, "a number was inserted into a String column");
}

#[tokio::test]
async fn concurrent_inserts_work() {
    let client = client(shared_clickhouse(), "concurrent").await;
    let mut tasks = Vec::new();
    // More tasks than the server has connections, so that some wait.
    for task in 0..24 {
        let client = client.clone();
        let ids = task * 1000..(task + 1) * 1000;
        tasks.push(tokio::spawn(async move { insert(&client, &lines(ids)).await }));
    }
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    assert_eq!(all(&client).await, lines(0..24_000));
}

#[tokio::test]
async fn settings_in_the_url_apply_to_input_and_output() {
    let client = client(shared_clickhouse(), "settings").await;
    client
        .query("CREATE TABLE times (at DateTime('UTC')) ENGINE = Memory")
        .execute()
        .await
        .unwrap();
    let row = "{\"at\": \"2026-11-01T12:00:00.5+01:00\"}\n";
    let insert =
        |client: &Client| client.insert_formatted_with("INSERT INTO times FORMAT JSONEachRow");
    let mut plain = insert(&client).with_setting("date_time_input_format", "basic");
    plain.send(row.into()).await.unwrap();
    plain.end().await.expect_err("the basic format knows no offsets");
    let mut lenient = insert(&client).with_setting("date_time_input_format", "best_effort");
    lenient.send(row.into()).await.unwrap();
    lenient.end().await.unwrap();
    let json = client
        .query("SELECT toUInt64(toUnixTimestamp(at)) AS at FROM times")
        .with_setting("output_format_json_quote_64bit_integers", "1")
        .fetch_bytes("JSONEachRow")
        .unwrap()
        .collect()
        .await
        .unwrap();
    assert_eq!(json, "{\"at\":\"1793530800\"}\n");
}

/// If a client disconnects during an insert, no row is inserted.
#[tokio::test]
async fn an_interrupted_insert_inserts_nothing() {
    use tokio::io::AsyncWriteExt as _;
    let client = client(shared_clickhouse(), "broken").await;
    let address = shared_clickhouse().strip_prefix("http://").unwrap();
    let mut socket = tokio::net::TcpStream::connect(address).await.unwrap();
    let head = format!(
        "POST /?query=INSERT+INTO+{}.lines(id)+FORMAT+TSV HTTP/1.1\r\nHost: x\r\n\
         Content-Length: 1000\r\n\r\n1\n2\n3\n",
        name("broken")
    );
    socket.write_all(head.as_bytes()).await.unwrap();
    wait_for_running(&client, 1).await;
    drop(socket);
    wait_for_running(&client, 0).await;
    assert_eq!(count(&client).await, 0);
}

/// Waits until `expected` inserts into `broken` are running.
async fn wait_for_running(client: &Client, expected: u64) {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let sql = format!(
            "SELECT count() FROM system.processes WHERE query LIKE 'INSERT INTO {}%'",
            name("broken")
        );
        let running: u64 = client.query(&sql).fetch_one().await.unwrap();
        if running == expected {
            return;
        }
        assert!(Instant::now() < deadline, "{running} inserts are running, not {expected}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn acknowledged_rows_survive_a_kill() {
    let dirs = Dirs::new().unwrap();
    let mut server =
        tokio::task::spawn_blocking(move || ClickHouse::start_own(&dirs)).await.unwrap().unwrap();
    assert_eq!(server.kind(), ServerKind::Child);
    let client = client(server.url(), "killed").await;
    let mut acknowledged = 0;
    for round in 0..3_u64 {
        // Two inserts are acknowledged, and one is running when the server is killed.
        let from = round * 10_000;
        insert(&client, &lines(from..from + 1000)).await.unwrap();
        insert(&client, &lines(from + 1000..from + 2000)).await.unwrap();
        acknowledged += 2000;
        let running = {
            let client = client.clone();
            tokio::spawn(async move { insert(&client, &lines(from + 2000..from + 3000)).await })
        };
        server = tokio::task::spawn_blocking(move || {
            server.kill().unwrap();
            server.restart().unwrap();
            server
        })
        .await
        .unwrap();
        if running.await.unwrap().is_ok() {
            acknowledged += 1000;
        }
        let found = count(&client).await;
        assert!(
            found >= acknowledged && (found - acknowledged) % 1000 == 0,
            "round {round}: {found} rows, {acknowledged} acknowledged"
        );
        acknowledged = found;
    }
}

#[tokio::test]
async fn a_frozen_server_does_not_answer_until_it_is_thawed() {
    let dirs = Dirs::new().unwrap();
    let mut server =
        tokio::task::spawn_blocking(move || ClickHouse::start_own(&dirs)).await.unwrap().unwrap();
    let client = client(server.url(), "frozen").await;
    insert(&client, &lines(0..10)).await.unwrap();
    server.freeze().unwrap();
    let pending = tokio::spawn({
        let client = client.clone();
        async move { count(&client).await }
    });
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(!pending.is_finished(), "a frozen server does not answer");
    server.thaw().unwrap();
    assert_eq!(pending.await.unwrap(), 10, "the connection still works");
}

/// Runs curl with the given arguments and standard input. Returns the status and the body.
fn curl(arguments: &[&str], input: &[u8]) -> (u16, String) {
    let mut child = Command::new("curl")
        .args(["--silent", "--show-error", "--max-time", "20", "--write-out", "\n%{http_code}"])
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("curl runs");
    child.stdin.take().unwrap().write_all(input).unwrap();
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let (body, status) = text.rsplit_once('\n').unwrap();
    (status.parse().unwrap(), body.to_owned())
}

#[test]
fn curl_works() {
    let url = shared_clickhouse();
    let at = |query: &str| format!("{url}/?{query}");
    assert_eq!(curl(&[&format!("{url}/ping")], b""), (200, "Ok.\n".to_owned()));
    assert_eq!(curl(&[&at("query=SELECT+1")], b""), (200, "1\n".to_owned()));
    let post = ["--data-binary", "@-", url];
    let table = name("curl_lines");
    let create = format!(
        "CREATE OR REPLACE TABLE {table} (a UInt32, b String) ENGINE = MergeTree ORDER BY a"
    );
    assert_eq!(curl(&post, create.as_bytes()), (200, String::new()));
    // GET may not change anything.
    assert_eq!(curl(&[&at(&format!("query=DROP+TABLE+{table}"))], b"").0, 500);

    let insert = at(&format!("query=INSERT+INTO+{table}+FORMAT+CSV"));
    let gzip = |data: &[u8]| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(data).unwrap();
        encoder.finish().unwrap()
    };
    assert_eq!(curl(&["--data-binary", "@-", &insert], b"1,\";\"\n2,b\n").0, 200);
    let gzipped = ["--header", "Content-Encoding: gzip", "--data-binary", "@-", &insert];
    assert_eq!(curl(&gzipped, &gzip(b"3,c\n")).0, 200);
    // A truncated body inserts nothing.
    let whole = gzip(b"4,d\n");
    assert_eq!(curl(&gzipped, &whole[..whole.len() - 9]).0, 500);
    let zstd = ["--header", "Content-Encoding: zstd", "--data-binary", "@-", &insert];
    assert_eq!(curl(&zstd, &zstd::encode_all(&b"5,e\n"[..], 3).unwrap()).0, 200);
    let values = format!("INSERT INTO {table} VALUES (6, 'f;'), (1 + 6, upper('g'));");
    assert_eq!(curl(&post, values.as_bytes()).0, 200);
    let select = format!("SELECT * FROM {table} ORDER BY a FORMAT CSV");
    let expected = "1,\";\"\n2,\"b\"\n3,\"c\"\n5,\"e\"\n6,\"f;\"\n7,\"G\"\n".to_owned();
    assert_eq!(curl(&post, select.as_bytes()), (200, expected.clone()));
    assert_eq!(
        curl(&["--compressed", "--data-binary", "@-", url], select.as_bytes()),
        (200, expected)
    );
    assert_eq!(curl(&post, format!("DROP TABLE {table}").as_bytes()).0, 200);

    let (status, body) = curl(&post, b"SELECT * FROM no_such_table");
    assert_eq!(status, 404);
    assert!(body.starts_with("Code: 60. DB::Exception: "), "{body}");
    assert_eq!(curl(&post, b"SELEC").0, 400);
    assert_eq!(curl(&[&at("no_such_setting=1&query=SELECT+1")], b"").0, 404);
    let headers = ["--include", "--data-binary", "@-", url];
    let (_, answer) = curl(&headers, b"SELECT * FROM no_such_table");
    assert!(answer.to_lowercase().contains("x-clickhouse-exception-code: 60\r\n"), "{answer}");
    let (_, answer) = curl(&["--include", &at("query=SELECT+1&query_id=abc")], b"");
    let answer = answer.to_lowercase();
    for header in [
        "x-clickhouse-query-id: abc\r\n",
        "x-clickhouse-format: tabseparated\r\n",
        "x-clickhouse-summary: {\"read_rows\":\"1\"",
        "x-clickhouse-timezone: ",
        "x-clickhouse-server-display-name: ",
    ] {
        assert!(answer.contains(header), "{header} is not in {answer}");
    }
}

#[test]
fn clickhouse_connect_works() {
    let python = fetch::clickhouse_connect(&fetch::cache()).unwrap();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clickhouse_connect.py");
    // -I: otherwise the name of the script hides the package.
    let mut command = Command::new(python);
    command.args(["-I", "-B", script, shared_clickhouse(), &name("notebook")]);
    let output = command.output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&text));
}
