//! `mailpulse rights`: what each service may do in Kafka, for those who give rights with tools of their own.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::path::Path;

use anyhow::bail;
use kafka::TopicSettings;
use record::Topics;
use record::rights::{Operation, Resource, Right};
use serde::Deserialize;
use serde_json::json;
use service::Settings;

use crate::args::{RightFormat, RightsArgs};
use crate::{InputError, Outcome};

/// What `--principal` replaces by the name of a service.
const SERVICE: &str = "{service}";
/// The name that Kafka gives the only resource of the type cluster.
const CLUSTER: &str = "kafka-cluster";

/// The only key of `[kafka]` on which rights depend. The others can be secrets.
#[derive(Debug, Deserialize)]
struct Names {
    prefix: String,
}

/// The rights about resources of one type, with one kind of name, that have the same operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Group {
    resource: Resource,
    is_prefix: bool,
    operation: Operation,
}

/// The names of the resources that a principal may use, by principal.
type ByPrincipal = BTreeMap<String, BTreeMap<Group, Vec<String>>>;

/// Prints the rights. Nothing is connected.
///
/// # Errors
/// If the settings are invalid, or the name of a principal is.
pub(crate) fn run(config: Option<&Path>, args: &RightsArgs) -> anyhow::Result<Outcome> {
    let settings = Settings::discover(config)?;
    let Names { prefix } = settings.section("kafka")?;
    let topics: TopicSettings = settings.section("topics")?;
    let rights = by_principal(&Topics::new(&prefix).rights(topics.create), &args.principal)?;
    let text = match args.format {
        RightFormat::Table => table(&rights),
        RightFormat::Json => each(&rights, json_line),
        RightFormat::KafkaAcls => each(&rights, command),
        RightFormat::Strimzi => rights
            .iter()
            .map(|(name, groups)| strimzi(name, groups, &args.strimzi_cluster))
            .collect(),
        RightFormat::Terraform => each(&rights, terraform),
    };
    io::stdout().lock().write_all(text.as_bytes())?;
    Ok(Outcome::Done)
}

/// Combines the rights of services that have the same principal.
fn by_principal(rights: &[Right], pattern: &str) -> anyhow::Result<ByPrincipal> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.@=/".contains(c);
    let rest = pattern.replace(SERVICE, "");
    if pattern.is_empty() || !rest.chars().all(is_plain) {
        bail!(InputError(format!(
            "`{pattern}` cannot be the name of a principal; use letters, digits and -_.@=/, and {SERVICE} for the \
             name of the service"
        )));
    }
    let mut all = ByPrincipal::new();
    for Right { principal, resource, name, is_prefix, operation } in rights {
        let principal = pattern.replace(SERVICE, principal);
        let group = Group { resource: *resource, is_prefix: *is_prefix, operation: *operation };
        let names = all.entry(principal).or_default().entry(group).or_default();
        let name = if *resource == Resource::Cluster { CLUSTER } else { name };
        if !names.iter().any(|other| other == name) {
            names.push(name.to_owned());
        }
    }
    Ok(all)
}

fn each(rights: &ByPrincipal, format: impl Fn(&str, Group, &[String]) -> String) -> String {
    let mut text = String::new();
    for (principal, groups) in rights {
        for (&group, names) in groups {
            text.push_str(&format(principal, group, names));
        }
    }
    text
}

fn table(rights: &ByPrincipal) -> String {
    let width = rights.keys().map(String::len).chain(["principal".len()]).max().unwrap_or_default();
    let mut text = format!("{:<width$}  {:<16}  {:<15}  names\n", "principal", "resource", "may");
    text += &each(rights, |principal, group, names| {
        let star = if group.is_prefix { "*" } else { "" };
        let names: Vec<String> = names.iter().map(|name| format!("{name}{star}")).collect();
        let Group { resource, operation, .. } = group;
        let (resource, operation) = (resource.name(), operation.name());
        format!("{principal:<width$}  {resource:<16}  {operation:<15}  {}\n", names.join(" "))
    });
    text
}

