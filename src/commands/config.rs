//! `longshore config`: validate, or print what is effective.

use crate::args::local::{Config, ConfigFile};
use crate::output::{self, Format};
use crate::run;
use serde_json::json;

pub(super) fn config(args: &Config, format: Format) -> anyhow::Result<()> {
    match args {
        Config::Check(file) => check(file, format),
        Config::Show(file) => {
            let config = run::load(file)?;
            if format == Format::Json { output::json(&config) } else { output::raw(config.show().as_bytes()) }
        }
    }
}

fn check(file: &ConfigFile, format: Format) -> anyhow::Result<()> {
    let config = run::load(file)?;
    run::check_certificates(&config)?;
    if format == Format::Json {
        return output::json(&json!({"file": file.file, "valid": true}));
    }
    let roles: Vec<&str> = config.node.roles.iter().map(|role| role.name()).collect();
    let (path, roles, node) = (file.file.display(), roles.join(" and "), &config.node.name);
    output::line(&format!("{path}: valid: {roles} node '{node}' of cluster '{}'", config.cluster.name))
}
