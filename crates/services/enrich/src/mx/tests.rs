use std::sync::atomic::Ordering;

use dns::{Reply, serve};

use super::*;

#[path = "../../tests/common/dns.rs"]
mod dns;

const PATIENT: Duration = Duration::from_secs(10);

fn start(server: SocketAddr, wait: Duration, remembered: usize) -> MailExchanges {
    MailExchanges::start(Some(server), wait, NonZeroUsize::new(remembered).unwrap()).unwrap()
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
        "trouble.example" => Reply::Trouble,
        _ => Reply::NoSuchName,
    })
}

#[test]
fn the_most_preferred_host_that_is_known_decides() {
    let (server, questions) = serve(usual);
    let mut exchanges = start(server, PATIENT, 100);
    let domains = ["google.example", "gateway.example", "own.example", "none.example"];
    exchanges.prepare(domains.into_iter().chain(domains));
    assert_eq!(
        domains.map(|domain| exchanges.of_domain(domain)),
        [Some("google_workspace"), Some("proofpoint"), None, None]
    );
    let asked = questions.load(Ordering::SeqCst);
    assert_eq!(asked, 4, "each once");
    exchanges.prepare(domains.into_iter());
    assert_eq!(questions.load(Ordering::SeqCst), asked, "the answers are kept");
}

#[test]
fn a_silent_server_holds_a_round_no_longer_than_stated() {
    let (server, _) = serve(|_| None);
    let wait = Duration::from_millis(50);
    let mut exchanges = start(server, wait, 100);
    let began = Instant::now();
    exchanges.prepare(["a.example", "b.example", "c.example"].into_iter());
    // Nearly two seconds before the resolver would give up.
    assert!((wait..TRY_FOR).contains(&began.elapsed()), "{:?}", began.elapsed());
    assert_eq!(exchanges.of_domain("a.example"), None);
    assert_eq!(exchanges.under_way.len(), 3);
    assert!(!exchanges.ask("a.example"), "not asked twice while under way");
    exchanges.wait = PATIENT;
    let began = Instant::now();
    exchanges.prepare(std::iter::once("a.example"));
    assert!(began.elapsed() < TRY_FOR / 2, "not waited for again");
}

#[test]
fn an_old_answer_is_used_until_there_is_a_new_one() {
    let (server, _) = serve(|_| Some(Reply::Trouble));
    let mut exchanges = start(server, PATIENT, 100);
    let provider = Some("google_workspace".to_owned());
    exchanges.known.put("old.example".into(), Known { provider, until: Instant::now() });
    exchanges.prepare(std::iter::once("old.example"));
    assert_eq!(exchanges.of_domain("old.example"), Some("google_workspace"));
    let answer = exchanges.answers.recv_timeout(PATIENT).unwrap();
    assert!(matches!(answer.found, Found::Failed));
    exchanges.learn(answer);
    assert_eq!(exchanges.of_domain("old.example"), Some("google_workspace"), "still the best");
    let until = exchanges.known.peek("old.example").unwrap().until;
    assert!(until <= Instant::now() + FAILURE_FOR, "but not for long");
}

#[test]
fn what_is_kept_is_bounded_and_names_are_names() {
    let (server, questions) = serve(usual);
    let mut exchanges = start(server, PATIENT, 2);
    for domain in ["google.example", "gateway.example", "own.example"] {
        exchanges.prepare(std::iter::once(domain));
    }
    assert_eq!(exchanges.known.len(), 2);
    assert_eq!(exchanges.of_domain("google.example"), None, "the one not used for longest");
    let asked = questions.load(Ordering::SeqCst);
    let long = format!("{}.example", "a".repeat(LONGEST_NAME));
    exchanges.prepare(["", "localhost", "a b.example", "é.example", &long].into_iter());
    assert_eq!(questions.load(Ordering::SeqCst), asked);
}
