//! HTTP: health, metrics, and queries as JSON.
//!
//! There is no authentication, which is why the server listens on loopback unless the
//! configuration says that other hosts may ask (`http_allow_remote`). What is live comes from the fold thread, everything else
//! from the projection.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::extract::rejection::QueryRejection;
use axum::extract::{DefaultBodyLimit, Query, Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::json;
use tokio::net::TcpListener;
use tollgate_common::{TenantId, Timestamp};

use super::{LimitedListener, PoolError, ReaderPool};
use crate::accruals::Freshness;
use crate::accruals::query::AccrualReader;
use crate::fold::{AskError, FoldHandle};
use crate::metrics::Metrics;
use crate::sqlite::query::{Filter, KINDS, LIMIT_MAX, QueryError, Reader};

/// Connections at a time.
const CONNECTIONS_MAX: usize = 128;
/// Longest time that answering a request may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);
/// Longest time from one answer to the next request, whole; longer than [`ANSWER_TIMEOUT`],
/// because the clock also runs while an answer is made.
const REQUEST_PATIENCE: Duration = Duration::from_mins(1);
/// Largest body of a request; none of them needs one.
const BODY_BYTES_MAX: usize = 4096;

/// What the handlers work with.
#[derive(Clone, Debug)]
pub struct HttpState {
    /// The projection.
    pub readers: ReaderPool,
    /// The accruals.
    pub accruals: ReaderPool<AccrualReader>,
    /// The fold.
    pub fold: FoldHandle,
    /// The metrics.
    pub metrics: Arc<Metrics>,
    /// True once the journal has been replayed.
    pub ready: Arc<AtomicBool>,
}

/// Why a request has no answer.
#[derive(Debug, thiserror::Error)]
enum HttpError {
    #[error("{0}")]
    BadRequest(String),
    #[error(transparent)]
    Pool(#[from] PoolError),
    #[error(transparent)]
    Ask(#[from] AskError),
    #[error("metrics could not be encoded")]
    Metrics,
}

impl IntoResponse for HttpError {
    fn into_response(self) -> Response {
        let status = match &self {
            Self::BadRequest(_) | Self::Pool(PoolError::Query(QueryError::Cursor)) => {
                StatusCode::BAD_REQUEST
            }
            Self::Pool(PoolError::Query(QueryError::Missing(_)) | PoolError::Stopping)
            | Self::Ask(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Pool(PoolError::Query(_)) | Self::Metrics => StatusCode::INTERNAL_SERVER_ERROR,
        };
        if status == StatusCode::INTERNAL_SERVER_ERROR {
            tracing::error!(error = %self, "a query failed");
        }
        (status, Json(json!({ "error": self.to_string() }))).into_response()
    }
}

/// Query parameters; unknown ones are refused, so that a misspelt filter does not silently
/// return everything.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Parameters {
    tenant: Option<String>,
    meter: Option<String>,
    kind: Option<String>,
    from: Option<String>,
    to: Option<String>,
    cursor: Option<String>,
    limit: Option<usize>,
    group: Option<String>,
}

impl Parameters {
    /// The filter; parameters outside `allowed` are refused.
    fn filter(self, allowed: &[&str]) -> Result<Filter, HttpError> {
        let given = [
            ("tenant", self.tenant.is_some()),
            ("meter", self.meter.is_some()),
            ("kind", self.kind.is_some()),
            ("from", self.from.is_some()),
            ("to", self.to.is_some()),
            ("cursor", self.cursor.is_some()),
            ("limit", self.limit.is_some()),
            ("group", self.group.is_some()),
        ];
        if let Some((name, _)) = given
            .iter()
            .find(|(name, given)| *given && !allowed.contains(name))
        {
            let expected = allowed.join(", ");
            return Err(HttpError::BadRequest(format!(
                "`{name}` has no meaning here (expected: {expected})"
            )));
        }
        if let Some(limit) = self.limit.filter(|limit| !(1..=LIMIT_MAX).contains(limit)) {
            return Err(HttpError::BadRequest(format!(
                "limit {limit} is out of range (1 to {LIMIT_MAX})"
            )));
        }
        if let Some(kind) = &self.kind
            && !KINDS.contains(&kind.as_str())
        {
            let expected = KINDS.join(", ");
            return Err(HttpError::BadRequest(format!(
                "kind `{kind}` is not known (expected: {expected})"
            )));
        }
        Ok(Filter {
            tenant: self.tenant,
            meter: self.meter,
            from: self.from.as_deref().map(parse_time).transpose()?,
            to: self.to.as_deref().map(parse_time).transpose()?,
            kind: self.kind,
            cursor: self.cursor,
            limit: self.limit,
        })
    }
}

/// An instant as RFC 3339 or as milliseconds since 1970.
fn parse_time(text: &str) -> Result<Timestamp, HttpError> {
    crate::time::parse_instant(text).map_err(HttpError::BadRequest)
}

type Parsed = Result<Query<Parameters>, QueryRejection>;

fn parameters(parsed: Parsed) -> Result<Parameters, HttpError> {
    parsed
        .map(|Query(parameters)| parameters)
        .map_err(|rejection| HttpError::BadRequest(rejection.body_text()))
}

async fn page<T, Q>(state: &HttpState, query: Q) -> Result<Response, HttpError>
where
    T: serde::Serialize + Send + 'static,
    Q: FnOnce(&Reader) -> Result<T, QueryError> + Send + 'static,
{
    Ok(Json(state.readers.run(query).await?).into_response())
}

async fn livez() -> &'static str {
    "ok\n"
}

async fn readyz(State(state): State<HttpState>) -> (StatusCode, &'static str) {
    if state.ready.load(Ordering::Acquire) {
        (StatusCode::OK, "ready\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "replaying the journal\n")
    }
}

async fn metrics(State(state): State<HttpState>) -> Result<Response, HttpError> {
    let text = state.metrics.encode().map_err(|_| HttpError::Metrics)?;
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    Ok(([(header::CONTENT_TYPE, kind)], text).into_response())
}

async fn usage(State(state): State<HttpState>, parsed: Parsed) -> Result<Response, HttpError> {
    let parameters = parameters(parsed)?;
    match parameters.group.as_deref() {
        None => {
            let filter =
                parameters.filter(&["tenant", "meter", "from", "to", "cursor", "limit"])?;
            page(&state, move |reader| reader.usage(&filter)).await
        }
        Some("meter") => {
            let filter = parameters
                .filter(&["tenant", "meter", "from", "to", "cursor", "limit", "group"])?;
            page(&state, move |reader| reader.usage_totals(&filter)).await
        }
        Some(other) => Err(HttpError::BadRequest(format!(
            "group `{other}` is not known (expected `meter`)"
        ))),
    }
}

async fn ledger(State(state): State<HttpState>, parsed: Parsed) -> Result<Response, HttpError> {
    let filter = parameters(parsed)?
        .filter(&["tenant", "meter", "kind", "from", "to", "cursor", "limit"])?;
    page(&state, move |reader| reader.ledger(&filter)).await
}

async fn agents(State(state): State<HttpState>, parsed: Parsed) -> Result<Response, HttpError> {
    let filter = parameters(parsed)?.filter(&["cursor", "limit"])?;
    let mut agents = state
        .readers
        .run(move |reader| reader.agents(&filter))
        .await?;
    for agent in &mut agents.items {
        let offset = agent["agent"]
            .as_str()
            .and_then(|name| state.metrics.clocks.of(name));
        // Not a part of the projection: known of agents that said hello since the start.
        agent["clock_offset_millis"] = json!(offset);
    }
    Ok(Json(agents).into_response())
}

async fn periods(State(state): State<HttpState>, parsed: Parsed) -> Result<Response, HttpError> {
    let filter = parameters(parsed)?.filter(&["tenant", "from", "to", "cursor", "limit"])?;
    page(&state, move |reader| reader.periods(&filter)).await
}

async fn conservation(
    State(state): State<HttpState>,
    parsed: Parsed,
) -> Result<Response, HttpError> {
    let filter = parameters(parsed)?.filter(&["tenant", "meter", "cursor", "limit"])?;
    page(&state, move |reader| reader.accounts(&filter)).await
}

async fn accruals(State(state): State<HttpState>, parsed: Parsed) -> Result<Response, HttpError> {
    let filter = parameters(parsed)?.filter(&["tenant", "cursor", "limit"])?;
    let tenant = filter
        .tenant
        .as_deref()
        .map(TenantId::new)
        .transpose()
        .map_err(|error| HttpError::BadRequest(error.to_string()))?;
    let freshness = state.fold.accrue(tenant).await?;
    let page = state.accruals.run(move |reader| reader.accruals(&filter));
    let mut answer = json!(page.await?);
    add_freshness(&mut answer, &freshness);
    Ok(Json(answer).into_response())
}

async fn accrual_totals(
    State(state): State<HttpState>,
    parsed: Parsed,
) -> Result<Response, HttpError> {
    parameters(parsed)?.filter(&[])?;
    let freshness = state.fold.accrue(None).await?;
    let mut answer = state.accruals.run(AccrualReader::totals).await?;
    add_freshness(&mut answer, &freshness);
    Ok(Json(answer).into_response())
}

/// How old what is answered is.
fn add_freshness(answer: &mut serde_json::Value, freshness: &Freshness) {
    answer["waiting"] = freshness.waiting.into();
    answer["complete_until"] = freshness.complete_until.clone().into();
    answer["age_millis"] = freshness.age_millis.into();
}

/// Counts requests and ends those that take too long.
async fn guard(State(state): State<HttpState>, request: Request, next: Next) -> Response {
    state.metrics.http_requests.inc();
    tokio::time::timeout(ANSWER_TIMEOUT, next.run(request))
        .await
        .unwrap_or_else(|_| {
            let body = Json(json!({ "error": "the answer took too long; ask for less" }));
            (StatusCode::GATEWAY_TIMEOUT, body).into_response()
        })
}

async fn not_found() -> (StatusCode, Json<serde_json::Value>) {
    (
        StatusCode::NOT_FOUND,
        Json(json!({ "error": "no such path" })),
    )
}

/// Every path with what answers it; `docs/http.md` lists them with their parameters.
fn routes() -> [(&'static str, MethodRouter<HttpState>); 11] {
    [
        ("/livez", get(livez)),
        ("/healthz", get(livez)),
        ("/readyz", get(readyz)),
        ("/metrics", get(metrics)),
        ("/v1/usage", get(usage)),
        ("/v1/accruals", get(accruals)),
        ("/v1/accruals/total", get(accrual_totals)),
        ("/v1/ledger", get(ledger)),
        ("/v1/agents", get(agents)),
        ("/v1/periods", get(periods)),
        ("/v1/conservation", get(conservation)),
    ]
}

/// All routes.
pub fn router(state: HttpState) -> Router {
    routes()
        .into_iter()
        .fold(Router::new(), |router, (path, handler)| {
            router.route(path, handler)
        })
        .fallback(not_found)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(middleware::from_fn_with_state(state.clone(), guard))
        .with_state(state)
}

/// Serves until `shutdown` is over and the requests under way are answered.
pub async fn serve(
    listener: TcpListener,
    state: HttpState,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    let listener = LimitedListener::new(listener, CONNECTIONS_MAX, REQUEST_PATIENCE);
    axum::serve(listener, router(state))
        .with_graceful_shutdown(shutdown)
        .await
}

#[cfg(test)]
mod tests;
