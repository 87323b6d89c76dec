//! `mailpulse predict` on a real ClickHouse, with recipients who engage as the models think. What the view shows is compared
//! with what the library predicts from the generated mail; no SQL takes part in that.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod stored;
mod world;

use std::collections::BTreeMap;
use std::process::{Command, Stdio};

use harness::{DEADLINE, Database, eventually, seen};
use jiff::Timestamp;
use predict::{Beta, BgBb, Histories, OddsTable, SlotCounts, SlotModel};
use stored::{Output, Setup};
use world::{AT, Mail, Recipient, World};

/// What is compared of the view for one recipient: the history and the four numbers of the next engagement.
type Row = (String, u32, u32, u32, f64, f64, u32, u32);

const ROW: &str =
    "recipient, mails, engaged, last_engaged, next, alive, next_ten_low, next_ten_high";

fn predict(setup: &Setup, further: &[&str]) -> Output {
    let output = setup.run(&[&["predict"], further].concat());
    assert_eq!(output.code, 0, "{output:?}");
    output
}

fn time(seconds: i64) -> String {
    Timestamp::from_second(seconds).unwrap().to_string()
}

/// Returns all rows of a query.
fn all<T: serde::de::DeserializeOwned>(database: &Database, sql: &str) -> Vec<T> {
    let lines = String::from_utf8(database.bytes(sql, "JSONCompactEachRow")).unwrap();
    lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn is_near(left: f64, right: f64) -> bool {
    (left - right).abs() < 1e-9
}

/// A digest of everything that analysts read of a source, except when and how fast it was written.
fn digest(database: &Database) -> (u64, u64, u64, u64, u64) {
    let of = |columns: &str, table: &str| -> u64 {
        database.one(&format!("SELECT groupBitXor(cityHash64(tuple({columns}))) FROM {table}"))
    };
    (
        of("*", "predictions"),
        of("source, mails, engaged, last_engaged, recipients, next, alive, fitted_at", "odds"),
        of("source, recipient, slot, certain, rate, rate_low, rate_high, fitted_at", "best_times"),
        of("source, fitted_at, model, recipients, alpha, beta, log_likelihood", "fits FINAL"),
        of(
            "source, prediction, scored_at, forecasts, brier, log_loss, ece, coverage",
            "scores FINAL",
        ),
    )
}

fn histories(world: &World, at: i64) -> Histories {
    world.recipients.iter().filter_map(|it| it.history(at)).collect()
}

#[test]
fn the_view_shows_what_the_library_predicts_and_a_second_run_changes_nothing() {
    let setup = Setup::new("predict");
    let world = World::generate("shop", 1, 2000);
    world.insert(&setup.database);
    let first = predict(&setup, &["--at", &time(AT)]);
    assert!(first.out.contains("shop\tnext\tbg_bb of source: 2000 recipients"), "{first:?}");

    let histories = histories(&world, AT);
    let model = BgBb::fit(&histories).unwrap();
    assert!(model.quits().is_some(), "the world has recipients who quit");
    let table = OddsTable::new(&model, &histories);
    let rows: Vec<Row> = all(
        &setup.database,
        &format!(
            "SELECT {ROW} FROM predictions WHERE source = 'shop' AND status = 'known' ORDER BY recipient"
        ),
    );
    assert_eq!(rows.len(), world.recipients.len());
    for (recipient, row) in world.recipients.iter().zip(&rows) {
        let history = recipient.history(AT).unwrap();
        let odds = table.get(history).unwrap();
        let (address, mails, engaged, last_engaged, next, alive, low, high) = row;
        assert_eq!(*address, recipient.address);
        assert_eq!(
            (*mails, *engaged, *last_engaged),
            (history.mails(), history.engaged(), history.last_engaged()),
            "{recipient:?}"
        );
        assert!(
            is_near(*next, odds.next.get()) && is_near(*alive, odds.alive.get()),
            "{row:?} {odds:?}"
        );
        assert_eq!((*low, *high), (odds.next_ten.low(), odds.next_ten.high()), "{row:?}");
    }
    let likelihood: f64 = setup.database.one("SELECT log_likelihood FROM fits FINAL");
    assert!((likelihood - model.ln_likelihood(&histories)).abs() < 1e-6, "{likelihood}");

    let counts = ["engagement_histories", "odds", "best_times", "fits FINAL", "scores FINAL"];
    let counts = || counts.map(|table| setup.database.count(table));
    let (before, rows) = (digest(&setup.database), counts());
    assert!(rows.iter().all(|rows| *rows > 0), "{rows:?}");
    let second = predict(&setup, &["--at", &time(AT)]);
    assert_eq!((&first.out, before, rows), (&second.out, digest(&setup.database), counts()));
    // A dry run reads the same and writes nothing.
    let dry = predict(&setup, &["--at", &time(AT), "--print"]);
    assert_eq!(dry.out, second.out);
    let versions: u64 =
        setup.database.one("SELECT uniqExact(written_at) FROM engagement_histories");
    assert_eq!((counts(), versions), (rows, 1));
}

#[test]
fn the_best_time_is_that_of_the_library_in_the_zone_of_the_recipient() {
    let setup = Setup::new("predict_slots");
    let world = World::generate("shop", 2, 2000);
    world.insert(&setup.database);
    predict(&setup, &["--at", &time(AT)]);

    let with_zone: Vec<&Recipient> =
        world.recipients.iter().filter(|it| it.zone.is_some()).collect();
    let counts: Vec<SlotCounts> = with_zone.iter().map(|it| it.slots(AT)).collect();
    let model = SlotModel::fit(&counts).unwrap();
    let opens = |counts: &SlotCounts| counts.0.iter().map(|it| it.opened()).sum::<u32>();
    let expected: BTreeMap<&str, &SlotCounts> = with_zone
        .iter()
        .zip(&counts)
        .filter(|(_, counts)| opens(counts) >= 2)
        .map(|(recipient, counts)| (&*recipient.address, counts))
        .collect();
    let best: Option<usize> = setup.database.one("SELECT best_slot FROM fits FINAL");
    assert_eq!(best, Some(model.best().index()));
    let rows: Vec<(String, usize, bool, f64, f64, f64)> = all(
        &setup.database,
        "SELECT recipient, slot, certain, rate, rate_low, rate_high FROM best_times ORDER BY recipient",
    );
    assert_eq!(rows.len(), expected.len());
    let mut own = 0;
    for (recipient, slot, certain, rate, low, high) in &rows {
        let counts = expected[&**recipient];
        let best = model.best_of(counts);
        assert_eq!((*slot, *certain), (best.slot.index(), best.certain), "{recipient}");
        assert!(is_near(*rate, model.rate(counts, best.slot).get()), "{recipient} {rate}");
        let interval = model.interval(counts, best.slot);
        assert!(is_near(*low, interval.0.get()) && is_near(*high, interval.1.get()), "{recipient}");
        own += usize::from(*certain);
    }
    assert!(own > 20, "only {own} recipients have a slot of their own");
    // Without a zone, or with fewer opens, the view shows the slot of the source.
    let others: (u64, u64) = setup.database.one(
        "SELECT count(), countIf(best_slot = (SELECT best_slot FROM fits FINAL) AND NOT best_slot_certain) \
         FROM predictions WHERE best_slot_probability IS NULL",
    );
    assert!(others.0 > 100 && others.0 == others.1, "{others:?}");
}

#[test]
fn a_source_is_known_from_500_recipients_on() {
    let setup = Setup::new("predict_small");
    World::generate("small", 3, 499).insert(&setup.database);
    World::generate("enough", 4, 500).insert(&setup.database);
    // 600 recipients of whom everybody has got a single mail.
    let mut new = World::generate("new", 5, 600);
    for recipient in &mut new.recipients {
        recipient.mails.retain(|mail| mail.counts() && mail.sent < AT - 3 * world::DAY);
        recipient.mails.truncate(1);
    }
    new.insert(&setup.database);
    let output = predict(&setup, &["--at", &time(AT)]);
    assert!(
        output.out.contains(
            "small\tnext\tunknown: 499 recipients, of whom 499 have got two mails or more; 500 are needed"
        ),
        "{output:?}"
    );
    assert!(output.out.contains("enough\tnext\tbg_bb of source"), "{output:?}");
    assert!(output.out.contains("new\tnext\tbg_bb of all_sources: 600 recipients"), "{output:?}");
    let rows: Vec<(String, String, u64, u64)> = all(
        &setup.database,
        "SELECT source, status, count(), count(next) FROM predictions GROUP BY source, status ORDER BY source",
    );
    let known =
        |source: &str, recipients| (source.to_owned(), "known".to_owned(), recipients, recipients);
    let small = ("small".to_owned(), "unknown".to_owned(), 499, 0);
    assert_eq!(rows, [known("enough", 500), known("new", 600), small]);
    let shapes: (u64, String, Option<f64>, u64) = setup
        .database
        .one("SELECT recipients, model, alpha, 0 FROM fits FINAL WHERE source = 'small'");
    assert_eq!(shapes, (499, "unknown".to_owned(), None, 0));
    let refused = setup.run(&["predict", "--source", "nowhere"]);
    assert_eq!(refused.code, 2, "{refused:?}");
}

/// What was predicted at a time, and what happened then.
struct Outcome {
    probability: f64,
    happened: bool,
    /// The interval for the next ten mails contains how many of them are engaged.
    is_covered: Option<bool>,
}

/// Returns what is scored at [`AT`] of predictions that a model made at `predicted_at`.
fn outcomes(world: &World, model: &BgBb, predicted_at: i64) -> Vec<Outcome> {
    let of_recipient = |recipient: &Recipient| {
        let odds = model.odds(recipient.history(predicted_at)?);
        let next: Vec<&Mail> = recipient
            .mails
            .iter()
            .filter(|it| it.counts() && it.sent >= predicted_at && it.sent < AT - 3 * world::DAY)
            .collect();
        let engaged = |mails: &[&Mail]| mails.iter().filter(|it| it.is_engaged()).count() as u32;
        Some(Outcome {
            probability: odds.next.get(),
            happened: next.first()?.is_engaged(),
            is_covered: next.get(..10).map(|ten| odds.next_ten.contains(engaged(ten))),
        })
    };
    world.recipients.iter().filter_map(of_recipient).collect()
}

/// Returns the Brier score, the log loss, and the ECE of ten bins; forecasts with equal probabilities share what happened.
fn scores(outcomes: &[Outcome]) -> (f64, f64, f64) {
    let mean = |error: &dyn Fn(&Outcome) -> f64| {
        outcomes.iter().map(error).sum::<f64>() / outcomes.len() as f64
    };
    let brier = mean(&|it| (it.probability - f64::from(u8::from(it.happened))).powi(2));
    let log_loss =
        mean(&|it| -(if it.happened { it.probability } else { 1.0 - it.probability }).ln());
    let mut sorted: Vec<(f64, f64)> =
        outcomes.iter().map(|it| (it.probability, f64::from(u8::from(it.happened)))).collect();
    sorted.sort_by(|left, right| left.0.total_cmp(&right.0));
    for equal in sorted.chunk_by_mut(|left, right| left.0 == right.0) {
        let share = equal.iter().map(|it| it.1).sum::<f64>() / equal.len() as f64;
        equal.iter_mut().for_each(|it| it.1 = share);
    }
    assert_eq!(sorted.len() % 10, 0, "bins of equal size");
    let bins = sorted.chunks(sorted.len() / 10).map(|bin| {
        let mean =
            |value: fn(&(f64, f64)) -> f64| bin.iter().map(value).sum::<f64>() / bin.len() as f64;
        (mean(|it| it.0) - mean(|it| it.1)).abs()
    });
    (brier, log_loss, bins.sum::<f64>() / 10.0)
}

/// Returns the scores of the next engagement as they are stored: whether the model was fitted again, forecasts, Brier
/// score, log loss and ECE.
fn stored_scores(setup: &Setup, source: &str) -> (bool, u64, f64, f64, f64) {
    setup.database.one(&format!(
        "SELECT refitted, forecasts, brier, log_loss, ece FROM scores FINAL \
         WHERE source = '{source}' AND prediction = 'next' ORDER BY scored_at DESC LIMIT 1"
    ))
}

#[test]
fn scores_are_those_of_an_independent_computation() {
    let setup = Setup::new("predict_scores");
    let world = World::generate("shop", 6, 2000);
    world.insert(&setup.database);
    let month_ago = AT - 30 * world::DAY;
    predict(&setup, &["--at", &time(AT)]);
    let model = BgBb::fit(&histories(&world, month_ago)).unwrap();
    let outcomes = |model: &BgBb, at: i64| outcomes(&world, model, at);
    let check = |refitted: bool, outcomes: &[Outcome]| {
        let (found, expected) = (stored_scores(&setup, "shop"), scores(outcomes));
        assert_eq!((found.0, found.1), (refitted, outcomes.len() as u64));
        assert!(is_near(found.2, expected.0), "Brier {found:?} {expected:?}");
        assert!(is_near(found.3, expected.1), "log loss {found:?} {expected:?}");
        assert!(is_near(found.4, expected.2), "ECE {found:?} {expected:?}");
        let of_ten: (u64, f64) = setup
            .database
            .one("SELECT forecasts, coverage FROM scores FINAL WHERE prediction = 'next_ten' ORDER BY scored_at DESC");
        let covered: Vec<bool> = outcomes.iter().filter_map(|it| it.is_covered).collect();
        let share = covered.iter().filter(|it| **it).count() as f64 / covered.len() as f64;
        assert!(of_ten.0 == covered.len() as u64 && of_ten.0 > 1000, "{of_ten:?}");
        assert!(is_near(of_ten.1, share), "{of_ten:?} {share}");
        expected
    };
    let expected = check(true, &outcomes(&model, month_ago));
    assert!(expected.2 < 0.05, "the model is that of the world: {expected:?}");
    let best_time: (u64, f64, f64) = setup
        .database
        .one("SELECT forecasts, ece, arraySum(bin_forecasts) FROM scores FINAL WHERE prediction = 'best_time'");
    assert!(best_time.0 > 1000 && is_near(best_time.2, best_time.0 as f64), "{best_time:?}");

    // A fit of a month ago is scored as it is stored.
    predict(&setup, &["--at", &time(month_ago - 3600)]);
    let fits = setup.database.count("fits FINAL");
    assert_eq!(fits, 2);
    let shown: i64 = setup.database.one("SELECT max(toUnixTimestamp(fitted_at)) FROM predictions");
    assert_eq!(shown, AT, "the view shows the latest fit");
    setup.database.execute(
        "ALTER TABLE fits UPDATE alpha = alpha * 3 WHERE fitted_at < '2026-10-15' SETTINGS mutations_sync = 2",
    );
    let (alpha, beta, gamma, delta): (f64, f64, f64, f64) =
        setup.database.one("SELECT alpha, beta, gamma, delta FROM fits FINAL ORDER BY fitted_at");
    let shapes = |a, b| Beta::new(a, b).unwrap();
    let stored = BgBb::new(shapes(alpha, beta), Some(shapes(gamma, delta)));
    predict(&setup, &["--at", &time(AT)]);
    let of_stored = check(false, &outcomes(&stored, month_ago - 3600));
    assert!(of_stored.0 > expected.0 + 1e-3, "{of_stored:?} {expected:?}");
}

#[test]
fn predictions_that_were_wrong_are_not_shown() {
    let setup = Setup::new("predict_wrong");
    World::generate("good", 7, 2000).insert(&setup.database);
    // From a month ago on, everybody opens everything.
    let mut changed = World::generate("changed", 8, 2000);
    for mail in changed.recipients.iter_mut().flat_map(|it| &mut it.mails) {
        if mail.sent >= AT - 33 * world::DAY {
            mail.opened = Some(mail.sent + 600);
        }
    }
    changed.insert(&setup.database);
    let output = predict(&setup, &["--at", &time(AT)]);
    let rows: Vec<(String, String, u64, u64, bool)> = all(
        &setup.database,
        "SELECT source, status, count(next), count(next_ten_low), toBool(any(next_ece) > 0.05) FROM predictions \
         GROUP BY source, status ORDER BY source",
    );
    let expected = [("changed", "miscalibrated", 0, true), ("good", "known", 2000, false)];
    let expected =
        expected.map(|(source, status, n, off)| (source.to_owned(), status.to_owned(), n, n, off));
    assert_eq!(rows, expected);
    let warned = output.err.lines().filter(|line| line.contains("differ too much")).count();
    assert!(warned >= 1 && !output.err.contains("source=\"good\""), "{output:?}");
    // The odds are still there for those who want to know.
    let odds: u64 = setup.database.one("SELECT count() FROM odds WHERE source = 'changed'");
    assert!(odds > 0);
}

#[test]
fn a_run_that_fails_is_tried_again_and_a_signal_ends_the_loop() {
    let setup = Setup::new("predict_every");
    World::generate("shop", 9, 500).insert(&setup.database);
    setup.database.execute("RENAME TABLE fits TO away");
    let (log, config) = (setup.home.path().join("log"), setup.home.path().join("mailpulse.toml"));
    let mut child = Command::new(env!("CARGO_BIN_EXE_mailpulse"))
        .args(["predict", "--every", "1s", "--config"])
        .arg(&config)
        .stdout(Stdio::null())
        .stderr(std::fs::File::create(&log).unwrap())
        .spawn()
        .unwrap();
    let log = || std::fs::read_to_string(&log).unwrap();
    let what = "the failure to be logged";
    eventually(what, DEADLINE, || seen(log(), |log| log.contains("the next run tries again")));
    assert_eq!(setup.database.count("fits"), 0);
    setup.database.execute("RENAME TABLE away TO fits");
    setup.database.await_one("a row of fits", "SELECT count() FROM fits", |count: &u64| *count > 0);
    let id = child.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
    let status = eventually("the end", DEADLINE, || child.try_wait().unwrap().ok_or("it runs"));
    assert!(status.success(), "{status:?}: {}", log());
}
