//! Parses the URL, headers and form fields of ClickHouse's HTTP interface.

use crate::exception::{Exception, code};
use http::request::Parts;
use http::{HeaderMap, Method, header};
use std::collections::HashSet;

/// URL keys that are neither settings nor parameters. They are ignored: each request is a new session
/// of the user `default`.
const IGNORED: [&str; 11] = [
    "user",
    "password",
    "quota_key",
    "role",
    "session_id",
    "session_timeout",
    "session_check",
    "close_session",
    "buffer_size",
    "stacktrace",
    "client_protocol_version",
];

/// Checks the password of a request in ClickHouse's headers. Only the user of the options has one.
///
/// # Errors
/// ClickHouse's error for a wrong password.
pub(crate) fn authenticate(
    headers: &HeaderMap,
    user: Option<&(String, String)>,
) -> Result<(), Exception> {
    let Some((name, password)) = user else { return Ok(()) };
    let is_theirs = header(headers, "x-clickhouse-user").is_some_and(|it| it == *name);
    if !is_theirs || header(headers, "x-clickhouse-key").is_some_and(|it| it == *password) {
        return Ok(());
    }
    Err(Exception::new(
        code::AUTHENTICATION_FAILED,
        format_args!(
            "{name}: Authentication failed: password is incorrect, or there is no user with such \
             name. (AUTHENTICATION_FAILED)"
        ),
    ))
}

/// How the answer is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Coding {
    Identity,
    /// ClickHouse's compressed blocks, requested with `compress=1`.
    Blocks,
    Lz4,
    Zstd,
    Gzip,
    Deflate,
}

impl Coding {
    /// Returns the value of `Content-Encoding`.
    pub fn content_encoding(self) -> Option<&'static str> {
        match self {
            Self::Identity | Self::Blocks => None,
            Self::Lz4 => Some("lz4"),
            Self::Zstd => Some("zstd"),
            Self::Gzip => Some("gzip"),
            Self::Deflate => Some("deflate"),
        }
    }
}

/// A request without its body.
#[derive(Debug)]
pub(crate) struct Request {
    /// The statement in the URL; the body continues it.
    pub query: String,
    pub query_id: String,
    pub database: Option<String>,
    /// The format of answers to statements without `FORMAT`.
    pub format: Option<String>,
    pub settings: Vec<(String, String)>,
    pub parameters: Vec<(String, String)>,
    pub coding: Coding,
    pub content_encoding: Option<String>,
    /// The body consists of ClickHouse's compressed blocks.
    pub blocks: bool,
    /// Send nothing before the answer is complete.
    pub wait_end: bool,
    /// The boundary of a `multipart/form-data` body.
    pub boundary: Option<String>,
}

impl Request {
    /// Reads URL and headers. `known` contains the names of the engine's settings.
    pub fn parse(parts: &Parts, known: &HashSet<String>) -> Result<Self, Exception> {
        let headers = &parts.headers;
        let mut request = Self {
            query: String::new(),
            query_id: header(headers, "x-clickhouse-query-id").unwrap_or_default(),
            database: header(headers, "x-clickhouse-database"),
            format: header(headers, "x-clickhouse-format"),
            settings: Vec::new(),
            parameters: Vec::new(),
            coding: Coding::Identity,
            content_encoding: header(headers, header::CONTENT_ENCODING.as_str()),
            blocks: false,
            wait_end: false,
            boundary: boundary(headers),
        };
        // HTTP defines GET as safe, and ClickHouse enforces it.
        if matches!(parts.method, Method::GET | Method::HEAD) {
            request.settings.push(("readonly".to_owned(), "2".to_owned()));
        }
        let mut compress = false;
        let mut http_compression = true;
        let query = parts.uri.query().unwrap_or_default();
        for (key, value) in form_urlencoded::parse(query.as_bytes()) {
            match key.as_ref() {
                "compress" => compress = flag(&value),
                "enable_http_compression" => http_compression = flag(&value),
                _ => request.set(&key, &value, known)?,
            }
        }
        if compress {
            request.coding = Coding::Blocks;
        } else if http_compression {
            request.coding = accepted(headers);
        }
        if request.query_id.is_empty() {
            request.query_id = uuid::Uuid::new_v4().to_string();
        }
        Ok(request)
    }

    /// Applies a key of the URL or a field of a form.
    pub fn set(
        &mut self,
        key: &str,
        value: &str,
        known: &HashSet<String>,
    ) -> Result<(), Exception> {
        match key {
            "query" => self.query.push_str(value),
            "query_id" => value.clone_into(&mut self.query_id),
            "database" => self.database = Some(value.to_owned()),
            "default_format" => self.format = Some(value.to_owned()),
            "decompress" => self.blocks = flag(value),
            "wait_end_of_query" => self.wait_end = flag(value),
            _ if IGNORED.contains(&key) => {}
            _ => match key.strip_prefix("param_") {
                Some(name) => self.parameters.push((name.to_owned(), value.to_owned())),
                None if known.contains(key) => {
                    self.settings.push((key.to_owned(), value.to_owned()));
                }
                None => {
                    return Err(Exception::new(
                        code::UNKNOWN_SETTING,
                        format_args!("Unknown setting '{key}'. (UNKNOWN_SETTING)"),
                    ));
                }
            },
        }
        Ok(())
    }
}

fn flag(value: &str) -> bool {
    !matches!(value, "" | "0" | "false")
}

fn header(headers: &HeaderMap, name: &str) -> Option<String> {
    let value = headers.get(name)?.to_str().ok()?;
    (!value.is_empty()).then(|| value.to_owned())
}

