//! What a statement may be at all, decided before it is planned: one read-only statement of bounded size and depth.
//!
//! The parser bounds nesting, but not chains of operators, and a megabyte of `1+1+1+…` makes a tree so deep that even dropping it
//! overflows the stack, long before any limit on rows or memory is felt. So the tokens are counted before they are parsed.

use std::ops::ControlFlow;

use datafusion::error::Result as DataFusionResult;
use datafusion::sql::parser::{DFParser, DFParserBuilder, Statement};
use datafusion::sql::sqlparser::ast::{ExprWithAlias, Statement as Ast, visit_relations};
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::ParserError;
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan, Tokenizer};
use schemas::ErrorKind;
use schemas::limits::{EXPRESSION_BYTES_MAX, SQL_BYTES_MAX, SQL_OPERATORS_MAX, SQL_RELATIONS_MAX, SQL_TOKENS_MAX};

use super::dialect::Bounded;
use super::errors::from_datafusion;
use super::stack::with_room;
use crate::error::{QueryError, Result};

/// Parses one read-only statement; `?` becomes `$1`, `$2`, … in order.
///
/// Errors: `Invalid`, with the position where there is one, for what does not parse, is over a limit, is more than one statement, or would do
/// anything but read.
pub(crate) fn statement(sql: &str) -> Result<Statement> {
    let mut tokens = tokens(sql, SQL_BYTES_MAX, "statement")?;
    number_parameters(&mut tokens)?;
    let leading_explains =
        tokens.iter().take_while(|token| !starts_query(token)).filter(|token| is(token, Keyword::EXPLAIN));
    if leading_explains.count() > 1 {
        return Err(invalid("EXPLAIN can explain a query, not another EXPLAIN"));
    }
    let mut statements = parse(tokens, |parser| parser.parse_statements())?;
    let statement = statements.pop_front().ok_or_else(|| invalid("expected a statement, found nothing"))?;
    if !statements.is_empty() {
        return Err(invalid(format!("expected one statement, found {}", statements.len() + 1)));
    }
    read_only(&statement)?;
    bounded_relations(&statement)?;
    Ok(statement)
}

/// Parses one expression that stands alone (`CHECK`, `where`).
///
/// Errors: `Invalid`, with the position where there is one.
pub(crate) fn expression(sql: &str) -> Result<ExprWithAlias> {
    parse(tokens(sql, EXPRESSION_BYTES_MAX, "expression")?, |parser| parser.parse_into_expr())
}

