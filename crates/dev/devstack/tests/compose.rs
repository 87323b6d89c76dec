//! Tests that `docker-compose.yml`, `deploy/Dockerfile` and their settings fit together. They need no
//! Docker engine, and find all errors that `docker compose config` would find.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::process::Command;

use serde::Deserialize;
use service::{ClickHouseSettings, Settings};
use support::{Compose, Condition, PullPolicy, Service, binaries, read, root};

const CONFIG: &str = "/etc/mailpulse/mailpulse.toml";

/// The section `[kafka]`.
#[derive(Deserialize)]
struct Kafka {
    bootstrap: String,
}

/// The section of a service.
#[derive(Deserialize)]
struct Admin {
    admin: SocketAddr,
}

#[test]
fn every_service_of_the_workspace_is_in_the_compose_file() {
    let compose = Compose::load();
    let commands: BTreeSet<String> = compose
        .own()
        .filter(|(_, service)| !service.runs_the_tool())
        .map(|(name, service)| {
            assert_eq!(service.command, [name], "the command is the name of the service");
            name.to_owned()
        })
        .collect();
    assert!(commands.len() >= 6, "{commands:?}");
    assert_eq!(commands, binaries());
    let tools = compose.own().filter(|(_, service)| service.runs_the_tool());
    for (name, service) in tools {
        assert_eq!(service.command[1], name, "the verb is the name of the service");
    }
}

#[test]
fn images_are_pinned_or_built_once() {
    let compose = Compose::load();
    let mut built = BTreeSet::new();
    for (name, service) in &compose.services {
        if let Some(build) = &service.build {
            assert!(root().join(&build.context).join(&build.dockerfile).is_file(), "{name}");
            assert_eq!(service.pull_policy, Some(PullPolicy::Build), "{name}");
            assert!(built.insert(service.image.clone()), "{name}: two services build one image");
        }
    }
    for (name, service) in &compose.services {
        let image = service.image.as_deref().unwrap_or_else(|| panic!("{name} has no image"));
        match image.split_once('/') {
            Some((_, rest)) => {
                let tag = rest.split_once(':').map(|(_, tag)| tag);
                assert!(tag.is_some_and(|tag| tag != "latest"), "{name}: {image} has no version");
            }
            None => {
                assert!(built.contains(&service.image), "{name}: no service builds {image}");
                assert!(service.pull_policy.is_some(), "{name}: {image} is in no registry");
            }
        }
    }
}

#[test]
fn dependencies_have_a_health_check() {
    let compose = Compose::load();
    let check = |name: &str| {
        let check = compose.services[name].healthcheck.as_ref();
        let check = check.unwrap_or_else(|| panic!("{name} has no health check"));
        assert_eq!(check.test[0], "CMD", "{name}");
        assert!(check.retries > 0, "{name}");
        for time in [&check.interval, &check.timeout, &check.start_period] {
            assert!(time.strip_suffix('s').is_some_and(|n| n.parse::<u32>().is_ok()), "{time}");
        }
    };
    for (name, service) in &compose.services {
        for (needed, dependency) in &service.depends_on {
            assert!(compose.services.contains_key(needed), "{name} needs {needed}");
            assert!(compose.services[needed].profiles.is_subset(&service.profiles), "{name}");
            if dependency.condition == Condition::Healthy {
                check(needed);
            }
        }
    }
    // `devstack` starts these two with --wait.
    ["kafka", "clickhouse"].iter().for_each(|name| check(name));
    for (name, service) in compose.own() {
        assert!(service.depends_on.contains_key("kafka"), "{name}");
    }
    assert!(compose.services["archive"].depends_on.contains_key("clickhouse"));
}

