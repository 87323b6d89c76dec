use super::*;

const SIMPLE: &str = r#"
[[rule]]
name = "r"
when = { kinds = ["clicked"] }
do = [ { type = "points", add = 1 } ]
"#;

#[test]
fn machines_and_unverified_requests_start_nothing() {
    let human = rules(SIMPLE);
    let machine_too = rules(&SIMPLE.replace("[\"clicked\"]", "[\"clicked\"], human = false"));
    let click = facts(1, Kind::Clicked, T0);
    let scanner = Facts { human: false, ..click.clone() };
    let forged = Facts { authentic: false, ..click.clone() };
    for (rules, event, acts) in [
        (&human, &click, true),
        (&human, &scanner, false),
        (&human, &forged, false),
        (&machine_too, &scanner, true),
        (&machine_too, &forged, false),
    ] {
        let decision = step(rules, event, &mut RecipientState::default());
        assert_eq!(decision.intents.len(), usize::from(acts), "{event:?}");
    }
}

#[test]
fn a_rule_starts_only_with_the_events_of_when() {
    let when = r#"{ kinds = ["clicked", "opened"], providers = ["ses"], sources = ["ac*"], campaigns = ["spring-*"], recipients = "^ada@" }"#;
    let rules = rules(&SIMPLE.replace(r#"{ kinds = ["clicked"] }"#, when));
    let event = facts(1, Kind::Opened, T0);
    let text = |text: &str| text.to_owned();
    let cases = [
        (event.clone(), true),
        (Facts { kind: Kind::Delivered, ..event.clone() }, false),
        (Facts { provider: event::Provider::Mailgun, ..event.clone() }, false),
        (Facts { source: text("bolt"), ..event.clone() }, false),
        (Facts { campaign: Some(text("autumn")), ..event.clone() }, false),
        (Facts { campaign: None, ..event.clone() }, false),
        (Facts { recipient: text("bob@example.com"), ..event }, false),
    ];
    for (event, acts) in cases {
        let decision = step(&rules, &event, &mut RecipientState::default());
        assert_eq!(decision.intents.len(), usize::from(acts), "{event:?}");
    }
}

#[test]
fn the_share_of_the_conditions_decides() {
    for (share, held, acts) in
        [(1.0, 2, true), (1.0, 1, false), (0.5, 1, true), (0.5, 0, false), (0.4, 1, true)]
    {
        let and = r#"and = [ { segment = "a" }, { segment = "b" } ]"#;
        let text = SIMPLE.replace("do =", &format!("match = {share}\n{and}\ndo ="));
        let members = &["a", "b"][..held];
        let is_member = |segment: &str| members.contains(&segment);
        let reads = Reads { is_member: &is_member, campaign: &|_, _, _| None };
        let event = facts(1, Kind::Clicked, T0);
        let decision = decide(&rules(&text), 0, &event, &RecipientState::default(), &reads);
        assert_eq!(decision.intents.len(), usize::from(acts), "{share} {held}");
        for intent in &decision.intents {
            let values: Vec<_> = intent.values.iter().map(|value| value.held).collect();
            assert_eq!(values, [held > 0, held > 1]);
            assert_eq!(intent.values[0].condition, "segment a");
        }
    }
}

#[test]
fn hours_are_those_of_the_zone() {
    // 08:00 UTC is 09:00 in Berlin, 17:00 in Tokyo and 03:00 in New York.
    let cases = [
        (r#"{ hours = "08-20" }"#, true),
        (r#"{ hours = "09-20" }"#, false),
        (r#"{ hours = "09-10", zone = "Europe/Berlin" }"#, true),
        (r#"{ hours = "22-04", zone = "America/New_York" }"#, true),
        (r#"{ hours = "22-03", zone = "America/New_York" }"#, false),
        (r#"{ hours = "17-18", zone = "recipient" }"#, true),
        (r#"{ hours = "08-09", zone = "recipient" }"#, false),
    ];
    for (condition, acts) in cases {
        let rules = rules(&SIMPLE.replace("do =", &format!("and = [{condition}]\ndo =")));
        let mut state = RecipientState::default();
        let open =
            Facts { time_zone: Some("Asia/Tokyo".to_owned()), ..facts(1, Kind::Opened, T0 - HOUR) };
        step(&rules, &open, &mut state);
        let decision = step(&rules, &facts(2, Kind::Clicked, T0), &mut state);
        assert_eq!(decision.intents.len(), usize::from(acts), "{condition}");
    }
    let unknown =
        SIMPLE.replace("do =", "and = [{ hours = \"00-24\", zone = \"recipient\" }]\ndo =");
    let decision =
        step(&rules(&unknown), &facts(1, Kind::Clicked, T0), &mut RecipientState::default());
    assert!(decision.intents.is_empty(), "the zone is not known");
}

#[test]
fn rules_act_in_the_order_of_priority_and_the_least_important_are_crowded_out() {
    let mut text = String::new();
    for number in 0..10 {
        let rule =
            SIMPLE.replace("name = \"r\"", &format!("name = \"r{number}\"\npriority = {number}"));
        text.push_str(&rule);
    }
    let decision =
        step(&rules(&text), &facts(1, Kind::Clicked, T0), &mut RecipientState::default());
    assert_eq!(names(&decision), ["r9", "r8", "r7", "r6", "r5", "r4", "r3", "r2"]);
    assert_eq!(decision.crowded_out, 2);
}

#[test]
fn ids_depend_on_rule_event_and_index_alone() {
    let text = format!("{SIMPLE}{}", SIMPLE.replace("\"r\"", "\"s\""));
    let text = text.replacen("add = 1 }", "add = 1 }, { type = \"points\", add = 2 }", 1);
    let rules = rules(&text);
    let ids = |number, at| {
        let event = facts(number, Kind::Clicked, at);
        let decision = step(&rules, &event, &mut RecipientState::default());
        let all = decision
            .intents
            .iter()
            .flat_map(|intent| ActionRecord::all(rules.rule(&intent.rule).unwrap(), intent));
        all.map(|(record, _)| record.action_id).collect::<Vec<_>>()
    };
    let first = ids(1, T0);
    assert_eq!(first.len(), 3);
    assert_eq!(first, ids(1, T0 + HOUR));
    let mut all = [first, ids(2, T0)].concat();
    all.sort();
    all.dedup();
    assert_eq!(all.len(), 6);
    let id = action_id("r", EventId([7; 16]), "0").to_string();
    assert_eq!(id, "64e5ca98dce683b74c78fada4cd11581", "ids of earlier releases must not change");
}

const FOLLOW_UP: &str = r#"
[[rule]]
name = "r"
when = { kinds = ["delivered"] }
limit = { count = 1, per = "1h" }
do = [ { type = "followup", after = "48h", unless = "opened", do = [ { type = "points", add = 1 } ] } ]
"#;

#[test]
fn a_follow_up_is_answered_by_the_same_message() {
    let rules = rules(FOLLOW_UP);
    let delivered = facts(1, Kind::Delivered, T0);
    let decision = step(&rules, &delivered, &mut RecipientState::default());
    let [follow_up] = &decision.follow_ups[..] else { panic!("{decision:?}") };
    assert_eq!(follow_up.due, T0 + 48 * HOUR);
    let open = facts(2, Kind::Opened, T0 + HOUR);
    for (event, answers) in [
        (open.clone(), true),
        (Facts { kind: Kind::Clicked, ..open.clone() }, true),
        (Facts { kind: Kind::Delivered, ..open.clone() }, false),
        (Facts { human: false, ..open.clone() }, false),
        (Facts { authentic: false, ..open.clone() }, false),
        (Facts { message_id: Some("m2".to_owned()), ..open.clone() }, false),
        (Facts { source: "bolt".to_owned(), ..open.clone() }, false),
    ] {
        assert_eq!(follow_up.is_answered_by(&event), answers, "{event:?}");
    }
    let mut nameless = follow_up.clone();
    nameless.event.message_id = None;
    assert!(nameless.is_answered_by(&open));
}

#[test]
fn a_follow_up_of_a_refused_intent_is_refused() {
    let rules = rules(FOLLOW_UP);
    let rule = rules.rule("r").unwrap();
    let mut state = LimitState::default();
    let mut follow_ups = Vec::new();
    for number in 1..=2 {
        let event = facts(number, Kind::Delivered, T0);
        let decision = step(&rules, &event, &mut RecipientState::default());
        let intent = &decision.intents[0];
        let verdict = state.decide(Some(rule), intent);
        assert_eq!(verdict == Verdict::Allowed, number == 1);
        if verdict == Verdict::Allowed {
            state.allow(rule, intent).unwrap();
        }
        follow_ups.extend(decision.follow_ups);
    }
    let verdicts = follow_ups.into_iter().map(|it| state.decide(Some(rule), &it.intent(&rules, 0)));
    let verdicts: Vec<_> = verdicts.collect();
    assert_eq!(verdicts, [Verdict::Allowed, Verdict::Refused(Refusal::Parent)]);
}

#[test]
fn a_count_that_still_matters_is_not_forgotten_for_a_new_campaign() {
    let rules = rules(
        "[[rule]]\nname = \"r\"\nwhen = {}\ncampaign_limit = 1\ndo = [ { type = \"points\", add = 1 } ]\n",
    );
    let rule = rules.rule("r").unwrap();
    let intent = |number: usize, at| {
        let event = Facts { campaign: Some(format!("c{number}")), ..facts(1, Kind::Clicked, at) };
        step(&rules, &event, &mut RecipientState::default()).intents[0].clone()
    };
    let mut state = LimitState::default();
    for number in 0..MOST_CAMPAIGNS {
        let intent = intent(number, T0);
        assert_eq!(state.decide(Some(rule), &intent), Verdict::Allowed);
        state.allow(rule, &intent).unwrap();
    }
    let refused = Verdict::Refused(Refusal::CampaignLimit);
    let quiet = T0 + 90 * 24 * HOUR;
    assert_eq!(state.decide(Some(rule), &intent(MOST_CAMPAIGNS, quiet - 1)), refused);
    assert_eq!(state.decide(Some(rule), &intent(0, quiet - 1)), refused);
    let next = intent(MOST_CAMPAIGNS, quiet);
    assert_eq!(state.decide(Some(rule), &next), Verdict::Allowed);
    let changes = state.allow(rule, &next).unwrap();
    assert_eq!(changes.iter().filter(|(_, value)| value.is_none()).count(), 1);
}

#[test]
fn what_is_no_longer_in_the_settings_is_refused() {
    let rules = rules(SIMPLE);
    let event = facts(1, Kind::Clicked, T0);
    let decision = step(&rules, &event, &mut RecipientState::default());
    let gone = Verdict::Refused(Refusal::RuleGone);
    let state = LimitState::default();
    assert_eq!(state.decide(None, &decision.intents[0]), gone);
    let follow_up = Intent { follow_up: Some(0), ..decision.intents[0].clone() };
    assert_eq!(state.decide(rules.rule("r"), &follow_up), gone);
}

#[test]
fn intents_and_follow_ups_are_read_as_they_were_written() {
    let rules = rules(FOLLOW_UP);
    let decision = step(&rules, &facts(1, Kind::Delivered, T0), &mut RecipientState::default());
    for intent in decision.intents {
        let json = serde_json::to_vec(&intent).unwrap();
        assert_eq!(serde_json::from_slice::<Intent>(&json).unwrap(), intent);
    }
    for follow_up in decision.follow_ups {
        let json = serde_json::to_vec(&follow_up).unwrap();
        assert_eq!(serde_json::from_slice::<FollowUp>(&json).unwrap(), follow_up);
    }
}

#[test]
fn the_rate_of_the_campaign_decides_and_is_recorded() {
    use event::Counter::{BouncedHard, Delivered};
    for (condition, delivered, bounced, rate) in [
        ("bounce < 0.02", 99, 1, Some((0.01, true))),
        ("bounce < 0.01", 99, 1, Some((0.01, false))),
        ("bounce<=0.01", 99, 1, Some((0.01, true))),
        ("hard_bounce > 0.5", 1, 3, Some((0.75, true))),
        ("delivery >= 0.75", 3, 1, Some((0.75, true))),
        ("bounce < 0.02", 0, 0, None),
        ("bounce > 0.5", 0, 5, None), // the source may send no delivered events
        ("complaint < 0.5", 5, 0, None), // no mailbox provider reports complaints
    ] {
        // Half of the conditions must hold, so the rule acts in any case, and the intent tells the value.
        let text = format!(
            "match = 0.5\nand = [{{ campaign_rate = \"{condition}\" }}, {{ hours = \"00-24\" }}]\ndo ="
        );
        let rules = rules(&SIMPLE.replace("do =", &text));
        assert!(rules.uses_campaign_rate());
        let counts = window::Counts::of([(Delivered, delivered), (BouncedHard, bounced)]);
        let campaign = |provider, source: &str, campaign: &str| {
            let is_known =
                (provider, source, campaign) == (event::Provider::Ses, "acme", "spring-sale");
            is_known.then_some(counts)
        };
        let reads = Reads { is_member: &|_| false, campaign: &campaign };
        let click = facts(1, Kind::Clicked, T0);
        let decision = decide(&rules, 0, &click, &RecipientState::default(), &reads);
        let value = &decision.intents[0].values[0];
        let found = (value.value.as_f64(), value.held);
        assert_eq!(found, (rate.map(|it| it.0), rate.is_some_and(|it| it.1)), "{condition}");
        let unknown = Facts { campaign: None, ..click };
        let decision = decide(&rules, 0, &unknown, &RecipientState::default(), &reads);
        assert!(!decision.intents[0].values[0].held, "{condition}");
    }
}
