//! The sockets of the API.
//!
//! The Unix socket's mode is set before the socket listens, so that there is no moment at which others could connect.

use super::access::Guard;
use super::door::Door;
use crate::options::{ApiGuard, ApiListen, Loopback};
use axum::Router;
use std::fs::{self, Permissions};
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::net::{TcpListener, UnixListener, UnixSocket, UnixStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Requests under way may finish within this when the node stops.
const GRACE: Duration = Duration::from_secs(2);
/// Connections that may wait to be accepted.
const BACKLOG: u32 = 1024;

/// Why the API does not listen.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// A TCP address cannot be had.
    #[error("the API cannot listen on {address}: {cause}; free the port, or set another api.listen")]
    Tcp {
        /// The address.
        address: SocketAddr,
        /// Why.
        cause: io::Error,
    },
    /// A Unix socket cannot be made.
    #[error("the API cannot listen on {}: {cause}", path.display())]
    Unix {
        /// The path.
        path: PathBuf,
        /// Why.
        cause: io::Error,
    },
    /// Another process answers on the Unix socket.
    #[error("another process serves {}; stop it, or set another api.socket", path.display())]
    Taken {
        /// The path.
        path: PathBuf,
    },
}

/// One socket of the API.
#[derive(Debug)]
pub(crate) struct ApiListener {
    door: Door,
    address: ApiListen,
    guard: Guard,
}

impl ApiListener {
    /// Listens.
    pub(crate) async fn bind(listen: &ApiListen, guard: &ApiGuard) -> Result<Self, ApiError> {
        match listen {
            ApiListen::Tcp(address) => bind_tcp(*address, guard).await,
            ApiListen::Unix(path) => {
                let door = Door::Unix(bind_unix(path).await?);
                Ok(Self { door, address: listen.clone(), guard: Guard::Mode })
            }
        }
    }

    /// Where it listens, with the port that the system chose.
    pub(crate) fn address(&self) -> ApiListen {
        self.address.clone()
    }

    /// What guards it.
    pub(crate) fn guard(&self) -> Guard {
        self.guard
    }

    /// Serves until the node stops.
    pub(crate) async fn serve(self, router: Router, stop: CancellationToken) {
        let Self { door, address, .. } = self;
        let patience = {
            let stop = stop.clone();
            async move {
                stop.cancelled().await;
                tokio::time::sleep(GRACE).await;
                Ok(())
            }
        };
        let _remove = match &address {
            ApiListen::Unix(path) => Some(RemoveOnDrop(path.clone())),
            ApiListen::Tcp(_) => None,
        };
        let server = axum::serve(door, router).with_graceful_shutdown(stop.cancelled_owned());
        let served = tokio::select! { served = server => served, served = patience => served };
        if let Err(error) = served {
            tracing::error!(?address, %error, "the API has ended");
        }
    }
}

async fn bind_tcp(address: SocketAddr, guard: &ApiGuard) -> Result<ApiListener, ApiError> {
    let failed = |cause| ApiError::Tcp { address, cause };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let local = listener.local_addr().map_err(failed)?;
    let loopback = local.ip().is_loopback();
    if !loopback && guard.tls.is_none() {
        tracing::warn!(%local, "the API speaks plain HTTP to the network: tokens can be read on the way; set api.tls = \"on\", or put something that speaks TLS before it");
    }
    let guards = if loopback && guard.loopback == Loopback::Open { Guard::Open } else { Guard::Token };
    let door = match &guard.tls {
        Some(tls) => Door::Tls { listener, tls: tls.clone(), handshakes: JoinSet::new() },
        None => Door::Tcp(listener),
    };
    Ok(ApiListener { door, address: ApiListen::Tcp(local), guard: guards })
}

async fn bind_unix(path: &Path) -> Result<UnixListener, ApiError> {
    let failed = |cause| ApiError::Unix { path: path.to_owned(), cause };
    if fs::symlink_metadata(path).is_ok_and(|meta| meta.file_type().is_socket()) {
        if UnixStream::connect(path).await.is_ok() {
            return Err(ApiError::Taken { path: path.to_owned() });
        }
        fs::remove_file(path).map_err(failed)?;
    }
    let socket = UnixSocket::new_stream().map_err(failed)?;
    socket.bind(path).map_err(failed)?;
    fs::set_permissions(path, Permissions::from_mode(0o600)).map_err(failed)?;
    socket.listen(BACKLOG).map_err(failed)
}

struct RemoveOnDrop(PathBuf);

impl Drop for RemoveOnDrop {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.0) {
            tracing::debug!(path = %self.0.display(), %error, "the API's socket file stays");
        }
    }
}
