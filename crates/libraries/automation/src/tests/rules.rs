use super::*;

/// The rule of the design, as far as this release has its conditions.
const EXAMPLE: &str = r#"
[[template]]
name = "thanks"
subject = "You clicked {{ event.url }}"
text = "Hello {{ event.recipient }}{% if event.campaign %}, about {{ event.campaign }}{% endif %}"
html = "<p>{{ event.url }}</p>"

[[rule]]
name = "vip-clicked"
when = { kinds = ["clicked"], providers = ["ses"], sources = ["acme"], campaigns = ["spring-*"], recipients = "@example\\.com$", human = true }
and = [ { segment = "vip" }, { hours = "08-20", zone = "recipient" }, { pattern = "3 clicked within 7d" } ]
match = 1.0
priority = 10
cooldown = "7d"
limit = { count = 500, per = "1h" }
campaign_limit = 5000
do = [
  { type = "webhook", url = "https://crm.example/hook", secret = "env:CRM_SECRET" },
  { type = "slack", url = "env:SLACK_URL" },
  { type = "crm", url = "https://crm.example/people", fields = { email = "event.recipient", last_link = "event.url", stage = "static:engaged" } },
  { type = "segment.add", name = "warm" },
  { type = "list.remove", name = "news" },
  { type = "points", add = 25 },
  { type = "task", url = "https://tasks.example", title = "Call {{ event.recipient }}" },
  { type = "email", template = "thanks" },
  { type = "followup", after = "48h", unless = "clicked", do = [ { type = "segment.remove", name = "warm" } ] },
]
"#;

#[test]
fn the_rule_of_the_design_is_read() {
    let rules = rules(EXAMPLE);
    let rule = rules.rule("vip-clicked").unwrap();
    let names: Vec<_> = rule.actions.iter().map(Action::name).collect();
    let expected = [
        "webhook",
        "slack",
        "crm",
        "segment.add",
        "list.remove",
        "points",
        "task",
        "email",
        "followup",
    ];
    assert_eq!(names, expected);
    assert_eq!(rule.action("8.0").unwrap().name(), "segment.remove");
    assert!(rule.action("8.1").is_none() && rule.action("9").is_none());
    assert!(rule.action("0.0").is_none() && rule.action("-1").is_none());
    assert_eq!(rule.limit, Some(Limit { count: 500, per: HOUR }));
    assert!(rules.reads(Kind::Clicked) && rules.reads(Kind::Opened), "opens tell the zone");
    assert!(!rules.reads(Kind::Delivered));
}

#[test]
fn the_digest_names_the_rules() {
    assert_eq!(rules(EXAMPLE).digest(), rules(EXAMPLE).digest());
    assert_ne!(rules(EXAMPLE).digest(), rules(&EXAMPLE.replace("500", "501")).digest());
}

/// Replaces one field of a valid rule, and returns what is wrong then.
fn problem(from: &str, to: &str) -> (String, String, &'static str) {
    assert!(EXAMPLE.contains(from), "{from}");
    let error = try_rules(&EXAMPLE.replacen(from, to, 1)).unwrap_err();
    assert!(error.to_string().contains(error.code()), "{error}");
    (error.subject.clone(), error.field.clone(), error.code())
}

