//! Tests the Helm chart: Helm accepts it, Kubernetes's API types have every field of its manifests, the services
//! accept what it sets, and its documents are complete. They need no cluster.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Output};

use devstack::fetch::{self, promtool};
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::{
    ConfigMap, Container, PersistentVolumeClaim, Pod, PodSpec, PodTemplateSpec, Service,
    ServiceAccount,
};
use k8s_openapi::api::networking::v1::{Ingress, NetworkPolicy};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use service::Settings;
use support::{binaries, read, root};
use tempfile::TempDir;

const CHART: &str = "deploy/helm/mailpulse";
const EVERYTHING: &str = "deploy/helm/mailpulse/ci/everything-values.yaml";
const PAGE: &str = "docs/kubernetes.md";

/// Runs Helm in a directory.
fn helm(directory: &Path, arguments: &[&str]) -> Output {
    let program = fetch::helm(&fetch::cache()).unwrap();
    // Without a home of its own, Helm reads the plugins and repositories of the user.
    let home = TempDir::new().unwrap();
    let mut command = Command::new(program);
    command.args(arguments).current_dir(directory).env("HOME", home.path());
    for variable in ["KUBECONFIG", "HELM_NAMESPACE", "HELM_PLUGINS"] {
        command.env_remove(variable);
    }
    command.output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Renders the chart and returns its manifests.
fn render(arguments: &[&str]) -> Vec<Value> {
    let all = [&["template", "mailpulse", CHART, "--namespace", "mail"], arguments].concat();
    let output = helm(root(), &all);
    assert!(output.status.success(), "helm {all:?}: {}", text(&output.stderr));
    manifests(&text(&output.stdout))
}

/// Returns what Helm says when it refuses to render.
fn refusal(arguments: &[&str]) -> String {
    let all = [&["template", "mailpulse", CHART], arguments].concat();
    let output = helm(root(), &all);
    assert!(!output.status.success(), "helm {all:?} must fail");
    text(&output.stderr)
}

fn manifests(rendered: &str) -> Vec<Value> {
    let documents = rendered.split("\n---\n").map(|part| part.trim_start_matches("---\n"));
    let parse = |document: &str| {
        serde_saphyr::from_str::<Value>(document)
            .unwrap_or_else(|error| panic!("{error}\n{document}"))
    };
    documents.map(parse).filter(|manifest| !manifest.is_null()).collect()
}

fn kind(manifest: &Value) -> &str {
    manifest["kind"].as_str().unwrap()
}

fn name(manifest: &Value) -> &str {
    manifest["metadata"]["name"].as_str().unwrap()
}

fn of_kind<T: DeserializeOwned>(manifests: &[Value], wanted: &str) -> Vec<T> {
    let found = manifests.iter().filter(|manifest| kind(manifest) == wanted);
    found.map(|manifest| serde_json::from_value(manifest.clone()).unwrap()).collect()
}

/// A Deployment or a StatefulSet.
struct Workload {
    /// The name of the service, such as `enrich`.
    service: String,
    selector: BTreeMap<String, String>,
    template: PodTemplateSpec,
    claims: Vec<PersistentVolumeClaim>,
    is_stateful: bool,
}

impl Workload {
    fn all(manifests: &[Value]) -> Vec<Self> {
        let stateless = of_kind::<Deployment>(manifests, "Deployment").into_iter().map(|it| {
            let spec = it.spec;
            Self::new(spec.selector.match_labels, spec.template, vec![], false)
        });
        let stateful = of_kind::<StatefulSet>(manifests, "StatefulSet").into_iter().map(|it| {
            let spec = it.spec;
            let claims = spec.volume_claim_templates.unwrap_or_default();
            Self::new(spec.selector.match_labels, spec.template, claims, true)
        });
        stateless.chain(stateful).collect()
    }

    fn new(
        selector: Option<BTreeMap<String, String>>,
        template: PodTemplateSpec,
        claims: Vec<PersistentVolumeClaim>,
        is_stateful: bool,
    ) -> Self {
        let selector = selector.unwrap();
        let service = selector["app.kubernetes.io/component"].clone();
        Self { service, selector, template, claims, is_stateful }
    }

    fn pod(&self) -> &PodSpec {
        self.template.spec.as_ref().unwrap()
    }

    fn container(&self) -> &Container {
        let [container] = &self.pod().containers[..] else { panic!("one container") };
        container
    }

    fn labels(&self) -> &BTreeMap<String, String> {
        self.template.metadata.as_ref().unwrap().labels.as_ref().unwrap()
    }

    fn port(&self, name: &str) -> Option<u16> {
        let mut ports = self.container().ports.iter().flatten();
        let port = ports.find(|port| port.name.as_deref() == Some(name))?;
        Some(port.container_port.try_into().unwrap())
    }

    /// Loads the settings as the service does in its container.
    fn settings(&self, config: &str) -> Settings {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("mailpulse.toml");
        std::fs::write(&path, config).unwrap();
        let variables = self.container().env.iter().flatten();
        let environment = variables.filter_map(|it| Some((it.name.clone(), it.value.clone()?)));
        Settings::load(Some(&path), environment)
            .unwrap_or_else(|error| panic!("{}: {error}", self.service))
    }
}

/// Returns the `mailpulse.toml` of the ConfigMap.
fn config(manifests: &[Value]) -> String {
    let maps = of_kind::<ConfigMap>(manifests, "ConfigMap");
    let map = maps.into_iter().find(|it| it.metadata.name.as_deref() == Some("mailpulse"));
    map.unwrap().data.unwrap()["mailpulse.toml"].clone()
}

#[test]
fn helm_accepts_the_chart_with_the_defaults_and_with_everything() {
    for arguments in [&[][..], &["--values", EVERYTHING]] {
        let output = helm(root(), &[&["lint", "--strict", CHART], arguments].concat());
        assert!(output.status.success(), "{}", text(&output.stdout));
    }
    let chart: Value = support::yaml(&format!("{CHART}/Chart.yaml"));
    for key in ["version", "appVersion"] {
        assert_eq!(chart[key], env!("CARGO_PKG_VERSION"), "{key} of Chart.yaml");
    }
}

/// Fails if the type does not have a field of the manifest, or has it in another form.
fn lossless<T: DeserializeOwned + Serialize>(manifest: &Value) -> Result<(), String> {
    let typed: T = serde_json::from_value(manifest.clone()).map_err(|it| it.to_string())?;
    let mut lost = Vec::new();
    compare(kind(manifest), manifest, &serde_json::to_value(typed).unwrap(), &mut lost);
    if lost.is_empty() { Ok(()) } else { Err(format!("{}: {lost:?}", name(manifest))) }
}

/// Collects the paths at which `back` does not have what `original` has.
fn compare(path: &str, original: &Value, back: &Value, lost: &mut Vec<String>) {
    match (original, back) {
        (Value::Object(fields), Value::Object(others)) => {
            for (key, value) in fields {
                let other = others.get(key).unwrap_or(&Value::Null);
                compare(&format!("{path}.{key}"), value, other, lost);
            }
        }
        (Value::Array(items), Value::Array(others)) if items.len() == others.len() => {
            for (index, (item, other)) in items.iter().zip(others).enumerate() {
                compare(&format!("{path}[{index}]"), item, other, lost);
            }
        }
        // A key without a value is a template that rendered nothing.
        (Value::Null, _) => lost.push(path.to_owned()),
        _ if original == back => {}
        _ => lost.push(path.to_owned()),
    }
}

fn check_manifest(manifest: &Value) -> Result<(), String> {
    match (manifest["apiVersion"].as_str().unwrap(), kind(manifest)) {
        ("v1", "ConfigMap") => lossless::<ConfigMap>(manifest),
        ("v1", "Service") => lossless::<Service>(manifest),
        ("v1", "ServiceAccount") => lossless::<ServiceAccount>(manifest),
        ("v1", "Pod") => lossless::<Pod>(manifest),
        ("apps/v1", "Deployment") => lossless::<Deployment>(manifest),
        ("apps/v1", "StatefulSet") => lossless::<StatefulSet>(manifest),
        ("policy/v1", "PodDisruptionBudget") => lossless::<PodDisruptionBudget>(manifest),
        ("autoscaling/v2", "HorizontalPodAutoscaler") => {
            lossless::<HorizontalPodAutoscaler>(manifest)
        }
        ("networking.k8s.io/v1", "Ingress") => lossless::<Ingress>(manifest),
        ("networking.k8s.io/v1", "NetworkPolicy") => lossless::<NetworkPolicy>(manifest),
        // Kubernetes has no types of these.
        ("keda.sh/v1alpha1", "ScaledObject")
        | ("monitoring.coreos.com/v1", "ServiceMonitor" | "PrometheusRule") => {
            let is_complete =
                manifest["metadata"]["name"].is_string() && manifest["spec"].is_object();
            is_complete.then_some(()).ok_or_else(|| format!("{manifest} is incomplete"))
        }
        other => Err(format!("this test does not know {other:?}")),
    }
}

#[test]
fn kubernetes_has_every_field_of_the_manifests() {
    let mut kinds = BTreeSet::new();
    for arguments in [&[][..], &["--values", EVERYTHING]] {
        let mut names = BTreeSet::new();
        for manifest in render(arguments) {
            check_manifest(&manifest).unwrap();
            kinds.insert(kind(&manifest).to_owned());
            assert_eq!(manifest["metadata"]["namespace"], "mail", "{}", name(&manifest));
            let id = (kind(&manifest).to_owned(), name(&manifest).to_owned());
            assert!(names.insert(id), "{} twice", name(&manifest));
        }
    }
    assert_eq!(kinds.len(), 12, "{kinds:?}");
}

#[test]
fn a_misspelt_field_is_noticed() {
    let good = json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "a" },
        "spec": { "containers": [{ "name": "a", "readinessProbe": { "periodSeconds": 1 } }] } });
    assert_eq!(check_manifest(&good), Ok(()));
    let mut bad = good.clone();
    bad["spec"]["containers"][0]["readinessProbe"]["periodSecond"] = json!(1);
    let error = check_manifest(&bad).unwrap_err();
    assert!(error.contains("Pod.spec.containers[0].readinessProbe.periodSecond"), "{error}");
}

