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
    Ok(runtime.block_on(lines(server, archive.migrate)))
}

async fn lines(mut server: Server, migrate: bool) -> Vec<Line> {
    let (mut lines, mut answering) = (Vec::new(), 0);
    for (url, one) in server.each() {
        let reachable = reachable(&url, &one, server.count() > 1).await;
        answering += usize::from(reachable.status == Status::Ok);
        lines.push(reachable);
    }
    if answering == 0 {
        return lines;
    }
    let tables = tokio::time::timeout(TIMEOUT, schema::check(&mut server)).await;
    let database = server.database();
    let servers = server.count();
    match tables.unwrap_or(Err(SchemaError::ClickHouse(ClickHouseError::Timeout))) {
        Ok(()) => {
            lines.push(Line::ok(
                "tables_ready",
                format!("the tables of database {database} exist and deduplicate inserts"),
            ));
            if servers > 1 || !server.cluster().is_empty() {
                let text = format!(
                    "the tables are replicated, and {answering} of {servers} servers answer"
                );
                lines.push(Line::ok("tables_replicated", text));
            }
        }
        Err(error @ SchemaError::TableMissing { .. }) if migrate => lines.push(Line {
            status: Status::Note,
            code: error.code(),
            text: format!("{error} (archive.migrate is set: archive creates it at its start)"),
        }),
        Err(error) => lines.push(Line::problem(error.code(), error.to_string())),
    }
    lines
}

/// Asks one server for its version.
async fn reachable(url: &str, server: &Server, is_one_of_several: bool) -> Line {
    let version = server.pairs("SELECT version(), currentUser()", &[]);
    let version = tokio::time::timeout(TIMEOUT, version).await;
    match version.unwrap_or(Err(ClickHouseError::Timeout)) {
        Ok(rows) => {
            let (version, user) = rows.into_iter().next().unwrap_or_default();
            let text = format!("ClickHouse {version} answers at {url} to the user {user}");
            Line::ok("clickhouse_reachable", text)
        }
        Err(error) if is_one_of_several => Line::problem(error.code(), format!("{url}: {error}")),
        Err(error) => Line::problem(error.code(), error.to_string()),
    }
}
