//! Finds where a dead letter can be redriven to.

use std::collections::BTreeMap;
use std::fmt;

use event::{Kind, Provider};
use kafka::{Outgoing, Output};
use providers::{Content, Mappings, OverLimit, SplitBody, SplitError};
use record::{DeadLetterHeaders, Origin, Reason, Stage, Topics, names};

use super::Splitting;
use super::dead_letter_record::DeadLetterRecord;

/// The topics to which a redrive publishes a dead letter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Route {
    /// A request body that can be split now: its events go to the raw topics.
    Split {
        provider: Provider,
        /// The number of events of each kind. Empty if the body has no events, such as a ping.
        kinds: BTreeMap<Kind, u64>,
        /// The bytes of all events. With SES, each recipient's event is the whole body.
        bytes: usize,
    },
    /// A record, which goes unchanged to the partition it came from.
    Back {
        topic: String,
        partition: i32,
        /// The only stage that must process the record, if other consumers of the topic have
        /// already processed it.
        redriven_for: Option<Stage>,
    },
}

/// Why a dead letter cannot be redriven.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotRedrivable {
    /// A later release wrote the dead letter.
    #[error("this release does not know the stage `{0}`")]
    UnknownStage(String),
    #[error("`{}` could not count it, but ClickHouse has the event; a redrive would store it twice", .0.code())]
    OnlyCounted(Stage),
    #[error("the header `provider` is missing or names an unknown provider")]
    UnknownProvider,
    #[error("it still cannot be split: {0}")]
    StillNotSplit(SplitError),
    #[error("{0}; raise the setting")]
    OverLimit(OverLimit),
    #[error(
        "Kafka accepted only the beginning of it; the whole record is at its origin, if it has one and \
         the topic still has it"
    )]
    Truncated,
    /// Only the ingress confirms subscriptions.
    #[error("it asks to confirm an SNS subscription; let SNS send the request again")]
    Confirmation,
    #[error("the header `origin` is missing or malformed")]
    NoOrigin,
    #[error("it came from `{topic}`, which `{}` does not read", stage.code())]
    ForeignOrigin { stage: Stage, topic: String },
    /// A `notify` of an earlier release gave up on an alert. Now it reads incidents.
    #[error("`notify` no longer reads `{0}`: it delivers incidents, not alerts")]
    WouldStoreAgain(String),
}

impl NotRedrivable {
    /// The stable code.
    pub(crate) const fn code(&self) -> &'static str {
        match self {
            Self::UnknownStage(_) => "unknown_stage",
            Self::OnlyCounted(_) => "only_counted",
            Self::UnknownProvider => "unknown_provider",
            Self::StillNotSplit(_) => "still_not_split",
            Self::OverLimit(_) => "over_limit",
            Self::Truncated => "truncated",
            Self::Confirmation => "confirmation",
            Self::NoOrigin => "no_origin",
            Self::ForeignOrigin { .. } => "foreign_origin",
            Self::WouldStoreAgain(_) => "would_store_again",
        }
    }
}

impl Route {
    /// Finds the route. Publishes nothing.
    pub(crate) fn of(
        dead_letter: &DeadLetterRecord<'_>,
        topics: &Topics,
        splitting: &Splitting,
    ) -> Result<Self, NotRedrivable> {
        if DeadLetterHeaders::is_truncated(&dead_letter.headers) {
            return Err(NotRedrivable::Truncated);
        }
        let unknown = || NotRedrivable::UnknownStage(dead_letter.added.stage.to_owned());
        match dead_letter.stage().ok_or_else(unknown)? {
            Stage::Ingress => split_again(dead_letter, splitting),
            stage @ (Stage::Enrich
            | Stage::Dedupe
            | Stage::Incidents
            | Stage::Archive
            | Stage::Notify
            | Stage::Forward
            | Stage::AutomateMatch
            | Stage::AutomateLimit
            | Stage::AutomateDeliver) => back_to_origin(dead_letter, stage, topics),
            stage @ (Stage::MonitorFold | Stage::MonitorRate | Stage::Suppress) => {
                Err(NotRedrivable::OnlyCounted(stage))
            }
            // Its records are markers.
            Stage::Redrive => Err(unknown()),
        }
    }