/// Returns the coding of `Accept-Encoding` that comes first in the server's order of preference.
fn accepted(headers: &HeaderMap) -> Coding {
    let accept = header(headers, header::ACCEPT_ENCODING.as_str()).unwrap_or_default();
    let offered = |name: &str| {
        accept.split(',').any(|item| {
            let (coding, weight) = item.split_once(';').unwrap_or((item, ""));
            coding.trim().eq_ignore_ascii_case(name) && !matches!(weight.trim(), "q=0" | "q=0.0")
        })
    };
    [Coding::Lz4, Coding::Zstd, Coding::Gzip, Coding::Deflate]
        .into_iter()
        .find(|coding| coding.content_encoding().is_some_and(offered))
        .unwrap_or(Coding::Identity)
}

fn boundary(headers: &HeaderMap) -> Option<String> {
    let content_type = header(headers, header::CONTENT_TYPE.as_str())?;
    let (kind, rest) = content_type.split_once(';')?;
    if !kind.trim().eq_ignore_ascii_case("multipart/form-data") {
        return None;
    }
    let value = rest.split(';').find_map(|item| item.trim().strip_prefix("boundary="))?;
    Some(value.trim_matches('"').to_owned())
}

/// Returns the fields of a form (RFC 7578). Clients send statement and parameters in a form to keep
/// them out of the URL. External tables are sent in a form too; they are not supported.
pub(crate) fn form_fields(body: &[u8], boundary: &str) -> Result<Vec<(String, String)>, Exception> {
    let malformed = || Exception::new(code::BAD_ARGUMENTS, "Malformed multipart/form-data body");
    let body = std::str::from_utf8(body).map_err(|_| malformed())?;
    // The first delimiter has no line end before it. With one added, all delimiters are equal.
    let body = format!("\r\n{body}");
    let delimiter = format!("\r\n--{boundary}");
    let mut fields = Vec::new();
    for part in body.split(&delimiter).skip(1) {
        if part.starts_with("--") {
            return Ok(fields);
        }
        let part = part.trim_start_matches([' ', '\t']).strip_prefix("\r\n");
        let (head, value) =
            part.and_then(|part| part.split_once("\r\n\r\n")).ok_or_else(malformed)?;
        if head.contains("filename=") {
            return Err(Exception::new(
                code::NOT_IMPLEMENTED,
                "External tables are not supported by chdb-server",
            ));
        }
        let name = head.split_once("name=\"").and_then(|(_, rest)| rest.split_once('"'));
        let (name, _) = name.ok_or_else(malformed)?;
        fields.push((name.to_owned(), value.to_owned()));
    }
    // The closing delimiter is missing.
    Err(malformed())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(method: &str, uri: &str, headers: &[(&str, &str)]) -> Result<Request, Exception> {
        let mut builder = http::Request::builder().method(method).uri(uri);
        for (name, value) in headers {
            builder = builder.header(*name, *value);
        }
        let known = HashSet::from(["max_threads".to_owned(), "readonly".to_owned()]);
        Request::parse(&builder.body(()).expect("a request").into_parts().0, &known)
    }

    #[test]
    fn url_and_headers_are_parsed() {
        let request = parse(
            "POST",
            "/?query=SELECT+%7Bx%3AUInt8%7D&param_x=1&max_threads=2&user=u&database=d&query_id=q",
            &[("X-ClickHouse-Format", "JSON"), ("Content-Encoding", "gzip")],
        )
        .expect("parses");
        assert_eq!(request.query, "SELECT {x:UInt8}");
        assert_eq!(request.parameters, [("x".to_owned(), "1".to_owned())]);
        assert_eq!(request.settings, [("max_threads".to_owned(), "2".to_owned())]);
        assert_eq!(request.database.as_deref(), Some("d"));
        assert_eq!(request.format.as_deref(), Some("JSON"));
        assert_eq!(request.content_encoding.as_deref(), Some("gzip"));
        assert_eq!(request.query_id, "q");
    }

    #[test]
    fn get_is_read_only() {
        let request = parse("GET", "/?query=SELECT+1", &[]).expect("parses");
        assert_eq!(request.settings, [("readonly".to_owned(), "2".to_owned())]);
    }

    #[test]
    fn unknown_settings_are_errors() {
        let error = parse("POST", "/?max_thread=2", &[]).expect_err("unknown");
        assert_eq!(error.code(), code::UNKNOWN_SETTING);
    }

    #[test]
    fn the_preferred_coding_is_chosen() {
        for (uri, accept, coding) in [
            ("/", "gzip, deflate", Coding::Gzip),
            ("/", "zstd;q=0, gzip", Coding::Gzip),
            ("/", "br", Coding::Identity),
            ("/?enable_http_compression=0", "gzip", Coding::Identity),
            ("/?compress=1", "gzip", Coding::Blocks),
        ] {
            let request = parse("POST", uri, &[("Accept-Encoding", accept)]).expect("parses");
            assert_eq!(request.coding, coding, "{uri} {accept}");
        }
    }

    #[test]
    fn forms_are_parsed() {
        let body = "--b\r\nContent-Disposition: form-data; name=\"query\"\r\n\r\nSELECT\r\n1\r\n\
                    --b\r\nContent-Disposition: form-data; name=\"param_x\"\r\n\r\n\r\n--b--\r\n";
        let fields = form_fields(body.as_bytes(), "b").expect("parses");
        let expected = [("query", "SELECT\r\n1"), ("param_x", "")];
        assert_eq!(fields, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
        let cut = &body.as_bytes()[..body.len() - 6];
        assert_eq!(form_fields(cut, "b").expect_err("truncated").code(), code::BAD_ARGUMENTS);
        let file =
            "--b\r\nContent-Disposition: form-data; name=\"t\"; filename=\"t\"\r\n\r\n1\r\n--b--";
        assert_eq!(form_fields(file.as_bytes(), "b").expect_err("a table").code(), 48);
    }
}
