//! What all queries of a process share: memory, spill files, and the one store that they can read.

use std::path::Path;
use std::sync::Arc;

use datafusion::error::{DataFusionError, Result as DataFusionResult};
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::object_store::{ObjectStoreRegistry, ObjectStoreUrl};
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use object_store::ObjectStore;
use schemas::ErrorKind;
use url::Url;

use super::errors::from_datafusion;
use super::memory::QueryMemory;
use crate::error::{QueryError, Result};
use crate::settings::Settings;

const STORE_URL: &str = "firn://store";

/// The name that scans know the store by. Nothing else resolves: no `file://`, no `s3://`.
pub(crate) fn store_url() -> ObjectStoreUrl {
    ObjectStoreUrl::parse(STORE_URL).expect("a scheme and an authority")
}

/// Errors: `Invalid` if the spill folder cannot be made or written to.
pub(crate) fn build(settings: &Settings, objects: &Arc<dyn ObjectStore>) -> Result<Arc<RuntimeEnv>> {
    let mode = match &settings.spill_dir {
        Some(folder) => {
            try_folder(folder)?;
            DiskManagerMode::Directories(vec![folder.clone()])
        }
        None => DiskManagerMode::OsTmpDirectory,
    };
    let disk = DiskManagerBuilder::default().with_mode(mode).with_max_temp_directory_size(settings.spill_bytes_max);
    let builder = RuntimeEnvBuilder::new()
        .with_disk_manager_builder(disk)
        .with_memory_pool(Arc::new(QueryMemory::new(settings.memory_bytes)))
        .with_object_store_registry(Arc::new(OnlyStore { objects: Arc::clone(objects) }));
    builder.build_arc().map_err(from_datafusion)
}

/// A folder that cannot be written to should be found at the start, not by the first big query.
fn try_folder(folder: &Path) -> Result<()> {
    let made = std::fs::create_dir_all(folder).and_then(|()| {
        let probe = folder.join(format!(".probe-{}", std::process::id()));
        std::fs::write(&probe, b"firn")?;
        std::fs::remove_file(&probe)
    });
    made.map_err(|error| {
        let message = format!("spill_dir {}: expected a folder that can be written to: {error}", folder.display());
        QueryError::new(ErrorKind::Invalid, message)
    })
}

/// Knows one store by one name, for good.
#[derive(Debug)]
struct OnlyStore {
    objects: Arc<dyn ObjectStore>,
}

impl ObjectStoreRegistry for OnlyStore {
    fn register_store(&self, _: &Url, _: Arc<dyn ObjectStore>) -> Option<Arc<dyn ObjectStore>> {
        None
    }

    fn get_store(&self, url: &Url) -> DataFusionResult<Arc<dyn ObjectStore>> {
        if url.as_str().starts_with(STORE_URL) {
            return Ok(Arc::clone(&self.objects));
        }
        Err(DataFusionError::Plan(format!("{url} cannot be read: queries see topics only")))
    }
}
