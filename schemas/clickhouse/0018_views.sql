-- The views that people, dashboards and the console read. Their names and columns are stable. Columns that are called
-- like counters and rates are those of docs/metrics.md. NAME_rate_low and NAME_rate_high are the interval of Wilson at
-- 95 %: for reading, not for alerts, whose bounds are stricter (docs/alerts.md). Times are UTC. Views with parameters are called
-- like functions: SELECT * FROM message_story(id = '…').

-- Views that read events by time find them by these indexes. Parts of earlier releases have none; they are read by
-- the sorting key.
ALTER TABLE events ADD INDEX IF NOT EXISTS at_range at TYPE minmax GRANULARITY 1;
ALTER TABLE events ADD INDEX IF NOT EXISTS received_at_range received_at TYPE minmax GRANULARITY 1;

-- Rates by quarter of an hour and mailbox provider.
CREATE VIEW IF NOT EXISTS deliverability
(
    source                        LowCardinality(String) COMMENT 'The source, as in events.',
    provider                      LowCardinality(String) COMMENT 'The email service provider.',
    at15                          DateTime('UTC') COMMENT 'The start of the quarter of an hour. For a day in another time zone: toDate(at15, zone).',
    mailbox_provider              LowCardinality(String) COMMENT 'The operator of the mailboxes. (several): corrections of messages whose events disagree.',
    injected                      Int64 COMMENT 'Messages that the provider took in.',
    delivered                     Int64 COMMENT 'Messages that the server of the recipient accepted.',
    deferred                      Int64 COMMENT 'Messages that a server refused for now, at least once.',
    deferred_settled              Int64 COMMENT 'Messages that were deferred, and then delivered or bounced.',
    deferrals                     Int64 COMMENT 'All temporary refusals, also repeated ones.',
    bounced_hard                  Int64 COMMENT 'Messages that bounced permanently, not because of the sender.',
    bounced_soft                  Int64 COMMENT 'Messages that bounced for a temporary reason, not because of the sender.',
    bounced_block                 Int64 COMMENT 'Messages that bounced because of the sender.',
    bounced_undetermined          Int64 COMMENT 'Messages that bounced for an unknown reason.',
    auto_replies                  Int64 COMMENT 'Automatic answers. They are no bounces.',
    late_bounces                  Int64 COMMENT 'Messages that bounced after the delivery.',
    dropped                       Int64 COMMENT 'Messages that the provider did not attempt to deliver.',
    suppressed                    Int64 COMMENT 'Messages to addresses on the suppression list of the provider.',
    opened                        Int64 COMMENT 'Messages that a person opened.',
    clicked                       Int64 COMMENT 'Messages in which a person clicked.',
    engaged                       Int64 COMMENT 'Messages that a person opened or clicked.',
    machine_opened                Int64 COMMENT 'Messages that a machine opened.',
    machine_clicked               Int64 COMMENT 'Messages in which a machine clicked.',
    complained                    Int64 COMMENT 'Messages that the recipient reported as spam.',
    unsubscribed                  Int64 COMMENT 'Messages from which the recipient unsubscribed.',
    delivered_fbl                 Int64 COMMENT 'Delivered messages at mailbox providers that report complaints.',
    late_bounces_fbl              Int64 COMMENT 'Late bounces at mailbox providers that report complaints.',
    auth_refused                  Int64 COMMENT 'Messages refused because SPF, DKIM or DMARC failed.',
    throttled                     Int64 COMMENT 'Messages refused because of the rate of the sender.',
    listed                        Int64 COMMENT 'Messages refused because the sender is on a block list.',
    unclassified                  Int64 COMMENT 'Messages that bounced for a reason for which there is no class.',
    sent                          Int64 COMMENT 'What receiving servers decided on: delivered and all four counters of bounces.',
    bounced                       Int64 COMMENT 'The four counters of bounces together, without late bounces.',
    judged                        Int64 COMMENT 'The denominator of the deferral rate: sent + deferred - deferred_settled.',
    accepted_by_recipient         Int64 COMMENT 'What receiving servers accepted: delivered.',
    bounce_rate                   Nullable(Float64) COMMENT 'bounced / sent, from 0 to 1, and NULL while the denominator is 0.',
    bounce_rate_low               Nullable(Float64) COMMENT 'The lower end of the interval of Wilson at 95 %.',
    bounce_rate_high              Nullable(Float64) COMMENT 'The upper end of it.',
    hard_bounce_rate              Nullable(Float64) COMMENT 'bounced_hard / sent, from 0 to 1, and NULL while the denominator is 0.',
    hard_bounce_rate_low          Nullable(Float64) COMMENT 'The lower end of the interval of Wilson at 95 %.',
    hard_bounce_rate_high         Nullable(Float64) COMMENT 'The upper end of it.',
    soft_bounce_rate              Nullable(Float64) COMMENT 'bounced_soft / sent, from 0 to 1, and NULL while the denominator is 0.',
    soft_bounce_rate_low          Nullable(Float64) COMMENT 'The lower end of the interval of Wilson at 95 %.',
    soft_bounce_rate_high         Nullable(Float64) COMMENT 'The upper end of it.',
    block_bounce_rate             Nullable(Float64) COMMENT 'bounced_block / sent, from 0 to 1, and NULL while the denominator is 0.',
    block_bounce_rate_low         Nullable(Float64) COMMENT 'The lower end of the interval of Wilson at 95 %.',
    block_bounce_rate_high        Nullable(Float64) COMMENT 'The upper end of it.',
    undetermined_bounce_rate      Nullable(Float64) COMMENT 'bounced_undetermined / sent, from 0 to 1, and NULL while the denominator is 0.',
    undetermined_bounce_rate_low  Nullable(Float64) COMMENT 'The lower end of the interval of Wilson at 95 %.',
    undetermined_bounce_rate_high Nullable(Float64) COMMENT 'The upper end of it.',
    late_bounce_rate              Nullable(Float64) COMMENT 'late_bounces / delivered, from 0 to 1, and NULL while the denominator is 0.',
    late_bounce_rate_low          Nullable(Float64) COMMENT 'The lower end of the interval of Wilson at 95 %.',
    late_bounce_rate_high         Nullable(Float64) COMMENT 'The upper end of it.',
    deferral_rate                 Nullable(Float64) COMMENT 'deferred / judged, from 0 to 1, and NULL while the denominator is 0.',
    deferral_rate_low             Nullable(Float64) COMMENT 'The lower end of the interval of Wilson at 95 %.',
    deferral_rate_high            Nullable(Float64) COMMENT 'The upper end of it.',
    delivery_rate                 Nullable(Float64) COMMENT 'accepted_by_recipient / sent, from 0 to 1, and NULL while the denominator is 0.',
    delivery_rate_low             Nullable(Float64) COMMENT 'The lower end of the interval of Wilson at 95 %.',
    delivery_rate_high            Nullable(Float64) COMMENT 'The upper end of it.',
    complaint_rate                Nullable(Float64) COMMENT 'complained / delivered_fbl, from 0 to 1, and NULL while the denominator is 0.',
    complaint_rate_low            Nullable(Float64) COMMENT 'The lower end of the interval of Wilson at 95 %.',
    complaint_rate_high           Nullable(Float64) COMMENT 'The upper end of it.',
    plain_complaint_rate          Nullable(Float64) COMMENT 'complained / accepted_by_recipient, from 0 to 1, and NULL while the denominator is 0.',
    plain_complaint_rate_low      Nullable(Float64) COMMENT 'The lower end of the interval of Wilson at 95 %.',
    plain_complaint_rate_high     Nullable(Float64) COMMENT 'The upper end of it.',
    unsubscribe_rate              Nullable(Float64) COMMENT 'unsubscribed / accepted_by_recipient, from 0 to 1, and NULL while the denominator is 0.',
    unsubscribe_rate_low          Nullable(Float64) COMMENT 'The lower end of the interval of Wilson at 95 %.',
    unsubscribe_rate_high         Nullable(Float64) COMMENT 'The upper end of it.',
    open_rate                     Nullable(Float64) COMMENT 'opened / accepted_by_recipient, from 0 to 1, and NULL while the denominator is 0.',
    open_rate_low                 Nullable(Float64) COMMENT 'The lower end of the interval of Wilson at 95 %.',
    open_rate_high                Nullable(Float64) COMMENT 'The upper end of it.',
    open_with_machines_rate       Nullable(Float64) COMMENT '(opened + machine_opened) / accepted_by_recipient, from 0 to 1, and NULL while the denominator is 0.',
    open_with_machines_rate_low   Nullable(Float64) COMMENT 'The lower end of the interval of Wilson at 95 %.',
    open_with_machines_rate_high  Nullable(Float64) COMMENT 'The upper end of it.',
    click_rate                    Nullable(Float64) COMMENT 'clicked / accepted_by_recipient, from 0 to 1, and NULL while the denominator is 0.',
    click_rate_low                Nullable(Float64) COMMENT 'The lower end of the interval of Wilson at 95 %.',
    click_rate_high               Nullable(Float64) COMMENT 'The upper end of it.',
    engagement_rate               Nullable(Float64) COMMENT 'engaged / accepted_by_recipient, from 0 to 1, and NULL while the denominator is 0.',
    engagement_rate_low           Nullable(Float64) COMMENT 'The lower end of the interval of Wilson at 95 %.',
    engagement_rate_high          Nullable(Float64) COMMENT 'The upper end of it.'
)
AS WITH
    (k, n) -> if(n > 0, least(1, greatest(0, k) / n), NULL) AS rate,
    (k, n) -> if(n > 0, greatest(0, (greatest(0, least(k, n)) + 1.9208 - 1.96 * sqrt(greatest(0, least(k, n)) * (n - greatest(0, least(k, n))) / n + 0.9604)) / (n + 3.8416)), NULL) AS wilson_low,
    (k, n) -> if(n > 0, least(1, (greatest(0, least(k, n)) + 1.9208 + 1.96 * sqrt(greatest(0, least(k, n)) * (n - greatest(0, least(k, n))) / n + 0.9604)) / (n + 3.8416)), NULL) AS wilson_high
SELECT
    source,
    provider,
    at15,
    mailbox_provider,
    injected,
    delivered,
    deferred,
    deferred_settled,
    deferrals,
    bounced_hard,
    bounced_soft,
    bounced_block,
    bounced_undetermined,
    auto_replies,
    late_bounces,
    dropped,
    suppressed,
    opened,
    clicked,
    engaged,
    machine_opened,
    machine_clicked,
    complained,
    unsubscribed,
    delivered_fbl,
    late_bounces_fbl,
    auth_refused,
    throttled,
    listed,
    unclassified,
    sent,
    bounced,
    judged,
    accepted_by_recipient,
    rate(bounced, sent) AS bounce_rate,
    wilson_low(bounced, sent) AS bounce_rate_low,
    wilson_high(bounced, sent) AS bounce_rate_high,
    rate(bounced_hard, sent) AS hard_bounce_rate,
    wilson_low(bounced_hard, sent) AS hard_bounce_rate_low,
    wilson_high(bounced_hard, sent) AS hard_bounce_rate_high,
    rate(bounced_soft, sent) AS soft_bounce_rate,
    wilson_low(bounced_soft, sent) AS soft_bounce_rate_low,
    wilson_high(bounced_soft, sent) AS soft_bounce_rate_high,
    rate(bounced_block, sent) AS block_bounce_rate,
    wilson_low(bounced_block, sent) AS block_bounce_rate_low,
    wilson_high(bounced_block, sent) AS block_bounce_rate_high,
    rate(bounced_undetermined, sent) AS undetermined_bounce_rate,
    wilson_low(bounced_undetermined, sent) AS undetermined_bounce_rate_low,
    wilson_high(bounced_undetermined, sent) AS undetermined_bounce_rate_high,
    rate(late_bounces, delivered) AS late_bounce_rate,
    wilson_low(late_bounces, delivered) AS late_bounce_rate_low,
    wilson_high(late_bounces, delivered) AS late_bounce_rate_high,
    rate(deferred, judged) AS deferral_rate,
    wilson_low(deferred, judged) AS deferral_rate_low,
    wilson_high(deferred, judged) AS deferral_rate_high,
    rate(accepted_by_recipient, sent) AS delivery_rate,
    wilson_low(accepted_by_recipient, sent) AS delivery_rate_low,
    wilson_high(accepted_by_recipient, sent) AS delivery_rate_high,
    rate(complained, delivered_fbl) AS complaint_rate,
    wilson_low(complained, delivered_fbl) AS complaint_rate_low,
    wilson_high(complained, delivered_fbl) AS complaint_rate_high,
    rate(complained, accepted_by_recipient) AS plain_complaint_rate,
    wilson_low(complained, accepted_by_recipient) AS plain_complaint_rate_low,
    wilson_high(complained, accepted_by_recipient) AS plain_complaint_rate_high,
    rate(unsubscribed, accepted_by_recipient) AS unsubscribe_rate,
    wilson_low(unsubscribed, accepted_by_recipient) AS unsubscribe_rate_low,
    wilson_high(unsubscribed, accepted_by_recipient) AS unsubscribe_rate_high,
    rate(opened, accepted_by_recipient) AS open_rate,
    wilson_low(opened, accepted_by_recipient) AS open_rate_low,
    wilson_high(opened, accepted_by_recipient) AS open_rate_high,
    rate(opened + machine_opened, accepted_by_recipient) AS open_with_machines_rate,
    wilson_low(opened + machine_opened, accepted_by_recipient) AS open_with_machines_rate_low,
    wilson_high(opened + machine_opened, accepted_by_recipient) AS open_with_machines_rate_high,
    rate(clicked, accepted_by_recipient) AS click_rate,
    wilson_low(clicked, accepted_by_recipient) AS click_rate_low,
    wilson_high(clicked, accepted_by_recipient) AS click_rate_high,
    rate(engaged, accepted_by_recipient) AS engagement_rate,
    wilson_low(engaged, accepted_by_recipient) AS engagement_rate_low,
    wilson_high(engaged, accepted_by_recipient) AS engagement_rate_high
