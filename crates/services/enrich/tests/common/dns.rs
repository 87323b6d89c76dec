//! A name server on this machine that gives the answers of a test (RFC 1035 §4).
#![allow(clippy::unwrap_used, clippy::expect_used, dead_code)]

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Starts a server that answers each name with `reply`, or not at all if that is `None`. Returns its
/// address and the number of questions so far.
pub fn serve(
    reply: impl Fn(&str) -> Option<Reply> + Send + 'static,
) -> (SocketAddr, Arc<AtomicUsize>) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let (address, questions) = (socket.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
    let count = Arc::clone(&questions);
    std::thread::spawn(move || {
        let mut buffer = [0; 1500];
        while let Ok((length, from)) = socket.recv_from(&mut buffer) {
            count.fetch_add(1, Ordering::SeqCst);
            let (name, question) = question(&buffer[..length]);
            if let Some(reply) = reply(&name) {
                let _ = socket.send_to(&answer(&buffer[..2], question, &reply), from);
            }
        }
    });
    (address, questions)
}

pub enum Reply {
    Hosts(&'static [(u16, &'static str)]),
    NoSuchName,
    ServerFailure,
}

/// Returns the name in a question and the bytes of the question (RFC 1035 §4.1.2).
fn question(message: &[u8]) -> (String, &[u8]) {
    let mut at = 12;
    let mut labels = Vec::new();
    while message[at] != 0 {
        let end = at + 1 + usize::from(message[at]);
        labels.push(std::str::from_utf8(&message[at + 1..end]).unwrap().to_owned());
        at = end;
    }
    (labels.join("."), &message[12..at + 5])
}

fn answer(id: &[u8], question: &[u8], reply: &Reply) -> Vec<u8> {
    let (code, hosts): (u8, &[_]) = match reply {
        Reply::Hosts(hosts) => (0, hosts),
        Reply::ServerFailure => (2, &[]),
        Reply::NoSuchName => (3, &[]),
    };
    let mut message = id.to_vec();
    message.extend([0x84, 0x80 | code, 0, 1, 0, hosts.len() as u8, 0, 0, 0, 0]);
    message.extend(question);
    for (preference, host) in hosts {
        let mut name: Vec<u8> = Vec::new();
        for label in host.split('.') {
            name.push(label.len() as u8);
            name.extend(label.as_bytes());
        }
        name.push(0);
        message.extend([0xc0, 12, 0, 15, 0, 1, 0, 0, 0x0e, 0x10]);
        message.extend((2 + name.len() as u16).to_be_bytes());
        message.extend(preference.to_be_bytes());
        message.extend(name);
    }
    message
}
