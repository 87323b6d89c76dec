//! What a reason means, and what mends it.

use record::{Reason, Stage};

use super::letter::Letter;

/// What happened, in a sentence.
pub(crate) fn meaning(letter: &Letter<'_>) -> &'static str {
    let Some(reason) = letter.reason() else {
        return "a reason that this release does not know; look with the release that wrote it";
    };
    match reason {
        Reason::NotUtf8 => "the bytes are authentic and not UTF-8, which JSON and forms have to be",
        Reason::NotJson => "the bytes are authentic and not JSON; the detail says where it breaks",
        Reason::NotForm => "the body is authentic and not the form that the provider posts",
        Reason::WrongShape => "JSON, but not what was expected there; the detail says what was",
        Reason::MissingTime => "the event does not say when it happened",
        Reason::UnreadableTime => "the event's time is written in no way its provider is known for",
        Reason::TimeOutOfRange => "the event's time is before 1970 or beyond what can be kept",
        Reason::BadHeaders => "the record lacks a header of its topic; the detail names it",
        Reason::TooLarge => "Kafka takes no record of this size",
        Reason::RowRefused => "ClickHouse refused this row alone; the detail has its words",
        Reason::Redriven => "not a letter: it says that the letter in `origin` was redriven",
    }
}

/// What to do about it, by who gave up and why.
pub(crate) fn mend(letter: &Letter<'_>) -> &'static str {
    use Reason::{BadHeaders, NotForm, NotJson, NotUtf8, RowRefused, TooLarge, WrongShape};
    let (Some(stage), Some(reason)) = (letter.stage(), letter.reason()) else {
        return "nothing this release knows of";
    };
    match (stage, reason) {
        (_, TooLarge) => {
            "raise max.message.bytes of the topic and message.max.bytes of the brokers, then redrive"
        }
        (Stage::Ingress, NotUtf8 | NotJson) => {
            "if the provider posts this, teach its `split`, with these bytes as a fixture \
             (`show --raw`), roll out, then redrive; bytes that were cut short stay what they are"
        }
        (Stage::Ingress, NotForm | WrongShape) => {
            "the provider changed its form, or its webhook is set to another one: teach `split` \
             with these bytes as a fixture (`show --raw`), roll out, then redrive; or set the \
             webhook right at the provider"
        }
        (Stage::Ingress, BadHeaders) => {
            "an ingress of another release wrote it to its spool: look at the bytes with that \
             release, or have the provider post again; it has no way back from here"
        }
        (Stage::Ingress, _) => "read the detail; once `split` takes these bytes, redrive",
        (Stage::Enrich, BadHeaders) => {
            "somebody other than the ingress wrote to the raw topic: find out who; redriven it \
             comes back as it is"
        }
        (Stage::Enrich, _) => {
            "teach the provider's `parse`, with these bytes as a fixture (`show --raw`), roll \
             `enrich` out, then redrive; before that it would come back"
        }
        (Stage::Dedupe, _) => {
            "somebody other than `enrich` wrote to mail.enriched, or an older `enrich` did: \
             if that is mended by `dedupe`, roll it out, then redrive; else leave it"
        }
        (Stage::MonitorFold | Stage::MonitorRate, _) => {
            "rates and alerts lack this, ClickHouse has the event; roll out a `monitor` that reads \
             it, for those to come"
        }
        (Stage::Archive, RowRefused) => {
            "change the table as ClickHouse's words say, then redrive; before that it would come \
             back"
        }
        (Stage::Archive, _) => {
            "roll out an `archive` that reads it, then redrive; a record that somebody other than \
             Mailpulse wrote stays what it is"
        }
        (Stage::Redrive, _) => "nothing: it is not a letter",
    }
}