#[test]
fn mounted_files_exist_and_declared_volumes_are_used() {
    let compose = Compose::load();
    let mut used = BTreeSet::new();
    for (name, service) in &compose.services {
        for volume in &service.volumes {
            let (source, target) = volume.split_once(':').unwrap();
            assert!(target.starts_with('/'), "{name}: {volume}");
            match source.strip_prefix("./") {
                Some(path) => {
                    assert!(root().join(path).exists(), "{name}: {path} is missing");
                    assert!(target.ends_with(":ro"), "{name}: {volume} can be written");
                }
                None => {
                    assert!(compose.volumes.contains_key(source), "{name}: {source} not declared");
                    used.insert(source);
                }
            }
        }
        for file in &service.env_file {
            assert!(!file.required || root().join(&file.path).is_file(), "{name}: {}", file.path);
        }
    }
    assert_eq!(used, compose.volumes.keys().map(String::as_str).collect());
}

#[test]
fn no_port_is_used_twice_or_open_to_others() {
    let compose = Compose::load();
    let mut taken = BTreeMap::new();
    for (name, service) in &compose.services {
        for port in &service.ports {
            let [address, host, container] = port.split(':').collect::<Vec<_>>()[..] else {
                panic!("{name}: {port} is not address:host:container");
            };
            assert_eq!(address, "127.0.0.1", "{name}: there are no passwords here");
            assert!(container.parse::<u16>().is_ok(), "{name}: {port}");
            let earlier = taken.insert(host.parse::<u16>().unwrap(), name);
            assert_eq!(earlier, None, "{name}: {port}");
        }
    }
    // `devstack` connects to these ports.
    assert_eq!(compose.services["kafka"].ports, ["127.0.0.1:9092:9092"]);
    assert_eq!(compose.services["clickhouse"].ports, ["127.0.0.1:8123:8123"]);
}

#[test]
fn the_settings_contain_the_addresses_of_the_containers() {
    let compose = Compose::load();
    for (name, service) in compose.own() {
        let settings = settings_of(service);
        let Kafka { bootstrap } = settings.section("kafka").unwrap();
        let listeners =
            compose.services["kafka"].environment["KAFKA_ADVERTISED_LISTENERS"].to_string();
        let advertised = |address: &str| listeners.split(',').any(|l| l.ends_with(address));
        assert!(advertised(&format!("//{bootstrap}")), "{name}: {bootstrap} not in {listeners}");
        assert!(advertised("//127.0.0.1:9092"), "clients on this machine: {listeners}");
        assert!(
            bootstrap.starts_with("kafka:"),
            "{name}: the name of a Compose service is its host name"
        );

        let clickhouse: ClickHouseSettings = settings.section("clickhouse").unwrap();
        assert_eq!(clickhouse.url, "http://clickhouse:8123", "{name}");

        if service.runs_the_tool() {
            continue; // it has no admin address
        }
        // `[[forward]]` is the list of receivers.
        let section = if name == "forward" { "forwarding" } else { name };
        let Admin { admin } = settings.section(section).unwrap();
        assert!(admin.ip().is_unspecified(), "{name}: Prometheus cannot reach {admin}");
        let check = service.healthcheck.as_ref().unwrap().test.join(" ");
        assert!(check.contains(&format!("/dev/tcp/127.0.0.1/{}", admin.port())), "{name}: {check}");
    }
}

/// Loads the settings like the service in its container.
fn settings_of(service: &Service) -> Settings {
    let config = service.mounted(CONFIG).expect("the configuration is not mounted");
    let environment =
        service.environment.iter().map(|(name, value)| (name.clone(), value.to_string()));
    Settings::load(Some(&root().join(config)), environment).unwrap()
}

/// A data source of Grafana, with the keys that this test needs.
#[derive(Deserialize)]
struct DataSource {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default, rename = "jsonData")]
    json_data: DataSourceUser,
}

#[derive(Default, Deserialize)]
struct DataSourceUser {
    #[serde(default)]
    username: String,
}

#[derive(Deserialize)]
struct DataSources {
    datasources: Vec<DataSource>,
}

