use std::io::Write;
use std::ops::Range;

use record::{Tally, names};

use crate::judgement::Findings;

/// The headers that dedupe adds to an event. Kept to reuse its memory.
#[derive(Debug, Default)]
pub struct OutputHeaders {
    /// The values that are not constant, one after the other.
    text: Vec<u8>,
    headers: Vec<(&'static str, Range<usize>)>,
}

impl OutputHeaders {
    /// Replaces the headers by those for an event with these findings.
    pub fn set(&mut self, findings: &Findings) {
        self.text.clear();
        self.headers.clear();
        let Findings { seen, sent, counts, corrections, first, .. } = findings;
        Tally::write(*seen, *sent, *counts, &mut self.text);
        self.headers.push((names::TALLY, 0..self.text.len()));
        if findings.is_late {
            self.add(names::LATE, format_args!(""));
        }
        if let Some(corrections) = corrections {
            self.add(names::CORRECTIONS, format_args!("{corrections}"));
        }
        if findings.is_unjudged {
            self.add(names::UNJUDGED, format_args!(""));
        }
        if let Some(first) = first {
            self.add(names::FIRST, format_args!("{}", first.as_header()));
        }
        if findings.automation.is_some() {
            self.add(names::MACHINE, format_args!(""));
        }
    }

    /// Returns the headers in their order.
    pub fn as_pairs(&self) -> Vec<(&'static str, &[u8])> {
        self.headers.iter().map(|(name, range)| (*name, &self.text[range.clone()])).collect()
    }

    fn add(&mut self, name: &'static str, value: std::fmt::Arguments<'_>) {
        let start = self.text.len();
        // Writing to memory does not fail.
        let _ = self.text.write_fmt(value);
        self.headers.push((name, start..self.text.len()));
    }
}

#[cfg(test)]
mod tests {
    use event::{Automation, AutomationReason, CounterSet, OccurredAt};
    use record::FirstSeen;

    use super::*;

    fn headers(findings: &Findings) -> Vec<(&'static str, String)> {
        let mut headers = OutputHeaders::default();
        headers.set(&Findings { seen: Some(9), is_late: true, ..Findings::default() });
        headers.set(findings);
        let pairs = headers.as_pairs();
        pairs.into_iter().map(|(k, v)| (k, String::from_utf8(v.to_vec()).unwrap())).collect()
    }

    #[test]
    fn findings_are_written_as_they_are_read() {
        let corrections = "tenant:-bounced_soft@1000";
        let findings = Findings {
            seen: Some(1),
            sent: Some(OccurredAt(-5)),
            is_late: true,
            counts: CounterSet::from_names("late_bounces").unwrap(),
            corrections: Some(corrections.parse().unwrap()),
            first: Some(FirstSeen { of_kind: true, of_engagement: false }),
            is_unjudged: true,
            automation: Some(Automation { reason: AutomationReason::Bot, confidence: 1.0 }),
        };
        let written = headers(&findings);
        let expected = [
            ("tally", "1;-5;late_bounces"),
            ("late", ""),
            ("corrections", corrections),
            ("unjudged", ""),
            ("first", "kind"),
            ("machine", ""),
        ];
        assert_eq!(written, expected.map(|(name, value)| (name, value.to_owned())));
        let look_up = |name: &str| {
            written.iter().find(|(key, _)| *key == name).map(|(_, value)| value.as_bytes())
        };
        let tally = Tally::read(&look_up).unwrap();
        let Findings { seen, sent, counts, corrections, .. } = findings;
        assert_eq!(tally, Tally { seen, sent, counts: Some(counts), corrections });
    }

    #[test]
    fn an_event_that_counts_for_nothing_says_so() {
        let written = headers(&Findings::default());
        assert_eq!(written, [("tally", ";;".to_owned())]);
    }
}
