SELECT
    toInt64(toUnixTimestamp(began_at)) AS began,
    toInt64(toUnixTimestamp(latest_at)) AS latest,
    injected, delivered, deferred, deferred_settled, bounced_hard, bounced_soft, bounced_block, bounced_undetermined,
    late_bounces, dropped, suppressed, opened, clicked, engaged, machine_opened, machine_clicked, complained,
    unsubscribed, delivered_fbl
FROM campaign_funnel
WHERE source = {source:String} AND provider = {provider:String} AND campaign = {campaign:String}
