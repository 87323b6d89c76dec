//! `mailpulse positions`: lists partitions that are held, and repairs them.

mod common;

use common::{Output, Setup};
use harness::Outgoing;

fn run(setup: &Setup, arguments: &[&str]) -> Output {
    setup.start_tool(arguments).end()
}

#[test]
fn a_lost_offset_is_listed_and_accepted_with_the_ledger_of_its_position() {
    let setup = Setup::new();
    let topics = &setup.cluster.topics;
    let (group, topic) = (topics.group("dedupe"), &topics.enriched);
    let position =
        Outgoing::new(&topics.positions, format!("{group}/{topic}/0"), "2 3 - 9,7,2,0,0");
    let record = Outgoing::new(topic, "k", "v").on(0);
    setup.cluster.produce(&[&[position.on(0)][..], &vec![record; 5]].concat());

    let listed = run(&setup, &["positions", "ls", "--stage", "dedupe"]);
    assert_eq!(listed.code, 1, "{listed:?}");
    let text = listed.out.clone();
    assert!(text.contains(&format!("dedupe\t{topic}/0\t-\t3\toffset_lost\t3\n")), "{text}");

    let accepted = run(&setup, &["positions", "accept", "dedupe", "--all-held"]);
    let text = accepted.out.clone();
    assert!(text.contains(&format!("dedupe continues at offset 3 of {topic}/0\n")), "{text}");
    assert!(text.ends_with("1 partitions of dedupe were held\n"), "{text}");
    let committed = setup.cluster.committed(&group, topic);
    let committed = committed[0].as_ref().unwrap();
    assert_eq!((committed.offset, &*committed.metadata), (3, "@9,7,2,0,0"));

    let listed = run(&setup, &["positions", "ls"]);
    assert_eq!(listed.code, 0, "{listed:?}");
    let text = listed.out.clone();
    assert!(text.contains(&format!("dedupe\t{topic}/0\t3\t3\t-\t-\n")), "{text}");
}

#[test]
fn an_offset_outside_of_the_partition_is_rejected() {
    let setup = Setup::new();
    let partition = format!("{}/0", setup.cluster.topics.enriched);
    let rejected = run(&setup, &["positions", "accept", "dedupe", &partition, "--offset", "1"]);
    assert_eq!(rejected.code, 1, "{rejected:?}");
    let text = rejected.err.clone();
    assert!(text.contains("has the offsets 0 to 0 in partition 0, not 1"), "{text}");
    for incomplete in
        [&["positions", "accept", "dedupe"][..], &["positions", "accept", "dedupe", &partition]]
    {
        assert_eq!(run(&setup, incomplete).code, 2, "{incomplete:?}");
    }
}

#[test]
fn a_forward_that_is_not_in_the_settings_is_refused() {
    let setup = Setup::new();
    let arguments = ["positions", "accept", "forward", "--forward", "typo", "--all-held"];
    let rejected = run(&setup, &arguments);
    assert_eq!(rejected.code, 2, "{rejected:?}");
    assert!(
        rejected.err.contains("no [[forward]] of the settings has the name typo"),
        "{rejected:?}"
    );
}
