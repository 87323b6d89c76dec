//! Headers of records. The input has lines `name: value`.

use event::{CounterSet, Kind, Provider};
use record::{
    DeadLetterHeaders, EnrichedHeaders, EventHeaders, FirstSeen, ForDedupe, Origin, RawHeaders,
    Reason, Stage, Tally, names,
};

use crate::head_and_body;

type Header<'a> = (&'a str, &'a [u8]);

/// Checks that parsed headers have the values of the input, and that a dead letter returns the
/// original headers of its record.
pub fn check(data: &[u8]) {
    let lines = head_and_body(data).0;
    let headers: Vec<Header<'_>> = lines
        .into_iter()
        .filter_map(|(name, value)| Some((std::str::from_utf8(name).ok()?, value)))
        .collect();
    let of_name =
        |name: &str| headers.iter().rfind(|(key, _)| *key == name).map(|(_, value)| *value);
    check_raw(&of_name);
    check_event(&of_name);
    check_tally(&of_name);
    check_dead_letter(&headers);
    for text in headers.iter().filter_map(|(_, value)| std::str::from_utf8(value).ok()) {
        check_codes(text);
    }
}

fn check_raw<'a>(headers: &impl Fn(&str) -> Option<&'a [u8]>) {
    let Ok(raw) = RawHeaders::read(headers) else { return };
    let provider = headers(names::PROVIDER).and_then(|name| std::str::from_utf8(name).ok());
    assert_eq!(provider.and_then(|name| name.parse().ok()), Some(raw.provider));
    assert_eq!(Some(raw.source.as_bytes()), headers(names::SOURCE));
    assert_eq!(Some(raw.request_id.as_bytes()), headers(names::REQUEST_ID));
    let written = raw.received_at.micros().to_string();
    let rewritten = |name: &str| match name {
        names::RECEIVED_AT => Some(written.as_bytes()),
        name => headers(name),
    };
    assert_eq!(RawHeaders::read(&rewritten), Ok(raw));
}

fn check_event<'a>(headers: &impl Fn(&str) -> Option<&'a [u8]>) {
    let enriched = EnrichedHeaders::read(headers);
    let event = EventHeaders::read(headers);
    assert!(event.is_err() || event.map(|event| event.enriched) == enriched);
    let Ok(enriched) = enriched else { return };
    assert_eq!(Some(enriched.event_id.as_bytes().as_slice()), headers(names::EVENT_ID));
    assert_eq!(Some(enriched.kind.as_str().as_bytes()), headers(names::KIND));
    let engagement = enriched.engagement_id.map(|id| id.0.to_vec());
    assert_eq!(engagement.as_deref(), headers(names::ENGAGEMENT_ID));
    assert_eq!(enriched.authentic, headers(names::UNAUTHENTIC).is_none());
    let EnrichedHeaders { would_count, digests, sent_at, .. } = enriched;
    if let Some(value) = headers(names::FOR_DEDUPE) {
        let rewritten = ForDedupe { would_count, digests, sent_at };
        assert_eq!(rewritten.write(&mut [0; ForDedupe::MAX_BYTES]), value);
    } else if let Some(value) = headers(names::DIMENSION_DIGESTS) {
        assert_eq!(digests.to_bytes(), value);
    }
    if let Some(counters) = enriched.would_count {
        assert_eq!(CounterSet::from_names(&counters.to_string()), Some(counters));
    }
    if let (Ok(event), Some(first)) = (event, headers(names::FIRST)) {
        assert_eq!(event.first.as_header().as_bytes(), first);
    }
}

fn check_tally<'a>(headers: &impl Fn(&str) -> Option<&'a [u8]>) {
    let Ok(tally) = Tally::read(headers) else { return };
    let (counts, corrections) = (tally.counts.map(|it| it.to_string()), tally.corrections);
    let rewritten = corrections.as_ref().map(ToString::to_string);
    assert_eq!(rewritten.map(|text| text.parse()).transpose(), Ok(corrections));
    assert_eq!(counts.map(|names| CounterSet::from_names(&names)), tally.counts.map(Some));
    let Some(counts) = tally.counts else { return };
    let mut value = Vec::new();
    Tally::write(tally.seen, tally.sent, counts, &mut value);
    let rewritten = Tally::read(&|name: &str| (name == names::TALLY).then_some(value.as_slice()));
    let (seen, sent) = (tally.seen, tally.sent);
    assert_eq!(rewritten, Ok(Tally { seen, sent, counts: Some(counts), corrections: None }));
}

fn check_dead_letter(original: &[Header<'_>]) {
    let added: [Header<'_>; 4] = [
        (names::REASON, Reason::NotJson.code().as_bytes()),
        (names::DETAIL, b"why"),
        (names::STAGE, Stage::Enrich.code().as_bytes()),
        (names::ORIGIN, b"mail.raw.delivered/1/2"),
    ];
    let all = [original, &added].concat();
    let read = DeadLetterHeaders::read(&all);
    assert_eq!((read.reason, read.detail, read.stage), ("not_json", "why", "enrich"));
    assert_eq!(read.origin, "mail.raw.delivered/1/2");
    assert_eq!(DeadLetterHeaders::original(&all), original);
    let _ = DeadLetterHeaders::read(original);
    assert!(DeadLetterHeaders::original(original).len() <= original.len());
}

fn check_codes(text: &str) {
    if let Some(origin) = Origin::parse(text) {
        assert_eq!(Origin::parse(&origin.to_string()), Some(origin));
    }
    assert!(Reason::from_code(text).is_none_or(|reason| reason.code() == text));
    assert!(Stage::from_code(text).is_none_or(|stage| stage.code() == text));
    if let Ok(provider) = text.parse::<Provider>() {
        assert!(provider.as_str() == text || provider.aliases().contains(&text));
    }
    assert!(text.parse::<Kind>().is_err() || text.parse().map(Kind::as_str) == Ok(text));
    let first = FirstSeen::from_header(text.as_bytes());
    assert!(first.is_err() || first.map(FirstSeen::as_header) == Ok(text));
}
