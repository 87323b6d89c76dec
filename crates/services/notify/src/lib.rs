//! `notify` delivers incidents from `mail.incidents` to people and to other systems.
//!
//! 1. [`intake`] reads the topic and remembers which offsets every channel has finished.
//! 2. [`preparation`] waits for a moment for newer records of a new incident, and asks ClickHouse for an
//!    explanation ([`explainer`]).
//! 3. [`delivery`] passes the incident to every channel. Each has a [`worker`], which decides by the
//!    channel's [`route`] and [`quiet_hours`] what to deliver, combines what waits ([`message`]), and
//!    repeats the attempts until the receiver accepts the message or `give_up_after` is over.
//! 4. [`channel`] makes one attempt.
//!
//! What is not about incidents is in the library `courier`: requests, their order and their repetition.
//!
//! [`acknowledgements`] takes over what people acknowledge in PagerDuty.
//!
//! An offset is committed once every channel has finished all records up to it, so each channel receives
//! each change at least once. What a channel does not accept becomes a dead letter. Receivers recognise a
//! repeated delivery after a crash by its identity: the labels of an alert in Alertmanager, the
//! `dedup_key` of PagerDuty, the `webhook-id` of a webhook, the `Message-ID` of an e-mail.

pub mod acknowledgements;
pub mod alertmanager;
pub mod channel;
pub mod delivery;
pub mod email;
pub mod explainer;
pub mod intake;
pub mod message;
pub mod newest;
pub mod open_incidents;
pub mod pagerduty;
pub mod preparation;
pub mod quiet_hours;
pub mod received;
pub mod route;
pub mod settings;
pub mod slack;
pub mod teams;
pub mod webhook;
pub mod worker;

#[cfg(test)]
mod sample {
    include!("../tests/support/sample.rs");

    /// Returns the incident as notify reads it.
    pub fn received(change: Change, seq: u32, source: &str) -> crate::received::Received {
        read(&incident(change, seq, source))
    }

    /// Reads a value of `mail.incidents`.
    pub fn read(incident: &Value) -> crate::received::Received {
        let record = kafka::OwnedRecord {
            topic: "mail.incidents".to_owned(),
            partition: 0,
            offset: kafka::Offset(1),
            key: Vec::new(),
            value: Some(incident.to_string().into_bytes()),
            headers: Vec::new(),
        };
        crate::received::Received::read(&record).unwrap().unwrap()
    }
}
