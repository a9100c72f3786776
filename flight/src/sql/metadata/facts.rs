//! `GetSqlInfo`: what the server can do, fact by fact. JDBC reads a good part of them at once and stumbles over those that are missing.

use std::collections::HashMap;
use std::sync::LazyLock;

use arrow_flight::sql::metadata::{SqlInfoData, SqlInfoDataBuilder};
use arrow_flight::sql::{
    SqlInfo, SqlNullOrdering, SqlOuterJoinsSupportLevel, SqlSupportedCaseSensitivity, SqlSupportedGroupBy,
    SqlSupportedSubqueries, SqlSupportedTransaction, SqlSupportedUnions, SupportedSqlGrammar,
};
use schemas::limits;

/// The facts, built once.
pub(super) fn facts() -> &'static SqlInfoData {
    static FACTS: LazyLock<SqlInfoData> = LazyLock::new(|| {
        let mut facts = SqlInfoDataBuilder::new();
        server(&mut facts);
        grammar(&mut facts);
        names(&mut facts);
        maxima(&mut facts);
        functions(&mut facts);
        facts.build().expect("constant facts make a batch")
    });
    &FACTS
}

fn server(facts: &mut SqlInfoDataBuilder) {
    facts.append(SqlInfo::FlightSqlServerName, "Firn");
    facts.append(SqlInfo::FlightSqlServerVersion, env!("CARGO_PKG_VERSION"));
    facts.append(SqlInfo::FlightSqlServerArrowVersion, arrow::ARROW_VERSION);
    facts.append(SqlInfo::FlightSqlServerReadOnly, true);
    facts.append(SqlInfo::FlightSqlServerSql, true);
    facts.append(SqlInfo::FlightSqlServerSubstrait, false);
    facts.append(SqlInfo::FlightSqlServerTransaction, SqlSupportedTransaction::None as i32);
    facts.append(SqlInfo::FlightSqlServerCancel, false);
    facts.append(SqlInfo::FlightSqlServerBulkIngestion, true);
    facts.append(SqlInfo::FlightSqlServerIngestTransactionsSupported, false);
    facts.append(SqlInfo::FlightSqlServerStatementTimeout, 0);
    facts.append(SqlInfo::FlightSqlServerTransactionTimeout, 0);
}

/// A bit for each of an enumeration's values.
fn bits(values: &[i32]) -> i32 {
    values.iter().fold(0, |bits, value| bits | 1 << value)
}

fn grammar(facts: &mut SqlInfoDataBuilder) {
    let truths = [
        SqlInfo::SqlAllTablesAreSelectable,
        SqlInfo::SqlSupportsColumnAliasing,
        SqlInfo::SqlNullPlusNullIsNull,
        SqlInfo::SqlSupportsTableCorrelationNames,
        SqlInfo::SqlSupportsExpressionsInOrderBy,
        SqlInfo::SqlSupportsOrderByUnrelated,
        SqlInfo::SqlSupportsLikeEscapeClause,
        SqlInfo::SqlSupportsNonNullableColumns,
        SqlInfo::SqlCatalogAtStart,
        SqlInfo::SqlCorrelatedSubqueriesSupported,
        SqlInfo::SqlMaxRowSizeIncludesBlobs,
    ];
    let untruths = [
        SqlInfo::SqlDdlCatalog,
        SqlInfo::SqlDdlSchema,
        SqlInfo::SqlDdlTable,
        SqlInfo::SqlSupportsDifferentTableCorrelationNames,
        SqlInfo::SqlSupportsIntegrityEnhancementFacility,
        SqlInfo::SqlSelectForUpdateSupported,
        SqlInfo::SqlStoredProceduresSupported,
        SqlInfo::SqlTransactionsSupported,
        SqlInfo::SqlDataDefinitionCausesTransactionCommit,
        SqlInfo::SqlDataDefinitionsInTransactionsIgnored,
        SqlInfo::SqlBatchUpdatesSupported,
        SqlInfo::SqlSavepointsSupported,
        SqlInfo::SqlNamedParametersSupported,
        SqlInfo::SqlLocatorsUpdateCopy,
        SqlInfo::SqlStoredFunctionsUsingCallSyntaxSupported,
    ];
    truths.into_iter().for_each(|fact| facts.append(fact, true));
    untruths.into_iter().for_each(|fact| facts.append(fact, false));

    let groups = [SqlSupportedGroupBy::SqlGroupByUnrelated as i32, SqlSupportedGroupBy::SqlGroupByBeyondSelect as i32];
    facts.append(SqlInfo::SqlSupportedGroupBy, bits(&groups));
    let grammars = [SupportedSqlGrammar::SqlMinimumGrammar as i32, SupportedSqlGrammar::SqlCoreGrammar as i32];
    facts.append(SqlInfo::SqlSupportedGrammar, bits(&grammars));
    facts.append(SqlInfo::SqlAnsi92SupportedLevel, bits(&[0]));
    let subqueries = [
        SqlSupportedSubqueries::SqlSubqueriesInComparisons as i32,
        SqlSupportedSubqueries::SqlSubqueriesInExists as i32,
        SqlSupportedSubqueries::SqlSubqueriesInIns as i32,
    ];
    facts.append(SqlInfo::SqlSupportedSubqueries, bits(&subqueries));
    let unions = [SqlSupportedUnions::SqlUnion as i32, SqlSupportedUnions::SqlUnionAll as i32];
    facts.append(SqlInfo::SqlSupportedUnions, bits(&unions));
    facts.append(SqlInfo::SqlOuterJoinsSupportLevel, SqlOuterJoinsSupportLevel::SqlFullOuterJoins as i32);
    facts.append(SqlInfo::SqlNullOrdering, SqlNullOrdering::SqlNullsSortedHigh as i32);
    let nothing = [
        SqlInfo::SqlSchemasSupportedActions,
        SqlInfo::SqlCatalogsSupportedActions,
        SqlInfo::SqlSupportedPositionedCommands,
        SqlInfo::SqlSupportedTransactionsIsolationLevels,
        SqlInfo::SqlSupportedResultSetTypes,
        SqlInfo::SqlSupportedConcurrenciesForResultSetUnspecified,
        SqlInfo::SqlSupportedConcurrenciesForResultSetForwardOnly,
        SqlInfo::SqlSupportedConcurrenciesForResultSetScrollSensitive,
        SqlInfo::SqlSupportedConcurrenciesForResultSetScrollInsensitive,
    ];
    nothing.into_iter().for_each(|fact| facts.append(fact, 0));
    // An int32 by the specification; JDBC casts it to a long.
    facts.append(SqlInfo::SqlDefaultTransactionIsolation, 0_i64);
    facts.append(SqlInfo::SqlSupportsConvert, HashMap::<i32, Vec<i32>>::new());
}

