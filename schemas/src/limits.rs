//! Every bound that Firn keeps, with its unit, and the relations between them.
//!
//! A limit here is part of what users may rely on: raising one is a feature, lowering one breaks somebody.

/// Longest tenant or topic name, bytes.
pub const NAME_BYTES_MAX: usize = 128;
/// What a dead-letter topic's name ends with.
pub const DEAD_LETTER_SUFFIX: &str = "_dead";
/// Longest `_key`, bytes.
pub const KEY_BYTES_MAX: usize = 1024;
/// Most key fields of a topic.
pub const KEY_FIELDS_MAX: usize = 8;
/// Longest `_path`, bytes.
pub const PATH_BYTES_MAX: usize = 1024;
/// Most levels of a path or pattern.
pub const PATH_LEVELS_MAX: usize = 16;
/// Most distinct `_prefix` values of a topic; later ones share the topic's own name.
pub const PREFIXES_MAX: usize = 256;
/// Most payload columns at the top level of a topic's schema.
pub const FIELDS_MAX: usize = 1_000;
/// Deepest nesting of a payload type, levels.
pub const NESTING_MAX: usize = 32;
/// Largest Avro schema text, bytes.
pub const SCHEMA_BYTES_MAX: usize = 1 << 20;
/// Most versions of a topic's schema: each stands in its register and in its lane's checkpoints.
pub const SCHEMA_VERSIONS_MAX: u32 = 256;
/// Most bytes of all versions of a topic's schema together, as they are written there.
pub const SCHEMA_VERSIONS_BYTES_MAX: usize = 8 << 20;
/// Largest number of a field: ids are never given out twice, so this many fields can come and go.
pub const FIELD_ID_MAX: i32 = 1 << 20;
/// Most `CHECK` expressions of a topic.
pub const CHECKS_MAX: usize = 64;
/// Longest `CHECK` or `where` expression, bytes.
pub const EXPRESSION_BYTES_MAX: usize = 16 << 10;
/// Largest single event (payload, Arrow bytes).
pub const EVENT_BYTES_MAX: usize = 8 << 20;
/// Most headers of one event.
pub const HEADERS_MAX: usize = 64;
/// Most events in one append.
pub const BATCH_ROWS_MAX: usize = 1 << 20;
/// Largest batch of one append, Arrow bytes once decoded.
pub const BATCH_BYTES_MAX: usize = 64 << 20;
/// Largest gRPC message accepted, bytes: a batch and its Flight framing.
pub const MESSAGE_BYTES_MAX: usize = BATCH_BYTES_MAX + (4 << 20);
/// Most producers that a lane remembers; beyond it the one that was silent longest is forgotten, and told so when it comes back.
pub const PRODUCERS_MAX: usize = 4_096;
/// Batches of a producer whose answers are remembered: no more may await their answer at once, lest one of them cannot be sent again.
pub const PRODUCER_ANSWERS_MAX: usize = 32;
/// A producer that was silent for longer is forgotten, seconds.
pub const PRODUCER_IDLE_SECONDS_MAX: u64 = 7 * 24 * 3600;
/// Most names of producers that a lane remembers to have forgotten: none of them begins anew unawares.
pub const PRODUCERS_FORGOTTEN_MAX: usize = 16_384;
/// Most conditions of one append, those of its rows included; several on one key count once.
pub const CONDITIONS_MAX: usize = 16 << 10;
/// Most fences of one topic.
pub const FENCES_MAX: usize = 1_024;
/// Largest segment, bytes: what one put of the log may carry.
pub const SEGMENT_BYTES_MAX: usize = 128 << 20;
/// Longest SQL statement, bytes.
pub const SQL_BYTES_MAX: usize = 1 << 20;
/// Most words and signs of a SQL statement.
pub const SQL_TOKENS_MAX: usize = 100_000;
/// Most operators (and keywords that act like one) of a SQL statement or expression: how deep its tree can become without parentheses.
pub const SQL_OPERATORS_MAX: usize = 500;
/// Most tables that a SQL statement names.
pub const SQL_RELATIONS_MAX: usize = 128;
/// Largest JSON ticket, descriptor or action body, bytes.
pub const TICKET_BYTES_MAX: usize = SCHEMA_BYTES_MAX + (1 << 20);
/// Most refusals reported one by one for a batch; the rest are counted.
pub const REFUSALS_REPORTED_MAX: usize = BATCH_ROWS_MAX;
/// Most bytes of refusals in the answer to one batch; the rest are counted. Stock clients refuse messages over 4 MiB.
pub const REPORT_BYTES_MAX: usize = 1 << 20;
/// Most bytes of answers that a producer may leave unread before no more is read from it.
pub const ANSWERS_UNREAD_BYTES_MAX: usize = 8 << 20;
/// Arrow bytes that one Flight message to a client aims at: below the 4 MiB that stock clients refuse.
pub const READ_MESSAGE_BYTES: usize = 2 << 20;
/// Longest error message in a gRPC status, bytes: it stands in the trailers twice, escaped, and clients allow those 8 KiB.
pub const STATUS_BYTES_MAX: usize = 1024;
/// Bytes (SQL text and bound parameters) of all open prepared statements together; the least used are closed beyond it.
pub const PREPARED_BYTES_MAX: usize = 64 << 20;
/// Most calls at once on one connection.
pub const CALLS_PER_CONNECTION_MAX: u32 = 1_024;
/// Most lanes of a store.
pub const LANES_MAX: u32 = 256;
/// Most topics of one tenant.
pub const TOPICS_MAX: usize = 10_000;
/// Largest body of a call to the REST catalog, bytes.
pub const CATALOG_BODY_BYTES_MAX: usize = 8 << 20;
/// Most calls to the REST catalog at once; more are told to come again.
pub const CATALOG_CALLS_MAX: usize = 64;
/// Longest call to the REST catalog, seconds.
pub const CATALOG_CALL_SECONDS_MAX: u64 = 60;
/// Most levels of a namespace of a user's own.
pub const NAMESPACE_LEVELS_MAX: usize = 16;
/// Longest level of a namespace, and longest name of a table or view in one, bytes.
pub const IDENTIFIER_BYTES_MAX: usize = 256;
/// Most tables and views of users' own, of one tenant.
pub const OPEN_TABLES_MAX: usize = 10_000;
/// Largest register of a tenant's namespaces and names, bytes.
pub const DIRECTORY_BYTES_MAX: usize = 4 << 20;
/// Largest metadata of a table or view that is written for a client, bytes.
pub const TABLE_METADATA_BYTES_MAX: usize = 64 << 20;
/// Most requirements and updates of a commit to one table.
pub const COMMIT_PARTS_MAX: usize = 10_000;
/// Most tables of one transaction.
pub const TRANSACTION_TABLES_MAX: usize = 64;
/// Most names in one piece of a list.
pub const PAGE_NAMES_MAX: usize = 1_000;
/// Most branches and tags of a topic's table.
pub const TOPIC_REFS_MAX: usize = 1_000;
/// Most bytes of a topic table's properties.
pub const TOPIC_PROPERTIES_BYTES_MAX: usize = 256 << 10;
/// Longest that a query may run, seconds, whatever is set: what it reads is removed some time after.
pub const QUERY_SECONDS_MAX: u64 = 15 * 60;
/// How often a process that serves a topic looks whether others have committed to its table, seconds: a query never begins on an older snapshot, but
/// for one that asks for it by its id.
pub const TABLE_LOOK_SECONDS: u64 = 4 * 60;
/// How long a snapshot of a table was not the current one before its files may be removed, seconds.
pub const SNAPSHOT_GRACE_SECONDS: u64 = 20 * 60;

const _: () = assert!(QUERY_SECONDS_MAX + TABLE_LOOK_SECONDS < SNAPSHOT_GRACE_SECONDS, "no query meets a removal (P7)");
const _: () = assert!(EVENT_BYTES_MAX < BATCH_BYTES_MAX);
const _: () = assert!(2 * BATCH_BYTES_MAX <= SEGMENT_BYTES_MAX, "a batch and its dead letters fit one segment");
const _: () = assert!(SEGMENT_BYTES_MAX < i32::MAX as usize / 8, "joined batches stay far below 32-bit Arrow offsets");
const _: () = assert!(BATCH_BYTES_MAX < MESSAGE_BYTES_MAX);
const _: () = assert!(READ_MESSAGE_BYTES + REPORT_BYTES_MAX < 4 << 20 && REPORT_BYTES_MAX < ANSWERS_UNREAD_BYTES_MAX);
const _: () = assert!(NAME_BYTES_MAX < PATH_BYTES_MAX);
const _: () = assert!(SCHEMA_BYTES_MAX < TICKET_BYTES_MAX);
const _: () = assert!(4 * SCHEMA_BYTES_MAX <= SCHEMA_VERSIONS_BYTES_MAX, "the largest schema can be changed");
