//! What the services say at their admin ports.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use serde::Deserialize;
use service::Settings;

/// How long a service has to answer.
const TIMEOUT: Duration = Duration::from_secs(2);
/// The number of bytes of metrics that are read.
const MAX_METRICS: usize = 8 << 20;

/// The services, and the sections of the settings that have their admin ports.
const SERVICES: [(&str, &str); 10] = [
    ("ingress", "ingress"),
    ("enrich", "enrich"),
    ("dedupe", "dedupe"),
    ("monitor", "monitor"),
    ("archive", "archive"),
    ("notify", "notify"),
    ("suppress", "suppress"),
    ("automate", "automate"),
    ("forward", "forwarding"),
    ("console", "console"),
];
/// The services that not every installation has.
const OPTIONAL: [&str; 5] = ["notify", "suppress", "automate", "forward", "console"];

/// One process.
#[derive(Debug, Clone)]
pub(super) struct Member {
    pub(super) service: String,
    pub(super) admin: String,
    pub(super) state: State,
    pub(super) sums: Sums,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum State {
    Ready,
    /// With the reason.
    Unready(String),
    Away,
}

/// The metrics that are shown, each as a sum over its labels.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Sums {
    pub(super) requests: f64,
    pub(super) accepted: f64,
    pub(super) dead_letters: f64,
    pub(super) held: f64,
}

pub(super) struct Members {
    runtime: tokio::runtime::Runtime,
    client: reqwest::Client,
    pub(super) members: Vec<Member>,
}

impl Members {
    /// Takes the admin ports of the settings, and further ones.
    ///
    /// # Errors
    /// If an admin port in the settings is invalid.
    pub(super) fn new(settings: &Settings, more: &[(String, String)]) -> anyhow::Result<Self> {
        #[derive(Deserialize)]
        struct Admin {
            admin: SocketAddr,
        }
        let mut members = Vec::new();
        for (service, section) in SERVICES {
            let Admin { admin } = settings.section(section)?;
            // The ports of the settings are those on this machine.
            let host = if admin.ip().is_unspecified() {
                "127.0.0.1".into()
            } else {
                admin.ip().to_string()
            };
            let host = if host.contains(':') { format!("[{host}]") } else { host };
            members.push(Member::new(service, format!("{host}:{}", admin.port())));
        }
        members.extend(more.iter().map(|(service, admin)| Member::new(service, admin.clone())));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        // The proxies of the environment are for other hosts.
        let client = reqwest::Client::builder().timeout(TIMEOUT).no_proxy().build()?;
        Ok(Self { runtime, client, members })
    }

    /// Asks all of them at the same time.
    pub(super) fn refresh(&mut self) {
        let Self { runtime, client, members } = self;
        runtime.block_on(async {
            let mut asking = tokio::task::JoinSet::new();
            for (index, member) in members.iter().enumerate() {
                let (client, admin) = (client.clone(), member.admin.clone());
                asking.spawn(async move { (index, ask(&client, &admin).await) });
            }
            while let Some(answer) = asking.join_next().await {
                let Ok((index, (state, metrics))) = answer else { continue };
                if let Some(member) = members.get_mut(index) {
                    member.state = state;
                    if let Some(metrics) = metrics {
                        member.sums = Sums::of(&metrics);
                    }
                }
            }
        });
    }

    /// Returns the members by service. Services whose only member is away, and is not one that every installation
    /// has, are left out.
    pub(super) fn by_service(&self) -> BTreeMap<&str, Vec<&Member>> {
        let mut services: BTreeMap<&str, Vec<&Member>> = BTreeMap::new();
        for member in &self.members {
            services.entry(&member.service).or_default().push(member);
        }
        services.retain(|service, members| {
            !OPTIONAL.contains(service) || members.iter().any(|it| it.state != State::Away)
        });
        services
    }
}

impl Member {
    pub(super) fn new(service: &str, admin: String) -> Self {
        let service = service.to_owned();
        Self { service, admin, state: State::Away, sums: Sums::default() }
    }
}

/// Returns the state, and the metrics of a service that answers.
async fn ask(client: &reqwest::Client, admin: &str) -> (State, Option<String>) {
    let get = |path: &str| client.get(format!("http://{admin}{path}")).send();
    let Ok(readiness) = get("/readyz").await else { return (State::Away, None) };
    let state = if readiness.status().is_success() {
        State::Ready
    } else {
        State::Unready(body(readiness).await.unwrap_or_default())
    };
    let metrics = match get("/metrics").await {
        Ok(response) => body(response).await,
        Err(_) => None,
    };
    (state, metrics)
}

async fn body(mut response: reqwest::Response) -> Option<String> {
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.ok()? {
        bytes.extend_from_slice(&chunk);
        if bytes.len() > MAX_METRICS {
            break;
        }
    }
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

impl Sums {
    /// Reads the text format of Prometheus.
    fn of(metrics: &str) -> Self {
        let sum = |name: &str, label: &str| -> f64 {
            let samples = metrics.lines().filter_map(|line| line.strip_prefix(name));
            samples
                .filter(|rest| rest.starts_with(['{', ' ']) && rest.contains(label))
                .filter_map(|rest| rest.rsplit_once(' ')?.1.parse::<f64>().ok())
                .sum()
        };
        Self {
            requests: sum("mailpulse_ingress_requests_total", ""),
            accepted: sum("mailpulse_ingress_requests_total", "code=\"accepted\""),
            dead_letters: sum("mailpulse_dead_letters_total", ""),
            held: sum("mailpulse_partition_held", ""),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_summed_over_their_labels() {
        let sums = Sums::of(
            "# TYPE mailpulse_ingress_requests_total counter\n\
             mailpulse_ingress_requests_total{provider=\"ses\",code=\"accepted\"} 40\n\
             mailpulse_ingress_requests_total{provider=\"ses\",code=\"wrong_signature\"} 2\n\
             mailpulse_ingress_requests_total_other 100\nmailpulse_partition_held{partition=\"3\"} 1\n",
        );
        assert_eq!(sums, Sums { requests: 42.0, accepted: 40.0, dead_letters: 0.0, held: 1.0 });
    }
}
