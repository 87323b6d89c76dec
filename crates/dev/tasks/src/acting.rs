//! The services that act on events in `demo --act`: their settings, the receiver of what they send, and what must
//! follow from the rows of `events`.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, ensure};
use serde::Deserialize;
use serde_json::{Value, json};
use standardwebhooks::Webhook;

use crate::check::Table;
use crate::clickhouse::Database;
use crate::pipeline::free_address;
use crate::recording::receiver::{Delivery, Receiver};

/// Secrets of a demo guard nothing.
const ERASURE_KEY: &str = "the key of a demo on this machine";
const TOKEN: &str = "the token of a demo on this machine";
const SECRET: &str = "whsec_dGhlIHdlYmhvb2sga2V5IG9mIGEgZGVtbyBvbiB0aGlz";

/// The paths of the receiver.
const FORWARDED: &str = "/forwarded";
const ACTED: &str = "/acted";

/// The recipients with a hard bounce of their own, and those with nothing against them.
const BOUNCED: &str = "SELECT DISTINCT recipient AS address FROM events WHERE kind = 'bounced' \
    AND bounce_permanence = 'hard' AND bounce_side = 'recipient' AND authentic";
const BLAMELESS: &str = "SELECT recipient AS address FROM events GROUP BY recipient \
    HAVING countIf(kind IN ('bounced', 'complained', 'unsubscribed')) = 0";

/// The services' connections to the outside.
pub(crate) struct Acting {
    /// The address of the API of `suppress`.
    api: String,
    /// The address of the receiver.
    address: String,
    receiver: Receiver,
    client: reqwest::Client,
}

/// A recipient.
#[derive(Deserialize)]
struct Recipient {
    address: String,
}

/// An answer of `POST /suppressions/check`.
#[derive(Deserialize)]
struct Checked {
    suppressed: Vec<Recipient>,
}

impl Acting {
    /// Starts the receiver, which verifies every request with the public library of Standard Webhooks.
    pub(crate) fn start() -> anyhow::Result<Self> {
        let (api, address) = (free_address()?, free_address()?);
        let webhook = Webhook::new(SECRET)?;
        let verify = move |headers: &_, body: &[u8]| webhook.verify(body, headers).is_ok();
        let receiver = Receiver::start_verifying(&address, verify)?;
        let client = reqwest::Client::builder().timeout(Duration::from_secs(10)).build()?;
        Ok(Self { api, address, receiver, client })
    }

    /// Returns the sections of the settings.
    pub(crate) fn sections(&self) -> [(&'static str, String); 5] {
        let Self { api, address, .. } = self;
        let tokens = format!("[{{ name = \"demo\", role = \"reader\", secret = {TOKEN:?} }}]");
        let forward = format!(
            "[[forward]]\nname = \"demo\"\nurl = \"http://{address}{FORWARDED}\"\nsecret = {SECRET:?}\n\
             kinds = [\"bounced\", \"complained\", \"unsubscribed\"]\nstart = \"beginning\"\n"
        );
        let rule = format!(
            "[[automation.rule]]\nname = \"complained\"\nwhen = {{ kinds = [\"complained\"] }}\n\
             do = [{{ type = \"webhook\", url = \"http://{address}{ACTED}\", secret = {SECRET:?} }}]\n"
        );
        [
            ("privacy", format!("erasure_key = {ERASURE_KEY:?}\n")),
            ("suppress", format!("listen = {api:?}\ntokens = {tokens}\n")),
            ("forwarding", format!("allow_private = true\n{forward}")),
            ("automate", "allow_private = true\n".to_owned()),
            ("automation", rule),
        ]
    }

    /// Returns how a person asks about an address.
    pub(crate) fn lookup(&self) -> String {
        let Self { api, .. } = self;
        format!("curl -H 'Authorization: Bearer {TOKEN}' http://{api}/suppressions/ADDRESS")
    }

    /// Compares what the services have done with the rows of `events`, which equal the truth.
    pub(crate) async fn compare(
        &self,
        table: &mut Table,
        database: &Database,
    ) -> anyhow::Result<()> {
        let (bounced, blameless) =
            (self.addresses(database, BOUNCED).await?, self.addresses(database, BLAMELESS).await?);
        let suppressed = self.suppressed(&bounced).await?;
        table.heading("acting on events");
        table.row("hard bounces: recipients suppressed", suppressed, bounced.len() as u64);
        let suppressed = self.suppressed(&blameless).await?;
        table.row("nothing against them: recipients suppressed", suppressed, 0);

        let count = async |kinds: &str| {
            let sql = format!("SELECT count() FROM events WHERE kind IN ({kinds}) AND authentic");
            database.count(&sql).await
        };
        let deliveries = self.receiver.deliveries();
        let wrong = deliveries.iter().filter(|delivery| !delivery.is_verified).count();
        table.row("requests whose signature is wrong", wrong as u64, 0);
        let to =
            |path: &'static str| deliveries.iter().filter(move |delivery| delivery.path == path);
        let forwarded: BTreeSet<String> = to(FORWARDED).flat_map(event_ids).collect();
        let truth = count("'bounced', 'complained', 'unsubscribed'").await?;
        table.row("events forwarded in batches", forwarded.len() as u64, truth);
        let actions: BTreeSet<&str> = to(ACTED).map(|delivery| delivery.id.as_str()).collect();
        table.row(
            "complaints: actions of the rule",
            actions.len() as u64,
            count("'complained'").await?,
        );
        Ok(())
    }

    async fn addresses(&self, database: &Database, sql: &str) -> anyhow::Result<Vec<String>> {
        let rows: Vec<Recipient> = database.rows(sql).await?;
        Ok(rows.into_iter().map(|row| row.address).collect())
    }

    /// Returns how many of these addresses must not be mailed.
    async fn suppressed(&self, addresses: &[String]) -> anyhow::Result<u64> {
        /// The most that one request may ask.
        const LIMIT: usize = 10_000;
        let mut suppressed = 0;
        for addresses in addresses.chunks(LIMIT) {
            let url = format!("http://{}/suppressions/check", self.api);
            let request = self.client.post(url).bearer_auth(TOKEN);
            let response = request.json(&json!({ "addresses": addresses })).send().await;
            // A service that was killed is back in a moment.
            let Ok(response) = response else { return Ok(0) };
            let status = response.status();
            ensure!(status.is_success(), "suppress answers {status}: {}", response.text().await?);
            let checked: Checked =
                response.json().await.context("the answer of suppress is not as documented")?;
            suppressed += checked.suppressed.len() as u64;
        }
        Ok(suppressed)
    }
}

/// Returns the ids of the events in a batch.
fn event_ids(delivery: &Delivery) -> Vec<String> {
    let batch: Value = serde_json::from_str(&delivery.body).unwrap_or_default();
    let events = batch["data"].as_array().cloned().unwrap_or_default();
    events.iter().filter_map(|event| Some(event["event_id"].as_str()?.to_owned())).collect()
}
