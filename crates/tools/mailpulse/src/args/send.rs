//! The arguments of `send` and `load`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use event::Kind;

use super::{duration, kinds};

/// The greatest rate of `load`, in events per second.
pub(crate) const MAX_RATE: u32 = 20_000;
/// The longest time of `load`.
const MAX_DURATION: Duration = Duration::from_secs(3600);
/// The longest time of `send`.
const MAX_WAIT: Duration = Duration::from_secs(600);

#[derive(Debug, Args)]
pub(crate) struct Send {
    /// The configured source: its name, or provider/name.
    #[arg(value_name = "SOURCE")]
    pub(crate) source: String,
    /// The kind of the event.
    #[arg(long, value_name = "KIND", default_value = "delivered", value_parser = kinds())]
    pub(crate) kind: Kind,
    /// The recipient of the event. A bounce, a complaint or an unsubscription counts like a real one for this address,
    /// so `suppress` may suppress it.
    #[arg(long, value_name = "ADDRESS", default_value = crate::post::RECIPIENT)]
    pub(crate) recipient: String,
    #[command(flatten)]
    pub(crate) to: Ingress,
    #[command(flatten)]
    pub(crate) with: SignWith,
    /// How long to wait until the event is a row, at most 10m.
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = wait)]
    pub(crate) wait: Duration,
    /// Print one JSON object per step.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Load {
    /// The configured source: its name, or provider/name.
    #[arg(long, value_name = "SOURCE")]
    pub(crate) source: String,
    /// The kind of the events.
    #[arg(long, value_name = "KIND", default_value = "delivered", value_parser = kinds())]
    pub(crate) kind: Kind,
    /// Events per second, at most 20000. Each is a request of its own.
    #[arg(long, value_name = "EVENTS", value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_RATE)))]
    pub(crate) rate: u32,
    /// How long to post, at most 1h.
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = load_duration)]
    pub(crate) duration: Duration,
    /// How many requests may wait for their answers at the same time. If all of them wait, fewer events are posted
    /// than
    /// --rate.
    #[arg(long, value_name = "REQUESTS", default_value_t = 256, value_parser = clap::value_parser!(u16).range(1..=4096))]
    pub(crate) connections: u16,
    #[command(flatten)]
    pub(crate) to: Ingress,
    #[command(flatten)]
    pub(crate) with: SignWith,
}

/// Where requests are posted to.
#[derive(Debug, Clone, Args)]
pub(crate) struct Ingress {
    /// The ingress: scheme, host and port, to which the path of the source is appended. The default is the port of
    /// `ingress.listen` on this machine.
    #[arg(long, value_name = "URL")]
    pub(crate) url: Option<String>,
}

/// The keys of requests.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct SignWith {
    /// A file with a secret or a private key that signs, instead of the secrets of the source; repeatable. SendGrid,
    /// Postal and SES need one, because their configuration has only the key that verifies.
    #[arg(long = "secret-file", value_name = "FILE")]
    pub(crate) secret_files: Vec<PathBuf>,
    /// Postal: the id of the key, which is sent in a header.
    #[arg(long, value_name = "ID", default_value = "mailpulse")]
    pub(crate) key_id: String,
}

pub(super) fn wait(text: &str) -> Result<Duration, String> {
    at_most(text, MAX_WAIT, "10m")
}

fn load_duration(text: &str) -> Result<Duration, String> {
    at_most(text, MAX_DURATION, "1h")
}

fn at_most(text: &str, limit: Duration, limit_text: &str) -> Result<Duration, String> {
    let duration = duration(text)?;
    if duration.is_zero() || duration > limit {
        return Err(format!("write a duration from 1ms to {limit_text}"));
    }
    Ok(duration)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_bounded() {
        assert_eq!(wait("30s"), Ok(Duration::from_secs(30)));
        assert_eq!(load_duration("1h"), Ok(Duration::from_secs(3600)));
        for text in ["0s", "11m", "soon"] {
            assert!(wait(text).is_err(), "{text}");
        }
        assert!(load_duration("61m").unwrap_err().contains("1h"));
    }
}
