//! `longshore kv lease`: keys that go away unless somebody keeps them alive.

use crate::args::kv::Lease;
use crate::client::{Call, path};
use crate::commands::{Remote, items};
use crate::output::{self, Table, cell};
use hyper::Method;
use serde_json::{Value, json};
use std::time::Duration;

pub(super) async fn lease(remote: &Remote, args: Lease) -> anyhow::Result<()> {
    match args {
        Lease::Grant { ttl } => {
            let wish = json!({"ttl_ms": u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX)});
            let answer = remote.client.write(|| Call::post("/v1/leases", &wish)).await?.json().await?;
            remote.print(&answer, |answer| output::line(&cell(&answer["lease"])))
        }
        Lease::Keep { lease } => {
            let keep = Call::new(Method::POST, path("/v1/leases/{}/keep", &[&lease.to_string()]));
            let answer = remote.client.json(keep).await?;
            remote.print(&answer, |answer| {
                output::say(&format!("lease {lease} lives for another {}", ttl(answer)));
                Ok(())
            })
        }
        Lease::Revoke { lease } => {
            let revoke = || Call::new(Method::DELETE, one(lease));
            let answer = remote.client.write(revoke).await?.json().await?;
            remote.print(&answer, |answer| {
                output::say(&format!("lease {lease} has ended, and {} keys with it", cell(&answer["keys"])));
                Ok(())
            })
        }
        Lease::List => {
            let leases = remote.client.json(Call::get("/v1/leases")).await?;
            remote.print(&leases, |leases| {
                let mut table = Table::new(&["LEASE", "TTL", "KEYS", "(RENEWALS)"], remote.wide());
                for lease in items(leases) {
                    table.row(vec![cell(&lease["lease"]), ttl(lease), cell(&lease["keys"]), cell(&lease["renewals"])]);
                }
                table.print()
            })
        }
        Lease::Show { lease } => {
            let shown = remote.client.json(Call::get(one(lease))).await?;
            remote.print(&shown, |shown| {
                output::say(&format!("lease {lease}, {}, renewed {} times", ttl(shown), cell(&shown["renewals"])));
                items(&shown["keys"]).iter().try_for_each(|key| output::line(&cell(key)))
            })
        }
    }
}

fn one(lease: u64) -> String {
    path("/v1/leases/{}", &[&lease.to_string()])
}

fn ttl(lease: &Value) -> String {
    let millis = lease["ttl_ms"].as_u64().unwrap_or_default();
    humantime::format_duration(Duration::from_millis(millis)).to_string()
}