fn names(facts: &mut SqlInfoDataBuilder) {
    facts.append(SqlInfo::SqlIdentifierCase, SqlSupportedCaseSensitivity::SqlCaseSensitivityLowercase as i32);
    facts.append(
        SqlInfo::SqlQuotedIdentifierCase,
        SqlSupportedCaseSensitivity::SqlCaseSensitivityCaseInsensitive as i32,
    );
    facts.append(SqlInfo::SqlIdentifierQuoteChar, "\"");
    facts.append(SqlInfo::SqlSearchStringEscape, "\\");
    facts.append(SqlInfo::SqlExtraNameCharacters, "");
    facts.append(SqlInfo::SqlCatalogTerm, "catalog");
    facts.append(SqlInfo::SqlSchemaTerm, "tenant");
    facts.append(SqlInfo::SqlProcedureTerm, "procedure");
}

fn maxima(facts: &mut SqlInfoDataBuilder) {
    // 0 is "no limit, or none known".
    let unlimited = [
        SqlInfo::SqlMaxBinaryLiteralLength,
        SqlInfo::SqlMaxCharLiteralLength,
        SqlInfo::SqlMaxColumnNameLength,
        SqlInfo::SqlMaxColumnsInGroupBy,
        SqlInfo::SqlMaxColumnsInIndex,
        SqlInfo::SqlMaxColumnsInOrderBy,
        SqlInfo::SqlMaxColumnsInSelect,
        SqlInfo::SqlMaxConnections,
        SqlInfo::SqlMaxCursorNameLength,
        SqlInfo::SqlMaxIndexLength,
        SqlInfo::SqlMaxProcedureNameLength,
        SqlInfo::SqlMaxCatalogNameLength,
        SqlInfo::SqlMaxStatements,
        SqlInfo::SqlMaxTablesInSelect,
        SqlInfo::SqlMaxUsernameLength,
    ];
    unlimited.into_iter().for_each(|fact| facts.append(fact, 0_i64));
    facts.append(SqlInfo::SqlMaxColumnsInTable, limits::FIELDS_MAX as i64);
    facts.append(SqlInfo::SqlDbSchemaNameLength, limits::NAME_BYTES_MAX as i64);
    facts.append(SqlInfo::SqlMaxTableNameLength, limits::NAME_BYTES_MAX as i64);
    facts.append(SqlInfo::SqlMaxRowSize, limits::EVENT_BYTES_MAX as i64);
    facts.append(SqlInfo::SqlMaxStatementLength, limits::SQL_BYTES_MAX as i64);
}

fn functions(facts: &mut SqlInfoDataBuilder) {
    facts.append(SqlInfo::SqlKeywords, &["ILIKE", "QUALIFY", "UNNEST"][..]);
    facts.append(SqlInfo::SqlNumericFunctions, &["abs", "ceil", "floor", "power", "round", "sqrt", "trunc"][..]);
    facts.append(SqlInfo::SqlStringFunctions, &["concat", "length", "lower", "replace", "substr", "trim", "upper"][..]);
    facts.append(SqlInfo::SqlSystemFunctions, &["coalesce", "nullif"][..]);
    facts.append(SqlInfo::SqlDatetimeFunctions, &["date_bin", "date_part", "date_trunc", "to_timestamp"][..]);
}
