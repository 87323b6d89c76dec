use std::collections::VecDeque;

use event::Counter::{
    self, BouncedBlock, BouncedHard, BouncedSoft, Complained, Deferred, DeferredSettled, Delivered,
    DeliveredFbl, Dropped, Engaged, Injected, Opened, Suppressed, Unclassified, Unsubscribed,
};
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand_distr::{Beta, Binomial, Distribution, Poisson};
use window::{Counts, Metric, PANE, Width};

use super::{DAY, DELIVERED, DESIGN_EFFECT, HOUR, List, REACTED, SENDING, SETTLED, SPREAD, Sender};
use crate::baseline::Baseline;
use crate::{Evidence, Measure, Share};

/// The mail of one sender, and the windows that contain it.
pub(super) struct Mail {
    random: StdRng,
    mails_per_pane: f64,
    rate: f64,
    list: List,
    metric: Measure,
    /// The rate of the list of this hour.
    list_rate: f64,
    /// The panes of the last day, the latest last.
    panes: VecDeque<Counts>,
    /// The sum of each window.
    sums: Vec<(Width, Counts)>,
    /// By hour of sending, the latest last: what happened, and the messages that may still react.
    cohorts: VecDeque<(i64, Counts, u64)>,
    campaign: (i64, Counts),
    /// Messages that will be delivered, and those that are deferred.
    waiting: u64,
    deferred: u64,
    pub(super) end: i64,
}

impl Mail {
    pub(super) fn new(sender: &Sender) -> Self {
        let rate = sender.true_rate();
        // Mail is sent in 300 of the 360 panes of an hour.
        let mails_per_pane = sender.mails_per_minute / 6.0 * 1.2;
        Self {
            random: StdRng::seed_from_u64(sender.seed),
            mails_per_pane,
            rate,
            list: sender.list,
            metric: sender.rule.metric,
            list_rate: rate,
            panes: VecDeque::new(),
            sums: Width::JUDGED.into_iter().map(|width| (width, Counts::default())).collect(),
            cohorts: VecDeque::new(),
            campaign: (0, Counts::default()),
            waiting: 0,
            deferred: 0,
            end: 0,
        }
    }

    /// Changes the true rate from the next mail on.
    pub(super) fn jump_to(&mut self, rate: f64) {
        self.rate = rate;
        self.list_rate = rate;
    }

    fn some_of(&mut self, number: u64, share: f64) -> u64 {
        if number == 0 || share <= 0.0 {
            return 0;
        }
        Binomial::new(number, share.min(1.0)).map_or(0, |it| it.sample(&mut self.random))
    }

    fn poisson(&mut self, mean: f64) -> u64 {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count")]
        Poisson::new(mean).map_or(0, |it| it.sample(&mut self.random) as u64)
    }

    /// Sends the mail of one pane, and counts what happens in it.
    pub(super) fn send(&mut self, pane: i64) {
        if pane % HOUR == 0 {
            self.next_list();
            self.cohorts.push_back((pane * PANE, Counts::default(), 0));
            if self.cohorts.len() > 50 {
                self.cohorts.pop_front();
            }
        }
        if pane % DAY == 0 {
            self.campaign = (pane * PANE, Counts::default());
        }
        let mails = if pane % HOUR < SENDING { self.poisson(self.mails_per_pane) } else { 0 };
        let mut counts = Counts::default();
        let delivered = self.some_of(self.waiting, DELIVERED);
        self.waiting -= delivered;
        self.attempt(mails, &mut counts);
        let settled = self.some_of(self.deferred, SETTLED);
        self.deferred -= settled;
        add(&mut counts, DeferredSettled, settled);
        add(&mut counts, Delivered, delivered + settled);
        add(&mut counts, DeliveredFbl, delivered + settled);
        if let Some((_, cohort, reacting)) = self.cohorts.back_mut() {
            *cohort += &counts;
            *reacting += delivered + settled;
        }
        self.react(pane, &mut counts);
        self.end = (pane + 1) * PANE;
        self.slide(counts);
    }

    fn next_list(&mut self) {
        if self.list == List::Overdispersed {
            // The spread is that of the rarer outcome.
            let rare = self.rate.min(1.0 - self.rate);
            let size = (1.0 - rare) / (rare * SPREAD * SPREAD) - 1.0;
            self.list_rate = self.beta(self.rate, size);
        }
    }

    /// Returns a rate from a beta distribution with this mean and effective size.
    fn beta(&mut self, mean: f64, size: f64) -> f64 {
        let beta = Beta::new(mean * size, (1.0 - mean) * size);
        beta.map_or(mean, |it| it.sample(&mut self.random))
    }

