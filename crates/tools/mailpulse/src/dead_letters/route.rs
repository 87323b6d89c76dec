//! Where a letter can go on.

use std::collections::BTreeMap;
use std::fmt;

use event::{Kind, Provider};
use providers::{Split, SplitError};
use record::{DeadLetter, Origin, Stage, Topics, names};
use kafka::{Outgoing, Output, StreamError};

use super::letter::Letter;

/// Where a letter goes, and as what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Route {
    /// A body that the ingress could not split and we can: its events, to the raw topics.
    Split {
        /// Whose body.
        provider: Provider,
        /// How many of each kind; none where the body turns out to say nothing, such as a ping.
        kinds: BTreeMap<Kind, u64>,
        /// Of all events together. An SES body goes out whole for each of its recipients.
        bytes: usize,
    },
    /// A record, to the partition it came from, as it was.
    Back {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// The one reader it is for, where the topic has others that did take it.
        again_for: Option<Stage>,
    },
}

/// Why a letter stays.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Stays {
    /// A later release wrote it.
    #[error("this release knows no stage `{0}`")]
    UnknownStage(String),
    /// What the monitor cannot count has no way back.
    #[error("what `{}` could not count is in ClickHouse; sent back it would be there twice", .0.code())]
    OnlyCounted(Stage),
    /// Its providers name is none of ours.
    #[error("the header `provider` names no provider")]
    UnknownProvider,
    /// The splitter has not learnt it yet.
    #[error("it still cannot be split: {0}")]
    StillNotSplit(SplitError),
    /// Only the ingress fetches addresses.
    #[error("it asks to confirm an SNS subscription; have SNS post that again")]
    Confirmation,
    /// It does not say where it came from.
    #[error("the header `origin` does not say where it came from")]
    NoOrigin,
    /// Its stage reads no such topic.
    #[error("it came from `{topic}`, which `{}` does not read", stage.code())]
    ForeignOrigin {
        /// Who gave up on it.
        stage: Stage,
        /// Where it says it came from.
        topic: String,
    },
    /// The archive's second topic of several readers.
    #[error("`{0}` is read by `notify` too, which would tell people again")]
    WouldTellAgain(String),
}

impl Stays {
    /// The stable code.
    pub(crate) const fn code(&self) -> &'static str {
        match self {
            Self::UnknownStage(_) => "unknown_stage",
            Self::OnlyCounted(_) => "only_counted",
            Self::UnknownProvider => "unknown_provider",
            Self::StillNotSplit(_) => "still_not_split",
            Self::Confirmation => "confirmation",
            Self::NoOrigin => "no_origin",
            Self::ForeignOrigin { .. } => "foreign_origin",
            Self::WouldTellAgain(_) => "would_tell_again",
        }
    }
}

impl Route {
    /// Finds it; nothing is sent.
    ///
    /// # Errors
    /// When there is none.
    pub(crate) fn of(letter: &Letter<'_>, topics: &Topics) -> Result<Self, Stays> {
        let stage =
            letter.stage().ok_or_else(|| Stays::UnknownStage(letter.death.stage.to_owned()))?;
        match stage {
            Stage::Ingress => split(letter),
            Stage::Enrich | Stage::Dedupe | Stage::Archive => back(letter, stage, topics),
            Stage::MonitorFold | Stage::MonitorRate => Err(Stays::OnlyCounted(stage)),
            // Its records are markers, which no one asks the way for.
            Stage::Redrive => Err(Stays::UnknownStage(letter.death.stage.to_owned())),
        }
    }

    /// How many bytes of values go out.
    pub(crate) fn bytes(&self, letter: &Letter<'_>) -> usize {
        match self {
            Self::Split { bytes, .. } => *bytes,
            Self::Back { .. } => letter.value.len(),
        }
    }

