use std::sync::atomic::Ordering;

use dns::{Reply, serve};

use super::*;

#[path = "../../tests/common/dns.rs"]
mod dns;

const PATIENT: Duration = Duration::from_secs(10);

fn start(server: SocketAddr, timeout: Duration, cache_size: usize) -> MailExchanges {
    MailExchanges::start(Some(server), timeout, NonZeroUsize::new(cache_size).unwrap()).unwrap()
}

fn usual(name: &str) -> Option<Reply> {
    Some(match name {
        "google.example" => {
            Reply::Hosts(&[(10, "alt1.aspmx.l.google.com"), (1, "ASPMX.L.GOOGLE.COM")])
        }
        "gateway.example" => {
            Reply::Hosts(&[(20, "x.mail.protection.outlook.com"), (10, "mx1.ppe-hosted.com")])
        }
        "own.example" => Reply::Hosts(&[(10, "mail.own.example")]),
        "trouble.example" => Reply::ServerFailure,
        _ => Reply::NoSuchName,
    })
}

#[test]
fn the_most_preferred_host_of_a_known_mailbox_provider_decides() {
    let (server, queries) = serve(usual);
    let mut exchanges = start(server, PATIENT, 100);
    let domains = ["google.example", "gateway.example", "own.example", "none.example"];
    exchanges.prepare(domains.into_iter().chain(domains));
    assert_eq!(
        domains.map(|domain| exchanges.of_domain(domain)),
        [Some("google_workspace"), Some("proofpoint"), None, None]
    );
    let count = queries.load(Ordering::SeqCst);
    assert_eq!(count, 4, "one query per domain");
    exchanges.prepare(domains.into_iter());
    assert_eq!(queries.load(Ordering::SeqCst), count, "the answers are cached");
}

#[test]
fn a_batch_waits_for_a_silent_server_no_longer_than_the_timeout() {
    let (server, _) = serve(|_| None);
    let wait = Duration::from_millis(50);
    let mut exchanges = start(server, wait, 100);
    let began = Instant::now();
    exchanges.prepare(["a.example", "b.example", "c.example"].into_iter());
    // The resolver itself would wait for QUERY_TIMEOUT.
    assert!((wait..QUERY_TIMEOUT).contains(&began.elapsed()), "{:?}", began.elapsed());
    assert_eq!(exchanges.of_domain("a.example"), None);
    assert_eq!(exchanges.in_flight.len(), 3);
    assert!(!exchanges.query("a.example"), "no second query while the first is in flight");
    exchanges.timeout = PATIENT;
    let began = Instant::now();
    exchanges.prepare(std::iter::once("a.example"));
    assert!(began.elapsed() < QUERY_TIMEOUT / 2, "a later batch does not wait for it");
}

#[test]
fn an_expired_answer_is_used_until_there_is_a_new_one() {
    let (server, _) = serve(|_| Some(Reply::ServerFailure));
    let mut exchanges = start(server, PATIENT, 100);
    let provider = Some("google_workspace".to_owned());
    exchanges.cache.put("old.example".into(), Cached { provider, until: Instant::now() });
    exchanges.prepare(std::iter::once("old.example"));
    assert_eq!(exchanges.of_domain("old.example"), Some("google_workspace"));
    let answer = exchanges.answers.recv_timeout(PATIENT).unwrap();
    assert!(matches!(answer.result, Resolved::Failed));
    exchanges.store(answer);
    assert_eq!(
        exchanges.of_domain("old.example"),
        Some("google_workspace"),
        "a failure does not replace it"
    );
    let until = exchanges.cache.peek("old.example").unwrap().until;
    assert!(until <= Instant::now() + FAILURE_TTL, "the domain is resolved again soon");
}

#[test]
fn the_cache_is_bounded_and_only_domain_names_are_resolved() {
    let (server, queries) = serve(usual);
    let mut exchanges = start(server, PATIENT, 2);
    for domain in ["google.example", "gateway.example", "own.example"] {
        exchanges.prepare(std::iter::once(domain));
    }
    assert_eq!(exchanges.cache.len(), 2);
    assert_eq!(exchanges.of_domain("google.example"), None, "the least recently used domain");
    let count = queries.load(Ordering::SeqCst);
    let long = format!("{}.example", "a".repeat(MAX_NAME_LENGTH));
    exchanges.prepare(["", "localhost", "a b.example", "é.example", &long].into_iter());
    assert_eq!(queries.load(Ordering::SeqCst), count);
}
