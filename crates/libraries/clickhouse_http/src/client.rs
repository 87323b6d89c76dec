//! The client, and one query.

use std::fmt;
use std::time::Duration;

use reqwest::header::{HeaderMap, HeaderValue};
use reqwest::{Certificate, Response, Url, redirect};
use service::{ClickHouseSettings, Secret};

use crate::error::innermost;
use crate::{Error, SettingError};

/// ClickHouse closes a connection that is idle for 3 s (`keep_alive_timeout`), so we do it earlier.
const IDLE_TIMEOUT: Duration = Duration::from_secs(2);

/// How much of an error is read, in bytes. It is more than is shown, so that a password is removed as a whole.
const MAX_ERROR_BODY: usize = 8 << 10;

const FORM: &str = "it is not a URL; write http://host:8123 or https://host:8443";

/// What one query may take.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// The longest time until the whole answer is there, with the time to connect. ClickHouse itself knows only
    /// its setting `max_execution_time`.
    pub timeout: Duration,
    /// The greatest size of an answer, in bytes.
    pub answer_bytes: usize,
}

/// A client of ClickHouse's HTTP interface. It connects on its first query.
pub struct Client {
    http: reqwest::Client,
    url: Url,
    password: Secret,
}

/// Without the URL, which can have a password, and without the headers.
impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (host, port) = (self.url.host_str(), self.url.port_or_known_default());
        f.debug_struct("Client").field("host", &host).field("port", &port).finish_non_exhaustive()
    }
}

impl Client {
    /// Creates a client, whose queries all have these settings of ClickHouse, such as `max_result_rows`. A path and
    /// a query of the URL in the settings are kept.
    ///
    /// # Errors
    /// Names the setting that cannot be used.
    pub fn new(
        settings: &ClickHouseSettings,
        user_agent: &str,
        query_settings: &[(&str, &str)],
    ) -> Result<Self, SettingError> {
        let mut url: Url =
            settings.url.parse().map_err(|_| SettingError::new("clickhouse.url", FORM))?;
        // `host:8123` is a URL too, whose scheme is `host`.
        if !matches!(url.scheme(), "http" | "https") {
            return Err(SettingError::new("clickhouse.url", FORM));
        }
        url.query_pairs_mut()
            .append_pair("database", &settings.database)
            // The query ends with the request.
            .append_pair("cancel_http_readonly_queries_on_client_close", "1")
            .extend_pairs(query_settings);
        let mut headers = HeaderMap::new();
        headers.insert("x-clickhouse-user", header("clickhouse.user", &settings.user)?);
        headers
            .insert("x-clickhouse-key", header("clickhouse.password", settings.password.expose())?);
        let http = http_client(&settings.ca_file, user_agent, headers)?;
        Ok(Self { http, url, password: settings.password.clone() })
    }

