//! What the rules of `rules.toml` mean, as a model that remembers everything. It shares no code with `automation`.

use std::collections::{BTreeMap, BTreeSet};

use super::log::{Entry, Event, Intent};
use super::rules::{CONTROL, SLOW_CAMPAIGN};
use super::traffic::{HOUR, MINUTE};

pub(super) const COOLDOWN: i64 = 6 * HOUR;
const COOLED_FOLLOW_UP: i64 = 2 * HOUR;
const CAPPED_FOLLOW_UP: i64 = 30 * MINUTE;
const PATTERN: (usize, i64) = (3, 3 * HOUR);
/// The limits per time: rule, count and span in microseconds.
pub(super) const LIMITS: [(&str, usize, i64); 2] =
    [("capped", 12, HOUR), ("capped-clicks", 8, HOUR)];
/// The limit per campaign: rule and count.
pub(super) const CAMPAIGN_LIMIT: (&str, usize) = ("per-campaign", 60);
/// The rules that start from a complaint: `ranked-0` to `ranked-9`, whose priority is their number.
const RANKED: usize = 10;
/// The greatest number of rules that act on one event.
const MOST: usize = 8;

/// What a rule wants or does: the rule, the id of the event, and the index of the follow-up or action.
pub(super) type Wanted = (String, String, Option<u16>);
pub(super) type Done = (String, String, &'static str);

/// What follows from `mail.events`.
#[derive(Debug, Default)]
pub(super) struct Model {
    pub(super) wanted: BTreeSet<Wanted>,
    /// The events whose follow-up an open has answered.
    pub(super) answered: BTreeSet<String>,
    /// The recipients in the segment.
    pub(super) members: BTreeSet<String>,
    /// How often a cooldown held.
    pub(super) cooling: usize,
    /// How often a rule was crowded out by rules with a higher priority.
    pub(super) crowded_out: usize,
}

/// Follow-ups of a partition.
struct Waiting {
    rule: &'static str,
    due: i64,
    /// Whether an open answers it.
    is_answerable: bool,
    event: Event,
}

impl Model {
    /// Reads the partitions of `mail.events`. A recipient is in one of them.
    pub(super) fn of(partitions: &[Vec<Entry>]) -> Self {
        let mut model = Self::default();
        for partition in partitions {
            let (mut waiting, mut people) = (Vec::new(), BTreeMap::new());
            for entry in partition {
                match entry {
                    Entry::Time(time) => model.pass_time(*time, &mut waiting),
                    Entry::Event(event) if !event.authentic => {}
                    Entry::Event(event) if event.is_machine() => {
                        if event.kind == "clicked" {
                            model.want(CONTROL, event);
                        }
                    }
                    Entry::Event(event) => {
                        model.answer(event, &mut waiting);
                        let person = people.entry(event.recipient.clone()).or_default();
                        model.follow(event, person, &mut waiting);
                    }
                }
            }
        }
        model
    }

    fn want(&mut self, rule: &str, event: &Event) {
        self.wanted.insert((rule.to_owned(), event.id.clone(), None));
    }

    fn pass_time(&mut self, now: i64, waiting: &mut Vec<Waiting>) {
        for it in waiting.extract_if(.., |it| it.due <= now) {
            self.wanted.insert((it.rule.to_owned(), it.event.id, Some(1)));
        }
    }

    /// A person who opens or clicks has opened the mail.
    fn answer(&mut self, event: &Event, waiting: &mut Vec<Waiting>) {
        if event.kind != "opened" && event.kind != "clicked" {
            return;
        }
        let mail = |event: &Event| (event.recipient.clone(), event.message_id.clone());
        let is_answered = |it: &mut Waiting| it.is_answerable && mail(&it.event) == mail(event);
        self.answered.extend(waiting.extract_if(.., is_answered).map(|it| it.event.id));
    }

    fn follow(&mut self, event: &Event, person: &mut Person, waiting: &mut Vec<Waiting>) {
        match &*event.kind {
            "subscribed" => {
                self.members.insert(event.recipient.clone());
                self.want("joined", event);
            }
            "unsubscribed" => {
                self.members.remove(&event.recipient);
                self.want("left", event);
            }
            "clicked" => self.click(event, person, waiting),
            "opened" => ["capped", "per-campaign"].into_iter().for_each(|it| self.want(it, event)),
            "delivered" => {
                if event.campaign == SLOW_CAMPAIGN {
                    self.want("slow", event);
                }
                ["quick", "refusing"].into_iter().for_each(|it| self.want(it, event));
            }
            "complained" => {
                self.crowded_out += RANKED - MOST;
                for rank in RANKED - MOST..RANKED {
                    self.want(&format!("ranked-{rank}"), event);
                }
            }
            _ => {}
        }
    }

    fn click(&mut self, event: &Event, person: &mut Person, waiting: &mut Vec<Waiting>) {
        self.want(CONTROL, event);
        if self.members.contains(&event.recipient) {
            self.want("vip-clicked", event);
        }
        person.clicks.push(event.at);
        let (count, within) = PATTERN;
        if person.clicks.iter().filter(|at| event.at - **at < within).count() >= count {
            self.want("patterned", event);
        }
        let mut follow_up = |rule, after, is_answerable| {
            let (due, event) = (event.at + after, event.clone());
            waiting.push(Waiting { rule, due, is_answerable, event });
        };
        follow_up("capped-clicks", CAPPED_FOLLOW_UP, false);
        let is_cooling = person.cooled_at.is_some_and(|at| event.at - at < COOLDOWN);
        if !is_cooling {
            follow_up("cooled", COOLED_FOLLOW_UP, true);
            person.cooled_at = Some(event.at);
            self.want("cooled", event);
        }
        self.cooling += usize::from(is_cooling);
        self.want("capped-clicks", event);
    }
}

#[derive(Debug, Default)]
struct Person {
    /// When the rule `cooled` has acted last.
    cooled_at: Option<i64>,
    clicks: Vec<i64>,
}

/// What the limits allow.
#[derive(Debug, Default)]
pub(super) struct Allowed {
    pub(super) done: BTreeSet<Done>,
    /// How often each rule was refused, by reason.
    pub(super) refused: BTreeMap<(String, &'static str), usize>,
}

/// Applies the limits to intents in the order of their topic, in which all of a rule have one order.
pub(super) fn allowed(intents: &[Intent]) -> Allowed {
    let mut allowed = Allowed::default();
    let (mut times, mut campaigns) = (BTreeMap::new(), BTreeMap::new());
    let mut parents: BTreeSet<&str> = BTreeSet::new();
    for intent in intents {
        let rule = &*intent.rule;
        let limit = LIMITS.iter().find(|(name, ..)| *name == rule);
        let times: &mut Vec<i64> = times.entry(rule).or_default();
        let of_campaign: &mut usize = campaigns.entry((rule, &intent.event.campaign)).or_default();
        // The clock of a rule stands still while an older intent comes from another partition.
        let now = times.last().map_or(intent.at, |last| intent.at.max(*last));
        let is_full = |&(_, count, per): &(&str, usize, i64)| {
            times.iter().rev().take_while(|at| now - **at < per).count() >= count
        };
        let is_orphan = intent.parent.as_deref().is_some_and(|it| !parents.contains(it));
        let refusal = if limit.is_some() && is_orphan {
            Some("parent")
        } else if limit.is_some_and(is_full) {
            Some("limit")
        } else if rule == CAMPAIGN_LIMIT.0 && *of_campaign >= CAMPAIGN_LIMIT.1 {
            Some("campaign_limit")
        } else {
            None
        };
        if let Some(refusal) = refusal {
            *allowed.refused.entry((rule.to_owned(), refusal)).or_default() += 1;
            continue;
        }
        times.push(now);
        *of_campaign += 1;
        parents.insert(&intent.intent_id);
        let index = if intent.follow_up.is_some() { "1.0" } else { "0" };
        allowed.done.insert((rule.to_owned(), intent.event.id.clone(), index));
    }
    allowed
}

/// Returns the greatest number of times in a span, for ascending times.
pub(super) fn most_within(times: &[i64], span: i64) -> usize {
    let from = |at: i64| times.partition_point(|it| *it <= at - span);
    times.iter().enumerate().map(|(place, at)| place + 1 - from(*at)).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn intent(rule: &str, number: u64, at: i64) -> Intent {
        let json = serde_json::json!({
            "intent_id": format!("i{number}"), "rule": rule, "at": at,
            "event": {
                "event_id": number.to_string(), "kind": "clicked", "recipient": "a@example.com",
                "message_id": "m", "campaign": "spring", "received_at": at, "authentic": true,
            },
        });
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn a_limit_holds_in_every_span_and_frees_itself() {
        let minutes = (0..20).map(|it| it * MINUTE).chain([HOUR, HOUR + 12 * MINUTE]);
        let intents: Vec<_> =
            (0..).zip(minutes).map(|(number, at)| intent("capped", number, at)).collect();
        let Allowed { done, refused } = allowed(&intents);
        assert_eq!(
            done.len(),
            12 + 2,
            "those of the first twelve minutes, and the two after an hour"
        );
        assert_eq!(refused[&("capped".to_owned(), "limit")], 8);
    }

    #[test]
    fn a_follow_up_of_a_refused_intent_is_refused() {
        let mut intents: Vec<_> = (0..9).map(|number| intent("capped-clicks", number, 0)).collect();
        for number in [0, 8] {
            let parent = Some(format!("i{number}"));
            let follow_up = intent("capped-clicks", number, 2 * HOUR);
            intents.push(Intent {
                intent_id: format!("f{number}"),
                follow_up: Some(1),
                parent,
                ..follow_up
            });
        }
        let Allowed { done, refused } = allowed(&intents);
        assert_eq!(done.iter().filter(|it| it.2 == "1.0").count(), 1);
        assert_eq!(refused[&("capped-clicks".to_owned(), "parent")], 1);
    }

    #[test]
    fn the_greatest_number_in_a_span_is_found() {
        assert_eq!(most_within(&[], 10), 0);
        assert_eq!(most_within(&[1, 5, 10, 11, 30], 10), 3, "1, 5 and 10, or 5, 10 and 11");
    }
}
