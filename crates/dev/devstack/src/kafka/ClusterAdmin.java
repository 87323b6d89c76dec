import java.io.BufferedReader;
import java.io.FileInputStream;
import java.io.InputStreamReader;
import java.util.ArrayList;
import java.util.Collections;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Properties;
import java.util.Set;

import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.ListTopicsOptions;
import org.apache.kafka.clients.admin.NewPartitionReassignment;
import org.apache.kafka.clients.admin.TopicDescription;
import org.apache.kafka.common.ElectionType;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.TopicPartitionInfo;
import org.apache.kafka.common.acl.AccessControlEntry;
import org.apache.kafka.common.acl.AclBinding;
import org.apache.kafka.common.acl.AclOperation;
import org.apache.kafka.common.acl.AclPermissionType;
import org.apache.kafka.common.resource.PatternType;
import org.apache.kafka.common.resource.ResourcePattern;
import org.apache.kafka.common.resource.ResourceType;

/**
 * What devstack asks of a cluster that librdkafka cannot. One process does what Kafka's own tools would need
 * dozens for. Arguments: a file with properties of the client, and a command.
 */
public final class ClusterAdmin {
    private ClusterAdmin() {}

    public static void main(String[] arguments) throws Exception {
        Properties properties = new Properties();
        try (FileInputStream file = new FileInputStream(arguments[0])) {
            properties.load(file);
        }
        try (Admin admin = Admin.create(properties)) {
            switch (arguments[1]) {
                case "grant" -> grant(admin);
                case "move-leaders" -> moveLeaders(admin, arguments[2]);
                case "await-in-sync" -> awaitInSync(admin);
                default -> throw new IllegalArgumentException(arguments[1]);
            }
        }
    }

    /** Reads lines of principal, resource type, pattern type, name and operation, separated by tabs. */
    private static void grant(Admin admin) throws Exception {
        List<AclBinding> entries = new ArrayList<>();
        BufferedReader lines = new BufferedReader(new InputStreamReader(System.in));
        for (String line = lines.readLine(); line != null; line = lines.readLine()) {
            String[] fields = line.split("\t");
            ResourceType type = ResourceType.valueOf(fields[1]);
            ResourcePattern pattern =
                    new ResourcePattern(type, fields[3], PatternType.valueOf(fields[2]));
            entries.add(new AclBinding(pattern, new AccessControlEntry("User:" + fields[0], "*",
                    AclOperation.valueOf(fields[4]), AclPermissionType.ALLOW)));
        }
        admin.createAcls(entries).all().get();
    }

    /** Ends when all replicas of all partitions are in sync. The caller limits the time. */
    private static void awaitInSync(Admin admin) throws Exception {
        ListTopicsOptions all = new ListTopicsOptions().listInternal(true);
        boolean behind = true;
        while (behind) {
            Thread.sleep(200);
            Set<String> topics = admin.listTopics(all).names().get();
            behind = admin.describeTopics(topics).allTopicNames().get().values().stream()
                    .flatMap(topic -> topic.partitions().stream())
                    .anyMatch(partition -> partition.isr().size() < partition.replicas().size());
        }
    }

    /**
     * Moves the leader of every partition to the next replica, and with those of Kafka's own topics the
     * coordinators of groups and transactions. All replicas stay where they are.
     */
    private static void moveLeaders(Admin admin, String prefix) throws Exception {
        ListTopicsOptions all = new ListTopicsOptions().listInternal(true);
        Set<String> topics = new HashSet<>(admin.listTopics(all).names().get());
        topics.removeIf(topic -> !topic.startsWith(prefix) && !topic.startsWith("__"));
        Map<TopicPartition, Optional<NewPartitionReassignment>> orders = new HashMap<>();
        for (TopicDescription topic : admin.describeTopics(topics).allTopicNames().get().values()) {
            for (TopicPartitionInfo partition : topic.partitions()) {
                List<Integer> replicas = new ArrayList<>();
                partition.replicas().forEach(node -> replicas.add(node.id()));
                Collections.rotate(replicas, -1);
                orders.put(new TopicPartition(topic.name(), partition.partition()),
                        Optional.of(new NewPartitionReassignment(replicas)));
            }
        }
        admin.alterPartitionReassignments(orders).all().get();
        // Waits until the new orders are in force, so that the election follows them.
        while (!admin.listPartitionReassignments().reassignments().get().isEmpty()) {
            Thread.sleep(50);
        }
        // The answer has errors for partitions whose leader is right already; get() does not throw them.
        admin.electLeaders(ElectionType.PREFERRED, orders.keySet()).partitions().get();
        System.out.println(orders.size());
    }
}
