//! The client, and one query.

use std::fmt;
use std::time::Duration;

use reqwest::header::{HeaderMap, HeaderValue};
use reqwest::{Certificate, Identity, Response, Url, redirect};
use service::{ClickHouseSettings, Secret};
use tokio::time::Instant;

use crate::endpoints::{CONNECT_TIMEOUT, Endpoints, PROBE_TIMEOUT};
use crate::error::innermost;
use crate::{Error, SettingError};

/// ClickHouse closes a connection that is idle for 3 s (`keep_alive_timeout`), so we do it earlier.
const IDLE_TIMEOUT: Duration = Duration::from_secs(2);

/// How much of an error is read, in bytes. It is more than is shown, so that a password is removed as a whole.
const MAX_ERROR_BODY: usize = 8 << 10;

const FORM: &str = "it is not a URL; write http://host:8123 or https://host:8443, and separate the URLs of several servers by \
                    commas";

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
    /// One for each server, with the settings of all queries.
    urls: Vec<Url>,
    endpoints: Endpoints,
    password: Secret,
}

/// Without the URLs, which can have a password, and without the headers.
impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let servers: Vec<String> = self.urls.iter().map(authority).collect();
        f.debug_struct("Client").field("servers", &servers).finish_non_exhaustive()
    }
}

/// Returns host and port of a URL.
fn authority(url: &Url) -> String {
    let port = url.port_or_known_default().unwrap_or_default();
    format!("{}:{port}", url.host_str().unwrap_or_default())
}

/// How a query has failed on one server.
struct Failure {
    error: Error,
    /// False if there was no connection, so that the server cannot have run the statement.
    was_sent: bool,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self { error, was_sent: true }
    }
}

impl From<reqwest::Error> for Failure {
    fn from(error: reqwest::Error) -> Self {
        let was_sent = !error.is_connect();
        Self { error: Error::unreachable(error), was_sent }
    }
}

impl Client {
    /// Creates a client, whose queries all have these settings of ClickHouse, such as `max_result_rows`. A path and
    /// a query of a URL in the settings are kept.
    ///
    /// # Errors
    /// Names the setting that cannot be used.
    pub fn new(
        settings: &ClickHouseSettings,
        user_agent: &str,
        query_settings: &[(&str, &str)],
    ) -> Result<Self, SettingError> {
        let urls = settings.urls().into_iter().map(|url| {
            let mut url: Url =
                url.parse().map_err(|_| SettingError::new("clickhouse.url", FORM))?;
            // `host:8123` is a URL too, whose scheme is `host`.
            if !matches!(url.scheme(), "http" | "https") {
                return Err(SettingError::new("clickhouse.url", FORM));
            }
            url.query_pairs_mut()
                .append_pair("database", &settings.database)
                // The query ends with the request.
                .append_pair("cancel_http_readonly_queries_on_client_close", "1")
                .extend_pairs(query_settings);
            Ok(url)
        });
        let urls = urls.collect::<Result<Vec<Url>, SettingError>>()?;
        let mut headers = HeaderMap::new();
        headers.insert("x-clickhouse-user", header("clickhouse.user", &settings.user)?);
        headers
            .insert("x-clickhouse-key", header("clickhouse.password", settings.password.expose())?);
        let http = http_client(settings, user_agent, headers, urls.len() > 1)?;
        let endpoints = Endpoints::new(urls.len());
        Ok(Self { http, urls, endpoints, password: settings.password.clone() })
    }

