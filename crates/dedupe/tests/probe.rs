#![allow(clippy::unwrap_used, clippy::expect_used)]
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use event::EventId;
use record::{Topics, names};
use stream::{Connection, PreparedHeaders, Publisher, PublisherSettings, TopicSettings, inspect};

fn id(seed: u64) -> EventId {
    let mut id = [0; 16];
    let mut z = seed.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    for half in 0..2 {
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^= z >> 31;
        id[half * 8..half * 8 + 8].copy_from_slice(&z.to_be_bytes());
        z = z.wrapping_add(seed);
    }
    EventId(id)
}

fn cpu(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let f: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
    (f[11].parse::<f64>().unwrap() + f[12].parse::<f64>().unwrap()) / 100.0
}
fn mem(pid: u32, what: &str) -> u64 {
    let s = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    s.lines().find(|l| l.starts_with(what)).unwrap().split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
}

#[test]
fn probe() {
    let total: u64 = std::env::var("PROBE").unwrap().parse().unwrap();
    let bin = std::env::var("PROBE_BIN").unwrap();
    let prefix = format!("probe-{}.", uuid::Uuid::new_v4().simple());
    let connection = Connection { bootstrap: devstack::shared_kafka().to_owned(), instance: "t".into(), group_protocol: "consumer".into(), compression: "lz4".into(), ..Connection::default() };
    let topics = Topics::new(&prefix);
    TopicSettings { recipient_partitions: 6, scope_partitions: 1, replication: 1, create: true }.prepare(&connection, &topics, 72).unwrap();
    let publisher = Publisher::open(&connection, PublisherSettings { linger: Duration::from_millis(5), queue_bytes: 128 << 20, ack_timeout: Duration::from_secs(60) }).unwrap();
    let rt = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let value = vec![b'x'; 1024].iter().enumerate().map(|(i, _)| b"abcdefghij{}\":,klm 0123"[(i * 7 + i / 13) % 23]).collect::<Vec<u8>>();
    let produce = |from: u64, to: u64| {
        let mut n = from;
        while n < to {
            let batch = publisher.batch();
            for _ in 0..20_000.min(to - n) {
                // one in ten repeats, of something up to 500k back
                let number = if n % 10 == 9 { n.saturating_sub(1 + (n * 7919) % 500_000) } else { n };
                let at = (1_780_000_000_000_000u64 + number * 24_000).to_string(); // 10M = 66 h
                let i = id(number);
                let kind = ["accepted", "delivered", "delivered", "opened", "clicked"][(number % 5) as usize];
                let e = id((1 << 50) + number / 5);
                let mut h: Vec<(&str, &[u8])> = vec![(names::PROVIDER, b"sendgrid"), (names::SOURCE, b"default"), (names::EVENT_ID, i.as_bytes()), (names::OCCURRED_AT, at.as_bytes()), (names::KIND, kind.as_bytes())];
                if number % 5 >= 3 { h.push((names::ENGAGEMENT_ID, e.as_bytes())); }
                let key = format!("recipient{}@example.com", number / 5 % 1_000_000);
                batch.send(&topics.enriched, key.as_bytes(), &value, &PreparedHeaders::new(&h)).unwrap();
                n += 1;
            }
            rt.block_on(batch.acknowledged()).unwrap();
        }
    };
    let home = tempfile::tempdir().unwrap();
    let chunk = 1_000_000.min(total);
    let started = Instant::now();
    produce(0, chunk);
    println!("produced {chunk} in {:?}", started.elapsed());
    let config = home.path().join("c.toml");
    let (bootstrap, dir) = (&connection.bootstrap, home.path().join("state"));
    std::fs::write(&config, format!("[kafka]\nbootstrap={bootstrap:?}\nprefix={prefix:?}\n[topics]\nreplication=1\nscope_partitions=1\n[dedupe]\nadmin=\"127.0.0.1:0\"\ndirectory={dir:?}\n")).unwrap();
    let start = || {
        let log = std::fs::File::options().create(true).append(true).open(home.path().join("log")).unwrap();
        Command::new(&bin).env("GLIBC_TUNABLES", std::env::var("TUN").unwrap_or_default()).arg("--config").arg(&config).stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap()
    };
    let committed = || inspect::committed_offsets(&connection, &topics.group("dedupe"), &topics.enriched, 6).unwrap().iter().flatten().map(|(o, _)| *o).sum::<i64>() as u64;
    let mut child = start();
    let mut perf = None;
    let mut done = chunk;
    let (mut c0, mut t0) = (cpu(child.id()), Instant::now());
    loop {
        if perf.is_none() { while committed() < done / 20 { std::thread::sleep(Duration::from_millis(50)); }
            if let Ok(f) = std::env::var("PERF") { let g = std::env::var("PERFG").unwrap_or("fp".into()); perf = Some(Command::new("perf").args(["record", "-F", "299", "-g", "--call-graph", &g, "-o", &f, "-p", &child.id().to_string(), "--", "sleep", "8"]).spawn().unwrap()); } }
        while committed() < done { if let Some(st) = child.try_wait().unwrap() { println!("ENDED {st}\n{}", std::fs::read_to_string(home.path().join("log")).unwrap()); panic!(); } std::thread::sleep(Duration::from_millis(200)); }
        let (c1, t1) = (cpu(child.id()), t0.elapsed());
        println!("{done}: {chunk} in {:.1} s, cpu {:.2} s = {:.0}/cpu-s; rss {} MB peak {} MB", t1.as_secs_f64(), c1 - c0, chunk as f64 / (c1 - c0), mem(child.id(), "VmRSS"), mem(child.id(), "VmHWM"));
        if done >= total { break; }
        // with the member stopped meanwhile, so that the chunk is read from a backlog
        let pid = child.id().to_string();
        Command::new("kill").args(["-STOP", &pid]).status().unwrap();
        produce(done, done + chunk);
        Command::new("kill").args(["-CONT", &pid]).status().unwrap();
        done += chunk;
        c0 = cpu(child.id()); t0 = Instant::now();
    }
    if let Some(mut p) = perf { p.wait().unwrap(); }
    println!("disk: {}", String::from_utf8_lossy(&Command::new("du").args(["-sm"]).arg(&dir).output().unwrap().stdout));
    child.kill().unwrap(); child.wait().unwrap();
    for wipe in [false, true] {
        if wipe { std::fs::remove_dir_all(&dir).unwrap(); }
        std::fs::remove_file(home.path().join("log")).unwrap();
        let mut child = start();
        let t = Instant::now();
        while !std::fs::read_to_string(home.path().join("log")).unwrap().contains("service::health: ready") { std::thread::sleep(Duration::from_millis(20)); }
        println!("wipe={wipe}: ready after {:?} cpu {:.2} rss {} peak {}", t.elapsed(), cpu(child.id()), mem(child.id(), "VmRSS"), mem(child.id(), "VmHWM"));
        for l in std::fs::read_to_string(home.path().join("log")).unwrap().lines().filter(|l| l.contains("restored") || l.contains("assigned") || l.contains("WARN")).take(14) { println!("  {}", &l[..l.len().min(220)]); }
        child.kill().unwrap(); child.wait().unwrap();
    }
}