FROM
(
    SELECT
        *,
        delivered + bounced_hard + bounced_soft + bounced_block + bounced_undetermined AS sent,
        sent - delivered AS bounced,
        sent + deferred - deferred_settled AS judged,
        delivered AS accepted_by_recipient
    FROM
    (
        SELECT
            source,
            provider,
            at15,
            mailbox_provider,
            sum(injected) AS injected,
            sum(delivered) AS delivered,
            sum(deferred) AS deferred,
            sum(deferred_settled) AS deferred_settled,
            sum(deferrals) AS deferrals,
            sum(bounced_hard) AS bounced_hard,
            sum(bounced_soft) AS bounced_soft,
            sum(bounced_block) AS bounced_block,
            sum(bounced_undetermined) AS bounced_undetermined,
            sum(auto_replies) AS auto_replies,
            sum(late_bounces) AS late_bounces,
            sum(dropped) AS dropped,
            sum(suppressed) AS suppressed,
            sum(opened) AS opened,
            sum(clicked) AS clicked,
            sum(engaged) AS engaged,
            sum(machine_opened) AS machine_opened,
            sum(machine_clicked) AS machine_clicked,
            sum(complained) AS complained,
            sum(unsubscribed) AS unsubscribed,
            sum(delivered_fbl) AS delivered_fbl,
            sum(late_bounces_fbl) AS late_bounces_fbl,
            sum(auth_refused) AS auth_refused,
            sum(throttled) AS throttled,
            sum(listed) AS listed,
            sum(unclassified) AS unclassified
        FROM traffic
        GROUP BY source, provider, at15, mailbox_provider
    )
);

-- What has become of the mail of each campaign so far.
CREATE VIEW IF NOT EXISTS campaign_funnel
(
    source                       LowCardinality(String) COMMENT 'The source, as in events.',
    provider                     LowCardinality(String) COMMENT 'The email service provider.',
    campaign                     LowCardinality(String) COMMENT 'The campaign.',
    began_at                     DateTime('UTC') COMMENT 'The start of the first quarter of an hour with an event.',
    latest_at                    DateTime('UTC') COMMENT 'The start of the latest one.',
    injected                     Int64 COMMENT 'Messages that the provider took in.',
    delivered                    Int64 COMMENT 'Messages that the server of the recipient accepted.',
    deferred                     Int64 COMMENT 'Messages that a server refused for now, at least once.',
    deferred_settled             Int64 COMMENT 'Messages that were deferred, and then delivered or bounced.',
    bounced_hard                 Int64 COMMENT 'Messages that bounced permanently, not because of the sender.',
    bounced_soft                 Int64 COMMENT 'Messages that bounced for a temporary reason, not because of the sender.',
    bounced_block                Int64 COMMENT 'Messages that bounced because of the sender.',
    bounced_undetermined         Int64 COMMENT 'Messages that bounced for an unknown reason.',
    late_bounces                 Int64 COMMENT 'Messages that bounced after the delivery.',
    dropped                      Int64 COMMENT 'Messages that the provider did not attempt to deliver.',
    suppressed                   Int64 COMMENT 'Messages to addresses on the suppression list of the provider.',
    opened                       Int64 COMMENT 'Messages that a person opened.',
    clicked                      Int64 COMMENT 'Messages in which a person clicked.',
    engaged                      Int64 COMMENT 'Messages that a person opened or clicked.',
    machine_opened               Int64 COMMENT 'Messages that a machine opened.',
    machine_clicked              Int64 COMMENT 'Messages in which a machine clicked.',
    complained                   Int64 COMMENT 'Messages that the recipient reported as spam.',
    unsubscribed                 Int64 COMMENT 'Messages from which the recipient unsubscribed.',
    delivered_fbl                Int64 COMMENT 'Delivered messages at mailbox providers that report complaints.',
    sent                         Int64 COMMENT 'What receiving servers decided on: delivered and all four counters of bounces.',
    bounced                      Int64 COMMENT 'The four counters of bounces together, without late bounces.',
    judged                       Int64 COMMENT 'The denominator of the deferral rate: sent + deferred - deferred_settled.',
    accepted_by_recipient        Int64 COMMENT 'What receiving servers accepted: delivered.',
    delivery_rate                Nullable(Float64) COMMENT 'accepted_by_recipient / sent, from 0 to 1, and NULL while the denominator is 0.',
    delivery_rate_low            Nullable(Float64) COMMENT 'The lower end of the interval of Wilson at 95 %.',
    delivery_rate_high           Nullable(Float64) COMMENT 'The upper end of it.',
    bounce_rate                  Nullable(Float64) COMMENT 'bounced / sent, from 0 to 1, and NULL while the denominator is 0.',
    bounce_rate_low              Nullable(Float64) COMMENT 'The lower end of the interval of Wilson at 95 %.',
    bounce_rate_high             Nullable(Float64) COMMENT 'The upper end of it.',
    hard_bounce_rate             Nullable(Float64) COMMENT 'bounced_hard / sent, from 0 to 1, and NULL while the denominator is 0.',
    hard_bounce_rate_low         Nullable(Float64) COMMENT 'The lower end of the interval of Wilson at 95 %.',
    hard_bounce_rate_high        Nullable(Float64) COMMENT 'The upper end of it.',
    block_bounce_rate            Nullable(Float64) COMMENT 'bounced_block / sent, from 0 to 1, and NULL while the denominator is 0.',
    block_bounce_rate_low        Nullable(Float64) COMMENT 'The lower end of the interval of Wilson at 95 %.',
    block_bounce_rate_high       Nullable(Float64) COMMENT 'The upper end of it.',
    deferral_rate                Nullable(Float64) COMMENT 'deferred / judged, from 0 to 1, and NULL while the denominator is 0.',
    deferral_rate_low            Nullable(Float64) COMMENT 'The lower end of the interval of Wilson at 95 %.',
    deferral_rate_high           Nullable(Float64) COMMENT 'The upper end of it.',
    complaint_rate               Nullable(Float64) COMMENT 'complained / delivered_fbl, from 0 to 1, and NULL while the denominator is 0.',
    complaint_rate_low           Nullable(Float64) COMMENT 'The lower end of the interval of Wilson at 95 %.',
    complaint_rate_high          Nullable(Float64) COMMENT 'The upper end of it.',
    plain_complaint_rate         Nullable(Float64) COMMENT 'complained / accepted_by_recipient, from 0 to 1, and NULL while the denominator is 0.',
    plain_complaint_rate_low     Nullable(Float64) COMMENT 'The lower end of the interval of Wilson at 95 %.',
    plain_complaint_rate_high    Nullable(Float64) COMMENT 'The upper end of it.',
    unsubscribe_rate             Nullable(Float64) COMMENT 'unsubscribed / accepted_by_recipient, from 0 to 1, and NULL while the denominator is 0.',
    unsubscribe_rate_low         Nullable(Float64) COMMENT 'The lower end of the interval of Wilson at 95 %.',
    unsubscribe_rate_high        Nullable(Float64) COMMENT 'The upper end of it.',
    open_rate                    Nullable(Float64) COMMENT 'opened / accepted_by_recipient, from 0 to 1, and NULL while the denominator is 0.',
    open_rate_low                Nullable(Float64) COMMENT 'The lower end of the interval of Wilson at 95 %.',
    open_rate_high               Nullable(Float64) COMMENT 'The upper end of it.',
    open_with_machines_rate      Nullable(Float64) COMMENT '(opened + machine_opened) / accepted_by_recipient, from 0 to 1, and NULL while the denominator is 0.',
    open_with_machines_rate_low  Nullable(Float64) COMMENT 'The lower end of the interval of Wilson at 95 %.',
    open_with_machines_rate_high Nullable(Float64) COMMENT 'The upper end of it.',
    click_rate                   Nullable(Float64) COMMENT 'clicked / accepted_by_recipient, from 0 to 1, and NULL while the denominator is 0.',
    click_rate_low               Nullable(Float64) COMMENT 'The lower end of the interval of Wilson at 95 %.',
    click_rate_high              Nullable(Float64) COMMENT 'The upper end of it.',
    engagement_rate              Nullable(Float64) COMMENT 'engaged / accepted_by_recipient, from 0 to 1, and NULL while the denominator is 0.',
    engagement_rate_low          Nullable(Float64) COMMENT 'The lower end of the interval of Wilson at 95 %.',
    engagement_rate_high         Nullable(Float64) COMMENT 'The upper end of it.'
)
AS WITH
    (k, n) -> if(n > 0, least(1, greatest(0, k) / n), NULL) AS rate,
    (k, n) -> if(n > 0, greatest(0, (greatest(0, least(k, n)) + 1.9208 - 1.96 * sqrt(greatest(0, least(k, n)) * (n - greatest(0, least(k, n))) / n + 0.9604)) / (n + 3.8416)), NULL) AS wilson_low,
    (k, n) -> if(n > 0, least(1, (greatest(0, least(k, n)) + 1.9208 + 1.96 * sqrt(greatest(0, least(k, n)) * (n - greatest(0, least(k, n))) / n + 0.9604)) / (n + 3.8416)), NULL) AS wilson_high
SELECT
    source,
    provider,
    campaign,
    began_at,
    latest_at,
    injected,
    delivered,
    deferred,
    deferred_settled,
    bounced_hard,
    bounced_soft,
    bounced_block,
    bounced_undetermined,
    late_bounces,
    dropped,
    suppressed,
    opened,
    clicked,
    engaged,
    machine_opened,
    machine_clicked,
    complained,
    unsubscribed,
    delivered_fbl,
    sent,
    bounced,
    judged,
    accepted_by_recipient,
    rate(accepted_by_recipient, sent) AS delivery_rate,
    wilson_low(accepted_by_recipient, sent) AS delivery_rate_low,
    wilson_high(accepted_by_recipient, sent) AS delivery_rate_high,
    rate(bounced, sent) AS bounce_rate,
    wilson_low(bounced, sent) AS bounce_rate_low,
    wilson_high(bounced, sent) AS bounce_rate_high,
    rate(bounced_hard, sent) AS hard_bounce_rate,
    wilson_low(bounced_hard, sent) AS hard_bounce_rate_low,
    wilson_high(bounced_hard, sent) AS hard_bounce_rate_high,
    rate(bounced_block, sent) AS block_bounce_rate,
    wilson_low(bounced_block, sent) AS block_bounce_rate_low,
    wilson_high(bounced_block, sent) AS block_bounce_rate_high,
    rate(deferred, judged) AS deferral_rate,
    wilson_low(deferred, judged) AS deferral_rate_low,
    wilson_high(deferred, judged) AS deferral_rate_high,
    rate(complained, delivered_fbl) AS complaint_rate,
    wilson_low(complained, delivered_fbl) AS complaint_rate_low,
    wilson_high(complained, delivered_fbl) AS complaint_rate_high,
    rate(complained, accepted_by_recipient) AS plain_complaint_rate,
    wilson_low(complained, accepted_by_recipient) AS plain_complaint_rate_low,
    wilson_high(complained, accepted_by_recipient) AS plain_complaint_rate_high,
    rate(unsubscribed, accepted_by_recipient) AS unsubscribe_rate,
    wilson_low(unsubscribed, accepted_by_recipient) AS unsubscribe_rate_low,
    wilson_high(unsubscribed, accepted_by_recipient) AS unsubscribe_rate_high,
    rate(opened, accepted_by_recipient) AS open_rate,
    wilson_low(opened, accepted_by_recipient) AS open_rate_low,
    wilson_high(opened, accepted_by_recipient) AS open_rate_high,
    rate(opened + machine_opened, accepted_by_recipient) AS open_with_machines_rate,
    wilson_low(opened + machine_opened, accepted_by_recipient) AS open_with_machines_rate_low,
    wilson_high(opened + machine_opened, accepted_by_recipient) AS open_with_machines_rate_high,
    rate(clicked, accepted_by_recipient) AS click_rate,
    wilson_low(clicked, accepted_by_recipient) AS click_rate_low,
    wilson_high(clicked, accepted_by_recipient) AS click_rate_high,
    rate(engaged, accepted_by_recipient) AS engagement_rate,
    wilson_low(engaged, accepted_by_recipient) AS engagement_rate_low,
    wilson_high(engaged, accepted_by_recipient) AS engagement_rate_high
