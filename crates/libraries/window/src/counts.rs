use std::ops::{Add, AddAssign, Sub, SubAssign};

use event::{Kind, Permanence};
use serde::{Deserialize, Serialize};

/// The properties of an event that decide which counters it increments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CountedEvent {
    /// The kind decides the counter; the other fields refine bounces, opens and clicks.
    pub kind: Kind,
    /// Whether a bounce is final. `None` counts as undetermined.
    pub permanence: Option<Permanence>,
    /// True for a bounce that came after the message had been reported as delivered (out of band).
    pub late_bounce: bool,
    /// True if a machine, not a person, opened or clicked.
    pub machine: bool,
    /// True for the first open, and for the first click, by a person of this message and recipient.
    pub first_of_kind: bool,
    /// True for the first engagement (open or click) by a person of this message and recipient.
    pub first_engagement: bool,
}

macro_rules! counts {
    ($($(#[$doc:meta])+ $field:ident),+ $(,)?) => {
        /// The counters of a pane, a window or a delta.
        ///
        /// The JSON form omits zeros. Addition and subtraction wrap around, so they are exact
        /// inverses in any order: a running sum is zero after every pane was subtracted again.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(default)]
        pub struct Counts {
            $($(#[$doc])+ #[serde(skip_serializing_if = "is_zero")] pub $field: u64,)+
        }

        impl AddAssign<&Counts> for Counts {
            fn add_assign(&mut self, other: &Counts) {
                $(self.$field = self.$field.wrapping_add(other.$field);)+
            }
        }

        impl SubAssign<&Counts> for Counts {
            fn sub_assign(&mut self, other: &Counts) {
                $(self.$field = self.$field.wrapping_sub(other.$field);)+
            }
        }
    };
}

counts! {
    /// Messages the provider accepted for sending. The denominator *sent* is based on them.
    accepted,
    /// Messages the recipient's server accepted.
    delivered,
    /// Temporary rejections by the recipient's server; the provider retries.
    deferred,
    /// Permanent bounces, including late ones.
    bounced_hard,
    /// Bounces with a temporary cause, including late ones.
    bounced_soft,
    /// Bounces that the provider reports neither as permanent nor as temporary, including late ones.
    bounced_undetermined,
    /// The part of all bounces that came after the message was reported as delivered.
    late_bounces,
    /// Messages the provider did not attempt to deliver.
    dropped,
    /// Opens by people, once per message and recipient.
    opened,
    /// Clicks by people, once per message and recipient.
    clicked,
    /// Engagements (opens or clicks) by people, once per message and recipient.
    engaged,
    /// All opens by machines.
    machine_opened,
    /// All clicks by machines.
    machine_clicked,
    /// Spam complaints.
    complained,
    /// Unsubscribes by recipients.
    unsubscribed,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde requires this signature")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

impl Counts {
    /// Returns true if all counters are 0.
    pub fn is_zero(&self) -> bool {
        *self == Self::default()
    }

    /// Returns the sum of hard, soft and undetermined bounces.
    pub const fn bounced(&self) -> u64 {
        self.bounced_hard.wrapping_add(self.bounced_soft).wrapping_add(self.bounced_undetermined)
    }

    /// Counts one event. Opens and clicks by people count once per message and recipient, as marked
    /// in the event; those by machines have their own counters.
    pub fn add_event(&mut self, event: &CountedEvent) {
        match event.kind {
            Kind::Accepted => self.accepted += 1,
            Kind::Delivered => self.delivered += 1,
            Kind::Deferred => self.deferred += 1,
            Kind::Bounced => self.add_bounce(event),
            Kind::Dropped => self.dropped += 1,
            Kind::Opened if event.machine => self.machine_opened += 1,
            Kind::Clicked if event.machine => self.machine_clicked += 1,
            Kind::Opened => {
                self.opened += u64::from(event.first_of_kind);
                self.engaged += u64::from(event.first_engagement);
            }
            Kind::Clicked => {
                self.clicked += u64::from(event.first_of_kind);
                self.engaged += u64::from(event.first_engagement);
            }
            Kind::Complained => self.complained += 1,
            Kind::Unsubscribed => self.unsubscribed += 1,
            Kind::Subscribed | Kind::Verified | Kind::Other => {}
        }
    }

    fn add_bounce(&mut self, event: &CountedEvent) {
        match event.permanence.unwrap_or(Permanence::Undetermined) {
            Permanence::Hard => self.bounced_hard += 1,
            Permanence::Soft => self.bounced_soft += 1,
            Permanence::Undetermined => self.bounced_undetermined += 1,
        }
        self.late_bounces += u64::from(event.late_bounce);
    }
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        *self += &other;
    }
}

impl SubAssign for Counts {
    fn sub_assign(&mut self, other: Self) {
        *self -= &other;
    }
}

impl Add for Counts {
    type Output = Self;

    fn add(mut self, other: Self) -> Self {
        self += &other;
        self
    }
}

impl Sub for Counts {
    type Output = Self;

    fn sub(mut self, other: Self) -> Self {
        self -= &other;
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: CountedEvent = CountedEvent {
        kind: Kind::Other,
        permanence: None,
        late_bounce: false,
        machine: false,
        first_of_kind: false,
        first_engagement: false,
    };

    fn counted(events: &[CountedEvent]) -> String {
        let mut counts = Counts::default();
        events.iter().for_each(|event| counts.add_event(event));
        serde_json::to_string(&counts).unwrap()
    }

    #[test]
    fn each_kind_has_its_counter() {
        for (kind, json) in [
            (Kind::Accepted, r#"{"accepted":1}"#),
            (Kind::Delivered, r#"{"delivered":1}"#),
            (Kind::Deferred, r#"{"deferred":1}"#),
            (Kind::Bounced, r#"{"bounced_undetermined":1}"#),
            (Kind::Dropped, r#"{"dropped":1}"#),
            (Kind::Complained, r#"{"complained":1}"#),
            (Kind::Unsubscribed, r#"{"unsubscribed":1}"#),
            (Kind::Subscribed, "{}"),
            (Kind::Other, "{}"),
        ] {
            assert_eq!(counted(&[CountedEvent { kind, ..PLAIN }]), json);
        }
    }

    #[test]
    fn bounces_count_by_permanence_and_late_ones_count_as_bounces_too() {
        let bounce = |permanence, late_bounce| CountedEvent {
            kind: Kind::Bounced,
            permanence: Some(permanence),
            late_bounce,
            ..PLAIN
        };
        assert_eq!(
            counted(&[
                bounce(Permanence::Hard, true),
                bounce(Permanence::Soft, false),
                bounce(Permanence::Undetermined, false),
            ]),
            r#"{"bounced_hard":1,"bounced_soft":1,"bounced_undetermined":1,"late_bounces":1}"#
        );
    }

    #[test]
    fn people_count_once_and_machines_count_separately() {
        let opened = CountedEvent { kind: Kind::Opened, ..PLAIN };
        let clicked = CountedEvent { kind: Kind::Clicked, ..PLAIN };
        assert_eq!(
            counted(&[
                CountedEvent {
                    machine: true,
                    first_of_kind: true,
                    first_engagement: true,
                    ..opened
                },
                CountedEvent { machine: true, ..opened },
                CountedEvent { machine: true, ..clicked },
                CountedEvent { first_of_kind: true, first_engagement: true, ..opened },
                opened,
                CountedEvent { first_of_kind: true, ..clicked },
                clicked,
            ]),
            r#"{"opened":1,"clicked":1,"engaged":1,"machine_opened":2,"machine_clicked":1}"#
        );
    }

    #[test]
    fn subtraction_undoes_addition_exactly() {
        let a = Counts { accepted: 3, clicked: 1, ..Counts::default() };
        let b = Counts { accepted: u64::MAX, opened: 7, ..Counts::default() };
        assert_eq!(a + b - a, b);
        assert!((a + b - b - a).is_zero());
        assert!(!a.is_zero());
    }
}
