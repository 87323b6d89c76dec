//! One run: everything that happens to the members while events arrive.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::feed::Feed;
use super::installation::{CONCURRENT, Installation, PARTITIONS, await_that};
use super::receiver::Receiver;
use super::rules::{QUICK, SLOW};
use super::traffic::{Moment, Traffic};
use crate::chaos::Balance;
use crate::supervisor::Member;

/// Minutes of virtual time between two kills.
const MINUTES_PER_KILL: usize = 160;
/// The number of portions in which the events of one kill are written. The kill comes after one of them.
const PORTIONS: usize = 8;
/// The pause between two portions.
const PACE: Duration = Duration::from_millis(50);
/// A kill comes within this time after its portion, in milliseconds: before, in the middle of, or after its transactions.
const KILL_WITHIN: u64 = 400;
/// One kill in this many hits all members at the same moment.
const ALL_MEMBERS: u32 = 5;
/// Deliveries to the slow endpoint while members are killed.
const SLOW_PER_KILL: usize = 1;
/// Deliveries that wait for the slow endpoint at the end, for each member: it takes two rounds of answers for them.
const BACKLOG: usize = 2 * CONCURRENT;
/// Deliveries to the quick endpoint arrive within this time. It is less than one answer of the slow endpoint takes, so
/// that a delivery that waits for one is noticed, and many times what it takes otherwise.
const QUICK_WITHIN: Duration = Duration::from_secs(7);

/// What a run does.
pub(super) struct Run<'a> {
    pub(super) installation: &'a Installation,
    pub(super) receiver: &'a Receiver,
    pub(super) feed: Feed,
    traffic: Traffic,
    numbers: StdRng,
    kills: usize,
    /// The number of processes that were killed.
    pub(super) killed: usize,
    began: Instant,
}

impl<'a> Run<'a> {
    pub(super) fn new(
        installation: &'a Installation,
        receiver: &'a Receiver,
        (seed, kills): (u64, usize),
    ) -> anyhow::Result<Self> {
        let feed = Feed::open(&installation.connection, &installation.topics.events, PARTITIONS.0)?;
        let (traffic, numbers) = (Traffic::new(seed), StdRng::seed_from_u64(!seed));
        let (killed, began) = (0, Instant::now());
        Ok(Self { installation, receiver, feed, traffic, numbers, kills, killed, began })
    }

    /// Plays everything, and returns when it is decided and delivered.
    pub(super) fn play(&mut self, balance: &mut Balance) -> anyhow::Result<()> {
        // The match stage reads its own decisions about segments with some delay, so memberships change while nothing
        // else happens.
        let joins = self.traffic.joins();
        self.publish_and_await(&joins)?;
        let half = self.kills / 2;
        self.kill_while_mail_flows(0..half)?;
        let leaves = self.traffic.leaves();
        self.installation.await_decided()?;
        self.publish_and_await(&leaves)?;
        self.kill_while_mail_flows(half..self.kills)?;
        self.follow_up_after_absence()?;
        let rest = self.traffic.rest();
        self.publish_and_await(&rest)?;
        self.installation.await_delivered()?;
        self.progress("everything is delivered");
        self.quick_beside_slow(balance)
    }

    fn publish_and_await(&mut self, moments: &[Moment]) -> anyhow::Result<()> {
        self.feed.publish(moments)?;
        self.installation.await_decided()
    }

    /// Writes mixed traffic, and kills members in the middle of it. After each kill it waits until a member goes on, so
    /// that each one interrupts work.
    fn kill_while_mail_flows(&mut self, kills: std::ops::Range<usize>) -> anyhow::Result<()> {
        for kill in kills {
            let mut read = 0;
            let part = self.traffic.mixed(MINUTES_PER_KILL, SLOW_PER_KILL);
            // At least one portion follows.
            let moment = self.numbers.random_range(0..PORTIONS - 1);
            for (number, portion) in part.chunks(MINUTES_PER_KILL.div_ceil(PORTIONS)).enumerate() {
                self.feed.publish(portion)?;
                if number == moment {
                    let pause = self.numbers.random_range(0..KILL_WITHIN);
                    std::thread::sleep(Duration::from_millis(pause));
                    let killed = self.kill()?;
                    self.progress(&format!("kill {} of {}: {killed}", kill + 1, self.kills));
                    read = self.installation.matched()?;
                } else {
                    std::thread::sleep(PACE);
                }
            }
            self.installation.await_progress(read)?;
        }
        Ok(())
    }