FROM
(
    SELECT
        *,
        delivered + bounced_hard + bounced_soft + bounced_block + bounced_undetermined AS sent,
        sent - delivered AS bounced,
        sent + deferred - deferred_settled AS judged,
        delivered AS accepted_by_recipient
    FROM
    (
        SELECT
            source,
            provider,
            campaign,
            min(at15) AS began_at,
            max(at15) AS latest_at,
            sum(injected) AS injected,
            sum(delivered) AS delivered,
            sum(deferred) AS deferred,
            sum(deferred_settled) AS deferred_settled,
            sum(bounced_hard) AS bounced_hard,
            sum(bounced_soft) AS bounced_soft,
            sum(bounced_block) AS bounced_block,
            sum(bounced_undetermined) AS bounced_undetermined,
            sum(late_bounces) AS late_bounces,
            sum(dropped) AS dropped,
            sum(suppressed) AS suppressed,
            sum(opened) AS opened,
            sum(clicked) AS clicked,
            sum(engaged) AS engaged,
            sum(machine_opened) AS machine_opened,
            sum(machine_clicked) AS machine_clicked,
            sum(complained) AS complained,
            sum(unsubscribed) AS unsubscribed,
            sum(delivered_fbl) AS delivered_fbl
        FROM traffic
        WHERE campaign != ''
        GROUP BY source, provider, campaign
    )
);

-- Bounces by reason. Demand a source and days: the view reads their bounces from events.
CREATE VIEW IF NOT EXISTS bounce_reasons
(
    source            LowCardinality(String) COMMENT 'The source, as in events.',
    provider          LowCardinality(String) COMMENT 'The email service provider.',
    day               Date COMMENT 'The day in UTC.',
    campaign          LowCardinality(String) COMMENT 'The campaign.',
    mailbox_provider  LowCardinality(String) COMMENT 'The operator of the mailboxes.',
    bounce_permanence LowCardinality(String) COMMENT 'hard, soft or undetermined.',
    bounce_class      LowCardinality(String) COMMENT 'Why, such as invalid_recipient.',
    bounce_side       LowCardinality(String) COMMENT 'Because of whom: recipient, sender, network or unknown.',
    bounce_status     LowCardinality(String) COMMENT 'The enhanced status code of RFC 3463.',
    events            UInt64 COMMENT 'All bounces, also repeated ones.',
    messages          UInt64 COMMENT 'Messages that counted as bounced or as a late bounce at one of these events.',
    late              UInt64 COMMENT 'Of these messages, those that had been delivered before.',
    example           String COMMENT 'The latest answer of a server.',
    example_event_id  String COMMENT 'Its event.'
)
AS SELECT
    source,
    provider,
    day,
    campaign,
    mailbox_provider,
    bounce_permanence,
    bounce_class,
    bounce_side,
    bounce_status,
    count() AS events,
    countIf(hasAny(counts, ['bounced_hard', 'bounced_soft', 'bounced_block', 'bounced_undetermined', 'late_bounces'])) AS messages,
    countIf(has(counts, 'late_bounces')) AS late,
    argMax(bounce_diagnostic, at) AS example,
    argMax(event_id, at) AS example_event_id
FROM events
WHERE kind = 'bounced' AND bounce_class NOT IN ('auto_reply', 'suppressed') AND (authentic OR seen > 0 OR notEmpty(counts))
GROUP BY source, provider, toDate(at, 'UTC') AS day, campaign, mailbox_provider, bounce_permanence, bounce_class, bounce_side, bounce_status;

-- Bounces of the last 24 hours by reason, against the seven days before.
CREATE VIEW IF NOT EXISTS bounce_reason_changes
(
    source           LowCardinality(String) COMMENT 'The source, as in events.',
    provider         LowCardinality(String) COMMENT 'The email service provider.',
    mailbox_provider LowCardinality(String) COMMENT 'The operator of the mailboxes.',
    bounce_class     LowCardinality(String) COMMENT 'Why, such as invalid_recipient.',
    bounce_status    LowCardinality(String) COMMENT 'The enhanced status code of RFC 3463.',
    last_day         UInt64 COMMENT 'Bounces of the last 24 hours.',
    usual            Float64 COMMENT 'The median of the seven periods of 24 hours before.',
    times            Nullable(Float64) COMMENT 'last_day / usual, and NULL if it was 0: the reason is new or rare.',
    is_new           Bool COMMENT 'No such bounce in the seven days before.',
    example          String COMMENT 'The latest answer of a server.'
)
AS SELECT
    source,
    provider,
    mailbox_provider,
    bounce_class,
    bounce_status,
    last_day,
    usual,
    last_day / nullIf(usual, 0) AS times,
    arraySum(before) = 0 AS is_new,
    example
FROM
(
    SELECT
        source,
        provider,
        mailbox_provider,
        bounce_class,
        bounce_status,
        countIf(days_ago = 0) AS last_day,
        [countIf(days_ago = 1), countIf(days_ago = 2), countIf(days_ago = 3), countIf(days_ago = 4), countIf(days_ago = 5), countIf(days_ago = 6), countIf(days_ago = 7)] AS before,
        arrayReduce('median', before) AS usual,
        argMax(bounce_diagnostic, at) AS example
    FROM
    (
        SELECT source, provider, mailbox_provider, bounce_class, bounce_status, bounce_diagnostic, at, intDiv(dateDiff('second', at, now()), 86400) AS days_ago
        FROM events
        WHERE kind = 'bounced' AND bounce_class NOT IN ('auto_reply', 'suppressed') AND (authentic OR seen > 0 OR notEmpty(counts))
            AND at > now() - INTERVAL 8 DAY AND at <= now()
            AND occurred_at > now() - INTERVAL 8 DAY
    )
    GROUP BY source, provider, mailbox_provider, bounce_class, bounce_status
);

-- Opens and clicks by people and by machines. The open rate is somewhere from open_rate (people only) to open_with_machines_rate.
CREATE VIEW IF NOT EXISTS engagement
(
    source                       LowCardinality(String) COMMENT 'The source, as in events.',
    provider                     LowCardinality(String) COMMENT 'The email service provider.',
    at15                         DateTime('UTC') COMMENT 'The start of the quarter of an hour. For a day in another time zone: toDate(at15, zone).',
    mailbox_provider             LowCardinality(String) COMMENT 'The operator of the mailboxes. (several): corrections of messages whose events disagree.',
    campaign                     LowCardinality(String) COMMENT 'The campaign. (several): as for mailbox_provider.',
    delivered                    Int64 COMMENT 'Messages that the server of the recipient accepted.',
    opened                       Int64 COMMENT 'Messages that a person opened.',
    clicked                      Int64 COMMENT 'Messages in which a person clicked.',
    engaged                      Int64 COMMENT 'Messages that a person opened or clicked.',
    machine_opened               Int64 COMMENT 'Messages that a machine opened.',
    machine_clicked              Int64 COMMENT 'Messages in which a machine clicked.',
    unsubscribed                 Int64 COMMENT 'Messages from which the recipient unsubscribed.',
    accepted_by_recipient        Int64 COMMENT 'What receiving servers accepted: delivered.',
    open_rate                    Nullable(Float64) COMMENT 'opened / accepted_by_recipient, from 0 to 1, and NULL while the denominator is 0.',
    open_rate_low                Nullable(Float64) COMMENT 'The lower end of the interval of Wilson at 95 %.',
    open_rate_high               Nullable(Float64) COMMENT 'The upper end of it.',
    open_with_machines_rate      Nullable(Float64) COMMENT '(opened + machine_opened) / accepted_by_recipient, from 0 to 1, and NULL while the denominator is 0.',
    open_with_machines_rate_low  Nullable(Float64) COMMENT 'The lower end of the interval of Wilson at 95 %.',
    open_with_machines_rate_high Nullable(Float64) COMMENT 'The upper end of it.',
    click_rate                   Nullable(Float64) COMMENT 'clicked / accepted_by_recipient, from 0 to 1, and NULL while the denominator is 0.',
    click_rate_low               Nullable(Float64) COMMENT 'The lower end of the interval of Wilson at 95 %.',
    click_rate_high              Nullable(Float64) COMMENT 'The upper end of it.',
    engagement_rate              Nullable(Float64) COMMENT 'engaged / accepted_by_recipient, from 0 to 1, and NULL while the denominator is 0.',
    engagement_rate_low          Nullable(Float64) COMMENT 'The lower end of the interval of Wilson at 95 %.',
    engagement_rate_high         Nullable(Float64) COMMENT 'The upper end of it.',
    unsubscribe_rate             Nullable(Float64) COMMENT 'unsubscribed / accepted_by_recipient, from 0 to 1, and NULL while the denominator is 0.',
    unsubscribe_rate_low         Nullable(Float64) COMMENT 'The lower end of the interval of Wilson at 95 %.',
    unsubscribe_rate_high        Nullable(Float64) COMMENT 'The upper end of it.',
    machine_open_share           Nullable(Float64) COMMENT 'machine_opened / (opened + machine_opened).',
    machine_click_share          Nullable(Float64) COMMENT 'machine_clicked / (clicked + machine_clicked).'
)
AS WITH
    (k, n) -> if(n > 0, least(1, greatest(0, k) / n), NULL) AS rate,
    (k, n) -> if(n > 0, greatest(0, (greatest(0, least(k, n)) + 1.9208 - 1.96 * sqrt(greatest(0, least(k, n)) * (n - greatest(0, least(k, n))) / n + 0.9604)) / (n + 3.8416)), NULL) AS wilson_low,
    (k, n) -> if(n > 0, least(1, (greatest(0, least(k, n)) + 1.9208 + 1.96 * sqrt(greatest(0, least(k, n)) * (n - greatest(0, least(k, n))) / n + 0.9604)) / (n + 3.8416)), NULL) AS wilson_high
SELECT
    source,
    provider,
    at15,
    mailbox_provider,
    campaign,
    delivered,
    opened,
    clicked,
    engaged,
    machine_opened,
    machine_clicked,
    unsubscribed,
    accepted_by_recipient,
    rate(opened, accepted_by_recipient) AS open_rate,
    wilson_low(opened, accepted_by_recipient) AS open_rate_low,
    wilson_high(opened, accepted_by_recipient) AS open_rate_high,
    rate(opened + machine_opened, accepted_by_recipient) AS open_with_machines_rate,
    wilson_low(opened + machine_opened, accepted_by_recipient) AS open_with_machines_rate_low,
    wilson_high(opened + machine_opened, accepted_by_recipient) AS open_with_machines_rate_high,
    rate(clicked, accepted_by_recipient) AS click_rate,
    wilson_low(clicked, accepted_by_recipient) AS click_rate_low,
    wilson_high(clicked, accepted_by_recipient) AS click_rate_high,
    rate(engaged, accepted_by_recipient) AS engagement_rate,
    wilson_low(engaged, accepted_by_recipient) AS engagement_rate_low,
    wilson_high(engaged, accepted_by_recipient) AS engagement_rate_high,
    rate(unsubscribed, accepted_by_recipient) AS unsubscribe_rate,
    wilson_low(unsubscribed, accepted_by_recipient) AS unsubscribe_rate_low,
    wilson_high(unsubscribed, accepted_by_recipient) AS unsubscribe_rate_high,
    rate(machine_opened, opened + machine_opened) AS machine_open_share,
    rate(machine_clicked, clicked + machine_clicked) AS machine_click_share