    /// Sends the letter there.
    ///
    /// # Errors
    /// When Kafka takes no more.
    pub(crate) fn send(
        &self,
        letter: &Letter<'_>,
        topics: &Topics,
        out: &mut Output<'_>,
    ) -> Result<(), StreamError> {
        let mut headers = DeadLetter::original_headers(&letter.headers);
        let (topic, partition, again_for) = match self {
            Self::Split { provider, .. } => {
                return publish(*provider, letter, &headers, topics, out);
            }
            Self::Back { topic, partition, again_for } => (topic, *partition, *again_for),
        };
        if let Some(reader) = again_for {
            // It may have come back before, and died again.
            headers.retain(|(name, _)| *name != names::REDRIVEN);
            headers.push((names::REDRIVEN, reader.code().as_bytes()));
        }
        let (key, value) = (letter.key, Some(letter.value));
        out.send(Outgoing { topic, partition: Some(partition), key, value, headers: &headers })
    }
}

/// What the ingress would do with the body by now.
fn split(letter: &Letter<'_>) -> Result<Route, Stays> {
    let provider = letter.provider().ok_or(Stays::UnknownProvider)?;
    let (mut kinds, mut bytes) = (BTreeMap::new(), 0);
    let split = providers::split(provider, letter.value, &mut |event| {
        *kinds.entry(event.kind).or_default() += 1;
        bytes += event.raw.len();
    });
    match split {
        Ok(Split::Events(_) | Split::Ping | Split::Unsubscribed { .. }) => {
            Ok(Route::Split { provider, kinds, bytes })
        }
        Ok(Split::ConfirmSubscription { .. }) => Err(Stays::Confirmation),
        Err(error) => Err(Stays::StillNotSplit(error)),
    }
}

/// Publishes the events of a body as the ingress does.
fn publish(
    provider: Provider,
    letter: &Letter<'_>,
    headers: &[(&str, &[u8])],
    topics: &Topics,
    out: &mut Output<'_>,
) -> Result<(), StreamError> {
    let mut sent = Ok(());
    let split = providers::split(provider, letter.value, &mut |raw| {
        if sent.is_ok() {
            sent = out.send(Outgoing {
                topic: topics.raw(raw.kind),
                partition: None,
                key: raw.recipient.as_bytes(),
                value: Some(raw.raw),
                headers,
            });
        }
    });
    // The same bytes were split when the route was found.
    split.map_err(StreamError::state).and(sent)
}

