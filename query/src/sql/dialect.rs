//! The SQL that is understood: DataFusion's generic dialect as far as queries go, with a bound on how long understanding may take.
//!
//! The parser goes back whenever a word that begins a special form (`CASE`, `CAST`, `POSITION`, …) turns out not to: twice or thrice the work
//! a level, so that forty nested `CAST(` without an end would keep it busy for years. So each attempt to read an operand costs one from a supply
//! that grows with the text's length only.

use std::any::TypeId;
use std::sync::atomic::{AtomicUsize, Ordering};

use datafusion::sql::sqlparser::ast::Expr;
use datafusion::sql::sqlparser::dialect::{Dialect, GenericDialect};
use datafusion::sql::sqlparser::parser::{Parser, ParserError};

/// Attempts for each token; honest statements need about one.
const ATTEMPTS_PER_TOKEN: usize = 16;
/// Attempts that even the shortest text has.
const ATTEMPTS_MIN: usize = 1_000;

/// The dialect for one text.
#[derive(Debug)]
pub(super) struct Bounded {
    attempts: AtomicUsize,
}

impl Bounded {
    /// For a text of so many tokens.
    pub(super) fn new(tokens: usize) -> Self {
        Self { attempts: AtomicUsize::new(ATTEMPTS_MIN + ATTEMPTS_PER_TOKEN * tokens) }
    }

    /// True if the supply was used up.
    pub(super) fn exhausted(&self) -> bool {
        self.attempts.load(Ordering::Relaxed) == 0
    }
}

macro_rules! supports {
    ($($feature:ident),+ $(,)?) => { $(fn $feature(&self) -> bool { true })+ };
}

impl Dialect for Bounded {
    /// Where the parser asks for a dialect by name, it is the generic one.
    fn dialect(&self) -> TypeId {
        TypeId::of::<GenericDialect>()
    }

    fn is_delimited_identifier_start(&self, ch: char) -> bool {
        GenericDialect.is_delimited_identifier_start(ch)
    }

    fn is_identifier_start(&self, ch: char) -> bool {
        GenericDialect.is_identifier_start(ch)
    }

    fn is_identifier_part(&self, ch: char) -> bool {
        GenericDialect.is_identifier_part(ch)
    }

    /// Reads no operand differently; only counts.
    fn parse_prefix(&self, _: &mut Parser<'_>) -> Option<Result<Expr, ParserError>> {
        let left = self.attempts.load(Ordering::Relaxed);
        if left == 0 {
            return Some(Err(ParserError::RecursionLimitExceeded));
        }
        self.attempts.store(left - 1, Ordering::Relaxed);
        None
    }

    supports! {
        supports_unicode_string_literal,
        supports_string_escape_constant,
        supports_nested_comments,
        supports_group_by_expr,
        supports_group_by_with_modifier,
        supports_filter_during_aggregation,
        supports_window_function_null_treatment_arg,
        supports_window_clause_named_window_reference,
        supports_left_associative_joins_without_parens,
        supports_parens_around_table_factor,
        supports_values_as_table_factor,
        supports_from_first_select,
        supports_projection_trailing_commas,
        supports_limit_comma,
        supports_select_wildcard_except,
        supports_select_wildcard_exclude,
        supports_select_wildcard_replace,
        supports_select_wildcard_rename,
        supports_select_wildcard_ilike,
        supports_bitwise_shift_operators,
        supports_dictionary_syntax,
        support_map_literal_syntax,
        supports_struct_literal,
        supports_array_typedef_with_brackets,
        supports_named_fn_args_with_assignment_operator,
        supports_interval_options,
        supports_extract_comma_syntax,
        allow_extract_custom,
        allow_extract_single_quotes,
        supports_try_convert,
        supports_table_versioning,
    }
}
