//! What is sent on the day. Times are seconds since the start of the day.

use event::Provider;

use super::mail::GMAIL;

pub(crate) const MINUTE: i64 = 60;
pub(crate) const HOUR: i64 = 3600;
const DAY: i64 = 24 * HOUR;
const YAHOO: usize = 2;

/// Complaints of one send.
#[derive(Debug, Clone)]
pub(crate) struct Complaints {
    /// The share of the mails that were delivered at mailbox providers that report complaints.
    pub(crate) rate: f64,
    /// The least and the greatest time from the delivery to the complaint, in seconds.
    pub(crate) after: (i64, i64),
    /// The only mailbox provider with complaints.
    pub(crate) only_at: Option<usize>,
}

/// The true rates of a send.
#[derive(Debug, Clone)]
pub(crate) struct Health {
    pub(crate) hard: f64,
    pub(crate) soft: f64,
    pub(crate) blocked_at_gmail: f64,
    /// The share of the delivered mails that people open.
    pub(crate) opens: f64,
    pub(crate) complaints: Complaints,
}

/// A list that nobody has to be told of.
const GOOD: Health = Health {
    hard: 0.006,
    soft: 0.004,
    blocked_at_gmail: 0.0,
    opens: 0.25,
    complaints: Complaints { rate: 0.000_1, after: (10 * MINUTE, 4 * HOUR), only_at: None },
};

/// Mails of one source and campaign.
#[derive(Debug, Clone)]
pub(crate) struct Send {
    /// An index in [`Script::sources`].
    pub(crate) source: usize,
    pub(crate) campaign: String,
    pub(crate) from: i64,
    /// How long it takes. The mails are spread evenly.
    pub(crate) seconds: i64,
    pub(crate) mails: u32,
    pub(crate) health: Health,
    /// The webhook posts nothing before this time, and then everything.
    pub(crate) held_until: i64,
    /// The webhook posts nothing from this time on.
    pub(crate) silent_from: i64,
}

/// What a person or a fault does at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// enrich is stopped. Mail goes on arriving.
    StopEnrich,
    StartEnrich,
    /// Alertmanager is restarted twice, while virtual time stands still.
    RestartAlertmanager,
    /// SIGKILL of all members of a service, with `--kills`.
    Kill(&'static str),
}

pub(crate) struct Script {
    pub(crate) sources: Vec<(Provider, String)>,
    pub(crate) sends: Vec<Send>,
    /// In the order of their times.
    pub(crate) steps: Vec<(i64, Step)>,
    /// When the first event can happen. It is negative if there is a history.
    pub(crate) begin: i64,
    pub(crate) end: i64,
}

impl Script {
    /// The whole day, after four weeks of one source.
    pub(crate) fn day() -> Self {
        let mut script = Self::new(DAY + 3 * HOUR);
        let big: Vec<usize> = [
            (Provider::SendGrid, "acme"),
            (Provider::Generic, "news"),
            (Provider::SendGrid, "forum"),
            (Provider::Generic, "blue"),
            (Provider::SendGrid, "bakery"),
            (Provider::Generic, "harbour"),
        ]
        .into_iter()
        .map(|(provider, name)| script.source(provider, name))
        .collect();
        let &[acme, news, forum, blue, bakery, harbour] = big.as_slice() else { return script };
        for source in big {
            script.all_day(source, 24.0);
        }
        let small: Vec<usize> = (1..=40)
            .map(|number| {
                let provider = [Provider::SendGrid, Provider::Generic][number % 2];
                script.source(provider, &format!("shop-{number:02}"))
            })
            .collect();
        for &source in &small {
            script.all_day(source, 0.5);
        }
        script.late_complaints(forum, 6 * HOUR, 12 * HOUR);
        script.few_opens(bakery, 8 * HOUR);
        script.tiny_campaign(9 * HOUR + 30 * MINUTE);
        script.bad_list(acme, 10 * HOUR);
        script.complaint_burst(news, 11 * HOUR);
        script.enrich_stops(12 * HOUR);
        script.block_of_campaigns(blue, 13 * HOUR);
        script.step(13 * HOUR + 20 * MINUTE, Step::RestartAlertmanager);
        script.block_of_sources(&small, 15 * HOUR + 30 * MINUTE);
        script.silence(16 * HOUR);
        script.late_batch(harbour, 17 * HOUR, 20 * HOUR);
        script.burst_then_nothing(21 * HOUR);
        script.finish()
    }

