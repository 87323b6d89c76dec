//! The mail of a recording, with what must follow from it.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use event::{Kind, Provider};
use testkit::{
    Burst, Credentials, MailEvent, Plan, SOURCES, SignedRequest, Traffic, payloads, sign,
};

use super::expected::{Counts, Repeat};
use super::settings::{
    DEFAULT, EU_HEADER, EU_TOKEN, OUT_OF_ORDERNESS, OWN_HEADER, SHADOW, UNVERIFIED,
};
use crate::chaos::PANE;

const SEED: u64 = 20_261_128;
const MINUTE: i64 = 60_000_000;
const HOUR: i64 = 60 * MINUTE;
/// How long before the recording the mail ends. The closing events are later, and no event may be in
/// the future.
const ENDS_BEFORE: i64 = 3 * HOUR;
/// Longer than the widest window.
const CLOSING_GAP: i64 = 70 * MINUTE;
/// Events of each source that the testkit does not have.
const EXTRA: u32 = 3;
/// Events that `enrich` cannot read.
pub(crate) const UNREADABLE: usize = 4;
/// Providers whose signatures do not expire, so that their requests can be posted again at any time.
const TIMELESS: [Provider; 8] = [
    Provider::Postmark,
    Provider::Mandrill,
    Provider::SparkPost,
    Provider::Brevo,
    Provider::Mailjet,
    Provider::MailerSend,
    Provider::Postal,
    Provider::Ses,
];
/// The generic source that signs the body without a time.
const BODY_ONLY: (Provider, &str) = SOURCES[13];
/// The source and the kind of [`Mail::unreadable`].
pub(super) const UNDATED_SOURCE: (Provider, &str) = BODY_ONLY;
pub(super) const UNDATED_KIND: Kind = Kind::Delivered;
/// Requests that are posted again, of all these sources together.
const REPEATS: usize = 50;
/// The percentage of the mail that is certainly posted while everything runs.
const EARLY_PERCENT: usize = 80;

/// All requests of a recording.
pub(crate) struct Mail {
    /// In the order of posting.
    pub(crate) requests: Vec<SignedRequest>,
    pub(crate) counts: Counts,
    /// Rows by kind.
    pub(crate) kinds: BTreeMap<String, u64>,
    /// Rows by `provider/source`.
    pub(crate) sources: BTreeMap<String, u64>,
    pub(crate) repeats: Vec<Repeat>,
    /// The event time of closing events, after every window with other events.
    pub(crate) closing_at: i64,
}

impl Mail {
    /// Generates three hours of mail of all providers. One source mails a bad list so late that its
    /// episode is still open when the watermark, which is `OUT_OF_ORDERNESS` behind the newest event,
    /// reaches the end.
    pub(crate) fn generate(credentials: &Credentials, now_unix: i64) -> Self {
        let traffic = Traffic::new(SEED, plan(credentials, now_unix));
        let extra = extra(&traffic);
        let mut requests = extra_requests(credentials, &extra, now_unix);
        requests.extend(traffic.requests());
        let all = || traffic.events().chain(&extra);
        let (mut kinds, mut sources) = (BTreeMap::new(), BTreeMap::new());
        for event in all() {
            *kinds.entry(event.kind.to_string()).or_default() += 1;
            *sources.entry(format!("{}/{}", event.provider, event.source)).or_default() += 1;
        }
        let last = all().map(|event| event.occurred_at_micros).max().unwrap_or_default();
        // In the middle of a pane, so that rounding makes no difference.
        let closing_at = last.div_euclid(PANE) * PANE + PANE / 2 + CLOSING_GAP + OUT_OF_ORDERNESS;
        let counts = counts(&traffic, extra.len() as u64, all().count() as u64);
        let repeats = repeats(credentials, &traffic, now_unix);
        Self { requests, counts, kinds, sources, repeats, closing_at }
    }

    /// Returns an authentic event without a time. The release of the recording could not read it; see
    /// [`super::expected::Expected::with_undated_rows`].
    pub(crate) fn unreadable(credentials: &Credentials, n: usize, now_unix: i64) -> SignedRequest {
        let body = format!(
            "{{\"id\":\"timeless-{n}\",\"event\":\"delivered\",\"recipient\":\"timeless-{n}@example.org\"}}"
        );
        sign::generic_body(credentials, BODY_ONLY.1, body.into(), now_unix)
    }
}

