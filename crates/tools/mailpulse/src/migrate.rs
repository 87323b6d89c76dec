//! `mailpulse migrate`: applies the files of `schemas/clickhouse` and the retention.

use std::io::{self, Write};
use std::path::Path;

use archive::schema;
use archive::{ArchiveSettings, retention};

use crate::Outcome;
use crate::args::Migrate;
use crate::installation::{Installation, note};

/// Applies what is missing, and prints it.
///
/// # Errors
/// If the settings are invalid, ClickHouse cannot be reached, or a statement fails.
pub(crate) fn run(config: Option<&Path>, args: &Migrate) -> anyhow::Result<Outcome> {
    let installation = Installation::open(config)?;
    let settings: ArchiveSettings = installation.settings.section("archive")?;
    let database = &installation.database;
    let pending = database.run(async |server| schema::pending(server).await)?;
    let mut out = io::stdout().lock();
    if args.print {
        for statement in pending.statements() {
            writeln!(out, "{statement};")?;
        }
    } else {
        database.run(async |server| schema::migrate(server).await)?;
        for migration in &pending.migrations {
            writeln!(out, "applied {}", migration.name)?;
        }
    }
    let ttls = database.run(async |server| {
        if args.print {
            retention::statements(server, &settings.retention).await
        } else {
            retention::apply(server, &settings.retention).await
        }
    })?;
    for statement in &ttls {
        writeln!(out, "{statement};")?;
    }
    let verb = if args.print { "to apply" } else { "applied" };
    let (migrations, changes) = (pending.migrations.len(), ttls.len());
    note(&format!("{migrations} migrations and {changes} changes of retention {verb}"))?;
    Ok(Outcome::Done)
}
