use super::*;

fn read(more: &str) -> Result<Rule, String> {
    let text = format!("name = \"r\"\nmetric = \"bounce\"\n{more}");
    toml::from_str(&text).map_err(|error| error.to_string())
}

#[test]
fn omitted_keys_have_the_documented_defaults() {
    let rule = read("warning = 0.05").unwrap();
    assert_eq!(
        (rule.basis, rule.test, rule.direction),
        (Basis::Arrival, Test::Bound, Direction::Over)
    );
    assert_eq!((rule.critical, rule.page, rule.min_volume, rule.min_count), (None, None, 0, 0));
    assert_eq!(rule.windows, RuleWindow::defaults(Basis::Arrival));
    assert_eq!((rule.confidence, rule.hold, rule.settle), (ALPHA, Hold::default(), Span::ZERO));
    assert_eq!(rule.resolve, Resolve { below: 0.8, r#for: Span::minutes(30) });
    assert_eq!((rule.scopes.len(), rule.family, rule.enabled), (0, Family::Bounces, true));
    assert_eq!(rule.remind(crate::Severity::Page), Span::hours(4));
    assert_eq!(rule.remind(crate::Severity::Critical), Span::hours(24));
}

#[test]
fn every_key_can_be_set_and_the_written_form_is_read_as_the_same_rule() {
    let rule = read(
        "basis = \"cohort\"\nscopes = [\"source\", \"tenant\"]\nmatch = { source = \"a*\" }\n\
         windows = [\"24h\", \"2h-26h\"]\ndirection = \"over\"\ntest = \"bound\"\nwarning = 0.05\n\
         critical = 0.06\npage = 0.07\nmin_volume = 7\nmin_count = 3\n\
         small = { windows = [\"24h\"], min_volume = 2 }\nconfidence = 0.01\nsettle = \"0s\"\n\
         hold = { warning = \"2m\", critical = \"1m\" }\nresolve = { below = 0.5, for = \"10m\" }\n\
         remind = \"2h\"\nrunbook = \"x\"\nlabels = { team = \"mail\" }\n\
         annotations = { text = \"y\" }\nfamily = \"blocks\"\nenabled = false",
    )
    .unwrap();
    assert_eq!((rule.page, rule.min_count, rule.confidence), (Some(0.07), 3, 0.01));
    assert_eq!(rule.scopes, [ScopeKind::Source, ScopeKind::Tenant]);
    assert_eq!(
        rule.hold,
        Hold { warning: Span::minutes(2), critical: Span::minutes(1), page: Span::ZERO }
    );
    assert_eq!(
        (rule.min_volume_of(&rule.windows[0]), rule.min_volume_of(&rule.windows[1])),
        (2, 7)
    );
    assert_eq!((rule.family, rule.enabled), (Family::Blocks, false));
    let json = serde_json::to_string(&rule).unwrap();
    assert_eq!(serde_json::from_str::<Rule>(&json).unwrap(), rule);
    assert_eq!(serde_json::to_string(&serde_json::from_str::<Rule>(&json).unwrap()).unwrap(), json);
    let toml = toml::to_string(&rule).unwrap();
    assert_eq!(toml::from_str::<Rule>(&toml).unwrap(), rule);
}

/// The four rules as `deploy/mailpulse.toml` of the earlier release has them.
#[test]
fn rules_of_earlier_releases_can_be_read() {
    let old = "direction = \"over\"\nthreshold = 0.05\nmin_volume = 200\n\
               widths = [\"1m\", \"5m\", \"15m\", \"60m\"]\nrunbook = \"docs/runbooks.md#bounce-rate\"";
    let rule = read(old).unwrap();
    assert_eq!((rule.warning, rule.critical, rule.page), (Some(0.05), Some(0.1), None));
    assert_eq!((rule.windows.len(), rule.min_volume), (4, 200));
    assert_eq!(rule.resolve, Resolve::default());

    let rule = read(
        "direction = \"over\"\nthreshold = 0.05\ncritical = 0.06\nresolve_ratio = 0.9\n\
                     resolve_after = \"10m\"",
    )
    .unwrap();
    assert_eq!(rule.critical, Some(0.06));
    assert_eq!(rule.resolve, Resolve { below: 0.9, r#for: Span::minutes(10) });

    let low = "name = \"low_opens\"\nmetric = \"open\"\ndirection = \"under\"\nthreshold = 0.10\n\
               min_volume = 101\nwidths = [\"60m\"]";
    let rule: Rule = toml::from_str(low).unwrap();
    assert_eq!((rule.warning, rule.critical), (Some(0.1), Some(0.05)));
    assert_eq!((rule.basis, rule.windows), (Basis::Cohort, vec![ENGAGEMENT_WINDOW]));

    let rule = read("direction = \"under\"\nthreshold = 0.5\ncritical = 0.0").unwrap();
    assert_eq!((rule.warning, rule.critical, rule.basis), (Some(0.5), None, Basis::Arrival));
}

#[test]
fn errors_name_the_invalid_key() {
    for (more, code, expected) in [
        ("", "rule_without_threshold", "set `warning`"),
        ("warning = 0.0", "rule_threshold_invalid", "thresholds must be"),
        ("warning = nan", "rule_threshold_invalid", "thresholds must be"),
        ("threshold = 0\ndirection = \"over\"", "rule_threshold_invalid", "thresholds must be"),
        ("warning = 0.5\ncritical = 0.4", "rule_critical_invalid", "critical must be"),
        (
            "direction = \"under\"\nwarning = 0.5\npage = 0.6",
            "rule_critical_invalid",
            "page beyond",
        ),
        ("warning = 0.5\nwindows = []", "rule_without_widths", "`windows` must name"),
        ("warning = 0.5\nwindows = [\"2m\"]", "rule_window_invalid", "`2m` is not a window"),
        ("threshold = 0.5\nwidths = [\"cohort\"]", "rule_of_cohorts", "`cohort` is not"),
        ("warning = 0.5\nresolve = { below = 1.5 }", "rule_resolve_ratio_invalid", "resolve.below"),
        ("threshold = 0.5\nresolve_ratio = 0.0", "rule_resolve_ratio_invalid", "resolve.below"),
        (
            "threshold = 0.5\nresolve_after = \"5\"",
            "rule_resolve_after_invalid",
            "`5` is not a span",
        ),
        ("threshold = 0.5\nwarning = 0.5", "rule_of_two_releases", "`threshold`"),
        ("warning = 0.5\nconfidence = 3.29", "rule_confidence_invalid", "confidence must"),
        ("warning = 0.5\nsettle = \"2m\"", "rule_settle_invalid", "settle must"),
        ("warning = 0.5\nscopes = [\"planet\"]", "rule_test_invalid", "`scopes` must"),
        ("warning = 0.5\ntest = \"gap\"", "rule_test_invalid", "needs metric"),
        ("warning = 0.5\ntest = \"burst\"", "rule_test_invalid", "hour_of_day"),
        ("warning = 2\ntest = \"e_value\"", "rule_test_invalid", "below 1"),
    ] {
        let error = read(more).unwrap_err();
        assert!(error.contains(expected), "{more}: {error}");
        let text = format!("name = \"r\"\nmetric = \"bounce\"\n{more}");
        let fields: RuleFields = toml::from_str(&text).unwrap();
        assert_eq!(Rule::try_from(fields).unwrap_err().code(), code, "{more}");
    }
    for (more, expected) in [
        ("warning = 0.5\nhold = { warning = \"5\" }", "`5` is not a span"),
        ("warning = 0.5\nmatch = { source = \"\" }", "is not a pattern"),
        ("warning = 0.5\nthresholds = 3", "unknown field"),
    ] {
        let error = read(more).unwrap_err();
        assert!(error.contains(expected), "{more}: {error}");
    }
    let nameless: Result<Rule, _> =
        toml::from_str("name = \"\"\nmetric = \"bounce\"\nwarning = 0.1");
    assert!(nameless.unwrap_err().to_string().contains("a rule has no name"));
}
