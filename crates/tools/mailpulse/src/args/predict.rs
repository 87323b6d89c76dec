use std::time::Duration;

use clap::Args;
use jiff::Timestamp;

/// The shortest interval between two runs.
const SHORTEST: Duration = Duration::from_secs(1);

#[derive(Debug, Args)]
pub(crate) struct Predict {
    /// Run at once and then again at this interval, until SIGTERM. A run that failed is logged, and the next one comes at
    /// the same interval.
    #[arg(long, value_name = "DURATION", value_parser = interval, conflicts_with_all = ["at", "print"])]
    pub(crate) every: Option<Duration>,
    /// The time of the predictions, which has passed: RFC 3339, or an age such as 2h or 3d. Mail that was sent after it is not
    /// read. Without it, the present.
    #[arg(long, value_name = "TIME", value_parser = super::time)]
    pub(crate) at: Option<Timestamp>,
    /// Only the source with this name.
    #[arg(long, value_name = "NAME")]
    pub(crate) source: Option<String>,
    /// Print what would be predicted for each source, and write nothing.
    #[arg(long)]
    pub(crate) print: bool,
}

fn interval(text: &str) -> Result<Duration, String> {
    let interval = service::units::parse_duration(text).map_err(|error| error.to_string())?;
    if interval < SHORTEST {
        return Err("write an interval of 1s or more, such as 24h".to_owned());
    }
    Ok(interval)
}
