//! From a file's columns to the topic's: matched by Iceberg field id, so that a rename since the file was written does not matter.

use std::sync::Arc;

use ::parquet::arrow::ProjectionMask;
use arrow::array::{Array, ArrayRef, AsArray, ListArray, MapArray, RecordBatch, StructArray, new_null_array};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Field, Fields, SchemaRef};
use arrow::error::ArrowError;
use schemas::envelope::FIELD_ID_KEY;

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
        let ids = schema.fields().iter().map(|field| id(field)).collect();
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
            Source::Decoded(at) => conform(&decoded[*at], field),
            Source::Known(values) => conform(values, field),
            Source::Absent => Ok(new_null_array(field.data_type(), self.rows)),
        });
        RecordBatch::try_new(Arc::clone(&self.schema), columns.collect::<Result<_, _>>()?)
    }
}

/// The columns of `batch` that `wanted` names, by field id: for rows that were written under another version of the schema.
pub(crate) fn conform_batch(batch: &RecordBatch, wanted: &Wanted) -> Result<RecordBatch, ArrowError> {
    let ids: Vec<_> = batch.schema_ref().fields().iter().map(|field| id(field)).collect();
    let columns = wanted.schema.fields().iter().zip(&wanted.ids).map(|(field, wanted)| {
        let source = ids.iter().position(|id| id.is_some() && id == wanted);
        match source {
            Some(source) => conform(batch.column(source), field),
            None => Ok(new_null_array(field.data_type(), batch.num_rows())),
        }
    });
    RecordBatch::try_new(Arc::clone(&wanted.schema), columns.collect::<Result<_, _>>()?)
}

/// `array` in exactly the type of `field`; shares its buffers where only names, nesting or ids differ.
fn conform(array: &ArrayRef, field: &Field) -> Result<ArrayRef, ArrowError> {
    if array.data_type() == field.data_type() {
        return Ok(Arc::clone(array));
    }
    match (array.data_type(), field.data_type()) {
        (DataType::Struct(_), DataType::Struct(members)) => Ok(Arc::new(conform_struct(array.as_struct(), members)?)),
        (DataType::List(_), DataType::List(element)) => {
            let list = array.as_list::<i32>();
            let values = conform(list.values(), element)?;
            let list = ListArray::try_new(Arc::clone(element), list.offsets().clone(), values, list.nulls().cloned())?;
            Ok(Arc::new(list))
        }
        (DataType::Map(_, _), DataType::Map(entries, sorted)) => {
            let map = array.as_map();
            let DataType::Struct(members) = entries.data_type() else {
                return Err(ArrowError::SchemaError(format!(
                    "map {}: expected entries of a struct type",
                    field.name()
                )));
            };
            let (offsets, nulls) = (map.offsets().clone(), map.nulls().cloned());
            let inner = map.entries();
            let columns = inner.columns().iter().zip(members).map(|(column, member)| conform(column, member));
            let inner =
                StructArray::try_new(members.clone(), columns.collect::<Result<_, _>>()?, inner.nulls().cloned())?;
            Ok(Arc::new(MapArray::try_new(Arc::clone(entries), offsets, inner, nulls, *sorted)?))
        }
        (_, wanted) => cast_with_options(array, wanted, &CastOptions { safe: false, ..Default::default() }),
    }
}

fn conform_struct(array: &StructArray, members: &Fields) -> Result<StructArray, ArrowError> {
    let unnumbered = array.fields().iter().all(|field| id(field).is_none());
    let columns = members.iter().map(|member| {
        let source = array.fields().iter().position(|field| match unnumbered {
            true => field.name() == member.name(),
            false => id(field).is_some() && id(field) == id(member),
        });
        match source {
            Some(source) => conform(array.column(source), member),
            None => Ok(new_null_array(member.data_type(), array.len())),
        }
    });
    StructArray::try_new(members.clone(), columns.collect::<Result<_, _>>()?, array.nulls().cloned())
}

fn id(field: &Field) -> Option<i32> {
    field.metadata().get(FIELD_ID_KEY)?.parse().ok()
}