    /// Returns the bytes of the values that [`Route::publish`] publishes.
    pub(crate) fn bytes(&self, dead_letter: &DeadLetterRecord<'_>) -> usize {
        match self {
            Self::Split { bytes, .. } => *bytes,
            Self::Back { .. } => dead_letter.value.len(),
        }
    }

    /// Publishes the dead letter.
    ///
    /// # Errors
    /// If Kafka rejects a record.
    pub(crate) fn publish(
        &self,
        dead_letter: &DeadLetterRecord<'_>,
        topics: &Topics,
        mappings: &Mappings,
        out: &mut Output<'_>,
    ) -> Result<(), kafka::Error> {
        let mut headers = DeadLetterHeaders::original(&dead_letter.headers);
        let (topic, partition, redriven_for) = match self {
            Self::Split { provider, .. } => {
                let split = split(*provider, dead_letter, mappings);
                // `split_again` has split the same bytes, so this does not fail.
                let split = split.map_err(kafka::Error::state)?;
                headers.retain(|(name, _)| *name != names::MAPPED);
                if mappings.has(*provider, source(dead_letter)) {
                    headers.push((names::MAPPED, b""));
                }
                return publish_events(&split, &headers, topics, out);
            }
            Self::Back { topic, partition, redriven_for } => (topic, *partition, *redriven_for),
        };
        if let Some(stage) = redriven_for {
            // The record has this header already if it became a dead letter again after a redrive.
            headers.retain(|(name, _)| *name != names::REDRIVEN);
            headers.push((names::REDRIVEN, stage.code().as_bytes()));
        }
        let (key, value) = (dead_letter.key, Some(dead_letter.value));
        out.send(Outgoing { topic, partition: Some(partition), key, value, headers: &headers })
    }
}

/// Splits a request body like the ingress.
fn split_again(
    dead_letter: &DeadLetterRecord<'_>,
    splitting: &Splitting,
) -> Result<Route, NotRedrivable> {
    let provider = dead_letter.provider().ok_or(NotRedrivable::UnknownProvider)?;
    let split =
        split(provider, dead_letter, &splitting.mappings).map_err(NotRedrivable::StillNotSplit)?;
    splitting.limits.check(&split).map_err(NotRedrivable::OverLimit)?;
    if matches!(split.content(), Content::ConfirmSubscription { .. }) {
        return Err(NotRedrivable::Confirmation);
    }
    let (mut kinds, mut bytes) = (BTreeMap::new(), 0);
    for event in split.events() {
        *kinds.entry(event.kind).or_default() += 1;
        bytes += event.raw.len();
    }
    Ok(Route::Split { provider, kinds, bytes })
}

/// Splits with the mapping of the source. This machine may not have the settings of every source;
/// that is an error only if the ingress needed a mapping.
fn split<'b>(
    provider: Provider,
    dead_letter: &DeadLetterRecord<'b>,
    mappings: &Mappings,
) -> Result<SplitBody<'b>, SplitError> {
    let source = source(dead_letter);
    let was_mapped = dead_letter.headers.iter().any(|(name, _)| *name == names::MAPPED);
    if was_mapped && !mappings.has(provider, source) {
        return Err(SplitError::NoMapping);
    }
    let lacked_mapping = dead_letter.added.reason == Reason::NoMapping.code();
    if lacked_mapping || mappings.has(provider, source) {
        return mappings.split(provider, source, dead_letter.value);
    }
    providers::split(provider, dead_letter.value)
}

/// Returns the name of the source, or an empty text.
fn source<'a>(dead_letter: &DeadLetterRecord<'a>) -> &'a str {
    let header = dead_letter.headers.iter().find(|(name, _)| *name == names::SOURCE);
    header.and_then(|&(_, value)| std::str::from_utf8(value).ok()).unwrap_or_default()
}

/// Publishes the events of a body like the ingress.
fn publish_events(
    split: &SplitBody<'_>,
    headers: &[(&str, &[u8])],
    topics: &Topics,
    out: &mut Output<'_>,
) -> Result<(), kafka::Error> {
    for raw in split.events() {
        out.send(Outgoing {
            topic: topics.raw(raw.kind),
            partition: None,
            key: raw.recipient.as_bytes(),
            value: Some(raw.raw),
            headers,
        })?;
    }
    Ok(())
}

