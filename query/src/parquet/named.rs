//! A file as if it had been written under the names that its columns have now.
//!
//! DataFusion looks columns up by name: their types, statistics, page indexes and bloom filters. After a rename, and worse, after two columns have swapped
//! names, those would be another column's. So it is shown metadata in which each column is called as its field id is called now, and a column that is gone
//! by a name that nothing has. Nothing else of a file goes by names.

use std::sync::Arc;

use ::parquet::arrow::ARROW_SCHEMA_META_KEY;
use ::parquet::errors::Result;
use ::parquet::file::metadata::{FileMetaData, ParquetMetaData, ParquetMetaDataBuilder};
use ::parquet::schema::types::{SchemaDescriptor, Type, TypePtr};
use arrow::datatypes::Schema;
use schemas::conform::field_id;

/// The metadata under the names of `event`. `None` if they are the same, or the file has no ids and is matched by name.
pub(super) fn named(metadata: &ParquetMetaData, event: &Schema) -> Result<Option<ParquetMetaData>> {
    let file = metadata.file_metadata();
    let roots = file.schema_descr().root_schema().get_fields();
    let id = |root: &TypePtr| root.get_basic_info().has_id().then(|| root.get_basic_info().id());
    if roots.iter().all(|root| id(root).is_none()) {
        return Ok(None);
    }
    let name = |(number, root): (usize, &TypePtr)| {
        let of_topic = event.fields().iter().find(|field| id(root).is_some() && field_id(field) == id(root));
        // No column of a topic has an empty byte in its name.
        of_topic.map_or_else(|| format!("\0{number}"), |field| field.name().clone())
    };
    let names: Vec<String> = roots.iter().enumerate().map(name).collect();
    if roots.iter().zip(&names).all(|(root, name)| root.name() == name) {
        return Ok(None);
    }
    let fields = roots.iter().zip(&names).map(|(root, name)| renamed(root, name)).collect::<Result<Vec<_>>>()?;
    let root = Type::group_type_builder(file.schema_descr().root_schema().name()).with_fields(fields).build()?;
    // The Arrow schema that the writer left in the file has the old names.
    let key_values = file
        .key_value_metadata()
        .map(|pairs| pairs.iter().filter(|pair| pair.key != ARROW_SCHEMA_META_KEY).cloned().collect::<Vec<_>>());
    let file = FileMetaData::new(
        file.version(),
        file.num_rows(),
        file.created_by().map(str::to_owned),
        key_values,
        Arc::new(SchemaDescriptor::new(Arc::new(root))),
        file.column_orders().cloned(),
    );
    let builder = ParquetMetaDataBuilder::new(file)
        .set_row_groups(metadata.row_groups().to_vec())
        .set_column_index(metadata.column_index().cloned())
        .set_offset_index(metadata.offset_index().cloned());
    Ok(Some(builder.build()))
}

fn renamed(field: &TypePtr, name: &str) -> Result<TypePtr> {
    let info = field.get_basic_info();
    let id = info.has_id().then(|| info.id());
    let renamed = match field.as_ref() {
        Type::PrimitiveType { physical_type, type_length, precision, scale, .. } => {
            Type::primitive_type_builder(name, *physical_type)
                .with_repetition(info.repetition())
                .with_converted_type(info.converted_type())
                .with_logical_type(info.logical_type_ref().cloned())
                .with_length(*type_length)
                .with_precision(*precision)
                .with_scale(*scale)
                .with_id(id)
                .build()?
        }
        Type::GroupType { fields, .. } => Type::group_type_builder(name)
            .with_repetition(info.repetition())
            .with_converted_type(info.converted_type())
            .with_logical_type(info.logical_type_ref().cloned())
            .with_fields(fields.clone())
            .with_id(id)
            .build()?,
    };
    Ok(Arc::new(renamed))
}