#[test]
fn every_service_of_the_workspace_is_in_the_chart() {
    let services = |manifests: &[Value]| -> BTreeSet<String> {
        Workload::all(manifests).into_iter().map(|it| it.service).collect()
    };
    assert_eq!(services(&render(&["--values", EVERYTHING])), binaries());
    let default = services(&render(&[]));
    assert!(default.is_subset(&binaries()) && default.len() >= 6, "{default:?}");
    for optional in ["suppress", "forward", "automate"] {
        assert!(!default.contains(optional), "{optional} is optional");
    }
}

#[test]
fn every_pod_is_restricted_and_probed() {
    let dockerfile = read("deploy/Dockerfile");
    let manifests = render(&["--values", EVERYTHING]);
    for workload in Workload::all(&manifests) {
        let (service, pod) = (&workload.service, workload.pod());
        assert_eq!(pod.automount_service_account_token, Some(false), "{service}");
        assert_eq!(pod.enable_service_links, Some(false), "{service}");
        let security = pod.security_context.as_ref().unwrap();
        assert_eq!(security.run_as_non_root, Some(true), "{service}");
        let (user, group) = (security.run_as_user.unwrap(), security.run_as_group.unwrap());
        assert!(dockerfile.contains(&format!("USER {user}:{group}")), "{service}: {user}:{group}");
        assert_eq!(security.fs_group, Some(group), "{service}");
        let seccomp = security.seccomp_profile.as_ref().unwrap();
        assert_eq!(seccomp.type_, "RuntimeDefault", "{service}");

        let container = workload.container();
        let security = container.security_context.as_ref().unwrap();
        assert_eq!(security.allow_privilege_escalation, Some(false), "{service}");
        assert_eq!(security.read_only_root_filesystem, Some(true), "{service}");
        let capabilities = security.capabilities.as_ref().unwrap();
        assert_eq!(capabilities.drop.as_deref(), Some(&["ALL".to_owned()][..]), "{service}");
        assert_eq!(capabilities.add, None, "{service}");
        assert!(container.resources.as_ref().unwrap().limits.is_some(), "{service}");

        let probes = [
            (&container.startup_probe, "/livez"),
            (&container.liveness_probe, "/livez"),
            (&container.readiness_probe, "/readyz"),
        ];
        for (probe, path) in probes {
            let request = probe.as_ref().unwrap().http_get.as_ref().unwrap();
            assert_eq!(request.path.as_deref(), Some(path), "{service}");
            assert_eq!(serde_json::to_value(&request.port).unwrap(), "admin", "{service}");
        }
        // A restore from Kafka takes minutes.
        let startup = container.startup_probe.as_ref().unwrap();
        let patience = startup.period_seconds.unwrap() * startup.failure_threshold.unwrap();
        assert!(patience >= 600, "{service}: {patience} s");
        assert_eq!(pod.topology_spread_constraints.as_ref().unwrap().len(), 2, "{service}");
    }
}

