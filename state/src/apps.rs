//! Apps and their versions. Archives themselves never come here, only their names and manifests.

use crate::command::{Outcome, Reply};
use crate::machine::{At, State};
use crate::record::{App, AppVersion, Wanted};
use longshore_wire::app::{MANIFEST_FORMAT, Manifest, check_name};
use longshore_wire::{Blake3, Code, Digest, Failure};
use std::sync::Arc;

/// Most versions of one app that are kept; the oldest goes first. Each keeps its archive on every control node.
const MAX_VERSIONS: usize = 100;

/// An archive that control nodes hold.
pub(crate) struct Stored {
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    pub(crate) blake3: Option<Blake3>,
}

impl State {
    pub(crate) fn install_app(&mut self, at: At, manifest: &Manifest, archive: Stored) -> Outcome {
        check_manifest(manifest)?;
        let Stored { digest, size, blake3 } = archive;
        let name = &manifest.name;
        let known = self.apps.get(name).map(Arc::as_ref);
        let newest = known.and_then(App::newest);
        if let Some(same) = newest.filter(|newest| newest.digest == digest) {
            return Ok(Reply::Installed { app: name.clone(), version: same.version });
        }
        let version = newest.map_or(1, |newest| newest.version + 1);
        let mut app = known.cloned().unwrap_or_else(|| App { name: name.clone(), versions: Default::default() });
        let manifest = Arc::new(manifest.clone());
        app.versions.insert(version, AppVersion { version, manifest, digest, size, blake3, installed_ms: at.now_ms });
        self.drop_old_versions(&mut app);
        self.apps.insert(name.clone(), Arc::new(app));
        Ok(Reply::Installed { app: name.clone(), version })
    }

    /// Drops the oldest versions above [`MAX_VERSIONS`] that no instance needs.
    fn drop_old_versions(&self, app: &mut App) {
        let mut surplus = app.versions.len().saturating_sub(MAX_VERSIONS);
        let needed = |version: u32| self.instances().any(|each| each.app == app.name && each.version == version);
        let unneeded: Vec<u32> = app.versions.keys().copied().filter(|version| !needed(*version)).collect();
        for version in unneeded {
            if surplus == 0 {
                return;
            }
            surplus -= 1;
            app.versions.remove(&version);
        }
    }

    pub(crate) fn remove_app(&mut self, name: &str) -> Outcome {
        if !self.apps.contains_key(name) {
            return Err(app_not_found(name));
        }
        let ended = |instance: &str| self.tasks_of_instance(instance).next().is_none();
        let of_app = self.instances().filter(|instance| instance.app == name);
        let (gone, alive): (Vec<_>, Vec<_>) =
            of_app.partition(|instance| instance.wanted == Wanted::Stopped && ended(&instance.name));
        if !alive.is_empty() {
            let names: Vec<&str> = alive.iter().map(|instance| instance.name.as_str()).collect();
            let message = format!("the app '{name}' still has instances: {}; stop them first", names.join(", "));
            return Err(Failure::new(Code::Conflict, message));
        }
        let gone: Vec<String> = gone.into_iter().map(|instance| instance.name.clone()).collect();
        for instance in &gone {
            self.instances.remove(instance);
        }
        self.apps.remove(name);
        Ok(Reply::Done)
    }
}

pub(crate) fn app_not_found(name: &str) -> Failure {
    Failure::new(Code::NotFound, format!("no app '{name}'; see `longshore app list`"))
}

/// What the state relies on; files and hashes were checked with the archive.
fn check_manifest(manifest: &Manifest) -> Result<(), Failure> {
    let invalid = |message: String| Failure::new(Code::Invalid, message);
    check_name("app", &manifest.name).map_err(invalid)?;
    if manifest.format != MANIFEST_FORMAT {
        let message = format!(
            "app '{}': manifest format {} is unknown here; this release reads {MANIFEST_FORMAT}",
            manifest.name, manifest.format
        );
        return Err(Failure::new(Code::Unsupported, message));
    }
    if manifest.flows.is_empty() {
        return Err(invalid(format!("app '{}' has no flow", manifest.name)));
    }
    for (name, flow) in &manifest.flows {
        check_name("flow", name).map_err(invalid)?;
        if flow.entry.is_empty() {
            return Err(invalid(format!("app '{}': the flow '{name}' has an empty entry", manifest.name)));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::On;
    use crate::snapshot::tests::{instance, manifest};

    #[test]
    fn the_oldest_unneeded_versions_go_first() {
        let mut state = State::default();
        let mut needs_first = instance("i", On::All);
        needs_first.version = 1;
        state.instances.insert("i".into(), Arc::new(needs_first));
        for version in 1..=u8::try_from(MAX_VERSIONS + 2).unwrap() {
            let at = At { index: version.into(), now_ms: 0, room: 0 };
            let archive = Stored { digest: Digest([version; 32]), size: 1, blake3: None };
            state.install_app(at, &manifest(), archive).unwrap();
        }
        let kept: Vec<u32> = state.app("greeter").unwrap().versions.keys().copied().collect();
        assert_eq!((kept.len(), &kept[..2]), (MAX_VERSIONS, [1, 4].as_slice()));
    }
}
