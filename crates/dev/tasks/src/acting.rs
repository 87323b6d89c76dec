//! The services that act on events in `demo` and `chaos`: their settings, the receiver of what they send, and what must
//! follow from the rows of `events`.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

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

/// What is held against a recipient at once. A few soft bounces are not, and neither are events that failed verification.
const AGAINST: &str = "authentic AND (kind IN ('complained', 'unsubscribed') \
    OR kind = 'bounced' AND bounce_permanence = 'hard' AND bounce_side = 'recipient')";

/// Returns the query for the recipients that must not be mailed. `condition` is that of events that are as a provider sends
/// them.
fn must_not_be_mailed(condition: &str) -> String {
    format!("SELECT DISTINCT recipient AS address FROM events WHERE {AGAINST} AND {condition}")
}

/// The same for the recipients that may be mailed.
fn blameless(condition: &str) -> String {
    format!(
        "SELECT recipient AS address FROM events GROUP BY recipient HAVING countIf({AGAINST}) = 0 \
         AND countIf(kind = 'bounced' AND bounce_permanence = 'soft') < 5 AND countIf(NOT ({condition})) = 0"
    )
}

/// The services' connections to the outside.
pub(crate) struct Acting {
    /// The address of the API of `suppress`.
    api: String,
    /// The address of the receiver.
    address: String,
    receiver: Receiver,
    client: reqwest::Client,
}

/// What the services have done.
pub(crate) struct Done {
    /// The recipients who must not be mailed: of how many `suppress` says so, and how many there are.
    pub(crate) suppressed: (u64, u64),
    /// Of how many others it says so.
    pub(crate) blameless: u64,
    /// The requests whose signature is wrong.
    pub(crate) wrong: u64,
    /// The ids of the events that were forwarded.
    pub(crate) forwarded: BTreeSet<String>,
    /// The ids of the actions that were delivered.
    pub(crate) acted: BTreeSet<String>,
}

/// The query for the ids of the events that must be forwarded.
pub(crate) const TO_FORWARD: &str = "SELECT event_id FROM events WHERE kind IN ('bounced', 'complained', 'unsubscribed') \
    AND authentic";

/// The query for the ids of the events on which the rule acts.
pub(crate) const TO_ACT_ON: &str =
    "SELECT event_id FROM events WHERE kind IN ('bounced', 'complained') AND authentic";

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
            "[[automation.rule]]\nname = \"trouble\"\nwhen = {{ kinds = [\"bounced\", \"complained\"] }}\n\
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
        let Done { suppressed, blameless, wrong, forwarded, acted } =
            self.done(database, "true").await?;
        table.heading("acting on events");
        table.row("recipients who must not be mailed", suppressed.0, suppressed.1);
        table.row("others: must not be mailed", blameless, 0);
        table.row("requests whose signature is wrong", wrong, 0);
        let truth = |sql: &'static str| async move {
            database.count(&format!("SELECT count() FROM ({sql})")).await
        };
        table.row("events forwarded in batches", forwarded.len() as u64, truth(TO_FORWARD).await?);
        table.row(
            "bounces and complaints: actions of a rule",
            acted.len() as u64,
            truth(TO_ACT_ON).await?,
        );
        Ok(())
    }

    /// Returns what the services have done so far. `condition` is that of events that are as a provider sends them.
    pub(crate) async fn done(&self, database: &Database, condition: &str) -> anyhow::Result<Done> {
        let suppressed = self.addresses(database, &must_not_be_mailed(condition)).await?;
        let blameless = self.addresses(database, &blameless(condition)).await?;
        let deliveries = self.receiver.deliveries();
        let to =
            |path: &'static str| deliveries.iter().filter(move |delivery| delivery.path == path);
        Ok(Done {
            suppressed: (self.suppressed(&suppressed).await?, suppressed.len() as u64),
            blameless: self.suppressed(&blameless).await?,
            wrong: deliveries.iter().filter(|delivery| !delivery.is_verified).count() as u64,
            forwarded: to(FORWARDED).flat_map(event_ids).collect(),
            acted: to(ACTED).map(|delivery| delivery.id.clone()).collect(),
        })
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
            let request = request.json(&json!({ "addresses": addresses }));
            let response = answer(&request).await?;
            let status = response.status();
            ensure!(status.is_success(), "suppress answers {status}: {}", response.text().await?);
            let checked: Checked =
                response.json().await.context("the answer of suppress is not as documented")?;
            suppressed += checked.suppressed.len() as u64;
        }
        Ok(suppressed)
    }
}

/// Returns the answer of a service that may have been killed: it is back in a moment.
async fn answer(request: &reqwest::RequestBuilder) -> anyhow::Result<reqwest::Response> {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let request = request.try_clone().context("the request can be sent once only")?;
        match request.send().await {
            Err(error) if Instant::now() > deadline => {
                return Err(error).context("suppress does not answer");
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            Ok(response) => return Ok(response),
        }
    }
}

/// Returns the ids of the events in a batch.
fn event_ids(delivery: &Delivery) -> Vec<String> {
    let batch: Value = serde_json::from_str(&delivery.body).unwrap_or_default();
    let events = batch["data"].as_array().cloned().unwrap_or_default();
    events.iter().filter_map(|event| Some(event["event_id"].as_str()?.to_owned())).collect()
}