/// The section of a service.
#[derive(Deserialize)]
struct Section {
    admin: SocketAddr,
    #[serde(default)]
    listen: Option<SocketAddr>,
    #[serde(default)]
    acknowledgements: Option<Acknowledgements>,
}

#[derive(Deserialize)]
struct Acknowledgements {
    listen: String,
}

#[test]
fn the_settings_in_the_containers_are_valid_and_fit_their_ports() {
    for arguments in [&[][..], &["--values", EVERYTHING]] {
        let manifests = render(arguments);
        let config = config(&manifests);
        for workload in Workload::all(&manifests) {
            let (service, container) = (&workload.service, workload.container());
            let arguments = container.args.as_ref().unwrap();
            assert_eq!(arguments[..2], [service.as_str(), "--config"]);
            let mounts = container.volume_mounts.as_ref().unwrap();
            let mounted = |path: &str| {
                mounts.iter().find(|it| path.starts_with(&format!("{}/", it.mount_path)))
            };
            assert_eq!(mounted(&arguments[2]).unwrap().name, "config", "{service}");
            assert!(arguments[2].ends_with("/mailpulse.toml"), "the key of the ConfigMap");
            let names: BTreeSet<&str> = mounts.iter().map(|it| it.name.as_str()).collect();
            let claims = workload.claims.iter().map(|it| it.metadata.name.as_deref().unwrap());
            let volumes = workload.pod().volumes.iter().flatten().map(|it| it.name.as_str());
            assert_eq!(
                names,
                claims.chain(volumes).collect(),
                "{service}: every volume is mounted"
            );

            let settings = workload.settings(&config);
            // `[[forward]]` is the list of receivers.
            let section = if service == "forward" { "forwarding" } else { service };
            let own: Section = settings.section(section).unwrap();
            assert!(own.admin.ip().is_unspecified(), "{service}: Prometheus cannot reach it");
            assert_eq!(workload.port("admin"), Some(own.admin.port()), "{service}");
            let acknowledgements = own.acknowledgements.map(|it| it.listen);
            let acknowledgements = acknowledgements.filter(|it| !it.is_empty());
            let listen = own.listen.or_else(|| acknowledgements.map(|it| it.parse().unwrap()));
            assert!(listen.is_none_or(|it| it.ip().is_unspecified()), "{service}: {listen:?}");
            assert_eq!(workload.port("http"), listen.map(|it| it.port()), "{service}");

            let directory = match service.as_str() {
                "ingress" => Some("spool_directory"),
                "dedupe" => Some("directory"),
                _ => None,
            };
            assert_eq!(workload.is_stateful, directory.is_some(), "{service}");
            if let Some(key) = directory {
                let section: Map<String, Value> = settings.section(section).unwrap();
                let path = section[key].as_str().unwrap();
                assert_eq!(mounted(path).unwrap().name, "data", "{service}: {path}");
                assert_eq!(workload.claims[0].metadata.name.as_deref(), Some("data"), "{service}");
            }
        }
    }
}

