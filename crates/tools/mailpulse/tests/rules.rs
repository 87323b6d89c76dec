//! `mailpulse rules`.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod stored;

use stored::{HOUR, SECOND, Setup, Stored, T0};

#[test]
fn the_printed_rules_are_a_valid_file_and_mistakes_are_named() {
    let setup = Setup::new("rules");
    let listed = setup.run(&["rules", "ls"]);
    assert_eq!(listed.code, 0, "{listed:?}");
    let file = setup.home.path().join("rules.toml");
    let check = |text: &str| {
        std::fs::write(&file, text).unwrap();
        setup.run(&["rules", "check", file.to_str().unwrap()])
    };
    let count = alerting::RuleSet::defaults().rules().len();
    let checked = check(&listed.out);
    assert_eq!(checked.code, 0, "{checked:?}");
    assert_eq!(checked.out, format!("{count} rules and 0 overrides are valid\n"));
    assert!(check("").out.contains("the file has none"));

    let wrong =
        listed.out.replacen("name = \"hard_bounces\"", "name = \"hard_bounces\"\nlimit = 1", 1);
    let rejected = check(&wrong);
    assert_eq!(rejected.code, 2, "{rejected:?}");
    assert!(rejected.err.contains("limit"), "{rejected:?}");
    let twice = check(&format!(
        "{0}\n{0}",
        "[[monitor.rule]]\nname = \"x\"\nmetric = \"bounce\"\nwarning = 0.05"
    ));
    assert_eq!(twice.code, 2, "{twice:?}");
    assert!(twice.err.contains('x'), "{twice:?}");
}

#[test]
fn the_values_of_a_scope_are_explained() {
    let setup = Setup::new("explain");
    let config = setup.home.path().join("mailpulse.toml");
    let mut settings = std::fs::read_to_string(&config).unwrap();
    settings += "[[monitor.override]]\nmatch = { source = \"ac*\" }\nrules = [\"hard_*\"]\nvalues = { warning = 0.03 }\n";
    std::fs::write(&config, settings).unwrap();
    let explained = setup.run(&["rules", "explain", "--scope", "source/sendgrid/acme"]);
    assert_eq!(explained.code, 0, "{explained:?}");
    let hard = explained.out.split("hard_bounces: judged\n").nth(1).unwrap();
    let warning = hard.lines().find(|line| line.trim_start().starts_with("warning")).unwrap();
    assert!(warning.contains("0.03") && warning.contains("override for source ac*"), "{warning}");
    assert!(explained.out.contains("not judged, because the rule judges other kinds of scopes"));
    let wrong = setup.run(&["rules", "explain", "--scope", "acme"]);
    assert_eq!(wrong.code, 2, "{wrong:?}");
}

/// One source has 4 % hard bounces for ten minutes and then 30 %, and another one stays at 1 %.
#[test]
fn rules_are_tested_on_stored_events() {
    let setup = Setup::new("history");
    let mut events = Vec::new();
    for number in 0..6000_u64 {
        let minute = i64::try_from(number / 300).unwrap();
        let at = T0 + i64::try_from(number).unwrap() * SECOND / 5;
        let acme_bounces = if minute < 10 { 1 } else { 30 };
        for (partition, source, bounces) in [(0, "acme", acme_bounces), (1, "globex", 1)] {
            let counts = if number * 37 % 100 < bounces { "bounced_hard" } else { "delivered" };
            events.push(Stored {
                partition,
                offset: number,
                at,
                source,
                campaign: "spring",
                counts,
                sent: Some(at),
                corrections: "",
            });
        }
    }
    setup.insert_events(&events);
    let file = setup.home.path().join("rules.toml");
    std::fs::write(&file, setup.run(&["rules", "ls"]).out).unwrap();
    let time = |micros: i64| jiff::Timestamp::from_microsecond(micros).unwrap().to_string();
    let test = |further: &[&str]| {
        let (from, to) = (time(T0), time(T0 + 3 * HOUR));
        let mut arguments =
            vec!["rules", "test", file.to_str().unwrap(), "--from", &from, "--to", &to];
        arguments.extend(further);
        setup.run(&arguments)
    };
    let output = test(&[]);
    assert_eq!(output.code, 0, "{output:?}");
    let fired: Vec<&str> = output.out.lines().filter(|line| line.contains("\tfiring\t")).collect();
    let first = fired.iter().find(|line| line.contains("hard bounces")).unwrap();
    let at: jiff::Timestamp = first.split('\t').next().unwrap().parse().unwrap();
    let after = at.as_microsecond() - (T0 + 600 * SECOND);
    assert!((0..120 * SECOND).contains(&after), "{first}");
    assert!(!output.out.contains("globex"), "{output:?}");
    // After the mail has ended, the episodes do.
    assert!(output.out.contains("\tresolved\t"), "{output:?}");
    assert!(output.err.contains("need a history"), "{output:?}");
    assert!(test(&["--source", "globex"]).err.contains("0 episodes in 2 scopes"), "{output:?}");

    let svg = setup.home.path().join("plot.svg");
    let plotted = test(&["--rule", "hard_bounces", "--plot", svg.to_str().unwrap()]);
    assert_eq!(plotted.code, 0, "{plotted:?}");
    let episodes = plotted.out.matches("\tfiring\t").count();
    assert!(episodes > 0 && !plotted.out.contains("bounce_rate"), "{plotted:?}");
    assert_in_terminal(&plotted.out);
    let drawn = std::fs::read_to_string(svg).unwrap();
    assert!(drawn.starts_with("<svg") && drawn.trim_end().ends_with("</svg>"), "{drawn}");
    for text in ["hard_bounces of source/sendgrid/acme", "lower bound", "warning 2.00 %", "episode"]
    {
        assert!(drawn.contains(text), "{text}: {drawn}");
    }
    // A scope that never fires is drawn if it is named.
    let quiet = ["--rule", "hard_bounces", "--scope", "source/sendgrid/globex", "--plot"];
    let quiet = test(&quiet);
    assert!(quiet.out.contains("hard_bounces of source/sendgrid/globex"), "{quiet:?}");
    assert!(!quiet.out.contains("firing") && quiet.err.contains("in 1 scopes"), "{quiet:?}");
    assert!(test(&["--source", "globex", "--plot"]).err.contains("nothing to plot"));

    let reversed =
        setup.run(&["rules", "test", file.to_str().unwrap(), "--from", "1h", "--to", "2h"]);
    assert_eq!(reversed.code, 2, "{reversed:?}");
}

/// The first plot is about the source. Its rate is below the first threshold in the first half hour, and above the
/// highest after the jump; an episode is open then.
fn assert_in_terminal(out: &str) {
    let (_, plot) =
        out.split_once("\nhard_bounces of source/sendgrid/acme: hard bounces in ").unwrap();
    let lines: Vec<&str> = plot.lines().skip(1).take_while(|line| !line.is_empty()).collect();
    let drawn = |symbol: char| {
        let row = lines
            .iter()
            .position(|line| line.split_once('|').is_some_and(|it| it.1.contains(symbol)));
        row.unwrap_or_else(|| panic!("{symbol}: {out}"))
    };
    let page = lines.iter().position(|line| line.contains("|page-")).unwrap();
    assert!(drawn('*') < page, "{out}");
    let open = lines.iter().find(|line| line.trim_start().starts_with("open |")).unwrap();
    let marks = open.split_once('|').unwrap().1;
    // The episode begins after 10 of 180 minutes, that is in column 5 of 88.
    assert!((4..=7).contains(&marks.find('=').unwrap()), "{out}");
}