FROM
(
    SELECT
        *,
        delivered AS accepted_by_recipient
    FROM
    (
        SELECT
            source,
            provider,
            at15,
            mailbox_provider,
            campaign,
            sum(delivered) AS delivered,
            sum(opened) AS opened,
            sum(clicked) AS clicked,
            sum(engaged) AS engaged,
            sum(machine_opened) AS machine_opened,
            sum(machine_clicked) AS machine_clicked,
            sum(unsubscribed) AS unsubscribed
        FROM traffic
        GROUP BY source, provider, at15, mailbox_provider, campaign
    )
);

-- From sending to the first open by a person. Demand a source and days: the view reads their opens from events.
CREATE VIEW IF NOT EXISTS time_to_open
(
    source           LowCardinality(String) COMMENT 'The source, as in events.',
    provider         LowCardinality(String) COMMENT 'The email service provider.',
    day              Date COMMENT 'The day in UTC.',
    mailbox_provider LowCardinality(String) COMMENT 'The operator of the mailboxes.',
    campaign         LowCardinality(String) COMMENT 'The campaign.',
    messages         UInt64 COMMENT 'Messages with a known time of sending.',
    p25_seconds      Float64 COMMENT '25 % of them took at most so many seconds.',
    p50_seconds      Float64 COMMENT '50 % of them took at most so many seconds.',
    p75_seconds      Float64 COMMENT '75 % of them took at most so many seconds.',
    p90_seconds      Float64 COMMENT '90 % of them took at most so many seconds.',
    p95_seconds      Float64 COMMENT '95 % of them took at most so many seconds.',
    p99_seconds      Float64 COMMENT '99 % of them took at most so many seconds.',
    max_seconds      Float64 COMMENT 'The longest.'
)
AS SELECT
    source,
    provider,
    day,
    mailbox_provider,
    campaign,
    count() AS messages,
    round(quantileTDigest(0.25)(seconds), 3) AS p25_seconds,
    round(quantileTDigest(0.50)(seconds), 3) AS p50_seconds,
    round(quantileTDigest(0.75)(seconds), 3) AS p75_seconds,
    round(quantileTDigest(0.90)(seconds), 3) AS p90_seconds,
    round(quantileTDigest(0.95)(seconds), 3) AS p95_seconds,
    round(quantileTDigest(0.99)(seconds), 3) AS p99_seconds,
    max(seconds) AS max_seconds
FROM
(
    SELECT source, provider, toDate(at, 'UTC') AS day, mailbox_provider, campaign, greatest(0, dateDiff('millisecond', assumeNotNull(sent), at) / 1000) AS seconds
    FROM events
    WHERE kind = 'opened' AND has(counts, 'opened') AND sent IS NOT NULL
)
GROUP BY source, provider, day, mailbox_provider, campaign;

-- From sending to the delivery, as far as the provider says when it sent or how long it took. Demand a source and days: the view reads their deliveries from events.
CREATE VIEW IF NOT EXISTS time_to_deliver
(
    source           LowCardinality(String) COMMENT 'The source, as in events.',
    provider         LowCardinality(String) COMMENT 'The email service provider.',
    day              Date COMMENT 'The day in UTC.',
    mailbox_provider LowCardinality(String) COMMENT 'The operator of the mailboxes.',
    campaign         LowCardinality(String) COMMENT 'The campaign.',
    messages         UInt64 COMMENT 'Messages with a known time.',
    p25_seconds      Float64 COMMENT '25 % of them took at most so many seconds.',
    p50_seconds      Float64 COMMENT '50 % of them took at most so many seconds.',
    p75_seconds      Float64 COMMENT '75 % of them took at most so many seconds.',
    p90_seconds      Float64 COMMENT '90 % of them took at most so many seconds.',
    p95_seconds      Float64 COMMENT '95 % of them took at most so many seconds.',
    p99_seconds      Float64 COMMENT '99 % of them took at most so many seconds.',
    max_seconds      Float64 COMMENT 'The longest.'
)
AS SELECT
    source,
    provider,
    day,
    mailbox_provider,
    campaign,
    count() AS messages,
    round(quantileTDigest(0.25)(seconds), 3) AS p25_seconds,
    round(quantileTDigest(0.50)(seconds), 3) AS p50_seconds,
    round(quantileTDigest(0.75)(seconds), 3) AS p75_seconds,
    round(quantileTDigest(0.90)(seconds), 3) AS p90_seconds,
    round(quantileTDigest(0.95)(seconds), 3) AS p95_seconds,
    round(quantileTDigest(0.99)(seconds), 3) AS p99_seconds,
    max(seconds) AS max_seconds
FROM
(
    SELECT source, provider, toDate(at, 'UTC') AS day, mailbox_provider, campaign, assumeNotNull(if(sent_at IS NULL, delivery_millis, greatest(0, dateDiff('millisecond', sent_at, at))) / 1000) AS seconds
    FROM events
    WHERE kind = 'delivered' AND has(counts, 'delivered') AND (sent_at IS NOT NULL OR delivery_millis IS NOT NULL)
)
GROUP BY source, provider, day, mailbox_provider, campaign;

-- Complaints about the messages that were sent in the same hour, by mailbox provider and campaign.
CREATE VIEW IF NOT EXISTS complaint_cohorts
(
    source                    LowCardinality(String) COMMENT 'The source, as in events.',
    provider                  LowCardinality(String) COMMENT 'The email service provider.',
    sent_hour                 DateTime('UTC') COMMENT 'The start of the hour of sending.',
    mailbox_provider          LowCardinality(String) COMMENT 'The operator of the mailboxes. (several): corrections of messages whose events disagree.',
    campaign                  LowCardinality(String) COMMENT 'The campaign. (several): as for mailbox_provider.',
    delivered                 Int64 COMMENT 'Messages that the server of the recipient accepted.',
    late_bounces              Int64 COMMENT 'Messages that bounced after the delivery.',
    delivered_fbl             Int64 COMMENT 'Delivered messages at mailbox providers that report complaints.',
    late_bounces_fbl          Int64 COMMENT 'Late bounces at mailbox providers that report complaints.',
    complained                Int64 COMMENT 'Messages that the recipient reported as spam.',
    accepted_by_recipient     Int64 COMMENT 'What recipients kept: delivered - late_bounces.',
    accepted_fbl              Int64 COMMENT 'The same at mailbox providers that report complaints.',
    complained_1h             Int64 COMMENT 'Complaints until 1 hours after sending.',
    complained_6h             Int64 COMMENT 'Complaints until 6 hours after sending.',
    complained_24h            Int64 COMMENT 'Complaints until 24 hours after sending.',
    complained_72h            Int64 COMMENT 'Complaints until 72 hours after sending.',
    complained_168h           Int64 COMMENT 'Complaints until 168 hours after sending.',
    complaint_rate            Nullable(Float64) COMMENT 'complained / accepted_fbl, from 0 to 1, and NULL while the denominator is 0.',
    complaint_rate_low        Nullable(Float64) COMMENT 'The lower end of the interval of Wilson at 95 %.',
    complaint_rate_high       Nullable(Float64) COMMENT 'The upper end of it.',
    plain_complaint_rate      Nullable(Float64) COMMENT 'complained / accepted_by_recipient, from 0 to 1, and NULL while the denominator is 0.',
    plain_complaint_rate_low  Nullable(Float64) COMMENT 'The lower end of the interval of Wilson at 95 %.',
    plain_complaint_rate_high Nullable(Float64) COMMENT 'The upper end of it.'
)
AS WITH
    (k, n) -> if(n > 0, least(1, greatest(0, k) / n), NULL) AS rate,
    (k, n) -> if(n > 0, greatest(0, (greatest(0, least(k, n)) + 1.9208 - 1.96 * sqrt(greatest(0, least(k, n)) * (n - greatest(0, least(k, n))) / n + 0.9604)) / (n + 3.8416)), NULL) AS wilson_low,
    (k, n) -> if(n > 0, least(1, (greatest(0, least(k, n)) + 1.9208 + 1.96 * sqrt(greatest(0, least(k, n)) * (n - greatest(0, least(k, n))) / n + 0.9604)) / (n + 3.8416)), NULL) AS wilson_high
SELECT
    source,
    provider,
    sent_hour,
    mailbox_provider,
    campaign,
    delivered,
    late_bounces,
    delivered_fbl,
    late_bounces_fbl,
    complained,
    accepted_by_recipient,
    accepted_fbl,
    complained_1h,
    complained_6h,
    complained_24h,
    complained_72h,
    complained_168h,
    rate(complained, accepted_fbl) AS complaint_rate,
    wilson_low(complained, accepted_fbl) AS complaint_rate_low,
    wilson_high(complained, accepted_fbl) AS complaint_rate_high,
    rate(complained, accepted_by_recipient) AS plain_complaint_rate,
    wilson_low(complained, accepted_by_recipient) AS plain_complaint_rate_low,
    wilson_high(complained, accepted_by_recipient) AS plain_complaint_rate_high
FROM
(
    SELECT
        source,
        provider,
        sent_hour,
        mailbox_provider,
        campaign,
        sum(delivered) AS delivered,
        sum(late_bounces) AS late_bounces,
        sum(delivered_fbl) AS delivered_fbl,
        sum(late_bounces_fbl) AS late_bounces_fbl,
        sum(complained) AS complained,
        delivered - late_bounces AS accepted_by_recipient,
        delivered_fbl - late_bounces_fbl AS accepted_fbl,
        sumIf(cohorts.complained, age < 1) AS complained_1h,
        sumIf(cohorts.complained, age < 6) AS complained_6h,
        sumIf(cohorts.complained, age < 24) AS complained_24h,
        sumIf(cohorts.complained, age < 72) AS complained_72h,
        sumIf(cohorts.complained, age < 168) AS complained_168h
    FROM cohorts
    GROUP BY source, provider, sent_hour, mailbox_provider, campaign
);

-- What a list loses by week: dead addresses, complaints and unsubscribes, and how many still engage.
CREATE VIEW IF NOT EXISTS list_decay
(
    source                LowCardinality(String) COMMENT 'The source, as in events.',
    provider              LowCardinality(String) COMMENT 'The email service provider.',
    week                  Date COMMENT 'The Monday on which the week begins, in UTC.',
    delivered             Int64 COMMENT 'Messages that the server of the recipient accepted.',
    bounced_hard          Int64 COMMENT 'Messages that bounced permanently, not because of the sender.',
    bounced_soft          Int64 COMMENT 'Messages that bounced for a temporary reason, not because of the sender.',
    bounced_block         Int64 COMMENT 'Messages that bounced because of the sender.',
    bounced_undetermined  Int64 COMMENT 'Messages that bounced for an unknown reason.',
    late_bounces          Int64 COMMENT 'Messages that bounced after the delivery.',
    opened                Int64 COMMENT 'Messages that a person opened.',
    clicked               Int64 COMMENT 'Messages in which a person clicked.',
    engaged               Int64 COMMENT 'Messages that a person opened or clicked.',
    complained            Int64 COMMENT 'Messages that the recipient reported as spam.',
    unsubscribed          Int64 COMMENT 'Messages from which the recipient unsubscribed.',
    sent                  Int64 COMMENT 'What receiving servers decided on: delivered and all four counters of bounces.',
    lost                  Int64 COMMENT 'bounced_hard + late_bounces + complained + unsubscribed.',
    decay            Nullable(Float64) COMMENT 'lost / sent, from 0 to 1, and NULL while the denominator is 0.',
    hard_bounce_rate      Nullable(Float64) COMMENT 'bounced_hard / sent, from 0 to 1, and NULL while the denominator is 0.',
    hard_bounce_rate_low  Nullable(Float64) COMMENT 'The lower end of the interval of Wilson at 95 %.',
    hard_bounce_rate_high Nullable(Float64) COMMENT 'The upper end of it.',
    engagement_rate       Nullable(Float64) COMMENT 'engaged / delivered, from 0 to 1, and NULL while the denominator is 0.',
    engagement_rate_low   Nullable(Float64) COMMENT 'The lower end of the interval of Wilson at 95 %.',
    engagement_rate_high  Nullable(Float64) COMMENT 'The upper end of it.'
)
AS WITH
    (k, n) -> if(n > 0, least(1, greatest(0, k) / n), NULL) AS rate,
    (k, n) -> if(n > 0, greatest(0, (greatest(0, least(k, n)) + 1.9208 - 1.96 * sqrt(greatest(0, least(k, n)) * (n - greatest(0, least(k, n))) / n + 0.9604)) / (n + 3.8416)), NULL) AS wilson_low,
    (k, n) -> if(n > 0, least(1, (greatest(0, least(k, n)) + 1.9208 + 1.96 * sqrt(greatest(0, least(k, n)) * (n - greatest(0, least(k, n))) / n + 0.9604)) / (n + 3.8416)), NULL) AS wilson_high