fn counts(traffic: &Traffic, extra: u64, distinct: u64) -> Counts {
    let expected = traffic.expected();
    let more = extra + UNREADABLE as u64;
    Counts {
        requests: expected.requests - expected.rejected + more,
        rejected: expected.rejected,
        accepted: expected.accepted_total() + more,
        distinct,
        duplicates: expected.duplicates,
        unreadable: UNREADABLE as u64,
        malformed: expected.malformed,
    }
}

fn plan(credentials: &Credentials, now_unix: i64) -> Plan {
    let plan = Plan {
        duration_micros: 190 * MINUTE,
        messages_per_source: 290,
        sending_period_micros: Some(60 * MINUTE),
        sources: SOURCES.map(|(provider, name)| (provider, name.to_owned())).to_vec(),
        burst: Some(Burst { after_micros: 75 * MINUTE, recovery_messages: 0, ..Burst::acme() }),
        malformed: Provider::ALL.map(|provider| (provider, 1)).to_vec(),
        bad_signatures: SOURCES.len(),
        closing: false,
        ..Plan::small(credentials, now_unix)
    };
    plan.ending_at(now_unix - ENDS_BEFORE / 1_000_000)
}

/// Returns events of the sources that the testkit does not have, early in the mail.
fn extra(traffic: &Traffic) -> Vec<MailEvent> {
    let event = |(provider, source), n: u32| {
        let at = traffic.plan().start_micros + i64::from(n) * MINUTE;
        let number = 1 << 119 | u128::from(n);
        MailEvent {
            message_id: payloads::message_id(provider, number),
            occurred_at_micros: at.div_euclid(1_000_000) * 1_000_000,
            ..MailEvent::new(
                provider,
                source,
                Kind::Delivered,
                &format!("{source}-{n}@example.org"),
                n,
            )
        }
    };
    let sources = [UNVERIFIED, OWN_HEADER, SHADOW, DEFAULT];
    sources.into_iter().flat_map(|source| (0..EXTRA).map(move |n| event(source, n))).collect()
}

/// Returns a request for each of these events, as its source verifies it.
fn extra_requests(
    credentials: &Credentials,
    events: &[MailEvent],
    now_unix: i64,
) -> Vec<SignedRequest> {
    let request = |event: &MailEvent| {
        let source = (event.provider, event.source.as_str());
        // A source in shadow mode accepts requests with a wrong signature.
        let signer = if source == SHADOW { credentials.impostor() } else { credentials.clone() };
        let signed = sign::events(&signer, std::slice::from_ref(event), now_unix);
        let mut request = signed.into_iter().next()?;
        if source == UNVERIFIED {
            request.headers.retain(|(name, _)| name != "authorization");
        } else if source == OWN_HEADER {
            request.headers.retain(|(name, _)| name != "authorization");
            request.headers.push((EU_HEADER.to_owned(), EU_TOKEN.to_owned()));
        } else if source == DEFAULT {
            request.path = format!("/webhooks/{}", event.provider);
        }
        Some(request)
    };
    events.iter().filter_map(request).collect()
}

/// Returns some early requests of every source whose requests do not expire.
fn repeats(credentials: &Credentials, traffic: &Traffic, now_unix: i64) -> Vec<Repeat> {
    let batches: Vec<_> = traffic.genuine_requests().map(|(_, events)| events).collect();
    let early = &batches[..batches.len() * EARLY_PERCENT / 100];
    let sources: Vec<_> = SOURCES
        .into_iter()
        .filter(|source| TIMELESS.contains(&source.0) || *source == BODY_ONLY)
        .collect();
    let mut repeats = Vec::new();
    for (index, (provider, name)) in sources.iter().enumerate() {
        let share = REPEATS / sources.len() + usize::from(index < REPEATS % sources.len());
        let is_own = |event: &MailEvent| event.provider == *provider && event.source == *name;
        let own: Vec<_> =
            early.iter().filter(|events| events.first().is_some_and(is_own)).collect();
        let step = (own.len() / share).max(1);
        for events in own.iter().step_by(step).take(share) {
            let requests = sign::events(credentials, events, now_unix);
            repeats.extend(requests.into_iter().map(|request| Repeat {
                path: request.path,
                headers: request.headers,
                body: STANDARD.encode(&request.body),
                events: events.len() as u64,
            }));
        }
    }
    repeats
}
