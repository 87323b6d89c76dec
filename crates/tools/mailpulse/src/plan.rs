//! `mailpulse plan`: how large an installation must be for a rate of events, from measured figures.

mod figures;

use std::fmt::{self, Write as _};
use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use service::Settings;

use crate::Outcome;
use crate::args;
use figures::Figures;

/// What must be divided: partitions that all members can share evenly, the smallest first.
const PARTITIONS: [u64; 10] = [6, 12, 24, 48, 96, 192, 384, 768, 1536, 3072];
/// Partitions for each member that is needed, so that members can be added later.
const PARTITIONS_PER_MEMBER: u64 = 2;
/// The cores of one server of Kafka or ClickHouse.
const CORES_PER_SERVER: f64 = 16.0;
/// A cluster with fewer brokers cannot lose one without loss.
const MIN_BROKERS: u64 = 3;
/// A second process takes over while one is replaced.
const MIN_MEMBERS: u64 = 2;
const MILLION: f64 = 1e6;

/// The result. The field names are stable; keys are only added.
#[derive(Debug, Serialize)]
struct Plan {
    events_per_second: u64,
    events_per_request: u32,
    utilisation: f64,
    recipient_partitions: u64,
    scope_partitions: u64,
    services: Vec<Service>,
    kafka: Servers,
    clickhouse: Servers,
    cost: Cost,
}

/// One service.
#[derive(Debug, Serialize)]
struct Service {
    service: &'static str,
    /// Processes of one core each.
    members: u64,
    /// The cores that are used, without what is kept free.
    cores: f64,
    cpu_seconds_per_million: f64,
}

/// The servers of Kafka, or the shards of ClickHouse.
#[derive(Debug, Serialize)]
struct Servers {
    /// Servers of 16 cores.
    servers: u64,
    cores: f64,
    cpu_seconds_per_million: f64,
    /// Of one copy, before compression.
    gb_per_million: f64,
    gb_per_day: f64,
}

/// What a million events cost.
#[derive(Debug, Serialize)]
struct Cost {
    /// Of all services, Kafka and ClickHouse.
    cpu_seconds: f64,
    /// In Kafka, one copy, before compression, while nothing has expired.
    kafka_gb: f64,
    /// In ClickHouse, one copy, before compression, with all tables.
    clickhouse_gb: f64,
}

/// The key of `[archive]` that decides how many inserts there are.
#[derive(Deserialize)]
struct Archive {
    #[serde(with = "service::units::duration")]
    batch_wait: Duration,
}

/// Prints the plan for `archive.batch_wait` of the settings. Nothing is connected.
///
/// # Errors
/// If the settings are invalid, or the output cannot be written.
pub(crate) fn run(config: Option<&Path>, args: &args::Plan) -> anyhow::Result<Outcome> {
    let Archive { batch_wait } = Settings::discover(config)?.section("archive")?;
    let plan = Plan::of(args, batch_wait, &figures::MEASURED);
    let mut out = io::stdout().lock();
    if args.json {
        serde_json::to_writer(&mut out, &plan)?;
        writeln!(out)?;
    } else {
        write!(out, "{plan}")?;
    }
    Ok(Outcome::Done)
}