SELECT
    source,
    provider,
    week,
    delivered,
    bounced_hard,
    bounced_soft,
    bounced_block,
    bounced_undetermined,
    late_bounces,
    opened,
    clicked,
    engaged,
    complained,
    unsubscribed,
    sent,
    lost,
    rate(lost, sent) AS decay,
    rate(bounced_hard, sent) AS hard_bounce_rate,
    wilson_low(bounced_hard, sent) AS hard_bounce_rate_low,
    wilson_high(bounced_hard, sent) AS hard_bounce_rate_high,
    rate(engaged, delivered) AS engagement_rate,
    wilson_low(engaged, delivered) AS engagement_rate_low,
    wilson_high(engaged, delivered) AS engagement_rate_high
FROM
(
    SELECT
        *,
        delivered + bounced_hard + bounced_soft + bounced_block + bounced_undetermined AS sent,
        bounced_hard + late_bounces + complained + unsubscribed AS lost
    FROM
    (
        SELECT
            source,
            provider,
            toMonday(day) AS week,
            sum(delivered) AS delivered,
            sum(bounced_hard) AS bounced_hard,
            sum(bounced_soft) AS bounced_soft,
            sum(bounced_block) AS bounced_block,
            sum(bounced_undetermined) AS bounced_undetermined,
            sum(late_bounces) AS late_bounces,
            sum(opened) AS opened,
            sum(clicked) AS clicked,
            sum(engaged) AS engaged,
            sum(complained) AS complained,
            sum(unsubscribed) AS unsubscribed
        FROM traffic_domain
        GROUP BY source, provider, week
    )
);

-- How receiving servers treat each sending domain and address.
CREATE VIEW IF NOT EXISTS reputation
(
    source                 LowCardinality(String) COMMENT 'The source, as in events.',
    provider               LowCardinality(String) COMMENT 'The email service provider.',
    hour                   DateTime('UTC') COMMENT 'The start of the hour.',
    sender_domain          LowCardinality(String) COMMENT 'The organizational domain of the sender. (several): corrections of messages whose events disagree.',
    sending_ip             LowCardinality(String) COMMENT 'The address of the sending server, or the stream where it is not known. (several): as for sender_domain.',
    mailbox_provider       LowCardinality(String) COMMENT 'The operator of the mailboxes. (several): corrections of messages whose events disagree.',
    delivered              Int64 COMMENT 'Messages that the server of the recipient accepted.',
    deferred               Int64 COMMENT 'Messages that a server refused for now, at least once.',
    deferrals              Int64 COMMENT 'All temporary refusals, also repeated ones.',
    bounced_hard           Int64 COMMENT 'Messages that bounced permanently, not because of the sender.',
    bounced_soft           Int64 COMMENT 'Messages that bounced for a temporary reason, not because of the sender.',
    bounced_block          Int64 COMMENT 'Messages that bounced because of the sender.',
    bounced_undetermined   Int64 COMMENT 'Messages that bounced for an unknown reason.',
    complained             Int64 COMMENT 'Messages that the recipient reported as spam.',
    delivered_fbl          Int64 COMMENT 'Delivered messages at mailbox providers that report complaints.',
    auth_refused           Int64 COMMENT 'Messages refused because SPF, DKIM or DMARC failed.',
    throttled              Int64 COMMENT 'Messages refused because of the rate of the sender.',
    listed                 Int64 COMMENT 'Messages refused because the sender is on a block list.',
    sent                   Int64 COMMENT 'What receiving servers decided on: delivered and all four counters of bounces.',
    bounced                Int64 COMMENT 'The four counters of bounces together, without late bounces.',
    bounce_rate            Nullable(Float64) COMMENT 'bounced / sent, from 0 to 1, and NULL while the denominator is 0.',
    bounce_rate_low        Nullable(Float64) COMMENT 'The lower end of the interval of Wilson at 95 %.',
    bounce_rate_high       Nullable(Float64) COMMENT 'The upper end of it.',
    block_bounce_rate      Nullable(Float64) COMMENT 'bounced_block / sent, from 0 to 1, and NULL while the denominator is 0.',
    block_bounce_rate_low  Nullable(Float64) COMMENT 'The lower end of the interval of Wilson at 95 %.',
    block_bounce_rate_high Nullable(Float64) COMMENT 'The upper end of it.',
    complaint_rate         Nullable(Float64) COMMENT 'complained / delivered_fbl, from 0 to 1, and NULL while the denominator is 0.',
    complaint_rate_low     Nullable(Float64) COMMENT 'The lower end of the interval of Wilson at 95 %.',
    complaint_rate_high    Nullable(Float64) COMMENT 'The upper end of it.'
)
AS WITH
    (k, n) -> if(n > 0, least(1, greatest(0, k) / n), NULL) AS rate,
    (k, n) -> if(n > 0, greatest(0, (greatest(0, least(k, n)) + 1.9208 - 1.96 * sqrt(greatest(0, least(k, n)) * (n - greatest(0, least(k, n))) / n + 0.9604)) / (n + 3.8416)), NULL) AS wilson_low,
    (k, n) -> if(n > 0, least(1, (greatest(0, least(k, n)) + 1.9208 + 1.96 * sqrt(greatest(0, least(k, n)) * (n - greatest(0, least(k, n))) / n + 0.9604)) / (n + 3.8416)), NULL) AS wilson_high
SELECT
    source,
    provider,
    hour,
    sender_domain,
    sending_ip,
    mailbox_provider,
    delivered,
    deferred,
    deferrals,
    bounced_hard,
    bounced_soft,
    bounced_block,
    bounced_undetermined,
    complained,
    delivered_fbl,
    auth_refused,
    throttled,
    listed,
    sent,
    bounced,
    rate(bounced, sent) AS bounce_rate,
    wilson_low(bounced, sent) AS bounce_rate_low,
    wilson_high(bounced, sent) AS bounce_rate_high,
    rate(bounced_block, sent) AS block_bounce_rate,
    wilson_low(bounced_block, sent) AS block_bounce_rate_low,
    wilson_high(bounced_block, sent) AS block_bounce_rate_high,
    rate(complained, delivered_fbl) AS complaint_rate,
    wilson_low(complained, delivered_fbl) AS complaint_rate_low,
    wilson_high(complained, delivered_fbl) AS complaint_rate_high
FROM
(
    SELECT
        *,
        delivered + bounced_hard + bounced_soft + bounced_block + bounced_undetermined AS sent,
        sent - delivered AS bounced
    FROM
    (
        SELECT
            source,
            provider,
            hour,
            sender_domain,
            sending_ip,
            mailbox_provider,
            sum(delivered) AS delivered,
            sum(deferred) AS deferred,
            sum(deferrals) AS deferrals,
            sum(bounced_hard) AS bounced_hard,
            sum(bounced_soft) AS bounced_soft,
            sum(bounced_block) AS bounced_block,
            sum(bounced_undetermined) AS bounced_undetermined,
            sum(complained) AS complained,
            sum(delivered_fbl) AS delivered_fbl,
            sum(auth_refused) AS auth_refused,
            sum(throttled) AS throttled,
            sum(listed) AS listed
        FROM traffic_ip
        GROUP BY source, provider, hour, sender_domain, sending_ip, mailbox_provider
    )
);

-- Domains of recipients by engagement in the last 90 days.
CREATE VIEW IF NOT EXISTS unengaged_domains
(
    source               LowCardinality(String) COMMENT 'The source, as in events.',
    provider             LowCardinality(String) COMMENT 'The email service provider.',
    recipient_domain     LowCardinality(String) COMMENT 'The domain of the recipients.',
    mailbox_provider     LowCardinality(String) COMMENT 'The operator of the mailboxes. (several): corrections of messages whose events disagree.',
    delivered            Int64 COMMENT 'Messages that the server of the recipient accepted.',
    opened               Int64 COMMENT 'Messages that a person opened.',
    clicked              Int64 COMMENT 'Messages in which a person clicked.',
    engaged              Int64 COMMENT 'Messages that a person opened or clicked.',
    machine_opened       Int64 COMMENT 'Messages that a machine opened.',
    machine_clicked      Int64 COMMENT 'Messages in which a machine clicked.',
    complained           Int64 COMMENT 'Messages that the recipient reported as spam.',
    unsubscribed         Int64 COMMENT 'Messages from which the recipient unsubscribed.',
    unengaged            Int64 COMMENT 'delivered - engaged, at least 0: messages that no person opened or clicked.',
    engagement_rate      Nullable(Float64) COMMENT 'engaged / delivered, from 0 to 1, and NULL while the denominator is 0.',
    engagement_rate_low  Nullable(Float64) COMMENT 'The lower end of the interval of Wilson at 95 %.',
    engagement_rate_high Nullable(Float64) COMMENT 'The upper end of it.'
)
AS WITH
    (k, n) -> if(n > 0, least(1, greatest(0, k) / n), NULL) AS rate,
    (k, n) -> if(n > 0, greatest(0, (greatest(0, least(k, n)) + 1.9208 - 1.96 * sqrt(greatest(0, least(k, n)) * (n - greatest(0, least(k, n))) / n + 0.9604)) / (n + 3.8416)), NULL) AS wilson_low,
    (k, n) -> if(n > 0, least(1, (greatest(0, least(k, n)) + 1.9208 + 1.96 * sqrt(greatest(0, least(k, n)) * (n - greatest(0, least(k, n))) / n + 0.9604)) / (n + 3.8416)), NULL) AS wilson_high
SELECT
    source,
    provider,
    recipient_domain,
    mailbox_provider,
    delivered,
    opened,
    clicked,
    engaged,
    machine_opened,
    machine_clicked,
    complained,
    unsubscribed,
    greatest(0, delivered - engaged) AS unengaged,
    rate(engaged, delivered) AS engagement_rate,
    wilson_low(engaged, delivered) AS engagement_rate_low,
    wilson_high(engaged, delivered) AS engagement_rate_high
FROM
(
    SELECT
        *,
        delivered AS accepted_by_recipient
    FROM
    (
        SELECT
            source,
            provider,
            recipient_domain,
            mailbox_provider,
            sum(delivered) AS delivered,
            sum(opened) AS opened,
            sum(clicked) AS clicked,
            sum(engaged) AS engaged,
            sum(machine_opened) AS machine_opened,
            sum(machine_clicked) AS machine_clicked,
            sum(complained) AS complained,
            sum(unsubscribed) AS unsubscribed
        FROM traffic_domain
        WHERE day > today() - 90
        GROUP BY source, provider, recipient_domain, mailbox_provider
    )
);

-- Clicks by link and day.
CREATE VIEW IF NOT EXISTS link_performance
(
    source          LowCardinality(String) COMMENT 'The source, as in events.',
    provider        LowCardinality(String) COMMENT 'The email service provider.',
    day             Date COMMENT 'The day in UTC.',
    campaign        LowCardinality(String) COMMENT 'The campaign.',
    url             String COMMENT 'The link without its query and fragment.',
    clicks          Int64 COMMENT 'Clicks by people, also repeated ones.',
    machine_clicks  Int64 COMMENT 'Clicks by machines.',
    clicked         Int64 COMMENT 'Messages in which a person clicked this link first.',
    machine_clicked Int64 COMMENT 'Messages in which a machine clicked this link first.'
)
AS SELECT
    source,
    provider,
    day,
    campaign,
    url,
    sum(links.clicks) AS clicks,
    sum(links.machine_clicks) AS machine_clicks,
    sum(links.clicked) AS clicked,
    sum(links.machine_clicked) AS machine_clicked
FROM links
GROUP BY source, provider, day, campaign, url;

-- Clicks that lead to a conversion, by the rules of [[enrich.conversion]]. Demand a source and days: the view reads their clicks from events.
CREATE VIEW IF NOT EXISTS conversions
(
    source     LowCardinality(String) COMMENT 'The source, as in events.',
    provider   LowCardinality(String) COMMENT 'The email service provider.',
    day        Date COMMENT 'The day in UTC.',
    campaign   LowCardinality(String) COMMENT 'The campaign.',
    conversion LowCardinality(String) COMMENT 'The name of the rule.',
    events     UInt64 COMMENT 'Clicks by people that lead to it.',
    messages   UInt64 COMMENT 'Messages with such a click, by message and recipient.',
    people     UInt64 COMMENT 'Recipients with such a click.',
    value      Float64 COMMENT 'The sum of the values in the URLs. A message counts once a day, with its greatest value.'
)
AS SELECT
    source,
    provider,
    day,
    campaign,
    conversion,
    sum(clicks) AS events,
    count() AS messages,
    uniqExact(recipient) AS people,
    sum(greatest_value) AS value