    /// Returns the answer to a query. ClickHouse inserts the parameters as values: `{name:Type}` in the SQL.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn query<N: AsRef<str>, V: AsRef<str>>(
        &self,
        sql: &str,
        parameters: &[(N, V)],
        limits: Limits,
    ) -> Result<Vec<u8>, Error> {
        let mut url = self.url.clone();
        url.query_pairs_mut().extend_pairs(parameters.iter().map(|(name, value)| {
            (format!("param_{}", name.as_ref()), escape_parameter(value.as_ref()))
        }));
        let answer = self.answer(url, sql.to_owned(), limits.answer_bytes);
        let answer = tokio::time::timeout(limits.timeout, answer).await;
        answer.unwrap_or(Err(Error::Timeout(limits.timeout)))
    }

    async fn answer(&self, url: Url, sql: String, max: usize) -> Result<Vec<u8>, Error> {
        let request = self.http.post(url).body(sql);
        let mut response = request.send().await.map_err(Error::unreachable)?;
        if !response.status().is_success() {
            let status = response.status().as_u16();
            let body = beginning(response).await;
            return Err(Error::refused(status, &body, self.password.expose()));
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(Error::unreachable)? {
            if chunk.len() > max.saturating_sub(body.len()) {
                return Err(Error::TooLarge(max));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }
}

/// Returns the beginning of the body of an error. If the connection breaks, that is what had arrived: it explains
/// more than the connection.
async fn beginning(mut response: Response) -> Vec<u8> {
    let mut body = Vec::new();
    while body.len() < MAX_ERROR_BODY {
        let Ok(Some(chunk)) = response.chunk().await else { break };
        body.extend_from_slice(&chunk);
    }
    body.truncate(MAX_ERROR_BODY);
    body
}

/// Returns a header that is not written to any log.
fn header(key: &'static str, value: &str) -> Result<HeaderValue, SettingError> {
    let mut header = HeaderValue::from_str(value).map_err(|_| {
        let problem = "it has a character that an HTTP header cannot contain, such as a line break";
        SettingError::new(key, problem)
    })?;
    header.set_sensitive(true);
    Ok(header)
}

/// Returns an HTTP client that trusts the authorities in the file, or those of the system if its name is empty.
fn http_client(
    ca_file: &str,
    user_agent: &str,
    headers: HeaderMap,
) -> Result<reqwest::Client, SettingError> {
    let mut client = reqwest::Client::builder()
        .redirect(redirect::Policy::none())
        .no_proxy()
        .pool_idle_timeout(IDLE_TIMEOUT)
        .user_agent(user_agent)
        .default_headers(headers);
    if !ca_file.is_empty() {
        client = client.tls_certs_only(authorities(ca_file)?);
    }
    client.build().map_err(|error| {
        let error = innermost(&error);
        if ca_file.is_empty() {
            let problem = format!("cannot create an HTTP client: {error}");
            SettingError::new("clickhouse.url", problem)
        } else {
            // reqwest reads the certificates only now.
            unusable(ca_file, &error)
        }
    })
}

fn authorities(ca_file: &str) -> Result<Vec<Certificate>, SettingError> {
    let pem = std::fs::read(ca_file).map_err(|error| unusable(ca_file, &error))?;
    let authorities = Certificate::from_pem_bundle(&pem)
        .map_err(|error| unusable(ca_file, &innermost(&error)))?;
    // With an empty list, no server would be trusted.
    if authorities.is_empty() {
        return Err(unusable(ca_file, &"it has no certificate"));
    }
    Ok(authorities)
}

fn unusable(ca_file: &str, why: &dyn fmt::Display) -> SettingError {
    let problem = format!(
        "{ca_file} cannot be used: {why}; it must be a PEM file with the certificates of the authorities"
    );
    SettingError::new("clickhouse.ca_file", problem)
}

/// Returns the text of a parameter in ClickHouse's escaped format. Without the escapes, a value would end at its
/// first tab or line break.
fn escape_parameter(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' => escaped.push_str("\\\\"),
            '\t' => escaped.push_str("\\t"),
            '\n' => escaped.push_str("\\n"),
            '\r' => escaped.push_str("\\r"),
            '\0' => escaped.push_str("\\0"),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(url: &str, ca_file: &str) -> ClickHouseSettings {
        ClickHouseSettings {
            url: url.to_owned(),
            ca_file: ca_file.to_owned(),
            database: "mailpulse".to_owned(),
            user: "reader".to_owned(),
            password: Secret::new("hunter2"),
        }
    }

    fn refused(settings: &ClickHouseSettings) -> SettingError {
        Client::new(settings, "test", &[]).unwrap_err()
    }

    #[test]
    fn a_url_that_cannot_be_used_is_named_with_the_fix() {
        for url in ["", "clickhouse", "clickhouse:8123", "ftp://clickhouse", "https://", "/path"] {
            let error = refused(&settings(url, ""));
            assert_eq!((error.key, error.problem.as_str()), ("clickhouse.url", FORM), "{url}");
        }
        let error = refused(&settings("http://reader:hunter2@clickhouse:port", ""));
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }

    #[test]
    fn a_ca_file_that_cannot_be_used_is_named_with_the_fix() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name).display().to_string();
        std::fs::write(path("empty"), "no PEM\n").unwrap();
        let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        std::fs::write(path("broken"), broken).unwrap();
        for name in ["absent", "empty", "broken"] {
            let error = refused(&settings("https://clickhouse:8443", &path(name)));
            assert_eq!(error.key, "clickhouse.ca_file", "{error}");
            assert!(error.problem.contains(name) && error.problem.contains("PEM"), "{error}");
        }
    }

    #[test]
    fn a_password_that_is_no_header_is_not_repeated() {
        let password = Secret::new("hunter2\nhunter3");
        let error = refused(&ClickHouseSettings { password, ..settings("http://localhost", "") });
        assert_eq!(error.key, "clickhouse.password");
        assert!(!format!("{error:?}").contains("hunter"), "{error:?}");
    }

    #[test]
    fn debug_shows_no_password() {
        let settings = settings("http://reader:hunter2@clickhouse/path?password=hunter2", "");
        let client = Client::new(&settings, "test", &[]).unwrap();
        assert_eq!(
            format!("{client:?}"),
            "Client { host: Some(\"clickhouse\"), port: Some(80), .. }"
        );
    }

    #[test]
    fn a_parameter_cannot_end_early() {
        assert_eq!(escape_parameter("a\tb\\N\n'--"), "a\\tb\\\\N\\n'--");
    }
}
