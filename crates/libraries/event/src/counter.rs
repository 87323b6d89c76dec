use std::fmt;

use crate::{BounceClass, BounceSide, Event, Kind, Permanence};

macro_rules! counters {
    ($($(#[$doc:meta])+ $variant:ident => $name:literal,)+) => {
        /// What an event can count for. Unless noted, a counter counts pairs of message and recipient,
        /// not events. `docs/metrics.md` defines the rates that are computed from them.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum Counter {
            $($(#[$doc])+ $variant,)+
        }

        impl Counter {
            /// Every counter, in numeric order.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The stable name in JSON, record headers and ClickHouse.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name),+ }
            }

            /// Returns the counter with this name.
            pub fn from_name(name: &str) -> Option<Self> {
                match name { $($name => Some(Self::$variant),)+ _ => None }
            }
        }
    };
}

counters! {
    /// The provider took the message in for sending (events of the kind `accepted`).
    Injected => "injected",
    /// The recipient's server accepted it.
    Delivered => "delivered",
    /// The recipient's server refused it for now, at least once.
    Deferred => "deferred",
    /// It was deferred, and later delivered or bounced.
    DeferredSettled => "deferred_settled",
    /// All temporary refusals, also repeated ones of the same message.
    Deferrals => "deferrals",
    /// Bounced permanently, not because of the sender.
    BouncedHard => "bounced_hard",
    /// Bounced for a temporary reason, not because of the sender.
    BouncedSoft => "bounced_soft",
    /// Bounced because of the sender: reputation, content, authentication or rate.
    BouncedBlock => "bounced_block",
    /// Bounced, and the provider tells neither whether it is permanent nor that the sender caused it.
    BouncedUndetermined => "bounced_undetermined",
    /// Answered automatically. Not a bounce.
    AutoReplies => "auto_replies",
    /// Bounced after it was delivered. Not in the other counters of bounces.
    LateBounces => "late_bounces",
    /// The provider did not attempt to deliver it.
    Dropped => "dropped",
    /// Not attempted, because the address is on the provider's suppression list.
    Suppressed => "suppressed",
    /// Opened by a person.
    Opened => "opened",
    /// Clicked by a person.
    Clicked => "clicked",
    /// Opened or clicked by a person.
    Engaged => "engaged",
    /// Opened by a machine.
    MachineOpened => "machine_opened",
    /// Clicked by a machine.
    MachineClicked => "machine_clicked",
    /// Reported as spam.
    Complained => "complained",
    /// The recipient unsubscribed.
    Unsubscribed => "unsubscribed",
    /// The part of `delivered` at mailbox providers that report complaints to the source.
    DeliveredFbl => "delivered_fbl",
    /// The part of `late_bounces` at mailbox providers that report complaints to the source.
    LateBouncesFbl => "late_bounces_fbl",
    /// Refused because SPF, DKIM or DMARC failed.
    AuthRefused => "auth_refused",
    /// Refused because of the rate or the reputation of the sender.
    Throttled => "throttled",
    /// Refused because the sender is on a block list.
    Listed => "listed",
    /// Bounced for a reason without a class.
    Unclassified => "unclassified",
}

/// A set of counters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct CounterSet(u32);

impl CounterSet {
    pub const EMPTY: Self = Self(0);

    /// Returns the set with the counter added.
    #[must_use]
    pub const fn with(self, counter: Counter) -> Self {
        Self(self.0 | 1 << counter as u32)
    }

    /// Returns the set with the counter added if `condition` is true.
    #[must_use]
    pub const fn with_if(self, condition: bool, counter: Counter) -> Self {
        if condition { self.with(counter) } else { self }
    }

    /// Returns the set without the counter.
    #[must_use]
    pub const fn without(self, counter: Counter) -> Self {
        Self(self.0 & !(1 << counter as u32))
    }

    pub const fn contains(self, counter: Counter) -> bool {
        self.0 & 1 << counter as u32 != 0
    }

    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Returns the counters in numeric order.
    pub fn iter(self) -> impl Iterator<Item = Counter> {
        Counter::ALL.iter().copied().filter(move |&counter| self.contains(counter))
    }

    /// Returns the set as bits: bit n is the counter with the number n. Numbers never change.
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// Reads the set from bits. Returns `None` if a bit is not a counter.
    pub const fn from_bits(bits: u32) -> Option<Self> {
        if bits >> Counter::ALL.len() == 0 { Some(Self(bits)) } else { None }
    }

    /// Reads names that are separated by commas. Returns `None` if one is not a counter.
    pub fn from_names(names: &str) -> Option<Self> {
        let mut names = names.split(',').filter(|name| !name.is_empty());
        names.try_fold(Self::EMPTY, |set, name| Some(set.with(Counter::from_name(name)?)))
    }
}

impl FromIterator<Counter> for CounterSet {
    fn from_iter<I: IntoIterator<Item = Counter>>(counters: I) -> Self {
        counters.into_iter().fold(Self::EMPTY, Self::with)
    }
}

impl fmt::Display for CounterSet {
    /// Writes the names, separated by commas.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, counter) in self.iter().enumerate() {
            if number > 0 {
                f.write_str(",")?;
            }
            f.write_str(counter.as_str())?;
        }
        Ok(())
    }
}

