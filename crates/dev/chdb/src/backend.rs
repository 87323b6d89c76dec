//! The engine with its data directory open. Each request has its own connection, so that its
//! settings cannot affect later requests.

use crate::exception::{Exception, code};
use crate::library::{Connection, Engine};
use crate::request::Request;
use crate::{Options, StartError};
use std::collections::HashSet;
use std::error::Error as _;
use std::ffi::CString;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

const MIB: u64 = 1024 * 1024;

/// The running engine.
pub(crate) struct Backend {
    engine: Engine,
    /// The arguments of every connection.
    arguments: Vec<CString>,
    /// Stays open while no request runs, because the engine stops with its last connection.
    anchor: Mutex<Option<Connection>>,
    /// The names of the query settings.
    pub settings: HashSet<String>,
    pub timezone: String,
    pub version: String,
}

impl Backend {
    /// Loads the library and opens the data directory.
    pub fn open(options: &Options) -> Result<Self, StartError> {
        let engine = Engine::load(&options.library).map_err(|error| StartError::Library {
            path: options.library.clone(),
            // The message of the linker is in the source of the error.
            reason: error.source().map_or_else(|| error.to_string(), ToString::to_string),
        })?;
        let unusable = |reason: String| StartError::Data { path: options.data.clone(), reason };
        std::fs::create_dir_all(&options.data).map_err(|error| unusable(error.to_string()))?;
        let data = options.data.canonicalize().map_err(|error| unusable(error.to_string()))?;
        let config = options.config.as_deref();
        let arguments = arguments(&data, options.memory_limit_mb, config)
            .ok_or_else(|| unusable("a path contains a NUL byte".to_owned()))?;
        let mut anchor = engine.connect(&arguments).ok_or_else(|| {
            unusable("the engine cannot open it; another process may use it".to_owned())
        })?;
        let mut ask = |sql: &str| -> Result<String, StartError> {
            let output = anchor
                .query(sql.as_bytes(), "TabSeparatedRaw", &[])
                .map_err(|exception| StartError::Engine { reason: exception.to_string() })?;
            Ok(String::from_utf8_lossy(output.as_ref()).trim_end().to_owned())
        };
        let settings = ask("SELECT name FROM system.settings")?;
        let timezone = ask("SELECT timezone()")?;
        let version = ask("SELECT version()")?;
        Ok(Self {
            engine,
            arguments,
            anchor: Mutex::new(Some(anchor)),
            settings: settings.lines().map(str::to_owned).collect(),
            timezone,
            version,
        })
    }

    /// Opens a connection with the settings and the database of a request.
    pub fn connect(&self, request: &Request) -> Result<Connection, Exception> {
        let mut arguments = self.arguments.clone();
        for (name, value) in &request.settings {
            arguments.push(CString::new(format!("--{name}={value}")).map_err(|_| {
                Exception::new(code::BAD_ARGUMENTS, format_args!("NUL byte in setting {name}"))
            })?);
        }
        let Some(mut connection) = self.engine.connect(&arguments) else {
            return Err(self.settings_error(request));
        };
        if let Some(database) = request.database.as_deref().filter(|name| *name != "default") {
            connection.query(format!("USE {}", quoted(database, '`')).as_bytes(), "Null", &[])?;
        }
        Ok(connection)
    }

    /// Returns why the engine refuses the settings of a request. `connect` does not return a reason,
    /// so we try `SET` with the same values.
    fn settings_error(&self, request: &Request) -> Exception {
        let Some(mut plain) = self.engine.connect(&self.arguments) else {
            return Exception::new(code::STD_EXCEPTION, "The engine is shutting down");
        };
        for (name, value) in &request.settings {
            let set = format!("SET {name} = {}", quoted(value, '\''));
            if let Err(exception) = plain.query(set.as_bytes(), "Null", &[]) {
                return exception;
            }
        }
        Exception::new(code::BAD_ARGUMENTS, "The engine refuses these settings")
    }

    /// Closes the last connection, and with it the engine and the data. No request may be running.
    pub fn close(&self) {
        drop(self.anchor.lock().unwrap_or_else(PoisonError::into_inner).take());
        if !self.engine.shutdown() {
            // 26.7 reports this even for an idle thread pool. The data is closed.
            tracing::debug!("engine shutdown reports running threads");
        }
    }
}

/// Returns the arguments of every connection. The engine's defaults are for a dedicated machine: 5 GB
/// of caches and nine tenths of the memory.
fn arguments(data: &Path, memory_limit_mb: u64, config: Option<&Path>) -> Option<Vec<CString>> {
    let mut path = b"--path=".to_vec();
    path.extend_from_slice(data.as_os_str().as_encoded_bytes());
    let limit = memory_limit_mb * MIB;
    let small = (limit / 64).min(16 * MIB);
    let settings = [
        ("max_server_memory_usage", limit),
        ("mark_cache_size", (limit / 16).min(64 * MIB)),
        ("primary_index_cache_size", small),
        ("uncompressed_cache_size", 0),
        ("index_mark_cache_size", small),
        ("index_uncompressed_cache_size", 0),
        ("query_condition_cache_size", small),
        ("compiled_expression_cache_size", small),
        ("parquet_metadata_cache_size", small),
        ("iceberg_metadata_files_cache_size", small),
        ("vector_similarity_index_cache_size", small),
        ("text_index_tokens_cache_size", small),
        ("text_index_header_cache_size", small),
        ("text_index_postings_cache_size", small),
        // This engine, unlike a server, takes `foo` for `SELECT foo` by default.
        ("implicit_select", 0),
    ];
    let config =
        config.map(|config| CString::new(format!("--config-file={}", config.display())).ok());
    std::iter::once(CString::new(path).ok())
        .chain(config)
        .chain(settings.map(|(name, value)| CString::new(format!("--{name}={value}")).ok()))
        .collect()
}

/// Returns a ClickHouse identifier (quoted with backticks) or string literal.
fn quoted(text: &str, quote: char) -> String {
    let mut quoted = String::from(quote);
    for character in text.chars() {
        if character == quote || character == '\\' {
            quoted.push('\\');
        }
        quoted.push(character);
    }
    quoted.push(quote);
    quoted
}
