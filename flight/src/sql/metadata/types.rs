//! `GetXdbcTypeInfo`: the types that a topic's columns can have, in the terms of ODBC and JDBC.

use std::sync::LazyLock;

use arrow_flight::sql::metadata::{XdbcTypeInfo, XdbcTypeInfoData, XdbcTypeInfoDataBuilder};
use arrow_flight::sql::{Nullable, Searchable, XdbcDataType};

/// Name, type, digits or bytes (`None`: any number), quote before and after a literal.
type Row = (&'static str, XdbcDataType, Option<i32>, Option<&'static str>);

const TYPES: [Row; 10] = [
    ("boolean", XdbcDataType::XdbcBit, Some(1), None),
    ("int", XdbcDataType::XdbcInteger, Some(10), None),
    ("bigint", XdbcDataType::XdbcBigint, Some(19), None),
    ("real", XdbcDataType::XdbcReal, Some(24), None),
    ("double", XdbcDataType::XdbcDouble, Some(53), None),
    ("decimal", XdbcDataType::XdbcDecimal, Some(38), None),
    ("varchar", XdbcDataType::XdbcVarchar, None, Some("'")),
    ("varbinary", XdbcDataType::XdbcVarbinary, None, Some("'")),
    ("date", XdbcDataType::XdbcDate, Some(10), Some("'")),
    ("timestamp", XdbcDataType::XdbcTimestamp, Some(26), Some("'")),
];

/// The types, built once.
pub(super) fn types() -> &'static XdbcTypeInfoData {
    static INFO: LazyLock<XdbcTypeInfoData> = LazyLock::new(|| {
        let mut builder = XdbcTypeInfoDataBuilder::new();
        TYPES.into_iter().for_each(|row| builder.append(info(row)));
        builder.build().expect("constant types make a batch")
    });
    &INFO
}

fn info((name, data_type, size, quote): Row) -> XdbcTypeInfo {
    XdbcTypeInfo {
        type_name: name.to_owned(),
        data_type,
        sql_data_type: data_type,
        column_size: size,
        literal_prefix: quote.map(str::to_owned),
        literal_suffix: quote.map(str::to_owned),
        nullable: Nullable::NullabilityNullable,
        case_sensitive: quote.is_some(),
        searchable: Searchable::Full,
        local_type_name: Some(name.to_owned()),
        num_prec_radix: quote.is_none().then_some(10),
        ..XdbcTypeInfo::default()
    }
}
