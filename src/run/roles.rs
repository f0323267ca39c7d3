//! The roles of one process.

use super::certificates::Certificates;
use super::{control_options, worker_options};
use crate::args::local::Run;
use longshore_config::{ApiTls, Config, Parting};
use longshore_control::{ApiListen, ControlNode, StartError, StopReason};
use longshore_wire::Role;
use longshore_worker::Worker;
use std::future::pending;
use std::time::Duration;

/// What runs here.
pub(super) struct Roles {
    control: Option<ControlNode>,
    worker: Option<Worker>,
    certificates: Certificates,
}

/// How a role ended that nobody asked to stop.
pub(super) enum End {
    /// The control node has left its cluster, as it was told.
    Left,
    /// Which role, and why.
    Fault(String),
}

impl Roles {
    /// Starts what the configuration names.
    pub(super) async fn start(config: &Config, args: &Run) -> anyhow::Result<Self> {
        let mut roles = Self { control: None, worker: None, certificates: Certificates::default() };
        if config.has_role(Role::Control) {
            let control = match roles.start_control(config, args.bootstrap).await? {
                Err(error @ StartError::SetAside { .. }) => {
                    tracing::error!(%error, "this control node's data is damaged");
                    roles.start_control(config, false).await??
                }
                started => started?,
            };
            tracing::info!(
                node = %control.node_id(), name = config.node.name, cluster = config.cluster.name,
                listen = listening(&control), api = api(&control, config.api.tls), "control node runs"
            );
            roles.control = Some(control);
        }
        if config.has_role(Role::Worker) {
            let options = worker_options(config)?;
            roles.certificates.trusted(&options.dial.tls);
            match Worker::start(options).await {
                Ok(worker) => {
                    let (name, cluster) = (&config.node.name, &config.cluster.name);
                    tracing::info!(node = %worker.node_id(), name, cluster, "worker runs");
                    roles.worker = Some(worker);
                }
                Err(error) => {
                    roles.stop(super::STOP_DEADLINE, Parting::Stay).await;
                    return Err(error.into());
                }
            }
        }
        Ok(roles)
    }

    /// Starts the control role once.
    async fn start_control(
        &mut self,
        config: &Config,
        bootstrap: bool,
    ) -> anyhow::Result<Result<ControlNode, StartError>> {
        let options = control_options(config, bootstrap)?;
        self.certificates.shown(options.listen.iter().filter_map(|listen| listen.options.tls.as_ref()));
        self.certificates.shown(options.api_guard.tls.as_ref());
        self.certificates.trusted(&options.dial.tls);
        Ok(ControlNode::start(options).await)
    }

    /// Resolves when a role has ended by itself.
    pub(super) async fn stopped(&self) -> End {
        let control = async {
            match &self.control {
                Some(control) => control.stopped().await,
                None => pending().await,
            }
        };
        let worker = async {
            match &self.worker {
                Some(worker) => worker.stopped().await,
                None => pending().await,
            }
        };
        tokio::select! {
            why = self.certificates.keep_fresh() => End::Fault(format!("certificates are not kept fresh: {why}")),
            reason = control => match reason {
                StopReason::Left => End::Left,
                reason => End::Fault(format!("the control node has stopped: {reason}")),
            },
            () = worker => End::Fault("the worker has stopped; its log says why".to_owned()),
        }
    }

    /// Stops the worker, which may still need its owner, then the control node.
    pub(super) async fn stop(&self, deadline: Duration, parting: Parting) {
        if let Some(worker) = &self.worker {
            worker.stop(deadline).await;
        }
        let Some(control) = &self.control else { return };
        if parting == Parting::Leave
            && let Err(failure) = control.leave(deadline).await
        {
            tracing::warn!(%failure, "this control node does not leave the cluster; it stops, and stays a member");
        }
        control.stop(deadline).await;
    }
}

/// The addresses for workers and control nodes, for the log.
fn listening(control: &ControlNode) -> String {
    let addresses = control.listen_addresses();
    let shown: Vec<String> = addresses.iter().map(|(transport, address)| format!("{transport}://{address}")).collect();
    shown.join(" ")
}

/// The addresses of the API, as the command line takes them.
fn api(control: &ControlNode, tls: ApiTls) -> String {
    let scheme = if tls == ApiTls::On { "https" } else { "http" };
    let address = |address: &ApiListen| match address {
        ApiListen::Tcp(address) => format!("{scheme}://{address}"),
        // As the command line wants it: a relative path means something else there.
        ApiListen::Unix(path) => {
            let path = std::path::absolute(path).unwrap_or_else(|_| path.clone());
            format!("unix://{}", path.display())
        }
    };
    control.api_addresses().iter().map(address).collect::<Vec<_>>().join(" ")
}