FROM
(
    SELECT source, provider, toDate(at, 'UTC') AS day, campaign, conversion, message_id, recipient, count() AS clicks, max(coalesce(conversion_value, 0)) AS greatest_value
    FROM events
    WHERE kind = 'clicked' AND conversion != '' AND automation_reason = '' AND (authentic OR seen > 0 OR notEmpty(counts))
    GROUP BY source, provider, day, campaign, conversion, message_id, recipient
)
GROUP BY source, provider, day, campaign, conversion;

-- Clicks by what the content is about, by the rules of [[enrich.interest]]. Demand a source and days: the view reads their clicks from events.
CREATE VIEW IF NOT EXISTS content_interest
(
    source         LowCardinality(String) COMMENT 'The source, as in events.',
    provider       LowCardinality(String) COMMENT 'The email service provider.',
    day            Date COMMENT 'The day in UTC.',
    campaign       LowCardinality(String) COMMENT 'The campaign.',
    interest       LowCardinality(String) COMMENT 'The name of the rule.',
    clicks         UInt64 COMMENT 'Clicks by people.',
    machine_clicks UInt64 COMMENT 'Clicks by machines.',
    people         UInt64 COMMENT 'Recipients who clicked.'
)
AS SELECT
    source,
    provider,
    day,
    campaign,
    interest,
    countIf(automation_reason = '') AS clicks,
    countIf(automation_reason != '') AS machine_clicks,
    uniqExactIf(recipient, automation_reason = '') AS people
FROM events
WHERE kind = 'clicked' AND interest != '' AND (authentic OR seen > 0 OR notEmpty(counts))
GROUP BY source, provider, toDate(at, 'UTC') AS day, campaign, interest;

-- Repeated, late and lost events by hour of receipt. Demand hours: the view reads their events. Duplicates that were dropped are in no table; mailpulse_dedupe_duplicates_total counts them.
CREATE VIEW IF NOT EXISTS duplicates_and_late
(
    source       LowCardinality(String) COMMENT 'The source, as in events.',
    provider     LowCardinality(String) COMMENT 'The email service provider.',
    hour         DateTime('UTC') COMMENT 'The start of the hour of receipt.',
    events       UInt64 COMMENT 'Events that were received in the hour.',
    stored_twice UInt64 COMMENT 'Rows whose event is already in another row. It must be 0.',
    repeated     UInt64 COMMENT 'Events of a kind that their message already had, such as second opens.',
    late_hour    UInt64 COMMENT 'Events that were received more than an hour after they happened.',
    late_day     UInt64 COMMENT 'Events that were received more than a day after they happened.',
    without_time UInt64 COMMENT 'Events whose time was missing or implausible.',
    unauthentic  UInt64 COMMENT 'Events that only the shadow mode of the source admitted.',
    dead_letters UInt64 COMMENT 'Records that could not be processed, without those that were redriven.'
)
AS SELECT
    source,
    provider,
    hour,
    sum(part.events) AS events,
    sum(part.stored_twice) AS stored_twice,
    sum(part.repeated) AS repeated,
    sum(part.late_hour) AS late_hour,
    sum(part.late_day) AS late_day,
    sum(part.without_time) AS without_time,
    sum(part.unauthentic) AS unauthentic,
    sum(part.dead_letters) AS dead_letters
FROM
(
    SELECT
        source,
        provider,
        toStartOfHour(toDateTime(received_at, 'UTC')) AS hour,
        count() AS events,
        count() - uniqExact(event_id) AS stored_twice,
        countIf(seen > 1) AS repeated,
        countIf(received_at > occurred_at + INTERVAL 1 HOUR) AS late_hour,
        countIf(received_at > occurred_at + INTERVAL 1 DAY) AS late_day,
        countIf(time_fault != '') AS without_time,
        countIf(NOT authentic) AS unauthentic,
        0 AS dead_letters
    FROM events
    GROUP BY source, provider, hour
    UNION ALL
    SELECT
        source,
        provider,
        toStartOfHour(toDateTime(coalesce(received_at, archived_at), 'UTC')) AS hour,
        0, 0, 0, 0, 0, 0, 0,
        uniqExact(if(origin = '', concat(toString(kafka_partition), '/', toString(kafka_offset)), origin))
    FROM dead_letters
    WHERE reason != 'redriven'
        AND concat(toString(kafka_partition), '/', toString(kafka_offset)) NOT IN
        (
            SELECT arrayStringConcat(arraySlice(splitByChar('/', origin), -2), '/')
            FROM dead_letters
            WHERE reason = 'redriven'
        )
    GROUP BY source, provider, hour
) AS part
GROUP BY source, provider, hour;

-- How old events are when they reach each stage, by hour of receipt. Demand hours: the view reads their events.
CREATE VIEW IF NOT EXISTS freshness
(
    source      LowCardinality(String) COMMENT 'The source, as in events.',
    provider    LowCardinality(String) COMMENT 'The email service provider.',
    hour        DateTime('UTC') COMMENT 'The start of the hour of receipt.',
    stage       String COMMENT 'to_receipt: from the event to its receipt, to_row: from its receipt to its row, in_all: both.',
    events      UInt64 COMMENT 'Events.',
    min_seconds Float64 COMMENT 'The shortest time.',
    avg_seconds Float64 COMMENT 'The mean.',
    p50_seconds Float64 COMMENT '50 % took at most so long.',
    p95_seconds Float64 COMMENT '95 % took at most so long.',
    p99_seconds Float64 COMMENT '99 % took at most so long.',
    max_seconds Float64 COMMENT 'The longest time.'
)
AS SELECT
    source,
    provider,
    hour,
    stage,
    count() AS events,
    min(seconds) AS min_seconds,
    avg(seconds) AS avg_seconds,
    quantileTDigest(0.50)(seconds) AS p50_seconds,
    quantileTDigest(0.95)(seconds) AS p95_seconds,
    quantileTDigest(0.99)(seconds) AS p99_seconds,
    max(seconds) AS max_seconds
FROM
(
    SELECT
        source,
        provider,
        toStartOfHour(toDateTime(received_at, 'UTC')) AS hour,
        ['to_receipt', 'to_row', 'in_all'] AS stages,
        dateDiff('millisecond', at, received_at) / 1000 AS to_receipt,
        greatest(0, dateDiff('millisecond', received_at, archived_at) / 1000) AS to_row
    FROM events
)
ARRAY JOIN stages AS stage, [to_receipt, to_row, to_receipt + to_row] AS seconds
GROUP BY source, provider, hour, stage;

-- The life of each message at each recipient. Demand a source and a recipient: the view reads their rows from message_life.
CREATE VIEW IF NOT EXISTS messages
(
    source             LowCardinality(String) COMMENT 'The source, as in events.',
    provider           LowCardinality(String) COMMENT 'The email service provider.',
    recipient          String COMMENT 'The address of the recipient.',
    message_id         String COMMENT 'The id of the message, as the provider states it.',
    campaign           LowCardinality(String) COMMENT 'The campaign. If the events of the message disagree, one of them.',
    mailbox_provider   LowCardinality(String) COMMENT 'The operator of the mailbox.',
    sender_domain      LowCardinality(String) COMMENT 'The organizational domain of the sender.',
    tenant             LowCardinality(String) COMMENT 'The tenant from the look-up table.',
    outcome            String COMMENT 'late_bounce (bounced after the delivery), delivered, bounced, suppressed, dropped, deferred, accepted or unknown (only opens, clicks, complaints or unsubscribes are known).',
    sent_at            Nullable(DateTime64(3, 'UTC')) COMMENT 'When it was sent, as far as it is known. NULL: never.',
    accepted_at        Nullable(DateTime64(3, 'UTC')) COMMENT 'When the provider took it in. NULL: never.',
    delivered_at       Nullable(DateTime64(3, 'UTC')) COMMENT 'When the server of the recipient accepted it. NULL: never.',
    deferred_at        Nullable(DateTime64(3, 'UTC')) COMMENT 'When it was first refused for now. NULL: never.',
    bounced_at         Nullable(DateTime64(3, 'UTC')) COMMENT 'When it first bounced. NULL: never.',
    dropped_at         Nullable(DateTime64(3, 'UTC')) COMMENT 'When the provider decided not to deliver it. NULL: never.',
    first_opened_at    Nullable(DateTime64(3, 'UTC')) COMMENT 'When a person first opened it. NULL: never.',
    first_clicked_at   Nullable(DateTime64(3, 'UTC')) COMMENT 'When a person first clicked. NULL: never.',
    complained_at      Nullable(DateTime64(3, 'UTC')) COMMENT 'When the recipient reported it as spam. NULL: never.',
    unsubscribed_at    Nullable(DateTime64(3, 'UTC')) COMMENT 'When the recipient unsubscribed. NULL: never.',
    last_opened_at     Nullable(DateTime64(3, 'UTC')) COMMENT 'When a person last opened it. NULL: never.',
    last_clicked_at    Nullable(DateTime64(3, 'UTC')) COMMENT 'When a person last clicked. NULL: never.',
    last_at            DateTime64(3, 'UTC') COMMENT 'Its latest event.',
    bounce_permanence  String COMMENT 'Of the bounce that counts: hard, soft or undetermined. Empty without a bounce, as the following three.',
    bounce_class       String COMMENT 'Why it bounced.',
    bounce_side        String COMMENT 'Because of whom.',
    bounce_status      String COMMENT 'The enhanced status code.',
    opens              UInt32 COMMENT 'Opens by people.',
    clicks             UInt32 COMMENT 'Clicks by people.',
    machine_opened     Bool COMMENT 'A machine opened it.',
    machine_clicked    Bool COMMENT 'A machine clicked.',
    suppressed         Bool COMMENT 'The address is on the suppression list of the provider.',
    reports_complaints Bool COMMENT 'It was delivered at a mailbox provider that reports complaints.',
    late_bounce        Bool COMMENT 'It bounced after the delivery.'
)
AS SELECT
    source,
    provider,
    recipient,
    message_id,
    campaign,
    mailbox_provider,
    sender_domain,
    tenant,
    multiIf(least_delivered_at < never AND is_late, 'late_bounce', least_delivered_at < never, 'delivered', bounce != '~', 'bounced', suppressed, 'suppressed', least_dropped_at < never, 'dropped', least_deferred_at < never, 'deferred', least_accepted_at < never, 'accepted', 'unknown') AS outcome,
    nullIf(least_sent_at, never) AS sent_at,
    nullIf(least_accepted_at, never) AS accepted_at,
    nullIf(least_delivered_at, never) AS delivered_at,
    nullIf(least_deferred_at, never) AS deferred_at,
    nullIf(least_bounced_at, never) AS bounced_at,
    nullIf(least_dropped_at, never) AS dropped_at,
    nullIf(least_first_opened_at, never) AS first_opened_at,
    nullIf(least_first_clicked_at, never) AS first_clicked_at,
    nullIf(least_complained_at, never) AS complained_at,
    nullIf(least_unsubscribed_at, never) AS unsubscribed_at,
    nullIf(latest_last_opened_at, not_yet) AS last_opened_at,
    nullIf(latest_last_clicked_at, not_yet) AS last_clicked_at,
    latest_at AS last_at,
    parts[3] AS bounce_permanence,
    parts[4] AS bounce_class,
    parts[5] AS bounce_side,
    parts[6] AS bounce_status,
    most_opens AS opens,
    most_clicks AS clicks,
    bitAnd(bits, 1) > 0 AS machine_opened,
    bitAnd(bits, 2) > 0 AS machine_clicked,
    bitAnd(bits, 4) > 0 AS suppressed,
    bitAnd(bits, 8) > 0 AS reports_complaints,
    is_late AS late_bounce
FROM
(
    WITH
        toDateTime64('2299-12-31 00:00:00', 3, 'UTC') AS never,
        toDateTime64(0, 3, 'UTC') AS not_yet
    SELECT
        source,
        recipient,
        message_id,
        provider,
        never,
        not_yet,
        campaign,
        mailbox_provider,
        sender_domain,
        tenant,
        life.sent_at AS least_sent_at,
        life.accepted_at AS least_accepted_at,
        life.delivered_at AS least_delivered_at,
        life.deferred_at AS least_deferred_at,
        life.bounced_at AS least_bounced_at,
        life.dropped_at AS least_dropped_at,
        life.first_opened_at AS least_first_opened_at,
        life.first_clicked_at AS least_first_clicked_at,
        life.complained_at AS least_complained_at,
        life.unsubscribed_at AS least_unsubscribed_at,
        life.last_opened_at AS latest_last_opened_at,
        life.last_clicked_at AS latest_last_clicked_at,
        life.last_at AS latest_at,
        bounce,
        if(bounce = '~', [], splitByChar('|', bounce)) AS parts,
        life.opens AS most_opens,
        life.clicks AS most_clicks,
        life.flags AS bits,
        bitAnd(bits, 16) > 0 OR (least_delivered_at < never AND life.last_bounced_at >= least_delivered_at) AS is_late
    FROM message_life AS life FINAL
);

