//! Requests over plain TCP, so that tests control every byte, and parsed responses.

use std::io::{self, Read, Write};
use std::net::TcpStream;

use crate::DEADLINE;

/// A response as it was received, up to the end of the connection.
#[derive(Debug, Clone)]
pub struct Response {
    /// The status code; 0 if the connection ended without a response.
    pub status: u16,
    /// Head and body as text. Bytes that are not UTF-8 are replaced.
    pub text: String,
    bytes: Vec<u8>,
}

impl Response {
    /// Reads a response until the server closes the connection. What was received counts if the
    /// connection is reset afterwards.
    pub fn read(mut stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        let mut bytes = Vec::new();
        let _ = stream.read_to_end(&mut bytes);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let status = text.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
        Self { status, text, bytes }
    }

    /// Returns the value of a header. Names are compared without case; the value is in lower case.
    pub fn header(&self, name: &str) -> Option<String> {
        let head = self.text.split("\r\n\r\n").next()?.to_ascii_lowercase();
        let prefix = format!("{}: ", name.to_ascii_lowercase());
        head.lines().find_map(|line| line.strip_prefix(&prefix)).map(str::to_owned)
    }

    /// Returns everything after the head.
    pub fn body(&self) -> &str {
        self.text.split_once("\r\n\r\n").map_or("", |(_, body)| body)
    }

    /// Returns the bytes of the body, without the framing of chunks (RFC 9112 §7.1).
    pub fn body_bytes(&self) -> Vec<u8> {
        let head = self.bytes.windows(4).position(|window| window == b"\r\n\r\n");
        let body = head.map_or(&[][..], |head| &self.bytes[head + 4..]);
        if self.header("transfer-encoding").as_deref() == Some("chunked") {
            dechunk(body)
        } else {
            body.to_vec()
        }
    }

    /// Returns the body as JSON.
    ///
    /// # Panics
    /// If it is not JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(self.body()).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }
}

/// Joins chunks. An incomplete chunk is left out.
fn dechunk(mut bytes: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(end) = bytes.windows(2).position(|window| window == b"\r\n") {
        let size = String::from_utf8_lossy(&bytes[..end]).into_owned();
        let size = usize::from_str_radix(size.split(';').next().unwrap().trim(), 16).unwrap();
        let Some(chunk) = bytes.get(end + 2..end + 2 + size) else { break };
        body.extend_from_slice(chunk);
        bytes = bytes.get(end + 4 + size..).unwrap_or_default();
    }
    body
}

/// Sends a request on a new connection and returns the response.
///
/// `Host`, `Content-Length` and `Connection: close` are added to the headers. The server may respond
/// before it has read the whole body, and close the connection; that is no error here.
///
/// # Errors
/// If no connection can be opened or the head cannot be sent.
pub fn send(
    address: &str,
    method: &str,
    path: &str,
    headers: &[(String, String)],
    body: &[u8],
) -> io::Result<Response> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_write_timeout(Some(DEADLINE))?;
    stream.write_all(head(address, method, path, headers, body.len(), false).as_bytes())?;
    let _ = stream.write_all(body);
    Ok(Response::read(stream))
}

/// Returns the head of a request whose body has `length` bytes, with the empty line at its end.
pub fn head(
    host: &str,
    method: &str,
    path: &str,
    headers: &[(String, String)],
    length: usize,
    keep_alive: bool,
) -> String {
    let mut head =
        format!("{method} {path} HTTP/1.1\r\nhost: {host}\r\ncontent-length: {length}\r\n");
    if !keep_alive {
        head += "connection: close\r\n";
    }
    for (name, value) in headers {
        head += &format!("{name}: {value}\r\n");
    }
    head + "\r\n"
}

/// Sends a GET request; `None` if nothing listens or the connection ends without a response.
pub fn get(address: &str, path: &str) -> Option<Response> {
    send(address, "GET", path, &[], b"").ok().filter(|response| response.status != 0)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    /// Serves one connection with these bytes; returns its address and the request it received.
    fn serve(response: &'static [u8]) -> (String, std::thread::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 1024];
            let length = stream.read(&mut request).unwrap();
            stream.write_all(response).unwrap();
            String::from_utf8(request[..length].to_vec()).unwrap()
        });
        (address, server)
    }

    #[test]
    fn a_response_has_status_headers_and_json() {
        let (address, server) =
            serve(b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\n\r\n{\"code\":\"x\"}");
        let response = send(&address, "POST", "/p", &[("X-A".into(), "b".into())], b"").unwrap();
        assert_eq!(response.status, 503);
        assert_eq!(response.header("Retry-After").as_deref(), Some("5"));
        assert_eq!(response.header("absent"), None);
        assert_eq!(response.json()["code"], "x");
        let request = server.join().unwrap();
        assert_eq!(
            request,
            format!(
                "POST /p HTTP/1.1\r\nhost: {address}\r\ncontent-length: 0\r\nconnection: close\r\n\
                 X-A: b\r\n\r\n"
            )
        );
    }

    #[test]
    fn chunks_are_joined() {
        let (address, server) = serve(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\na\r\n\r\n2;x\r\n\xffd\r\n0\r\n\r\n",
        );
        let response = get(&address, "/").unwrap();
        assert_eq!(response.body_bytes(), b"a\r\n\xffd");
        server.join().unwrap();
    }

    #[test]
    fn a_connection_without_a_response_is_none() {
        let (address, server) = serve(b"");
        assert!(get(&address, "/readyz").is_none());
        server.join().unwrap();
        assert!(get(&address, "/readyz").is_none(), "nothing listens any more");
    }
}
