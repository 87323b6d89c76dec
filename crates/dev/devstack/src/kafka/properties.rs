//! The configurations of our own nodes.

use std::path::Path;

/// A node that is broker and controller in one.
pub(super) fn combined(data: &Path, port: u16, controller_port: u16) -> String {
    format!(
        "process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller_port}
listeners=CLIENT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}
{}{SERVER}",
        clients(data, port)
    )
}

/// A broker, node 1, whose controller is node 2.
pub(super) fn broker(data: &Path, port: u16, controller_port: u16) -> String {
    format!(
        "process.roles=broker
node.id=1
controller.quorum.voters=2@127.0.0.1:{controller_port}
listeners=CLIENT://127.0.0.1:{port}
{}{SERVER}",
        clients(data, port)
    )
}

/// The controller of [`broker`].
pub(super) fn controller(data: &Path, controller_port: u16) -> String {
    format!(
        "process.roles=controller
node.id=2
controller.quorum.voters=2@127.0.0.1:{controller_port}
listeners=CONTROLLER://127.0.0.1:{controller_port}
listener.security.protocol.map=CONTROLLER:PLAINTEXT
controller.listener.names=CONTROLLER
log.dirs={}
{SERVER}",
        data.display()
    )
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

/// What every node is told.
const SERVER: &str = "
# Topics are made on purpose or not at all.
auto.create.topics.enable=false

# One node holds the only copy of everything.
default.replication.factor=1
min.insync.replicas=1
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1

# Small, for a fast start: fewer internal partitions, less memory for compaction, index files of
# 1 MiB, logs of groups that are soon compacted.
offsets.topic.num.partitions=4
offsets.topic.segment.bytes=4194304
transaction.state.log.num.partitions=4
share.coordinator.state.topic.num.partitions=1
log.cleaner.dedupe.buffer.size=33554432
log.index.size.max.bytes=1048576

# A broker that was killed may not register again before its session has ended. The default of nine
# seconds makes every restart that slow; much less, and a busy machine looks like a dead broker.
broker.session.timeout.ms=2000
broker.heartbeat.interval.ms=250

# Groups form at once, and a member that was killed is missed after a second or six.
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
group.consumer.session.timeout.ms=6000
group.consumer.min.session.timeout.ms=1000
group.consumer.heartbeat.interval.ms=500
group.consumer.min.heartbeat.interval.ms=100

# A transaction left behind by a crash is aborted within a second of its timeout.
transaction.abort.timed.out.transaction.cleanup.interval.ms=1000
";