-- What happened to a message, in order: one row per event.
CREATE VIEW IF NOT EXISTS message_story AS
SELECT
    at,
    received_at,
    kind,
    source,
    provider,
    recipient,
    mailbox_provider,
    campaign,
    multiIf(
        kind IN ('bounced', 'deferred', 'dropped', 'other'), trimBoth(arrayStringConcat([bounce_permanence, bounce_class, bounce_status, bounce_diagnostic], ' ')),
        kind = 'delivered', delivery_response,
        kind IN ('opened', 'clicked'), trimBoth(arrayStringConcat([client_device, client_os, client_name, geo_country], ' ')),
        ''
    ) AS detail,
    url,
    automation_reason,
    counts,
    corrections,
    authentic,
    event_id,
    request_id
FROM events
WHERE message_id = {id:String}
ORDER BY at, received_at, event_id
SETTINGS min_table_rows_to_use_projection_index = 0
COMMENT 'What happened to a message, in order: when it happened (at) and was received (received_at), the kind, to whom, what the server or client was (detail), the link, whether a machine did it and why (automation_reason), for what the event counts (counts) and what it changes in earlier counts (corrections).';

-- What happened to all mail of a recipient, in order: one row per event.
CREATE VIEW IF NOT EXISTS recipient_story AS
SELECT
    at,
    received_at,
    kind,
    source,
    provider,
    message_id,
    mailbox_provider,
    campaign,
    multiIf(
        kind IN ('bounced', 'deferred', 'dropped', 'other'), trimBoth(arrayStringConcat([bounce_permanence, bounce_class, bounce_status, bounce_diagnostic], ' ')),
        kind = 'delivered', delivery_response,
        kind IN ('opened', 'clicked'), trimBoth(arrayStringConcat([client_device, client_os, client_name, geo_country], ' ')),
        ''
    ) AS detail,
    url,
    automation_reason,
    counts,
    corrections,
    authentic,
    event_id,
    request_id
FROM events
WHERE recipient = {address:String}
ORDER BY at, received_at, event_id
SETTINGS min_table_rows_to_use_projection_index = 0
COMMENT 'What happened to all mail of an address, in order. Columns as in message_story.';

-- What has become of some messages: a row for each, and one for all of them.
CREATE VIEW IF NOT EXISTS message_summary AS
WITH
    (k, n) -> if(n > 0, least(1, greatest(0, k) / n), NULL) AS rate,
    counter -> countSubstrings(corrections, concat('+', counter, '@')) - countSubstrings(corrections, concat('-', counter, '@')) AS changed
SELECT
    *,
    bounced_hard + bounced_soft + bounced_block + bounced_undetermined AS bounced,
    delivered + bounced AS sent,
    delivered AS accepted_by_recipient,
    rate(bounced, sent) AS bounce_rate,
    rate(accepted_by_recipient, sent) AS delivery_rate,
    rate(opened, accepted_by_recipient) AS open_rate,
    rate(clicked, accepted_by_recipient) AS click_rate,
    rate(engaged, accepted_by_recipient) AS engagement_rate,
    rate(complained, accepted_by_recipient) AS plain_complaint_rate,
    rate(unsubscribed, accepted_by_recipient) AS unsubscribe_rate
FROM
(
    SELECT
        message_id,
        countIf(has(counts, 'delivered')) + sum(changed('delivered')) AS delivered,
        countIf(has(counts, 'late_bounces')) + sum(changed('late_bounces')) AS late_bounces,
        countIf(has(counts, 'bounced_hard')) + sum(changed('bounced_hard')) AS bounced_hard,
        countIf(has(counts, 'bounced_soft')) + sum(changed('bounced_soft')) AS bounced_soft,
        countIf(has(counts, 'bounced_block')) + sum(changed('bounced_block')) AS bounced_block,
        countIf(has(counts, 'bounced_undetermined')) + sum(changed('bounced_undetermined')) AS bounced_undetermined,
        countIf(has(counts, 'opened')) + sum(changed('opened')) AS opened,
        countIf(has(counts, 'clicked')) + sum(changed('clicked')) AS clicked,
        countIf(has(counts, 'engaged')) + sum(changed('engaged')) AS engaged,
        countIf(has(counts, 'machine_opened')) + sum(changed('machine_opened')) AS machine_opened,
        countIf(has(counts, 'complained')) + sum(changed('complained')) AS complained,
        countIf(has(counts, 'unsubscribed')) + sum(changed('unsubscribed')) AS unsubscribed
    FROM events
    WHERE message_id IN {ids:Array(String)}
    GROUP BY GROUPING SETS ((message_id), ())
)
ORDER BY message_id = '', message_id
SETTINGS min_table_rows_to_use_projection_index = 0
COMMENT 'Counters and rates by arrival of each of some messages at all their recipients, and of all of the messages together (message_id is empty).';

-- What is known of one address now, by source.
CREATE VIEW IF NOT EXISTS recipient AS
SELECT
    source,
    recipient,
    max(its_tenant) AS tenant,
    max(its_mailbox_provider) AS mailbox_provider,
    countIf(delivered) AS received,
    countIf(its_opens > 0) AS opened,
    countIf(its_clicks > 0) AS clicked,
    sum(its_opens) AS opens,
    sum(its_clicks) AS clicks,
    countIf(bounced) AS bounces,
    countIf(complained) AS complaints,
    max(its_unsubscribed_at) AS unsubscribed_at,
    min(its_first_at) AS first_sent_at,
    max(its_engaged_at) AS last_engaged_at,
    max(its_last_at) AS last_at,
    multiIf(
        first_sent_at > now() - INTERVAL 7 DAY, 'new',
        last_engaged_at > now() - INTERVAL 14 DAY, 'recent',
        last_engaged_at > now() - INTERVAL 90 DAY, 'semi-recent',
        last_engaged_at > now() - INTERVAL 365 DAY, 'not recent',
        'never'
    ) AS engagement_cohort,
    if(received = 0, NULL, greatest(0, 0.6 * least(1, opened / received) + 0.4 * least(1, clicked / received) - least(0.5, 0.1 * bounces))) AS score,
    10 * opens + 25 * clicks AS points
FROM
(
    SELECT
        source,
        recipient,
        toDateTime64('2299-12-31 00:00:00', 3, 'UTC') AS never,
        toDateTime64(0, 3, 'UTC') AS not_yet,
        life.tenant AS its_tenant,
        life.mailbox_provider AS its_mailbox_provider,
        life.delivered_at < never AS delivered,
        bitAnd(life.flags, 16) > 0 OR (delivered AND life.last_bounced_at >= life.delivered_at) AS is_late,
        is_late OR (NOT delivered AND life.bounce != '~') AS bounced,
        life.opens AS its_opens,
        life.clicks AS its_clicks,
        life.complained_at < never AS complained,
        if(life.unsubscribed_at = never, not_yet, life.unsubscribed_at) AS its_unsubscribed_at,
        least(life.sent_at, life.accepted_at, life.delivered_at, life.last_at) AS its_first_at,
        greatest(life.last_opened_at, life.last_clicked_at) AS its_engaged_at,
        life.last_at AS its_last_at,
        life.updated_at AS its_updated_at
    FROM message_life AS life FINAL
    WHERE recipient = {address:String}
)
GROUP BY source, recipient
ORDER BY source
COMMENT 'What is known of an address now, by source. Columns as in the table recipients, which is up to an hour old.';

-- The report of a period. Quarters of an hour are the finest grain of its ends.
CREATE VIEW IF NOT EXISTS report AS
WITH
    (k, n) -> if(n > 0, least(1, greatest(0, k) / n), NULL) AS rate,
    quarters AS
    (
        SELECT
            *,
            delivered + bounced_hard + bounced_soft + bounced_block + bounced_undetermined AS sent,
            sent - delivered AS bounced,
            sent + deferred - deferred_settled AS judged,
            delivered AS accepted_by_recipient
        FROM
        (
            SELECT
                source,
                provider,
                at15,
                mailbox_provider,
                campaign,
                sum(events) AS events,
                sum(subscribed) AS subscribed,
                sum(other) AS other,
                sum(injected) AS injected,
                sum(delivered) AS delivered,
                sum(deferred) AS deferred,
                sum(deferred_settled) AS deferred_settled,
                sum(deferrals) AS deferrals,
                sum(bounced_hard) AS bounced_hard,
                sum(bounced_soft) AS bounced_soft,
                sum(bounced_block) AS bounced_block,
                sum(bounced_undetermined) AS bounced_undetermined,
                sum(auto_replies) AS auto_replies,
                sum(late_bounces) AS late_bounces,
                sum(dropped) AS dropped,
                sum(suppressed) AS suppressed,
                sum(opened) AS opened,
                sum(clicked) AS clicked,
                sum(engaged) AS engaged,
                sum(machine_opened) AS machine_opened,
                sum(machine_clicked) AS machine_clicked,
                sum(complained) AS complained,
                sum(unsubscribed) AS unsubscribed,
                sum(delivered_fbl) AS delivered_fbl,
                sum(late_bounces_fbl) AS late_bounces_fbl,
                sum(auth_refused) AS auth_refused,
                sum(throttled) AS throttled,
                sum(listed) AS listed,
                sum(unclassified) AS unclassified
            FROM traffic
            WHERE at15 >= {from:DateTime('UTC')} AND at15 < {to:DateTime('UTC')}
            GROUP BY source, provider, at15, mailbox_provider, campaign
        )
    ),
    totals AS
    (
        SELECT
            sum(quarters.events) AS events,
            sum(quarters.subscribed) AS subscribed,
            sum(quarters.other) AS other,
            sum(quarters.injected) AS injected,
            sum(quarters.delivered) AS delivered,
            sum(quarters.deferred) AS deferred,
            sum(quarters.deferred_settled) AS deferred_settled,
            sum(quarters.deferrals) AS deferrals,
            sum(quarters.bounced_hard) AS bounced_hard,
            sum(quarters.bounced_soft) AS bounced_soft,
            sum(quarters.bounced_block) AS bounced_block,
            sum(quarters.bounced_undetermined) AS bounced_undetermined,
            sum(quarters.auto_replies) AS auto_replies,
            sum(quarters.late_bounces) AS late_bounces,
            sum(quarters.dropped) AS dropped,
            sum(quarters.suppressed) AS suppressed,
            sum(quarters.opened) AS opened,
            sum(quarters.clicked) AS clicked,
            sum(quarters.engaged) AS engaged,
            sum(quarters.machine_opened) AS machine_opened,
            sum(quarters.machine_clicked) AS machine_clicked,
            sum(quarters.complained) AS complained,
            sum(quarters.unsubscribed) AS unsubscribed,
            sum(quarters.delivered_fbl) AS delivered_fbl,
            sum(quarters.late_bounces_fbl) AS late_bounces_fbl,
            sum(quarters.auth_refused) AS auth_refused,
            sum(quarters.throttled) AS throttled,
            sum(quarters.listed) AS listed,
            sum(quarters.unclassified) AS unclassified,
            sum(quarters.sent) AS sent,
            sum(quarters.bounced) AS bounced,
            sum(quarters.judged) AS judged,
            sum(quarters.accepted_by_recipient) AS accepted_by_recipient
        FROM quarters
    ),
    seen AS
    (
        SELECT recipient, at, received_at, archived_at
        FROM events
        WHERE at >= {from:DateTime('UTC')} AND at < {to:DateTime('UTC')} AND occurred_at >= {from:DateTime('UTC')}
    )
