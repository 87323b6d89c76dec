use std::ops::{Add, AddAssign, Sub, SubAssign};

use event::{Kind, Permanence};
use serde::{Deserialize, Serialize};

/// What the fold step reads from one event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fact {
    /// What became of the message.
    pub kind: Kind,
    /// Whether a bounce is final; `None` counts as undetermined.
    pub permanence: Option<Permanence>,
    /// A bounce that came after the message had been reported as delivered (out of band).
    pub late_bounce: bool,
    /// A machine, not a person, opened or clicked.
    pub machine: bool,
    /// The first open, or the first click, by a person of this message and recipient.
    pub first_of_kind: bool,
    /// The first open or click, whichever came first, by a person of this message and recipient.
    pub first_engagement: bool,
}

macro_rules! counts {
    ($($(#[$doc:meta])+ $field:ident),+ $(,)?) => {
        /// How many of what happened: the content of a pane, a window or a delta.
        ///
        /// The JSON form leaves zeros out. Addition and subtraction wrap around, which makes them
        /// exact inverses in any order: a running sum from which every pane was taken away again
        /// is zero.
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
    /// Messages the provider took for sending: *sent*.
    accepted,
    /// Messages the recipient's server took.
    delivered,
    /// Temporary refusals.
    deferred,
    /// Final bounces, late ones included.
    bounced_hard,
    /// Bounces that a later attempt might not meet, late ones included.
    bounced_soft,
    /// Bounces of which the provider does not say, late ones included.
    bounced_undetermined,
    /// Those of the bounces above that came after the message was reported as delivered.
    late_bounces,
    /// Messages never tried.
    dropped,
    /// Messages opened by a person, once per message and recipient.
    opened,
    /// Messages in which a person followed a link, once per message and recipient.
    clicked,
    /// Messages a person opened or clicked, once per message and recipient.
    engaged,
    /// Opens by machines, every one.
    machine_opened,
    /// Clicks by machines, every one.
    machine_clicked,
    /// Reports as spam.
    complained,
    /// Recipients who no longer want this mail.
    unsubscribed,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature serde asks for")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

impl Counts {
    /// Whether nothing happened at all.
    pub fn is_zero(&self) -> bool {
        *self == Self::default()
    }

    /// Hard, soft and undetermined bounces.
    pub const fn bounced(&self) -> u64 {
        self.bounced_hard.wrapping_add(self.bounced_soft).wrapping_add(self.bounced_undetermined)
    }

    /// Counts one event. People's opens and clicks count once per message and recipient, by the
    /// fact's own word; machines' are counted apart.
    pub fn add_fact(&mut self, fact: &Fact) {
        match fact.kind {
            Kind::Accepted => self.accepted += 1,
            Kind::Delivered => self.delivered += 1,
            Kind::Deferred => self.deferred += 1,
            Kind::Bounced => self.add_bounce(fact),
            Kind::Dropped => self.dropped += 1,
            Kind::Opened if fact.machine => self.machine_opened += 1,
            Kind::Clicked if fact.machine => self.machine_clicked += 1,
            Kind::Opened => {
                self.opened += u64::from(fact.first_of_kind);
                self.engaged += u64::from(fact.first_engagement);
            }
            Kind::Clicked => {
                self.clicked += u64::from(fact.first_of_kind);
                self.engaged += u64::from(fact.first_engagement);
            }
            Kind::Complained => self.complained += 1,
            Kind::Unsubscribed => self.unsubscribed += 1,
            Kind::Subscribed | Kind::Other => {}
        }
    }

    fn add_bounce(&mut self, fact: &Fact) {
        match fact.permanence.unwrap_or(Permanence::Undetermined) {
            Permanence::Hard => self.bounced_hard += 1,
            Permanence::Soft => self.bounced_soft += 1,
            Permanence::Undetermined => self.bounced_undetermined += 1,
        }
        self.late_bounces += u64::from(fact.late_bounce);
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

    const PLAIN: Fact = Fact {
        kind: Kind::Other,
        permanence: None,
        late_bounce: false,
        machine: false,
        first_of_kind: false,
        first_engagement: false,
    };

    fn counted(facts: &[Fact]) -> String {
        let mut counts = Counts::default();
        facts.iter().for_each(|fact| counts.add_fact(fact));
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
            assert_eq!(counted(&[Fact { kind, ..PLAIN }]), json);
        }
    }

    #[test]
    fn bounces_are_told_apart_and_late_ones_are_bounces_too() {
        let bounce = |permanence, late_bounce| Fact {
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
    fn people_count_once_and_machines_apart() {
        let opened = Fact { kind: Kind::Opened, ..PLAIN };
        let clicked = Fact { kind: Kind::Clicked, ..PLAIN };
        assert_eq!(
            counted(&[
                Fact { machine: true, first_of_kind: true, first_engagement: true, ..opened },
                Fact { machine: true, ..opened },
                Fact { machine: true, ..clicked },
                Fact { first_of_kind: true, first_engagement: true, ..opened },
                opened,
                Fact { first_of_kind: true, ..clicked },
                clicked,
            ]),
            r#"{"opened":1,"clicked":1,"engaged":1,"machine_opened":2,"machine_clicked":1}"#
        );
    }

    #[test]
    fn sums_undo_exactly() {
        let a = Counts { accepted: 3, clicked: 1, ..Counts::default() };
        let b = Counts { accepted: u64::MAX, opened: 7, ..Counts::default() };
        assert_eq!(a + b - a, b);
        assert!((a + b - b - a).is_zero());
        assert!(!a.is_zero());
    }
}
