//! The project's own tasks, run as `cargo xtask TASK`.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a tool for people at a terminal")]

mod bench;
mod build;
mod chaos;
mod check;
mod demo;
mod pipeline;
mod scrape;
mod suite;
mod supervisor;
mod view;

use clap::{Parser, Subcommand};

/// What to do.
#[derive(Parser)]
#[command(name = "cargo xtask", about = "Mailpulse's own tasks")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Build, start everything, post signed webhooks of five ESPs with known truth, watch them
    /// become rows and an alert, and compare. Stays up until Ctrl-C.
    Demo(demo::Arguments),
    /// Build and start everything, without traffic. Stays up until Ctrl-C.
    Up,
    /// Build for release and measure each service alone, then all of them together.
    Bench(bench::Arguments),
    /// Build, start everything with several members of each group, post signed webhooks for as long
    /// as it takes, kill, freeze and stop whatever runs by a seeded schedule, and prove that every
    /// event, sum, window and alert is as if nothing had happened.
    Chaos(chaos::Arguments),
    /// Start Kafka and ClickHouse and run every test against them.
    Test(suite::Arguments),
}

fn main() -> anyhow::Result<()> {
    match Arguments::parse().task {
        Task::Demo(arguments) => demo::demo(&arguments),
        Task::Up => demo::up(),
        Task::Bench(arguments) => bench::bench(&arguments),
        Task::Chaos(arguments) => chaos::chaos(&arguments),
        Task::Test(arguments) => suite::test(&arguments),
    }
}
