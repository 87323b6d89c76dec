//! The part of `mailpulse doctor` that asks ClickHouse.

use std::time::Duration;

use archive::server::Server;
use archive::{ArchiveSettings, ClickHouseError, SchemaError, schema};
use service::{ClickHouseSettings, Settings, SettingsError};

use super::{Line, Status};

/// How long ClickHouse may take to answer all questions.
const TIMEOUT: Duration = Duration::from_secs(15);

/// Connects to ClickHouse with the client of `archive`, and checks the tables.
///
/// # Errors
/// If the settings are invalid.
pub(super) fn examine(settings: &Settings) -> Result<Vec<Line>, SettingsError> {
    let clickhouse: ClickHouseSettings = settings.section("clickhouse")?;
    let archive: ArchiveSettings = settings.section("archive")?;
    let server = match Server::new(&clickhouse) {
        Ok(server) => server,
        Err(error) => {
            let invalid = settings.invalid(error.key, error.problem);
            return Ok(vec![Line::problem(invalid.code(), invalid.to_string())]);
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return Ok(vec![Line::problem("runtime", error.to_string())]),
    };
    Ok(runtime.block_on(lines(server, &clickhouse.url, archive.migrate)))
}

async fn lines(mut server: Server, url: &str, migrate: bool) -> Vec<Line> {
    let within = |error: &ClickHouseError| Line::problem(error.code(), error.to_string());
    let version = server.pairs("SELECT version(), currentUser()", &[]);
    let version = tokio::time::timeout(TIMEOUT, version).await;
    let (version, user) = match version.unwrap_or(Err(ClickHouseError::Timeout)) {
        Ok(rows) => rows.into_iter().next().unwrap_or_default(),
        Err(error) => return vec![within(&error)],
    };
    let mut lines = vec![Line::ok(
        "clickhouse_reachable",
        format!("ClickHouse {version} answers at {} to the user {user}", without_login(url)),
    )];
    let tables = tokio::time::timeout(TIMEOUT, schema::check(&mut server)).await;
    let database = server.database();
    lines.push(match tables.unwrap_or(Err(SchemaError::ClickHouse(ClickHouseError::Timeout))) {
        Ok(()) => Line::ok(
            "tables_ready",
            format!("the tables of database {database} exist and deduplicate inserts"),
        ),
        Err(error @ SchemaError::TableMissing { .. }) if migrate => Line {
            status: Status::Note,
            code: error.code(),
            text: format!("{error} (archive.migrate is set: archive creates it at its start)"),
        },
        Err(error) => Line::problem(error.code(), error.to_string()),
    });
    lines
}

/// Returns a URL without user and password.
fn without_login(url: &str) -> String {
    match url.split_once("://").and_then(|(scheme, rest)| Some((scheme, rest.split_once('@')?.1))) {
        Some((scheme, rest)) => format!("{scheme}://{rest}"),
        None => url.to_owned(),
    }
}