impl Plan {
    fn of(args: &args::Plan, batch_wait: Duration, figures: &Figures) -> Self {
        let rate = float(args.events_per_second);
        let utilisation = args.utilisation;
        let costs = [
            ("ingress", figures.ingress(args.events_per_request)),
            ("enrich", 1.0 / figures.enrich),
            ("dedupe", 1.0 / figures.dedupe),
            ("monitor", 1.0 / figures.monitor),
            ("archive", 1.0 / figures.archive),
        ];
        let services: Vec<Service> = costs
            .iter()
            .map(|&(service, cost)| Service {
                service,
                members: whole(rate * cost / utilisation).max(MIN_MEMBERS),
                cores: rate * cost,
                cpu_seconds_per_million: cost * MILLION,
            })
            .collect();
        // The ingress shares no partitions.
        let widest = services.iter().skip(1).map(|it| it.members).max().unwrap_or(1);
        let recipient_partitions = partitions(widest * PARTITIONS_PER_MEMBER);
        let of_monitor =
            services.iter().find(|it| it.service == "monitor").map_or(1, |it| it.members);
        let scope_partitions = partitions(of_monitor * PARTITIONS_PER_MEMBER);

        let inserts = float(recipient_partitions) / batch_wait.as_secs_f64().max(0.05);
        let row = 1.0 / figures.clickhouse_rows;
        let clickhouse = rate * row + inserts.min(rate) * figures.insert_seconds;
        let of_services: f64 = costs.iter().map(|(_, cost)| cost).sum();
        let kafka = (figures.everything() - of_services_alone(figures) - row).max(0.0);
        let server = |cores: f64| whole(cores / utilisation / CORES_PER_SERVER);
        let per_day = rate * 86_400.0 / MILLION;
        let clickhouse_per_million = clickhouse / rate * MILLION;
        Self {
            events_per_second: args.events_per_second,
            events_per_request: args.events_per_request,
            utilisation,
            recipient_partitions,
            scope_partitions,
            services,
            kafka: Servers {
                servers: server(rate * kafka).max(MIN_BROKERS),
                cores: rate * kafka,
                cpu_seconds_per_million: kafka * MILLION,
                gb_per_million: figures.kafka_gb,
                gb_per_day: figures.kafka_gb * per_day,
            },
            clickhouse: Servers {
                servers: server(clickhouse).max(1),
                cores: clickhouse,
                cpu_seconds_per_million: clickhouse_per_million,
                gb_per_million: figures.clickhouse_gb,
                gb_per_day: figures.clickhouse_gb * per_day,
            },
            cost: Cost {
                cpu_seconds: (of_services + kafka) * MILLION + clickhouse_per_million,
                kafka_gb: figures.kafka_gb,
                clickhouse_gb: figures.clickhouse_gb,
            },
        }
    }
}

/// What the services cost in the run of everything, in which requests had ten events: CPU-seconds per event.
fn of_services_alone(figures: &Figures) -> f64 {
    const EVENTS_PER_REQUEST: u32 = 10;
    let others = [figures.enrich, figures.dedupe, figures.monitor, figures.archive];
    figures.ingress(EVENTS_PER_REQUEST) + others.iter().map(|figure| 1.0 / figure).sum::<f64>()
}

fn partitions(wanted: u64) -> u64 {
    PARTITIONS.into_iter().find(|count| *count >= wanted).unwrap_or(wanted)
}

#[expect(clippy::cast_precision_loss, reason = "rates and counts are far below 2^52")]
fn float(count: u64) -> f64 {
    count as f64
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "not negative, and far below 2^52"
)]
fn whole(count: f64) -> u64 {
    count.ceil() as u64
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} events per second, {} in each request, {:.0} % of each core used",
            self.events_per_second,
            self.events_per_request,
            self.utilisation * 100.0
        )?;
        writeln!(f, "topics.recipient_partitions = {}", self.recipient_partitions)?;
        writeln!(f, "topics.scope_partitions = {}", self.scope_partitions)?;
        writeln!(
            f,
            "{:<12} {:>8} {:>12} {:>26}",
            "", "members", "cores used", "CPU-seconds per million"
        )?;
        for Service { service, members, cores, cpu_seconds_per_million } in &self.services {
            writeln!(
                f,
                "{service:<12} {members:>8} {cores:>12.1} {cpu_seconds_per_million:>26.1}"
            )?;
        }
        for (name, servers) in [("Kafka", &self.kafka), ("ClickHouse", &self.clickhouse)] {
            let Servers { servers, cores, cpu_seconds_per_million, .. } = servers;
            writeln!(f, "{name:<12} {servers:>8} {cores:>12.1} {cpu_seconds_per_million:>26.1}")?;
        }
        let mut text = String::new();
        writeln!(
            text,
            "a member has one core and less than 300 MB; a broker and a shard have 16 cores\n\
             the cores of Kafka are an upper bound"
        )?;
        let gb_of = |servers: &Servers| {
            format!(
                "{:.1} GB per million events, {:.0} GB per day",
                servers.gb_per_million, servers.gb_per_day
            )
        };
        writeln!(text, "one copy in Kafka       {}", gb_of(&self.kafka))?;
        writeln!(text, "one copy in ClickHouse  {}", gb_of(&self.clickhouse))?;
        writeln!(
            text,
            "a million events cost {:.0} CPU-seconds, {:.1} GB in Kafka and {:.1} GB in ClickHouse for each copy, before \
             compression",
            self.cost.cpu_seconds, self.cost.kafka_gb, self.cost.clickhouse_gb
        )?;
        text.push_str(
            "the figures are those of docs/benchmarks.md, measured on two shared cores; measure your own before you \
             buy\n",
        );
        f.write_str(&text)
    }
}

#[cfg(test)]
mod tests;
