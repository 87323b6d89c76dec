//! Numerators and denominators in SQL, by docs/metrics.md. The names are those of the counters.

/// The parts of a share as SQL expressions over sums of counters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Formula {
    pub(crate) numerator: String,
    pub(crate) denominator: String,
}

const BOUNCES: &str = "bounced_hard + bounced_soft + bounced_block + bounced_undetermined";

/// Everything that happens, once per message and recipient; repeated deferrals count each time.
const EVENTS: &str = "injected + delivered + deferrals + late_bounces + auto_replies + dropped + opened + clicked \
                      + machine_opened + machine_clicked + complained + unsubscribed + bounced_hard + bounced_soft \
                      + bounced_block + bounced_undetermined";

/// Returns the formula of a rate or share. In a cohort, what recipients accepted is without late bounces.
pub(crate) fn formula(metric: &str, is_cohort: bool) -> Option<Formula> {
    let sent = format!("delivered + {BOUNCES}");
    let attempted = format!("greatest({sent} + deferred - deferred_settled, 0)");
    let (accepted, with_feedback) = if is_cohort {
        ("greatest(delivered - late_bounces, 0)", "greatest(delivered_fbl - late_bounces_fbl, 0)")
    } else {
        ("delivered", "delivered_fbl")
    };
    // Refusals count for every attempt, so they can be more than the messages that were sent.
    let of_sent = |counter: &str| (counter.to_owned(), format!("greatest({sent}, {counter})"));
    let pair = |numerator: &str, denominator: &str| (numerator.to_owned(), denominator.to_owned());
    let (numerator, denominator) = match metric {
        "bounce" => pair(BOUNCES, &sent),
        "hard_bounce" => pair("bounced_hard", &sent),
        "soft_bounce" => pair("bounced_soft", &sent),
        "block_bounce" => pair("bounced_block", &sent),
        "undetermined_bounce" => pair("bounced_undetermined", &sent),
        "late_bounce" => pair("late_bounces", "delivered"),
        "deferral" => pair("deferred", &attempted),
        "delivery" => pair(accepted, &sent),
        "complaint" => pair("complained", with_feedback),
        "plain_complaint" => pair("complained", accepted),
        "unsubscribe" => pair("unsubscribed", accepted),
        "open" => pair("opened", accepted),
        "open_with_machines" => pair("opened + machine_opened", accepted),
        "click" => pair("clicked", accepted),
        "engagement" => pair("engaged", accepted),
        "injection_loss" => pair(&format!("greatest(injected - {attempted}, 0)"), "injected"),
        "auth_refused" => of_sent("auth_refused"),
        "throttled" => of_sent("throttled"),
        "listed" => of_sent("listed"),
        "suppressed" => pair("suppressed", "injected + dropped"),
        "unclassified" => pair("unclassified", &format!("{BOUNCES} + late_bounces")),
        "deliveries_missing" => {
            let others = format!("greatest({EVENTS} - delivered, 0)");
            pair(&format!("if(delivered = 0, {others}, 0)"), &others)
        }
        _ => return None,
    };
    Some(Formula { numerator, denominator })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rate_has_a_formula() {
        for metric in window::Metric::ALL {
            for is_cohort in [false, true] {
                assert!(formula(metric.as_str(), is_cohort).is_some(), "{metric}");
            }
        }
        for share in [
            "auth_refused",
            "throttled",
            "listed",
            "suppressed",
            "unclassified",
            "deliveries_missing",
        ] {
            assert!(formula(share, false).is_some(), "{share}");
        }
        assert_eq!(formula("luck", false), None);
    }
}