fn back_to_origin(
    dead_letter: &DeadLetterRecord<'_>,
    stage: Stage,
    topics: &Topics,
) -> Result<Route, NotRedrivable> {
    let Origin { topic, partition, .. } =
        Origin::parse(dead_letter.added.origin).ok_or(NotRedrivable::NoOrigin)?;
    let is_input = match stage {
        Stage::Enrich => topics.all_raw().any(|raw| raw == topic),
        Stage::Dedupe => topic == topics.enriched,
        Stage::Incidents => topic == topics.alerts,
        Stage::Archive => {
            [&topics.events, &topics.rates, &topics.alerts, &topics.incidents, &topics.actions]
                .into_iter()
                .any(|input| input == topic)
        }
        Stage::Notify if topic == topics.alerts => {
            return Err(NotRedrivable::WouldStoreAgain(topic.to_owned()));
        }
        Stage::Notify => topic == topics.incidents,
        Stage::Forward | Stage::AutomateMatch => topic == topics.events,
        Stage::AutomateLimit => topic == topics.intents || topic == topics.incidents,
        Stage::AutomateDeliver => topic == topics.actions,
        Stage::Ingress
        | Stage::MonitorFold
        | Stage::MonitorRate
        | Stage::Suppress
        | Stage::Redrive => false,
    };
    if !is_input {
        return Err(NotRedrivable::ForeignOrigin { stage, topic: topic.to_owned() });
    }
    // Other consumers have already processed the record: `monitor` one of mail.events, and dedupe's ledger
    // one of mail.enriched. Only one stage reads a raw topic or mail.rates.
    let has_other_readers =
        [&topics.events, &topics.enriched, &topics.alerts, &topics.incidents, &topics.actions]
            .into_iter()
            .any(|input| input == topic);
    let redriven_for = has_other_readers.then_some(stage);
    Ok(Route::Back { topic: topic.to_owned(), partition, redriven_for })
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Split { kinds, .. } if kinds.is_empty() => f.write_str("it has no events"),
            Self::Split { kinds, .. } => {
                let counts = kinds.iter().map(|(kind, count)| format!("{count} {kind}"));
                let counts: Vec<_> = counts.collect();
                write!(f, "split into {}", counts.join(", "))
            }
            Self::Back { topic, partition, redriven_for: None } => {
                write!(f, "to {topic}/{partition}")
            }
            Self::Back { topic, partition, redriven_for: Some(stage) } => {
                write!(f, "to {topic}/{partition}, for {} alone", stage.code())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use providers::SplitLimits;

    use super::*;
    use crate::dead_letter_id::DeadLetterId;

    fn splitting() -> Splitting {
        let limits = SplitLimits { events: 3, recipients: 2, published_bytes: 1_000_000 };
        Splitting { mappings: Mappings::default(), limits }
    }

    fn find_route(
        stage: &str,
        provider: &str,
        origin: &str,
        value: &[u8],
    ) -> Result<Route, NotRedrivable> {
        let headers: [(&str, &[u8]); 3] = [
            (names::PROVIDER, provider.as_bytes()),
            (names::STAGE, stage.as_bytes()),
            (names::ORIGIN, origin.as_bytes()),
        ];
        let dead_letter = DeadLetterRecord {
            id: DeadLetterId { partition: 0, offset: 0 },
            key: b"",
            value,
            added: DeadLetterHeaders::read(&headers),
            headers: headers.to_vec(),
        };
        Route::of(&dead_letter, &Topics::new("t."), &splitting())
    }

    fn route(stage: &str, provider: &str, origin: &str, value: &[u8]) -> Result<String, String> {
        find_route(stage, provider, origin, value)
            .map(|route| route.to_string())
            .map_err(|reason| reason.code().to_owned())
    }

    #[test]
    fn a_dead_letter_that_was_cut_is_not_redriven() {
        let headers: [(&str, &[u8]); 3] = [
            (names::STAGE, b"enrich"),
            (names::ORIGIN, b"t.mail.raw.bounced/0/1"),
            (names::TRUNCATED, b"30000000"),
        ];
        let dead_letter = DeadLetterRecord {
            id: DeadLetterId { partition: 0, offset: 0 },
            key: b"",
            value: b"{",
            added: DeadLetterHeaders::read(&headers),
            headers: headers.to_vec(),
        };
        let route = Route::of(&dead_letter, &Topics::new("t."), &splitting());
        assert_eq!(route, Err(NotRedrivable::Truncated));
    }

    #[test]
    fn records_go_back_to_the_topics_their_stage_reads() {
        let back = |stage, origin| route(stage, "", origin, b"");
        let to = |text: &str| Ok(text.to_owned());
        let not = |text: &str| Err(text.to_owned());
        assert_eq!(back("enrich", "t.mail.raw.opened/2/7"), to("to t.mail.raw.opened/2"));
        assert_eq!(
            back("dedupe", "t.mail.enriched/0/7"),
            to("to t.mail.enriched/0, for dedupe alone")
        );
        assert_eq!(back("archive", "t.mail.rates/1/7"), to("to t.mail.rates/1"));
        let for_archive = to("to t.mail.events/1, for archive alone");
        assert_eq!(back("archive", "t.mail.events/1/7"), for_archive);
        assert_eq!(
            back("archive", "t.mail.alerts/1/7"),
            to("to t.mail.alerts/1, for archive alone")
        );
        assert_eq!(
            back("archive", "t.mail.incidents/1/7"),
            to("to t.mail.incidents/1, for archive alone")
        );
        assert_eq!(
            back("monitor-incidents", "t.mail.alerts/0/7"),
            to("to t.mail.alerts/0, for monitor-incidents alone")
        );
        assert_eq!(back("monitor-incidents", "t.mail.incidents/0/7"), not("foreign_origin"));
        assert_eq!(
            back("notify", "t.mail.incidents/1/7"),
            to("to t.mail.incidents/1, for notify alone")
        );
        assert_eq!(
            back("archive", "t.mail.actions/1/7"),
            to("to t.mail.actions/1, for archive alone")
        );
        assert_eq!(
            back("automate-deliver", "t.mail.actions/1/7"),
            to("to t.mail.actions/1, for automate-deliver alone")
        );
        assert_eq!(back("archive", "t.mail.dead-letters/1/7"), not("foreign_origin"));
        assert_eq!(back("enrich", "mail.raw.opened/2/7"), not("foreign_origin"), "no prefix");
        assert_eq!(back("dedupe", "t.mail.events/0/7"), not("foreign_origin"));
        assert_eq!(back("enrich", ""), not("no_origin"));
        assert_eq!(back("monitor-fold", "t.mail.events/0/7"), not("only_counted"));
        assert_eq!(back("monitor-rate", "t.mail.panes/0/7"), not("only_counted"));
        assert_eq!(back("notify", "t.mail.alerts/1/7"), not("would_store_again"));
        assert_eq!(back("doctor", "t.mail.events/0/7"), not("unknown_stage"));
    }

    #[test]
    fn bodies_are_split_again() {
        let split = |provider, value| route("ingress", provider, "", value);
        let two = br#"[{"event":"open","email":"ada@example.com"},{"event":"bounce"}]"#;
        assert_eq!(split("sendgrid", two).unwrap(), "split into 1 bounced, 1 opened");
        assert_eq!(split("mandrill", b"mandrill_events=%5B%5D").unwrap(), "it has no events");
        assert_eq!(split("sendgrid", b"[{").unwrap_err(), "still_not_split");
        let four = b"[{},{},{},{}]";
        assert_eq!(split("sendgrid", four).unwrap_err(), "over_limit");
        assert_eq!(split("pigeon", two).unwrap_err(), "unknown_provider");
        let subscribe = br#"{"Type":"SubscriptionConfirmation","TopicArn":"arn:aws:sns:eu-west-1:123456789012:t",
            "SubscribeURL":"https://sns.eu-west-1.amazonaws.com/?Action=ConfirmSubscription&Token=x"}"#;
        assert_eq!(split("ses", subscribe).unwrap_err(), "confirmation");
    }

    #[test]
    fn a_body_that_is_published_for_each_recipient_counts_for_each() {
        let message = r#"{\"eventType\":\"Delivery\",\"mail\":{},\"delivery\":{\"recipients\":
            [\"ada@example.com\",\"bob@example.com\"]}}"#;
        let body =
            format!(r#"{{"Type":"Notification","Message":"{}"}}"#, message.replace('\n', ""));
        let route = find_route("ingress", "ses", "", body.as_bytes()).unwrap();
        let Route::Split { kinds, bytes, .. } = route else { panic!("{route:?}") };
        assert_eq!((kinds, bytes), ([(Kind::Delivered, 2)].into(), 2 * body.len()));
    }
}
