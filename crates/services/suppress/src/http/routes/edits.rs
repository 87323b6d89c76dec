//! `PUT` and `DELETE`: what operators add and lift, with the rows of the table `audit`.

use std::net::IpAddr;

use http::{Request, Response};
use hyper::body::Incoming;
use kafka::PreparedHeaders;
use record::{content_types, names};
use serde_json::json;
use suppression::edit::{self, Addition, Edit, Selection};
use suppression::entry::EntryFacts;
use suppression::list::GLOBAL;
use suppression::{Reason, RecipientDigest, wording};

use super::body::Addition as AdditionBody;
use super::query::Query;
use super::response::{Body, json_response, read_body};
use super::{Api, answer_of, now};
use crate::audit::Row;
use crate::http::access::Token;
use crate::http::problem::Problem;

/// The largest body.
const MAX_BODY_BYTES: usize = 16 << 10;

impl Api {
    /// `PUT /suppressions/{address}`
    pub(super) async fn add(
        &self,
        request: Request<Incoming>,
        address: &str,
        token: &Token,
        peer: IpAddr,
    ) -> Result<Response<Body>, Problem> {
        let recipient = self.recipient(address)?;
        let query = Query::read(request.uri())?;
        let list = query.get("list").unwrap_or(GLOBAL).to_owned();
        self.check_list(Some(&list))?;
        let body = read_body(request, MAX_BODY_BYTES).await?;
        let body: AdditionBody = if body.is_empty() {
            AdditionBody::default()
        } else {
            serde_json::from_slice(&body)
                .map_err(|error| Problem::InvalidBody(error.to_string()))?
        };
        let at = now();
        if body.expires_at.is_some_and(|expires| expires <= at) {
            let detail = "expires_at is in the past; write seconds since 1970".to_owned();
            return Err(Problem::InvalidBody(detail));
        }
        let note = body.note.map(|note| wording::without_addresses(&note, address));
        let addition = Addition {
            list,
            reason: body.reason.unwrap_or(Reason::Manual),
            scope: body.scope.unwrap_or_default(),
            purpose: body.purpose,
            expires_at: body.expires_at,
            note,
        };
        let who = who(token, peer);
        let edit = edit::add(recipient, &self.store.table.of(recipient), &addition, at, &who);
        self.write(recipient, "suppressions add", vec![edit], &who).await?;
        let question = query.question(at)?;
        json_response(&answer_of(recipient, &self.store.table.of(recipient), &question))
    }

    /// `DELETE /suppressions/{address}`
    pub(super) async fn lift(
        &self,
        query: &Query,
        address: &str,
        token: &Token,
        peer: IpAddr,
    ) -> Result<Response<Body>, Problem> {
        let recipient = self.recipient(address)?;
        let selection = Selection {
            list: query.get("list").map(str::to_owned),
            reason: query.reason()?,
            scope: query.get("scope").map(str::to_owned),
        };
        self.check_list(selection.list.as_deref())?;
        let note = query.get("note").map(|note| wording::without_addresses(note, address));
        let (rows, who) = (self.store.table.of(recipient), who(token, peer));
        let edits = edit::lift(recipient, &rows, &selection, note.as_deref(), now(), &who);
        let lifted = edits.len();
        if lifted > 0 {
            self.write(recipient, "suppressions lift", edits, &who).await?;
        }
        json_response(&json!({ "recipient": recipient.to_string(), "lifted": lifted }))
    }

    /// Records the edit in `audit`, publishes it, and answers by it from now on.
    async fn write(
        &self,
        recipient: RecipientDigest,
        command: &'static str,
        edits: Vec<Edit>,
        who: &str,
    ) -> Result<(), Problem> {
        let entries = edits.iter().map(|(key, value)| {
            let (list, reason, scope) = (&key.list, key.reason.as_str(), &key.scope);
            let note = value.evidence.note.as_deref().unwrap_or_default();
            format!("list {list:?} reason {reason} scope {scope:?} note {note:?}")
        });
        let detail = entries.collect::<Vec<_>>().join(", ");
        let (subject, records) = (recipient.to_string(), edits.len());
        let row = Row { who, command, subject: &subject, records, detail: &detail };
        let unavailable =
            |error: clickhouse_http::Error| Problem::AuditUnavailable(error.to_string());
        self.audit.write(row, "started").await.map_err(unavailable)?;
        let published = self.publish(&edits).await;
        let result = if published.is_ok() { "done" } else { "incomplete" };
        if let Err(error) = self.audit.write(row, result).await {
            // The row that says that it was started is there.
            tracing::error!(%error, subject, result, "the result of an edit cannot be written to audit");
        }
        metrics::counter!("mailpulse_suppress_edits_total", "command" => command, "result" => result)
            .increment(1);
        published?;
        for (key, value) in &edits {
            self.store.table.apply(key, Some(EntryFacts::from(value)));
        }
        Ok(())
    }

    async fn publish(&self, edits: &[Edit]) -> Result<(), Problem> {
        let (batch, headers) = (self.publisher.batch(), content_type());
        for (key, value) in edits {
            let value =
                serde_json::to_vec(value).map_err(|error| Problem::Internal(error.to_string()))?;
            batch
                .send(&self.topic, key.to_string().as_bytes(), &value, &headers)
                .map_err(|error| Problem::KafkaUnavailable(error.to_string()))?;
        }
        let acknowledged = batch.acknowledged().await;
        acknowledged.map_err(|error| Problem::KafkaUnavailable(error.to_string()))
    }
}

fn content_type() -> PreparedHeaders {
    PreparedHeaders::new(&[(names::CONTENT_TYPE, content_types::SUPPRESSION.as_bytes())])
}

fn who(token: &Token, peer: IpAddr) -> String {
    format!("token {}@{peer}", token.name)
}