/// Returns the seconds of a duration such as "10s".
fn seconds(section: &Map<String, Value>, key: &str) -> i64 {
    section[key].as_str().and_then(|it| it.strip_suffix('s')).unwrap().parse().unwrap()
}

#[test]
fn the_ingress_can_drain_before_it_is_killed() {
    let delay = ["--set", "services.ingress.drainDelaySeconds=45"];
    let at_once = ["--set", "services.ingress.spoolDrainSeconds=0"];
    for (arguments, spool) in [(&[][..], 300), (&delay, 300), (&at_once, 0)] {
        let manifests = render(arguments);
        let workloads = Workload::all(&manifests);
        let ingress = workloads.iter().find(|it| it.service == "ingress").unwrap();
        let settings = ingress.settings(&config(&manifests));
        let section: Map<String, Value> = settings.section("ingress").unwrap();
        let drain = seconds(&section, "drain_delay") + seconds(&section, "drain_timeout");
        let grace = ingress.pod().termination_grace_period_seconds.unwrap();
        assert!(grace > spool + drain, "SIGKILL after {grace} s, drained after {drain} s");
        let before = ingress.container().lifecycle.as_ref().and_then(|it| it.pre_stop.as_ref());
        let command = before.and_then(|it| it.exec.as_ref()).and_then(|it| it.command.as_ref());
        let wait = format!("{spool}s");
        let expected = ["mailpulse", "spool", "drain", "--wait", &wait].map(str::to_owned);
        assert_eq!(command.map(Vec::as_slice), (spool > 0).then_some(&expected[..]));
        let readiness = ingress.container().readiness_probe.as_ref().unwrap();
        let noticed = readiness.period_seconds.unwrap() * readiness.failure_threshold.unwrap();
        assert!(i64::from(noticed) < seconds(&section, "drain_delay"), "{noticed} s");
    }
}

#[test]
fn the_volumes_of_the_spool_are_never_deleted() {
    let sets = of_kind::<StatefulSet>(&render(&["--values", EVERYTHING]), "StatefulSet");
    let policy = |name: &str| {
        let set = sets.iter().find(|it| it.metadata.name.as_deref() == Some(name)).unwrap();
        let policy = &set.spec.persistent_volume_claim_retention_policy;
        let policy = policy.clone().unwrap();
        (policy.when_scaled.unwrap(), policy.when_deleted.unwrap())
    };
    assert_eq!(policy("mailpulse-ingress"), ("Retain".into(), "Retain".into()));
    assert_eq!(policy("mailpulse-dedupe"), ("Delete".into(), "Delete".into()));
}

