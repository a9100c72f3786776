//! Parameters of a statement: what types they have, and putting values in their place.

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use datafusion::common::ParamValues;
use datafusion::logical_expr::LogicalPlan;
use datafusion::scalar::ScalarValue;
use schemas::ErrorKind;

use super::errors::from_datafusion;
use crate::error::{QueryError, Result};
use crate::table::plain;

/// One field a parameter, `$1` first; `Null` type where the planner could not infer one, and for a number that is left out.
pub(crate) fn of(plan: &LogicalPlan) -> Result<SchemaRef> {
    let found = plan.get_parameter_fields().map_err(from_datafusion)?;
    let number = |name: &String| match name.strip_prefix('$').and_then(|number| number.parse::<u16>().ok()) {
        Some(number) if number > 0 => Ok(number),
        _ => Err(invalid(format!("expected a parameter as ? or as $1, $2, …; found {name}"))),
    };
    let numbers = found.keys().map(number).collect::<Result<Vec<_>>>()?;
    let fields = (1..=numbers.into_iter().max().unwrap_or(0)).map(|number| {
        let name = format!("${number}");
        let known = found.get(&name).and_then(Option::as_ref).map(|field| field.data_type().clone());
        Field::new(name, known.unwrap_or(DataType::Null), true)
    });
    Ok(plain(&Schema::new(fields.collect::<Vec<_>>())))
}

/// True if the type of a parameter is known only with its value.
pub(crate) fn any_untyped(parameters: &SchemaRef) -> bool {
    parameters.fields().iter().any(|field| field.data_type().is_null())
}

/// The plan with the values of `row` (one row, a column a parameter) for its parameters, each cast to the type that was inferred.
///
/// Errors: `Invalid` if there are too few or too many, or one cannot be cast.
pub(crate) fn bind(plan: LogicalPlan, row: Option<&RecordBatch>) -> Result<LogicalPlan> {
    let wanted = of(&plan)?;
    let (rows, columns) = row.map_or((0, 0), |row| (row.num_rows(), row.num_columns()));
    if columns != wanted.fields().len() || (columns > 0 && rows != 1) {
        let wanted = wanted.fields().len();
        return Err(invalid(format!("expected one row of {wanted} parameters, found {rows} rows of {columns}")));
    }
    let Some(row) = row.filter(|_| columns > 0) else { return Ok(plan) };
    let values = wanted.fields().iter().zip(row.columns()).map(|(field, column)| {
        let value = ScalarValue::try_from_array(column, 0).map_err(from_datafusion)?;
        if field.data_type().is_null() {
            return Ok(value);
        }
        value.cast_to(field.data_type()).map_err(|error| {
            let (name, wanted, found) = (field.name(), field.data_type(), column.data_type());
            invalid(format!("parameter {name}: expected {wanted}, found {found}: {}", from_datafusion(error)))
        })
    });
    let values = values.collect::<Result<Vec<_>>>()?;
    plan.with_param_values(ParamValues::from(values)).map_err(from_datafusion)
}

fn invalid(message: String) -> QueryError {
    QueryError::new(ErrorKind::Invalid, message)
}
