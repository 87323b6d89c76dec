//! `mailpulse rights`: every form has the same rights, and those with which the services run in `chaos --cluster`.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod tool;

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use record::Topics;
use record::rights::{Resource, Right};
use serde_json::Value;
use tool::Tool;

const SETTINGS: &str = "[kafka]\nprefix = \"prod.\"\n\
    [kafka.properties]\n\"sasl.password\" = \"env:A_SECRET_THAT_NOBODY_HAS\"\n\
    [topics]\ncreate = false\n";

/// Principal, resource, name, whether it is a prefix, and operation.
type Given = BTreeSet<(String, String, String, bool, String)>;

fn expected(create: bool) -> Given {
    let given = |right: Right| {
        let Right { principal, resource, name, is_prefix, operation } = right;
        let name = if resource == Resource::Cluster { "kafka-cluster".to_owned() } else { name };
        (
            format!("User:mp-{principal}"),
            resource.name().to_owned(),
            name,
            is_prefix,
            operation.name().to_owned(),
        )
    };
    Topics::new("prod.").rights(create).into_iter().map(given).collect()
}

fn printed(tool: &Tool, format: &[&str]) -> String {
    tool.write("mailpulse.toml", SETTINGS);
    let output = tool.run(&[&["rights", "--principal", "mp-{service}"], format].concat());
    assert_eq!(output.code, 0, "{}", output.err);
    output.text
}

#[test]
fn json_has_every_right() {
    let given = |line: &str| {
        let line: Value = serde_json::from_str(line).unwrap();
        let text = |name: &str| line[name].as_str().unwrap().to_owned();
        let is_prefix = match line["pattern"].as_str().unwrap() {
            "prefixed" => true,
            "literal" => false,
            other => panic!("{other}"),
        };
        (text("principal"), text("resource"), text("name"), is_prefix, text("operation"))
    };
    let tool = Tool::new();
    let found: Given = printed(&tool, &["--format", "json"]).lines().map(given).collect();
    assert_eq!(found, expected(false));
    tool.write("mailpulse.toml", SETTINGS.replace("false", "true"));
    let output = tool.run(&["rights", "--principal", "mp-{service}", "--format", "json"]);
    let found: Given = output.text.lines().map(given).collect();
    assert_eq!(found, expected(true));
    assert_ne!(expected(true), expected(false));
}

/// A shell runs the commands. In place of Kafka's tool, a script writes down its arguments.
#[test]
fn a_shell_gives_every_right_with_the_commands() {
    let tool = Tool::new();
    let commands = printed(&tool, &["--format", "kafka-acls"]);
    tool.write("kafka-acls.sh", "#!/bin/sh\nprintf '%s\\n' \"$@\" end >> \"$ARGUMENTS\"\n");
    let script = tool.path("kafka-acls.sh");
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    let arguments = tool.path("arguments");
    let path = format!("{}:/usr/bin:/bin", script.parent().unwrap().display());
    let status = Command::new("/bin/sh")
        .args(["-e", "-c", &commands])
        .env("PATH", path)
        .env("KAFKA", "kafka-1.example.com:9092")
        .env("ARGUMENTS", &arguments)
        .status()
        .unwrap();
    assert!(status.success());
    let all = std::fs::read_to_string(&arguments).unwrap();
    let mut found = Given::new();
    for call in all.split("\nend\n").filter(|call| !call.is_empty()) {
        let (mut principal, mut operation, mut is_prefix) = (String::new(), String::new(), false);
        let mut resources = Vec::new();
        let mut arguments = call.lines();
        while let Some(name) = arguments.next() {
            let mut value = || arguments.next().unwrap().to_owned();
            match name {
                "--add" => {}
                "--bootstrap-server" => assert_eq!(value(), "kafka-1.example.com:9092"),
                "--allow-principal" => principal = value(),
                "--operation" => operation = value(),
                "--resource-pattern-type" => is_prefix = value() == "prefixed",
                "--cluster" => resources.push(("cluster".to_owned(), "kafka-cluster".to_owned())),
                other => resources.push((other.trim_start_matches('-').to_owned(), value())),
            }
        }
        for (resource, name) in resources {
            found.insert((principal.clone(), resource, name, is_prefix, operation.clone()));
        }
    }
    assert_eq!(found, expected(false));
}

#[test]
fn strimzi_has_a_user_for_every_principal() {
    let printed = printed(&Tool::new(), &["--format", "strimzi", "--strimzi-cluster", "events"]);
    let mut found = Given::new();
    for document in printed.split("---\n").skip(1) {
        let user: Value = serde_saphyr::from_str(document).unwrap();
        assert_eq!(user["kind"], "KafkaUser");
        assert_eq!(user["metadata"]["labels"]["strimzi.io/cluster"], "events");
        let principal = format!("User:{}", user["metadata"]["name"].as_str().unwrap());
        for acl in user["spec"]["authorization"]["acls"].as_array().unwrap() {
            let resource = match acl["resource"]["type"].as_str().unwrap() {
                "transactionalId" => "transactional-id",
                other => other,
            };
            let name = acl["resource"]["name"].as_str().unwrap_or("kafka-cluster").to_owned();
            let is_prefix = acl["resource"]["patternType"] == "prefix";
            for operation in acl["operations"].as_array().unwrap() {
                let operation = operation.as_str().unwrap().to_owned();
                found.insert((
                    principal.clone(),
                    resource.to_owned(),
                    name.clone(),
                    is_prefix,
                    operation,
                ));
            }
        }
    }
    assert_eq!(found, expected(false));
}

#[test]
fn terraform_has_a_resource_for_every_right() {
    let printed = printed(&Tool::new(), &["--format", "terraform"]);
    let mut found = Given::new();
    let mut identifiers = BTreeSet::new();
    for block in printed.split("resource \"kafka_acl\" ").skip(1) {
        assert!(identifiers.insert(block.lines().next().unwrap().to_owned()), "{block}");
        let value_of = |name: &str| {
            let line = block.lines().find(|line| line.trim_start().starts_with(name)).unwrap();
            line.split_once('=').unwrap().1.trim().trim_matches('"').to_owned()
        };
        let resource = match value_of("resource_type ").as_str() {
            "TransactionalID" => "transactional-id".to_owned(),
            other => other.to_lowercase(),
        };
        let is_prefix = value_of("resource_pattern_type_filter") == "Prefixed";
        let (principal, name) = (value_of("acl_principal"), value_of("resource_name"));
        found.insert((principal, resource, name, is_prefix, value_of("acl_operation")));
    }
    assert_eq!(found, expected(false));
}

#[test]
fn one_principal_can_have_all_rights_and_a_wrong_name_is_refused() {
    let tool = Tool::new();
    tool.write("mailpulse.toml", SETTINGS);
    let table = tool.run(&["rights", "--principal", "mailpulse"]);
    assert_eq!(table.code, 0, "{}", table.err);
    let lines: Vec<&str> = table.text.lines().skip(1).collect();
    assert!(lines.iter().all(|line| line.starts_with("mailpulse ")), "{}", table.text);
    let writes = lines.iter().find(|line| line.contains(" topic ") && line.contains(" Write "));
    assert!(writes.unwrap().contains("prod.mail."), "{}", table.text);

    let wrong = tool.run(&["rights", "--principal", "a'b"]);
    assert_eq!(wrong.code, 2, "{}", wrong.text);
    assert!(wrong.err.contains("cannot be the name of a principal"), "{}", wrong.err);
}