    /// Returns the answer to a query. ClickHouse inserts the parameters as values: `{name:Type}` in the SQL.
    ///
    /// With several servers, the first one that answers is asked. An INSERT is not repeated on another server if the first
    /// one may have run it.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn query<N: AsRef<str>, V: AsRef<str>>(
        &self,
        sql: &str,
        parameters: &[(N, V)],
        limits: Limits,
    ) -> Result<Vec<u8>, Error> {
        let parameters: Vec<(String, String)> = parameters
            .iter()
            .map(|(name, value)| {
                (format!("param_{}", name.as_ref()), escape_parameter(value.as_ref()))
            })
            .collect();
        let deadline = Instant::now() + limits.timeout;
        self.probe_failed().await;
        let changes = sql.trim_start().get(..6).is_some_and(|it| it.eq_ignore_ascii_case("INSERT"));
        let mut servers = self.endpoints.order().into_iter().peekable();
        loop {
            let Some(server) = servers.next() else { return Err(Error::Timeout(limits.timeout)) };
            let mut url = self.urls[server].clone();
            url.query_pairs_mut().extend_pairs(&parameters);
            let answer = self.answer(url, sql.to_owned(), limits.answer_bytes);
            let answer = tokio::time::timeout_at(deadline, answer).await;
            let failure = match answer.unwrap_or(Err(Error::Timeout(limits.timeout).into())) {
                Ok(body) => {
                    self.answered(server);
                    return Ok(body);
                }
                Err(failure) => failure,
            };
            let Failure { error, was_sent } = failure;
            if !error.is_of_the_server() {
                self.answered(server);
                return Err(error);
            }
            self.failed(server, &error);
            let is_over = matches!(error, Error::Timeout(_)) || servers.peek().is_none();
            if is_over || (changes && was_sent) {
                return Err(error);
            }
        }
    }

    /// Asks the servers that failed a while ago whether they answer again.
    async fn probe_failed(&self) {
        for server in self.endpoints.due() {
            let answer = self.answer(self.urls[server].clone(), "SELECT 1".to_owned(), 16);
            match tokio::time::timeout(PROBE_TIMEOUT, answer).await {
                Ok(Ok(_)) => self.answered(server),
                Ok(Err(failure)) => self.failed(server, &failure.error),
                Err(_) => self.failed(server, &Error::Timeout(PROBE_TIMEOUT)),
            }
        }
    }

    fn answered(&self, server: usize) {
        if self.endpoints.answered(server) && self.urls.len() > 1 {
            tracing::info!(server = authority(&self.urls[server]), "ClickHouse answers again");
        }
    }

    fn failed(&self, server: usize, error: &Error) {
        if self.endpoints.failed(server) && self.urls.len() > 1 {
            let server = authority(&self.urls[server]);
            tracing::warn!(server, %error, "ClickHouse does not answer; asking the next server");
        }
    }

    async fn answer(&self, url: Url, sql: String, max: usize) -> Result<Vec<u8>, Failure> {
        let request = self.http.post(url).body(sql);
        let mut response = request.send().await?;
        if !response.status().is_success() {
            let status = response.status().as_u16();
            let body = beginning(response).await;
            return Err(Error::refused(status, &body, self.password.expose()).into());
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await? {
            if chunk.len() > max.saturating_sub(body.len()) {
                return Err(Error::TooLarge(max).into());
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
    settings: &ClickHouseSettings,
    user_agent: &str,
    headers: HeaderMap,
    is_one_of_several: bool,
) -> Result<reqwest::Client, SettingError> {
    let ca_file = settings.ca_file.as_str();
    let mut client = reqwest::Client::builder()
        .redirect(redirect::Policy::none())
        .no_proxy()
        .pool_idle_timeout(IDLE_TIMEOUT)
        .user_agent(user_agent)
        .default_headers(headers);
    if is_one_of_several {
        client = client.connect_timeout(CONNECT_TIMEOUT);
    }
    if !ca_file.is_empty() {
        client = client.tls_certs_only(authorities(ca_file)?);
    }
    if let Some(identity) = identity(settings)? {
        client = client.identity(identity);
    }
    client.build().map_err(|error| {
        let error = innermost(&error);
        if !settings.certificate_file.is_empty() && error.contains("key") {
            // The certificate and the key are compared only now.
            unusable_identity("clickhouse.key_file", &settings.key_file, &error)
        } else if ca_file.is_empty() {
            let problem = format!("cannot create an HTTP client: {error}");
            SettingError::new("clickhouse.url", problem)
        } else {
            // reqwest reads the certificates only now.
            unusable(ca_file, &error)
        }
    })
}

/// Returns the certificate of the client with its private key, if the settings have one.
fn identity(settings: &ClickHouseSettings) -> Result<Option<Identity>, SettingError> {
    const CERTIFICATE: &str = "clickhouse.certificate_file";
    const KEY: &str = "clickhouse.key_file";
    let (certificate, key) = (&settings.certificate_file, &settings.key_file);
    let lacking = |key, other| {
        SettingError::new(key, format!("it is empty, but {other} is set; set both or neither"))
    };
    match (certificate.is_empty(), key.is_empty()) {
        (true, true) => return Ok(None),
        (true, false) => return Err(lacking(CERTIFICATE, KEY)),
        (false, true) => return Err(lacking(KEY, CERTIFICATE)),
        (false, false) => {}
    }
    if settings.urls().iter().any(|url| !url.starts_with("https://")) {
        let problem = "it has no effect, because clickhouse.url begins with http://; write https:// and ClickHouse's \
                       https_port (8443) there, or remove clickhouse.certificate_file and clickhouse.key_file";
        return Err(SettingError::new(CERTIFICATE, problem));
    }
    let read = |setting, path: &String| {
        std::fs::read(path).map_err(|error| unusable_identity(setting, path, &error))
    };
    let mut pem = read(CERTIFICATE, certificate)?;
    if !contains(&pem, b"-----BEGIN CERTIFICATE-----") {
        return Err(unusable_identity(CERTIFICATE, certificate, &"it has no certificate"));
    }
    let key_pem = read(KEY, key)?;
    if !contains(&key_pem, b"PRIVATE KEY-----") {
        return Err(unusable_identity(KEY, key, &"it has no private key without a passphrase"));
    }
    pem.push(b'\n');
    pem.extend(key_pem);
    let identity = Identity::from_pem(&pem);
    identity
        .map(Some)
        .map_err(|error| unusable_identity(CERTIFICATE, certificate, &innermost(&error)))
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

fn unusable_identity(setting: &'static str, path: &str, why: &dyn fmt::Display) -> SettingError {
    let problem = format!(
        "{path} cannot be used: {why}; clickhouse.certificate_file must be a PEM file with the certificate of the client, and \
         clickhouse.key_file one with its private key"
    );
    SettingError::new(setting, problem)
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
            certificate_file: String::new(),
            key_file: String::new(),
            cluster: String::new(),
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
        for url in [
            "",
            "clickhouse",
            "clickhouse:8123",
            "ftp://clickhouse",
            "https://",
            "/path",
            "http://one:8123, https://",
            "http://one:8123,two:8123",
        ] {
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
    fn a_certificate_that_cannot_be_used_is_named_with_the_fix() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name).display().to_string();
        let dirs = devstack::Dirs::new().unwrap();
        let authority = devstack::Authority::new(&dirs).unwrap();
        let (one, other) = (authority.client("one").unwrap(), authority.client("other").unwrap());
        let text = |path: &std::path::Path| path.display().to_string();
        std::fs::write(path("empty"), "no PEM\n").unwrap();
        let with = |certificate: &str, key: &str| ClickHouseSettings {
            certificate_file: certificate.to_owned(),
            key_file: key.to_owned(),
            ..settings("https://clickhouse:8443", "")
        };
        let (certificate, key) = (text(&one.certificate), text(&one.key));
        assert!(Client::new(&with(&certificate, &key), "test", &[]).is_ok());
        for (certificate, key, setting) in [
            (certificate.as_str(), "", "clickhouse.key_file"),
            ("", key.as_str(), "clickhouse.certificate_file"),
            (&path("absent"), &key, "clickhouse.certificate_file"),
            (&path("empty"), &key, "clickhouse.certificate_file"),
            (&certificate, &path("absent"), "clickhouse.key_file"),
            (&certificate, &path("empty"), "clickhouse.key_file"),
            (&certificate, &text(&other.key), "clickhouse.key_file"),
        ] {
            let error = refused(&with(certificate, key));
            assert_eq!(error.key, setting, "{certificate} {key}: {error}");
        }
        let plain = ClickHouseSettings {
            url: "http://clickhouse:8123".to_owned(),
            ..with(&certificate, &key)
        };
        let error = refused(&plain);
        assert_eq!(error.key, "clickhouse.certificate_file");
        assert!(error.problem.contains("write https://"), "{error}");
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
        assert_eq!(format!("{client:?}"), "Client { servers: [\"clickhouse:80\"], .. }");
    }

    #[test]
    fn a_parameter_cannot_end_early() {
        assert_eq!(escape_parameter("a\tb\\N\n'--"), "a\\tb\\\\N\\n'--");
    }
}