#[test]
fn selectors_and_references_fit() {
    let manifests = render(&["--values", EVERYTHING]);
    let workloads = Workload::all(&manifests);
    let selected = |selector: &BTreeMap<String, String>| {
        let matches = |it: &&Workload| {
            selector.iter().all(|(key, value)| it.labels().get(key) == Some(value))
        };
        workloads.iter().filter(matches).collect::<Vec<_>>()
    };
    for workload in &workloads {
        assert_eq!(selected(&workload.selector).len(), 1, "{}", workload.service);
    }
    for budget in of_kind::<PodDisruptionBudget>(&manifests, "PodDisruptionBudget") {
        let selector = budget.spec.unwrap().selector.unwrap().match_labels.unwrap();
        assert_eq!(selected(&selector).len(), 1, "{:?}", budget.metadata.name);
    }
    for policy in of_kind::<NetworkPolicy>(&manifests, "NetworkPolicy") {
        let selector = policy.spec.unwrap().pod_selector.unwrap().match_labels.unwrap();
        assert_eq!(selected(&selector).len(), 1, "{:?}", policy.metadata.name);
    }
    let services = of_kind::<Service>(&manifests, "Service");
    let mut scraped = BTreeSet::new();
    for service in &services {
        let spec = service.spec.as_ref().unwrap();
        let [workload] = selected(spec.selector.as_ref().unwrap())[..] else { panic!("one") };
        for port in spec.ports.iter().flatten() {
            let name = port.name.as_deref().unwrap();
            assert!(workload.port(name).is_some(), "{name} of {}", workload.service);
            if name == "admin" {
                assert!(scraped.insert(&workload.service), "{} twice", workload.service);
            }
        }
    }
    assert_eq!(scraped.len(), workloads.len(), "the ServiceMonitor scrapes ports with this name");
    let names: BTreeSet<_> = manifests.iter().map(|it| (kind(it), name(it))).collect();
    for manifest in &manifests {
        let target = &manifest["spec"]["scaleTargetRef"];
        if let Some(of) = target["kind"].as_str() {
            assert!(names.contains(&(of, target["name"].as_str().unwrap())), "{target}");
        }
        if let Some(service) = manifest["spec"]["serviceName"].as_str() {
            assert!(names.contains(&("Service", service)), "{service}");
        }
    }
    let ingress = of_kind::<Ingress>(&manifests, "Ingress").remove(0);
    let rule = ingress.spec.unwrap().rules.unwrap().remove(0);
    let backend = rule.http.unwrap().paths.remove(0).backend.service.unwrap();
    assert!(names.contains(&("Service", &backend.name)), "{}", backend.name);
}

#[test]
fn wrong_values_are_refused() {
    let unknown = refusal(&["--set", "services.enrich.replica=3"]);
    assert!(unknown.contains("'replica' not allowed"), "{unknown}");
    let top = refusal(&["--set", "replicas=3"]);
    assert!(top.contains("'replicas' not allowed"), "{top}");
    let member = refusal(&["--set", "services.enrich.replicas=7"]);
    assert!(member.contains("share 6 partitions"), "{member}");
    let scaled =
        refusal(&["--set", "services.dedupe.keda.enabled=true,services.dedupe.keda.maxReplicas=7"]);
    assert!(scaled.contains("Lower keda.maxReplicas"), "{scaled}");
    render(&["--set", "partitions.recipient=7,services.enrich.replicas=7"]);
}

/// Returns the paths of all values that are no maps, or empty ones.
fn leaves(path: &str, value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            for (key, value) in fields {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                leaves(&path, value, found);
            }
        }
        _ => drop(found.insert(path.to_owned())),
    }
}

/// Collects the paths of a schema's properties, and checks that each has a description and that no object takes
/// other keys.
fn properties(path: &str, schema: &Value, found: &mut BTreeSet<String>) {
    let Some(fields) = schema["properties"].as_object() else {
        assert!(schema["description"].is_string(), "{path} has no description in the schema");
        found.insert(path.to_owned());
        return;
    };
    assert_eq!(schema["additionalProperties"], false, "{path} takes any key");
    for (key, schema) in fields {
        let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        properties(&path, schema, found);
    }
}

