//! `longshore credential`: secrets are made here. Only what checks them goes to the cluster.

use super::node::{details, time};
use super::{Remote, items};
use crate::args::credential::{Create, Credential, CredentialName, RoleName, Rotate};
use crate::client::{Call, path};
use crate::output::{self, Format, Table, cell, plain};
use anyhow::Context as _;
use hyper::Method;
use longshore_transport::{Secret, make_verifier, verifier_with};
use longshore_wire::Role;
use longshore_wire::credential::Verifier;
use serde::Deserialize;
use serde_json::{Value, json};

/// Random digits of a name that is made up.
const SUFFIX: usize = 6;

pub(super) async fn credential(remote: &Remote, args: Credential) -> anyhow::Result<()> {
    match args {
        Credential::Create(args) => create(remote, args).await,
        Credential::List => {
            let all = remote.client.json(Call::get("/v1/credentials")).await?;
            remote.print(&all, |all| list(remote, all))
        }
        Credential::Show(CredentialName { credential }) => {
            let shown = remote.client.json(Call::get(path("/v1/credentials/{}", &[&credential]))).await?;
            remote.print(&shown, show)
        }
        Credential::Rotate(Rotate { credential: CredentialName { credential }, finish: true }) => {
            finish(remote, &credential).await
        }
        Credential::Rotate(Rotate { credential: CredentialName { credential }, .. }) => {
            rotate(remote, &credential).await
        }
        Credential::Revoke(CredentialName { credential }) => revoke(remote, &credential).await,
    }
}

async fn create(remote: &Remote, args: Create) -> anyhow::Result<()> {
    let role = match args.role {
        RoleName::Control => Role::Control,
        RoleName::Worker => Role::Worker,
        RoleName::Client => Role::Client,
    };
    let name = args.name.map_or_else(|| made_up(role, args.node.as_deref()), Ok)?;
    let secret = Secret::generate()?;
    let iterations = args.iterations;
    let verifier = derive(&secret, move |secret| make_verifier(secret, &name, role, iterations)).await?;
    let body = json!({"verifier": verifier, "node": args.node});
    let made = remote.client.json(Call::post("/v1/credentials", &body)).await?;
    let of = match (made["node_name"].as_str(), made["awaits"].as_str()) {
        (Some(node), _) => format!(" of node {}", plain(node)),
        (None, Some(node)) => format!(" of the first node that uses it ({} is awaited)", plain(node)),
        (None, None) => String::new(),
    };
    reveal(remote, made, &secret, &format!("credential '{}' for the role {role}{of} is made", verifier.credential))
}

/// What `show` tells of a credential's derivation.
#[derive(Deserialize)]
struct Derivation {
    role: Role,
    salt: Vec<u8>,
    iterations: u32,
}

async fn rotate(remote: &Remote, name: &str) -> anyhow::Result<()> {
    let known = remote.client.json(Call::get(path("/v1/credentials/{}", &[name]))).await?;
    let Derivation { role, salt, iterations } = serde_json::from_value(known)
        .context("the API tells too little of this credential; is it an older release?")?;
    let secret = Secret::generate()?;
    let owned = name.to_owned();
    let verifier = derive(&secret, move |secret| verifier_with(secret, &owned, role, salt, iterations)).await?;
    let call = Call::post(path("/v1/credentials/{}/rotate", &[name]), &json!({"verifier": verifier}));
    let added = remote.client.json(call).await?;
    let next = format!(
        "a second secret of credential '{name}' is valid beside the first; put it into the secret file of every node that uses the credential (no restart is needed), see with `longshore credential show {name}` that all of them use it, then `longshore credential rotate {name} --finish`"
    );
    reveal(remote, added, &secret, &next)
}

/// Hands the secret over: the only line on standard output, so that it can be sent into a file.
fn reveal(remote: &Remote, mut answer: Value, secret: &Secret, what: &str) -> anyhow::Result<()> {
    if remote.format == Format::Json {
        answer["secret"] = Value::from(secret.text());
        return output::json(&answer);
    }
    output::say(&format!("{what}. This is its secret; it is shown once and stored nowhere:"));
    output::line(secret.text())
}