    /// The episodes that need no whole day.
    pub(crate) fn short() -> Self {
        let mut script = Self::new(4 * HOUR);
        let acme = script.source(Provider::SendGrid, "acme");
        let blue = script.source(Provider::Generic, "blue");
        script.steady(acme, 0, 3 * HOUR + 30 * MINUTE, 12.0);
        script.steady(blue, 0, 3 * HOUR + 30 * MINUTE, 12.0);
        let small: Vec<usize> = (1..=12)
            .map(|number| {
                let provider = [Provider::SendGrid, Provider::Generic][number % 2];
                script.source(provider, &format!("shop-{number:02}"))
            })
            .collect();
        for &source in &small {
            script.steady(source, 0, 3 * HOUR + 30 * MINUTE, 0.5);
        }
        script.bad_list(acme, 10 * MINUTE);
        script.tiny_campaign(15 * MINUTE);
        script.block_of_campaigns(blue, 30 * MINUTE);
        script.burst_then_nothing(80 * MINUTE);
        script.block_of_sources(&small, 170 * MINUTE);
        script.finish()
    }

    fn new(end: i64) -> Self {
        Self { sources: Vec::new(), sends: Vec::new(), steps: Vec::new(), begin: 0, end }
    }

    fn finish(mut self) -> Self {
        self.begin = self.sends.iter().map(|send| send.from).min().unwrap_or(0).min(0);
        self.steps.sort_by_key(|(at, _)| *at);
        self
    }

    /// Adds kills of every service, so that each episode meets some.
    pub(crate) fn add_kills(&mut self) {
        let services = ["enrich", "dedupe", "monitor", "notify", "archive"];
        let interval = (self.end / 16).max(10 * MINUTE);
        for number in 1..=14 {
            let service = services[usize::try_from(number).unwrap_or(0) % services.len()];
            self.steps.push((number * interval + 3 * MINUTE, Step::Kill(service)));
        }
        self.steps.sort_by_key(|(at, _)| *at);
    }

    fn source(&mut self, provider: Provider, name: &str) -> usize {
        self.sources.push((provider, name.to_owned()));
        self.sources.len() - 1
    }

    fn step(&mut self, at: i64, step: Step) {
        self.steps.push((at, step));
    }

    fn send(
        &mut self,
        source: usize,
        campaign: &str,
        from: i64,
        seconds: i64,
        mails: u32,
    ) -> &mut Send {
        let index = self.sends.len();
        self.sends.push(Send {
            source,
            campaign: campaign.to_owned(),
            from,
            seconds,
            mails,
            health: GOOD,
            held_until: i64::MIN,
            silent_from: i64::MAX,
        });
        &mut self.sends[index]
    }

    /// Sends a number of mails a minute, on average of the day, with more of them in the daytime.
    fn all_day(&mut self, source: usize, per_minute: f64) {
        for hour in 0..24_i32 {
            let curve = 1.0 + 0.8 * (f64::from(hour - 14) * std::f64::consts::PI / 12.0).cos();
            self.steady(source, i64::from(hour) * HOUR, HOUR, per_minute * curve);
        }
    }

    fn steady(&mut self, source: usize, from: i64, seconds: i64, per_minute: f64) {
        let mails = (per_minute * seconds as f64 / 60.0).round() as u32;
        self.send(source, "daily", from, seconds, mails);
    }

    /// A campaign of 3,000 mails of which 16 % of the addresses do not exist.
    fn bad_list(&mut self, source: usize, at: i64) {
        self.send(source, "spring-sale", at, 10 * MINUTE, 3000).health.hard = 0.16;
    }

