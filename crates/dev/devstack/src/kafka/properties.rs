//! The configurations of brokers and controllers that are child processes.

use std::path::Path;

use super::secured::{SCRAM_PASSWORD, SCRAM_USER, SecuredListeners};
use super::three::{ADMIN, NODE};
use super::tokens::AUDIENCE;
use crate::Identity;

/// The configuration of a node that is both broker and controller, with listeners that are secured
/// beside the plain one.
pub(super) fn secured(
    data: &Path,
    port: u16,
    controller_port: u16,
    listeners: &SecuredListeners,
) -> String {
    let SecuredListeners { scram_port, mutual_port, server, ca_file, token_keys } = listeners;
    let (mechanism, tokens) = match token_keys {
        None => ("", String::new()),
        Some(keys) => (",OAUTHBEARER", tokens(keys)),
    };
    let added = format!(",SCRAM://127.0.0.1:{scram_port},MUTUAL://127.0.0.1:{mutual_port}\n");
    let plain: String = combined(data, port, controller_port)
        .lines()
        .map(|line| match line.split_once('=') {
            Some(("listeners" | "advertised.listeners", _)) => format!("{line}{added}"),
            Some(("listener.security.protocol.map", _)) => {
                format!("{line},SCRAM:SASL_SSL,MUTUAL:SSL\n")
            }
            _ => format!("{line}\n"),
        })
        .collect();
    format!(
        "{plain}
ssl.keystore.type=PEM
ssl.keystore.location={}
ssl.truststore.type=PEM
ssl.truststore.location={}
listener.name.scram.sasl.enabled.mechanisms=SCRAM-SHA-512,SCRAM-SHA-256,PLAIN{mechanism}
listener.name.scram.scram-sha-512.sasl.jaas.config=\
  org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.scram.scram-sha-256.sasl.jaas.config=\
  org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.scram.plain.sasl.jaas.config=\
  org.apache.kafka.common.security.plain.PlainLoginModule required \
  user_{SCRAM_USER}=\"{SCRAM_PASSWORD}\";
listener.name.mutual.ssl.client.auth=required
{tokens}",
        server.both.display(),
        ca_file.display()
    )
}

/// Settings of a listener for clients with tokens that are signed with one of these keys.
fn tokens(keys: &Path) -> String {
    format!(
        "listener.name.scram.oauthbearer.sasl.jaas.config=\
  org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required;
listener.name.scram.oauthbearer.sasl.server.callback.handler.class=\
  org.apache.kafka.common.security.oauthbearer.OAuthBearerValidatorCallbackHandler
sasl.oauthbearer.jwks.endpoint.url=file://{}
sasl.oauthbearer.expected.audience={AUDIENCE}
",
        keys.display()
    )
}

/// The configuration of a node that is both broker and controller.
pub(super) fn combined(data: &Path, port: u16, controller_port: u16) -> String {
    format!(
        "process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller_port}
listeners=CLIENT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}
{}{SERVER}{ONE_COPY}",
        clients(data, port)
    )
}

/// The configuration of a broker, node 1, whose controller is node 2.
pub(super) fn broker(data: &Path, port: u16, controller_port: u16) -> String {
    format!(
        "process.roles=broker
node.id=1
controller.quorum.voters=2@127.0.0.1:{controller_port}
listeners=CLIENT://127.0.0.1:{port}
{}{SERVER}{ONE_COPY}",
        clients(data, port)
    )
}

/// The configuration of the controller of [`broker`].
pub(super) fn controller(data: &Path, controller_port: u16) -> String {
    format!(
        "process.roles=controller
node.id=2
controller.quorum.voters=2@127.0.0.1:{controller_port}
listeners=CONTROLLER://127.0.0.1:{controller_port}
listener.security.protocol.map=CONTROLLER:PLAINTEXT
controller.listener.names=CONTROLLER
log.dirs={}
{SERVER}{ONE_COPY}",
        data.display()
    )
}

/// One node of a cluster of three brokers and a controller. Every connection requires TLS: clients log in with
/// SCRAM, nodes have certificates. Only principals with an access control entry may do anything.
pub(super) struct Member<'a> {
    /// 1 to 3 are brokers, 4 is the controller.
    pub(super) id: i32,
    pub(super) data: &'a Path,
    /// The address for clients, of a broker.
    pub(super) clients: &'a str,
    /// The address for other brokers.
    pub(super) replication: &'a str,
    /// The address of the controller.
    pub(super) controller: &'a str,
    pub(super) identity: &'a Identity,
    pub(super) ca_file: &'a Path,
}

