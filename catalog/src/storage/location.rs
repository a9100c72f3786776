//! Where a store lies, as a URI, and which paths are under it.

use object_store::path::Path;
use schemas::ErrorKind;
use url::Url;

use crate::error::{CatalogError, Result};

/// What a store's URL says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Address {
    /// A folder, as given: perhaps relative.
    Folder(std::path::PathBuf),
    /// A bucket and a prefix in it, perhaps empty.
    S3 {
        /// The bucket.
        bucket: String,
        /// What every object's name begins with.
        prefix: Path,
    },
}

impl Address {
    /// Reads the URL of a store. Errors: `Invalid`.
    pub(super) fn parse(url: &str) -> Result<Self> {
        let fault = |reason: String| {
            let message =
                format!("store URL {url:?}: {reason}; expected a folder, file:///folder or s3://bucket/prefix");
            CatalogError::new(ErrorKind::Invalid, message)
        };
        if url.is_empty() {
            return Err(fault("it is empty".into()));
        }
        if let Some(rest) = ["s3://", "s3a://"].iter().find_map(|scheme| url.strip_prefix(scheme)) {
            let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
            if bucket.is_empty() {
                return Err(fault("it names no bucket".into()));
            }
            let prefix = Path::parse(prefix).map_err(|error| fault(error.to_string()))?;
            return Ok(Self::S3 { bucket: bucket.to_owned(), prefix });
        }
        if url.starts_with("file:") {
            let absolute = url.starts_with("file:/").then(|| Url::parse(url).ok()).flatten();
            let folder = absolute.and_then(|url| url.to_file_path().ok());
            return folder.map(Self::Folder).ok_or_else(|| fault("it names no absolute folder".into()));
        }
        match url.split_once("://") {
            Some((scheme, _)) => Err(fault(format!("{scheme} stores are not known"))),
            None => Ok(Self::Folder(url.into())),
        }
    }
}

/// The root of an open store as a URI, without a slash at its end.
///
/// URIs are not percent-encoded, as in Iceberg metadata everywhere: what follows the root is the path, letter by letter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Location {
    root: String,
    /// Other spellings of it: Spark's.
    aliases: Vec<String>,
}

impl Location {
    /// Of a folder. Errors: `Invalid` if its path is not UTF-8, which no URI could name.
    pub(super) fn folder(root: &std::path::Path) -> Result<Self> {
        let Some(text) = root.to_str() else {
            let message = format!("folder {}: expected a path in UTF-8", root.display());
            return Err(CatalogError::new(ErrorKind::Invalid, message));
        };
        let text = text.trim_end_matches('/');
        Ok(Self { root: format!("file://{text}"), aliases: vec![format!("file:{text}")] })
    }

    /// Of a bucket's prefix.
    pub(super) fn s3(bucket: &str, prefix: &Path) -> Self {
        let rest = if prefix.is_root() { bucket.to_owned() } else { format!("{bucket}/{prefix}") };
        let aliases = ["s3a", "s3n"].map(|scheme| format!("{scheme}://{rest}")).into();
        Self { root: format!("s3://{rest}"), aliases }
    }

    /// The full URI of a path.
    pub(super) fn uri(&self, path: &Path) -> String {
        if path.is_root() { self.root.clone() } else { format!("{}/{path}", self.root) }
    }

    /// The path that a URI names. Errors: `Invalid` if it is not under this root.
    pub(super) fn path(&self, uri: &str) -> Result<Path> {
        let roots = std::iter::once(&self.root).chain(&self.aliases);
        let under = |root: &String| uri.strip_prefix(root.as_str())?.strip_prefix('/');
        let path = roots.filter_map(under).find_map(|rest| Path::parse(rest).ok());
        path.ok_or_else(|| {
            let message = format!("expected a URI under {}/, found {uri:?}", self.root);
            CatalogError::new(ErrorKind::Invalid, message)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_url_is_a_folder_or_a_bucket() {
        let folder = |path: &str| Address::Folder(path.into());
        let s3 = |bucket: &str, prefix: &str| Address::S3 { bucket: bucket.into(), prefix: Path::from(prefix) };
        for (url, expected) in [
            ("./data", folder("./data")),
            ("/var/lib/firn", folder("/var/lib/firn")),
            ("file:///var/my%20data", folder("/var/my data")),
            ("s3://bucket", s3("bucket", "")),
            ("s3://bucket/", s3("bucket", "")),
            ("s3://bucket/a/b/", s3("bucket", "a/b")),
        ] {
            assert_eq!(Address::parse(url).unwrap(), expected, "{url}");
        }
        for url in ["", "s3://", "s3:///prefix", "s3://bucket/../x", "gopher://x", "file:data"] {
            let error = Address::parse(url).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Invalid, "{url}");
        }
    }

    #[test]
    fn a_uri_is_full_and_leads_back_to_its_path() {
        let path = Path::parse("warehouse/a%2Fb/x y.parquet").unwrap();
        let folder = Location::folder(std::path::Path::new("/srv/my data")).unwrap();
        assert_eq!(folder.uri(&path), "file:///srv/my data/warehouse/a%2Fb/x y.parquet");
        let bucket = Location::s3("bucket", &Path::from("deep/down"));
        assert_eq!(bucket.uri(&path), "s3://bucket/deep/down/warehouse/a%2Fb/x y.parquet");
        for location in [folder, bucket] {
            assert_eq!(location.path(&location.uri(&path)).unwrap(), path);
            let spark = location.uri(&path).replacen("file://", "file:", 1).replacen("s3:", "s3a:", 1);
            assert_eq!(location.path(&spark).unwrap(), path);
        }
    }

    #[test]
    fn a_uri_outside_the_root_is_refused() {
        let folder = Location::folder(std::path::Path::new("/srv/data")).unwrap();
        for uri in
            ["file:///srv/database/x", "file:///srv/data/../x", "file:///srv/data", "s3://srv/data/x", "/srv/data/x"]
        {
            assert_eq!(folder.path(uri).unwrap_err().kind(), ErrorKind::Invalid, "{uri}");
        }
    }
}
