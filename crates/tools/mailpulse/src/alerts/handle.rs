//! What people do with incidents: writes an action to `mail.alerts`, where the incidents stage of `monitor`
//! reads it.

use std::io::{self, Write};
use std::time::Duration;

use alerting::{Action, Incident, IncidentId, IncidentState, Judgement};
use kafka::{PreparedHeaders, Publisher, PublisherSettings};

use super::Stack;
use super::find::find_incident;
use super::show::latest;
use crate::args::{self, AlertsCommand, Assign, Handle, Judge, PlanSend, Snooze};
use crate::{InputError, Outcome};

/// How long to wait until Kafka has stored the action.
const ACK_TIMEOUT: Duration = Duration::from_secs(30);

/// Publishes the action of a command.
///
/// # Errors
/// If the incident is not known or over, an argument is invalid, or Kafka does not store the action.
pub(super) fn run(stack: &Stack, command: &AlertsCommand) -> anyhow::Result<Outcome> {
    let action = action(stack, command)?;
    check_texts(&action)?;
    publish(stack, &action)?;
    let mut out = io::stdout().lock();
    match &action {
        Action::PlanSend { source, .. } => {
            writeln!(out, "the planned send of {source} is announced")?
        }
        Action::Acknowledge { incident, .. }
        | Action::Snooze { incident, .. }
        | Action::Assign { incident, .. }
        | Action::Judge { incident, .. }
        | Action::Close { incident, .. } => {
            writeln!(
                out,
                "the action on incident {incident} is stored; monitor applies it within seconds"
            )?;
        }
    }
    Ok(Outcome::Done)
}

fn action(stack: &Stack, command: &AlertsCommand) -> anyhow::Result<Action> {
    let open = |handle: &Handle| -> anyhow::Result<(IncidentId, String)> {
        let incident = incident(stack, handle)?;
        if incident.state == IncidentState::Resolved {
            anyhow::bail!("incident {} is over; it can only be judged", incident.id);
        }
        Ok((incident.id, handle.by.clone()))
    };
    Ok(match command {
        AlertsCommand::Acknowledge(handle) => {
            let (incident, by) = open(handle)?;
            Action::Acknowledge { incident, by }
        }
        AlertsCommand::Close(handle) => {
            let (incident, by) = open(handle)?;
            Action::Close { incident, by }
        }
        AlertsCommand::Assign(Assign { handle, to }) => {
            let (incident, by) = open(handle)?;
            Action::Assign { incident, by, to: to.clone() }
        }
        AlertsCommand::Snooze(Snooze { handle, duration }) => {
            let until = crate::now().as_microsecond() + span(*duration)?;
            let (incident, by) = open(handle)?;
            Action::Snooze { incident, by, until }
        }
        AlertsCommand::Judge(Judge { handle, judgement }) => {
            let judgement = match judgement {
                args::Judgement::True => Judgement::True,
                args::Judgement::False => Judgement::False,
                args::Judgement::Duplicate => Judgement::Duplicate,
            };
            let by = handle.by.clone();
            Action::Judge { incident: incident(stack, handle)?.id, by, judgement }
        }
        AlertsCommand::PlanSend(PlanSend { source, by, campaign, from, duration }) => {
            let from = from.unwrap_or_else(crate::now).as_microsecond();
            let until = from.saturating_add(span(*duration)?);
            let (source, by, campaign) = (source.clone(), by.clone(), campaign.clone());
            if !source.contains('/') {
                let text = format!("`{source}` is not a source; write it as sendgrid/acme");
                return Err(InputError(text).into());
            }
            Action::PlanSend { by, source, campaign, from, until }
        }
        AlertsCommand::Ls(_) | AlertsCommand::Show(_) | AlertsCommand::Verify(_) => {
            anyhow::bail!("the command handles no incident")
        }
    })
}

fn incident(stack: &Stack, handle: &Handle) -> anyhow::Result<Incident> {
    latest(stack, &find_incident(stack, &handle.id)?)
}

/// Returns a duration in microseconds.
fn span(duration: Duration) -> Result<i64, InputError> {
    let micros = i64::try_from(duration.as_micros()).ok();
    micros.filter(|micros| *micros <= Action::MAX_SNOOZE).ok_or_else(|| {
        InputError("the time given by --for is too long; at most 30d are allowed".to_owned())
    })
}

/// Checks the names, so that the action does not become a dead letter.
fn check_texts(action: &Action) -> Result<(), InputError> {
    let texts = match action {
        Action::Assign { by, to, .. } => vec![("--by", by), ("--to", to)],
        Action::PlanSend { by, source, campaign, .. } => {
            let mut texts = vec![("--by", by), ("the source", source)];
            texts.extend(campaign.as_ref().map(|campaign| ("--campaign", campaign)));
            texts
        }
        Action::Acknowledge { by, .. }
        | Action::Snooze { by, .. }
        | Action::Judge { by, .. }
        | Action::Close { by, .. } => vec![("--by", by)],
    };
    let wrong = texts.into_iter().find(|(_, text)| {
        let characters = text.chars().count();
        characters == 0 || characters > Action::MAX_TEXT
    });
    wrong.map_or(Ok(()), |(name, _)| {
        Err(InputError(format!("{name} must have 1 to {} characters", Action::MAX_TEXT)))
    })
}

fn publish(stack: &Stack, action: &Action) -> anyhow::Result<()> {
    let value = serde_json::to_vec(action)?;
    let settings = PublisherSettings {
        linger: Duration::ZERO,
        queue_bytes: 1 << 20,
        ack_timeout: Some(ACK_TIMEOUT),
    };
    let publisher = Publisher::open(&stack.connection, "operator", settings)?;
    let batch = publisher.batch();
    // The incidents stage forwards what is in other partitions to partition 0, where all alerts are.
    batch.send(&stack.topics.alerts, Action::KEY, &value, &PreparedHeaders::new(&[]))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(runtime.block_on(batch.acknowledged())?)
}
