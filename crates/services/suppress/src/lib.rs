//! `suppress` decides who must not be mailed, and answers that question.
//!
//! [`stage`] reads `mail.events` and writes `mail.suppressions`, exactly once. The policy is in the library
//! `suppression`. [`follower`] reads `mail.suppressions` into [`store`], so that every instance holds all entries in
//! memory, whichever partitions the stage of this instance owns. [`incidents`] knows which mailbox providers' answers are in
//! doubt, so that their entries are provisional. [`http`] answers from the store. What operators
//! add and lift are records of their own, which no event changes, so every instance can write them.

pub mod agenda;
pub mod audit;
pub mod feed;
pub mod follower;
pub mod http;
pub mod incidents;
pub mod settings;
pub mod stage;
pub mod store;
pub mod streaks;
pub mod waiting;