    /// 2 % of a campaign complain within the hour, all of them at Yahoo.
    fn complaint_burst(&mut self, source: usize, at: i64) {
        let send = self.send(source, "win-back", at, 20 * MINUTE, 8000);
        send.health.complaints =
            Complaints { rate: 0.02, after: (MINUTE, 40 * MINUTE), only_at: Some(YAHOO) };
    }

    /// 1 % of a campaign complain, at every mailbox provider, and half a day after the campaign.
    fn late_complaints(&mut self, source: usize, at: i64, later: i64) {
        let send = self.send(source, "digest", at, 20 * MINUTE, 8000);
        send.health.complaints =
            Complaints { rate: 0.01, after: (later, later + 20 * MINUTE), only_at: None };
    }

    /// Gmail refuses 60 % of the mail of forty campaigns of a source.
    fn block_of_campaigns(&mut self, source: usize, at: i64) {
        for number in 1..=40 {
            let campaign = format!("segment-{number:02}");
            self.send(source, &campaign, at, 30 * MINUTE, 300).health.blocked_at_gmail = 0.6;
        }
    }

    /// Gmail refuses 80 % of the mail of many sources, each of which sends 30 mails a minute. At this rate the rule that names
    /// Gmail must break before the one about all bounces, which names no mailbox provider.
    fn block_of_sources(&mut self, sources: &[usize], at: i64) {
        for &source in sources {
            self.send(source, "offer", at, 20 * MINUTE, 600).health.blocked_at_gmail = 0.8;
        }
    }

    /// The webhook of a source that has sent every hour for four weeks goes silent.
    fn silence(&mut self, at: i64) {
        let source = self.source(Provider::Generic, "courier");
        for week in 1..=4 {
            for hour in 0..24 {
                self.steady(source, hour * HOUR - week * 7 * DAY, HOUR, 1.0);
            }
        }
        for hour in 0..24 {
            self.steady(source, hour * HOUR, HOUR, 1.0);
        }
        for send in self.sends.iter_mut().filter(|send| send.source == source && send.from >= 0) {
            send.silent_from = at;
        }
    }

    /// Five mails, one of which bounces.
    fn tiny_campaign(&mut self, at: i64) {
        let source = self.source(Provider::SendGrid, "tiny");
        self.send(source, "invitation", at, MINUTE, 4).health.hard = 0.0;
        self.send(source, "invitation", at, MINUTE, 1).health.hard = 1.0;
    }

    /// A campaign that a quarter of its readers open, most of them an hour later.
    fn few_opens(&mut self, source: usize, at: i64) {
        self.send(source, "recipes", at, 15 * MINUTE, 5000);
    }

    /// A webhook posts everything of an hour in one batch, hours later.
    fn late_batch(&mut self, source: usize, at: i64, later: i64) {
        let send = self.send(source, "evening", at, HOUR, 4000);
        send.held_until = later;
    }

    /// 600 mails in eight seconds, a fifth of them to addresses that do not exist, and never again an event.
    fn burst_then_nothing(&mut self, at: i64) {
        let source = self.source(Provider::Generic, "flash");
        let send = self.send(source, "launch", at, 4, 600);
        send.health = Health {
            hard: 0.2,
            opens: 0.0,
            complaints: Complaints { rate: 0.0, ..GOOD.complaints },
            ..GOOD
        };
    }

    /// enrich is stopped for ten minutes in which 4,000 mails more than usual are sent.
    fn enrich_stops(&mut self, at: i64) {
        for source in 0..4 {
            self.send(source, "noon", at - 5 * MINUTE, 20 * MINUTE, 1000);
        }
        self.step(at, Step::StopEnrich);
        self.step(at + 10 * MINUTE, Step::StartEnrich);
    }
}

const _: () = assert!(GMAIL == 0, "blocked_at_gmail is about the first mailbox provider");
