//! The arguments of `tail`, `trace`, `sources`, `top` and `plan`.

use std::time::Duration;

use clap::{Args, Subcommand};
use event::Kind;
use jiff::Timestamp;

use super::kinds;

#[derive(Debug, Args)]
pub(crate) struct Tail {
    /// Only events of this source: its name, or provider/name; repeatable.
    #[arg(long = "source", value_name = "SOURCE")]
    pub(crate) sources: Vec<String>,
    /// Only events of this kind; repeatable.
    #[arg(long = "kind", value_name = "KIND", value_parser = kinds())]
    pub(crate) kinds: Vec<Kind>,
    /// Only events of this recipient.
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) recipient: Option<String>,
    /// Begin with the first event that Kafka still has.
    #[arg(long, conflicts_with = "since")]
    pub(crate) from_beginning: bool,
    /// Begin with the events that were written at this time: RFC 3339, or an age such as 10m. Without it, begin with
    /// the next event.
    #[arg(long, value_name = "TIME", value_parser = super::time)]
    pub(crate) since: Option<Timestamp>,
    /// End after this number of events.
    #[arg(long, value_name = "EVENTS", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) count: Option<u64>,
    /// End when everything that is there now was printed.
    #[arg(long)]
    pub(crate) no_follow: bool,
    /// Print addresses of recipients. Without it, they are masked: ada…@example.com.
    #[arg(long)]
    pub(crate) addresses: bool,
    /// Print one JSON object per line. With --addresses it is the whole event.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Trace {
    /// The id of an event, of a request (as the ingress answers it), or of a message.
    #[arg(value_name = "ID")]
    pub(crate) id: String,
    /// How far back to look: RFC 3339, or an age such as 12h. Ids of requests contain their time and need it not.
    #[arg(long, value_name = "TIME", default_value = "3d", value_parser = super::time)]
    pub(crate) since: Timestamp,
    /// How long reading one topic may take, at most 10m.
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = super::send::wait)]
    pub(crate) deadline: Duration,
    /// Print addresses of recipients. Without it, they are masked: ada…@example.com.
    #[arg(long)]
    pub(crate) addresses: bool,
    /// Print one JSON object per step.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum SourcesCommand {
    /// List all configured sources: the URL to paste at the provider, whether the secrets are there, and when the
    /// source was last heard of.
    ///
    /// The columns are provider/source, state, secrets, last event and URL. `secrets` is the number of secrets that
    /// are there of those that are configured; a secret that is not there has a line on standard error. `last event`
    /// is the time of receipt of the newest row of the last 90 days; `-` means that there is none, and `not known`
    /// that ClickHouse could not be asked.
    ///
    /// The exit status is 0 if every secret is there, 1 if one is not, and 2 if the settings are invalid.
    #[command(after_help = "Examples:\n  \
        mailpulse sources ls --base https://hooks.example.com\n  \
        mailpulse sources ls --json | jq -r 'select(.last_event == null) | .source'")]
    Ls(SourcesLs),
}

#[derive(Debug, Args)]
pub(crate) struct SourcesLs {
    /// Scheme and host under which the providers reach the ingress. Without it, the paths are printed.
    #[arg(long, value_name = "URL", default_value = "")]
    pub(crate) base: String,
    /// Print one JSON object per line.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Top {
    /// Print one frame as text, and end.
    #[arg(long)]
    pub(crate) once: bool,
    /// How often the frame is drawn, from 1s to 1m.
    #[arg(long, value_name = "DURATION", default_value = "2s", value_parser = interval)]
    pub(crate) every: Duration,
    /// The admin port of a member that the settings do not name, such as dedupe=10.0.0.7:9103; repeatable.
    #[arg(long = "member", value_name = "SERVICE=HOST:PORT", value_parser = member)]
    pub(crate) members: Vec<(String, String)>,
}

fn interval(text: &str) -> Result<Duration, String> {
    let interval = super::duration(text)?;
    let is_allowed = (Duration::from_secs(1)..=Duration::from_secs(60)).contains(&interval);
    if is_allowed { Ok(interval) } else { Err("write a duration from 1s to 1m".to_owned()) }
}

fn member(text: &str) -> Result<(String, String), String> {
    let parts = text.split_once('=').filter(|(service, admin)| {
        !service.is_empty()
            && admin
                .rsplit_once(':')
                .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
    });
    let (service, admin) = parts.ok_or("write it as dedupe=10.0.0.7:9103")?;
    Ok((service.to_owned(), admin.to_owned()))
}

#[derive(Debug, Args)]
pub(crate) struct Plan {
    /// The events per second that the installation must process.
    #[arg(long, value_name = "EVENTS", value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    pub(crate) events_per_second: u64,
    /// How many events a request of the providers has on average.
    #[arg(long, value_name = "EVENTS", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) events_per_request: u32,
    /// The share of a core that is used at this rate. The rest is for peaks, restarts and catching up.
    #[arg(long, value_name = "SHARE", default_value_t = 0.5, value_parser = share)]
    pub(crate) utilisation: f64,
    /// Print one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
}

fn share(text: &str) -> Result<f64, String> {
    let share = text.parse().ok().filter(|share| (0.05..=1.0).contains(share));
    share.ok_or_else(|| "write a share from 0.05 to 1".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_has_a_service_and_an_address() {
        let parsed = member("dedupe=[::1]:9103").unwrap();
        assert_eq!(parsed, ("dedupe".to_owned(), "[::1]:9103".to_owned()));
        for text in ["dedupe", "=a:1", "dedupe=a", "dedupe=:1", "dedupe=a:x"] {
            assert!(member(text).is_err(), "{text}");
        }
        assert!(interval("1s").is_ok() && interval("500ms").is_err() && interval("2m").is_err());
        assert!(share("0.5").is_ok() && share("0").is_err() && share("nan").is_err());
    }
}
