//! `notify` delivers alert transitions from `mail.alerts` to people.
//!
//! [`intake`] reads the topic and remembers which offsets every channel has finished. [`delivery`] runs
//! one task per channel, which repeats the attempts for a transition until the channel accepts it or
//! `give_up_after` is over. [`channel`] makes one attempt. An offset is committed once every channel
//! has finished all records up to it, so each channel receives each transition at least once.
//!
//! Receivers recognise a repeated delivery after a crash by its identity: by the labels of an alert in
//! Alertmanager, and by the `webhook-id` of a webhook.

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
