//! `cargo xtask demo` and `up`.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail};
use reqwest::StatusCode;
use testkit::{Plan, SignedRequest, Traffic};
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use crate::build::{self, Profile, SERVICES};
use crate::check::{self, Posted};
use crate::pipeline::{Layout, Pipeline};
use crate::view::View;

/// How to run the demo.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// End by itself; the exit status says whether every figure equals the truth.
    #[arg(long)]
    once: bool,
    /// Kill this service with SIGKILL in the middle of the traffic (repeatable).
    #[arg(long, value_name = "SERVICE")]
    kill: Vec<String>,
    /// Of the traffic; the same seed gives the same mail.
    #[arg(long, default_value_t = 7)]
    seed: u64,
}

/// The demo posts five hours of mail in a minute. What a killed service is late by, a few seconds, is
/// most of an hour of event time here, so windows wait that long; the last ones close when nothing
/// has come for twelve seconds.
const COMPRESSED_TIME: &str =
    "out_of_orderness = \"90m\"\nallowed_lateness = \"90m\"\nidle_after = \"1s\"\n";

/// Requests a second at most: keeps that ratio on a fast machine.
const PACE: u32 = 200;

/// How long the last events may take to show up in ClickHouse.
const SETTLED_WITHIN: Duration = Duration::from_secs(90);
/// Requests under way at once.
const AT_ONCE: usize = 16;
/// A request that is not taken is posted again, as the provider would.
const RETRIES: usize = 60;

/// Builds, starts, posts, watches, compares.
pub(crate) fn demo(arguments: &Arguments) -> anyhow::Result<()> {
    if let Some(unknown) = arguments.kill.iter().find(|name| !SERVICES.contains(&name.as_str())) {
        bail!("--kill {unknown}: it is one of {}", SERVICES.join(", "));
    }
    let pipeline = start(&Layout {
        keys: [("monitor", COMPRESSED_TIME.to_owned())].into(),
        ..Layout::default()
    })?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let plan = Plan::demo(&pipeline.credentials, i64::try_from(now)?);
    let traffic = Traffic::new(arguments.seed, plan);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let verdict = runtime.block_on(play(&pipeline, &traffic, &arguments.kill))?;
    println!("{}", verdict.report);
    if !arguments.once {
        println!("Everything stays up until Ctrl-C:\n{}", pipeline.directory());
        runtime.block_on(tokio::signal::ctrl_c())?;
    }
    if verdict.is_equal {
        return Ok(());
    }
    bail!("the figures differ from the truth")
}

/// Builds and starts, and waits for Ctrl-C.
pub(crate) fn up() -> anyhow::Result<()> {
    let pipeline = start(&Layout::default())?;
    println!("Up until Ctrl-C:\n{}", pipeline.directory());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(runtime.block_on(tokio::signal::ctrl_c())?)
}

fn start(layout: &Layout) -> anyhow::Result<Pipeline> {
    eprintln!("building the services …");
    let binaries = build::services(Profile::Dev)?;
    eprintln!("starting Kafka, ClickHouse and {} …", SERVICES.join(", "));
    Pipeline::start(&binaries, layout)
}

async fn play(
    pipeline: &Pipeline,
    traffic: &Traffic,
    kill: &[String],
) -> anyhow::Result<check::Verdict> {
    let view = View::start(pipeline, traffic);
    let mut sender = Sender::new(&pipeline.ingress)?;
    let total = usize::try_from(traffic.truth().requests)?;
    let mut pace = tokio::time::interval(Duration::from_secs(1) / PACE);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for (number, request) in traffic.requests().enumerate() {
        pace.tick().await;
        // Spread evenly over the traffic.
        let step = total / (kill.len() + 1);
        if step > 0
            && number % step == 0
            && let Some(victim) = (number / step).checked_sub(1).and_then(|at| kill.get(at))
        {
            pipeline.supervisor.kill(victim)?;
            view.say(&format!("killed {victim} with SIGKILL"));
        }
        sender.send(request).await?;
        view.posted(&sender.posted);
    }
    let posted = sender.finish().await?;
    view.posted(&posted);
    let started = Instant::now();
    let verdict = loop {
        let verdict = check::compare(pipeline, traffic, &posted).await?;
        if verdict.is_equal || started.elapsed() > SETTLED_WITHIN {
            break verdict;
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
    };
    view.finish().await;
    Ok(verdict)
}

/// Posts as an ESP does: a few requests at once, each until it is answered for good.
struct Sender {
    client: reqwest::Client,
    ingress: String,
    under_way: JoinSet<anyhow::Result<Posted>>,
    posted: Posted,
}

impl Sender {
    fn new(ingress: &str) -> anyhow::Result<Self> {
        let client = reqwest::Client::builder().timeout(Duration::from_secs(10)).build()?;
        let (under_way, posted) = (JoinSet::new(), Posted::default());
        Ok(Self { client, ingress: ingress.to_owned(), under_way, posted })
    }

    async fn send(&mut self, request: SignedRequest) -> anyhow::Result<()> {
        while self.under_way.len() >= AT_ONCE {
            self.join_one().await?;
        }
        self.under_way.spawn(post(self.client.clone(), self.ingress.clone(), request));
        Ok(())
    }

    async fn join_one(&mut self) -> anyhow::Result<()> {
        if let Some(answered) = self.under_way.join_next().await {
            self.posted.add(&answered??);
        }
        Ok(())
    }

    async fn finish(mut self) -> anyhow::Result<Posted> {
        while !self.under_way.is_empty() {
            self.join_one().await?;
        }
        Ok(self.posted)
    }
}

/// Posts a request until it is answered with something that is final for its sender.
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
                let receipt = response.json().await.context("a receipt is JSON")?;
                posted.take(&receipt);
                return Ok(posted);
            }
            // 429 asks to come again, which is how Brevo is told what others hear as 503.
            Ok(response)
                if response.status().is_client_error()
                    && response.status() != StatusCode::TOO_MANY_REQUESTS =>
            {
                posted.refused += 1;
                return Ok(posted);
            }
            _ => {
                posted.repeated += 1;
                tokio::time::sleep(Duration::from_millis(250)).await;
            }
        }
    }
    bail!("{} was not answered in {RETRIES} tries", request.path)
}
