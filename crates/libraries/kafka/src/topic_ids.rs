//! Asks the brokers for the ids of topics. A topic that was deleted and created again has another id.
//! rdkafka has no function for this, so this module calls librdkafka's `DescribeTopics` itself.
#![allow(unsafe_code, reason = "librdkafka's DescribeTopics has no safe wrapper in rdkafka")]

use std::collections::HashMap;
use std::ffi::{CStr, CString, c_char, c_int};
use std::ptr;

use rdkafka::bindings as native;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use crate::Error;
use crate::client::KAFKA_REQUEST_TIMEOUT;

/// Returns the id of each topic, in base64 as Kafka's own tools show it. A broker that is too old for
/// ids (before Kafka 2.8) and a topic that does not exist have none.
///
/// # Errors
/// [`Error::Kafka`] if no broker answers.
pub(crate) fn topic_ids<'t, C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    topics: impl Iterator<Item = &'t str>,
) -> Result<HashMap<String, String>, Error> {
    let names: Vec<CString> = topics.filter_map(|name| CString::new(name).ok()).collect();
    if names.is_empty() {
        return Ok(HashMap::new());
    }
    let mut pointers: Vec<*const c_char> = names.iter().map(|name| name.as_ptr()).collect();
    let timeout = KAFKA_REQUEST_TIMEOUT.as_millis() as c_int;
    // SAFETY: The client outlives this call. `pointers` has as many C strings as its length says, and
    // librdkafka copies them. Every object that is created is destroyed once, by its guard, and the
    // event outlives what is read from it.
    unsafe {
        let client = consumer.client().native_ptr();
        let queue = Guard(native::rd_kafka_queue_new(client), native::rd_kafka_queue_destroy);
        let options = Guard(
            native::rd_kafka_AdminOptions_new(
                client,
                native::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS,
            ),
            native::rd_kafka_AdminOptions_destroy,
        );
        native::rd_kafka_AdminOptions_set_request_timeout(options.0, timeout, ptr::null_mut(), 0);
        let collection = Guard(
            native::rd_kafka_TopicCollection_of_topic_names(pointers.as_mut_ptr(), pointers.len()),
            native::rd_kafka_TopicCollection_destroy,
        );
        native::rd_kafka_DescribeTopics(client, collection.0, options.0, queue.0);
        let event = native::rd_kafka_queue_poll(queue.0, timeout);
        if event.is_null() {
            return Err(KafkaError::AdminOp(RDKafkaErrorCode::OperationTimedOut).into());
        }
        let event = Guard(event, native::rd_kafka_event_destroy);
        let code = native::rd_kafka_event_error(event.0);
        if code != native::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
            return Err(KafkaError::AdminOp(code.into()).into());
        }
        Ok(ids_of(event.0))
    }
}

/// # Safety
/// `event` is a valid event.
unsafe fn ids_of(event: *mut native::rd_kafka_event_t) -> HashMap<String, String> {
    let mut ids = HashMap::new();
    // SAFETY: The result, the descriptions, their names and their ids belong to the event. A result is
    // null if the event is of another type.
    unsafe {
        let result = native::rd_kafka_event_DescribeTopics_result(event);
        if result.is_null() {
            return ids;
        }
        let mut count = 0;
        let topics = native::rd_kafka_DescribeTopics_result_topics(result, &raw mut count);
        for index in 0..count {
            let topic = *topics.add(index);
            let error = native::rd_kafka_TopicDescription_error(topic);
            let has_error = !error.is_null()
                && native::rd_kafka_error_code(error)
                    != native::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR;
            let id = native::rd_kafka_TopicDescription_topic_id(topic);
            if has_error || id.is_null() {
                continue;
            }
            let is_zero = native::rd_kafka_Uuid_most_significant_bits(id) == 0
                && native::rd_kafka_Uuid_least_significant_bits(id) == 0;
            let text = native::rd_kafka_Uuid_base64str(id);
            if !is_zero && !text.is_null() {
                let name = CStr::from_ptr(native::rd_kafka_TopicDescription_name(topic));
                let name = name.to_string_lossy().into_owned();
                ids.insert(name, CStr::from_ptr(text).to_string_lossy().into_owned());
            }
        }
    }
    ids
}

/// Destroys a native object when it is dropped.
struct Guard<T>(*mut T, unsafe extern "C" fn(*mut T));

impl<T> Drop for Guard<T> {
    fn drop(&mut self) {
        if !self.0.is_null() {
            // SAFETY: The pointer is the result of the constructor that belongs to this destructor, and
            // nothing else destroys it.
            unsafe { (self.1)(self.0) }
        }
    }
}
