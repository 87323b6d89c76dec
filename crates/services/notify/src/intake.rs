//! Reads `mail.alerts` and commits what every channel is through with.

use std::sync::Arc;
use std::time::Duration;

use service::{Health, Shutdown};
use kafka::StreamError;
use kafka::feed::{Feed, Item};

use crate::delivery::{Deliveries, Parcel};
use crate::progress::{Intake, Progress};
use crate::transition::Transition;

/// How long one look for a record takes at most, so how long a finished delivery may wait to be
/// marked done.
const LOOK: Duration = Duration::from_millis(100);

/// Records that may wait for a channel. A channel that stays away longer stops the intake: memory
/// stays bounded, and the topic keeps the rest. The group may then give our partitions away until
/// we read again; [`Progress`] knows what we read twice.
const WAITING_AT_MOST: usize = 10_000;

/// Runs until `shutdown`, then waits for the tries under way. What no channel took or gave up on
/// by then is delivered by the next start.
///
/// # Errors
/// When Kafka refuses for good.
pub fn run(
    mut feed: Feed,
    mut deliveries: Deliveries,
    health: &Health,
    shutdown: &Shutdown,
) -> Result<(), StreamError> {
    let mut progress = Progress::default();
    while !shutdown.requested() {
        health.beat();
        if progress.waiting() < WAITING_AT_MOST {
            health.ready();
            if let Some(item) = feed.next(LOOK)? {
                take(item, &mut feed, &mut progress, &deliveries)?;
            }
        } else {
            health.hold("too many alerts wait for a channel that does not take them");
            deliveries.await_finished(LOOK);
        }
        settle(&mut feed, &mut progress, &mut deliveries)?;
        metrics::gauge!("mailpulse_notify_waiting").set(progress.waiting() as f64);
    }
    deliveries.stop();
    settle(&mut feed, &mut progress, &mut deliveries)?;
    tracing::info!(undelivered = progress.waiting(), "stopped");
    Ok(())
}

/// Hands a record to every channel.
fn take(
    mut item: Item,
    feed: &mut Feed,
    progress: &mut Progress,
    deliveries: &Deliveries,
) -> Result<(), StreamError> {
    let transition = Transition::read(item.value.take().as_deref());
    let channels = if transition.is_ok() { deliveries.channels() } else { 1 };
    match (progress.begin(item, channels), transition) {
        (Intake::Deliver(ticket), Ok(transition)) => {
            deliveries.send(&Arc::new(Parcel { ticket, transition }));
            Ok(())
        }
        (Intake::Deliver(ticket), Err(error)) => {
            // Nothing a channel could do with it, and nothing another try would mend.
            metrics::counter!("mailpulse_notify_unreadable_total").increment(1);
            tracing::error!(%error, ?ticket, "a record is not an alert; passed over");
            progress.finish(ticket).map_or(Ok(()), |last| feed.done(&last))
        }
        (Intake::Delivered(item), _) => feed.done(&item),
        (Intake::UnderWay, _) => Ok(()),
    }
}

/// Marks done what the channels finished meanwhile.
fn settle(
    feed: &mut Feed,
    progress: &mut Progress,
    deliveries: &mut Deliveries,
) -> Result<(), StreamError> {
    while let Some(ticket) = deliveries.next_finished() {
        if let Some(last) = progress.finish(ticket) {
            feed.done(&last)?;
        }
    }
    Ok(())
}