#[test]
fn grafana_reads_clickhouse_as_a_user_who_has_only_the_role_of_dashboards() {
    let DataSources { datasources } =
        support::yaml("deploy/grafana/provisioning/datasources/mailpulse.yaml");
    let clickhouse: Vec<_> =
        datasources.iter().filter(|it| it.kind.contains("clickhouse")).collect();
    assert_eq!(clickhouse.len(), 1);
    let user = &clickhouse[0].json_data.username;
    let script = read("deploy/compose/grafana.sql");
    let statements: Vec<&str> =
        script.lines().filter(|line| !line.starts_with("--") && !line.is_empty()).collect();
    let expected = [
        format!("CREATE USER IF NOT EXISTS {user} IDENTIFIED WITH no_password;"),
        format!("GRANT dashboards TO {user};"),
        format!("ALTER USER {user} DEFAULT ROLE dashboards;"),
    ];
    assert_eq!(statements, expected);

    let compose = Compose::load();
    let roles = &compose.services["clickhouse-roles"];
    for (path, file) in [
        ("/roles/roles.sql", "schemas/clickhouse/roles/roles.sql"),
        ("/roles/grafana.sql", "deploy/compose/grafana.sql"),
    ] {
        assert_eq!(roles.mounted(path), Some(file));
        assert!(roles.command.iter().any(|word| word == path), "{:?}", roles.command);
    }
    assert_eq!(roles.image, compose.services["clickhouse"].image);
    let condition = |service: &str, of: &str| compose.services[service].depends_on[of].condition;
    assert_eq!(condition("clickhouse-roles", "archive"), Condition::Healthy, "it creates tables");
    assert_eq!(condition("grafana", "clickhouse-roles"), Condition::Completed);
    let users = compose.services["clickhouse"]
        .mounted("/etc/clickhouse-server/users.d/mailpulse.xml")
        .map(read);
    assert!(users.unwrap().contains("<access_management>1</access_management>"));
}

#[test]
fn the_image_contains_all_services_and_its_context_all_sources() {
    let dockerfile = read("deploy/Dockerfile");
    for excluded in dockerfile.split("--exclude ").skip(1) {
        let name = excluded.split_whitespace().next().unwrap();
        let is_member = support::members().iter().any(|member| member.ends_with(name));
        assert!(is_member, "{name} is not a crate");
        assert!(!binaries().contains(name), "the image must contain the service {name}");
    }
    assert!(dockerfile.contains(&format!("WORKDIR {}", CONFIG.rsplit_once('/').unwrap().0)));

    let ignore = read("deploy/Dockerfile.dockerignore");
    let in_context = |path: &str| ignore.lines().any(|line| line == format!("!{path}"));
    assert!(ignore.lines().any(|line| line == "*"), "only listed paths are in the context");
    assert!(["Cargo.toml", "Cargo.lock", "crates"].into_iter().all(in_context));
    // Files outside of the crates that sources include.
    for (path, text) in support::sources() {
        for included in text.split("\"../../../../").skip(1) {
            let top = included.split(['/', '"']).next().unwrap();
            assert!(in_context(top), "{} includes from {top}/", path.display());
        }
    }
    for copied in
        dockerfile.lines().filter(|line| line.starts_with("COPY") && line.contains("deploy/"))
    {
        let file = copied.split_whitespace().find(|word| word.starts_with("deploy/")).unwrap();
        assert!(root().join(file).is_file() && in_context("deploy"), "{copied}");
    }
}

/// Runs `docker compose config` if Docker Compose is installed.
#[test]
fn docker_compose_agrees() {
    let compose = || {
        let mut command = Command::new("docker");
        command.arg("compose");
        command
    };
    if !compose().arg("version").output().is_ok_and(|output| output.status.success()) {
        return; // The other tests check the file without Docker Compose.
    }
    let file = root().join("docker-compose.yml");
    for profile in [&[][..], &["--profile", "observability"]] {
        let output = compose().arg("-f").arg(&file).args(profile).args(["config", "-q"]).output();
        let output = output.unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}
