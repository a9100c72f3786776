//! Tables as they were: `orders AT (SEQ => 17)`, `AT (TIME => '2024-01-01T00:00:00Z')`, `AT (SNAPSHOT => 123)`, `AT (TAG => 'audit')`; and, as others write it,
//! `orders VERSION AS OF 123` (a snapshot) and `orders FOR SYSTEM_TIME AS OF '…'` or `TIMESTAMP AS OF '…'`.
//!
//! The planner would pass over such a clause without a word. So each is taken out of the syntax tree, and its table gets a name that stands for that table at
//! that moment; its alias, or its own name, remains what its columns are addressed by.

use std::collections::HashMap;
use std::ops::ControlFlow;

use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{
    Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, Ident, ObjectNamePart, TableAlias, TableFactor,
    TableVersion, Value, VisitMut, VisitorMut,
};
use schemas::{ErrorKind, TopicName};

use crate::at::At;
use crate::error::{QueryError, Result};
use crate::sql::stack::with_room;

/// What the names stand for that [`take`] gave to tables.
pub(super) type Moments = HashMap<String, (TopicName, At)>;

/// Takes all clauses out that say when. Errors: `Invalid` for one that says nothing that can be meant.
pub(super) fn take(statement: &mut Statement) -> Result<Moments> {
    let mut taking = Taking::default();
    match statement {
        Statement::Statement(ast) => {
            if let ControlFlow::Break(error) = with_room(|| ast.visit(&mut taking)) {
                return Err(error);
            }
        }
        Statement::Explain(explain) => return take(&mut explain.statement),
        _ => {}
    }
    Ok(taking.moments)
}

#[derive(Debug, Default)]
struct Taking {
    moments: Moments,
}

impl VisitorMut for Taking {
    type Break = QueryError;

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<QueryError> {
        let TableFactor::Table { name, alias, version, .. } = factor else { return ControlFlow::Continue(()) };
        let Some(version) = version.take() else { return ControlFlow::Continue(()) };
        let Some(ObjectNamePart::Identifier(last)) = name.0.last_mut() else { return ControlFlow::Continue(()) };
        let at = match moment(&version) {
            Some(at) => at,
            None => return ControlFlow::Break(not_understood(&version)),
        };
        // As the planner reads names: without case, unless they are quoted.
        let written = if last.quote_style.is_some() { last.value.clone() } else { last.value.to_ascii_lowercase() };
        let topic = match TopicName::new(written.as_str()) {
            Ok(topic) => topic,
            Err(error) => return ControlFlow::Break(error.into()),
        };
        let key = format!("{written}@{}", self.moments.len());
        self.moments.insert(key.clone(), (topic, at));
        let own = std::mem::replace(last, Ident::with_quote('"', key));
        alias.get_or_insert_with(|| TableAlias { explicit: true, name: own, columns: Vec::new() });
        ControlFlow::Continue(())
    }
}

fn moment(version: &TableVersion) -> Option<At> {
    match version {
        TableVersion::ForSystemTimeAsOf(time) | TableVersion::TimestampAsOf(time) => text(time).map(At::Time),
        TableVersion::VersionAsOf(snapshot) => number(snapshot).map(At::Snapshot),
        TableVersion::Function(Expr::Function(Function { name, args: FunctionArguments::List(list), .. })) => {
            let (FunctionArg::Named { name: what, arg: FunctionArgExpr::Expr(value), .. }, true) =
                (list.args.first()?, list.args.len() == 1 && name.to_string().eq_ignore_ascii_case("at"))
            else {
                return None;
            };
            match what.value.to_ascii_lowercase().as_str() {
                "seq" => number(value).map(At::Seq),
                "time" | "timestamp" => text(value).map(At::Time),
                "snapshot" => number(value).map(At::Snapshot),
                "tag" => text(value).map(At::Tag),
                _ => None,
            }
        }
        TableVersion::Function(_) => None,
    }
}

fn text(value: &Expr) -> Option<String> {
    let value = match value {
        Expr::Value(value) => value,
        Expr::TypedString(typed) => &typed.value,
        _ => return None,
    };
    match &value.value {
        Value::SingleQuotedString(text) => Some(text.clone()),
        _ => None,
    }
}

fn number(value: &Expr) -> Option<i64> {
    match value {
        Expr::Value(value) => match &value.value {
            Value::Number(digits, _) => digits.to_string().parse().ok(),
            _ => None,
        },
        _ => None,
    }
}

fn not_understood(version: &TableVersion) -> QueryError {
    let message = format!(
        "expected AT (SEQ => 17), AT (TIME => '2024-01-01T00:00:00Z'), AT (SNAPSHOT => 123), AT (TAG => 'audit'), VERSION AS OF a snapshot or FOR SYSTEM_TIME AS OF a time, found {version}"
    );
    QueryError::new(ErrorKind::Invalid, message)
}
