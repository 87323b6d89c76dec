//! `cargo xtask demo` and `up`.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail};
use reqwest::StatusCode;
use testkit::{Plan, SignedRequest, Traffic};
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use crate::binaries::{ACTING, SERVICES};
use crate::check::{self, Comparison, Posted};
use crate::phase::Phase;
use crate::pipeline::{Layout, Pipeline, Servers, TIME_OF_EVENTS};
use crate::progress::Progress;
use crate::readers;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// End after the comparison. The exit status is 0 only if every number equals the truth.
    #[arg(long)]
    once: bool,
    /// Kill this service with SIGKILL in the middle of the traffic (repeatable).
    #[arg(long, value_name = "SERVICE")]
    kill: Vec<String>,
    /// Use three brokers with TLS, SCRAM and access control.
    #[arg(long)]
    cluster: bool,
    /// The seed of the traffic. The same seed gives the same mail.
    #[arg(long, default_value_t = 7)]
    seed: u64,
}

/// The demo posts five hours of mail in a minute. The few seconds by which a killed service is late are
/// most of an hour of event time, so windows wait that long. The last windows close when no event has
/// arrived for a while.
const COMPRESSED_TIME: &str = "out_of_orderness = \"90m\"\nidle_after = \"1s\"\n";

/// The highest number of requests per second. It keeps this ratio on a fast machine.
const PACE: u32 = 200;

/// How long to wait until the last events are in ClickHouse.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(90);
/// The number of concurrent requests.
const CONCURRENCY: usize = 16;
/// How often a request is posted, as a provider would repeat it.
const RETRIES: usize = 60;

/// Starts everything, posts the traffic and compares the results.
pub(crate) fn demo(arguments: &Arguments) -> anyhow::Result<()> {
    let services: Vec<&str> = SERVICES.into_iter().chain(ACTING).collect();
    if let Some(unknown) = arguments.kill.iter().find(|name| !services.contains(&name.as_str())) {
        bail!("--kill {unknown}: there is no such service; choose one of {}", services.join(", "));
    }
    let pipeline = start(&Layout {
        keys: [("ingress", TIME_OF_EVENTS.to_owned()), ("monitor", COMPRESSED_TIME.to_owned())]
            .into(),
        console: true,
        acting: true,
        servers: if arguments.cluster { Servers::Cluster } else { Servers::Shared },
        ..Layout::new("demo")
    })?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let plan = Plan::demo(&pipeline.credentials, i64::try_from(now)?);
    let traffic = Traffic::new(arguments.seed, plan);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let comparison = runtime.block_on(run(&pipeline, &traffic, &arguments.kill))?;
    println!("{}", comparison.report);
    println!("{}\n", runtime.block_on(readers::predict(&pipeline))?);
    if !arguments.once {
        println!("Everything keeps running until Ctrl-C:\n{}", pipeline.directory());
        runtime.block_on(tokio::signal::ctrl_c())?;
    }
    if comparison.is_equal {
        println!("every number equals the truth");
        return Ok(());
    }
    bail!("some numbers differ from the truth; see the lines marked with ← above")
}

/// Starts everything and waits for Ctrl-C.
pub(crate) fn up() -> anyhow::Result<()> {
    let pipeline = start(&Layout { console: true, ..Layout::new("up") })?;
    println!("Everything runs until Ctrl-C:\n{}", pipeline.directory());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(runtime.block_on(tokio::signal::ctrl_c())?)
}

fn start(layout: &Layout) -> anyhow::Result<Pipeline> {
    let _phase = Phase::begin("starting Kafka, ClickHouse and the services", "15 s");
    let pipeline = Pipeline::start(layout)?;
    if let Some(console) = &pipeline.console {
        eprintln!("    open http://{console}/ in a browser to see what happens");
    }
    Ok(pipeline)
}

async fn run(
    pipeline: &Pipeline,
    traffic: &Traffic,
    kill: &[String],
) -> anyhow::Result<Comparison> {
    let phase = Phase::begin("posting five hours of mail", "1 min");
    let progress = Progress::start(pipeline, traffic);
    let mut sender = Sender::new(&pipeline.ingress)?;
    let total = usize::try_from(traffic.expected().requests)?;
    let mut pace = tokio::time::interval(Duration::from_secs(1) / PACE);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for (number, request) in traffic.requests().enumerate() {
        pace.tick().await;
        // Kills are spread evenly over the traffic.
        let step = total / (kill.len() + 1);
        if step > 0
            && number % step == 0
            && let Some(victim) = (number / step).checked_sub(1).and_then(|at| kill.get(at))
        {
            pipeline.supervisor.kill(victim)?;
            progress.print(&format!("killed {victim} with SIGKILL"));
        }
        sender.send(request).await?;
        progress.posted(&sender.posted);
    }
    let posted = sender.finish().await?;
    progress.posted(&posted);
    let started = Instant::now();
    let comparison = loop {
        let comparison = check::compare(pipeline, traffic, &posted).await?;
        if comparison.is_equal || started.elapsed() > SETTLE_TIMEOUT {
            break comparison;
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
    };
    progress.finish().await;
    drop(phase);
    Ok(comparison)
}

/// Posts like a provider: a few requests at a time, each of them until it gets a final answer.
pub(crate) struct Sender {
    client: reqwest::Client,
    ingress: String,
    in_flight: JoinSet<anyhow::Result<Posted>>,
    posted: Posted,
}

impl Sender {
    pub(crate) fn new(ingress: &str) -> anyhow::Result<Self> {
        let client = reqwest::Client::builder().timeout(Duration::from_secs(10)).build()?;
        let (in_flight, posted) = (JoinSet::new(), Posted::default());
        Ok(Self { client, ingress: ingress.to_owned(), in_flight, posted })
    }

    pub(crate) async fn send(&mut self, request: SignedRequest) -> anyhow::Result<()> {
        while self.in_flight.len() >= CONCURRENCY {
            self.join_one().await?;
        }
        self.in_flight.spawn(post(self.client.clone(), self.ingress.clone(), request));
        Ok(())
    }

    async fn join_one(&mut self) -> anyhow::Result<()> {
        if let Some(answered) = self.in_flight.join_next().await {
            self.posted.add(&answered??);
        }
        Ok(())
    }

    pub(crate) async fn finish(mut self) -> anyhow::Result<Posted> {
        while !self.in_flight.is_empty() {
            self.join_one().await?;
        }
        Ok(self.posted)
    }
}

/// Posts a request until its answer is final: the provider would not repeat it.
async fn post(
    client: reqwest::Client,
    ingress: String,
    request: SignedRequest,
) -> anyhow::Result<Posted> {
    let mut posted = Posted::default();
    for _ in 0..RETRIES {
        let mut builder =
            client.post(format!("http://{ingress}{}", request.path)).body(request.body.clone());
        for (name, value) in &request.headers {
            builder = builder.header(name, value);
        }
        match builder.send().await {
            Ok(response) if response.status().is_success() => {
                let receipt =
                    response.json().await.context("the answer of the ingress is not JSON")?;
                posted.accept(&receipt);
                return Ok(posted);
            }
            // 429 asks the provider to repeat the request. Brevo gets it instead of 503.
            Ok(response)
                if response.status().is_client_error()
                    && response.status() != StatusCode::TOO_MANY_REQUESTS =>
            {
                posted.rejected += 1;
                return Ok(posted);
            }
            _ => {
                posted.repeated += 1;
                tokio::time::sleep(Duration::from_millis(250)).await;
            }
        }
    }
    bail!("{} has no final answer after {RETRIES} attempts", request.path)
}