fn json_line(principal: &str, group: Group, names: &[String]) -> String {
    let mut text = String::new();
    for name in names {
        let line = json!({
            "principal": format!("User:{principal}"),
            "resource": group.resource.name(),
            "name": name,
            "pattern": if group.is_prefix { "prefixed" } else { "literal" },
            "operation": group.operation.name(),
        });
        let _ = writeln!(text, "{line}");
    }
    text
}

/// A command of the tools of Apache Kafka. The brokers and a file with the client's properties are variables of the shell.
fn command(principal: &str, group: Group, names: &[String]) -> String {
    let Group { resource, is_prefix, operation } = group;
    let mut text = format!(
        "kafka-acls.sh --bootstrap-server \"$KAFKA\" ${{KAFKA_PROPERTIES:+--command-config \"$KAFKA_PROPERTIES\"}} \
         --add --allow-principal 'User:{principal}' --operation {operation}"
    );
    if is_prefix {
        text.push_str(" --resource-pattern-type prefixed");
    }
    for name in names {
        match resource {
            Resource::Cluster => text.push_str(" --cluster"),
            _ => {
                let _ = write!(text, " --{resource} '{name}'");
            }
        }
    }
    text.push('\n');
    text
}

/// A `KafkaUser` of the Strimzi operator
/// (<https://strimzi.io/docs/operators/latest/configuring#type-KafkaUser-reference>), which creates its password.
fn strimzi(principal: &str, groups: &BTreeMap<Group, Vec<String>>, cluster: &str) -> String {
    let mut text = format!(
        "---\napiVersion: kafka.strimzi.io/v1beta2\nkind: KafkaUser\nmetadata:\n  name: {}\n  labels:\n    \
         strimzi.io/cluster: {}\nspec:\n  authentication:\n    type: scram-sha-512\n  authorization:\n    \
         type: simple\n    acls:\n",
        quoted(principal),
        quoted(cluster)
    );
    for (Group { resource, is_prefix, operation }, names) in groups {
        for name in names {
            let resource_type = match resource {
                Resource::Topic => "topic",
                Resource::Group => "group",
                Resource::TransactionalId => "transactionalId",
                Resource::Cluster => "cluster",
            };
            let _ = write!(text, "      - resource:\n          type: {resource_type}\n");
            if *resource != Resource::Cluster {
                let pattern = if *is_prefix { "prefix" } else { "literal" };
                let name = quoted(name);
                let _ = write!(text, "          name: {name}\n          patternType: {pattern}\n");
            }
            let _ = writeln!(text, "        operations: [{operation}]");
        }
    }
    text
}

/// A `kafka_acl` of Terraform's provider Mongey/kafka (<https://registry.terraform.io/providers/Mongey/kafka>).
fn terraform(principal: &str, group: Group, names: &[String]) -> String {
    let Group { resource, is_prefix, operation } = group;
    let resource_type = match resource {
        Resource::Topic => "Topic",
        Resource::Group => "Group",
        Resource::TransactionalId => "TransactionalID",
        Resource::Cluster => "Cluster",
    };
    let pattern = if is_prefix { "Prefixed" } else { "Literal" };
    let mut text = String::new();
    for name in names {
        let identifier = identifier(&[principal, resource_type, operation.name(), name]);
        let _ = write!(
            text,
            "resource \"kafka_acl\" {identifier} {{\n  \
             resource_name                = {name}\n  \
             resource_type                = {resource_type:?}\n  \
             resource_pattern_type_filter = {pattern:?}\n  \
             acl_principal                = {principal}\n  \
             acl_host                     = \"*\"\n  \
             acl_operation                = {operation:?}\n  \
             acl_permission_type          = \"Allow\"\n}}\n",
            identifier = quoted(&identifier),
            name = quoted(name),
            principal = quoted(&format!("User:{principal}")),
            operation = operation.name(),
        );
    }
    text
}

/// An identifier of HCL, which consists of letters, digits, `_` and `-`, and begins with a letter.
fn identifier(parts: &[&str]) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || "-_".contains(c) { c } else { '_' };
    let joined = parts.join("_").chars().map(plain).collect::<String>();
    format!("acl_{}", joined.trim_end_matches('_'))
}

/// A string of YAML and HCL. Names have no character that the two escape in different ways.
fn quoted(text: &str) -> String {
    json!(text).to_string()
}
