//! A started service answers on its admin port and stops on SIGTERM. This is one test because a
//! process has one metrics recorder and one set of signal handlers.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

use service::{METRICS, Metric, MetricKind, Service, Settings};

fn get(address: SocketAddr, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

#[test]
fn answers_and_stops() {
    let settings = Settings::load(None, std::iter::empty()).unwrap();
    let service = Service::from_settings("probe", "1.2.3", settings, false).unwrap();
    assert!(service.instance.starts_with("probe-") && service.instance.len() > 20);
    assert!(!service.has_stable_instance());
    let address = service.open("127.0.0.1:0".parse().unwrap()).unwrap();

    let starting = r#"{"reason":"the process is starting","status":"starting"}"#;
    assert_eq!(get(address, "/readyz"), (503, starting.to_owned()));
    service.health.hold("Kafka is \"away\"");
    let held = r#"{"reason":"Kafka is \"away\"","status":"held"}"#;
    assert_eq!(get(address, "/readyz"), (503, held.to_owned()));
    let (code, critical) = get(address, "/health");
    assert!(code == 503 && critical.contains(r#""status":"critical""#), "{critical}");
    service.health.report_assignment(true);
    assert_eq!(get(address, "/readyz"), (200, r#"{"status":"ready"}"#.to_owned()));
    service.health.mark_alive();
    assert_eq!(get(address, "/livez"), (200, r#"{"status":"alive"}"#.to_owned()));
    let healthy = r#"{"figures":{},"reasons":[],"status":"healthy"}"#;
    assert_eq!(get(address, "/health"), (200, healthy.to_owned()));
    assert_eq!(get(address, "/").0, 404);

    exports_metrics_with_help(address);
    stops_on_sigterm(&service, address);
}

fn exports_metrics_with_help(address: SocketAddr) {
    for metric in METRICS {
        match metric.kind {
            MetricKind::Counter => metrics::counter!(metric.name, "kind" => "test").increment(3),
            MetricKind::Gauge => metrics::gauge!(metric.name, "kind" => "test").set(3.0),
            MetricKind::Histogram(_) => metrics::histogram!(metric.name).record(1.9),
        }
    }
    let (code, text) = get(address, "/metrics");
    assert_eq!(code, 200);
    let assert_line = |line: &str| {
        assert!(text.lines().any(|have| have == line), "{line} is not in\n{text}");
    };
    for Metric { name, kind, help, .. } in METRICS {
        assert_line(&format!("# HELP {name} {help}"));
        match kind {
            MetricKind::Counter => assert_line(&format!("{name}{{kind=\"test\"}} 3")),
            MetricKind::Gauge => assert_line(&format!("{name}{{kind=\"test\"}} 3")),
            MetricKind::Histogram(_) => assert_line(&format!("{name}_bucket{{le=\"2\"}} 1")),
        }
    }
    assert_line("mailpulse_archive_event_age_seconds_bucket{le=\"1.5\"} 0");
    assert_line("mailpulse_build_info{component=\"probe\",version=\"1.2.3\"} 1");
    assert_line("mailpulse_up{component=\"probe\"} 1");

    assert!(value(&text, "process_cpu_seconds_total") >= 0.0, "{text}");
    assert!(value(&text, "process_resident_memory_bytes") > 1e6, "{text}");
    assert!(value(&text, "process_virtual_memory_bytes") > 1e6, "{text}");
    assert!(value(&text, "process_open_fds") > 3.0, "{text}");
    assert!(value(&text, "process_max_fds") > 3.0, "{text}");
    assert!(value(&text, "process_threads") >= 2.0, "{text}");
    assert!(value(&text, "process_start_time_seconds") > 1.7e9, "{text}");
    let names = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    for name in names.map(|rest| rest.split(' ').next().unwrap()) {
        assert!(text.contains(&format!("# HELP {name} ")), "{name} has no HELP");
    }
}

fn stops_on_sigterm(service: &Service, address: SocketAddr) {
    assert!(!service.shutdown.requested());
    let own = std::process::id().to_string();
    assert!(Command::new("kill").args(["-TERM", &own]).status().unwrap().success());
    let deadline = Instant::now() + Duration::from_secs(10);
    while !service.shutdown.requested() {
        assert!(Instant::now() < deadline, "SIGTERM did not request the shutdown");
        std::thread::sleep(Duration::from_millis(5));
    }
    let (code, body) = get(address, "/readyz");
    assert_eq!(code, 503);
    assert!(body.contains("draining"), "{body}");
    assert_eq!(get(address, "/livez").0, 200);
}

fn value(text: &str, name: &str) -> f64 {
    let prefix = format!("{name} ");
    text.lines().find_map(|line| line.strip_prefix(&prefix)).unwrap().parse().unwrap()
}
