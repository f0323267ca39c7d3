//! `/v1/apps`: archives in, and what is known of them.

use super::read::{Asked, Freshness, asked};
use super::{Answer, Api};
use axum::body::Body;
use axum::extract::Path;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use futures_util::TryStreamExt;
use longshore_state::{App, AppVersion, Command, Reply};
use longshore_wire::kv::Consistency;
use longshore_wire::{Code, Failure};
use serde_json::{Value, json};
use std::io;
use tokio_util::io::StreamReader;

/// Stores the archive, copies it to a majority, and only then commits it.
pub(super) async fn deploy(api: Api, body: Body) -> Answer {
    let reader = StreamReader::new(body.into_data_stream().map_err(io::Error::other));
    let inspection = api.blobs.store(std::pin::pin!(reader), None).await?;
    api.supply.spread(inspection.digest, inspection.size).await?;
    let (digest, size) = (inspection.digest, inspection.size);
    let blake3 = Some(inspection.blake3);
    let install = Command::InstallApp { manifest: inspection.manifest, digest, size, blake3 };
    match api.group.propose_one(install).await? {
        Reply::Installed { app, version } => {
            tracing::info!(app, version, sha256 = %digest, size, "app installed");
            let answer = json!({"app": app, "version": version, "sha256": digest, "size": size});
            Ok((StatusCode::OK, axum::Json(answer)).into_response())
        }
        other => Err(Failure::unknown(Code::Internal, format!("an install was answered by {other:?}")).into()),
    }
}

pub(super) async fn list(api: Api, query: Asked<Freshness>) -> Answer {
    let state = api.read(asked(query)?.consistency).await?;
    let apps: Vec<Value> = state.apps().filter_map(|app| Some(summary(app, app.newest()?))).collect();
    Ok(axum::Json(apps).into_response())
}

pub(super) async fn show(api: Api, Path(app): Path<String>, query: Asked<Freshness>) -> Answer {
    let state = api.read(asked(query)?.consistency).await?;
    let found = state.app(&app).and_then(|app| Some((app, app.newest()?)));
    let (app, newest) = found.ok_or_else(|| not_found(&app))?;
    let mut answer = summary(app, newest);
    answer["runtime"] = newest.manifest.runtime.clone().into();
    answer["flows"] = json!(newest.manifest.flows);
    answer["files"] = json!(newest.manifest.files);
    answer["versions"] = app.versions.values().map(version).collect();
    Ok(axum::Json(answer).into_response())
}

pub(super) async fn remove(api: Api, Path(app): Path<String>) -> Answer {
    if api.read(Consistency::Linearizable).await?.app(&app).is_none() {
        return Err(not_found(&app).into());
    }
    api.group.propose_one(Command::RemoveApp { app: app.clone() }).await?;
    Ok(axum::Json(json!({"app": app, "removed": true})).into_response())
}

fn not_found(app: &str) -> Failure {
    Failure::new(Code::NotFound, format!("there is no app '{app}'; see `longshore app list`"))
}

fn summary(app: &App, newest: &AppVersion) -> Value {
    json!({
        "app": app.name,
        "version": newest.version,
        "sha256": newest.digest,
        "size": newest.size,
        "flows": newest.manifest.flows.keys().collect::<Vec<_>>(),
    })
}

fn version(version: &AppVersion) -> Value {
    json!({
        "version": version.version,
        "sha256": version.digest,
        "size": version.size,
        "installed": version.installed_ms,
    })
}
