//! Which page answers a request, and to whom.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderValue, Method, Request, header};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use jiff::Timestamp;
use service::Shutdown;
use tokio::sync::Semaphore;

use crate::access::{Access, Visitor};
use crate::pages::{Ask, Pages};
use crate::parameters::{Parameters, segments};
use crate::problem::Problem;
use crate::response::{self, Response};
use crate::{assets, dashboard_data, pages, stream};

/// The largest form, in bytes. It has a token.
const MAX_FORM: usize = 4 * 1024;

const FORM_TIMEOUT: Duration = Duration::from_secs(10);

/// Answers requests.
pub struct Routes {
    /// Who may see what.
    pub access: Access,
    /// What the pages show.
    pub pages: Pages,
    /// The browsers that may receive live numbers at the same time.
    pub live_turns: Arc<Semaphore>,
    /// Ends the streams.
    pub shutdown: Shutdown,
}

impl Routes {
    /// Answers a request. A problem becomes a page, or JSON for programs.
    pub async fn respond(&self, request: Request<Incoming>, peer: IpAddr) -> Response {
        let now = now();
        let is_program = is_program(&request);
        let is_login = request.uri().path() == "/login";
        let mut visitor = None;
        let answer = self.answer(request, peer, now, &mut visitor).await;
        let response = answer.unwrap_or_else(|problem| {
            match &problem {
                Problem::Internal(_) => tracing::error!(%problem, "a page cannot be shown"),
                problem => tracing::debug!(%peer, code = problem.code(), "a request was refused"),
            }
            match problem {
                problem if is_program => response::problem(&problem),
                Problem::NotLoggedIn if !is_login => response::see_other("/login"),
                problem => pages::problem::render(&self.pages, visitor.as_ref(), &problem)
                    .unwrap_or_else(|_| response::problem(&problem)),
            }
        });
        let status = response.status().as_str().to_owned();
        metrics::counter!("mailpulse_console_requests_total", "status" => status).increment(1);
        response
    }

    async fn answer(
        &self,
        request: Request<Incoming>,
        peer: IpAddr,
        now: Timestamp,
        known: &mut Option<Visitor>,
    ) -> Result<Response, Problem> {
        let segments = segments(request.uri().path())?;
        let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
        match segments.as_slice() {
            ["assets", name] => return assets::file(name),
            ["login"] => return self.login(request, peer, now).await,
            ["logout"] => return self.logout(&request),
            _ => {}
        }
        let visitor = self.access.identify(peer, request.headers(), now)?;
        let visitor = &*known.insert(visitor);
        if request.method() != Method::GET && request.method() != Method::HEAD {
            return Err(Problem::WrongMethod("GET"));
        }
        let parameters = &Parameters::read(request.uri().query().unwrap_or_default())?;
        let ask = Ask { pages: &self.pages, visitor, parameters, now };
        match segments.as_slice() {
            [] => pages::overview::render(&ask).await,
            ["mailbox-providers"] => pages::mailbox_providers::render(&ask).await,
            ["campaign", provider, source, campaign] => {
                pages::campaign::render(&ask, provider, source, campaign).await
            }
            ["message"] => pages::message::render(&ask, parameters.get("id")).await,
            ["message", id] => pages::message::render(&ask, id).await,
            ["recipient"] => pages::recipient::render(&ask, parameters.get("address")).await,
            ["recipient", address] => pages::recipient::render(&ask, address).await,
            ["incidents"] => pages::incidents::render(&ask).await,
            ["incidents", id] => pages::incident::render(&ask, id).await,
            ["suppressions"] => pages::suppressions::render(&ask).await,
            ["automation"] => pages::automation::render(&ask).await,
            ["predictions"] => pages::predictions::render(&ask).await,
            ["dead-letters"] => pages::dead_letters::render(&ask).await,
            ["dashboard", "data"] => dashboard_data::respond(&ask).await,
            ["live"] => self.live(),
            _ => Err(Problem::NotFound),
        }
    }

    fn live(&self) -> Result<Response, Problem> {
        let permit = Arc::clone(&self.live_turns).try_acquire_owned();
        let permit = permit.map_err(|_| Problem::TooManyLive)?;
        Ok(stream::open(self.pages.live.subscribe(), permit, self.shutdown.clone()))
    }

    async fn login(
        &self,
        request: Request<Incoming>,
        peer: IpAddr,
        now: Timestamp,
    ) -> Result<Response, Problem> {
        if request.method() == Method::GET {
            return pages::login::render(None);
        }
        if request.method() != Method::POST {
            return Err(Problem::WrongMethod("GET or POST"));
        }
        check_site(request.headers())?;
        let form = tokio::time::timeout(
            FORM_TIMEOUT,
            Limited::new(request.into_body(), MAX_FORM).collect(),
        );
        let form = form.await.map_err(|_| Problem::TooSlow)?;
        let form = form.map_err(|_| Problem::TooLarge)?.to_bytes();
        let token = form_urlencoded::parse(&form).find(|(name, _)| name == "token");
        let token = token.map(|(_, token)| token.trim().to_owned()).unwrap_or_default();
        match self.access.log_in(peer, &token, now) {
            Ok(cookie) => with_cookie(response::see_other("/"), &cookie),
            Err(problem) => pages::login::render(Some(&problem)),
        }
    }

    fn logout(&self, request: &Request<Incoming>) -> Result<Response, Problem> {
        if request.method() != Method::POST {
            return Err(Problem::WrongMethod("POST"));
        }
        check_site(request.headers())?;
        with_cookie(response::see_other("/login"), &self.access.log_out())
    }
}

fn with_cookie(mut response: Response, cookie: &str) -> Result<Response, Problem> {
    let cookie =
        HeaderValue::from_str(cookie).map_err(|error| Problem::Internal(error.to_string()))?;
    response.headers_mut().insert(header::SET_COOKIE, cookie);
    Ok(response)
}

/// Browsers say from where a form is sent.
fn check_site(headers: &HeaderMap) -> Result<(), Problem> {
    match headers.get("sec-fetch-site").map(HeaderValue::as_bytes) {
        None | Some(b"same-origin" | b"none") => Ok(()),
        Some(_) => Err(Problem::OtherSite),
    }
}

/// Returns whether a program has asked, which gets problems as JSON.
fn is_program(request: &Request<Incoming>) -> bool {
    let path = request.uri().path();
    let accept = request.headers().get(header::ACCEPT).and_then(|it| it.to_str().ok());
    path == "/dashboard/data"
        || path == "/live"
        || !accept.is_some_and(|it| it.contains("text/html"))
}

#[expect(
    clippy::disallowed_methods,
    reason = "pages show the present, and sessions end by the clock"
)]
fn now() -> Timestamp {
    Timestamp::now()
}