/// Whether `path` is `prefix` or is below it.
fn is_below(path: &str, prefix: &str) -> bool {
    path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

#[test]
fn every_value_is_in_the_schema_and_in_the_readme() {
    let mut values = BTreeSet::new();
    leaves("", &support::yaml(&format!("{CHART}/values.yaml")), &mut values);
    let schema: Value =
        serde_json::from_str(&read(&format!("{CHART}/values.schema.json"))).unwrap();
    let mut allowed = BTreeSet::new();
    properties("", &schema, &mut allowed);
    allowed.remove("global");
    for value in &values {
        assert!(allowed.iter().any(|it| is_below(value, it)), "{value} is not in the schema");
    }
    for property in &allowed {
        assert!(values.iter().any(|it| is_below(it, property)), "values.yaml has no {property}");
    }

    let readme = read(&format!("{CHART}/README.md"));
    let rows = readme.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` |"));
    let documented: BTreeSet<&str> =
        rows.map(|(name, _)| name).filter(|it| !it.contains('`')).collect();
    let any_service = |path: &str| match path.strip_prefix("services.") {
        Some(rest) => format!("services.*.{}", rest.split_once('.').unwrap().1),
        None => path.to_owned(),
    };
    let allowed: BTreeSet<String> = allowed.iter().map(|it| any_service(it)).collect();
    for property in &allowed {
        assert!(documented.contains(property.as_str()), "the README does not explain {property}");
    }
    // The first table of the README has services.
    for value in documented.iter().filter(|it| !binaries().contains(**it)) {
        assert!(allowed.contains(*value), "there is no value {value}");
    }
}

/// Helm reads only files of the chart.
#[test]
fn copies_equal_their_originals() {
    let mut pairs =
        vec![("deploy/prometheus/rules.yml".to_owned(), format!("{CHART}/files/rules.yml"))];
    let names = |directory: &str| -> BTreeSet<String> {
        let entries = std::fs::read_dir(root().join(directory)).unwrap();
        entries.map(|it| it.unwrap().file_name().into_string().unwrap()).collect()
    };
    let (originals, copies) = ("deploy/grafana/dashboards", format!("{CHART}/files/dashboards"));
    for name in names(originals).into_iter().chain(names(&copies)) {
        pairs.push((format!("{originals}/{name}"), format!("{copies}/{name}")));
    }
    for (original, copy) in pairs {
        let path = root().join(&copy);
        if std::env::var_os("UPDATE_CHART").is_some() {
            match std::fs::read(root().join(&original)) {
                Ok(bytes) => std::fs::write(&path, bytes).unwrap(),
                Err(_) => std::fs::remove_file(&path).unwrap(),
            }
            continue;
        }
        let read = |path: &Path| std::fs::read_to_string(path).ok();
        assert!(
            read(&root().join(&original)) == read(&path),
            "{copy} differs from {original}; run UPDATE_CHART=1 cargo test -p devstack --test helm copies"
        );
    }
}

#[test]
fn dashboards_are_the_files() {
    let manifests = render(&["--values", EVERYTHING]);
    let maps = of_kind::<ConfigMap>(&manifests, "ConfigMap");
    let mut shown = 0;
    for map in maps {
        for (name, content) in map.data.unwrap().iter().filter(|(name, _)| name.ends_with(".json"))
        {
            assert_eq!(*content, read(&format!("deploy/grafana/dashboards/{name}")));
            assert_eq!(map.metadata.labels.as_ref().unwrap()["grafana_dashboard"], "1");
            shown += 1;
        }
    }
    assert!(shown >= 5, "{shown}");
}

/// Adds the label of a namespace to every series that a text names.
fn in_namespace(text: &str, namespace: &str) -> String {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    let mut result = String::new();
    let mut rest = text;
    while let Some(start) = rest.find(is_name) {
        result.push_str(&rest[..start]);
        rest = &rest[start..];
        let (name, after) = rest.split_at(rest.find(|c| !is_name(c)).unwrap_or(rest.len()));
        result.push_str(name);
        rest = after;
        let is_series =
            ["mailpulse_", "mailpulse:", "process_"].iter().any(|it| name.starts_with(it));
        if is_series || name == "ALERTS" {
            match rest.strip_prefix('{') {
                Some(after) => {
                    result.push_str(&format!("{{namespace=\"{namespace}\", "));
                    rest = after;
                }
                None => result.push_str(&format!("{{namespace=\"{namespace}\"}}")),
            }
        }
    }
    result + rest
}

/// Returns the tests of the rules. Their values are texts: `0x40` is no hexadecimal number.
fn rules_tests() -> Value {
    let quote = |line: &str| match line.split_once("values: ") {
        Some((indentation, values)) if !values.starts_with('"') => {
            format!("{indentation}values: \"{values}\"\n")
        }
        _ => format!("{line}\n"),
    };
    let text: String = read("deploy/prometheus/rules_test.yml").lines().map(quote).collect();
    serde_saphyr::from_str(&text).unwrap()
}

/// Rewrites the tests of the rules for a namespace.
fn move_tests(tests: &mut Value, namespace: &str) {
    match tests {
        Value::Array(items) => items.iter_mut().for_each(|it| move_tests(it, namespace)),
        Value::Object(fields) => {
            for (key, value) in fields {
                match (key.as_str(), value) {
                    ("series" | "labels" | "expr", Value::String(text)) => {
                        *text = in_namespace(text, namespace);
                    }
                    ("exp_labels", Value::Object(labels)) => {
                        labels.insert("namespace".into(), namespace.into());
                    }
                    (_, value) => move_tests(value, namespace),
                }
            }
        }
        _ => {}
    }
}

/// Runs `promtool test rules` and returns whether the tests pass, with its output.
fn test_rules(rules: &Value, tests: &Value) -> (bool, String) {
    let directory = TempDir::new().unwrap();
    // JSON is YAML.
    std::fs::write(directory.path().join("rules.yml"), rules.to_string()).unwrap();
    std::fs::write(directory.path().join("rules_test.yml"), tests.to_string()).unwrap();
    let promtool = promtool().unwrap();
    let run = |arguments: &[&str]| {
        let mut command = Command::new(&promtool);
        let output = command.args(arguments).current_dir(directory.path()).output().unwrap();
        (output.status.success(), text(&[output.stdout, output.stderr].concat()))
    };
    let (is_valid, problem) = run(&["check", "rules", "--lint-fatal", "rules.yml"]);
    assert!(is_valid, "{problem}");
    run(&["test", "rules", "rules_test.yml"])
}

#[test]
fn the_rules_of_the_chart_judge_only_their_namespace() {
    let rules = |arguments: &[&str]| {
        let manifests = render(&[&["--values", EVERYTHING], arguments].concat());
        let rule = manifests.into_iter().find(|it| kind(it) == "PrometheusRule").unwrap();
        rule["spec"].clone()
    };
    let mut tests = rules_tests();
    let everywhere = ["--set", "prometheusRule.limitToNamespace=false,prometheusRule.runbookBase="];
    let limited = rules(&["--set", "prometheusRule.runbookBase="]);
    move_tests(&mut tests, "mail");
    let (passed, output) = test_rules(&limited, &tests);
    assert!(passed, "{output}");

    // Without the limit they are the rules of the file, except that they have no comments.
    let original: Value = support::yaml("deploy/prometheus/rules.yml");
    assert_eq!(rules(&everywhere), original);
    let expressions = |spec: &Value| -> Vec<String> {
        let groups = spec["groups"].as_array().unwrap();
        let rules = groups.iter().flat_map(|it| it["rules"].as_array().unwrap());
        rules.map(|it| it["expr"].as_str().unwrap().to_owned()).collect()
    };
    let expected =
        expressions(&original).iter().map(|it| in_namespace(it, "mail")).collect::<Vec<_>>();
    assert_eq!(expressions(&limited), expected);
}

#[test]
fn runbooks_are_urls_and_services_that_are_not_installed_are_not_down() {
    let disabled = "services.console.enabled=false,services.ingress.enabled=false";
    let manifests = render(&["--values", EVERYTHING, "--set", disabled]);
    let rule = manifests.iter().find(|it| kind(it) == "PrometheusRule").unwrap();
    let groups = rule["spec"]["groups"].as_array().unwrap();
    let alerts = groups.iter().flat_map(|it| it["rules"].as_array().unwrap());
    for alert in alerts.filter(|it| it["alert"].is_string()) {
        let annotations = &alert["annotations"];
        let url = format!(
            "https://git.example.com/mailpulse/{}",
            annotations["runbook"].as_str().unwrap()
        );
        assert_eq!(annotations["runbook_url"], url);
        if alert["alert"] == "MailpulseDown" {
            let expression = alert["expr"].as_str().unwrap();
            let is_named = expression.contains("console") || expression.contains("ingress");
            assert!(!is_named && expression.starts_with("absent("), "{expression}");
            assert!(expression.contains("component=\"notify\""), "{expression}");
        }
    }
}

#[test]
fn autoscalers_replace_the_number_of_replicas() {
    let replicas = |arguments: &[&str]| -> BTreeSet<String> {
        let manifests = render(arguments);
        let fixed = manifests.iter().filter(|it| it["spec"]["replicas"].is_number());
        fixed.map(|it| name(it).trim_start_matches("mailpulse-").to_owned()).collect()
    };
    assert!(replicas(&[]).contains("enrich"));
    let fixed = ["console", "forward", "notify", "suppress"].map(str::to_owned);
    assert_eq!(replicas(&["--values", EVERYTHING]), fixed.into());

    let sources: String = support::sources().into_iter().map(|(_, text)| text).collect();
    for manifest in render(&["--values", EVERYTHING]).iter().filter(|it| kind(it) == "ScaledObject")
    {
        let query = manifest["spec"]["triggers"][0]["metadata"]["query"].as_str().unwrap();
        let component = query.split("component=~\"").nth(1).unwrap().split('"').next().unwrap();
        let (stage, is_prefix) =
            component.strip_suffix(".+").map_or((component, false), |it| (it, true));
        let exists =
            binaries().contains(stage) || (is_prefix && sources.contains(&format!("\"{stage}")));
        assert!(exists, "no component {component}");
        assert!(
            query.contains("namespace=\"mail\"") && query.contains("mailpulse_lag_records"),
            "{query}"
        );
    }
}

/// Returns the code blocks of a language, without their indentation.
fn blocks(page: &str, language: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        let indentation = line.len() - line.trim_start().len();
        if line.trim_start() == format!("```{language}") {
            let body = lines.by_ref().take_while(|line| line.trim() != "```");
            let body: Vec<&str> = body.map(|it| it.get(indentation..).unwrap_or("")).collect();
            found.push(body.join("\n"));
        }
    }
    found
}

