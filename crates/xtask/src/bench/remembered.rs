//! `--ids N`: what `dedupe` needs in memory when it remembers N events.

use std::time::Duration;

use devstack::Running;
use event::{EventId, IdBuilder, Kind};
use record::names;
use stream::{PreparedHeaders, PublishError, Publisher, PublisherSettings};

use super::client::unix_millis;
use super::report::{Figure, Report};
use super::site::{Line, Progress, Site, bar};
use super::steps::{await_records, figure};

/// Budget of `docs/benchmarks.md`.
const BUDGET: f64 = 150_000.0;
/// Over how many hours of event time the ids are spread; `dedupe` keeps them by the hour.
const HOURS: u64 = 24;
const MICROS_PER_HOUR: u64 = 3_600_000_000;
/// Records between two waits for acknowledgement.
const CHUNK: u64 = 100_000;
/// `dedupe` looks at headers alone.
const VALUE: &[u8] = b"{}";

/// Fills `mail.enriched` with that many different events and has `dedupe` read them all.
pub(crate) fn ids(site: &Site, ids: u64, report: &mut Report) -> anyhow::Result<()> {
    let line = site.line("ids")?;
    // Makes the topics.
    let service = line.start("dedupe")?;
    line.stop(service)?;
    fill(&line, ids)?;
    let service = line.start("dedupe")?;
    let progress = await_records(&line, &service, "dedupe, ids", "dedupe", ids)?;
    let figure = finished(&service, ids, &progress)?;
    line.stop(service)?;
    report.add(figure);
    Ok(())
}

fn finished(
    service: &Running,
    ids: u64,
    progress: &Progress,
) -> anyhow::Result<Figure> {
    let figure = figure("dedupe, ids remembered", "dedupe", ids, service, progress)?.budget(BUDGET);
    Ok(figure.note(format!("records without content; ids over {HOURS} hours of event time")))
}

fn fill(line: &Line<'_>, ids: u64) -> anyhow::Result<()> {
    let settings = PublisherSettings {
        linger: Duration::from_millis(5),
        queue_bytes: 256 << 20,
        ack_timeout: Duration::from_secs(60),
    };
    let publisher = Publisher::open(&line.site.connection("lz4"), settings)?;
    let bar = bar("filling mail.enriched", ids);
    let began = (unix_millis() as u64 * 1000).saturating_sub(HOURS * MICROS_PER_HOUR);
    let mut next = 0;
    while next < ids {
        let until = (next + CHUNK).min(ids);
        let batch = publisher.batch();
        for n in next..until {
            let occurred_at = began + n * HOURS * MICROS_PER_HOUR / ids;
            send(&batch, &line.topics.enriched, n, occurred_at)?;
        }
        line.site.block_on(batch.acknowledged())?;
        next = until;
        bar.set_position(next);
    }
    bar.finish_and_clear();
    Ok(())
}

fn send(
    batch: &stream::Batch<'_>,
    topic: &str,
    n: u64,
    occurred_at: u64,
) -> Result<(), PublishError> {
    let id = event_id(n);
    let occurred_at = occurred_at.to_string();
    let headers = PreparedHeaders::new(&[
        (names::EVENT_ID, id.as_bytes()),
        (names::KIND, Kind::Delivered.as_str().as_bytes()),
        (names::OCCURRED_AT, occurred_at.as_bytes()),
        (names::PROVIDER, b"generic"),
        (names::SOURCE, b"bench-0"),
    ]);
    let key = format!("reader-{n:010}@example.org");
    batch.send(topic, key.as_bytes(), VALUE, &headers)
}

/// Ids are digests: as good as random.
fn event_id(n: u64) -> EventId {
    IdBuilder::new("bench").part(&n.to_le_bytes()).finish()
}
