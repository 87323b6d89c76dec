//! Delivers the actions of `mail.actions`: each at least once, in the order of its recipient at each receiver.
//!
//! Every action of a rule has a worker of its own, so that a slow receiver delays nobody else. If too much waits for
//! one, what comes next becomes a dead letter: it can be redriven when the receiver works again. An offset is committed
//! when everything before it is finished; after a crash, actions are delivered again, under the same id.
//!
//! An action that waits while more than 10,000 later actions of its partition are finished becomes a dead letter as
//! well. So a restart repeats at most about 10,000 finished actions of each partition.

mod intake;
mod outgoing;
mod partition;
mod receiver;
mod suppressions;

pub(crate) use intake::Intake;
pub(crate) use receiver::Receivers;
pub(crate) use suppressions::Suppressions;
