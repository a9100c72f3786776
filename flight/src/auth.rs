//! Who calls: the one place that turns a call's metadata into the tenant whose names it may use.

use schemas::TenantName;
use tonic::metadata::MetadataMap;

use crate::error::Result;

/// The tenant of a call. Every handler asks here first, and passes on nothing else of the caller.
///
/// There are no principals yet: whatever the metadata says, the caller is the tenant `default`.
pub(crate) fn tenant_of(_metadata: &MetadataMap) -> Result<TenantName> {
    Ok(TenantName::default())
}
