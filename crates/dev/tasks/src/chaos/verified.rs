//! Every alert must be equal for `mailpulse alerts verify --all`.

use super::balance::{Balance, Errors};
use crate::pipeline::Pipeline;
use crate::verify_alerts::verify_alerts;

pub(super) fn prove(balance: &mut Balance, pipeline: &Pipeline) -> anyhow::Result<()> {
    const PART: &str = "mailpulse alerts verify --all";
    let verified = verify_alerts(pipeline)?;
    let mut others = Errors::default();
    verified.others.iter().for_each(|(_, line)| others.add(|| line.clone()));
    let all = verified.counts.values().sum();
    balance.line(PART, "alerts that are equal", verified.count("equal"), all);
    balance.none(PART, "alerts that are different or unverifiable", &others);
    balance.line(PART, "exit status other than 0", u64::from(!verified.succeeded), 0);
    Ok(())
}
