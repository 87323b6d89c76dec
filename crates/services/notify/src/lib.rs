//! `notify`: alert transitions from `mail.alerts` to people.
//!
//! [`intake`] reads the topic and remembers which offsets every channel is through with;
//! [`delivery`] runs one task per channel, which tries until the channel takes a transition or
//! `give_up_after` is over; [`channel`] is what a channel does with one. An offset is committed once
//! every channel is through with everything up to it: at least once, per channel.
//!
//! A repeat after a crash is told apart by its identity: the alert's labels in Alertmanager, the
//! `webhook-id` of a webhook.

pub mod alertmanager;
pub mod backoff;
pub mod channel;
pub mod delivery;
pub mod endpoint;
pub mod intake;
pub mod progress;
pub mod settings;
pub mod transition;
pub mod webhook;
