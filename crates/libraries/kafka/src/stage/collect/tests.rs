use harness::{Cluster, DEADLINE, Outgoing, eventually, layout};

use super::*;

const WAIT: Duration = Duration::from_millis(700);

fn time(record: &Record<'_>) -> Option<i64> {
    std::str::from_utf8(record.value()?).ok()?.parse().ok()
}

/// Two topics with records, and a member that owns both.
struct Fixture {
    cluster: Cluster,
    group: Group,
}

impl Fixture {
    fn new() -> Self {
        let cluster = Cluster::without_topics("aligned", layout(1, 1));
        cluster.create_plain(&[("fast", 1), ("slow", 1)]);
        let record = |topic, time: i64| Outgoing::new(&cluster.name(topic), "k", time.to_string());
        let fast = (0..10).map(|time| record("fast", time));
        let slow = (0..10).map(|time| record("slow", 100 + time));
        cluster.produce(&fast.chain(slow).collect::<Vec<_>>());
        let connection = crate::Connection {
            bootstrap: cluster.bootstrap.clone(),
            instance: "member".to_owned(),
            group_protocol: "consumer".to_owned(),
            compression: "none".to_owned(),
            ..crate::Connection::default()
        };
        let name = cluster.name("group");
        let config = connection.consumer("aligned", &name, 2);
        let topics = [cluster.name("fast"), cluster.name("slow")];
        let topics: Vec<&str> = topics.iter().map(String::as_str).collect();
        let group = Group::join_aligned(&connection, config, "aligned", &name, &topics, 1).unwrap();
        eventually("both partitions to be assigned", DEADLINE, || {
            assert!(group.poll(Duration::from_millis(20)).is_none(), "records have their queues");
            group.has_changed()
        });
        Self { cluster, group }
    }

    fn slow(&self) -> TopicPartition {
        TopicPartition { topic: self.cluster.name("slow"), partition: 0 }
    }

    fn owned(&self) -> HashMap<TopicPartition, OwnedPartition> {
        let names = self.group.queues().iter().map(|(name, _)| name.clone());
        names.map(|name| (name, OwnedPartition::default())).collect()
    }
}

/// Takes what can be taken now.
fn take<'c>(aligned: &mut Aligned<'c>, batch: &mut Batch<'c>) -> usize {
    let mut room = Room { records: 1000, bytes: 1 << 20 };
    aligned.take("test", &mut room, batch).unwrap()
}

#[test]
fn a_partition_that_stops_delivering_holds_the_others_for_the_wait_and_no_longer() {
    let fixture = Fixture::new();
    fixture.group.pause(&fixture.slow()).unwrap();
    let mut aligned = Aligned::new(&fixture.group, Alignment { time, wait: WAIT, lead: None });
    aligned.set_read(&fixture.owned());
    let mut batch = Batch::default();
    let started = Instant::now();
    eventually("the records of the other partition", DEADLINE, || {
        drop(fixture.group.poll(Duration::from_millis(5)));
        take(&mut aligned, &mut batch) > 0
    });
    assert!(started.elapsed() >= WAIT, "they came after {:?}", started.elapsed());
    let all = |batch: &Batch<'_>| -> Vec<i64> {
        batch.messages.iter().map(|message| time(&Record(message)).unwrap()).collect()
    };
    assert_eq!(all(&batch), (0..10).collect::<Vec<_>>());

    fixture.group.resume(&fixture.slow()).unwrap();
    eventually("the records of the partition that is back", DEADLINE, || {
        drop(fixture.group.poll(Duration::from_millis(5)));
        take(&mut aligned, &mut batch);
        batch.messages.len() == 20
    });
    assert_eq!(all(&batch), (0..10).chain(100..110).collect::<Vec<_>>());
}

#[test]
fn a_held_partition_holds_no_other() {
    let fixture = Fixture::new();
    fixture.group.pause(&fixture.slow()).unwrap();
    let alignment = Alignment { time, wait: Duration::from_secs(3600), lead: None };
    let mut aligned = Aligned::new(&fixture.group, alignment);
    let mut owned = fixture.owned();
    owned.get_mut(&fixture.slow()).unwrap().held_since = Some(Instant::now());
    aligned.set_read(&owned);
    let mut batch = Batch::default();
    eventually("the records of the other partition", DEADLINE, || {
        drop(fixture.group.poll(Duration::from_millis(5)));
        take(&mut aligned, &mut batch);
        batch.messages.len() == 10
    });
}
