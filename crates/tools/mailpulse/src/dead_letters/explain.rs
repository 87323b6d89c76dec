//! Explains reasons of dead letters. `docs/reason-codes/` has the long form.

use record::{Reason, Stage};

use super::dead_letter_record::DeadLetterRecord;

/// Returns what happened.
pub(crate) fn meaning(dead_letter: &DeadLetterRecord<'_>) -> &'static str {
    let Some(reason) = dead_letter.reason() else {
        return "this release does not know the reason; use the release that wrote the dead letter";
    };
    match reason {
        Reason::NotUtf8 => "the bytes are authentic, but not UTF-8",
        Reason::NotJson => {
            "the bytes are authentic, but not JSON; the detail has the position of the error"
        }
        Reason::NotForm => "the body is authentic, but not the form that the provider posts",
        Reason::WrongShape => {
            "the JSON does not have the expected fields; the detail names the field"
        }
        Reason::MissingTime => "the event has no time",
        Reason::UnreadableTime => {
            "the event's time has a format that the provider does not document"
        }
        Reason::TimeOutOfRange => "the event's time is outside the supported years",
        Reason::NoMapping => {
            "only the mapping of its source tells where the fields are, and the source has none in \
             the settings"
        }
        Reason::BadHeaders => "the record lacks a header of its topic; the detail names it",
        Reason::TooLarge => {
            "the body exceeds a limit of the ingress, or Kafka rejected the record because of its \
             size; the detail has the limit"
        }
        Reason::KafkaRefused => "Kafka rejected the record; the detail has its error",
        Reason::RowRefused => "ClickHouse rejected this row; the detail has its message",
        Reason::Undeliverable => {
            "a channel could not deliver the incident: its receiver rejected the message for good, or \
             `give_up_after` of the channel is over; the header `channel` names the channel"
        }
        Reason::Redriven => "a marker: the dead letter in `origin` was redriven",
    }
}

/// Returns what to do about it.
pub(crate) fn fix(dead_letter: &DeadLetterRecord<'_>) -> &'static str {
    use Reason::{
        BadHeaders, NoMapping, NotForm, NotJson, NotUtf8, RowRefused, TooLarge, Undeliverable,
        WrongShape,
    };
    let (Some(stage), Some(reason)) = (dead_letter.stage(), dead_letter.reason()) else {
        return "unknown to this release";
    };
    match (stage, reason) {
        (Stage::Ingress, TooLarge) => {
            "if the body is genuine, raise the setting that the detail names, restart `ingress`, then \
             redrive; if Kafka rejected one event, raise max.message.bytes of the topic and let the \
             provider post it again"
        }
        (_, TooLarge) => {
            "raise max.message.bytes of the topic and message.max.bytes of the brokers, then \
             redrive"
        }
        (_, NoMapping) => {
            "restore the [[source]] with its `events`, `fields` and `kinds` in the settings of this \
             stage and of this tool, restart the stage, then redrive"
        }
        (Stage::Ingress, NotUtf8 | NotJson) => {
            "if the provider posts this on purpose, extend its `split` with these bytes as a \
             fixture (`show --raw`), deploy it, then redrive; if the bytes are cut off, let the \
             provider post again"
        }
        (Stage::Ingress, NotForm | WrongShape) => {
            "the provider changed its format, or another kind of webhook posts to this source: \
             extend `split` with these bytes as a fixture (`show --raw`), deploy it, then redrive; \
             or correct the webhook at the provider"
        }
        (Stage::Ingress, BadHeaders) => {
            "an ingress of another release wrote it to its spool: look at the bytes with that \
             release, or let the provider post again; it cannot be redriven"
        }
        (Stage::Ingress, _) => "read the detail; when `split` accepts these bytes, redrive",
        (Stage::Enrich, BadHeaders) => {
            "a program other than the ingress wrote to the raw topic: find it; a redriven record \
             fails again"
        }
        (Stage::Enrich, _) => {
            "extend the provider's `parse` with these bytes as a fixture (`show --raw`), deploy \
             `enrich`, then redrive; before that it fails again"
        }
        (Stage::Dedupe, _) => {
            "a program other than `enrich`, or an older `enrich`, wrote to mail.enriched: if a \
             newer `dedupe` reads such records, deploy it, then redrive; otherwise leave the dead \
             letter"
        }
        (Stage::MonitorFold | Stage::MonitorRate, _) => {
            "rates and alerts lack the event, and ClickHouse has it; deploy a `monitor` that reads \
             such records, for later ones"
        }
        (Stage::Incidents, _) => {
            "the incidents lack this alert or action: if `monitor` or this tool wrote it, deploy a \
             `monitor` that reads it, then redrive; an action of a person whose incident is over or not \
             known has no effect, and the dead letter can stay"
        }
        (Stage::Archive, RowRefused) => {
            "change the table so that it accepts the row, then redrive; before that it fails again"
        }
        (Stage::Archive, _) => {
            "deploy an `archive` that reads such records, then redrive; if another program than \
             Mailpulse wrote it, leave the dead letter"
        }
        (Stage::Notify, Undeliverable) => {
            "correct the settings of the channel in the header `channel`, or repair its receiver, then \
             redrive; only this channel delivers it again"
        }
        (Stage::Notify, _) => {
            "no channel received this incident; if `monitor` wrote it, deploy a `notify` that reads \
             such records, then redrive"
        }
        (Stage::Suppress, _) => {
            "no entry was made of the event; if it is a bounce, a complaint or an unsubscription, add its recipient \
             with `mailpulse suppressions add`; deploy a `suppress` that reads such records, so that later events count"
        }
        (Stage::Forward, Undeliverable) => {
            "correct the settings of the forward in the header `forward`, or repair its receiver, then \
             redrive; only this forward sends the event again"
        }
        (Stage::Forward, _) => {
            "no forward has sent this event; if `dedupe` wrote it, deploy a `forward` that reads such \
             records, then redrive"
        }
        (Stage::AutomateMatch | Stage::AutomateLimit, _) => {
            "no rule has acted on the record; if `dedupe` or `automate` wrote it, deploy an `automate` that \
             reads such records, then redrive"
        }
        (Stage::AutomateDeliver, _) => {
            "correct the action in the settings of `automate`, or repair its receiver, then redrive; the action \
             keeps its id"
        }
        (Stage::Redrive, _) => "nothing, it is a marker",
    }
}
