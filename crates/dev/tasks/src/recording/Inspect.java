// Prints the state of a Kafka cluster as JSON: topics with their settings and end offsets, groups with
// their offsets and metadata, transactional ids with states and producers, and the names in records. It
// asks nothing for which Kafka waits until open transactions end.
//
// java -cp 'jars/*' Inspect.java BOOTSTRAP

import com.fasterxml.jackson.databind.ObjectMapper;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.Map;
import java.util.Properties;
import java.util.TreeMap;
import java.util.TreeSet;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.ListTopicsOptions;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;

class Inspect {
    public static void main(String[] arguments) throws Exception {
        var properties = new Properties();
        properties.put("bootstrap.servers", arguments[0]);
        try (var admin = Admin.create(properties)) {
            var all = new TreeMap<String, Object>();
            all.put("topics", topics(admin));
            all.put("groups", groups(admin));
            var transactions = transactions(admin);
            all.put("transactions", transactions);
            all.put("producers", producers(admin, transactions));
            all.put("records", records(admin, properties));
            System.out.println(new ObjectMapper().writeValueAsString(all));
        }
    }

    static Object topics(Admin admin) throws Exception {
        var names = admin.listTopics(new ListTopicsOptions().listInternal(true)).names().get();
        var resources = names.stream()
            .map(name -> new ConfigResource(ConfigResource.Type.TOPIC, name)).toList();
        var configs = admin.describeConfigs(resources).all().get();
        var topics = new TreeMap<String, Object>();
        for (var described : admin.describeTopics(names).allTopicNames().get().values()) {
            var specs = new HashMap<TopicPartition, OffsetSpec>();
            described.partitions().forEach(partition -> specs.put(
                new TopicPartition(described.name(), partition.partition()), OffsetSpec.latest()));
            var found = admin.listOffsets(specs).all().get();
            var ends = new ArrayList<Long>();
            for (int number = 0; number < described.partitions().size(); number++) {
                ends.add(found.get(new TopicPartition(described.name(), number)).offset());
            }
            var own = new TreeMap<String, String>();
            var resource = new ConfigResource(ConfigResource.Type.TOPIC, described.name());
            for (var entry : configs.get(resource).entries()) {
                if (entry.source() == ConfigEntry.ConfigSource.DYNAMIC_TOPIC_CONFIG) {
                    own.put(entry.name(), entry.value());
                }
            }
            topics.put(described.name(), new TreeMap<>(Map.of("configs", own, "ends", ends)));
        }
        return topics;
    }

    static Object groups(Admin admin) throws Exception {
        var groups = new TreeMap<String, Object>();
        for (var group : admin.listGroups().all().get()) {
            var offsets = new TreeMap<String, Object>();
            var committed =
                admin.listConsumerGroupOffsets(group.groupId()).partitionsToOffsetAndMetadata().get();
            committed.forEach((partition, offset) -> {
                if (offset != null) {
                    offsets.put(partition.topic() + "/" + partition.partition(), new TreeMap<>(
                        Map.of("offset", offset.offset(), "metadata", offset.metadata())));
                }
            });
            groups.put(group.groupId(), offsets);
        }
        return groups;
    }

    static TreeMap<String, String> transactions(Admin admin) throws Exception {
        var states = new TreeMap<String, String>();
        for (var transaction : admin.listTransactions().all().get()) {
            states.put(transaction.transactionalId(), transaction.state().toString());
        }
        return states;
    }

    /** The producer id and epoch of each transactional id. Each registration of the id changes them. */
    static Object producers(Admin admin, TreeMap<String, String> transactions) throws Exception {
        var producers = new TreeMap<String, String>();
        var described = admin.describeTransactions(transactions.keySet()).all().get();
        described.forEach((id, transaction) ->
            producers.put(id, transaction.producerId() + "/" + transaction.producerEpoch()));
        return producers;
    }

    /**
     * The names of all headers of each topic. For a changelog also the first part of each key, with the
     * fields of its JSON values or the first byte of its binary values. Records of open and aborted
     * transactions are included.
     */
    static Object records(Admin admin, Properties properties) throws Exception {
        var consumerProperties = new Properties();
        consumerProperties.putAll(properties);
        consumerProperties.put("max.poll.records", "10000");
        var bytes = new ByteArrayDeserializer();
        var all = new TreeMap<String, Object>();
        try (var consumer = new KafkaConsumer<>(consumerProperties, bytes, bytes)) {
            for (var topic : admin.listTopics().names().get()) {
                var partitions = consumer.partitionsFor(topic).stream()
                    .map(it -> new TopicPartition(topic, it.partition())).toList();
                consumer.assign(partitions);
                consumer.seekToBeginning(partitions);
                all.put(topic, names(consumer, topic));
            }
        }
        return all;
    }

    static Object names(KafkaConsumer<byte[], byte[]> consumer, String topic) throws Exception {
        var headers = new TreeSet<String>();
        var values = new TreeMap<String, TreeSet<String>>();
        var ends = consumer.endOffsets(consumer.assignment());
        while (ends.entrySet().stream().anyMatch(it -> consumer.position(it.getKey()) < it.getValue())) {
            for (var record : consumer.poll(Duration.ofMillis(100))) {
                record.headers().forEach(header -> headers.add(header.key()));
                if (topic.contains(".changelog.") && record.value() != null) {
                    var stem = record.key() == null ? "" :
                        new String(record.key(), StandardCharsets.UTF_8).split("/")[0];
                    fields(record.value(), values.computeIfAbsent(stem, it -> new TreeSet<>()));
                }
            }
        }
        return new TreeMap<>(Map.of("headers", headers, "values", values));
    }

    static void fields(byte[] value, TreeSet<String> names) throws Exception {
        if (value[0] == '{') {
            new ObjectMapper().readTree(value).fieldNames().forEachRemaining(names::add);
        } else {
            names.add("0x%02x".formatted(value[0]));
        }
    }
}