SELECT section, item, value
FROM
(
    SELECT 1 AS place, 'total' AS section, item, value
    FROM totals
    ARRAY JOIN
        ['events', 'injected', 'delivered', 'deferred', 'bounced', 'late_bounces', 'dropped', 'suppressed', 'opened', 'clicked', 'engaged', 'machine_opened', 'machine_clicked', 'complained', 'unsubscribed', 'auto_replies', 'subscribed', 'other', 'sent'] AS item,
        [toFloat64(events), toFloat64(injected), toFloat64(delivered), toFloat64(deferred), toFloat64(bounced), toFloat64(late_bounces), toFloat64(dropped), toFloat64(suppressed), toFloat64(opened), toFloat64(clicked), toFloat64(engaged), toFloat64(machine_opened), toFloat64(machine_clicked), toFloat64(complained), toFloat64(unsubscribed), toFloat64(auto_replies), toFloat64(subscribed), toFloat64(other), toFloat64(sent)] AS value
    UNION ALL
    SELECT 2, 'rate', item, value
    FROM totals
    ARRAY JOIN
        ['bounce', 'hard_bounce', 'soft_bounce', 'block_bounce', 'undetermined_bounce', 'late_bounce', 'deferral', 'delivery', 'complaint', 'plain_complaint', 'unsubscribe', 'open', 'open_with_machines', 'click', 'engagement'] AS item,
        [
            rate(bounced, sent),
            rate(bounced_hard, sent),
            rate(bounced_soft, sent),
            rate(bounced_block, sent),
            rate(bounced_undetermined, sent),
            rate(late_bounces, delivered),
            rate(deferred, judged),
            rate(accepted_by_recipient, sent),
            rate(complained, delivered_fbl),
            rate(complained, accepted_by_recipient),
            rate(unsubscribed, accepted_by_recipient),
            rate(opened, accepted_by_recipient),
            rate(opened + machine_opened, accepted_by_recipient),
            rate(clicked, accepted_by_recipient),
            rate(engaged, accepted_by_recipient)
        ] AS value
    UNION ALL
    SELECT 3, 'provider', provider, toFloat64(sum(events)) FROM quarters GROUP BY provider
    UNION ALL
    SELECT 4, 'source', source, toFloat64(sum(events)) FROM quarters GROUP BY source
    UNION ALL
    SELECT 5, 'mailbox_provider', mailbox_provider, toFloat64(sum(sent)) FROM quarters WHERE mailbox_provider != '' GROUP BY mailbox_provider HAVING sum(sent) != 0
    UNION ALL
    (
        SELECT 6, 'domain', recipient_domain, toFloat64(sum(delivered + bounced_hard + bounced_soft + bounced_block + bounced_undetermined)) AS domain_sent
        FROM traffic_domain
        WHERE day >= toDate({from:DateTime('UTC')}) AND day < toDate({to:DateTime('UTC')} + INTERVAL 1 DAY - INTERVAL 1 SECOND) AND recipient_domain != ''
        GROUP BY recipient_domain
        ORDER BY domain_sent DESC, recipient_domain
        LIMIT 10
    )
    UNION ALL
    (
        SELECT 7, 'country', geo_country, toFloat64(sum(opened + clicked)) AS engagements
        FROM traffic_country
        WHERE day >= toDate({from:DateTime('UTC')}) AND day < toDate({to:DateTime('UTC')} + INTERVAL 1 DAY - INTERVAL 1 SECOND) AND geo_country != ''
        GROUP BY geo_country
        HAVING sum(opened) > 0 OR sum(clicked) > 0
        ORDER BY engagements DESC, geo_country
        LIMIT 50
    )
    UNION ALL
    SELECT 8, 'campaign', campaign, toFloat64(sum(sent)) FROM quarters WHERE campaign NOT IN ('', '(several)') GROUP BY campaign
    UNION ALL
    SELECT 9, 'recipients', 'unique', toFloat64(uniqExactIf(sipHash64(recipient), recipient != '')) FROM seen
    UNION ALL
    SELECT 10, 'processing_seconds', item, value
    FROM
    (
        SELECT
            avg(dateDiff('millisecond', received_at, archived_at)) / 1000 AS mean,
            quantilesTDigest(0.5, 0.95, 0.99)(dateDiff('millisecond', received_at, archived_at) / 1000) AS quantiles,
            max(dateDiff('millisecond', received_at, archived_at)) / 1000 AS longest
        FROM seen
    )
    ARRAY JOIN ['avg', 'p50', 'p95', 'p99', 'max'] AS item, arrayConcat([mean], arrayMap(x -> toFloat64(x), quantiles), [longest]) AS value
    UNION ALL
    SELECT 11, 'hour', formatDateTime(toStartOfHour(at15), '%F %R'), toFloat64(sum(events)) FROM quarters GROUP BY toStartOfHour(at15)
    UNION ALL
    SELECT 12, 'minute', item, value
    FROM
    (
        SELECT
            (SELECT toFloat64(totals.events) FROM totals) * 60 / greatest(1, dateDiff('second', {from:DateTime('UTC')}, least({to:DateTime('UTC')}, now('UTC')))) AS mean,
            max(number) AS most
        FROM (SELECT toFloat64(count()) AS number FROM seen GROUP BY toStartOfMinute(at))
    )
    ARRAY JOIN ['avg', 'max'] AS item, [mean, most] AS value
)
ORDER BY place, if(place IN (3, 4, 5, 6, 7, 8), -value, 0), if(place = 11, item, '')
COMMENT 'The report of the time from {from} until before {to}, as rows of section, item and value. The sections domain and country count whole days in UTC. The sections processing_seconds, minute and recipients read the events of the period. The item avg of minute is the mean over all minutes of the period that have passed, also those without events.';

-- The same with masked addresses, for roles that may not see them (roles.sql).
CREATE VIEW IF NOT EXISTS messages_masked
(
    source             LowCardinality(String) COMMENT 'The source, as in events.',
    provider           LowCardinality(String) COMMENT 'The email service provider.',
    recipient          String COMMENT 'The masked address, such as ada…@example.com.',
    message_id         String COMMENT 'The id of the message, as the provider states it.',
    campaign           LowCardinality(String) COMMENT 'The campaign. If the events of the message disagree, one of them.',
    mailbox_provider   LowCardinality(String) COMMENT 'The operator of the mailbox.',
    sender_domain      LowCardinality(String) COMMENT 'The organizational domain of the sender.',
    tenant             LowCardinality(String) COMMENT 'The tenant from the look-up table.',
    outcome            String COMMENT 'late_bounce (bounced after the delivery), delivered, bounced, suppressed, dropped, deferred, accepted or unknown (only opens, clicks, complaints or unsubscribes are known).',
    sent_at            Nullable(DateTime64(3, 'UTC')) COMMENT 'When it was sent, as far as it is known. NULL: never.',
    accepted_at        Nullable(DateTime64(3, 'UTC')) COMMENT 'When the provider took it in. NULL: never.',
    delivered_at       Nullable(DateTime64(3, 'UTC')) COMMENT 'When the server of the recipient accepted it. NULL: never.',
    deferred_at        Nullable(DateTime64(3, 'UTC')) COMMENT 'When it was first refused for now. NULL: never.',
    bounced_at         Nullable(DateTime64(3, 'UTC')) COMMENT 'When it first bounced. NULL: never.',
    dropped_at         Nullable(DateTime64(3, 'UTC')) COMMENT 'When the provider decided not to deliver it. NULL: never.',
    first_opened_at    Nullable(DateTime64(3, 'UTC')) COMMENT 'When a person first opened it. NULL: never.',
    first_clicked_at   Nullable(DateTime64(3, 'UTC')) COMMENT 'When a person first clicked. NULL: never.',
    complained_at      Nullable(DateTime64(3, 'UTC')) COMMENT 'When the recipient reported it as spam. NULL: never.',
    unsubscribed_at    Nullable(DateTime64(3, 'UTC')) COMMENT 'When the recipient unsubscribed. NULL: never.',
    last_opened_at     Nullable(DateTime64(3, 'UTC')) COMMENT 'When a person last opened it. NULL: never.',
    last_clicked_at    Nullable(DateTime64(3, 'UTC')) COMMENT 'When a person last clicked. NULL: never.',
    last_at            DateTime64(3, 'UTC') COMMENT 'Its latest event.',
    bounce_permanence  String COMMENT 'Of the bounce that counts: hard, soft or undetermined. Empty without a bounce, as the following three.',
    bounce_class       String COMMENT 'Why it bounced.',
    bounce_side        String COMMENT 'Because of whom.',
    bounce_status      String COMMENT 'The enhanced status code.',
    opens              UInt32 COMMENT 'Opens by people.',
    clicks             UInt32 COMMENT 'Clicks by people.',
    machine_opened     Bool COMMENT 'A machine opened it.',
    machine_clicked    Bool COMMENT 'A machine clicked.',
    suppressed         Bool COMMENT 'The address is on the suppression list of the provider.',
    reports_complaints Bool COMMENT 'It was delivered at a mailbox provider that reports complaints.',
    late_bounce        Bool COMMENT 'It bounced after the delivery.'
)
AS SELECT
    source,
    provider,
    if(recipient = '', '', concat(substringUTF8(splitByChar('@', recipient)[1], 1, if(lengthUTF8(splitByChar('@', recipient)[1]) > 3, 3, 1)), '…', if(position(recipient, '@') > 0, concat('@', splitByChar('@', recipient)[-1]), ''))) AS recipient,
    message_id,
    campaign,
    mailbox_provider,
    sender_domain,
    tenant,
    outcome,
    sent_at,
    accepted_at,
    delivered_at,
    deferred_at,
    bounced_at,
    dropped_at,
    first_opened_at,
    first_clicked_at,
    complained_at,
    unsubscribed_at,
    last_opened_at,
    last_clicked_at,
    last_at,
    bounce_permanence,
    bounce_class,
    bounce_side,
    bounce_status,
    opens,
    clicks,
    machine_opened,
    machine_clicked,
    suppressed,
    reports_complaints,
    late_bounce
FROM messages;

CREATE VIEW IF NOT EXISTS message_story_masked AS
SELECT
    at,
    received_at,
    kind,
    source,
    provider,
    if(events.recipient = '', '', concat(substringUTF8(splitByChar('@', events.recipient)[1], 1, if(lengthUTF8(splitByChar('@', events.recipient)[1]) > 3, 3, 1)), '…', if(position(events.recipient, '@') > 0, concat('@', splitByChar('@', events.recipient)[-1]), ''))) AS recipient,
    mailbox_provider,
    campaign,
    trimBoth(arrayStringConcat([bounce_permanence, bounce_class, bounce_status], ' ')) AS detail,
    cutQueryStringAndFragment(url) AS url,
    automation_reason,
    counts,
    corrections,
    authentic,
    event_id
FROM events
WHERE message_id = {id:String}
ORDER BY at, received_at, event_id
SETTINGS min_table_rows_to_use_projection_index = 0
COMMENT 'As message_story, with masked addresses and without what servers and clients say about themselves.';

CREATE VIEW IF NOT EXISTS recipients_masked
(
    source            LowCardinality(String) COMMENT 'The source, as in events.',
    recipient         String COMMENT 'The masked address, such as ada…@example.com.',
    tenant            LowCardinality(String) COMMENT 'As in recipients, like all further columns.',
    mailbox_provider  LowCardinality(String) COMMENT 'The operator of the mailbox.',
    received          UInt64 COMMENT 'Messages that were delivered.',
    opened            UInt64 COMMENT 'Messages that a person opened.',
    clicked           UInt64 COMMENT 'Messages in which a person clicked.',
    opens             UInt64 COMMENT 'Opens by people.',
    clicks            UInt64 COMMENT 'Clicks by people.',
    bounces           UInt64 COMMENT 'Messages that bounced.',
    complaints        UInt64 COMMENT 'Messages that were reported as spam.',
    unsubscribed_at   DateTime64(3, 'UTC') COMMENT 'The latest unsubscription. 1970-01-01: never.',
    first_sent_at     DateTime64(3, 'UTC') COMMENT 'When the first message was sent.',
    last_engaged_at   DateTime64(3, 'UTC') COMMENT 'The latest open or click by a person. 1970-01-01: never.',
    last_at           DateTime64(3, 'UTC') COMMENT 'The latest event.',
    refreshed_at      DateTime('UTC') COMMENT 'When the row was refreshed.',
    engagement_cohort LowCardinality(String) COMMENT 'new, recent, semi-recent, not recent or never.',
    score             Nullable(Float64) COMMENT 'From 0 to 1.',
    points            UInt64 COMMENT '10 per open and 25 per click.'
)
AS SELECT
    source,
    if(recipient = '', '', concat(substringUTF8(splitByChar('@', recipient)[1], 1, if(lengthUTF8(splitByChar('@', recipient)[1]) > 3, 3, 1)), '…', if(position(recipient, '@') > 0, concat('@', splitByChar('@', recipient)[-1]), ''))) AS recipient,
    tenant,
    mailbox_provider,
    received,
    opened,
    clicked,
    opens,
    clicks,
    bounces,
    complaints,
    unsubscribed_at,
    first_sent_at,
    last_engaged_at,
    last_at,
    refreshed_at,
    engagement_cohort,
    score,
    points
FROM recipients FINAL;