fn parse<T>(tokens: Vec<TokenWithSpan>, how: impl FnOnce(&mut DFParser<'_>) -> DataFusionResult<T>) -> Result<T> {
    let dialect = Bounded::new(tokens.len());
    let parse = || DFParserBuilder::new(tokens).with_dialect(&dialect).build().and_then(|mut parser| how(&mut parser));
    let parsed = with_room(parse);
    if parsed.is_err() && dialect.exhausted() {
        return Err(invalid(
            "this is nested in a way that takes too long to understand; look for a parenthesis or an END that is missing",
        ));
    }
    parsed.map_err(from_datafusion)
}

fn tokens(sql: &str, bytes_max: usize, what: &str) -> Result<Vec<TokenWithSpan>> {
    if sql.len() > bytes_max {
        return Err(invalid(format!("expected a {what} of at most {bytes_max} bytes, found {}", sql.len())));
    }
    let tokens = Tokenizer::new(&Bounded::new(0), sql).tokenize_with_location();
    let tokens = tokens.map_err(|error| from_datafusion(ParserError::from(error).into()))?;
    let meaningful = tokens.iter().filter(|token| !matches!(token.token, Token::Whitespace(_))).count();
    if meaningful > SQL_TOKENS_MAX {
        return Err(invalid(format!(
            "expected a {what} of at most {SQL_TOKENS_MAX} words and signs, found {meaningful}"
        )));
    }
    let operators = tokens.iter().filter(|token| deepens(&token.token)).count();
    if operators > SQL_OPERATORS_MAX {
        let message = format!(
            "expected a {what} of at most {SQL_OPERATORS_MAX} operators, found {operators}; \
             a long chain of `x = 1 OR x = 2` is better written `x IN (1, 2)`"
        );
        return Err(invalid(message));
    }
    Ok(tokens)
}

/// True for a token that can make the syntax tree one level deeper without a parenthesis that the parser would count.
fn deepens(token: &Token) -> bool {
    use Keyword as K;
    match token {
        Token::Word(word) => matches!(
            word.keyword,
            K::AND
                | K::OR
                | K::XOR
                | K::NOT
                | K::IS
                | K::IN
                | K::AT
                | K::BETWEEN
                | K::LIKE
                | K::ILIKE
                | K::SIMILAR
                | K::RLIKE
                | K::REGEXP
                | K::DIV
                | K::COLLATE
                | K::OVERLAPS
                | K::OPERATOR
                | K::MEMBER
                | K::NOTNULL
                | K::UNION
                | K::INTERSECT
                | K::EXCEPT
                | K::MINUS
                | K::JOIN
                | K::APPLY
                | K::LATERAL
                | K::UNNEST
                | K::SELECT
                | K::VALUES
                | K::FROM
                | K::WITH
                | K::PIVOT
                | K::UNPIVOT
                | K::MATCH_RECOGNIZE
                | K::TABLESAMPLE
        ),
        Token::Whitespace(_) | Token::EOF | Token::Comma | Token::Period | Token::SemiColon => false,
        Token::LParen | Token::RParen | Token::RBracket | Token::RBrace | Token::Placeholder(_) => false,
        Token::Number(..) | Token::Char(_) | Token::HexStringLiteral(_) | Token::DollarQuotedString(_) => false,
        Token::SingleQuotedString(_) | Token::DoubleQuotedString(_) => false,
        _ => true,
    }
}

/// Stock clients write `?`, the planner knows `$1`.
fn number_parameters(tokens: &mut [TokenWithSpan]) -> Result<()> {
    let (mut positional, mut numbered) = (0, 0);
    for token in tokens {
        if let Token::Placeholder(name) = &mut token.token {
            if name == "?" {
                positional += 1;
                *name = format!("${positional}");
            } else if name.strip_prefix('$').is_some_and(|number| number.parse::<u16>().is_ok_and(|number| number > 0))
            {
                numbered += 1;
            } else {
                return Err(invalid(format!("expected a parameter as ? or as $1, $2, …; found {name}")));
            }
        }
    }
    if positional > 0 && numbered > 0 {
        return Err(invalid("parameters are written as ? or as $1, $2, …; found both in one statement"));
    }
    Ok(())
}

fn read_only(statement: &Statement) -> Result<()> {
    match statement {
        Statement::Explain(explain) => read_only(&explain.statement),
        Statement::Statement(ast) => match ast.as_ref() {
            Ast::Query(_)
            | Ast::ShowTables { .. }
            | Ast::ShowColumns { .. }
            | Ast::ShowFunctions { .. }
            | Ast::ExplainTable { .. } => Ok(()),
            other => Err(refused(&other.to_string())),
        },
        other => Err(refused(&other.to_string())),
    }
}

/// False for what only asks which topics and columns there are.
pub(super) fn reads_rows(statement: &Statement) -> bool {
    match statement {
        Statement::Statement(ast) => matches!(ast.as_ref(), Ast::Query(_)),
        _ => true,
    }
}

fn refused(statement: &str) -> QueryError {
    let verb = statement.split_whitespace().next().unwrap_or("this").to_uppercase();
    let message = format!(
        "{verb} is refused: SQL here only reads (SELECT, EXPLAIN, SHOW TABLES, SHOW COLUMNS, DESCRIBE); events are appended over Flight"
    );
    invalid(message)
}

/// Tables side by side in one FROM are joined into a deep plan.
fn bounded_relations(statement: &Statement) -> Result<()> {
    let mut relations = 0;
    match statement {
        Statement::Statement(ast) => {
            let _ = visit_relations(ast, |_| {
                relations += 1;
                ControlFlow::<()>::Continue(())
            });
        }
        Statement::Explain(explain) => return bounded_relations(&explain.statement),
        _ => {}
    }
    if relations > SQL_RELATIONS_MAX {
        return Err(invalid(format!(
            "expected a statement that names at most {SQL_RELATIONS_MAX} tables, found {relations}"
        )));
    }
    Ok(())
}

fn starts_query(token: &TokenWithSpan) -> bool {
    matches!(token.token, Token::LParen)
        || [Keyword::SELECT, Keyword::WITH, Keyword::VALUES].iter().any(|word| is(token, *word))
}

fn is(token: &TokenWithSpan, keyword: Keyword) -> bool {
    matches!(&token.token, Token::Word(word) if word.keyword == keyword)
}

fn invalid(message: impl Into<String>) -> QueryError {
    QueryError::new(ErrorKind::Invalid, message)
}

#[cfg(test)]
mod tests;
