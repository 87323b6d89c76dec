//! A measurement.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]
use devstack::{Dirs, Running};
use record::{Layout, Topics, names};
use std::path::Path;
use std::time::{Duration, Instant};
use stream::{Connection, PreparedHeaders, PublishError, Publisher, PublisherSettings, admin};

fn cpu(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let f: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    (f[11].parse::<f64>().unwrap() + f[12].parse::<f64>().unwrap()) / 100.0
}

#[test]
#[ignore]
fn measure() {
    let n: i64 = std::env::var("N").map_or(1_000_000, |n| n.parse().unwrap());
    let spacing: i64 = std::env::var("SPACING").map_or(1800, |n| n.parse().unwrap());
    let dirs = Dirs::new().unwrap();
    let prefix = format!("perf-{}.", std::process::id());
    let connection = Connection {
        bootstrap: devstack::shared_kafka().to_owned(),
        instance: "t".into(),
        group_protocol: "consumer".into(),
        compression: "lz4".into(),
        ..Connection::default()
    };
    let topics = Topics::new(&prefix);
    let rt = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let specs = topics.specs(Layout {
        recipient_partitions: 6,
        scope_partitions: 6,
        replication: 1,
        dedupe_horizon_hours: 72,
    });
    rt.block_on(admin::create_topics(&connection, &specs, Duration::from_secs(60))).unwrap();
    let publisher = Publisher::open(
        &connection,
        PublisherSettings {
            linger: Duration::from_millis(20),
            queue_bytes: 128 << 20,
            ack_timeout: Duration::from_secs(60),
        },
    )
    .unwrap();
    let batch = publisher.batch();
    let kinds = [
        "accepted",
        "delivered",
        "delivered",
        "opened",
        "clicked",
        "bounced",
        "accepted",
        "delivered",
    ];
    let mut bytes = 0;
    for i in 0..n {
        let at = 1_760_000_400_000_000 + i * spacing;
        let kind = kinds[(i % 8) as usize];
        let r = (i * 7919) % 200_003;
        let bounce = if kind == "bounced" {
            r#""bounce":{"permanence":"hard","class":"invalid_recipient","side":"recipient","status":"5.1.1","diagnostic":"550 5.1.1 The email account that you tried to reach does not exist"},"#
        } else {
            ""
        };
        let ua = if kind == "opened" || kind == "clicked" {
            r#""user_agent":"Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36","ip":"203.0.113.9","#
        } else {
            ""
        };
        let value = format!(
            r#"{{"event_id":"{i:032x}","kind":"{kind}","provider":"sendgrid","source":"tenant{:02}","occurred_at":{at},"received_at":{},"recipient":"user{r}@example.com","recipient_domain":"example.com","mailbox_provider":"{}","message_id":"14c5d75ce93.dfd.{i}.filterdrecv-p3mdw1","campaign":"campaign-{}","tags":["spring","newsletter"],{bounce}{ua}"provider_event":"{kind}","provider_event_id":"ZGVsaXZlcmVkLTAtMTIzNDU2{i}","request_id":"0198f1f5-66aa-7000-8000-{i:012x}","raw":{{"email":"user{r}@example.com","timestamp":{},"smtp-id":"<14c5d75ce93.dfd.64b469@ismtpd-555>","event":"{kind}","category":["spring","newsletter"],"sg_event_id":"ZGVsaXZlcmVkLTAtMTIzNDU2{i}","sg_message_id":"14c5d75ce93.dfd.{i}.filterdrecv-p3mdw1-756b745b58-kmzbl-18-5F5FC76C-9.0","response":"250 2.0.0 OK 1757000000 d9443c01a7336-20683b7 si1234 - gsmtp","attempt":"1","ip":"198.51.100.7","tls":1,"marketing_campaign_id":1234{}}}}}"#,
            i % 50,
            at + 700_000,
            ["gmail", "outlook", "yahoo", "icloud", "other"][(r % 5) as usize],
            (i / 50) % 3,
            at / 1_000_000,
            i % 3
        );
        bytes += value.len();
        let key = format!("user{r}@example.com");
        let id = i.to_le_bytes().repeat(2);
        let at = at.to_string();
        let mut headers: Vec<(&str, &[u8])> = vec![
            (names::EVENT_ID, &id),
            (names::KIND, kind.as_bytes()),
            (names::OCCURRED_AT, at.as_bytes()),
        ];
        if kind == "opened" || kind == "clicked" {
            headers.push((names::ENGAGEMENT_ID, &id));
            headers.push((names::FIRST, b"kind,engagement"));
        }
        let headers = PreparedHeaders::new(&headers);
        while let Err(e) = batch.send(&topics.events, key.as_bytes(), value.as_bytes(), &headers) {
            assert_eq!(e, PublishError::QueueFull);
            std::thread::sleep(Duration::from_millis(5));
        }
    }
    rt.block_on(batch.acknowledged()).unwrap();
    println!("{n} events, {} bytes each", bytes as i64 / n);
    let toml = format!(
        "[kafka]\nbootstrap={:?}\nprefix={prefix:?}\n[topics]\nrecipient_partitions=6\nscope_partitions=6\nreplication=1\n",
        connection.bootstrap
    );
    for (round, binary) in std::env::var("MONITORS").unwrap().split(',').enumerate() {
        // Groups of its own: another prefix would need other events.
        let started = Instant::now();
        let mut m = Running::start(&dirs, Path::new(binary), "monitor", &toml).unwrap();
        let (mut last, mut since) = (0.0, Instant::now());
        let mut at = (0.0, 0.0);
        while last < n as f64 || since.elapsed() < Duration::from_secs(3) {
            std::thread::sleep(Duration::from_millis(100));
            let now = m.metric("mailpulse_records_total");
            if now > last {
                last = now;
                since = Instant::now();
                at = (cpu(m.pid()), started.elapsed().as_secs_f64());
            }
        }
        let rss = std::fs::read_to_string(format!("/proc/{}/status", m.pid())).unwrap();
        let rss = rss.lines().find(|l| l.starts_with("VmHWM")).unwrap().to_owned();
        for thread in std::fs::read_dir(format!("/proc/{}/task", m.pid())).unwrap() {
            let p = thread.unwrap().path();
            let name = std::fs::read_to_string(p.join("comm")).unwrap();
            let stat = std::fs::read_to_string(p.join("stat")).unwrap();
            let f: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
            if f[11] != "0" {
                println!("  {} u{} s{}", name.trim(), f[11], f[12]);
            }
        }
        println!(
            "{round} {binary}: {last} records in {:.1} s, {:.2} CPU s, {:.0} events per CPU second, {rss}",
            at.1,
            at.0,
            n as f64 / at.0
        );
        println!("rates {:?}", admin::watermarks(&connection, &topics.rates, 6).unwrap());
        m.terminate(Duration::from_secs(20)).unwrap();
    }
}
