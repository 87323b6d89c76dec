//! `mailpulse positions`.

use std::io::{self, Write};
use std::path::Path;

use kafka::positions::{self, PartitionStatus};
use kafka::{NextOffset, TopicPartition};
use record::Stage;

use crate::args::{Accept, ListPositions, PositionsCommand};
use crate::dead_letters::Installation;
use crate::{InputError, Outcome};

/// The stages that write positions.
const STAGES: [Stage; 11] = [
    Stage::Enrich,
    Stage::Dedupe,
    Stage::MonitorFold,
    Stage::MonitorRate,
    Stage::Incidents,
    Stage::Notify,
    Stage::Suppress,
    Stage::AutomateMatch,
    Stage::AutomateLimit,
    Stage::AutomateDeliver,
    Stage::Forward,
];

/// Runs a subcommand.
///
/// # Errors
/// If the arguments or the settings are invalid, a member of the stage is running, or Kafka cannot be
/// written.
pub(crate) fn run(config: Option<&Path>, command: &PositionsCommand) -> anyhow::Result<Outcome> {
    let installation = Installation::open(config)?;
    match command {
        PositionsCommand::Ls(ListPositions { stage }) => list(&installation, *stage),
        PositionsCommand::Accept(Accept { stage, partition, offset, forward, .. }) => {
            let labels = labels_of(&installation, *stage, forward.as_deref());
            if let (true, Some(name)) = (labels.is_empty(), forward) {
                let problem = format!("no [[forward]] of the settings has the name {name}");
                return Err(InputError(problem).into());
            }
            let Some((partition, offset)) = partition.as_ref().zip(*offset) else {
                return accept_all(&installation, *stage, &labels);
            };
            let name = parse(partition).ok_or_else(|| {
                InputError(format!("`{partition}` is not a partition; write it as topic/partition"))
            })?;
            let [label] = labels.as_slice() else {
                let problem = "name one [[forward]] of the settings with --forward NAME";
                return Err(InputError(problem.to_owned()).into());
            };
            accept(&installation, label, &name, NextOffset(offset))?;
            Ok(Outcome::Done)
        }
    }
}

/// Prints the offset and the position of every partition. The exit status is 1 if one is held.
fn list(installation: &Installation, stage: Option<Stage>) -> anyhow::Result<Outcome> {
    let mut out = io::stdout().lock();
    writeln!(out, "stage\tpartition\toffset\tposition\theld\tcontinue at")?;
    let mut outcome = Outcome::Done;
    for stage in STAGES.into_iter().filter(|it| stage.is_none_or(|wanted| wanted == *it)) {
        for label in labels_of(installation, stage, None) {
            for status in status(installation, stage, &label)? {
                let PartitionStatus { partition, committed, position, held } = status;
                let committed = committed.map_or_else(|| "-".to_owned(), |next| next.to_string());
                let (held, next) = match held {
                    Some((mismatch, next)) => (mismatch.code(), next.to_string()),
                    None => ("-", "-".to_owned()),
                };
                if held != "-" {
                    outcome = Outcome::Incomplete;
                }
                let position = position.next;
                writeln!(out, "{label}\t{partition}\t{committed}\t{position}\t{held}\t{next}")?;
            }
        }
    }
    Ok(outcome)
}

/// Accepts the usual offset of every partition that is held.
fn accept_all(
    installation: &Installation,
    stage: Stage,
    labels: &[String],
) -> anyhow::Result<Outcome> {
    let mut count = 0;
    for label in labels {
        let all = status(installation, stage, label)?;
        let held = all.into_iter().filter_map(|it| Some((it.partition, it.held?.1)));
        for (partition, next) in held {
            accept(installation, label, &partition, next)?;
            count += 1;
        }
    }
    writeln!(io::stdout(), "{count} partitions of {} were held", stage.code())?;
    Ok(Outcome::Done)
}

/// Returns what the groups of a stage are called: the stage, or each of its forwards.
fn labels_of(installation: &Installation, stage: Stage, forward: Option<&str>) -> Vec<String> {
    if stage != Stage::Forward {
        return vec![stage.code().to_owned()];
    }
    let names = installation.forwards.iter();
    let names = names.filter(|name| forward.is_none_or(|wanted| wanted == *name));
    names.map(|name| format!("{}-{name}", stage.code())).collect()
}

fn status(
    installation: &Installation,
    stage: Stage,
    label: &str,
) -> anyhow::Result<Vec<PartitionStatus>> {
    let Installation { connection, topics, .. } = installation;
    Ok(positions::list(connection, &topics.positions, stage, &topics.group(label))?)
}

fn accept(
    installation: &Installation,
    label: &str,
    partition: &TopicPartition,
    next: NextOffset,
) -> anyhow::Result<()> {
    let Installation { connection, topics, .. } = installation;
    let group = topics.group(label);
    positions::accept(connection, &topics.positions, &group, partition, next)?;
    writeln!(io::stdout(), "{label} continues at offset {next} of {partition}")?;
    Ok(())
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