fn back(letter: &Letter<'_>, stage: Stage, topics: &Topics) -> Result<Route, Stays> {
    let Origin { topic, partition, .. } =
        Origin::parse(letter.death.origin).ok_or(Stays::NoOrigin)?;
    let is_read = match stage {
        Stage::Enrich => topics.all_raw().any(|raw| raw == topic),
        Stage::Dedupe => topic == topics.enriched,
        Stage::Archive if topic == topics.alerts => {
            return Err(Stays::WouldTellAgain(topic.to_owned()));
        }
        Stage::Archive => topic == topics.events || topic == topics.rates,
        Stage::Ingress | Stage::MonitorFold | Stage::MonitorRate | Stage::Redrive => false,
    };
    if !is_read {
        return Err(Stays::ForeignOrigin { stage, topic: topic.to_owned() });
    }
    // Others read these, or counted it when it came by: it is not a new one to them.
    let again_for = match topic {
        topic if topic == topics.events => Some(Stage::Archive),
        topic if topic == topics.enriched => Some(Stage::Dedupe),
        _ => None,
    };
    Ok(Route::Back { topic: topic.to_owned(), partition, again_for })
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
            Self::Back { topic, partition, again_for: None } => write!(f, "to {topic}/{partition}"),
            Self::Back { topic, partition, again_for: Some(reader) } => {
                write!(f, "to {topic}/{partition}, for {} alone", reader.code())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::letter_id::LetterId;

    fn found(stage: &str, provider: &str, origin: &str, value: &[u8]) -> Result<Route, Stays> {
        let headers: [(&str, &[u8]); 3] = [
            (names::PROVIDER, provider.as_bytes()),
            (names::STAGE, stage.as_bytes()),
            (names::ORIGIN, origin.as_bytes()),
        ];
        let letter = Letter {
            id: LetterId { partition: 0, offset: 0 },
            key: b"",
            value,
            death: DeadLetter::read(&headers),
            headers: headers.to_vec(),
        };
        Route::of(&letter, &Topics::new("t."))
    }

    fn route(stage: &str, provider: &str, origin: &str, value: &[u8]) -> Result<String, String> {
        found(stage, provider, origin, value)
            .map(|route| route.to_string())
            .map_err(|stays| stays.code().to_owned())
    }

    #[test]
    fn records_go_back_to_the_topics_their_stage_reads() {
        let back = |stage, origin| route(stage, "", origin, b"");
        let to = |text: &str| Ok(text.to_owned());
        let stays = |text: &str| Err(text.to_owned());
        assert_eq!(back("enrich", "t.mail.raw.opened/2/7"), to("to t.mail.raw.opened/2"));
        assert_eq!(
            back("dedupe", "t.mail.enriched/0/7"),
            to("to t.mail.enriched/0, for dedupe alone")
        );
        assert_eq!(back("archive", "t.mail.rates/1/7"), to("to t.mail.rates/1"));
        let alone = to("to t.mail.events/1, for archive alone");
        assert_eq!(back("archive", "t.mail.events/1/7"), alone);
        assert_eq!(back("archive", "t.mail.alerts/1/7"), stays("would_tell_again"));
        assert_eq!(back("archive", "t.mail.dead-letters/1/7"), stays("foreign_origin"));
        assert_eq!(back("enrich", "mail.raw.opened/2/7"), stays("foreign_origin"), "no prefix");
        assert_eq!(back("dedupe", "t.mail.events/0/7"), stays("foreign_origin"));
        assert_eq!(back("enrich", ""), stays("no_origin"));
        assert_eq!(back("monitor-fold", "t.mail.events/0/7"), stays("only_counted"));
        assert_eq!(back("monitor-rate", "t.mail.panes/0/7"), stays("only_counted"));
        assert_eq!(back("doctor", "t.mail.events/0/7"), stays("unknown_stage"));
    }

    #[test]
    fn bodies_are_split_again() {
        let split = |provider, value| route("ingress", provider, "", value);
        let two = br#"[{"event":"open","email":"ada@example.com"},{"event":"bounce"}]"#;
        assert_eq!(split("sendgrid", two).unwrap(), "split into 1 bounced, 1 opened");
        assert_eq!(split("mandrill", b"mandrill_events=%5B%5D").unwrap(), "it has no events");
        assert_eq!(split("sendgrid", b"[{").unwrap_err(), "still_not_split");
        assert_eq!(split("pigeon", two).unwrap_err(), "unknown_provider");
        let subscribe = br#"{"Type":"SubscriptionConfirmation","TopicArn":"arn:aws:sns:eu-west-1:123456789012:t",
            "SubscribeURL":"https://sns.eu-west-1.amazonaws.com/?Action=ConfirmSubscription&Token=x"}"#;
        assert_eq!(split("ses", subscribe).unwrap_err(), "confirmation");
    }

    #[test]
    fn a_body_that_goes_out_for_each_recipient_counts_for_each() {
        let message = r#"{\"eventType\":\"Delivery\",\"mail\":{},\"delivery\":{\"recipients\":
            [\"ada@example.com\",\"bob@example.com\"]}}"#;
        let body =
            format!(r#"{{"Type":"Notification","Message":"{}"}}"#, message.replace('\n', ""));
        let route = found("ingress", "ses", "", body.as_bytes()).unwrap();
        let Route::Split { kinds, bytes, .. } = route else { panic!("{route:?}") };
        assert_eq!((kinds, bytes), ([(Kind::Delivered, 2)].into(), 2 * body.len()));
    }
}