/// Makes a directory with the files that the page tells to write, and the `deploy` of the checkout.
fn as_the_page_says(page: &str) -> TempDir {
    let directory = TempDir::new().unwrap();
    std::os::unix::fs::symlink(root().join("deploy"), directory.path().join("deploy")).unwrap();
    for block in blocks(page, "yaml") {
        let name = block.lines().next().unwrap().strip_prefix("# ").expect("the name of the file");
        std::fs::write(directory.path().join(name), block).unwrap();
    }
    directory
}

#[test]
fn the_commands_of_the_page_run() {
    let page = read(PAGE);
    let directory = as_the_page_says(&page);
    let mut verbs = Vec::new();
    for script in blocks(&page, "sh") {
        let script = script.replace("\\\n", " ");
        for command in script.lines().filter(|line| line.starts_with("helm ")) {
            let words: Vec<&str> = command.split_whitespace().skip(1).collect();
            verbs.push(words[0].to_owned());
            // There is no cluster to install in, so the same chart and values are rendered.
            let arguments = match words[..] {
                ["upgrade", "--install", ..] => [&["template"], &words[2..]].concat(),
                _ => words,
            };
            let output = helm(directory.path(), &arguments);
            assert!(output.status.success(), "{command}: {}", text(&output.stderr));
            if arguments[0] == "template" {
                let rendered = manifests(&text(&output.stdout));
                rendered.iter().for_each(|it| check_manifest(it).unwrap());
                let config = config(&rendered);
                for workload in Workload::all(&rendered) {
                    let sources: Vec<Map<String, Value>> =
                        workload.settings(&config).list("source").unwrap();
                    assert_eq!(sources.len(), 1, "the source of the page");
                }
            }
        }
    }
    for verb in ["lint", "template", "upgrade"] {
        assert!(verbs.iter().any(|it| it == verb), "{PAGE} does not run helm {verb}");
    }
}