    /// Returns how many of the messages have the fate that the simulation is about.
    fn fated(&mut self, number: u64, mean: f64) -> u64 {
        if self.list == List::Binomial || number < 2 {
            return self.some_of(number, mean);
        }
        // The variance of a beta-binomial number is greater by 1 + (n - 1) / (size + 1).
        let size = (crate::bounds::float(number) - 1.0) / (DESIGN_EFFECT - 1.0) - 1.0;
        let rate = if size > 0.0 { self.beta(mean, size) } else { mean };
        self.some_of(number, rate)
    }

    /// Counts what is known of new mail at once.
    fn attempt(&mut self, mails: u64, counts: &mut Counts) {
        let rate = self.list_rate;
        let bounced = |metric: Measure| match metric {
            Measure::Rate(Metric::HardBounce | Metric::Bounce) => Some((BouncedHard, rate)),
            Measure::Rate(Metric::BlockBounce) => Some((BouncedBlock, rate)),
            Measure::Rate(Metric::Delivery) => Some((BouncedSoft, 1.0 - rate)),
            Measure::Share(Share::Unclassified) => Some((BouncedHard, 0.02)),
            _ => None,
        };
        let mut rest = mails;
        if let Some((counter, share)) = bounced(self.metric) {
            let bounces = self.fated(mails, share);
            add(counts, counter, bounces);
            rest -= bounces;
            if self.metric == Measure::Share(Share::Unclassified) {
                let unclassified = self.fated(bounces, rate);
                add(counts, Unclassified, unclassified);
            }
        }
        if self.metric == Measure::Rate(Metric::Deferral) {
            let deferred = self.fated(mails, rate);
            add(counts, Deferred, deferred);
            self.deferred += deferred;
            rest -= deferred;
        }
        if self.metric == Measure::Share(Share::Suppressed) {
            let suppressed = self.fated(mails, rate);
            add(counts, Suppressed, suppressed);
            add(counts, Dropped, suppressed);
            rest -= suppressed;
            add(counts, Injected, rest);
        }
        self.waiting += rest;
    }

    /// Counts reactions to mail of the last two days, once a minute.
    fn react(&mut self, pane: i64, counts: &mut Counts) {
        let counters: &[Counter] = match self.metric {
            Measure::Rate(Metric::Complaint) => &[Complained],
            Measure::Rate(Metric::Unsubscribe) => &[Unsubscribed],
            Measure::Rate(Metric::Engagement) => &[Engaged],
            Measure::Rate(Metric::Open) => &[Opened],
            _ => return,
        };
        if pane % 6 != 0 {
            return;
        }
        for index in 0..self.cohorts.len() {
            let reacting = self.cohorts[index].2;
            let decided = self.some_of(reacting, REACTED * 6.0);
            let reactions = self.fated(decided, self.list_rate);
            self.cohorts[index].2 -= decided;
            for counter in counters {
                add(counts, *counter, reactions);
                add(&mut self.cohorts[index].1, *counter, reactions);
            }
        }
    }

    fn slide(&mut self, counts: Counts) {
        self.campaign.1 += &counts;
        self.panes.push_back(counts);
        let length = i64::try_from(self.panes.len()).unwrap_or(i64::MAX);
        for (width, sum) in &mut self.sums {
            *sum += &counts;
            let leaves = usize::try_from(length - 1 - width.micros() / PANE);
            if let Some(left) = leaves.ok().and_then(|index| self.panes.get(index)) {
                *sum -= left;
            }
        }
        if length > DAY {
            self.panes.pop_front();
        }
    }
}

fn add(counts: &mut Counts, counter: Counter, number: u64) {
    counts.increase(counter, i64::try_from(number).unwrap_or(i64::MAX));
}

impl Evidence for Mail {
    fn end(&self) -> i64 {
        self.end
    }

    fn window(&self, width: Width) -> Option<Counts> {
        self.sums.iter().find(|(other, _)| *other == width).map(|(_, sum)| *sum)
    }

    fn cohort(&self, from: i64, to: i64) -> Counts {
        let within = self.cohorts.iter().filter(|(start, ..)| (from..to).contains(start));
        within.fold(Counts::default(), |sum, (_, counts, _)| sum + *counts)
    }

    fn campaign(&self) -> Option<(i64, Counts)> {
        Some(self.campaign)
    }

    fn rates_known(&self) -> bool {
        true
    }

    fn aligned(&self) -> bool {
        true
    }

    fn last_event(&self) -> Option<i64> {
        Some(self.end)
    }

    fn baseline(&self) -> Option<&Baseline> {
        None
    }
}
