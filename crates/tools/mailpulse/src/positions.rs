//! `mailpulse positions`.

use std::io::{self, Write};
use std::path::Path;

use kafka::{NextOffset, TopicPartition};

use crate::args::{Accept, PositionsCommand};
use crate::dead_letters::Installation;
use crate::{InputError, Outcome};

/// Runs a subcommand.
///
/// # Errors
/// If the arguments or the settings are invalid, a member of the stage is running, or Kafka cannot be
/// written.
pub(crate) fn run(config: Option<&Path>, command: &PositionsCommand) -> anyhow::Result<Outcome> {
    let PositionsCommand::Accept(Accept { stage, partition, offset }) = command;
    let name = parse(partition).ok_or_else(|| {
        InputError(format!("`{partition}` is not a partition; write it as topic/partition"))
    })?;
    let Installation { connection, topics, .. } = Installation::open(config)?;
    let group = topics.group(stage.code());
    kafka::positions::accept(&connection, &topics.positions, &group, &name, NextOffset(*offset))?;
    writeln!(io::stdout(), "{} continues at offset {offset} of {name}", stage.code())?;
    Ok(Outcome::Done)
}

fn parse(text: &str) -> Option<TopicPartition> {
    let (topic, partition) = text.rsplit_once('/')?;
    let partition = partition.parse().ok().filter(|partition| *partition >= 0)?;
    (!topic.is_empty()).then(|| TopicPartition { topic: topic.to_owned(), partition })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_is_read_as_it_is_displayed() {
        let partition = TopicPartition { topic: "t.mail.enriched".to_owned(), partition: 12 };
        assert_eq!(parse(&partition.to_string()), Some(partition));
        for text in ["", "mail.enriched", "/1", "mail.enriched/-1", "mail.enriched/x"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