    /// Kills a random member, or all of them. Returns the names of those that were running.
    fn kill(&mut self) -> anyhow::Result<String> {
        let members = self.installation.members();
        let victim = members[self.numbers.random_range(0..members.len())];
        let is_all = self.numbers.random_range(0..ALL_MEMBERS) == 0;
        let supervisor = &self.installation.supervisor;
        let mut killed = supervisor.kill_where(|member| is_all || member == victim)?;
        if killed.is_empty() {
            // The victim has not been started again yet.
            killed = supervisor.kill_where(|_| true)?;
        }
        self.killed += killed.len();
        Ok(killed.iter().map(Member::to_string).collect::<Vec<_>>().join(", "))
    }

    /// Lets follow-ups become due while no member runs, and kills all members again when they catch up.
    fn follow_up_after_absence(&mut self) -> anyhow::Result<()> {
        let clicks = self.traffic.clicks();
        self.publish_and_await(&clicks)?;
        let (read, supervisor) = (self.installation.matched()?, &self.installation.supervisor);
        supervisor.set_wanted(|_| true, false);
        self.killed += supervisor.kill_where(|_| true)?.len();
        self.progress("automate is away while follow-ups become due");
        let moments = self.traffic.while_away();
        self.feed.publish(&moments)?;
        supervisor.set_wanted(|_| true, true);
        self.installation.await_progress(read)?;
        self.killed += supervisor.kill_where(|_| true)?.len();
        self.progress("automate was back, and is killed again");
        self.installation.await_ready()
    }

    /// Writes deliveries for the quick endpoint while many wait for the slow one, and compares when they arrive.
    fn quick_beside_slow(&mut self, balance: &mut Balance) -> anyhow::Result<()> {
        const PART: &str = "a slow endpoint beside a quick one";
        let backlog = BACKLOG * self.installation.members().len();
        let busy = self.receiver.count(|path| path == SLOW) + CONCURRENT;
        let moments = self.traffic.slow(backlog);
        self.feed.publish(&moments)?;
        let slow = event_ids(&moments);
        await_that("the slow endpoint is busy", || {
            Ok(self.receiver.count(|path| path == SLOW) >= busy)
        })?;
        let moments = self.traffic.quick(backlog as u64);
        let quick = event_ids(&moments);
        self.feed.publish(&moments)?;
        let published_at = Instant::now();
        let arrivals = || self.arrivals(QUICK, &quick);
        await_that("the last deliveries to the quick endpoint", || {
            Ok(arrivals().len() == quick.len())
        })?;
        let arrivals = arrivals();
        let last = arrivals.values().max().copied().unwrap_or(published_at);
        let answered = self.receiver.deliveries();
        let answered = answered.iter().filter(|it| it.path == SLOW && slow.contains(&it.event_id));
        let answered = answered.filter(|it| it.accepted_at.is_some_and(|at| at <= last)).count();
        let waiting = slow.len().saturating_sub(answered);
        self.progress(&format!(
            "the last of {} quick deliveries arrived after {:.2} s, while {waiting} waited for the slow endpoint",
            quick.len(),
            last.saturating_duration_since(published_at).as_secs_f64(),
        ));
        let is_soon = |at: &&Instant| at.saturating_duration_since(published_at) < QUICK_WITHIN;
        let soon = arrivals.values().filter(is_soon).count();
        let what = format!("quick deliveries within {QUICK_WITHIN:?}");
        balance.line(PART, &what, soon as u64, quick.len() as u64);
        let what = format!("slow ones waited meanwhile: {waiting}, at least 1");
        balance.line(PART, &what, waiting.min(1) as u64, 1);
        self.installation.await_decided()?;
        self.installation.await_delivered()?;
        self.progress("the slow endpoint has answered everything");
        Ok(())
    }

    /// Returns when the first request about each of these events arrived at a path.
    fn arrivals(&self, path: &str, events: &BTreeSet<String>) -> BTreeMap<String, Instant> {
        let mut arrivals = BTreeMap::new();
        for delivery in self.receiver.deliveries() {
            if delivery.path == path && events.contains(&delivery.event_id) {
                arrivals.entry(delivery.event_id).or_insert(delivery.arrived_at);
            }
        }
        arrivals
    }

    /// Prints what has happened so far.
    pub(super) fn progress(&self, what: &str) {
        println!(
            "    {:>5.1} s, members: {}, events: {}, requests: {}; {what}",
            self.began.elapsed().as_secs_f64(),
            self.installation.members().len(),
            self.feed.events,
            self.receiver.count(|_| true),
        );
    }
}

fn event_ids(moments: &[Moment]) -> BTreeSet<String> {
    moments.iter().flat_map(|it| &it.events).map(|event| event.id().to_string()).collect()
}
