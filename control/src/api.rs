//! The HTTP API: `/v1`, JSON, any control node answers.
//!
//! | path | methods |
//! |---|---|
//! | `/v1/cluster`, `/v1/cluster/voters` | GET; GET, PUT `{voters}` |
//! | `/v1/cluster/leave` | POST: this node leaves the cluster for good, and stops |
//! | `/v1/events?after=&follow=` | GET: server-sent events; `Last-Event-ID` |
//! | `/v1/nodes?where=`, `/v1/nodes/N`, `/v1/nodes/N/request` | GET; GET, DELETE; POST `{class, body, timeout_ms, id}` |
//! | `/v1/nodes/N/requests/ID?boot=` | GET: what became of a request |
//! | `/v1/nodes/connect` | POST `{uri}`: this node dials a worker that listens |
//! | `/v1/apps`, `/v1/apps/A`, `/v1/apps/A/flows/F` | GET, PUT (a tar); GET, DELETE; POST `{instance, args, on, where}` |
//! | `/v1/instances`, `/v1/instances/I`, `/v1/instances/I/stop` | GET; GET; POST |
//! | `/v1/tasks?instance=&node=`, `/v1/tasks/T`, `/v1/tasks/T/logs?follow=&tail=` | GET |
//! | `/v1/credentials`, `/v1/credentials/C`, `/v1/credentials/C/rotate`, `…/finish`, `…/revoke` | GET, POST `{verifier, node}`; GET; POST `{verifier}`; POST |
//! | `/v1/tokens`, `/v1/tokens/T` | GET, POST `{name, scope, expires_in_ms}`; DELETE |
//! | `/v1/kv?prefix=&after=&limit=`, `/v1/kv/KEY?lease=` | GET; GET, PUT, DELETE (raw bodies) |
//! | `/v1/kv/watch?prefix=&from=`, `/v1/kv/txn` | GET (server-sent events); POST `{if, then, else}` |
//! | `/v1/leases`, `/v1/leases/L`, `/v1/leases/L/keep` | GET, POST `{ttl_ms}`; GET, DELETE; POST |
//! | `/v1/cluster/limits` | GET, PUT `{quota, brake}` |
//! | `/v1/snapshot` | GET: the whole state as one checked file |
//! | `/livez`, `/readyz?verbose`, `/metrics` | GET |
//!
//! Reads are linearizable unless `?consistency=local` is given; `/v1/cluster` always tells what this node knows. Writes go
//! to the leader inside, never by a redirect; those to the KV and leases take `X-Longshore-Request-Id`, for repeats. Every error is `application/problem+json`. This folder owns the shape of the
//! API and no logic of its own.

mod access;
mod apps;
mod cluster;
mod credentials;
mod door;
mod events;
mod health;
mod instances;
mod kv;
mod leases;
mod metrics;
mod nodes;
mod precondition;
mod problem;
mod read;
mod requests;
mod serve;
mod snapshot;
mod sse;
mod tasks;
mod tokens;

pub(crate) use events::Readers;
pub(crate) use metrics::Requests;
pub use serve::ApiError;
pub(crate) use serve::ApiListener;

use self::problem::Problem;
use crate::blobs::{Blobs, Supply};
use crate::credentials::Reporter;
use crate::departure::Departure;
use crate::dialback::DialBack;
use crate::kv::Kv;
use crate::peers::Peers;
use crate::proxy::Proxies;
use crate::raft::Group;
use crate::reach::Reach;
use crate::relay::Relays;
use crate::schedule::Schedule;
use crate::vitals::Examiner;
use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::response::Response;
use axum::routing::{get, post};
use longshore_transport::{ServerTls, Traffic};
use longshore_wire::kv::MAX_VALUE;
use longshore_wire::{Code, Failure, NodeId};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// Largest body of everything but an archive: a KV value, and one byte to notice that it is too much.
const MAX_BODY: usize = MAX_VALUE + 1;

/// What the handlers use.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) me: NodeId,
    pub(crate) cluster: String,
    pub(crate) group: Group,
    pub(crate) peers: Peers,
    pub(crate) proxies: Proxies,
    pub(crate) reach: Reach,
    pub(crate) relays: Relays,
    pub(crate) kv: Kv,
    pub(crate) blobs: Blobs,
    pub(crate) supply: Arc<Supply>,
    pub(crate) dialback: DialBack,
    pub(crate) credentials: Reporter,
    pub(crate) vitals: Examiner,
    pub(crate) requests: Requests,
    pub(crate) readers: Readers,
    pub(crate) traffic: Arc<Traffic>,
    /// What this node shows of itself, where it speaks TLS.
    pub(crate) tls: Option<ServerTls>,
    pub(crate) schedule: Schedule,
    pub(crate) departure: Departure,
    pub(crate) stop: CancellationToken,
}

type Api = axum::extract::State<Arc<Context>>;
type Answer = Result<Response, Problem>;

/// All paths, behind what guards the socket.
pub(crate) fn router(context: Arc<Context>, guard: access::Guard) -> Router {
    let routes = Router::new()
        .route("/v1/cluster", get(cluster::status))
        .route("/v1/cluster/voters", get(cluster::voters).put(cluster::set_voters))
        .route("/v1/cluster/leave", post(cluster::leave))
        .route("/v1/events", get(events::events))
        .route("/v1/nodes", get(nodes::list))
        .route("/v1/nodes/connect", post(nodes::connect))
        .route("/v1/nodes/{node}", get(nodes::show).delete(nodes::remove).patch(nodes::change))
        .route("/v1/nodes/{node}/request", post(requests::request))
        .route("/v1/nodes/{node}/requests/{id}", get(requests::outcome))
        .route("/v1/apps/{app}", get(apps::show).delete(apps::remove))
        .route("/v1/apps/{app}/flows/{flow}", post(instances::start))
        .route("/v1/instances", get(instances::list))
        .route("/v1/instances/{instance}", get(instances::show))
        .route("/v1/instances/{instance}/{verb}", post(instances::act))
        .route("/v1/tasks", get(tasks::list))
        .route("/v1/tasks/{task}", get(tasks::show))
        .route("/v1/tasks/{task}/logs", get(tasks::logs))
        .route("/v1/credentials", get(credentials::list).post(credentials::create))
        .route("/v1/credentials/{credential}", get(credentials::show))
        .route("/v1/credentials/{credential}/{verb}", post(credentials::act))
        .route("/v1/tokens", get(tokens::list).post(tokens::create))
        .route("/v1/tokens/{token}", axum::routing::delete(tokens::revoke))
        .route("/v1/kv", get(kv::list))
        .route("/v1/kv/{*key}", get(kv::read).put(kv::write).delete(kv::delete).post(kv::post))
        .route("/v1/leases", get(leases::list).post(leases::grant))
        .route("/v1/leases/{lease}", get(leases::show).delete(leases::revoke))
        .route("/v1/leases/{lease}/keep", post(leases::keep))
        .route("/v1/cluster/limits", get(cluster::limits).put(cluster::set_limits))
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .route("/v1/apps", get(apps::list).put(apps::deploy))
        .route("/v1/snapshot", get(snapshot::save))
        .route("/livez", get(health::live))
        .route("/readyz", get(health::ready))
        .route("/metrics", get(health::metrics))
        .fallback(|| async { Problem::from(Failure::new(Code::NotFound, "there is no such path in the API")) })
        .method_not_allowed_fallback(|| async { Problem::method_not_allowed() })
        .with_state(Arc::clone(&context));
    // Outside of the routing, which the short way saves.
    Router::new().fallback_service(routes).layer(axum::middleware::from_fn_with_state((context, guard), access::enter))
}