impl Event<'_> {
    /// Returns what the event counts for if it is the first of its kind for its message and recipient.
    /// `dedupe` decides whether it is, and whether a bounce is late.
    ///
    /// `reports_complaints` tells whether the recipient's mailbox provider reports complaints to the
    /// source. A bounce there has `late_bounces_fbl`, which counts only if the bounce is late.
    pub fn would_count(&self, reports_complaints: bool) -> CounterSet {
        use Counter as C;
        let set = CounterSet::EMPTY;
        match self.kind {
            Kind::Accepted => set.with(C::Injected),
            Kind::Delivered => set.with(C::Delivered).with_if(reports_complaints, C::DeliveredFbl),
            Kind::Deferred => self.with_causes(set.with(C::Deferred).with(C::Deferrals)),
            Kind::Bounced => self.would_count_bounce(reports_complaints),
            Kind::Dropped if self.has_class(BounceClass::Suppressed) => set.with(C::Suppressed),
            Kind::Dropped => set.with(C::Dropped),
            Kind::Opened if self.automation.is_some() => set.with(C::MachineOpened),
            Kind::Opened => set.with(C::Opened).with(C::Engaged),
            Kind::Clicked if self.automation.is_some() => set.with(C::MachineClicked),
            Kind::Clicked => set.with(C::Clicked).with(C::Engaged),
            Kind::Complained => set.with(C::Complained),
            Kind::Unsubscribed => set.with(C::Unsubscribed),
            Kind::Other if self.has_class(BounceClass::AutoReply) => set.with(C::AutoReplies),
            Kind::Subscribed | Kind::Verified | Kind::Other => set,
        }
    }

    fn would_count_bounce(&self, reports_complaints: bool) -> CounterSet {
        use Counter as C;
        let class = self.bounce.as_ref().map_or(BounceClass::Other, |bounce| bounce.class);
        match class {
            BounceClass::AutoReply => return CounterSet::EMPTY.with(C::AutoReplies),
            BounceClass::Suppressed => return CounterSet::EMPTY.with(C::Suppressed),
            _ => {}
        }
        let bounce = self.bounce.as_ref();
        let counter = match bounce.map(|bounce| (bounce.side, bounce.permanence)) {
            _ if bounce.is_some_and(|bounce| bounce.late) => C::LateBounces,
            Some((BounceSide::Sender, _)) => C::BouncedBlock,
            Some((_, Permanence::Hard)) => C::BouncedHard,
            Some((_, Permanence::Soft)) => C::BouncedSoft,
            Some((_, Permanence::Undetermined)) | None => C::BouncedUndetermined,
        };
        let set = CounterSet::EMPTY
            .with(counter)
            .with_if(reports_complaints, C::LateBouncesFbl)
            .with_if(class == BounceClass::Other, C::Unclassified);
        self.with_causes(set)
    }

    /// Adds the counters of why a server refused the message.
    fn with_causes(&self, set: CounterSet) -> CounterSet {
        let class = self.bounce.as_ref().map(|bounce| bounce.class);
        let mut set = set
            .with_if(class == Some(BounceClass::Authentication), Counter::AuthRefused)
            .with_if(class == Some(BounceClass::RateLimited), Counter::Throttled);
        for signal in &self.signals {
            set = set.with(match signal.as_str() {
                "auth" => Counter::AuthRefused,
                "listed" => Counter::Listed,
                _ => Counter::Throttled,
            });
        }
        set
    }

    fn has_class(&self, class: BounceClass) -> bool {
        self.bounce.as_ref().is_some_and(|bounce| bounce.class == class)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::value::RawValue;

    use super::*;

    fn would_count(json: &str, reports_complaints: bool) -> String {
        let event: Event<'_> = serde_json::from_str(json).unwrap();
        let _: &RawValue = event.raw;
        event.would_count(reports_complaints).to_string()
    }

    fn event(rest: &str) -> String {
        format!(
            r#"{{"event_id":"000102030405060708090a0b0c0d0e0f","provider":"ses","source":"acme","occurred_at":1,"received_at":2,"provider_event":"x","request_id":"r","raw":{{}},{rest}}}"#
        )
    }

    #[test]
    fn names_round_trip() {
        for (number, &counter) in Counter::ALL.iter().enumerate() {
            assert_eq!(counter as usize, number);
            assert_eq!(Counter::from_name(counter.as_str()), Some(counter));
            let set = CounterSet::EMPTY.with(counter);
            assert_eq!(CounterSet::from_names(&set.to_string()), Some(set));
        }
        // The numbers are part of the header `for-dedupe`, so a new counter comes last.
        assert_eq!((Counter::Injected as u8, Counter::Delivered as u8), (0, 1));
        assert_eq!((Counter::BouncedHard as u8, Counter::Dropped as u8), (5, 11));
        assert_eq!((Counter::Opened as u8, Counter::Complained as u8), (13, 18));
        assert_eq!((Counter::DeliveredFbl as u8, Counter::Unclassified as u8), (20, 25));
        let set: CounterSet = [Counter::Opened, Counter::Engaged].into_iter().collect();
        assert_eq!(set.to_string(), "opened,engaged");
        assert_eq!(set.without(Counter::Opened).to_string(), "engaged");
        assert_eq!(CounterSet::from_names(""), Some(CounterSet::EMPTY));
        assert_eq!(CounterSet::from_names("opened,nothing"), None);
    }

    #[test]
    fn an_event_counts_by_its_kind_and_cause() {
        for (json, names) in [
            (r#""kind":"accepted""#, "injected"),
            (r#""kind":"delivered""#, "delivered"),
            (r#""kind":"deferred""#, "deferred,deferrals"),
            (r#""kind":"bounced""#, "bounced_undetermined,unclassified"),
            (r#""kind":"dropped""#, "dropped"),
            (r#""kind":"opened""#, "opened,engaged"),
            (r#""kind":"clicked""#, "clicked,engaged"),
            (r#""kind":"opened","automation":{"reason":"bot","confidence":1}"#, "machine_opened"),
            (r#""kind":"complained""#, "complained"),
            (r#""kind":"verified""#, ""),
        ] {
            assert_eq!(would_count(&event(json), false), names, "{json}");
        }
        assert_eq!(would_count(&event(r#""kind":"delivered""#), true), "delivered,delivered_fbl");
    }

    #[test]
    fn a_bounce_counts_by_its_side_and_permanence() {
        let bounced = |kind: &str, permanence: &str, class: &str, side: &str, rest: &str| {
            let bounce = format!(
                r#""kind":"{kind}","bounce":{{"permanence":"{permanence}","class":"{class}","side":"{side}"{rest}}}"#
            );
            would_count(&event(&bounce), false)
        };
        let of = |permanence, class, side| bounced("bounced", permanence, class, side, "");
        assert_eq!(of("hard", "invalid_recipient", "recipient"), "bounced_hard");
        assert_eq!(of("soft", "mailbox_full", "recipient"), "bounced_soft");
        assert_eq!(of("undetermined", "technical", "network"), "bounced_undetermined");
        assert_eq!(of("hard", "reputation", "sender"), "bounced_block");
        assert_eq!(of("soft", "rate_limited", "sender"), "bounced_block,throttled");
        assert_eq!(of("hard", "authentication", "sender"), "bounced_block,auth_refused");
        assert_eq!(of("soft", "auto_reply", "recipient"), "auto_replies");
        assert_eq!(of("hard", "suppressed", "recipient"), "suppressed");
        assert_eq!(of("hard", "other", "unknown"), "bounced_hard,unclassified");
        let late = r#","late":true"#;
        let late = bounced("bounced", "hard", "invalid_recipient", "recipient", late);
        assert_eq!(late, "late_bounces");
        assert_eq!(bounced("dropped", "hard", "suppressed", "recipient", ""), "suppressed");
        assert_eq!(bounced("other", "soft", "auto_reply", "recipient", ""), "auto_replies");
    }

    #[test]
    fn signals_are_causes() {
        let json = r#""kind":"deferred","signals":["yahoo_tss04","listed","auth"]"#;
        let names = "deferred,deferrals,auth_refused,throttled,listed";
        assert_eq!(would_count(&event(json), false), names);
    }
}
