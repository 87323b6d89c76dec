-- Two months of mail to 900 invented readers, as archive would have inserted it: a delivery every four days, and an open
-- 40 minutes later. Each reader opens with a probability of their own, and may stop for good before any mail.
-- Parameter: `until`, the time of the demo.
INSERT INTO events (event_id, kind, provider, source, occurred_at, received_at, recipient, recipient_domain, mailbox_provider, message_id, campaign, first_of_kind, first_engagement, counts, sent_at, geo_time_zone, kafka_partition, kafka_offset)
WITH
    intDiv(number, 32) AS reader,
    intDiv(number, 2) % 16 AS mail,
    number % 2 = 1 AS is_open,
    (cityHash64(reader, 'opens') % 1000 + 0.5) / 1000 AS taste,
    (cityHash64(reader, 'stops') % 1000 + 0.5) / 1000 AS patience,
    -- A geometric distribution: one reader of 25 stops before each mail.
    floor(log(patience) / log(0.96)) AS mails_until_stop,
    mail < mails_until_stop AND cityHash64(reader, mail, 'open') % 1000 < 1000 * pow(taste, 1.5) AS is_opened,
    {until:DateTime('UTC')} - INTERVAL (64 - 4 * mail) DAY + INTERVAL cityHash64(reader, mail) % 43200 SECOND AS sent,
    concat('reader-', toString(reader), '@example.org') AS address,
    sent + INTERVAL if(is_open, 2400, 5) SECOND AS happened
SELECT
    lower(hex(sipHash128('reader', number))) AS event_id,
    if(is_open, 'opened', 'delivered') AS kind,
    'generic' AS provider,
    'readers' AS source,
    happened AS occurred_at,
    happened AS received_at,
    address AS recipient,
    'example.org' AS recipient_domain,
    'other' AS mailbox_provider,
    concat('letter-', toString(mail)) AS message_id,
    concat('letter-', toString(mail)) AS campaign,
    is_open AS first_of_kind,
    is_open AS first_engagement,
    if(is_open, ['opened', 'engaged'], ['delivered']) AS counts,
    sent AS sent_at,
    if(is_open, 'Europe/Berlin', '') AS geo_time_zone,
    -- No partition of Kafka has this number.
    65535 AS kafka_partition,
    number AS kafka_offset
FROM numbers(900 * 16 * 2)
WHERE NOT is_open OR is_opened
