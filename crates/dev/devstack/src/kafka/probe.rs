//! Checks whether a broker is ready for clients.
//!
//! A broker accepts connections and answers ApiVersions requests before the controller has unfenced
//! it. We ask for its metadata: until then, the list of live brokers is empty.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

/// The timeout of one request.
const PATIENCE: Duration = Duration::from_secs(2);
/// Any number; the answer repeats it.
const CORRELATION: i32 = 0x6D70;

/// Whether the broker at `host:port` (plaintext) knows of at least one live broker.
pub(super) fn answers(address: &str) -> bool {
    live_brokers(address).is_ok_and(|count| count > 0)
}

fn live_brokers(address: &str) -> io::Result<i32> {
    let address = address.to_socket_addrs()?.next().ok_or(io::ErrorKind::NotFound)?;
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.write_all(&metadata_request())?;
    // Metadata response v1: size, correlation id, then an array of brokers; an array starts with
    // its length.
    let mut answer = [0; 12];
    stream.read_exact(&mut answer)?;
    let field = |at: usize| answer[at..].first_chunk().copied().map_or(-1, i32::from_be_bytes);
    if field(4) != CORRELATION {
        return Err(io::ErrorKind::InvalidData.into());
    }
    Ok(field(8))
}

/// Metadata request v1 for no topics, with request header v1: <https://kafka.apache.org/protocol>,
/// "Request Header" and "Metadata API (Key: 3)". Integers are big-endian.
fn metadata_request() -> Vec<u8> {
    const API_KEY: i16 = 3;
    const API_VERSION: i16 = 1;
    const CLIENT: &[u8] = b"devstack";
    let mut body = Vec::new();
    body.extend(API_KEY.to_be_bytes());
    body.extend(API_VERSION.to_be_bytes());
    body.extend(CORRELATION.to_be_bytes());
    body.extend((CLIENT.len() as i16).to_be_bytes());
    body.extend(CLIENT);
    body.extend(0_i32.to_be_bytes()); // no topics
    let mut request = (body.len() as i32).to_be_bytes().to_vec();
    request.extend(body);
    request
}
