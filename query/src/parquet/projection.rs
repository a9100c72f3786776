//! From a file's columns to the topic's: matched by Iceberg field id, so that a rename since the file was written does not matter.

use std::sync::Arc;

use ::parquet::arrow::ProjectionMask;
use arrow::array::{ArrayRef, RecordBatch, new_null_array};
use arrow::datatypes::{DataType, Field, SchemaRef};
use arrow::error::ArrowError;
use schemas::conform::{absent, conform, conform_batch, field_id};

use super::known::spread;
use super::metadata::FileMetadata;

/// Columns that are wanted of every file, by name, type and field id.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    schema: SchemaRef,
    ids: Vec<Option<i32>>,
}

impl Wanted {
    /// Each field of `schema` carries its field id.
    pub(crate) fn new(schema: SchemaRef) -> Self {
        let ids = schema.fields().iter().map(|field| field_id(field)).collect();
        Self { schema, ids }
    }
}

/// How to make the wanted columns of some rows of one file.
#[derive(Clone, Debug)]
pub(crate) struct Projection {
    /// What is decoded; nothing if all is known.
    pub(crate) mask: ProjectionMask,
    sources: Vec<Source>,
    schema: SchemaRef,
    rows: usize,
}

#[derive(Clone, Debug)]
enum Source {
    /// This column of the decoded batch.
    Decoded(usize),
    /// Known without decoding, of any type that conforms.
    Known(ArrayRef),
    /// The file has it not: null.
    Absent,
}

/// A column of the rows to be read that the caller knows already, by field id.
#[derive(Clone, Debug)]
pub(crate) struct Given {
    pub(crate) id: i32,
    pub(crate) values: ArrayRef,
}

impl Wanted {
    /// What a file without field ids is matched by is the name; columns that the file has not are `None`.
    fn roots(&self, file: &FileMetadata) -> Vec<Option<usize>> {
        let unnumbered = file.field_ids().iter().all(Option::is_none);
        let roots = file.arrow().parquet_schema().root_schema().get_fields();
        let find = |(field, id): (&Arc<Field>, &Option<i32>)| match unnumbered {
            true => roots.iter().position(|root| root.name() == field.name()),
            false => file.field_ids().iter().position(|root| root.is_some() && root == id),
        };
        self.schema.fields().iter().zip(&self.ids).map(find).collect()
    }

    /// All wanted columns that the file has.
    pub(crate) fn mask(&self, file: &FileMetadata) -> ProjectionMask {
        ProjectionMask::roots(file.arrow().parquet_schema(), self.roots(file).into_iter().flatten())
    }

    /// The text columns, by field id and name.
    pub(crate) fn texts(&self) -> impl Iterator<Item = (i32, &str)> {
        let fields = self.schema.fields().iter().zip(&self.ids);
        fields
            .filter(|(field, _)| *field.data_type() == DataType::Utf8)
            .filter_map(|(field, id)| Some(((*id)?, field.name().as_str())))
    }
}

impl Projection {
    /// For rows that lie in these row groups, so many in each: what is given, or fixed by the footer, is not decoded.
    pub(crate) fn new(
        file: &FileMetadata,
        wanted: &Wanted,
        groups: &[(usize, usize)],
        given: &[Given],
    ) -> Result<Self, ArrowError> {
        let known = |id: &Option<i32>, root: usize| {
            if let Some(given) = given.iter().find(|given| Some(given.id) == *id) {
                return Ok(Some(Arc::clone(&given.values)));
            }
            let fixed = groups.iter().map(|(group, rows)| Some((file.fixed(*group, root)?, *rows)));
            fixed.collect::<Option<Vec<_>>>().map(|parts| spread(&parts)).transpose()
        };
        let roots = wanted.roots(file);
        let mut decoded = Vec::new();
        let mut sources = Vec::with_capacity(roots.len());
        for (root, id) in roots.into_iter().zip(&wanted.ids) {
            sources.push(match root {
                None => Source::Absent,
                Some(root) => match known(id, root)? {
                    Some(values) => Source::Known(values),
                    None => {
                        decoded.push(root);
                        Source::Decoded(root)
                    }
                },
            });
        }
        decoded.sort_unstable();
        decoded.dedup();
        for source in &mut sources {
            if let Source::Decoded(root) = source {
                *root = decoded.partition_point(|other| other < root);
            }
        }
        let mask = ProjectionMask::roots(file.arrow().parquet_schema(), decoded);
        let rows = groups.iter().map(|(_, rows)| rows).sum();
        Ok(Self { mask, sources, schema: Arc::clone(&wanted.schema), rows })
    }

    /// Rows that the projection is for.
    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    /// True if no column must be decoded.
    pub(crate) fn knows_all(&self) -> bool {
        !self.sources.iter().any(|source| matches!(source, Source::Decoded(_)))
    }

    /// The wanted columns, those that must be out of a batch that was decoded under [`Self::mask`]. Errors: a column that cannot be what it should.
    pub(crate) fn apply(&self, decoded: &[ArrayRef]) -> Result<RecordBatch, ArrowError> {
        let columns = self.schema.fields().iter().zip(&self.sources).map(|(field, source)| match source {
            Source::Decoded(at) => conform(&decoded[*at], field, &absent),
            Source::Known(values) => conform(values, field, &absent),
            Source::Absent => Ok(new_null_array(field.data_type(), self.rows)),
        });
        RecordBatch::try_new(Arc::clone(&self.schema), columns.collect::<Result<_, _>>()?)
    }
}

/// The columns of `batch` that `wanted` names, by field id: for rows that were written under another version of the schema.
pub(crate) fn conform_to(batch: &RecordBatch, wanted: &Wanted) -> Result<RecordBatch, ArrowError> {
    conform_batch(batch, &wanted.schema, &absent)
}