impl Member<'_> {
    pub(super) const CONTROLLER: i32 = 4;

    pub(super) fn properties(&self) -> String {
        let Self { id, data, clients, replication, controller, identity, ca_file } = self;
        let own = if *id == Self::CONTROLLER {
            format!("process.roles=controller\nlisteners=CONTROLLER://{controller}\n")
        } else {
            let listeners = format!("CLIENT://{clients},REPLICATION://{replication}");
            format!(
                "process.roles=broker
listeners={listeners}
advertised.listeners={listeners}
inter.broker.listener.name=REPLICATION
listener.name.replication.ssl.client.auth=required
listener.name.client.sasl.enabled.mechanisms=SCRAM-SHA-512
listener.name.client.scram-sha-512.sasl.jaas.config=\
  org.apache.kafka.common.security.scram.ScramLoginModule required;
"
            )
        };
        format!(
            "node.id={id}
controller.quorum.voters={}@{controller}
{own}controller.listener.names=CONTROLLER
listener.security.protocol.map=CLIENT:SASL_SSL,REPLICATION:SSL,CONTROLLER:SSL
listener.name.controller.ssl.client.auth=required
ssl.keystore.type=PEM
ssl.keystore.location={}
ssl.truststore.type=PEM
ssl.truststore.location={}
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:CN={NODE};User:{ADMIN}
log.dirs={}
{SERVER}{THREE_COPIES}",
            Self::CONTROLLER,
            identity.both.display(),
            ca_file.display(),
            data.display()
        )
    }
}

fn clients(data: &Path, port: u16) -> String {
    format!(
        "advertised.listeners=CLIENT://127.0.0.1:{port}
listener.security.protocol.map=CLIENT:PLAINTEXT,CONTROLLER:PLAINTEXT
inter.broker.listener.name=CLIENT
controller.listener.names=CONTROLLER
log.dirs={}
",
        data.display()
    )
}

/// Settings of every node.
const SERVER: &str = "
# Topics are created explicitly.
auto.create.topics.enable=false

# For a fast start: few internal partitions, little memory for compaction, index files of 1 MiB, and
# small segments of the group log, which are compacted early.
offsets.topic.num.partitions=4
offsets.topic.segment.bytes=4194304
transaction.state.log.num.partitions=4
share.coordinator.state.topic.num.partitions=1
log.cleaner.dedupe.buffer.size=33554432
log.index.size.max.bytes=1048576

# A broker that was killed cannot register again before its session has expired. With the default,
# every restart takes nine seconds. With much less than two seconds, a broker on a busy machine would
# be taken for dead.
broker.session.timeout.ms=2000
broker.heartbeat.interval.ms=250

# Groups form at once, and a killed member is detected after one to six seconds.
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
group.consumer.session.timeout.ms=6000
group.consumer.min.session.timeout.ms=1000
group.consumer.heartbeat.interval.ms=500
group.consumer.min.heartbeat.interval.ms=100

# A transaction that a crash left open is aborted within a second of its timeout.
transaction.abort.timed.out.transaction.cleanup.interval.ms=1000
";

/// One node has the only copy of everything.
const ONE_COPY: &str = "
default.replication.factor=1
min.insync.replicas=1
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
";

/// Three brokers have a copy each, and two must have a record before it is acknowledged.
const THREE_COPIES: &str = "
default.replication.factor=3
min.insync.replicas=2
offsets.topic.replication.factor=3
transaction.state.log.replication.factor=3
transaction.state.log.min.isr=2
share.coordinator.state.topic.replication.factor=3
share.coordinator.state.topic.min.isr=2

# The first replica becomes the leader again some seconds after its broker has returned.
auto.leader.rebalance.enable=true
leader.imbalance.check.interval.seconds=5

# Three brokers on a busy machine are slower than one, and none of them may be taken for dead for that.
broker.session.timeout.ms=6000
";

/// A setting for a node that nobody kills. If it pauses for some seconds, because the machine is busy, its partitions must
/// not lose their leader.
pub(super) const NEVER_KILLED: &str = "
broker.session.timeout.ms=60000
";

/// Settings for data that is older than any retention. Nothing expires: neither records nor offsets
/// of groups nor transactional ids.
pub(super) const KEEP_EVERYTHING: &str = "
log.initial.task.delay.ms=2147483647
log.retention.check.interval.ms=2147483647
offsets.retention.minutes=2147483647
transactional.id.expiration.ms=2147483647
transaction.remove.expired.transaction.cleanup.interval.ms=2147483647
producer.id.expiration.ms=2147483647
";
