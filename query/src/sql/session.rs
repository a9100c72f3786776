//! How statements are planned: DataFusion's functions and rules, with Firn's settings and nothing that reaches outside.

use std::sync::{Arc, LazyLock};

use datafusion::execution::SessionStateDefaults;
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::execution::session_state::{SessionState, SessionStateBuilder};
use datafusion::prelude::SessionConfig;

use super::namespace::CATALOG;

/// The part of memory that a sort may keep for merging, with one in every partition: one in this many.
const MERGE_SHARE: usize = 16;

/// The state that every statement's is cloned from. No catalogs yet, no file formats, no table factories: nothing can be made or read by path.
/// `memory_bytes` is what its runtime's pool holds.
pub(crate) fn base(runtime: Arc<RuntimeEnv>, memory_bytes: usize) -> SessionState {
    let table_functions = SessionStateDefaults::default_table_functions();
    SessionStateBuilder::new()
        .with_config(config(memory_bytes))
        .with_runtime_env(runtime)
        .with_scalar_functions(SessionStateDefaults::default_scalar_functions())
        .with_aggregate_functions(SessionStateDefaults::default_aggregate_functions())
        .with_window_functions(SessionStateDefaults::default_window_functions())
        .with_expr_planners(SessionStateDefaults::default_expr_planners())
        .with_table_functions(table_functions.into_iter().map(|f| (f.name().to_owned(), f)).collect())
        .build()
}

/// The state that lone expressions are compiled in.
pub(crate) fn expressions() -> &'static SessionState {
    static STATE: LazyLock<SessionState> = LazyLock::new(|| base(Arc::new(RuntimeEnv::default()), usize::MAX));
    &STATE
}

fn config(memory_bytes: usize) -> SessionConfig {
    let mut config = SessionConfig::new()
        .with_information_schema(true)
        .with_create_default_catalog_and_schema(false)
        .with_default_catalog_and_schema(CATALOG, "default");
    let options = config.options_mut();
    options.execution.parquet.pushdown_filters = true;
    options.execution.parquet.reorder_filters = true;
    // What a sort keeps for merging its spilled runs: at the default, a few sorts side by side would keep a small pool's all.
    let kept = memory_bytes / (MERGE_SHARE * options.execution.target_partitions);
    options.execution.sort_spill_reservation_bytes = kept.min(options.execution.sort_spill_reservation_bytes);
    // For the reason of `Text::Plain`; scans make views where they pay.
    options.sql_parser.map_string_types_to_utf8view = false;
    options.sql_parser.collect_spans = true;
    config
}
