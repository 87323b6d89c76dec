//! Dead letters: written by services that do not run a [`crate::Stage`], and read and redriven by the
//! operator's tool.

mod redrive;
mod view;
mod writer;

pub use redrive::{Redrive, RedriveError};
pub use view::{DeadLetterView, Entry};
pub use writer::{DeadLetterWriter, FailedRecord};
