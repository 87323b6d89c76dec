-- The counters of docs/metrics.md, grouped by `by` and by steps of `step` seconds (0: one row). Empty `provider`
-- and `source`: all of them.
SELECT
    multiIf(
        {by:String} = 'mailbox_provider', toString(mailbox_provider),
        {by:String} = 'provider', toString(provider),
        {by:String} = 'campaign', concat(provider, '/', source, '/', campaign),
        ''
    ) AS name,
    toInt64(if({step:UInt32} = 0, 0, intDiv(toUnixTimestamp(at15), greatest({step:UInt32}, 1)) * {step:UInt32})) AS at,
    toUInt64(greatest(sum(traffic.events), 0)) AS events,
    sum(traffic.injected) AS injected,
    sum(traffic.delivered) AS delivered,
    sum(traffic.deferred) AS deferred,
    sum(traffic.deferred_settled) AS deferred_settled,
    sum(traffic.deferrals) AS deferrals,
    sum(traffic.bounced_hard) AS bounced_hard,
    sum(traffic.bounced_soft) AS bounced_soft,
    sum(traffic.bounced_block) AS bounced_block,
    sum(traffic.bounced_undetermined) AS bounced_undetermined,
    sum(traffic.auto_replies) AS auto_replies,
    sum(traffic.late_bounces) AS late_bounces,
    sum(traffic.dropped) AS dropped,
    sum(traffic.suppressed) AS suppressed,
    sum(traffic.opened) AS opened,
    sum(traffic.clicked) AS clicked,
    sum(traffic.engaged) AS engaged,
    sum(traffic.machine_opened) AS machine_opened,
    sum(traffic.machine_clicked) AS machine_clicked,
    sum(traffic.complained) AS complained,
    sum(traffic.unsubscribed) AS unsubscribed,
    sum(traffic.delivered_fbl) AS delivered_fbl,
    sum(traffic.late_bounces_fbl) AS late_bounces_fbl,
    sum(traffic.auth_refused) AS auth_refused,
    sum(traffic.throttled) AS throttled,
    sum(traffic.listed) AS listed,
    sum(traffic.unclassified) AS unclassified
FROM traffic
WHERE at15 >= toDateTime({from:Int64}, 'UTC') AND at15 < toDateTime({to:Int64}, 'UTC')
    AND ({provider:String} = '' OR provider = {provider:String})
    AND ({source:String} = '' OR source = {source:String})
    AND ({by:String} != 'campaign' OR campaign NOT IN ('', '(several)'))
GROUP BY name, at
ORDER BY name, at
LIMIT 20000
