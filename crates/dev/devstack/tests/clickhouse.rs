//! The ClickHouse that devstack starts, used as its clients use it: the `clickhouse` crate, curl,
//! and Python's clickhouse-connect.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use clickhouse::{Client, Compression, Row};
use devstack::{ClickHouse, Dirs, Origin, shared_clickhouse};
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
        // Bytes that would end the SQL text, were they ever part of it.
        text: format!("a;b\n;'{id}'\0;--/*"),
        tags: vec![";".to_owned(); (id % 3) as usize],
        at: (id % 2 == 0).then_some(0x3b3b_3b3b),
    })
    .collect()
}

/// A client whose default database is new and empty.
async fn client(url: &str, database: &str) -> Client {
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
async fn typed_rows_round_trip_compressed_and_not_validated_and_not() {
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

/// Enough for an answer that is sent while the query runs, in many pieces, each of which comes
/// from the engine with a head of its own.
#[tokio::test]
async fn long_answers_arrive_whole() {
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
async fn an_error_after_the_answer_began_is_told() {
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
                Ok(None) => panic!("the answer ends as if complete after {rows} rows"),
                Err(error) => break error.to_string(),
            }
        };
        assert!(rows > 100_000, "the error came before the answer began: {rows} rows");
        assert!(error.contains("Code: 395"), "{compression:?}: {error}");
    }
}

#[tokio::test]
async fn formatted_inserts_take_native_and_json() {
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
    client
        .query(
            "CREATE TABLE sums (tens UInt64, n UInt64) ENGINE = SummingMergeTree ORDER BY tens \
                SETTINGS non_replicated_deduplication_window = 100",
        )
        .execute()
        .await
        .unwrap();
    client
        .query(
            "CREATE MATERIALIZED VIEW to_sums TO sums AS \
                SELECT intDiv(id, 10) AS tens, count() AS n FROM lines GROUP BY tens",
        )
        .execute()
        .await
        .unwrap();
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
    let summed: u64 = client.query("SELECT sum(n) FROM sums").fetch_one().await.unwrap();
    assert_eq!(summed, 100, "the view saw an insert twice");
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
    assert_eq!(count(&client).await, 0, "a refused insert left rows");
    let nowhere = client.clone().with_database("missing");
    let error = nowhere.query("SELECT 1").execute().await.expect_err("no database").to_string();
    assert!(error.contains("Code: 81."), "{error}");
}

#[tokio::test]
async fn wrong_rows_are_refused_by_their_types() {
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
    // The crate panics on a row that does not fit the schema the server told it.
    let refused = types.await.map_or(true, |result| result.is_err());
    assert!(refused, "a number went into a String column");
}

