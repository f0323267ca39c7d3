//! Where a run takes place: control nodes, each with a network of its own if this machine lets the test have that.

use crate::acceptance::Fleet;
use crate::netns::Net;
use crate::netns_shore::{Plan, Shore};
use crate::process::{Cli, Process, wait_for};
use serde_json::Value;
use std::path::PathBuf;

/// The control nodes of a run.
pub(crate) enum Ground {
    /// In namespaces: their networks can be cut.
    Apart(Shore),
    /// On loopback addresses.
    Together(Fleet),
}

impl Ground {
    /// Starts `controls` nodes, all of them voters, in namespaces if that is possible.
    pub(crate) fn start(test: &str, controls: u8) -> Self {
        let common = common(controls);
        match Net::new(&format!("{test} (networks that are cut)"), controls) {
            Some(net) => {
                let plan = Plan { controls, workers: 0, common: &common, ..Plan::pair("tcp") };
                Self::Apart(Shore::start_in(net, plan))
            }
            None => Self::together(controls),
        }
    }

    /// The same on loopback addresses.
    pub(crate) fn together(controls: u8) -> Self {
        let ground = Self::Together(Fleet::start(usize::from(controls), &common(controls)));
        ground.settle(usize::from(controls));
        ground
    }

    pub(crate) fn controls(&mut self) -> &mut [Process] {
        match self {
            Self::Apart(shore) => &mut shore.controls,
            Self::Together(fleet) => &mut fleet.nodes,
        }
    }

    pub(crate) fn net(&self) -> Option<&Net> {
        match self {
            Self::Apart(shore) => Some(&shore.net),
            Self::Together(_) => None,
        }
    }

    fn processes(&self) -> &[Process] {
        match self {
            Self::Apart(shore) => &shore.controls,
            Self::Together(fleet) => &fleet.nodes,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.processes().len()
    }

    pub(crate) fn name(&self, node: usize) -> String {
        self.processes()[node].name.clone()
    }

    /// A node's data folder.
    pub(crate) fn folder(&self, node: usize) -> PathBuf {
        match self {
            Self::Apart(shore) => shore.dir.path().join(self.name(node)),
            Self::Together(fleet) => fleet.data(node),
        }
    }

    /// The APIs of all nodes.
    pub(crate) fn sockets(&self) -> Vec<PathBuf> {
        (0..self.len()).map(|node| self.folder(node).join("api.sock")).collect()
    }

    pub(crate) fn cli(&self, node: usize) -> Cli {
        Cli::new(&format!("unix://{}", self.folder(node).join("api.sock").display()))
    }

    /// The status as each of `nodes` tells it; those that tell nothing are left out.
    fn statuses(&self, nodes: &[usize]) -> Vec<Value> {
        let ask = |node: &usize| self.cli(*node).try_json(&["cluster", "status", "--timeout", "3s"]).ok();
        nodes.iter().filter_map(ask).collect()
    }

    /// Who leads in the newest term that any of `nodes` knows of, but not `former`.
    pub(crate) fn leader(&self, nodes: &[usize], former: Option<usize>) -> usize {
        wait_for("a leader", || {
            let statuses = self.statuses(nodes);
            let newest = statuses.iter().max_by_key(|status| status["term"].as_u64()).ok_or("nobody answers")?;
            let index = (0..self.len()).find(|node| newest["leader_name"] == *self.name(*node));
            index.filter(|node| Some(*node) != former).ok_or_else(|| newest.to_string())
        })
    }

    /// All nodes but one.
    pub(crate) fn others(&self, node: usize) -> Vec<usize> {
        (0..self.len()).filter(|other| *other != node).collect()
    }

    /// Waits until every node knows the same leader, which sees all of them alive, `voters` of them with a vote.
    pub(crate) fn settle(&self, voters: usize) {
        let all: Vec<usize> = (0..self.len()).collect();
        wait_for("all nodes to agree", || {
            let statuses = self.statuses(&all);
            let leader = statuses.first().map(|status| &status["leader"]).filter(|leader| leader.is_string());
            let agree = statuses.len() == all.len() && statuses.iter().all(|status| Some(&status["leader"]) == leader);
            let told = || statuses.iter().map(Value::to_string).collect::<Vec<_>>().join("\n");
            if !agree {
                return Err(told());
            }
            let fits = statuses.iter().all(|status| {
                let members = status["members"].as_array().map(Vec::as_slice).unwrap_or_default();
                let votes = members.iter().filter(|member| member["role"] == "voter" && member["alive"] == true);
                let alive = members.iter().filter(|member| member["alive"] == true);
                votes.count() == voters && alive.count() == all.len()
            });
            if fits { Ok(()) } else { Err(told()) }
        });
    }
}

/// Lines of every configuration.
fn common(voters: u8) -> String {
    format!("[control]\nvoters = {voters}\n[timers]\nvoter_grace = \"5s\"\n[limits]\ndisk_low_mib = 4\n")
}
