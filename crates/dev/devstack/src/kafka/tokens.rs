//! An identity provider for tests of OAUTHBEARER. It gives tokens to a client that knows its secret.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use rcgen::{KeyPair, SigningKey};
use serde_json::json;

use crate::dirs::RunDir;
use crate::{Dirs, Error};

/// The client that gets tokens, and the principal in them.
pub const CLIENT_ID: &str = "mailpulse";
/// The client's secret.
pub const CLIENT_SECRET: &str = "heron-Delta-42-gravel";
/// Who must accept the tokens.
pub(super) const AUDIENCE: &str = "kafka";

const KEY_ID: &str = "devstack";
const LIFETIME: Duration = Duration::from_secs(3600);
/// A request for a token has a few hundred bytes.
const MAX_REQUEST: u64 = 16 * 1024;
const PATIENCE: Duration = Duration::from_secs(5);

/// A token endpoint over HTTP on a port of 127.0.0.1 (RFC 6749, grant `client_credentials`), and the key
/// with which a broker checks its tokens. Dropping it closes the port.
#[derive(Debug)]
pub struct TokenIssuer {
    address: SocketAddr,
    keys_file: PathBuf,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    _run: Arc<RunDir>,
}

impl TokenIssuer {
    /// Starts an issuer with a new key.
    ///
    /// # Errors
    /// [`Error::Certificate`] if the key cannot be made, [`Error::Io`] if a file cannot be written or no
    /// port is free.
    pub fn start(dirs: &Dirs) -> Result<Self, Error> {
        let key = KeyPair::generate()?;
        let keys_file = dirs.subdirectory("tokens")?.join("keys.json");
        fs::write(&keys_file, key_set(&key).to_string())
            .map_err(Error::io(format!("write {}", keys_file.display())))?;
        let listener = TcpListener::bind("127.0.0.1:0").map_err(Error::io("find a free port"))?;
        let address = listener.local_addr().map_err(Error::io("find the port"))?;
        let stop = Arc::<AtomicBool>::default();
        let stopped = Arc::clone(&stop);
        let serve = move || {
            for client in listener.incoming().flatten() {
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
                // A client that ends early gets no token.
                let _ = answer(&client, &key);
            }
        };
        let thread = std::thread::Builder::new()
            .name("token-issuer".into())
            .spawn(serve)
            .map_err(Error::io("start a thread"))?;
        Ok(Self { address, keys_file, stop, thread: Some(thread), _run: dirs.owner.clone() })
    }

    /// Returns `127.0.0.1:PORT`. Every path is the token endpoint.
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// Returns the file with the public key, a JSON Web Key Set.
    pub(super) fn keys_file(&self) -> &Path {
        &self.keys_file
    }
}

impl Drop for TokenIssuer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // Wakes the thread.
        let _ = TcpStream::connect_timeout(&self.address, PATIENCE);
        if let Some(thread) = self.thread.take() {
            // A panic of the thread was reported when it happened.
            let _ = thread.join();
        }
    }
}

/// The coordinates of a point on P-256 have 32 bytes. Before them is the byte 4: not compressed.
fn key_set(key: &KeyPair) -> serde_json::Value {
    let (x, y) = key.public_key_raw()[1..].split_at(32);
    let text = |coordinate| URL_SAFE_NO_PAD.encode(coordinate);
    json!({"keys": [{
        "kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": KEY_ID,
        "x": text(x), "y": text(y),
    }]})
}

fn answer(client: &TcpStream, key: &KeyPair) -> std::io::Result<()> {
    client.set_read_timeout(Some(PATIENCE))?;
    client.set_write_timeout(Some(PATIENCE))?;
    let mut reader = BufReader::new(client.take(MAX_REQUEST));
    let expected = format!("Basic {}", STANDARD.encode(format!("{CLIENT_ID}:{CLIENT_SECRET}")));
    let (mut knows_secret, mut length) = (false, 0);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 || line.trim_end().is_empty() {
            break;
        }
        let Some((name, value)) = line.split_once(':') else { continue };
        match name.to_ascii_lowercase().as_str() {
            "authorization" => knows_secret = value.trim() == expected,
            "content-length" => length = value.trim().parse().unwrap_or(0),
            _ => {}
        }
    }
    let mut form = String::new();
    reader.take(length).read_to_string(&mut form)?;
    let (status, body) = if !knows_secret {
        ("401 Unauthorized", json!({"error": "invalid_client"}))
    } else if !form.split('&').any(|field| field == "grant_type=client_credentials") {
        ("400 Bad Request", json!({"error": "unsupported_grant_type"}))
    } else {
        let token = token(key).map_err(std::io::Error::other)?;
        let seconds = LIFETIME.as_secs();
        ("200 OK", json!({"access_token": token, "token_type": "Bearer", "expires_in": seconds}))
    };
    let body = body.to_string();
    let length = body.len();
    let mut client = client;
    write!(
        client,
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\
         Connection: close\r\n\r\n{body}"
    )
}

/// Returns a JSON Web Token, signed with ES256.
#[allow(clippy::disallowed_methods, reason = "a token is valid for a limited time")]
fn token(key: &KeyPair) -> Result<String, rcgen::Error> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let header = json!({"alg": "ES256", "typ": "JWT", "kid": KEY_ID});
    let claims = json!({
        "iss": "devstack", "sub": CLIENT_ID, "aud": AUDIENCE,
        "iat": now, "exp": now + LIFETIME.as_secs(),
    });
    let part = |json: serde_json::Value| URL_SAFE_NO_PAD.encode(json.to_string());
    let signed = format!("{}.{}", part(header), part(claims));
    let signature = fixed_length(&key.sign(signed.as_bytes())?);
    Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
}

/// Converts a signature from ASN.1 (a sequence of two integers, each with type and length) to the form
/// of RFC 7518: two numbers of 32 bytes.
fn fixed_length(asn1: &[u8]) -> [u8; 64] {
    let mut fixed = [0; 64];
    let mut rest = asn1.get(2..).unwrap_or_default();
    for half in fixed.chunks_mut(32) {
        let [_, length, after @ ..] = rest else { break };
        let (integer, next) = after.split_at(usize::from(*length).min(after.len()));
        // A leading zero says that the number is positive.
        for (to, from) in half.iter_mut().rev().zip(integer.iter().rev()) {
            *to = *from;
        }
        rest = next;
    }
    fixed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_has_two_numbers_of_32_bytes() {
        let mut asn1 = vec![0x30, 0, 2, 33, 0];
        asn1.extend([0xff; 32]);
        asn1.extend([2, 2, 1, 2]);
        let fixed = fixed_length(&asn1);
        assert_eq!(fixed[..32], [0xff; 32]);
        assert_eq!(fixed[32..62], [0; 30]);
        assert_eq!(fixed[62..], [1, 2]);
    }
}