#[test]
fn an_error_names_rule_field_and_code() {
    let huge = format!("recipients = \"{}\"", "(a{100}){100}");
    let cases = [
        (r#"kinds = ["clicked"]"#, r#"kinds = ["click"]"#, "when.kinds", "kind"),
        (r#"kinds = ["clicked"]"#, "kinds = []", "when.kinds", "empty"),
        (r#"providers = ["ses"]"#, r#"providers = ["aws"]"#, "when.providers", "provider"),
        (r#"["spring-*"]"#, r#"["spring-["]"#, "when.campaigns", "glob"),
        (r#"recipients = "@example\\.com$""#, r#"recipients = "(""#, "when.recipients", "regex"),
        (r#"recipients = "@example\\.com$""#, &huge, "when.recipients", "regex"),
        (r#"{ segment = "vip" }"#, r#"{ score = "0.4" }"#, "and[0].score", "score"),
        (r#"{ segment = "vip" }"#, r#"{ score = ">=1.4" }"#, "and[0].score", "score"),
        (r#"{ segment = "vip" }"#, r#"{ score = ">=nan" }"#, "and[0].score", "score"),
        (
            r#"{ segment = "vip" }"#,
            r#"{ campaign_rate = "bounces < 0.02" }"#,
            "and[0].campaign_rate",
            "campaign_rate",
        ),
        (
            r#"{ segment = "vip" }"#,
            r#"{ campaign_rate = "bounce = 0.02" }"#,
            "and[0].campaign_rate",
            "campaign_rate",
        ),
        (
            r#"{ segment = "vip" }"#,
            r#"{ campaign_rate = "bounce < 2" }"#,
            "and[0].campaign_rate",
            "campaign_rate",
        ),
        (r#"{ segment = "vip" }"#, "{}", "and[0]", "one_condition"),
        (
            r#"{ segment = "vip" }"#,
            r#"{ segment = "vip", hours = "08-20" }"#,
            "and[0]",
            "one_condition",
        ),
        (
            r#"{ segment = "vip" }"#,
            r#"{ segment = "vip", zone = "UTC" }"#,
            "and[0].zone",
            "zone_alone",
        ),
        (r#"{ segment = "vip" }"#, r#"{ segment = "v|p" }"#, "and[0].segment", "name"),
        ("08-20", "8 to 20", "and[1].hours", "hours"),
        ("08-20", "08-08", "and[1].hours", "hours"),
        (r#"zone = "recipient""#, r#"zone = "Berlin""#, "and[1].zone", "zone"),
        ("3 clicked within 7d", "101 clicked within 7d", "and[2].pattern", "pattern"),
        ("3 clicked within 7d", "3 clicks within 7d", "and[2].pattern", "kind"),
        ("3 clicked within 7d", "3 clicked within 700d", "and[2].pattern", "span"),
        ("match = 1.0", "match = 0.0", "match", "share"),
        ("match = 1.0", "match = nan", "match", "share"),
        (r#"cooldown = "7d""#, r#"cooldown = "7""#, "cooldown", "span"),
        ("count = 500", "count = 0", "limit.count", "limit"),
        ("count = 500", "count = 100001", "limit.count", "limit"),
        (r#"per = "1h""#, r#"per = "0h""#, "limit.per", "span"),
        ("campaign_limit = 5000", "campaign_limit = 0", "campaign_limit", "limit"),
        ("https://crm.example/hook", "crm.example", "do[0].url", "url"),
        ("env:CRM_SECRET", "", "do[0].secret", "secret"),
        ("event.url\"", "event.link\"", "do[2].fields.last_link", "field_source"),
        (r#"template = "thanks""#, r#"template = "bye""#, "do[7].template", "no_template"),
        ("Call {{ event.recipient }}", "Call {{ event.recipient", "do[6].title", "template"),
        (r#"after = "48h""#, r#"after = "31d""#, "do[8].after", "span"),
        (r#"unless = "clicked""#, r#"unless = "click""#, "do[8].unless", "kind"),
        (
            r#"{ type = "segment.remove", name = "warm" }"#,
            r#"{ type = "followup", after = "1h", do = [] }"#,
            "do[8].do[0]",
            "nested",
        ),
        (r#"{ type = "segment.remove", name = "warm" }"#, "", "do[8].do", "empty"),
    ];
    for (from, to, field, code) in cases {
        let expected = ("rule `vip-clicked`".to_owned(), field.to_owned(), code);
        assert_eq!(problem(from, to), expected, "{from} → {to}");
    }
    let named = problem(r#"name = "vip-clicked""#, r#"name = "a b""#);
    assert_eq!(named, ("rule 0".to_owned(), "name".to_owned(), "name"));
    let template = problem("{{ event.url }}\"", "{{ event.urls }}\"");
    assert_eq!(template, ("template `thanks`".to_owned(), "subject".to_owned(), "template"));
    let rule = EXAMPLE.split_once("[[rule]]").unwrap().1;
    let error = try_rules(&format!("{EXAMPLE}\n[[rule]]{rule}")).unwrap_err();
    assert_eq!(error.code(), "same_name");
}

#[test]
fn unknown_fields_are_rejected() {
    for (from, to) in [
        ("priority = 10", "prio = 10"),
        ("human = true", "humans = true"),
        (r#"{ type = "points", add = 25 }"#, r#"{ type = "points", add = 25, x = 1 }"#),
        (r#"{ type = "points", add = 25 }"#, r#"{ type = "call", number = 1 }"#),
    ] {
        let text = EXAMPLE.replacen(from, to, 1);
        assert_ne!(text, EXAMPLE);
        assert!(toml::from_str::<AutomationSettings>(&text).is_err(), "{to}");
    }
}

#[test]
fn a_template_is_bounded_and_runs_no_code() {
    let endless = "{% for a in range(10000) %}{% for b in range(10000) %}x{% endfor %}{% endfor %}";
    let large = "{% for a in range(200) %}{{ 'x' * 10000 }}{% endfor %}";
    for text in [endless, large, "{{ event.__class__ }}", "{% include 'x' %}", &"x".repeat(1 << 20)]
    {
        let file = format!("[[template]]\nname = \"t\"\nsubject = \"s\"\ntext = {text:?}\n");
        let error = try_rules(&file).unwrap_err();
        assert_eq!((&*error.field, error.code()), ("text", "template"));
    }
}

#[test]
fn a_mail_is_rendered_with_the_event() {
    let rules = rules(EXAMPLE);
    let mut event = facts(1, Kind::Clicked, T0);
    event.url = Some("https://x.example/?a=<b>\r\nBcc: eve@example.com".to_owned());
    event.campaign = None;
    let mail =
        rules.mails().get("thanks").unwrap().render(&Subject::Event(event), "r", "id").unwrap();
    assert_eq!(mail.subject, "You clicked https://x.example/?a=<b> Bcc: eve@example.com");
    assert_eq!(mail.text, "Hello ada@example.com");
    let html = mail.html.unwrap();
    assert!(html.contains("&lt;b&gt;") && !html.contains("<b>"), "{html}");
}

#[test]
fn a_campaign_cannot_mention_a_channel_in_slack() {
    let file = r#"
[[rule]]
name = "r"
when = {}
do = [ { type = "slack", url = "https://x.example", text = "<https://x.example|{{ event.campaign }}> & <!here> {{ 3 }}" } ]
"#;
    let rules = rules(file);
    let Action::Slack { text, .. } = &rules.rule("r").unwrap().actions[0] else { panic!() };
    let event =
        Facts { campaign: Some("<!channel> & co".to_owned()), ..facts(1, Kind::Clicked, T0) };
    let rendered = text.render(&Subject::Event(event), "r", "id").unwrap();
    let expected = "<https://x.example|&lt;!channel&gt; &amp; co> & <!here> 3";
    assert_eq!(rendered, expected);
}

#[test]
fn fields_have_the_values_of_the_event() {
    let mut event = facts(1, Kind::Clicked, T0);
    event.labels.insert("plan".to_owned(), "gold".to_owned());
    assert_eq!(event.field("labels.plan").unwrap(), "gold");
    assert_eq!(event.field("kind").unwrap(), "clicked");
    assert_eq!(event.field("labels.x"), None);
    for field in Facts::FIELDS {
        assert!(event.field(field).is_some(), "{field}");
    }
}