#[tokio::test]
async fn eight_inserts_at_a_time() {
    let client = client(shared_clickhouse(), "concurrent").await;
    let mut tasks = Vec::new();
    // More than the server has connections, so that some must wait.
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
async fn settings_of_the_url_reach_input_and_output() {
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

/// A client that dies in the middle of an insert leaves no half of it.
#[tokio::test]
async fn an_insert_that_breaks_off_inserts_nothing() {
    use tokio::io::AsyncWriteExt as _;
    let client = client(shared_clickhouse(), "broken").await;
    let address = shared_clickhouse().strip_prefix("http://").unwrap();
    let mut socket = tokio::net::TcpStream::connect(address).await.unwrap();
    let head = "POST /?query=INSERT+INTO+broken.lines(id)+FORMAT+TSV HTTP/1.1\r\nHost: x\r\n\
                Content-Length: 1000\r\n\r\n1\n2\n3\n";
    socket.write_all(head.as_bytes()).await.unwrap();
    wait_for_running(&client, 1).await;
    drop(socket);
    wait_for_running(&client, 0).await;
    assert_eq!(count(&client).await, 0);
}

/// Waits until so many inserts into `broken` are under way.
async fn wait_for_running(client: &Client, expected: u64) {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let running: u64 = client
            .query("SELECT count() FROM system.processes WHERE query LIKE 'INSERT INTO broken%'")
            .fetch_one()
            .await
            .unwrap();
        if running == expected {
            return;
        }
        assert!(Instant::now() < deadline, "{running} inserts run, not {expected}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn acknowledged_rows_survive_a_kill() {
    let dirs = Dirs::new().unwrap();
    let mut server =
        tokio::task::spawn_blocking(move || ClickHouse::start_own(&dirs)).await.unwrap().unwrap();
    assert_eq!(server.origin(), Origin::Fetched);
    let client = client(server.url(), "killed").await;
    let mut acknowledged = 0;
    for round in 0..3_u64 {
        // One insert is under way when the kill comes; the others are acknowledged.
        let from = round * 10_000;
        insert(&client, &lines(from..from + 1000)).await.unwrap();
        insert(&client, &lines(from + 1000..from + 2000)).await.unwrap();
        acknowledged += 2000;
        let under_way = {
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
        if under_way.await.unwrap().is_ok() {
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
async fn a_frozen_server_answers_nobody_until_it_is_thawed() {
    let dirs = Dirs::new().unwrap();
    let mut server =
        tokio::task::spawn_blocking(move || ClickHouse::start_own(&dirs)).await.unwrap().unwrap();
    let client = client(server.url(), "frozen").await;
    insert(&client, &lines(0..10)).await.unwrap();
    server.freeze().unwrap();
    let asked = tokio::spawn({
        let client = client.clone();
        async move { count(&client).await }
    });
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(!asked.is_finished(), "nobody is there to answer");
    server.thaw().unwrap();
    assert_eq!(asked.await.unwrap(), 10, "the same connection goes on");
}

/// Runs curl with the given arguments and standard input; gives the status and the body.
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
fn curl_speaks_to_it() {
    let url = shared_clickhouse();
    let at = |query: &str| format!("{url}/?{query}");
    assert_eq!(curl(&[&format!("{url}/ping")], b""), (200, "Ok.\n".to_owned()));
    assert_eq!(curl(&[&at("query=SELECT+1")], b""), (200, "1\n".to_owned()));
    let post = ["--data-binary", "@-", url];
    let create =
        "CREATE OR REPLACE TABLE curl_lines (a UInt32, b String) ENGINE = MergeTree ORDER BY a";
    assert_eq!(curl(&post, create.as_bytes()), (200, String::new()));
    // Changing anything by GET is refused.
    assert_eq!(curl(&[&at("query=DROP+TABLE+curl_lines")], b"").0, 500);

    let insert = at("query=INSERT+INTO+curl_lines+FORMAT+CSV");
    let gzip = |data: &[u8]| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(data).unwrap();
        encoder.finish().unwrap()
    };
    assert_eq!(curl(&["--data-binary", "@-", &insert], b"1,\";\"\n2,b\n").0, 200);
    let gzipped = ["--header", "Content-Encoding: gzip", "--data-binary", "@-", &insert];
    assert_eq!(curl(&gzipped, &gzip(b"3,c\n")).0, 200);
    // A body that is cut off inserts nothing.
    let whole = gzip(b"4,d\n");
    assert_eq!(curl(&gzipped, &whole[..whole.len() - 9]).0, 500);
    let zstd = ["--header", "Content-Encoding: zstd", "--data-binary", "@-", &insert];
    assert_eq!(curl(&zstd, &zstd::encode_all(&b"5,e\n"[..], 3).unwrap()).0, 200);
    assert_eq!(
        curl(&post, b"INSERT INTO curl_lines VALUES (6, 'f;'), (1 + 6, upper('g'));").0,
        200
    );
    let select = "SELECT * FROM curl_lines ORDER BY a FORMAT CSV";
    let expected = "1,\";\"\n2,\"b\"\n3,\"c\"\n5,\"e\"\n6,\"f;\"\n7,\"G\"\n".to_owned();
    assert_eq!(curl(&post, select.as_bytes()), (200, expected.clone()));
    assert_eq!(
        curl(&["--compressed", "--data-binary", "@-", url], select.as_bytes()),
        (200, expected)
    );

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

/// Makes a virtual environment with clickhouse-connect in the cache, once.
fn python(dirs: &Dirs) -> std::path::PathBuf {
    let home = dirs.cache.join("clickhouse-connect-1.12.0");
    let python = home.join("bin/python");
    let works = |python: &std::path::Path| {
        let import = Command::new(python).args(["-c", "import clickhouse_connect"]).output();
        import.is_ok_and(|output| output.status.success())
    };
    if !works(&python) {
        run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&home));
        let pip = ["-m", "pip", "install", "--quiet", "clickhouse-connect==1.12.0"];
        run(Command::new(&python).args(pip));
    }
    python
}

fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(
        output.status.success(),
        "{command:?}\n{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn clickhouse_connect_speaks_to_it() {
    let python = python(&Dirs::new().unwrap());
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clickhouse_connect.py");
    // Isolated: else the script's own name hides the package.
    run(Command::new(python).arg("-I").arg(script).arg(shared_clickhouse()));
}