async fn finish(remote: &Remote, name: &str) -> anyhow::Result<()> {
    let done = remote.client.json(Call::new(Method::POST, path("/v1/credentials/{}/finish", &[name]))).await?;
    remote.print(&done, |done| {
        let retired = cell(&done["retired"]);
        let still = match items(&done["nodes_cut"]).is_empty() {
            true => "no node used it any more".to_owned(),
            false => format!("cut off, since they still used it: {}", plain(&cell(&done["nodes_cut"]))),
        };
        output::say(&format!("secret {retired} of credential '{name}' is retired; {still}"));
        Ok(())
    })
}

async fn revoke(remote: &Remote, name: &str) -> anyhow::Result<()> {
    let done = remote.client.json(Call::new(Method::POST, path("/v1/credentials/{}/revoke", &[name]))).await?;
    remote.print(&done, |done| {
        output::say(&format!("credential '{}' is revoked; sessions cut: {}", plain(name), cell(&done["sessions_cut"])));
        Ok(())
    })
}

fn list(remote: &Remote, all: &Value) -> anyhow::Result<()> {
    let names = ["CREDENTIAL", "ROLE", "NODE", "SECRETS", "SESSIONS", "LAST USED", "CREATED", "REVOKED"];
    let mut table = Table::new(&names, remote.wide());
    for each in items(all) {
        let when = |name: &str| each[name].as_u64().map_or_else(|| "-".to_owned(), time);
        let node = match (each["node_name"].as_str(), each["awaits"].as_str()) {
            (Some(node), _) => node.to_owned(),
            (None, Some(node)) => format!("awaits {node}"),
            (None, None) => cell(&each["node"]),
        };
        table.row(vec![
            cell(&each["credential"]),
            cell(&each["role"]),
            node,
            cell(&each["valid"]),
            cell(&each["sessions"]),
            when("last_used"),
            when("created"),
            when("revoked"),
        ]);
    }
    table.print()
}

fn show(shown: &Value) -> anyhow::Result<()> {
    let mut record = shown.clone();
    let mut lines = Vec::new();
    for secret in items(&shown["secrets"]) {
        let number = &secret["secret"];
        let users = items(&shown["in_use"]).iter().find(|each| each["secret"] == *number);
        let nodes = users.map_or_else(|| "-".to_owned(), |users| cell(&users["nodes"]));
        let standing = if secret["retired"].is_null() { "" } else { ", retired" };
        lines.push(format!("secret {number}{standing}: {} sessions, nodes {nodes}", secret["sessions"]));
    }
    if let Some(fields) = record.as_object_mut() {
        for name in ["secrets", "in_use", "salt", "iterations"] {
            fields.remove(name);
        }
    }
    details(&record)?;
    lines.iter().try_for_each(|text| output::line(&plain(text)))
}

/// Derives beside the runtime: it takes a moment.
async fn derive(secret: &Secret, make: impl FnOnce(&Secret) -> Verifier + Send + 'static) -> anyhow::Result<Verifier> {
    let secret = secret.clone();
    tokio::task::spawn_blocking(move || make(&secret)).await.context("the derivation was cut short")
}

/// A name that nobody has thought of: role or node, and a few random digits.
fn made_up(role: Role, node: Option<&str>) -> anyhow::Result<String> {
    let fine = |letter: &char| letter.is_ascii_alphanumeric() || "-_.".contains(*letter);
    let node: String = node.unwrap_or_default().chars().filter(fine).take(40).collect();
    let random = Secret::generate()?;
    let stem = if node.is_empty() { role.name().to_owned() } else { format!("{}-{node}", role.name()) };
    Ok(format!("{stem}-{}", random.text().get(..SUFFIX).unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_made_up_from_what_is_known() {
        let name = made_up(Role::Worker, Some("w/1 é")).unwrap();
        assert!(name.starts_with("worker-w1-") && name.len() == "worker-w1-".len() + SUFFIX, "{name}");
        assert!(made_up(Role::Control, None).unwrap().starts_with("control-"));
    }
}
