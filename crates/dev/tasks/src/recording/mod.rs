//! `cargo xtask record` and `cargo xtask upgrade`.
//!
//! `record` runs an installation, stops it in the middle of its work, and packs everything that it
//! leaves on its disks. `upgrade` starts the services of this checkout on such a recording of an
//! earlier release and compares the results with what is known. See `crates/dev/tasks/recordings`.

mod compare;
mod expected;
mod home;
mod installation;
mod mail;
mod names;
mod old_settings;
mod packing;
pub(crate) mod receiver;
mod record;
mod settings;
mod tables;
mod totals;
mod upgrade;

pub(crate) use record::{Arguments as RecordArguments, record};
pub(crate) use upgrade::{Arguments as UpgradeArguments, upgrade};