#[test]
fn the_page_names_secrets_volumes_and_pods_of_the_chart() {
    let page = read(PAGE);
    let directory = as_the_page_says(&page);
    let values = directory.path().join("my-values.yaml");
    let manifests = render(&["--values", values.to_str().unwrap()]);
    // Every secret that the settings name comes from the command that creates the Secret.
    for part in config(&manifests).split("env:").skip(1) {
        let variable = part.split('"').next().unwrap();
        assert!(page.contains(&format!("--from-literal={variable}=")), "{variable} is not created");
    }
    for workload in Workload::all(&manifests) {
        let secrets = workload.container().env_from.iter().flatten();
        let names: Vec<_> =
            secrets.filter_map(|it| Some(it.secret_ref.as_ref()?.name.as_str())).collect();
        assert_eq!(names, ["mailpulse"], "the Secret of step 2");
    }
    let names: BTreeSet<_> = manifests.iter().map(|it| (kind(it), name(it))).collect();
    for (of, name) in [
        ("StatefulSet", "mailpulse-ingress"),
        ("Deployment", "mailpulse-enrich"),
        ("Service", "mailpulse-console"),
    ] {
        assert!(page.contains(name) && names.contains(&(of, name)), "{of} {name}");
    }

    let check = std::fs::read_to_string(directory.path().join("spool-check.yaml")).unwrap();
    let check: Value = serde_saphyr::from_str(&check).unwrap();
    check_manifest(&check).unwrap();
    let pod: Pod = serde_json::from_value(check).unwrap();
    let spec = pod.spec.unwrap();
    let workloads = Workload::all(&manifests);
    let ingress = workloads.iter().find(|it| it.service == "ingress").unwrap();
    assert_eq!(
        spec.security_context.unwrap().run_as_user,
        ingress.pod().security_context.as_ref().unwrap().run_as_user
    );
    let settings = ingress.settings(&config(&manifests));
    let section: Map<String, Value> = settings.section("ingress").unwrap();
    let arguments = spec.containers[0].args.clone().unwrap();
    assert_eq!(arguments[4], section["spool_directory"].as_str().unwrap());
    let claim = spec.volumes.unwrap().remove(0).persistent_volume_claim.unwrap().claim_name;
    let template = ingress.claims[0].metadata.name.as_deref().unwrap();
    assert_eq!(claim, format!("{template}-mailpulse-ingress-2"), "volume, StatefulSet and number");
}
